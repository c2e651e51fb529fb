"""Descriptors that were there when the helper was started: from a service manager (sd_listen_fds(3)), or as
standard input.

systemd 252 cannot pass a service the hosts file; `StandardInput=file:/etc/hosts` with the same `StandardOutput=` can:
one read-write descriptor, opened as root before the uid changed, as 0 and 1. It is moved away from there at once.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Mapping
from typing import Final

_FIRST: Final = 3

VARIABLES: Final = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


def passed(environment: Mapping[str, str], pid: int) -> list[tuple[str, int]]:
    """Name and number of each descriptor passed to process `pid`, in order; each is closed on exec from now on."""
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(pid) or not count.isdigit():
        return []
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found = []
    for i in range(int(count)):
        os.set_inheritable(_FIRST + i, False)
        found.append((names[i] if i < len(names) else "", _FIRST + i))
    return found


def hosts_on_standard_input(path: str) -> int | None:
    """A read-write descriptor of the file at `path` that stands as 0, moved elsewhere; /dev/null takes its places."""
    try:
        here, there = os.fstat(0), os.stat(path)
    except OSError:
        return None
    is_it = stat.S_ISREG(here.st_mode) and (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
    if not is_it or fcntl.fcntl(0, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:
        return None
    moved = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, _FIRST)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    for number in (1, 2):  # 2 as well: without StandardError= it is the output again, and our log lines would be names
        out = os.fstat(number)
        if (out.st_dev, out.st_ino) == (here.st_dev, here.st_ino):
            os.dup2(null, number)
    os.close(null)
    return moved
