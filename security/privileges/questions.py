"""What a live process is asked that it could do, and how it answers: `yes`, `no`, or `seccomp`, where nothing but its
filter stands in the way.

Each question is asked twice in the process's place: as if it had no filter, so that its uid, capabilities, landlock and
MDWE answer, and with its filter. A call that would kill it is not made: the profile says so, and tests/hostile shows
that profiles are what they say.
"""

from __future__ import annotations

import errno
import mmap
import os
import socket
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from privhelper import landlock, sandbox
from privhelper.profiles import Profile, Row
from security.privileges.asked import Stopped
from tests.e2e.mesh import INTERFACE, KEY_FILE
from tests.lab import Node

YES: Final = "yes"
NO: Final = "no"
ONLY_SECCOMP: Final = "seccomp"

_AT_FDCWD: Final = -100
_DENIED: Final = frozenset((errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT))
_ELSEWHERE: Final = "192.168.77.99"
_WRITABLE: Final = mmap.PROT_READ | mmap.PROT_WRITE
_ANONYMOUS: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class Killed(Exception):
    """The filter would end the process."""


@dataclass(frozen=True, slots=True)
class Witness:
    """One process that is asked. `others`: pids as it sees them, by what they are."""

    node: Node
    process: Stopped
    profile: Profile | None
    others: Mapping[str, int]

    def may(self, call: str, *arguments: int | bytes, besides: Collection[int] = ()) -> bool:
        """Whether the call is carried out, or fails with an error in `besides`, which come after every check. Raises
        AssertionError on any other but those of a denial."""
        result = self.get(call, *arguments)
        if result < 0 and -result not in {*_DENIED, *besides}:
            raise AssertionError(f"{call}{arguments}: {errno.errorcode[-result]}")
        return result >= 0 or -result in besides

    def get(self, call: str, *arguments: int | bytes) -> int:
        """What it returns, minus the error's number. Raises Killed."""
        if self.profile is not None and not is_answered(self.profile, call, arguments):
            raise Killed
        return self.process.call(call, *arguments)

    def may_open(self, path: str, flags: int) -> bool:
        """What is opened is closed again."""
        fd = self.get("openat", _AT_FDCWD, path.encode() + b"\0", flags | os.O_CLOEXEC, 0o600)
        if fd >= 0:
            self.process.call("close", fd)
        elif -fd not in _DENIED:
            raise AssertionError(f"{path}: {errno.errorcode[-fd]}")
        return fd >= 0

    def may_with_socket(self, domain: int, kind: int, protocol: int, call: str = "", address: bytes = b"") -> bool:
        """Whether there is such a socket, and if a call is named, it may be so connected or bound."""
        fd = self.get("socket", domain, kind, protocol)
        if fd < 0:
            if -fd not in _DENIED:
                raise AssertionError(f"socket: {errno.errorcode[-fd]}")
            return False
        try:
            return call == "" or self.may(call, fd, address, len(address), besides=(errno.ECONNREFUSED,))
        finally:
            self.process.call("close", fd)


Question = Callable[[Witness], bool]


def is_answered(profile: Profile, call: str, arguments: tuple[int | bytes, ...]) -> bool:
    """Whether some row is for these arguments; if none is, the call kills."""
    numbers = [0 if isinstance(argument, bytes) else argument & 0xFFFFFFFFFFFFFFFF for argument in arguments]
    return any(row.call == call and _holds(row, numbers) for row in profile)


def _holds(row: Row, numbers: list[int]) -> bool:
    tests = {
        "==": lambda value, number: value == number,
        "<": lambda value, number: value < number,
        ">": lambda value, number: value > number,
        "has": lambda value, number: value & number == number,
        "lacks": lambda value, number: value & number == 0,
    }
    return all(tests[test](numbers[position], number) for position, test, number in row.when)


def ask(witness: Witness, question: Question) -> str:
    """In the words above."""
    witness.process.suspend_filter(True)
    free = question(Witness(witness.node, witness.process, None, witness.others))
    if not free or witness.profile is None:
        return YES if free else NO
    witness.process.suspend_filter(False)
    try:
        return YES if question(witness) else ONLY_SECCOMP
    except Killed:
        return ONLY_SECCOMP
    finally:
        witness.process.suspend_filter(True)


def _read(path: str) -> Question:
    return lambda witness: witness.may_open(path, os.O_RDONLY)


def _write(path: str) -> Question:
    return lambda witness: witness.may_open(path, os.O_WRONLY)


def _make(path: str) -> Question:
    def question(witness: Witness) -> bool:
        with _gone_afterwards(witness.node, path):
            return witness.may_open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    return question


