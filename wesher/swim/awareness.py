"""How much this node trusts its own eyes: a score from 0 (well) upwards (Lifeguard; protocol 5.8).

Missed acks and nacks may mean that we are the slow one; a higher score gives every probe more time.
"""

from __future__ import annotations


class Awareness:
    """The score, kept from 0 to `limit` - 1."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.score = 0

    def apply(self, delta: int) -> None:
        """Move the score by `delta`."""
        self.score = max(0, min(self._limit - 1, self.score + delta))

    def scale(self, seconds: float) -> float:
        """The time to allow where a healthy node would allow `seconds`."""
        return seconds * (self.score + 1)
