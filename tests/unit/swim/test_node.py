"""A node alone: what it answers, what it refuses, and that time and strangers cannot make it do anything else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.swim.alone import (
    HERE,
    LAN,
    RING,
    STRANGER,
    alive,
    answers,
    held,
    hush,
    knowing,
    packets,
    sealed,
    stream,
    waiting,
)
from tests.unit.swim.virtual import PORT, START, TODAY, endpoint, make_node
from wesher.swim.event import Ahead, Conflict, Gone, Joined, LeaveFinished, Suspected, Updated
from wesher.swim.io import (
    CloseStream,
    Connect,
    Endpoint,
    SendDatagram,
    SendStream,
    StreamAccepted,
    StreamConnected,
    StreamData,
    StreamEnded,
)
from wesher.swim.member import Member
from wesher.swim.node import Node
from wesher.swim.probing import MAX_RELAYS
from wesher.wire.codec import encode
from wesher.wire.keyring import Keyring
from wesher.wire.messages import (
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Message,
    Nack,
    NodeState,
    Ping,
    Suspect,
    UserMessage,
)
from wesher.wire.packet import open_packet, seal_packet
from wesher.wire.stream import StreamReader

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


def test_news_rides_on_an_ack():
    """As much as fits beside it."""
    node = knowing("b")
    node.receive_datagram(sealed(alive("c", 3)), endpoint(3), START)
    node.receive_datagram(sealed(Ping(1, "a")), endpoint(2), START)
    assert list(packets(node)) == [(endpoint(2), (Ack(1), alive("c", 3)))]


def test_no_packet_exceeds_the_budget_however_much_there_is_to_tell():
    """1400 bytes with everything around it, for gossip, pings, acks and relayed pings; and the queue gets empty."""
    node = knowing("b", "c")
    for number in range(120):
        vast = alive(f"node-{number:03}-{'x' * (number * 2)}", 10 + number, meta=b"m" * (number * 4))
        node.receive_datagram(sealed(vast), STRANGER, START)
    sizes = []
    now = START
    for step in range(400):
        node.receive_datagram(sealed(Ping(step, "a"), indirect(seq_no=step)), endpoint(2), now)
        now = node.get_timer()
        node.handle_timer(now)
        sizes += [len(action.data) for action in node.actions() if isinstance(action, SendDatagram)]
    assert 1300 < max(sizes) <= 1400
    assert waiting(node) == []


def test_many_small_news_make_no_compound_that_old_peers_misread():
    """Names of one letter: as many parts as a packet can hold stay below 128."""
    node = knowing("b")
    for letter in range(0x21, 0x7F):
        name = chr(letter)
        if name not in ("a", "b"):
            node.receive_datagram(sealed(alive(name, letter)), STRANGER, START)
            node.receive_datagram(sealed(Suspect(1, name, "")), STRANGER, START)
    node.handle_timer(START + 1)
    counts = [len(messages) for _, messages in packets(node)]
    assert 40 < max(counts) <= 127


# --- relaying


def relayed(node: Node, request: IndirectPing, now: float = START) -> int:
    """Ask the node to ping another for us; the number it gives its own ping."""
    node.receive_datagram(sealed(request), endpoint(3), now)
    ((to, ping),) = answers(node, Ping)
    assert to == endpoint(2)
    assert (ping.node, ping.source_node, ping.source_port) == ("b", "a", PORT)
    return ping.seq_no


def indirect(nack: bool = True, **changes: object) -> IndirectPing:
    """Member c's request to ping member b."""
    return replace(IndirectPing(77, endpoint(2).ip.packed, PORT, "b", nack), **changes)


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


# --- probing others


def probing(node: Node, now: float = START) -> tuple[float, Endpoint, Ping]:
    """Let time pass until the node pings somebody: when, whom, and what."""
    while True:
        now = max(now, node.get_timer())
        node.handle_timer(now)
        for to, message in answers(node, Ping):
            return now, to, message


def test_a_probe_names_its_target_and_its_source():
    """Source fields as the announced address, for Go nodes that answer there."""
    node = knowing("b")
    _, to, ping = probing(node)
    assert to == endpoint(2)
    assert ping == Ping(ping.seq_no, "b", HERE.ip.packed, PORT, "a")


def test_an_ack_ends_a_probe_and_gives_its_round_trip():
    """No relay is asked."""
    node = knowing("b", "c")
    now, to, ping = probing(node)
    node.receive_datagram(sealed(Ack(ping.seq_no)), to, now + 0.25)
    assert node.round_trips == {ping.node: pytest.approx(0.25)}
    node.handle_timer(now + LAN.probe_timeout)
    assert answers(node, IndirectPing) == []


def test_an_ack_that_comes_when_relays_are_asked_is_nobodys_round_trip():
    """It may have come through one of them; it ends the probe all the same."""
    node = knowing("b", "c")
    now, to, ping = probing(node)
    node.handle_timer(now + LAN.probe_timeout)
    node.receive_datagram(sealed(Ack(ping.seq_no)), to, now + 0.75)
    assert node.round_trips == {}
    node.handle_timer(now + LAN.probe_interval)
    assert held(node, ping.node).state is NodeState.ALIVE


def test_the_round_trip_of_who_is_forgotten_is_forgotten():
    """Names come and go; nothing of them may stay for ever."""
    node = knowing("b")
    now, to, ping = probing(node)
    node.receive_datagram(sealed(Ack(ping.seq_no), Dead(1, "b", "b")), to, now + 0.25)
    assert set(node.round_trips) == {"b"}
    while held(node, "b") is not None:
        node.handle_timer(node.get_timer())
    assert node.round_trips == {}


@pytest.mark.parametrize("state", NodeState)
def test_only_who_is_alive_is_asked_to_relay(state):
    """Not who is suspected, nor who is gone."""
    node = knowing("b", "c")
    news = {
        NodeState.ALIVE: alive("c", 3),
        NodeState.SUSPECT: Suspect(1, "c", "x"),
        NodeState.DEAD: Dead(1, "c", "x"),
        NodeState.LEFT: Dead(1, "c", "c"),
    }
    now, _, ping = probing(node)
    while ping.node != "b":
        node.receive_datagram(sealed(Ack(ping.seq_no)), STRANGER, now)
        now, _, ping = probing(node, now)
    node.receive_datagram(sealed(news[state]), STRANGER, now)
    node.handle_timer(now + LAN.probe_timeout)
    asked = [to for to, _ in answers(node, IndirectPing)]
    assert asked == ([endpoint(3)] if state is NodeState.ALIVE else [])


