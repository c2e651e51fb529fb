"""A node that is pinged, and that pings for others: its answers go to members, and to who asked, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.swim.alone import LAN, STRANGER, alive, answers, held, indirect, knowing, sealed
from tests.unit.swim.virtual import PORT, START, endpoint
from wesher.swim.io import Endpoint
from wesher.swim.node import Node
from wesher.swim.probing import MAX_RELAYS
from wesher.wire.messages import Ack, IndirectPing, Nack, Ping

# --- being probed


def test_a_ping_is_acked_with_its_number():
    """To where it came from, if it says nothing else."""
    node = knowing()
    node.receive_datagram(sealed(Ping(42, "a")), STRANGER, START)
    assert answers(node, Ack) == [(STRANGER, Ack(42))]


def test_a_ping_for_whoever_it_may_concern_is_acked():
    """An empty name, as some tools send."""
    node = knowing()
    node.receive_datagram(sealed(Ping(42, "")), STRANGER, START)
    assert answers(node, Ack) == [(STRANGER, Ack(42))]


@pytest.mark.parametrize("name", ["b", "A", "a ", "aa"])
def test_a_ping_for_another_is_not_acked(name):
    """Whoever lived at this address before must be seen to be gone."""
    node = knowing("b")
    node.receive_datagram(sealed(Ping(42, name)), STRANGER, START)
    assert node.actions() == []
    assert node.counters == {"ping for another": 1}


@pytest.mark.parametrize(
    ("claimed", "name", "to"),
    [
        (endpoint(2), "b", endpoint(2)),  # a member's own address
        (endpoint(3), "b", STRANGER),  # another member's
        (endpoint(2, 7000), "b", STRANGER),  # another port
        (endpoint(9), "nobody", STRANGER),
        (endpoint(9), "", STRANGER),
        (Endpoint(STRANGER.ip, 7946), "nobody", Endpoint(STRANGER.ip, 7946)),  # the sender's host, its usual port
    ],
)
def test_source_fields_are_followed_only_to_the_sender_or_to_a_member(claimed, name, to):
    """Else any insider could send our acks anywhere; they are for nodes that send from another port or address."""
    node = knowing("b", "c")
    ping = Ping(7, "a", claimed.ip.packed, claimed.port, name)
    node.receive_datagram(sealed(ping), STRANGER, START)
    assert answers(node, Ack) == [(to, Ack(7))]


@pytest.mark.parametrize(("addr", "port"), [(STRANGER.ip.packed, 0), (b"", 7000), (b"", 0)])
def test_half_a_source_is_none(addr, port):
    """An address without a port, and a port without an address: the ack goes back to where the ping came from."""
    node = knowing("b")
    node.receive_datagram(sealed(Ping(7, "a", addr, port, "b")), STRANGER, START)
    assert answers(node, Ack) == [(STRANGER, Ack(7))]


def test_source_fields_in_mapped_form_are_followed():
    """A wesher that listens on every address announces IPv4 in 16 bytes."""
    node = knowing("b")
    mapped = bytes(10) + b"\xff\xff" + endpoint(2).ip.packed
    node.receive_datagram(sealed(Ping(7, "a", mapped, PORT, "b")), STRANGER, START)
    assert answers(node, Ack) == [(endpoint(2), Ack(7))]


def test_a_packet_full_of_pings_is_answered_four_times():
    """Each costs a packet and a look through the news, and nobody honest sends more than one; other news counts."""
    node = knowing("b", "c")
    pings = [Ping(number, "a") for number in range(3)]
    node.receive_datagram(sealed(*pings, indirect(), Ping(9, "a"), indirect(), alive("d", 4)), STRANGER, START)
    assert [message for _, message in answers(node, Ack)] == [Ack(0), Ack(1), Ack(2)]
    assert node.counters == {"too many pings": 2}
    assert held(node, "d") is not None


# --- relaying


def relayed(node: Node, request: IndirectPing, now: float = START) -> int:
    """Ask the node to ping another for us; the number it gives its own ping."""
    node.receive_datagram(sealed(request), endpoint(3), now)
    ((to, ping),) = answers(node, Ping)
    assert to == endpoint(2)
    assert (ping.node, ping.source_node, ping.source_port) == ("b", "a", PORT)
    return ping.seq_no


def test_a_relay_passes_the_ack_on_under_the_requesters_number():
    """Once; and the time it took for its own probe is nobody's round trip."""
    node = knowing("b", "c")
    seq_no = relayed(node, indirect())
    assert seq_no != 77  # two numbers of 32 bits
    node.receive_datagram(sealed(Ack(seq_no)), endpoint(2), START + 0.3)
    assert answers(node, Ack, Nack) == [(endpoint(3), Ack(77))]
    node.receive_datagram(sealed(Ack(seq_no)), endpoint(2), START + 0.4)
    assert answers(node, Ack, Nack) == []
    assert node.round_trips == {}


def test_a_relay_says_that_it_heard_nothing():
    """After its own ping's timeout, not before: so that the requester knows that it can hear at all."""
    node = knowing("b", "c")
    relayed(node, indirect())
    node.handle_timer(START + LAN.probe_timeout - 0.001)
    assert answers(node, Nack) == []
    node.handle_timer(START + LAN.probe_timeout)
    assert answers(node, Nack) == [(endpoint(3), Nack(77))]
    node.handle_timer(START + LAN.probe_timeout + 1)
    assert answers(node, Nack) == []


def test_a_relay_says_nothing_to_who_does_not_know_nacks():
    """Versions before protocol 4."""
    node = knowing("b", "c")
    relayed(node, indirect(nack=False))
    node.handle_timer(START + LAN.probe_timeout)
    assert answers(node, Ack, Nack) == []


def test_an_ack_after_the_nack_is_not_passed_on():
    """The requester has its answer."""
    node = knowing("b", "c")
    seq_no = relayed(node, indirect())
    node.receive_datagram(sealed(Ack(seq_no)), endpoint(2), START + LAN.probe_timeout)
    assert answers(node, Ack) == []


def test_port_0_means_our_own_port():
    """As memberlist reads it, in requests and in announcements."""
    node = knowing("b", "c")
    relayed(node, indirect(port=0))
    node.receive_datagram(sealed(replace(alive("d", 4), port=0)), endpoint(4), START)
    assert held(node, "d").port == PORT


@pytest.mark.parametrize(
    "changes",
    [
        {"node": "nobody", "target": b"\xc0\x00\x02\x01"},  # a stranger
        {"node": "b", "target": b"\xc0\x00\x02\x01"},  # a member's name, another address
        {"node": "b", "port": 53},  # another port
        {"node": "", "target": b"\x0a\0\0\x02"},  # a member's address, no name
        {"node": "c"},  # another member's address
    ],
)
def test_a_relay_pings_no_one_but_members(changes):
    """Or an insider could make us send packets to any address and port."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(indirect(**changes)), endpoint(3), START)
    assert node.actions() == []
    assert node.counters == {"relay refused": 1}


def test_relayed_pings_are_bounded():
    """A flood of requests fills no memory; they time out, and relaying goes on."""
    node = knowing("b", "c")
    for number in range(MAX_RELAYS + 5):
        node.receive_datagram(sealed(indirect(seq_no=number)), endpoint(3), START)
    assert len(answers(node, Ping)) == MAX_RELAYS
    assert node.counters == {"relay refused": 5}
    node.handle_timer(START + LAN.probe_timeout)
    node.actions()
    relayed(node, indirect(), START + 1)