def _rename(path: str) -> Question:
    def question(witness: Witness) -> bool:
        with _gone_afterwards(witness.node, path, f"{path}.new"):
            witness.node.write(path, b"")
            return witness.may("rename", path.encode() + b"\0", path.encode() + b".new\0")

    return question


def _remove(path: str) -> Question:
    def question(witness: Witness) -> bool:
        with _gone_afterwards(witness.node, path):
            witness.node.write(path, b"")
            return witness.may("unlink", path.encode() + b"\0")

    return question


@contextmanager
def _gone_afterwards(node: Node, *paths: str) -> Iterator[None]:
    try:
        yield
    finally:
        for path in paths:
            (node.inside.root / path.lstrip("/")).unlink(missing_ok=True)


def _tcp(call: str, port: int) -> Question:
    address = _address("127.0.0.1", port)
    return lambda witness: witness.may_with_socket(socket.AF_INET, socket.SOCK_STREAM, 0, call, address)


def _udp(witness: Witness) -> bool:
    return witness.may_with_socket(socket.AF_INET, socket.SOCK_DGRAM, 0, "connect", _address(_ELSEWHERE, 9))


def _address(host: str, port: int) -> bytes:
    """A sockaddr_in."""
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(host))


def _unix(path: str) -> Question:
    address = struct.pack("=H", socket.AF_UNIX) + path.encode() + b"\0"
    return lambda witness: witness.may_with_socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, "connect", address)


def _socket(domain: int, kind: int, protocol: int) -> Question:
    return lambda witness: witness.may_with_socket(domain, kind, protocol)


def _signal(other: str) -> Question:
    """Whether it may send signal 0, and so any."""
    return lambda witness: witness.may("kill", witness.others[other], 0)


def _map(protection: int) -> Question:
    def question(witness: Witness) -> bool:
        address = witness.get("mmap", 0, mmap.PAGESIZE, protection, _ANONYMOUS, -1, 0)
        if address == -errno.EACCES:
            return False
        if address < 0:
            raise AssertionError(f"mmap: {errno.errorcode[-address]}")
        witness.process.call("munmap", address, mmap.PAGESIZE)
        return True

    return question


_STATE: Final = "/var/lib/wesher"
_RUNTIME: Final = "/run/wesher"

STRANGER: Final = "another process of its uid"
SIGNALLED: Final = ("the agent", "the helper", "logpipe", "wireguard-go", "a process of root's", STRANGER)

TABLES: Final[dict[str, dict[str, Question]]] = {
    "Files": {
        "read what everybody may in /etc": _read("/etc/passwd"),
        "read /etc/shadow": _read("/etc/shadow"),
        "read the state file": _read(f"{_STATE}/{INTERFACE}.json"),
        "read a program in /usr": _read("/usr/bin/env"),
        "read its own files in /proc": _read("/proc/self/status"),
        "read the operator's cluster key file": _read(KEY_FILE),
        "write /etc/hosts, by its path": _write("/etc/hosts"),
        "make a file in the state directory": _make(f"{_STATE}/question"),
        "rename one there": _rename(f"{_STATE}/question"),
        "remove one there": _remove(f"{_STATE}/question"),
        "make a file in the runtime directory": _make(f"{_RUNTIME}/question"),
        "rename one in the runtime directory": _rename(f"{_RUNTIME}/question"),
        "remove one there, as its control socket": _remove(f"{_RUNTIME}/question"),
        "make a file in /tmp": _make("/tmp/question"),  # noqa: S108 - in the lab
    },
    "Network": {
        "send UDP anywhere": _udp,
        "connect by TCP to the cluster port": _tcp("connect", 7946),
        "connect by TCP to port 53": _tcp("connect", 53),
        "connect by TCP to another port": _tcp("connect", 22),
        "listen on another TCP port": _tcp("bind", 4444),
        "open a netlink socket": _socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
        "open a packet socket": _socket(socket.AF_PACKET, socket.SOCK_RAW, 0),
        "connect to wireguard-go's UAPI socket": _unix(f"/run/wireguard/{INTERFACE}.sock"),
    },
    "Memory": {
        "have memory that is writable": _map(_WRITABLE),
        "have memory that is writable and executable": _map(_WRITABLE | mmap.PROT_EXEC),
    },
    "Signals": {f"signal {other}": _signal(other) for other in SIGNALLED},
}
"""What is asked, by what the document calls it."""


def can_be_denied(title: str, said: str) -> bool:
    """Whether this kernel has what denies it to the processes that are locked down."""
    if title == "Memory":
        return sandbox.can_forbid_new_code()
    return landlock.abi() >= {"Files": 1, "Network": 4 if "TCP" in said else 0, "Signals": 6}[title]