def test_an_ack_of_another_number_ends_nothing():
    """Relays and a stream ping follow, all under the probe's number; then the suspicion."""
    node = knowing("b", "c", "d", "e")
    now, to, ping = probing(node)
    node.receive_datagram(sealed(Ack(ping.seq_no + 1)), to, now + 0.1)
    node.handle_timer(now + LAN.probe_timeout)
    actions = node.actions()
    requests = [
        (action.to, message)
        for action in actions
        if isinstance(action, SendDatagram)
        for message in open_packet(action.data, RING).messages
        if isinstance(message, IndirectPing)
    ]
    assert [action.to for action in actions if isinstance(action, Connect)] == [to]
    assert {relay for relay, _ in requests} == {endpoint(number) for number in range(2, 6)} - {to}
    assert {message for _, message in requests} == {
        IndirectPing(ping.seq_no, to.ip.packed, PORT, ping.node, True, HERE.ip.packed, PORT, "a")
    }
    assert node.events() == []
    node.handle_timer(now + LAN.probe_interval)
    assert [(type(event), event.member.name) for event in node.events()] == [(Suspected, ping.node)]
    assert held(node, ping.node).state is NodeState.SUSPECT


def test_a_suspect_is_told_so_with_the_ping():
    """Both in one packet, so that it can refute even if it hears nothing else."""
    node = knowing("b")
    node.receive_datagram(sealed(Suspect(1, "b", "c")), STRANGER, START)
    while True:
        now = node.get_timer()
        node.handle_timer(now)
        found = [messages for to, messages in packets(node) if any(isinstance(m, Ping) for m in messages)]
        if found:
            break
    ((ping, suspicion),) = found
    assert (ping.node, suspicion) == ("b", Suspect(1, "b", "a"))


@pytest.mark.parametrize(("nacks", "score"), [(0, 3), (1, 2), (3, 0), (5, 0)])
def test_silent_relays_hint_that_we_are_deaf(nacks, score):
    """Each relay that does not even nack costs a point of health; more nacks than relays earn nothing."""
    node = knowing("b", "c", "d", "e")
    now, _, ping = probing(node)
    node.handle_timer(now + LAN.probe_timeout)
    for _ in range(nacks):
        node.receive_datagram(sealed(Nack(ping.seq_no)), endpoint(3), now + 0.9)
    node.handle_timer(now + LAN.probe_interval)
    assert node.health_score == score


def test_more_nacks_than_relays_earn_nothing():
    """Or an insider could make a deaf node trust its ears."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(Suspect(1, "a", "x"), Suspect(2, "a", "x")), STRANGER, START)
    assert node.health_score == 2
    now, _, ping = probing(node)
    node.handle_timer(now + LAN.probe_timeout)
    for _ in range(5):
        node.receive_datagram(sealed(Nack(ping.seq_no)), endpoint(3), now + 0.9)
    node.handle_timer(now + 3 * LAN.probe_interval)
    assert (held(node, ping.node).state, node.health_score) == (NodeState.SUSPECT, 2)


def test_a_success_earns_one_point():
    """However many there are to earn."""
    node = knowing("b")
    node.receive_datagram(sealed(*(Suspect(number, "a", "x") for number in (1, 2, 3))), STRANGER, START)
    assert node.health_score == 3
    now, to, ping = probing(node)
    node.receive_datagram(sealed(Ack(ping.seq_no)), to, now + 0.1)
    assert node.health_score == 2


def test_without_relays_a_failed_probe_costs_one_point_and_a_success_earns_it_back():
    """With only one other member there is nobody to ask."""
    node = knowing("b")
    now, _, _ = probing(node)
    node.handle_timer(now + LAN.probe_timeout)
    node.handle_timer(now + LAN.probe_interval)
    assert node.health_score == 1
    now, to, ping = probing(node, now + LAN.probe_interval)
    node.receive_datagram(sealed(Ack(ping.seq_no)), to, now + 0.1)
    assert node.health_score == 0


def test_a_relay_of_an_old_protocol_is_not_asked_for_nacks_and_an_old_target_not_pinged_by_stream():
    """Nacks came with protocol 4, stream pings with 3; who cannot nack is not missed."""
    node = knowing()
    old = bytes([1, 2, 2, 0, 0, 0])
    for number, name in enumerate(("b", "c"), 2):
        node.receive_datagram(sealed(alive(name, number, vsn=old)), STRANGER, START)
    node.actions()
    now, _, _ = probing(node)
    node.handle_timer(now + LAN.probe_timeout)
    actions = node.actions()
    requests = [m for a in actions if isinstance(a, SendDatagram) for m in open_packet(a.data, RING).messages]
    assert [m.nack for m in requests if isinstance(m, IndirectPing)] == [False]
    assert not any(isinstance(action, Connect) for action in actions)
    node.handle_timer(now + LAN.probe_interval)
    assert node.health_score == 1


@pytest.mark.parametrize(
    ("newest", "nacks", "stream_pings"), [(2, False, False), (3, False, True), (4, True, True), (5, True, True)]
)
def test_nacks_came_with_protocol_4_and_stream_pings_with_3(newest, nacks, stream_pings):
    """Each is asked for from whose newest protocol has it."""
    node = knowing()
    vsn = bytes([1, newest, 2, 0, 0, 0])
    for number, name in enumerate(("b", "c"), 2):
        node.receive_datagram(sealed(alive(name, number, vsn=vsn)), STRANGER, START)
    hush(node)
    now, _, _ = probing(node)
    node.handle_timer(now + LAN.probe_timeout)
    actions = node.actions()
    requests = [m for a in actions if isinstance(a, SendDatagram) for m in open_packet(a.data, RING).messages]
    assert [message.nack for message in requests if isinstance(message, IndirectPing)] == [nacks]
    assert any(isinstance(action, Connect) for action in actions) is stream_pings


def test_a_probe_that_is_judged_late_asks_no_one_in_vain():
    """A machine that slept through the probe: relays and streams would come after the verdict."""
    node = knowing("b", "c", "d")
    now, _, ping = probing(node)
    late = now + 5
    node.handle_timer(late)
    actions = node.actions()
    requests = [m for a in actions if isinstance(a, SendDatagram) for m in open_packet(a.data, RING).messages]
    assert not any(isinstance(action, Connect) for action in actions)
    assert not any(isinstance(message, IndirectPing) for message in requests)
    assert node.get_timer() > late
    assert held(node, ping.node).state is NodeState.SUSPECT


def stream_answered(node: Node) -> tuple[float, Endpoint, Ping]:
    """A probe whose ping got lost, and whose stream ping is answered: when it began, of whom, and its ping."""
    now, to, ping = probing(node)
    node.handle_timer(now + LAN.probe_timeout)
    (dialled,) = (action for action in node.actions() if isinstance(action, Connect))
    node.receive_stream(StreamConnected(dialled.stream), now + 0.6)
    node.receive_stream(StreamData(dialled.stream, stream(Ack(ping.seq_no))), now + 0.6)
    node.actions()
    return now, to, ping


def test_who_answers_only_over_a_stream_is_saved_at_the_deadline_and_counted():
    """Its UDP is broken, which somebody should be told: the tunnel is UDP too."""
    node = knowing("b", "c", "d")
    now, _, ping = stream_answered(node)
    assert node.counters == {}
    node.handle_timer(now + LAN.probe_interval)
    assert node.counters == {"reached over TCP only": 1}
    assert held(node, ping.node).state is NodeState.ALIVE
    assert node.health_score == 0


def test_a_stream_ping_is_given_up_with_its_probe():
    """Whoever accepts and says nothing holds no place for longer."""
    node = knowing("b")
    now, _, _ = probing(node)
    node.handle_timer(now + LAN.probe_timeout)
    (dialled,) = (action for action in node.actions() if isinstance(action, Connect))
    node.receive_stream(StreamConnected(dialled.stream), now + 0.6)
    node.handle_timer(now + LAN.probe_interval - 0.001)
    assert CloseStream(dialled.stream) not in node.actions()
    node.handle_timer(now + LAN.probe_interval)
    assert CloseStream(dialled.stream) in node.actions()


def test_an_ack_through_a_relay_clears_udp_even_if_the_stream_was_faster():
    """One packet was lost, and nothing is broken."""
    node = knowing("b", "c", "d")
    now, _, ping = stream_answered(node)
    node.receive_datagram(sealed(Ack(ping.seq_no)), STRANGER, now + 0.8)
    node.handle_timer(now + LAN.probe_interval)
    assert node.counters == {}


def test_probes_do_not_overlap_where_memberlists_do_not():
    """A node that doubts itself gives two intervals: the tick in between is skipped, and not made up for."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(Suspect(1, "a", "b")), STRANGER, START)
    first, _, _ = probing(node)
    second, _, _ = probing(node, first)
    assert second - first == pytest.approx(2 * LAN.probe_interval)


