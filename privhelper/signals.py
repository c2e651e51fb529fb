"""Signals that come while a half starts: held back over its exec, until it can act on them.

What Python has only noted when a process execs is lost, and what comes before there are handlers ends a process that
has something to take down.
"""

from __future__ import annotations

import signal
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What both halves act on."""


def hold() -> None:
    """From now on they wait, also over an exec."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def release() -> None:
    """There are handlers for all of them: let come what has waited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def end_by_interrupt() -> None:
    """SIGINT ends this process at once, as SIGTERM does: an exception would be in the way of who splits off others."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
