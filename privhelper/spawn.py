"""Fork and exec with exactly the descriptors, environment and identity that a process is meant to have."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from privhelper.sandbox import close_all_but

ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
"""All that any of our processes gets to see of the environment."""


class LaunchError(Exception):
    """What keeps the daemon from starting, in one line: what, why, and what to do."""


def fill_standard_descriptors() -> None:
    """Put /dev/null where 0, 1 or 2 is closed: else the next file opened, say the hosts file, becomes an output."""
    while True:
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > 2:
            os.close(fd)
            return
        os.set_inheritable(fd, True)


def spawn(
    argv: Sequence[str], environment: Mapping[str, str], fds: Sequence[int], before_exec: Callable[[], None]
) -> int:
    """Fork and exec with `fds` as descriptors 0, 1, 2 … and nothing else; the child's pid."""
    if (pid := os.fork()) != 0:
        return pid
    try:
        install(fds)
        before_exec()
        os.execve(argv[0], list(argv), dict(environment))  # noqa: S606 - an absolute path and a clean environment
    except BaseException as error:  # a forked child must never return into its parent's code
        os.write(2, f"wesher: error: {argv[0]} cannot be started: {error}\n".encode())
    finally:
        os._exit(1)


def reopened(fd: int, flags: int = 0) -> int:
    """`fd` opened anew for appending, so that several writers of one file do not overwrite each other, and so that
    `flags` are ours alone. What cannot be opened (a journal's socket) stays as it is."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC | flags)
    except OSError:
        return fd


def null() -> int:
    return os.open(os.devnull, os.O_RDWR)


def install(fds: Sequence[int]) -> None:
    """What every process starts with: `fds` as descriptors 0, 1, 2 … and no other, new files for its own eyes."""
    above = len(fds)
    os.umask(0o077)
    safe = [fcntl.fcntl(fd, fcntl.F_DUPFD, max(above, 16)) for fd in fds]
    for number, fd in enumerate(safe):
        os.dup2(fd, number, inheritable=True)
    close_all_but(above)
