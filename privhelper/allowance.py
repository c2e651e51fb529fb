"""How much of a processor the agents may have of the helper. Who asks for more is not refused: it is read later.

A bucket of processor time: full at first, filled by the passing of time, emptied by what each request took. Setting up
and every change of an honest agent's fit into it many times over; a flood has its share of one processor and no more.
"""

from __future__ import annotations

from typing import Final

BURST: Final = 2.0
"""Seconds of processor time that may be had at once."""

SHARE: Final = 0.5
"""Seconds of processor time that each second gives back."""

LONGEST_REST: Final = 2.0
"""Seconds. What one request took beyond the rest of them is forgiven: its end must not wait for a table's length, and
an agent that has gone must be noticed."""


class Allowance:
    """The bucket. Times are in seconds: `now` of a monotonic clock, `spent` of the processor's."""

    def __init__(self, now: float) -> None:
        self._left = BURST
        self._at = now

    def rest(self, spent: float, now: float) -> float:
        """How long not to read, after a request that took `spent` and ended `now`: 0 while there is something left."""
        self._left = min(BURST, self._left + SHARE * (now - self._at)) - spent
        self._left = max(self._left, -SHARE * LONGEST_REST)
        self._at = now
        return max(0.0, -self._left / SHARE)
