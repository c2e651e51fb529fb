"""A process's way to no more than it needs, in the only order that works.

    import and open everything, one name lookup          the process itself
    `privileges`   capabilities, no_new_privs, not to be read by anybody
    `files`        MDWE, landlock: while there is one thread, since landlock is for a thread and those it starts
                   threads are started by the process itself
    `calls`        limits, seccomp for all threads; then the first byte of the other side is read

`--sandbox` says what is to be had: with `strict` a kernel without landlock or seccomp is no place to run on, and what
a kernel has must work; with `available` what does not work is told, and done without; `off` leaves the privileges,
which are not to be had back, and nothing else.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection
from typing import Final

from privhelper import landlock, sandbox, seccomp
from privhelper.landlock import Grants
from privhelper.options import OFF, STRICT
from privhelper.profiles import Profile

_MDWE: Final = "MDWE (Linux 6.3)"


class NoSandbox(Exception):
    """Why a process cannot be locked down, in one line."""


def check(mode: str) -> None:
    """Raise NoSandbox where this kernel has less than `mode` asks for. Nothing is changed."""
    if mode != STRICT:
        return
    for layer, is_there in (("seccomp", seccomp.is_available()), ("landlock", landlock.abi() > 0)):
        if not is_there:
            raise NoSandbox(
                f"this kernel has no {layer}, or it is switched off here (boot option lsm=, a container's own filter); "
                "give --sandbox available to run without it"
            )


def lacking() -> list[str]:
    """What this kernel does not have; nothing is changed."""
    version = landlock.abi()
    found = [] if seccomp.is_available() else ["seccomp"]
    found += [] if sandbox.can_forbid_new_code() else [_MDWE]
    return found + (landlock.lacking(version) if version else ["landlock"])


def _warm_up() -> None:
    """What is loaded when it is needed first, and could not be then: the time zone, and what tells of an error."""
    time.localtime()
    try:
        raise AssertionError
    except AssertionError:
        traceback.format_exc()


class Lockdown:
    """The steps, each to be called once, in order. Each raises NoSandbox; `privileges` OSError as well.

    `remark` is what to log about them when all are done, if anything.
    """

    def __init__(self, mode: str) -> None:
        check(mode)
        self._mode = mode
        self._lacking: list[str] = []

    @property
    def remark(self) -> str | None:
        """What this process goes without, in one line."""
        if self._mode == OFF:
            return "sandbox off: neither seccomp nor landlock keeps this process in"
        return f"sandbox without {', '.join(self._lacking)}" if self._lacking else None

    def privileges(self, capabilities: Collection[int] = ()) -> None:
        """Keep `capabilities`, gain nothing ever; in any mode."""
        _warm_up()
        sandbox.confine(capabilities)

    def files(self, grants: Grants) -> None:
        """From now on no new code, and no file but `grants`. Call while there is one thread."""
        if self._mode == OFF:
            return
        if not sandbox.forbid_new_code():
            self._lacking.append(_MDWE)
        if version := landlock.abi():
            self._lacking += landlock.lacking(version)
        self._do("landlock", lambda: landlock.restrict(grants))

    def calls(self, profile: Profile, *, descriptors: int) -> None:
        """From now on no thread, no more than `descriptors`, and no system call but those of `profile`."""
        if self._mode == OFF:
            return
        sandbox.limit(descriptors)
        self._do("seccomp", lambda: seccomp.load(profile))

    def _do(self, layer: str, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            if self._mode == STRICT:
                raise NoSandbox(
                    f"{layer} cannot be set up: {error.strerror}; give --sandbox available to run without it"
                ) from None
            self._lacking.append(f"{layer} ({error.strerror})")
