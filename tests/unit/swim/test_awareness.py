"""The health score: bounded, and a factor on the time that others get."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wesher.swim.awareness import Awareness


def scored(*deltas: int) -> Awareness:
    """A score after these changes, with memberlist's limit."""
    awareness = Awareness(8)
    for delta in deltas:
        awareness.apply(delta)
    return awareness


@pytest.mark.parametrize(
    ("deltas", "score"), [((), 0), ((-1,), 0), ((1,), 1), ((3, -1), 2), ((7,), 7), ((8,), 7), ((99, -1), 6)]
)
def test_the_score_stays_between_none_and_seven(deltas, score):
    """Success at best makes well; failure at worst makes seven."""
    assert scored(*deltas).score == score


@pytest.mark.parametrize(("score", "seconds"), [(0, 5.0), (1, 10.0), (7, 40.0)])
def test_whoever_doubts_itself_gives_others_time(score, seconds):
    """One interval more for each point."""
    assert scored(score).scale(5.0) == seconds


@given(st.lists(st.integers(-10, 10)))
def test_no_sequence_leaves_the_bounds(deltas):
    """Each step is clamped by itself: a long good time does not pay for a bad one."""
    awareness, expected = Awareness(8), 0
    for delta in deltas:
        awareness.apply(delta)
        expected = sorted((0, expected + delta, 7))[1]
        assert awareness.score == expected
