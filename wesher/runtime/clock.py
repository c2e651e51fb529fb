"""The two clocks: monotonic for every deadline, the calendar only where another node or a file sees it."""

from __future__ import annotations

import time
from typing import Final

EPOCH_2020: Final = 1_577_836_800
"""2020-01-01 00:00:00 UTC in Unix time: incarnations and claims count from here, which leaves 32 bits until 2156."""


def monotonic() -> float:
    """Seconds since some fixed moment; never steps."""
    return time.monotonic()


def seconds_since_2020() -> int:
    """The calendar; 0 on a machine whose clock is not set yet."""
    return max(0, int(time.time()) - EPOCH_2020)