def test_probes_overlap_where_the_profile_says_so_but_never_of_one_member():
    """Three intervals for each, another member at each tick; and only as many at once."""
    config = replace(LAN, probe_overlap=3)
    node = knowing("b", "c", "d", "e", "f", config=config)
    pings = []
    first, _, ping = probing(node)
    end = first + 3 * LAN.probe_interval
    while node.get_timer() < end:
        now = node.get_timer()
        node.handle_timer(now)
        pings += [(now, message.node) for _, message in answers(node, Ping)]
    assert node.events() == []
    assert len({ping.node} | {name for _, name in pings}) == 3
    node.handle_timer(end)
    assert [event.member.name for event in node.events()] == [ping.node]

    alone = knowing("b", config=config)
    first, _, _ = probing(alone)
    assert probing(alone, first)[0] - first == pytest.approx(3 * LAN.probe_interval)


def test_ticks_that_were_missed_are_not_made_up_for():
    """A process that stood still for a minute sends one ping and one round of gossip, and then goes on as ever."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(alive("d", 4)), STRANGER, START)
    late = START + 60
    node.handle_timer(late)
    sent = list(packets(node))
    assert sum(isinstance(message, Ping) for _, messages in sent for message in messages) == 1
    assert sum(alive("d", 4) in messages for _, messages in sent) <= LAN.gossip_nodes + 1
    assert node.get_timer() > late
    assert probing(node, late)[0] == pytest.approx(late + LAN.probe_interval)


def test_ping_numbers_begin_anywhere():
    """Counted from 1, a recording of any node's first acks would keep the dead alive after each restart of ours."""
    numbers = {probing(make_seeded(seed))[2].seq_no for seed in range(20)}
    assert len(numbers) == 20
    assert max(numbers) > 1 << 31


def test_ping_numbers_count_up_and_begin_again_after_the_last_of_32_bits():
    """Each is another than those under way."""
    node = knowing("b", "c")
    node._probing._seq_no = (1 << 32) - 2
    numbers = []
    for number in range(3):
        node.receive_datagram(sealed(indirect(seq_no=number)), endpoint(3), START)
        numbers += [message.seq_no for _, message in answers(node, Ping)]
    assert numbers == [(1 << 32) - 1, 0, 1]
    node.receive_datagram(sealed(Ack(0)), endpoint(2), START)
    assert answers(node, Ack) == [(endpoint(3), Ack(1))]


def make_seeded(seed: int) -> Node:
    """A node with chance of its own, that knows b."""
    node = make_node("a", HERE, rng=Random(seed))
    node.receive_datagram(sealed(alive("b", 2)), STRANGER, START)
    return node


