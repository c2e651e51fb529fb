"""Who is heard of and not believed for its clock: one of two clocks is wrong, and only an operator can tell which.

A machine without a clock of its own that was off for days begins where it ended; until its clock is set it hears
everybody and knows nobody. That is told for as long as it lasts, and of few: an insider can make up names for ever.
"""

from __future__ import annotations

from typing import Final

LASTS: Final = 60.0
"""Seconds since such news came last: twice the time between two full exchanges, or two tries to join."""

MOST: Final = 3
"""Names that are told, the first that came."""


class Unbelieved:
    """`now` is in seconds, of any clock that is not set."""

    def __init__(self) -> None:
        self._heard: dict[str, float] = {}

    def hear(self, name: str, now: float) -> None:
        """News of `name` was not believed."""
        self._heard = {known: at for known, at in self._heard.items() if now - at < LASTS}
        if name in self._heard or len(self._heard) < MOST:
            self._heard[name] = now

    def problem(self, now: float) -> str:
        """What to do about it; empty where nobody is left."""
        names = [ascii(name) for name, at in self._heard.items() if now - at < LASTS]
        if not names:
            return ""
        return f"not believed: {', '.join(names)}, more than a day ahead of this node's clock; set it, or theirs"
