"""A flood has its share of a processor, whoever asks little never waits, and nothing is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privhelper.allowance import BURST, LONGEST_REST, SHARE, Allowance

works = st.lists(st.floats(0.0001, 0.2), min_size=1, max_size=200)


def test_who_asks_little_never_waits() -> None:
    """However long: a tenth of a second of work, five times a second."""
    allowance = Allowance(0.0)
    assert {0.0} == {allowance.rest(0.1, number * 0.2) for number in range(1, 1000)}


def test_much_at_once_is_done_at_once() -> None:
    """A start, or a mesh that changes all over."""
    allowance = Allowance(100.0)
    assert [0.0] * 32 == [allowance.rest(BURST / 32, 100.0) for _ in range(32)]
    assert allowance.rest(0.1, 100.0) == pytest.approx(0.1 / SHARE)


@given(works)
def test_a_flood_has_its_share_and_no_more(spent: list[float]) -> None:
    """Each request takes as long as it works and comes as soon as it is read."""
    allowance, now = Allowance(0.0), 0.0
    for each in spent:
        now += each
        now += allowance.rest(each, now)
    assert sum(spent) <= BURST + SHARE * now + 1e-6


@given(works, st.floats(0, 1e6))
def test_no_rest_is_long(spent: list[float], each: float) -> None:
    """Whatever a request took."""
    allowance = Allowance(0.0)
    rests = [allowance.rest(work * each, 0.0) for work in spent]
    assert max(rests) <= LONGEST_REST


def test_what_is_not_asked_for_is_not_saved_up() -> None:
    """A day of silence is no licence."""
    allowance = Allowance(0.0)
    assert allowance.rest(BURST, 86400.0) == 0.0
    assert allowance.rest(SHARE, 86400.0) == pytest.approx(1.0)


def test_after_a_rest_there_is_something_left_again() -> None:
    """Rested is rested."""
    allowance = Allowance(0.0)
    rest = allowance.rest(BURST + 0.5, 0.0)
    assert rest == pytest.approx(1.0)
    assert allowance.rest(0.0, rest) == 0.0
