"""A node alone, as whoever drives it sees it: what goes into its packets, whom it tells and when, and that neither
strangers nor time can make it do anything else.
"""

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
    hush,
    indirect,
    knowing,
    packets,
    probing,
    sealed,
    waiting,
)
from tests.unit.swim.virtual import PORT, START, TODAY, endpoint, make_node
from wesher.swim.io import Connect, Endpoint, SendDatagram, StreamAccepted, StreamConnected, StreamData, StreamEnded
from wesher.swim.node import Node
from wesher.wire.codec import encode
from wesher.wire.keyring import Keyring
from wesher.wire.messages import Ack, Dead, IndirectPing, Message, Nack, NodeState, Ping, Suspect, UserMessage
from wesher.wire.packet import seal_packet

# --- what it says


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


# --- what is due


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


def test_a_node_that_has_left_still_knows_itself():
    """However long it stays: its own record is not one to be forgotten with those of others who left."""
    node = make_node("a", HERE)
    node.receive_datagram(sealed(alive("b", 2)), STRANGER, START)
    node.leave(START)
    now = START
    while now < START + 120:
        now = node.get_timer()
        node.handle_timer(now)
    assert node.me.state is NodeState.LEFT


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
