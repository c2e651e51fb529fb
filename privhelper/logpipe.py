"""What the others write, brought to where the operator wants it by a process that does nothing else.

    python -I -m privhelper.logpipe MODE     0 null, 1 and 2 the operator's; 3 goes to 1, 4 and 5 (the helper's) to 2;
                                             6 and 7 the agent's leash (leash.py), its reading and its writing end

Who holds a terminal's descriptor, even write-only, can switch its echo off, read what the operator types and stop its
output for everybody; who holds a log file's can rewrite it, a socket's can read from it. So the others write into
pipes, without blocking where they must not. This one has no capability, replaces what is not printable, lets nobody go
on with another's line, and ends when the last writer has. When the helper has ended, an agent that goes on all the same
is killed: an honest one ends at once, or when it has said what it has to.
"""

from __future__ import annotations

import os
import re
import selectors
import sys
import time
from contextlib import suppress
from typing import Final

from privhelper import leash
from privhelper.landlock import Grants
from privhelper.lockdown import Lockdown
from privhelper.profiles import LOGPIPE

ROUTES: Final = {3: 1, 4: 2, 5: 2}
"""From which descriptor to which."""

HELPERS: Final = 5
"""Whose end is the helper's."""

LEASH: Final = 7

OUTLIVES: Final = 2.0
"""Seconds that an agent may outlive its helper."""

_UNPRINTABLE: Final = re.compile(rb"[^\n\t -~]")


def printable(data: bytes) -> bytes:
    """`data` with every byte but printable ASCII, tab and line feed spelled out: no escape sequence survives."""
    return _UNPRINTABLE.sub(lambda match: b"\\x%02x" % match.group()[0], data)


class Target:
    """One of the operator's outputs. A line that its writer has not ended is ended where another begins."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._source: int | None = None
        self._is_torn = False

    def write(self, source: int, data: bytes) -> None:
        """Write what has come from `source`; lost where nobody takes it."""
        gap = b"\n" if self._is_torn and source != self._source else b""
        self._source, self._is_torn = source, not data.endswith(b"\n")
        rest = gap + printable(data)
        with suppress(OSError):  # a terminal that was closed: the writers must not block on it
            while rest:
                rest = rest[os.write(self._fd, rest) :]


def main() -> None:
    """Copy until every writer is gone; the argument is --sandbox's."""
    lockdown = Lockdown(sys.argv[1])
    targets = {fd: Target(fd) for fd in set(ROUTES.values())}
    with selectors.DefaultSelector() as selector:
        for source in ROUTES:
            selector.register(source, selectors.EVENT_READ)
        lockdown.privileges()
        lockdown.files(Grants())
        lockdown.calls(LOGPIPE, descriptors=16)
        deadline: float | None = None
        while selector.get_map():
            for key, _ in selector.select(None if deadline is None else max(0.0, deadline - time.monotonic())):
                data = os.read(key.fd, 65536)
                if data:
                    targets[ROUTES[key.fd]].write(key.fd, data)
                    continue
                selector.unregister(key.fd)
                if key.fd == HELPERS:
                    deadline = time.monotonic() + OUTLIVES
            if deadline is not None and time.monotonic() >= deadline:
                leash.pull(LEASH)
                deadline = None
    leash.pull(LEASH)  # who has closed its outputs and lives


if __name__ == "__main__":
    main()
    sys.exit(0)
