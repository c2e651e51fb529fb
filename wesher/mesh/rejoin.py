"""When to try again whoever is not there: exponential back-off with jitter, for ever.

The original's schedule (0.5 s, times 1.5), but it never gives up, and it is capped so that a peer that comes back is
met within half a minute. Who has left is tried ever more seldom: leaves can be forged, but most are meant.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from random import Random

FIRST: Final = 0.5
FACTOR: Final = 1.5
LONGEST: Final = 12.0
"""Seconds; with jitter a wait stays below 18, and what a try takes to fail runs beside it."""

LONGEST_AFTER_LEAVE: Final = 300.0
"""Seconds: after a quarter of an hour a member that left is tried about every five minutes."""


class Backoff:
    """Waiting times in seconds, none longer than one and a half times `longest`."""

    def __init__(self, rng: Random, longest: float = LONGEST) -> None:
        self._rng = rng
        self._longest = longest
        self._base = FIRST

    def next(self) -> float:
        """How long to wait before the next try: half to one and a half of the current step."""
        wait = self._base * self._rng.uniform(0.5, 1.5)
        self._base = min(self._longest, self._base * FACTOR)
        return wait

    def reset(self) -> None:
        """The next wait is as short as the first."""
        self._base = FIRST


class Turns:
    """Whose turn it is to be tried again. Times are in seconds on a clock of the caller's."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._backoffs: dict[str, Backoff] = {}
        self._at: dict[str, float] = {}

    def next(self, busy: Collection[str]) -> float:
        """When somebody is due who is not `busy`, being tried; inf where nobody will be."""
        return min((at for name, at in self._at.items() if name not in busy), default=inf)

    def due(self, absent: Mapping[str, float], busy: Collection[str], room: int, now: float) -> list[str]:
        """At most `room` whose turn has come, in the order of `absent`, which has the longest wait of each.

        A wait is counted from when a try begins; who is busy until after his turn is due again at once. Who is no
        longer absent is forgotten, and begins anew.
        """
        for name in self._at.keys() - absent.keys():
            del self._at[name], self._backoffs[name]
        for name, longest in absent.items():
            if name not in self._at:
                self._backoffs[name] = Backoff(self._rng, longest)
                self._at[name] = now + self._backoffs[name].next()
        due = [name for name in absent if name not in busy and self._at[name] <= now][:room]
        for name in due:
            self._at[name] = now + self._backoffs[name].next()
        return due

    def hurry(self, now: float) -> None:
        """Everybody's turn is now, and the waits after it are short again."""
        for name, backoff in self._backoffs.items():
            backoff.reset()
            self._at[name] = now
