"""From the wanted set to requests: the whole set in parts, or nothing."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from privhelper.protocol import MAX_PART, Peer, SetPeers, WriteHosts
from wesher.mesh.reconcile import reconcile


def peers(count: int) -> tuple[Peer, ...]:
    """So many different peers."""
    return tuple(
        Peer(number.to_bytes(32, "big"), IPv4Address("192.0.2.1"), IPv4Address(0x0A000000 + number), f"n{number}")
        for number in range(count)
    )


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_is_applied_is_not_sent_again(count):
    """Not even a request to write the hosts file."""
    assert reconcile(peers(count), list(peers(count)), write_hosts=True) == []


def test_what_is_unknown_is_sent_whole():
    """After a start, a failure or a repair; also an empty set."""
    assert reconcile(None, peers(2), write_hosts=True) == [SetPeers(peers(2)), WriteHosts()]
    assert reconcile(None, (), write_hosts=True) == [SetPeers(()), WriteHosts()]


def test_a_change_sends_the_whole_set():
    """The helper diffs: what was missed before heals too."""
    assert reconcile(peers(1), peers(3), write_hosts=True) == [SetPeers(peers(3)), WriteHosts()]
    assert reconcile(peers(3), (), write_hosts=True) == [SetPeers(()), WriteHosts()]
    reordered = peers(3)[::-1]
    assert reconcile(peers(3), reordered, write_hosts=True) == [SetPeers(reordered), WriteHosts()]


def test_the_hosts_file_is_left_alone_where_that_is_wanted():
    """--no-etc-hosts."""
    assert reconcile(None, peers(1), write_hosts=False) == [SetPeers(peers(1))]


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (MAX_PART - 1, [511]),
        (MAX_PART, [512]),
        (MAX_PART + 1, [512, 1]),
        (2 * MAX_PART, [512, 512]),
        (2 * MAX_PART + 1, [512, 512, 1]),
    ],
)
def test_a_large_set_goes_in_parts_of_which_the_last_takes_effect(count, sizes):
    """In order, and only the last without `more`."""
    requests = reconcile((), peers(count), write_hosts=False)
    assert [len(request.peers) for request in requests] == sizes
    assert [request.more for request in requests] == [True] * (len(sizes) - 1) + [False]
    assert tuple(peer for request in requests for peer in request.peers) == peers(count)