def test_a_stream_ping_asks_for_its_own_member():
    """Even if it connects when that probe is over and another member's has begun."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(Suspect(1, "a", "b")), STRANGER, START)  # doubt ourselves: probes get two intervals
    assert node.health_score == 1
    first, to, ping = probing(node)
    node.handle_timer(first + LAN.probe_timeout)
    (dialled,) = (action for action in node.actions() if isinstance(action, Connect))
    node.receive_datagram(sealed(Ack(ping.seq_no)), to, first + 0.6)
    now, _, other = probing(node, first + 0.6)
    assert other.node != ping.node
    assert now < first + 2 * LAN.probe_interval
    node.receive_stream(StreamConnected(dialled.stream), now)
    sent = [StreamReader(RING).feed(a.data) for a in node.actions() if isinstance(a, SendStream)]
    assert [(asked.node, asked.seq_no) for asked in sent] == [(ping.node, ping.seq_no)]


# --- news about others


def test_a_stranger_joins_by_being_announced():
    """And is announced further."""
    node = knowing()
    news = alive("b", 2, 5, b"meta")
    node.receive_datagram(sealed(news), STRANGER, START + 1)
    assert node.events() == [Joined(held(node, "b"))]
    assert held(node, "b") == Member("b", endpoint(2).ip.packed, PORT, b"meta", 5, NodeState.ALIVE, START + 1)
    node.handle_timer(START + 2)
    assert set(answers(node, Alive)) == {(endpoint(2), news)}


def test_a_port_that_is_announced_is_the_members_own():
    """Whatever ours is."""
    node = knowing()
    news = replace(alive("b", 2), port=7000)
    node.receive_datagram(sealed(news), STRANGER, START)
    assert held(node, "b").endpoint == endpoint(2, 7000)
    assert waiting(node) == [encode(news)]


def test_an_alive_from_another_address_is_a_conflict_and_changes_nothing():
    """Whatever its incarnation; it is not passed on either."""
    node = knowing("b", "c")
    before = held(node, "b")
    node.receive_datagram(sealed(alive("b", 9, 1000, b"mine")), endpoint(9), START)
    assert node.events() == [Conflict(before, endpoint(9))]
    assert held(node, "b") == before
    node.handle_timer(START + 1)
    assert answers(node, Alive) == []


def test_an_alive_about_us_from_another_address_is_a_conflict_too():
    """Somebody has our name; we keep our record and do not refute for ever."""
    node = knowing("b")
    before = node.me
    node.receive_datagram(sealed(alive("a", 9, 1000)), endpoint(9), START)
    assert node.events() == [Conflict(before, endpoint(9))]
    assert node.me == before


def test_a_death_does_not_free_a_name():
    """Memberlist's rule; who moves has to leave, or to wait until it is forgotten."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(Dead(1, "b", "c")), STRANGER, START)
    node.events()
    node.receive_datagram(sealed(alive("b", 9, 5, b"new")), STRANGER, START)
    assert [(type(e), e.member.name) for e in node.events()] == [(Conflict, "b")]


@pytest.mark.parametrize("accuser", ["b", ""])
def test_a_leave_is_a_leave_in_either_form(accuser):
    """Memberlist before 0.1.6, which wesher 0.2 uses, names no accuser; nobody else does that."""
    node = knowing("b")
    news = Dead(1, "b", accuser)
    node.receive_datagram(sealed(news), STRANGER, START)
    assert [(type(e), e.member.state) for e in node.events()] == [(Gone, NodeState.LEFT)]
    assert waiting(node) == [encode(news)]  # passed on as it came


@pytest.mark.parametrize(
    ("verdict", "told"), [(Dead(100, "b", "c"), Dead(100, "b", "a")), (Dead(100, "b", "b"), Dead(100, "b", "b"))]
)
@pytest.mark.parametrize("incarnation", [2, 100])
def test_a_member_restarted_below_what_we_remember_is_told_and_outbids_it(verdict, told, incarnation):
    """Go nodes begin at 2 each time. It is told at its own address, and nothing is believed before it answers."""
    node = knowing("b")
    node.receive_datagram(sealed(alive("b", 2, 100, b"old key"), verdict), STRANGER, START)
    hush(node)
    before = held(node, "b")
    restarted = make_node("b", endpoint(2), incarnation=incarnation, meta=b"new key")
    node.receive_datagram(sealed(restarted.me.as_alive()), STRANGER, START + 1)
    assert held(node, "b") == before
    assert node.events() == []
    assert waiting(node) == []
    (packet,) = node.actions()
    assert packet.to == endpoint(2)
    assert open_packet(packet.data, RING).messages == (told,)
    restarted.receive_datagram(packet.data, HERE, START + 1)
    node.receive_datagram(sealed(restarted.me.as_alive()), endpoint(2), START + 1)
    assert [(type(e), e.member.meta, e.member.incarnation) for e in node.events()] == [(Joined, b"new key", 101)]


def test_an_echo_of_the_life_that_ended_is_nothing():
    """Late gossip of the dead member's last announcement: the same metadata, so it is not even asked."""
    node = knowing("b")
    node.receive_datagram(sealed(alive("b", 2, 100, b"key"), Dead(100, "b", "c")), STRANGER, START)
    hush(node)
    node.receive_datagram(sealed(alive("b", 2, 100, b"key"), alive("b", 2, 99, b"key")), STRANGER, START)
    assert node.actions() == []
    assert held(node, "b").state is NodeState.DEAD


def test_a_recorded_announcement_of_an_earlier_life_revives_nobody():
    """Whoever plays it back makes us send one packet to where nobody lives; no record changes, ever lower or not."""
    node = knowing("b")
    lives = [alive("b", 2, incarnation, b"key %d" % incarnation) for incarnation in (2, 3, 4)]
    node.receive_datagram(sealed(*lives, Dead(4, "b", "c")), STRANGER, START)
    hush(node)
    before = held(node, "b")
    for moment, life in enumerate(lives * 3):
        node.receive_datagram(sealed(life), STRANGER, START + moment)
    assert held(node, "b") == before
    assert [to for to, _ in packets(node)] == [endpoint(2)] * 6
    assert node.events() == []


