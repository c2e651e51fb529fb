"""Leaving: begun once, over once, and no way back (protocol 5.12).

A leaving node goes on answering pings and gossiping, so that nobody takes its leave for a death.
"""

from __future__ import annotations

from math import inf


class Leaving:
    """Not begun, under way, or over. `timeout` in seconds."""

    def __init__(self, timeout: float) -> None:
        self.is_over = False
        self._timeout = timeout
        self._until: float | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the leave has been told to anybody, or will be."""
        return self._until is not None

    @property
    def deadline(self) -> float:
        """When it is over at the latest."""
        return inf if self._until is None or self.is_over else self._until

    def begin(self, now: float) -> bool:
        """False if it has begun before."""
        if self._until is not None:
            return False
        self._until = now + self._timeout
        return True

    def check(self, now: float, *, told: bool, anybody: bool) -> bool:
        """Whether it is over just now: told to its limit, nobody left to tell, or its time up."""
        if self._until is None or self.is_over:
            return False
        self.is_over = told or not anybody or now >= self._until
        return self.is_over
