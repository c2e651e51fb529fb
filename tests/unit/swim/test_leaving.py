"""Leaving: over at one of three moments, and never twice."""

from __future__ import annotations

import pytest

from tests.unit.swim.alone import knowing, sealed
from tests.unit.swim.virtual import START, endpoint, make_node
from wesher.swim.event import LeaveFinished
from wesher.swim.leaving import Leaving
from wesher.wire.messages import Dead


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
