"""The waits between attempts to join: longer and longer, jittered, bounded, for ever."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from wesher.mesh.rejoin import FACTOR, FIRST, LONGEST, Backoff


@given(st.integers(0, 2**32))
def test_each_wait_lies_around_its_step_and_never_reaches_half_a_minute(seed):
    """Steps grow by half up to 20 s; a wait is half to one and a half of its step."""
    backoff = Backoff(Random(seed))
    for number in range(50):
        step = min(LONGEST, FIRST * FACTOR**number)
        assert 0.5 * step <= backoff.next() <= 1.5 * step <= 30.0


def test_the_first_waits_are_short():
    """A peer that boots at the same time is met within seconds: five tries in 10 s at the latest."""
    print("seed 0")
    backoff = Backoff(Random(0))
    assert sum(backoff.next() for _ in range(5)) < 10


def test_two_nodes_do_not_wait_in_step():
    """Jitter differs with the seed."""
    waits = {Backoff(Random(seed)).next() for seed in range(20)}
    assert len(waits) == 20
