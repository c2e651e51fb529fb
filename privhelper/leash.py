"""The end of one process in the hands of another that may bring about that and nothing else.

A pipe whose reading end signals its owner (fcntl(2), F_SETOWN, F_SETSIG) when a byte comes, with the permission of who
tied it, which is the launcher as root. Whoever holds the writing end can so kill a process that it may not signal; the
owner is remembered as a process, not by number, and can do nothing about it: it has neither end.

The agent is tied. A helper that dies cannot kill it (PR_SET_PDEATHSIG asks whether the dying uid may), and one that has
been taken over would outlive every stop, with the cluster key and the port. So logpipe, which sees the helper's end,
pulls.
"""

from __future__ import annotations

import fcntl
import os
import signal
from typing import Final

_F_SETSIG: Final = 10


def tie(reader: int, pid: int) -> None:
    """From now on a byte that comes to the pipe with this reading end kills `pid`. Both ends must stay open."""
    fcntl.fcntl(reader, fcntl.F_SETOWN, pid)
    fcntl.fcntl(reader, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(reader, fcntl.F_SETFL, fcntl.fcntl(reader, fcntl.F_GETFL) | os.O_ASYNC)


def pull(writer: int) -> None:
    """Kill whoever is tied, if he still lives."""
    os.write(writer, b"!")