def test_who_restarted_below_what_we_remember_is_told_once_in_a_moment():
    """However often one packet says it: a thousand echoes are not to make a thousand packets. Later it is again."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(Dead(1, "b", "x"), Dead(1, "c", "x")), STRANGER, START)
    hush(node)
    restarted = [alive("b", 2, 1, b"new key"), alive("c", 3, 1, b"new key")]
    node.receive_datagram(sealed(*restarted, *restarted), STRANGER, START + 1)
    assert [to for to, _ in packets(node)] == [endpoint(2), endpoint(3)]
    node.receive_datagram(sealed(*restarted), STRANGER, START + 1)
    assert list(packets(node)) == []
    node.receive_datagram(sealed(*restarted), STRANGER, START + 2)
    assert [to for to, _ in packets(node)] == [endpoint(2), endpoint(3)]


def test_new_metadata_is_an_update_and_a_new_incarnation_alone_is_none():
    """Whoever acts on peers need not hear of refutations."""
    node = knowing("b")
    node.receive_datagram(sealed(alive("b", 2, 2)), STRANGER, START)
    assert node.events() == []
    node.receive_datagram(sealed(alive("b", 2, 3, b"new")), STRANGER, START)
    assert node.events() == [Updated(held(node, "b"))]


def test_a_life_lasts_through_new_incarnations_and_a_new_one_begins_after_a_death():
    """Since when it is alive is for operators to see."""
    node = knowing("b")
    node.receive_datagram(sealed(alive("b", 2, 2, b"new")), STRANGER, START + 5)
    assert held(node, "b").since == START
    node.receive_datagram(sealed(Dead(2, "b", "c")), STRANGER, START + 6)
    node.receive_datagram(sealed(alive("b", 2, 3)), STRANGER, START + 7)
    assert (held(node, "b").state, held(node, "b").since) == (NodeState.ALIVE, START + 7)


def test_suspicion_and_refutation_are_both_told():
    """Who shows states has to hear of either."""
    node = knowing("b")
    node.receive_datagram(sealed(Suspect(1, "b", "c")), STRANGER, START + 1)
    node.receive_datagram(sealed(alive("b", 2, 2)), STRANGER, START + 2)
    assert [(type(e), e.member.state, e.member.since) for e in node.events()] == [
        (Suspected, NodeState.SUSPECT, START + 1),
        (Updated, NodeState.ALIVE, START + 2),
    ]
    node.handle_timer(START + 60)
    assert not any(isinstance(event, Gone) for event in node.events())


def test_a_second_accuser_is_passed_on_once():
    """It shortens the suspicion elsewhere too."""
    node = knowing(*"bcdefgh")
    for accuser, passed_on in (("c", True), ("d", True), ("d", False), ("c", False), ("e", True), ("f", False)):
        news = Suspect(1, "b", accuser)
        node.receive_datagram(sealed(news), STRANGER, START)
        assert waiting(node) == ([encode(news)] if passed_on else [])


def test_a_suspect_that_nobody_hears_of_is_dead_in_time():
    """At the deadline and not before; the verdict is our own and is passed on."""
    node = knowing("b")
    node.receive_datagram(sealed(Suspect(1, "b", "c")), STRANGER, START)
    node.events()
    node.handle_timer(START + 3.999)
    assert held(node, "b").state is NodeState.SUSPECT
    node.handle_timer(START + 4)
    assert node.events() == [Gone(Member("b", endpoint(2).ip.packed, PORT, b"", 1, NodeState.DEAD, START + 4))]
    node.handle_timer(START + 5)
    assert (endpoint(2), Dead(1, "b", "a")) in answers(node, Dead)


def listeners(node: Node, now: float) -> set[Endpoint]:
    """Whom the node tells some news at its next gossip."""
    while node.get_timer() <= now:
        node.handle_timer(node.get_timer())
    hush(node)
    node.receive_datagram(sealed(alive("news", 99, int(now))), STRANGER, now)
    node.handle_timer(now + LAN.gossip_interval)
    return {to for to, messages in packets(node) if not any(isinstance(m, (Ping, IndirectPing)) for m in messages)}


def test_the_dead_are_told_for_a_while_and_so_is_who_has_left():
    """They may only have been thought so, and then they refute."""
    node = knowing("b", "c", "d", config=replace(LAN, gossip_nodes=9, probe_interval=1e6))
    node.receive_datagram(sealed(Dead(1, "b", "x"), Dead(1, "c", "c"), Suspect(1, "d", "x")), STRANGER, START)
    news, everybody = endpoint(99), {endpoint(2), endpoint(3), endpoint(4)}
    assert listeners(node, START + 3) - {news} == everybody
    assert listeners(node, START + LAN.gossip_to_the_dead - 1) - {news} == everybody
    assert listeners(node, START + LAN.gossip_to_the_dead + 1) - {news} == {endpoint(4)}


def test_of_those_who_left_one_at_a_time_is_told_and_that_costs_nobody_else_the_news():
    """As often as the limit says the others hear it; who has left hears it besides."""
    node = knowing("b", "c", "d", config=replace(LAN, gossip_nodes=1, probe_interval=1e6))
    node.receive_datagram(sealed(Dead(1, "b", "b"), Dead(1, "c", "c")), STRANGER, START)
    told = Counter()
    for tick in range(1, 9):
        node.handle_timer(START + tick * LAN.gossip_interval)
        told.update(action.to for action in node.actions())
    assert told[endpoint(4)] == 4
    assert told[endpoint(2)] + told[endpoint(3)] == 4


def test_the_dead_and_the_left_are_forgotten_when_the_ring_comes_round():
    """Both alike, after the time in which the dead are told."""
    node = knowing("b", "c", "d")
    node.receive_datagram(sealed(Dead(1, "b", "x"), Dead(1, "c", "c")), STRANGER, START)
    while node.get_timer() <= START + LAN.gossip_to_the_dead:
        node.handle_timer(node.get_timer())
    assert {member.name for member in node.members()} >= {"a", "b", "c"}
    while node.get_timer() <= START + LAN.gossip_to_the_dead + 6:  # twice round a ring of four, a tick too late
        node.handle_timer(node.get_timer())
    assert not {member.name for member in node.members()} & {"b", "c"}


@pytest.mark.parametrize(("others", "stretch"), [(31, 1), (32, 2), (64, 3)])
def test_full_exchanges_come_more_rarely_in_a_larger_cluster(others, stretch):
    """Twice the interval from 33 members on, thrice from 65 on; the first one is not stretched."""
    node = knowing(*(f"n{number}" for number in range(others)), config=replace(LAN, probe_interval=1e6))
    dialled = []
    while len(dialled) < 3:
        now = node.get_timer()
        node.handle_timer(now)
        dialled += [now for action in node.actions() if isinstance(action, Connect)]
    assert dialled[0] - START <= 2 * LAN.push_pull_interval
    gaps = [later - earlier for earlier, later in pairwise(dialled)]
    assert gaps == pytest.approx([stretch * LAN.push_pull_interval] * 2)


def test_news_about_the_forgotten_is_forgotten():
    """With nobody to tell, the leave of the last other member would wait in the queue for ever."""
    node = knowing("b")
    node.receive_datagram(sealed(Dead(1, "b", "b")), STRANGER, START)
    while (now := node.get_timer()) < START + LAN.gossip_to_the_dead + 5:
        node.handle_timer(now)
    assert [member.name for member in node.members()] == ["a"]
    assert waiting(node) == []


def test_accusations_of_nobody_are_nothing():
    """An unknown name is not made known by its death."""
    node = knowing("b")
    node.receive_datagram(sealed(Suspect(1, "x", "b"), Dead(1, "y", "b"), Dead(1, "z", "z")), STRANGER, START)
    assert [member.name for member in node.members()] == ["a", "b"]
    assert node.events() == []


def test_strangers_beyond_the_limit_are_dropped_and_members_still_heard():
    """A flood of names costs its own place only."""
    node = knowing("b", config=replace(LAN, max_members=3))
    node.receive_datagram(sealed(*(alive(f"fake{n}", 10 + n) for n in range(10))), STRANGER, START)
    assert [member.name for member in node.members()] == ["a", "b", "fake0"]
    assert node.counters == {"too many members": 9}
    node.receive_datagram(sealed(alive("b", 2, 2, b"new")), STRANGER, START)
    assert held(node, "b").meta == b"new"


@pytest.mark.parametrize("known", [True, False])
def test_an_absurd_incarnation_is_ignored(known):
    """It could never be outbid for good."""
    node = knowing(*("b" if known else ""))
    before = held(node, "b")
    absurd = TODAY + 2 * 86_400
    news = (alive("b", 2, absurd, b"evil"), Suspect(absurd, "b", "x"), Dead(absurd, "b", "b"), Dead(absurd, "a", "x"))
    node.receive_datagram(sealed(*news), STRANGER, START)
    assert held(node, "b") == before
    assert node.me.incarnation == 1
    assert node.events() == [Ahead("b")]
    assert node.counters == {"incarnation ahead of the clock": 1}


def test_the_calendar_runs_on():
    """A node that has run for ten days knows that newcomers' incarnations are ten days higher."""
    node = knowing()
    later = TODAY + 10 * 86_400
    node.receive_datagram(sealed(alive("b", 2, later)), STRANGER, START)
    assert held(node, "b") is None
    node.receive_datagram(sealed(alive("b", 2, later)), STRANGER, START + 10 * 86_400)
    assert held(node, "b").incarnation == later


