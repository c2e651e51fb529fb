"""A node that probes others: ping, relays, stream ping and verdict, and what each outcome says of its own health."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from tests.unit.swim.alone import (
    HERE,
    LAN,
    RING,
    STRANGER,
    alive,
    answers,
    held,
    hush,
    indirect,
    knowing,
    packets,
    probing,
    sealed,
    stream,
)
from tests.unit.swim.virtual import PORT, START, endpoint, make_node
from wesher.swim.event import Suspected
from wesher.swim.io import CloseStream, Connect, Endpoint, SendDatagram, SendStream, StreamConnected, StreamData
from wesher.swim.node import Node
from wesher.wire.messages import Ack, Dead, IndirectPing, Nack, NodeState, Ping, Suspect
from wesher.wire.packet import open_packet
from wesher.wire.stream import StreamReader


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


def missed(node: Node, rounds: int, outcome) -> dict[str, int]:
    """Pings in a row that b has missed, after so many probes; `outcome` acts when relays are asked."""
    for _ in range(rounds):
        now, _, ping = probing(node)
        node.handle_timer(now + LAN.probe_timeout)
        outcome(node, ping, now + 0.75)
        node.handle_timer(now + LAN.probe_interval)
    return dict(node.missed_pings)


def ack_from(source: Endpoint):
    """An ack that comes in from there, late."""
    return lambda node, ping, now: node.receive_datagram(sealed(Ack(ping.seq_no)), source, now)


def ack_over_a_stream(node: Node, ping: Ping, now: float) -> None:
    """b answers to the stream ping alone."""
    (dialled,) = [action for action in node.actions() if isinstance(action, Connect)]
    node.receive_stream(StreamConnected(dialled.stream), now)
    node.receive_stream(StreamData(dialled.stream, stream(Ack(ping.seq_no))), now)


def test_pings_that_only_a_relay_or_a_stream_hears_of_are_counted_until_one_is_acked():
    """UDP between the two is dropped, and neither is suspected for it."""
    node = knowing("b")
    assert missed(node, 1, ack_over_a_stream) == {"b": 1}
    assert missed(node, 2, ack_from(endpoint(9))) == {"b": 3}
    assert held(node, "b").state is NodeState.ALIVE
    assert missed(node, 1, ack_from(endpoint(2))) == {}
    assert missed(node, 1, ack_from(endpoint(9))) == {"b": 1}
    now, _, ping = probing(node)
    node.receive_datagram(sealed(Ack(ping.seq_no)), STRANGER, now + 0.25)
    assert node.missed_pings == {}


def test_whoever_acks_for_one_who_is_forgotten_meanwhile_leaves_nothing():
    """It would stay for ever."""
    node = knowing("b")
    now, _, ping = probing(node)
    node.handle_timer(now + LAN.probe_timeout)
    node.receive_datagram(sealed(Dead(1, "b", "b")), endpoint(2), now + 0.6)
    node.forget("b", now + 0.6)
    assert held(node, "b") is None
    node.receive_datagram(sealed(Ack(ping.seq_no)), endpoint(2), now + 0.75)
    assert node.missed_pings == {}


def test_missed_pings_of_who_is_told_to_be_forgotten_are_forgotten():
    """By an operator's word."""
    node = knowing("b")
    assert missed(node, 1, ack_from(endpoint(9))) == {"b": 1}
    now = node.get_timer()
    node.receive_datagram(sealed(Dead(1, "b", "b")), endpoint(2), now)
    node.forget("b", now)
    assert node.missed_pings == {}


def test_who_is_suspected_has_missed_nothing_that_counts():
    """Nobody hears of it: that is another finding."""
    node = knowing("b")
    assert missed(node, 1, lambda node, ping, now: None) == {}
    assert held(node, "b").state is NodeState.SUSPECT


def test_missed_pings_of_who_is_forgotten_are_forgotten():
    """As its round trip is."""
    node = knowing("b")
    assert missed(node, 1, ack_from(endpoint(9))) == {"b": 1}
    node.receive_datagram(sealed(Dead(1, "b", "b")), endpoint(2), node.get_timer())
    while held(node, "b") is not None:
        node.handle_timer(node.get_timer())
    assert node.missed_pings == {}


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
