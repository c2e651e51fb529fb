"""What the others write, brought to where the operator wants it by a process that does nothing else.

    python -I -m privhelper.logpipe MODE     0 null, 1 and 2 the operator's; 3 goes to 1, 4 and 5 (the helper's) to 2;
                                             6 the agent's leash (leash.py), kept open

Who holds a terminal's descriptor, even write-only, can switch its echo off, read what the operator types and stop its
output for everybody; who holds a log file's can rewrite it, a socket's can read from it. So the others write into
pipes, without blocking where they must not. This one has no capability, replaces what is not printable, lets no pipe's
writer go on with a line of another's, and ends when the last writer has.
"""

from __future__ import annotations

import os
import re
import selectors
import sys
from typing import Final

from privhelper.landlock import Grants
from privhelper.lockdown import Lockdown
from privhelper.profiles import LOGPIPE

ROUTES: Final = {3: 1, 4: 2, 5: 2}
"""From which descriptor to which."""

_UNPRINTABLE: Final = re.compile(rb"[^\n\t -~]")


def printable(data: bytes) -> bytes:
    """`data` with every byte but printable ASCII, tab and line feed spelled out: no escape sequence survives."""
    return _UNPRINTABLE.sub(lambda match: b"\\x%02x" % match.group()[0], data)


class Outputs:
    """The operator's, which may be one file: a line that its writer has not ended is ended where another begins."""

    def __init__(self) -> None:
        self._torn: dict[int, int | None] = {}
        """Outputs that end in the middle of a line, and who may go on with it; nobody, where some of it is lost."""

    def write(self, source: int, data: bytes) -> None:
        """Write what has come from `source`; lost where nobody takes it."""
        for fd, owner in list(self._torn.items()):
            if owner != source:
                self._put(fd, b"\n", owner)
        if self._torn.get(ROUTES[source], source) == source:
            self._put(ROUTES[source], printable(data), source)

    def _put(self, fd: int, rest: bytes, owner: int | None) -> None:
        try:
            while rest:
                written = os.write(fd, rest)
                self._torn[fd] = owner
                if rest[:written].endswith(b"\n"):
                    del self._torn[fd]
                rest = rest[written:]
        except OSError:  # a terminal that was closed, a disk that is full: the writers must not block on it
            if fd in self._torn:
                self._torn[fd] = None


def main() -> None:
    """Copy until every writer is gone; the argument is --sandbox's."""
    lockdown = Lockdown(sys.argv[1])
    outputs = Outputs()
    with selectors.DefaultSelector() as selector:
        for source in ROUTES:
            selector.register(source, selectors.EVENT_READ)
        lockdown.privileges()
        lockdown.files(Grants())
        lockdown.calls(LOGPIPE, descriptors=16)
        while selector.get_map():
            for key, _ in selector.select():
                data = os.read(key.fd, 65536)
                if data:
                    outputs.write(key.fd, data)
                else:
                    selector.unregister(key.fd)


if __name__ == "__main__":
    main()
    sys.exit(0)
