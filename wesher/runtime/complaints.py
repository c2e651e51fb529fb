"""Which warnings about members are worth a line in the log: who gives cause for one can do so for ever.

Each is said once, and no more than so many a minute; what was left out is counted and told with the next one said.
`wesher status` names every refused member in any case.
"""

from __future__ import annotations

import logging
from typing import Final

A_MINUTE: Final = 30
REMEMBERED: Final = 4096

log = logging.getLogger("agent")


class Complaints:
    """`may` is asked before each warning; `now` is in seconds."""

    def __init__(self) -> None:
        self._said: set[object] = set()
        self._minute_began = -60.0
        self._this_minute = 0
        self._left_out = 0

    def may(self, what: object, now: float) -> bool:
        """Whether to warn of `what`."""
        if what in self._said:
            return False
        if now >= self._minute_began + 60:
            self._minute_began, self._this_minute = now, 0
            if self._left_out:
                log.warning("%d more warnings about members were left out", self._left_out)
                self._left_out = 0
        if self._this_minute >= A_MINUTE:
            self._left_out += 1
            return False
        self._this_minute += 1
        if len(self._said) >= REMEMBERED:
            self._said.clear()
        self._said.add(what)
        return True