def test_nobody_is_driven_to_where_nobody_hears_it():
    """Accused one higher each time, to its face alone, it says nothing in refuting that others do not believe."""
    node = knowing("b")
    edge = TODAY + 86_400
    for _ in range(100):
        accused = max(edge, node.me.incarnation)
        node.receive_datagram(sealed(Suspect(accused, "a", "x")), STRANGER, START)
    assert node.me.incarnation == edge + 1
    other = knowing()
    other.receive_datagram(sealed(alive("b", 2, edge + 1)), STRANGER, START)
    assert held(other, "b") is None
    assert other.events() == [Ahead("b")]
    other.receive_datagram(sealed(alive("b", 2, edge + 1)), STRANGER, START + 1)
    assert held(other, "b").incarnation == edge + 1


def test_who_was_driven_up_while_its_clock_was_not_set_begins_again():
    """One message suffices for that; once the clock is set, the node is where others hear it."""
    node = knowing("b")
    node.set_calendar(1000, START)
    node.receive_datagram(sealed(Suspect(1 << 30, "a", "x")), STRANGER, START)
    assert node.me.incarnation == (1 << 30) + 1
    node.set_calendar(TODAY, START)
    assert node.me.incarnation == TODAY
    node.set_calendar(TODAY + 1, START + 1)
    assert node.me.incarnation == TODAY


@pytest.mark.parametrize(
    ("ahead", "begins"), [(1, False), (86_401, False), (2 * 86_400, False), (2 * 86_400 + 1, True)]
)
def test_who_is_believed_does_not_begin_again(ahead, begins):
    """A refutation at the very edge is a second ahead; begun again below it, it would not be heard until outbid."""
    node = make_node("a", HERE, incarnation=TODAY + ahead)
    node.set_calendar(TODAY, START)
    assert node.me.incarnation == (TODAY if begins else TODAY + ahead)


def test_a_clock_that_is_set_later_is_believed():
    """A machine may boot months behind and be put right; who was from the future then is not any more."""
    node = knowing()
    later = TODAY + 100 * 86_400
    node.receive_datagram(sealed(alive("b", 2, later)), STRANGER, START)
    assert held(node, "b") is None
    node.set_calendar(later, START)
    node.receive_datagram(sealed(alive("b", 2, later)), STRANGER, START)
    assert held(node, "b").incarnation == later


def test_who_stands_ahead_of_a_clock_that_was_put_back_can_still_die():
    """Before, neither our own probe nor the end of a suspicion was believed: immortal, and time stood still."""
    node = knowing()
    later = TODAY + 100 * 86_400
    node.set_calendar(later, START)
    node.receive_datagram(sealed(alive("b", 2, later), alive("c", 3, later)), STRANGER, START)
    node.receive_datagram(sealed(Suspect(later, "c", "x")), STRANGER, START)
    node.set_calendar(TODAY, START)
    while node.get_timer() < START + 60:
        now = node.get_timer()
        node.handle_timer(now)
        assert node.get_timer() > now
    assert {event.member.name for event in node.events() if isinstance(event, Gone)} == {"b", "c"}


