"""The end of one process bound to the end of another that may not signal it.

A pipe whose reading end signals its owner (fcntl(2), F_SETOWN, F_SETSIG) with the permission of who tied it, which is
the launcher as root. The kernel signals when a byte comes or the last writing end goes; the only one is the helper's.
The owner is remembered as a process, not by number, and can do nothing about it: it has neither end.

The agent is tied. A helper that dies cannot kill it by PR_SET_PDEATHSIG, which asks whether the dying uid may, and an
agent that has been taken over would outlive every stop, with the cluster key and the port.
"""

from __future__ import annotations

import fcntl
import os
import signal
from typing import Final

_F_SETSIG: Final = 10


def tie(reader: int, pid: int) -> None:
    """From now on `pid` is killed when the last writing end of the pipe with this reading end goes, which must stay
    open in another process."""
    fcntl.fcntl(reader, fcntl.F_SETOWN, pid)
    fcntl.fcntl(reader, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(reader, fcntl.F_SETFL, fcntl.fcntl(reader, fcntl.F_GETFL) | os.O_ASYNC)
