"""When to try joining again: exponential back-off with jitter, for ever.

The original's schedule (0.5 s, times 1.5), but it never gives up, and it is capped so that a peer that comes back is
met within half a minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

FIRST: Final = 0.5
FACTOR: Final = 1.5
LONGEST: Final = 20.0
"""Seconds; with jitter the wait stays below 30."""


class Backoff:
    """Waiting times in seconds."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._base = FIRST

    def next(self) -> float:
        """How long to wait before the next try: half to one and a half of the current step."""
        wait = self._base * self._rng.uniform(0.5, 1.5)
        self._base = min(LONGEST, self._base * FACTOR)
        return wait
