"""The waits between two tries of somebody: longer and longer, jittered, bounded, for ever; and whose turn it is."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from wesher.mesh.rejoin import FACTOR, FIRST, LONGEST, LONGEST_AFTER_LEAVE, Backoff, Turns


@given(st.integers(0, 2**32))
def test_each_wait_lies_around_its_step_and_stays_below_twenty_seconds(seed):
    """Steps grow by half up to 12 s; a wait is half to one and a half of its step."""
    backoff = Backoff(Random(seed))
    for number in range(50):
        step = min(LONGEST, FIRST * FACTOR**number)
        assert 0.5 * step <= backoff.next() <= 1.5 * step < 20.0


def test_the_first_waits_are_short():
    """A peer that boots at the same time is met within seconds: five tries in 10 s at the latest."""
    print("seed 0")
    backoff = Backoff(Random(0))
    assert sum(backoff.next() for _ in range(5)) < 10


def test_two_nodes_do_not_wait_in_step():
    """Jitter differs with the seed."""
    waits = {Backoff(Random(seed)).next() for seed in range(20)}
    assert len(waits) == 20


# --- turns


def tries(turns: Turns, absent: dict[str, float], seconds: float, *, room: int = 9, step: float = 0.1) -> list[float]:
    """When somebody was tried, looking every `step` from 0 on."""
    return [n * step for n in range(int(seconds / step)) for _ in turns.due(absent, (), room, n * step)]


def test_who_is_absent_is_tried_at_once_and_then_ever_less_often():
    """Four times in the first five seconds, and in the end every 6 to 18 s, also after a day."""
    found = tries(Turns(Random(1)), {"a": LONGEST}, 600)
    assert found[0] < 1
    assert len([at for at in found if at < 5]) >= 4
    late = [after - before for before, after in pairwise(found) if before > 60]
    assert 0.5 * LONGEST - 0.2 <= min(late) <= max(late) <= 1.5 * LONGEST + 0.2


def test_who_has_left_is_tried_as_often_at_first_and_then_seldom():
    """A forged leave is found out within seconds; a real one costs next to nothing."""
    found = tries(Turns(Random(1)), {"a": LONGEST_AFTER_LEAVE}, 7200)
    assert len([at for at in found if at < 5]) >= 4
    assert max(after - before for before, after in pairwise(found)) > 200


def test_who_came_back_begins_anew():
    """Short waits again."""
    turns = Turns(Random(1))
    tries(turns, {"a": LONGEST}, 600)
    assert turns.due({}, (), 9, 600) == []
    assert turns.next(()) == inf
    turns.due({"a": LONGEST}, (), 9, 601)
    assert turns.next(()) < 602


def test_the_first_go_first_where_there_is_room_for_few():
    """The others stay due."""
    turns = Turns(Random(1))
    absent = dict.fromkeys("cab", LONGEST)
    assert turns.due(absent, (), 9, 0.0) == []
    assert turns.due(absent, (), 2, 5.0) == ["c", "a"]
    assert turns.next(()) <= 5.0
    assert turns.due(absent, (), 2, 5.0) == ["b"]
    assert turns.due(absent, (), 2, 5.0) == []


def test_who_is_being_tried_is_not_tried_again_and_keeps_its_turn():
    """A try into a black hole takes longer than the first waits; when it is over, the next one is due."""
    turns = Turns(Random(1))
    turns.due({"a": LONGEST}, (), 9, 0.0)
    assert turns.due({"a": LONGEST}, (), 9, 1.0) == ["a"]
    assert turns.due({"a": LONGEST}, ("a",), 9, 11.0) == []
    assert turns.next(("a",)) == inf
    assert turns.due({"a": LONGEST}, (), 9, 11.0) == ["a"]


def test_nobody_is_tried_in_step_with_another():
    """Nodes that lost the same member do not all dial it in the same moment."""
    firsts = set()
    for seed in range(20):
        turns = Turns(Random(seed))
        turns.due({"a": LONGEST}, (), 9, 0.0)
        firsts.add(turns.next(()))
    assert len(firsts) == 20


def test_after_a_reset_the_waits_are_short_again():
    """As at the start, whatever came before."""
    backoff = Backoff(Random(3))
    for _ in range(20):
        backoff.next()
    backoff.reset()
    assert 0.5 * FIRST <= backoff.next() <= 1.5 * FIRST
    assert 0.5 * FIRST * FACTOR <= backoff.next() <= 1.5 * FIRST * FACTOR


def test_who_hurries_has_everybodys_turn_at_once():
    """Also of who had left long ago; and then as often as at the start. Who is being tried comes right after."""
    turns = Turns(Random(1))
    absent = {"a": LONGEST, "b": LONGEST_AFTER_LEAVE, "c": LONGEST}
    tries(turns, absent, 3600)
    assert turns.due(absent, (), 9, 3600) != ["a", "b", "c"]
    turns.hurry(3600.5)
    assert turns.next(("c",)) == 3600.5
    assert turns.due(absent, ("c",), 9, 3600.5) == ["a", "b"]
    assert turns.due(absent, (), 9, 3600.5) == ["c"]
    assert turns.next(()) <= 3600.5 + 1.5 * FIRST
    turns.hurry(3601)
    assert turns.due({}, (), 9, 3601) == []