@pytest.mark.parametrize("vsn", [bytes([3, 5, 3, 0, 0, 0]), bytes([1, 1, 1, 0, 0, 0]), bytes([1, 5, 2, 1, 1, 1])])
def test_who_speaks_another_protocol_is_no_member(vsn):
    """It would break every Go node's push/pull with us."""
    node = knowing()
    node.receive_datagram(sealed(alive("b", 2, vsn=vsn)), STRANGER, START)
    assert held(node, "b") is None
    assert node.counters == {"protocol version": 1}


# --- news about ourselves


@pytest.mark.parametrize(
    ("accusation", "incarnation"),
    [
        (Suspect(7, "a", "b"), 8),
        (Dead(7, "a", "b"), 8),
        (Dead(100, "a", "b"), 101),
        (Dead(1, "a", "a"), 2),  # a forged leave
        (Suspect(1, "a", "b"), 2),
        (Alive(7, "a", HERE.ip.packed, PORT, b"meta"), 8),
        (Alive(1, "a", HERE.ip.packed, PORT, b"other"), 2),  # an older run of ours (protocol 5.3)
        (Alive(1, "a", HERE.ip.packed, PORT, b"meta", bytes([1, 5, 3, 0, 0, 0])), 2),
    ],
)
def test_what_is_wrong_about_us_is_outbid(accusation, incarnation):
    """One above the accusation, and told to others; it costs a point of health."""
    node = knowing("b", meta=b"meta")
    node.receive_datagram(sealed(accusation), STRANGER, START)
    assert node.me == Member("a", HERE.ip.packed, PORT, b"meta", incarnation, NodeState.ALIVE, node.me.since)
    assert node.health_score == 1
    node.handle_timer(START + 1)
    assert answers(node, Alive)[0] == (endpoint(2), Alive(incarnation, "a", HERE.ip.packed, PORT, b"meta"))


def test_who_is_born_says_so():
    """Nobody else would."""
    node = make_node("a", HERE, meta=b"meta", incarnation=7)
    assert waiting(node) == [encode(Alive(7, "a", HERE.ip.packed, PORT, b"meta"))]


def test_no_incarnation_of_ours_leaves_32_bits():
    """Not even where a clock shows the year 2156: nobody could read what we say."""
    last = (1 << 32) - 1
    node = make_node("a", HERE, incarnation=last)
    node.update_meta(b"new", START)
    assert node.me.incarnation == 0
    other = knowing("b")
    other.set_calendar(last, START)
    other.receive_datagram(sealed(Suspect(last, "a", "b")), STRANGER, START)
    assert other.me.incarnation <= last


def test_a_refutation_replaces_what_we_said_before():
    """Memberlist keeps both in its queue; nobody needs the older one."""
    node = knowing("b", meta=b"meta")
    node.update_meta(b"new", START)
    node.receive_datagram(sealed(Suspect(5, "a", "b")), STRANGER, START)
    assert waiting(node) == [encode(Alive(6, "a", HERE.ip.packed, PORT, b"new"))]


def test_a_refutation_is_no_new_life():
    """We have been alive all the time."""
    node = knowing("b")
    node.receive_datagram(sealed(Suspect(1, "a", "b")), STRANGER, START + 7)
    assert (node.me.incarnation, node.me.since) == (2, START)


@pytest.mark.parametrize(
    "news",
    [
        Suspect(4, "a", "b"),
        Dead(4, "a", "b"),
        Alive(4, "a", HERE.ip.packed, PORT, b"other"),
        Alive(5, "a", HERE.ip.packed, PORT, b"meta"),  # our own word, coming back
    ],
)
def test_old_news_about_us_and_our_own_word_are_let_pass(news):
    """Else two nodes would outbid each other for ever."""
    node = knowing("b", meta=b"meta", incarnation=5)
    node.receive_datagram(sealed(news), STRANGER, START)
    assert node.me.incarnation == 5
    assert node.health_score == 0


def test_new_metadata_goes_out_under_a_new_incarnation():
    """To everybody, at the next gossip."""
    node = knowing("b")
    node.update_meta(b"new", START)
    assert (node.me.meta, node.me.incarnation) == (b"new", 2)
    node.handle_timer(START + 1)
    assert set(answers(node, Alive)) == {(endpoint(2), Alive(2, "a", HERE.ip.packed, PORT, b"new"))}


# --- leaving


def test_a_leave_names_itself_as_accuser_and_ends_when_told_to_its_limit():
    """Four packets for so few members; one goes to each of them a round."""
    node = knowing("b")
    node.leave(START)
    assert node.me.state is NodeState.LEFT
    farewells = []
    while LeaveFinished() not in node.events():
        node.handle_timer(node.get_timer())
        farewells += answers(node, Dead)  # by gossip, or beside a ping
    assert farewells == [(endpoint(2), Dead(1, "a", "a"))] * 4


def test_a_leave_is_told_at_once():
    """The process that leaves has little time: the next tick of gossip would cost a fifth of a second of it."""
    node = knowing("b")
    node.leave(START)
    assert node.get_timer() == START
    node.handle_timer(START)
    assert answers(node, Dead) == [(endpoint(2), Dead(1, "a", "a"))]


def test_a_leave_that_nobody_can_be_told_of_ends_at_once():
    """A lone node, and one whose peers are all gone."""
    node = knowing("b")
    node.receive_datagram(sealed(Dead(1, "b", "b")), STRANGER, START)
    node.events()
    node.leave(START)
    assert node.events() == [LeaveFinished()]


def test_a_leave_needs_nobodys_belief():
    """Not even our own calendar's: driven to the very edge of it just now, we leave all the same."""
    node = knowing("b")
    node.receive_datagram(sealed(Suspect(TODAY + 86_400, "a", "x")), STRANGER, START)
    assert node.me.incarnation == TODAY + 86_401
    node.leave(START)
    assert node.me.state is NodeState.LEFT
    assert waiting(node) == [encode(Dead(TODAY + 86_401, "a", "a"))]


def test_a_leaving_node_goes_on_probing_and_gossiping():
    """As memberlist does: until its leave is told, it is a member like others."""
    node = knowing("b", "c", config=replace(LAN, retransmit_mult=1000))
    node.leave(START)
    asked = set()
    while node.get_timer() < START + LAN.leave_timeout:
        node.handle_timer(node.get_timer())
        asked |= {to for to, _ in answers(node, Ping)}
    assert asked == {endpoint(2), endpoint(3)}


