"""When a node wants to be woken: for the first of whatever is due, and to the moment.

Gossip ticks five times a second, and would wake a node in time for most that is forgotten; here it hardly ever does.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from tests.unit.swim.alone import HERE, LAN, STRANGER, alive, answers, knowing, sealed
from tests.unit.swim.virtual import PORT, START, endpoint, make_node
from wesher.swim.event import Gone
from wesher.swim.node import Node
from wesher.swim.succession import PATIENCE, Succession
from wesher.wire.messages import Dead, IndirectPing, Nack, Ping, Suspect

NEVER = 1e9
STILL = replace(LAN, gossip_interval=NEVER, probe_interval=NEVER, push_pull_interval=NEVER)
"""Nothing is due but what comes from outside, within any time that a test takes."""
PROBING = replace(STILL, probe_interval=LAN.probe_interval)


@pytest.mark.parametrize(
    ("ticker", "first", "last"), [("gossip_interval", 0, 1), ("probe_interval", 0, 1), ("push_pull_interval", 1, 2)]
)
def test_nodes_started_together_do_not_act_together(ticker, first, last):
    """Each begins anywhere within one interval; the first full exchange, which joining has made, in the second."""
    config = replace(STILL, **{ticker: 10.0})
    begins = [make_node("a", HERE, config=config, rng=Random(seed)).get_timer() - START for seed in range(200)]
    tenth = (last - first) / 10
    assert first <= min(begins) / 10 < first + tenth
    assert last - tenth < max(begins) / 10 <= last


def test_of_two_suspicions_each_ends_in_time():
    """Forty seconds after it was begun, whichever was begun first; ticks are ten seconds apart."""
    node = knowing("b", "c", config=replace(STILL, probe_interval=10.0))
    for name, later in (("c", 1.0), ("b", 2.0)):
        node.receive_datagram(sealed(Suspect(1, name, "x")), STRANGER, START + later)
    ends = {}
    while node.get_timer() < START + 60:
        now = node.get_timer()
        node.handle_timer(now)
        ends |= {event.member.name: now - START for event in node.events() if isinstance(event, Gone)}
    assert ends == {"c": 41.0, "b": 42.0}


def test_of_two_claims_to_left_names_each_is_looked_after_at_once():
    """Though the other is already under way."""
    succession = Succession(1.0)
    succession.claim(alive("b", 9), START)
    assert succession.deadline == START
    assert succession.due(START) == ["b"]
    assert succession.deadline == float("inf")
    succession.claim(alive("c", 9), START + 1)
    assert succession.deadline == START + 1
    succession.answered("b", START + 1)
    assert succession.deadline == START + 1
    assert succession.due(START + 1) == ["c"]
    assert succession.deadline == START + 2


@pytest.mark.parametrize(("answered", "is_kept"), [(PATIENCE - 1.001, True), (PATIENCE - 1, False)])
def test_a_claim_is_kept_while_another_probe_can_begin_in_its_time(answered, is_kept):
    """One second between two probes: what would begin when the time is up does not."""
    succession = Succession(1.0)
    succession.claim(alive("b", 9), START)
    succession.due(START)
    succession.answered("b", START + answered)
    assert (succession.silent("b") is not None) is is_kept


def first_ping(node: Node) -> float:
    """Let time pass until the node pings; when it did."""
    while True:
        now = node.get_timer()
        node.handle_timer(now)
        if answers(node, Ping):
            return now


def test_a_probe_asks_relays_and_gives_up_in_time():
    """First the one, then the other; in between nothing is due."""
    node = knowing("b", config=replace(PROBING, probe_overlap=3))
    now = first_ping(node)
    woken = []
    for _ in range(4):
        woken.append(node.get_timer() - now)
        node.handle_timer(node.get_timer())
    assert woken == pytest.approx([0.5, 1, 2, 3])  # relays; two ticks, when nobody else is there to probe; the end


def test_of_two_probes_each_asks_its_relays_in_time():
    """Though the earlier one has asked already, and only waits for its end."""
    node = knowing("b", "c", config=replace(PROBING, probe_overlap=3))
    now = first_ping(node)
    woken = []
    for _ in range(3):
        woken.append(node.get_timer() - now)
        node.handle_timer(node.get_timer())
    assert woken == pytest.approx([0.5, 1, 1.5])


def test_of_two_relayed_pings_each_is_nacked_in_time():
    """Whichever was asked for first."""
    node = knowing("b", "c", config=STILL)
    for number, later in ((7, 0.0), (8, 0.125)):
        request = IndirectPing(number, endpoint(2).ip.packed, PORT, "b", True)
        node.receive_datagram(sealed(request), endpoint(3), START + later)
    answers(node)
    nacks = []
    for _ in range(2):
        now = node.get_timer()
        node.handle_timer(now)
        nacks += [(now - START, message.seq_no) for _, message in answers(node, Nack)]
    assert nacks == [(0.5, 7), (0.625, 8)]


def test_a_relayed_ping_is_nacked_in_time_though_nothing_else_is_due():
    """No probe of our own is under way."""
    node = knowing("b", "c", config=STILL)
    node.receive_datagram(sealed(IndirectPing(7, endpoint(2).ip.packed, PORT, "b", True)), endpoint(3), START)
    assert node.get_timer() == START + LAN.probe_timeout


def test_of_two_exchanges_each_ends_in_time():
    """Whichever was begun first."""
    node = knowing(config=STILL)
    node.join([endpoint(8)], START)
    node.join([endpoint(9)], START + 1)
    assert node.get_timer() == START + LAN.stream_timeout
    node.handle_timer(START + LAN.stream_timeout)
    assert [event.with_whom for event in node.events()] == [endpoint(8)]
    assert node.get_timer() == START + 1 + LAN.stream_timeout


@pytest.mark.parametrize("accuser", ["x", "b"])
@pytest.mark.parametrize(("later", "is_told"), [(0.0, True), (0.001, False)])
def test_the_dead_and_the_left_are_told_up_to_the_moment(later, is_told, accuser):
    """What is exactly as old as the limit still counts, as for memberlist."""
    node = knowing("b", config=replace(STILL, gossip_interval=1.0))
    node.receive_datagram(sealed(Dead(1, "b", accuser)), STRANGER, START)
    node.handle_timer(START + LAN.gossip_to_the_dead + later)
    assert [to for to, _ in answers(node, Dead)] == ([endpoint(2)] if is_told else [])
