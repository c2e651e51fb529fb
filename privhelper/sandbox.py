"""What a process may: its identity, capabilities, and what it can never have back.

A process that changes its uid does so between fork and exec (`Identity.assume`): exec then gives it a memory in
which nothing of its parent is left. What fails here is fatal; no process runs with more than it should. The order in
which a running process gives up the rest is `lockdown.py`'s.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import prctl

NET_ADMIN: Final = 12
"""CAP_NET_ADMIN."""

MAX_ID: Final = 0xFFFFFFFE
"""The highest uid and gid; the next number means "leave it as it is" to setresuid(2)."""

CHOWN: Final = 0
"""CAP_CHOWN."""

DAC_OVERRIDE: Final = 1
"""CAP_DAC_OVERRIDE: modes of files mean nothing."""

SETUID: Final = 7
"""CAP_SETUID."""

_MOST_DESCRIPTORS: Final = 0x7FFFFFFF
_SETPCAP: Final = 8

# What python-prctl 1.8 lacks goes through libc: ambient capabilities, and capset(2) itself, since its own knows
# nothing of CAP_CHECKPOINT_RESTORE and would leave a capability in place that it cannot name.
_PR_CAPBSET_DROP: Final = 24
_PR_SET_SECUREBITS: Final = 28
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_PR_SET_MDWE: Final = 65
_PR_GET_MDWE: Final = 66
_PR_MDWE_REFUSE_EXEC_GAIN: Final = 1
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAP_HEADER: Final = struct.Struct("@Ii")  # version, pid (0: this process)
_CAP_DATA: Final = struct.Struct("@IIIIII")  # effective, permitted, inheritable: bits 0-31, then the same for 32-63

# capabilities(7): uid 0 means nothing, uid changes change nothing, nothing survives one, nothing new becomes ambient;
# each locked. What is ambient already stays so over the next exec, which is how the helper gets its one.
_SECUREBITS: Final = 0b1110_1111

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a process runs as."""

    uid: int
    gid: int

    def assume(self, capabilities: Collection[int] = ()) -> None:
        """Become this identity for good, keeping `capabilities` over the next exec and nothing else.

        Call single-threaded, as root between fork and exec. The bounding set is emptied too: whatever is exec'ed
        later gains nothing from a file's capabilities. Who cannot change uids (an ordinary user with CAP_NET_ADMIN)
        can only become himself, and gives up capabilities alone.
        """
        if not has_capability(SETUID):
            if self.uid != os.getuid():
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            _set_capabilities(capabilities, inheritable=capabilities)
            _raise_ambient(capabilities)
            return
        if not (0 < self.uid <= MAX_ID and 0 < self.gid <= MAX_ID):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        os.setgroups([])
        os.setresgid(self.gid, self.gid, self.gid)
        _set_capabilities({*capabilities, _SETPCAP, SETUID}, inheritable=capabilities)
        _empty_bounding_set()
        prctl.set_keepcaps(True)
        os.setresuid(self.uid, self.uid, self.uid)
        _set_capabilities({*capabilities, _SETPCAP}, inheritable=capabilities)
        _raise_ambient(capabilities)
        _check(_libc.prctl(_PR_SET_SECUREBITS, _SECUREBITS, 0, 0, 0))
        _set_capabilities(capabilities, inheritable=capabilities)


def confine(capabilities: Collection[int] = ()) -> None:
    """Keep `capabilities` as permitted and effective, none inheritable or ambient; gain nothing ever; be unreadable.

    Raises OSError where the kernel says no: also where the process was to keep what it never had.
    """
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    _set_capabilities(capabilities, inheritable=())
    prctl.set_no_new_privs(1)
    prctl.set_dumpable(0)


def can_forbid_new_code() -> bool:
    """Whether this kernel has MDWE, since Linux 6.3."""
    return bool(_libc.prctl(_PR_GET_MDWE, 0, 0, 0, 0) >= 0)


def forbid_new_code() -> bool:
    """MDWE: memory that was writable never becomes executable, nor new memory both. False before Linux 6.3."""
    return bool(_libc.prctl(_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0)


def limit(descriptors: int) -> None:
    """At most so many descriptors; no process or thread more, no core dump, no locked memory, no message queue."""
    for name in (resource.RLIMIT_NPROC, resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
        resource.setrlimit(name, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = descriptors if hard == resource.RLIM_INFINITY else min(descriptors, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def has_capability(capability: int) -> bool:
    """Whether this process has `capability` in its effective set."""
    low, _, _, high, _, _ = _CAP_DATA.unpack(_capabilities())
    return bool((low | high << 32) >> capability & 1)


def gain_nothing() -> None:
    """no_new_privs, for a program that is not ours to confine further."""
    prctl.set_no_new_privs(1)


def die_with_parent() -> None:
    """SIGKILL when the parent dies. Set it after the uid has changed: setresuid clears it (prctl(2))."""
    prctl.set_pdeathsig(signal.SIGKILL)


def close_all_but(keep: int) -> None:
    """Close every descriptor from `keep` up, also those above a limit that was lowered after they were opened."""
    os.closerange(keep, _MOST_DESCRIPTORS)


def _raise_ambient(capabilities: Collection[int]) -> None:
    for capability in capabilities:
        _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0))


def _set_capabilities(held: Collection[int], *, inheritable: Collection[int]) -> None:
    """Make `held` the permitted and effective set. What is so already is not set again: a service manager that gave a
    process nothing may also have forbidden it the call."""
    held_low, held_high = _words(held)
    kept_low, kept_high = _words(inheritable)
    wanted = _CAP_DATA.pack(held_low, held_low, kept_low, held_high, held_high, kept_high)
    if wanted != _capabilities():
        _check(_libc.capset(_CAP_HEADER.pack(_CAPABILITY_VERSION_3, 0), wanted))


def _capabilities() -> bytes:
    """The effective, permitted and inheritable set of this process, as capget(2) lays them out."""
    header, data = _CAP_HEADER.pack(_CAPABILITY_VERSION_3, 0), ctypes.create_string_buffer(_CAP_DATA.size)
    _check(_libc.capget(header, data))
    return data.raw


def _words(capabilities: Collection[int]) -> tuple[int, int]:
    bits = sum(1 << capability for capability in set(capabilities))
    return bits & 0xFFFFFFFF, bits >> 32


def _empty_bounding_set() -> None:
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    for capability in range(last + 1):
        _check(_libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0))


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
