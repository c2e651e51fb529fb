"""Leaving: told as one's own word, over at one of three moments, and never undone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.swim.alone import LAN, STRANGER, alive, answers, knowing, sealed, waiting
from tests.unit.swim.virtual import START, TODAY, endpoint, make_node
from wesher.swim.event import LeaveFinished
from wesher.swim.leaving import Leaving
from wesher.wire.codec import encode
from wesher.wire.messages import Ack, Dead, NodeState, Ping, Suspect


def leaving(timeout: float = 5.0) -> Leaving:
    """A leave that has begun."""
    leave = Leaving(timeout)
    assert leave.begin(START)
    return leave


def test_a_leave_that_has_not_begun_is_never_over():
    """Nor has it anything to wait for."""
    leave = Leaving(5.0)
    assert not leave.has_begun
    assert not leave.check(START + 99, told=True, anybody=False)
    assert leave.deadline == float("inf")


def test_a_leave_is_begun_once():
    """The second word changes nothing, its time included."""
    leave = leaving()
    assert not leave.begin(START + 3)
    assert leave.deadline == START + 5


@pytest.mark.parametrize(
    ("seconds", "told", "anybody", "is_over"),
    [
        (0, False, True, False),
        (4.999, False, True, False),
        (5, False, True, True),  # its time is up, to the moment
        (0, True, True, True),
        (0, False, False, True),
    ],
)
def test_a_leave_is_over_when_told_or_when_nobody_is_left_to_tell_or_in_time(seconds, told, anybody, is_over):
    """Whichever comes first; then nothing is due any more."""
    leave = leaving()
    assert leave.check(START + seconds, told=told, anybody=anybody) is is_over
    assert leave.is_over is is_over
    assert leave.deadline == (float("inf") if is_over else START + 5)


def test_a_leave_is_over_once():
    """Whoever waits for it acts on the first word."""
    leave = leaving()
    assert leave.check(START + 1, told=True, anybody=True)
    assert not leave.check(START + 1, told=True, anybody=True)
    assert leave.is_over


# --- a node that leaves


def test_a_node_says_once_that_its_leave_is_over():
    """Though it lives on for as long as its process does."""
    node = knowing("b")
    node.leave(START)
    finished = 0
    while node.get_timer() < START + 20:
        node.handle_timer(node.get_timer())
        finished += node.events().count(LeaveFinished())
    assert finished == 1


def test_a_node_that_never_met_anybody_leaves_at_once():
    """Its farewell would wait for listeners."""
    node = make_node("a", endpoint(1))
    node.leave(START)
    assert node.events() == [LeaveFinished()]


def test_one_live_listener_is_worth_a_farewell():
    """Though others are dead."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(Dead(1, "b", "c")), endpoint(3), START)
    node.events()
    node.leave(START)
    assert node.events() == []
    node.handle_timer(START)
    assert node.events() == []


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