def test_who_has_left_stays_gone():
    """No accusation, no echo of ourselves, no second leave and no update undoes it; pings are still answered."""
    node = knowing("b")
    node.leave(START)
    left = node.me
    for news in (Suspect(9, "a", "b"), Dead(9, "a", "b"), alive("a", 1, 9), alive("a", 9, 9)):
        node.receive_datagram(sealed(news), STRANGER, START)
    node.leave(START + 1)
    node.update_meta(b"new", START + 1)
    assert node.me == left
    node.receive_datagram(sealed(Ping(1, "a")), STRANGER, START + 1)
    assert [message for _, message in answers(node, Ack)] == [Ack(1)]


# --- strangers' datagrams


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (encode(Ping(1, "a")), "encryption_version"),  # type 0 is encryption version 0 to us
        (encode(Ack(1)), "plaintext"),
        (b"\xf4\x04blue", "label"),
        (seal_packet([encode(Ping(1, "a"))], Keyring([b"x" * 32]), bytes(12)), "undecryptable"),
        (seal_packet([b"\x06\x80"], RING, bytes(12)), "unsupported_type"),
        (seal_packet([b"\x04\xc1"], RING, bytes(12)), "malformed"),
    ],
)
def test_a_bad_datagram_is_counted_and_nothing_else(data, code):
    """No answer, no event, no exception."""
    node = knowing("b")
    node.receive_datagram(data, STRANGER, START)
    assert node.counters == {code: 1}
    assert node.actions() == []
    assert node.events() == []


def test_a_damaged_part_costs_only_itself():
    """The rest of the datagram is heard."""
    node = knowing()
    data = seal_packet([encode(Ping(1, "a")), b"\x04\xc1", encode(Ping(2, "a"))], RING, bytes(12))
    node.receive_datagram(data, STRANGER, START)
    assert [message for _, message in answers(node, Ack)] == [Ack(1), Ack(2)]
    assert node.counters == {"malformed": 1}


def test_user_messages_are_counted():
    """wesher has none."""
    node = knowing()
    node.receive_datagram(sealed(UserMessage(b"hello")), STRANGER, START)
    assert node.counters == {"user message": 1}


# --- time


def test_a_lone_node_is_silent():
    """Ten minutes: it sends nothing, dials nobody, suspects nobody, and finds itself alive."""
    node = make_node("a", HERE)
    now = START
    while now < START + 600:
        now = node.get_timer()
        node.handle_timer(now)
        assert node.actions() == []
        assert node.events() == []
    assert (node.me.state, node.me.incarnation, node.health_score) == (NodeState.ALIVE, 1, 0)
    assert node.counters == {}


names = st.sampled_from(["a", "b", "c", "d", "stranger"])
incarnations = st.integers(0, 5) | st.just(TODAY) | st.just((1 << 32) - 1)
messages = st.one_of(
    st.builds(Ping, st.integers(0, 9), names),
    st.builds(Ack, st.integers(0, 9)),
    st.builds(Nack, st.integers(0, 9)),
    st.builds(Suspect, incarnations, names, names),
    st.builds(Dead, incarnations, names, names),
    st.builds(lambda n, i, m, e: alive(n, e, i, m), names, incarnations, st.binary(max_size=3), st.integers(1, 6)),
    st.builds(IndirectPing, st.integers(0, 9), st.just(endpoint(2).ip.packed), st.just(PORT), names, st.booleans()),
)
inputs = st.one_of(
    st.tuples(st.just("datagram"), st.lists(messages, min_size=1, max_size=4)),
    st.tuples(st.just("wait"), st.floats(0, 40)),
    st.tuples(st.just("early"), st.floats(0, 1)),
    st.tuples(st.just("accept"), st.integers(0, 3)),
    st.tuples(st.just("end"), st.integers(0, 9)),
    st.tuples(st.just("connected"), st.integers(0, 9)),
    st.tuples(st.just("stream"), st.binary(max_size=20)),
    st.tuples(st.just("join"), st.integers(1, 5)),
    st.tuples(st.just("leave"), st.none()),
    st.tuples(st.just("meta"), st.binary(max_size=4)),
)


def renumbered(message: Message, first: int) -> Message:
    """Acks and nacks that may be meant for pings that were really sent."""
    is_answer = isinstance(message, (Ack, Nack))
    return replace(message, seq_no=(first + message.seq_no) % (1 << 32)) if is_answer else message


@given(st.integers(0, 2**32), st.lists(inputs, max_size=40))
def test_whatever_comes_time_moves_on(seed, steps):
    """After handle_timer the next deadline lies ahead, an early call does nothing, and nothing is ever raised.

    The node itself stays what it is: one record, its own address, alive unless it leaves.
    """
    node = make_node("a", HERE, rng=Random(seed))
    first = node._probing._seq_no
    now, leaving = START, False
    for kind, value in steps:
        match kind:
            case "datagram":
                node.receive_datagram(sealed(*(renumbered(message, first) for message in value)), STRANGER, now)
            case "wait":
                now += value
                node.handle_timer(now)
                assert node.get_timer() > now
            case "early":
                node.actions()
                deadline = node.get_timer()
                if deadline > now:
                    node.handle_timer(now + value * (deadline - now) * 0.999)
                    assert (node.actions(), node.get_timer()) == ([], deadline)
            case "accept":
                node.receive_stream(StreamAccepted(2 * value + 1), now)
            case "end":
                node.receive_stream(StreamEnded(value, "broke"), now)
            case "connected":
                node.receive_stream(StreamConnected(value), now)
            case "stream":
                node.receive_stream(StreamData(1, value), now)
            case "join":
                node.join([endpoint(value)], now)
            case "leave":
                node.leave(now)
                leaving = True
            case "meta":
                node.update_meta(value, now)
        assert node.me.state is (NodeState.LEFT if leaving else NodeState.ALIVE)
        assert node.me.endpoint == HERE
        assert {n.name for n in node.members() if n.state is NodeState.SUSPECT} == set(node._membership._suspicions)
