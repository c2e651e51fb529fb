"""A node and its calendar: what no clock explains is not believed, and a wrong clock harms nobody for good."""

from __future__ import annotations

import pytest

from tests.unit.swim.alone import HERE, STRANGER, alive, held, knowing, sealed
from tests.unit.swim.virtual import START, TODAY, make_node
from wesher.swim.event import Ahead, Gone
from wesher.wire.messages import Dead, Suspect


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
    ("ahead", "begins"), [(1, False), (86_401, False), (86_400 + 600, False), (86_400 + 601, True)]
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
