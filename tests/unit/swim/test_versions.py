"""Which protocol a node speaks: its Vsn, and whose news it takes."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from tests.unit.swim.alone import HERE, LAN, RING, alive, held, sealed, spoken, stream
from tests.unit.swim.virtual import START, endpoint, make_node
from wesher.swim.io import StreamAccepted, StreamData
from wesher.swim.member import Identity
from wesher.swim.node import Node
from wesher.swim.push_pull import speaks_our_protocol
from wesher.wire.limits import VSN
from wesher.wire.messages import Alive, NodeState, PushNodeState, PushPull

SERF = bytes([1, 5, 2, 2, 5, 5])
"""An application's own versions, as Debian's serf announces them."""


@pytest.mark.parametrize(
    ("one", "other", "fits"),
    [
        (VSN, VSN, True),
        (SERF, SERF, True),
        (VSN, SERF, False),
        (VSN, bytes([1, 2, 2, 0, 0, 0]), True),
        (VSN, bytes([2, 9, 2, 0, 9, 0]), True),
        (VSN, bytes([1, 2, 1, 0, 0, 0]), True),  # speaks 1, which we can, and understands 2, which we speak
        (VSN, bytes([3, 9, 3, 0, 0, 0]), False),  # understands no 2
        (VSN, bytes([1, 9, 6, 0, 0, 0]), False),  # speaks 6, beyond what we can
        (VSN, bytes([1, 1, 1, 0, 0, 0]), False),
        (VSN, bytes([1, 5, 2, 0, 3, 3]), False),
        (SERF, bytes([1, 5, 2, 2, 4, 4]), False),  # understands 4 at most, and serf speaks 5
    ],
)
def test_two_fit_if_each_understands_what_the_other_speaks(one: bytes, other: bytes, fits: bool) -> None:
    assert fits is speaks_our_protocol(one, other)
    assert fits is speaks_our_protocol(other, one)


def speaking(vsn: bytes) -> Node:
    """The node `a` with a Vsn of its own."""
    return Node(
        LAN,
        RING,
        Identity("a", HERE.ip.packed, HERE.port, vsn),
        meta=b"",
        incarnation=1,
        now=START,
        seconds_since_2020=200_000_000,
        rng=Random(1),
        nonce=lambda: bytes(12),
    )


def test_a_node_announces_its_own_versions_everywhere() -> None:
    node = speaking(SERF)
    node.receive_stream(StreamAccepted(1), START)
    node.receive_stream(StreamData(1, stream(PushPull(True, ()))), START)
    answer = next(said for number, said in spoken(node) if number == 1)
    assert isinstance(answer, PushPull)
    assert [SERF] == [entry.vsn for entry in answer.nodes]

    node.update_meta(b"new", START)
    assert SERF == node.me.vsn


def test_it_takes_news_of_those_who_speak_like_it_and_counts_the_others() -> None:
    for vsn, other in ((VSN, SERF), (SERF, VSN)):
        node = speaking(vsn)
        news: list[Alive] = [alive("like", 2, vsn=vsn), alive("unlike", 3, vsn=other)]
        node.receive_datagram(sealed(*news), endpoint(2), START)
        assert held(node, "like") is not None
        assert held(node, "unlike") is None
        assert 1 == node.counters["protocol version"]


def test_an_exchange_counts_the_entries_of_another_protocol() -> None:
    node = make_node("a", HERE)
    here = endpoint(2)
    entry = PushNodeState("b", here.ip.packed, here.port, b"", 1, NodeState.ALIVE)
    node.receive_stream(StreamAccepted(1), START)
    exchange = PushPull(True, (replace(entry, name="c", vsn=SERF), replace(entry, name="d", vsn=SERF), entry))
    node.receive_stream(StreamData(1, stream(exchange)), START)
    assert {"a", "b"} == {member.name for member in node.members()}
    assert 2 == node.counters["protocol version"]
