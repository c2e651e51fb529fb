"""Every system call there is, under each profile: what has no row ends the process, and what has one for some
arguments does so for all others. The numbers are counted, and the arguments written down here once more."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import pytest

from privhelper import profiles, seccomp
from privhelper.seccomp import number_of

pytestmark = pytest.mark.needs(seccomp.is_available(), "seccomp")

SOURCE = (Path(__file__).parent / "filtered.py").read_text()
PROFILES = ("HELPER", "AGENT", "LOGPIPE")
NUMBERS = range(601)
X32 = 0x40000000
I386_GETPID = 20

KILLED, DONE = "SIGSYS", "done"
CARRIED_OUT = "carried out"
"""`done`, or the kernel's own error."""

THE_KERNELS = {335: {"SIGILL"}, 336: {"ENXIO", "SIGILL"}}
"""x86-64's uretprobe and uprobe: Linux 6.11 and later ask no filter about them, and say no to who is not probed."""

Call = Sequence[int | str]


def outcomes(profile: str, calls: Sequence[Call]) -> list[str]:
    """What becomes of each, in a process that has this profile, or "none"."""
    command = [sys.executable, "-c", SOURCE, profile]
    done = subprocess.run(command, input=json.dumps(calls), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def numbers_with_a_row(profile: str) -> set[int]:
    """Those that are looked at in one way or another."""
    return {number for row in getattr(profiles, profile) if (number := number_of(row.call)) is not None}


def survivors(profile: str, calls: Sequence[Call]) -> dict[int | str, str]:
    """Those that did not die of the filter, and what became of them."""
    found = zip(calls, outcomes(profile, calls), strict=True)
    return {call[-1] if call[0] == "int80" else call[0]: outcome for call, outcome in found if outcome != KILLED}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("profile", PROFILES)
def test_every_number_without_a_row_kills(profile: str) -> None:
    """0 to 600, of which Linux has not given out the last hundred yet."""
    calls = [(number, *[0] * 6) for number in NUMBERS if number not in numbers_with_a_row(profile)]
    assert len(calls) > 500
    left = survivors(profile, calls)
    of_the_kernels = THE_KERNELS if platform.machine() == "x86_64" else {}
    assert {} == {number: said for number, said in left.items() if said not in of_the_kernels.get(int(number), ())}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of another architecture to try are x86's")
@pytest.mark.parametrize("profile", PROFILES)
def test_other_architectures_numbers_kill(profile: str) -> None:
    """x32's, which are ours and a bit; i386's by its own way in, where the kernel has one. Those that have rows too."""
    x32 = [(X32 + number, *[0] * 6) for number in (*sorted(numbers_with_a_row(profile)), *range(512, 548))]
    assert {} == survivors(profile, x32)
    has_i386 = outcomes("none", [("int80", I386_GETPID)]) == [DONE]
    i386 = [("int80", number) for number in (*range(1, 48), 102, 120, 192, 295, 322, 359, 361, 362, 369)]
    assert {} == survivors(profile, i386) if has_i386 else {"SIGSEGV"} == set(survivors(profile, i386).values())


# --- arguments: what each call is answered, by profile. What is not said is KILLED.

AGENTS_SOCKETS = frozenset(
    (domain, kind | flags, protocol)
    for domain in (2, 10)
    for kind, protocols in ((1, (0, 6)), (2, (0, 17)))
    for flags in (0, 0o4000, 0o2000000, 0o2004000)
    for protocol in protocols
)
HIGH = 1 << 32
"""A bit that the kernel does not see in an int: a filter has to."""


def sockets() -> Iterator[tuple[int, ...]]:
    """Domain, type and protocol: every domain, and all that there is of IPv4 and IPv6."""
    yield from product((*range(-1, 48), 255, HIGH, HIGH + 2, HIGH + 10), (1, 3), (0,))
    yield from product((2, 10), range(12), (0, 1, 6, 17, 58, 132, 136, 255, 262))
    yield from product((2, 10), (kind | flags for kind in (1, 2, 3) for flags in (0o4000, 0o2000000, 0o2004000)), (0,))
    yield from product((2, 10), (1 | 0o100, 2 | 1 << 20, 1 | HIGH), (0, HIGH + 6))


def expected_socket(profile: str, arguments: tuple[int, ...]) -> str:
    """Of the agent: TCP and UDP. The others': none."""
    if profile == "AGENT" and arguments[0] in (2, 10):
        return CARRIED_OUT if arguments in AGENTS_SOCKETS else KILLED
    return "EAFNOSUPPORT"


IOCTLS = (0x5401, 0x5421, 0x541B, 0x5451)  # TCGETS, FIONBIO, FIONREAD, FIOCLEX
OTHER_IOCTLS = (
    *(0, 0x5402, 0x5403, 0x5404, 0x540E, 0x5412, 0x5413, 0x5414, 0x541C, 0x541D, 0x5423, 0x5450, 0x5452, 0x5460),
    *(
        0x8901,
        0x8902,
        0x890B,
        0x8912,
        0x8914,
        0x8915,
        0x8916,
        0x8933,
        0x8946,
        0x89A0,
        0x89F0,
    ),  # sockets, links, bridges
    *(0x400454CA, 0x400454CD, 0x40049409, 0x40086602, 0xB701, 0xC0189436, 0x5412 + HIGH, 0x5421 + HIGH, 0x5401 + HIGH),
)


INTERFACES_ADDRESS = {"AGENT": (0x8915,), "HELPER": (), "LOGPIPE": ()}  # SIOCGIFADDR


def expected_ioctl(profile: str, arguments: tuple[int, ...]) -> str:
    """Python's look whether a file is a terminal, and of sockets, whether they block and what waits; and the agent's,
    which address an interface has."""
    if arguments[1] == IOCTLS[0]:
        return "ENOTTY"
    return CARRIED_OUT if arguments[1] in (*IOCTLS, *INTERFACES_ADDRESS[profile]) and profile != "LOGPIPE" else KILLED


FCNTLS = {"AGENT": (1, 2, 3, 4), "HELPER": (1, 2, 3, 4, 37), "LOGPIPE": ()}
GETSOCKOPTS = {"AGENT": ((1, 4),), "HELPER": ((1, 17),), "LOGPIPE": ()}  # SO_ERROR; SO_PEERCRED
SETSOCKOPTS = {"AGENT": ((6, 1), (0, 11), (41, 25)), "HELPER": ((1, 83),), "LOGPIPE": ()}
LEVELS = (0, 1, 6, 17, 41, 255, HIGH + 6)
OPTIONS = (1, 2, 3, 4, 5, 9, 11, 13, 17, 23, 25, 30, 36, 50, 83, HIGH + 1)


def expected_memory(profile: str, arguments: tuple[int, ...]) -> str:
    """Whatever else is asked for: not to be executed."""
    return "EACCES" if arguments[2] & 4 else CARRIED_OUT


def table(profile: str) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Call, arguments and what they are answered."""
    for arguments in sockets():
        yield "socket", arguments, expected_socket(profile, arguments)
    for domain in (1, 2, 16, 40):
        yield "socketpair", (domain, 1, 0, 0), "EAFNOSUPPORT"
    for request in (*IOCTLS, *OTHER_IOCTLS):
        arguments = (0, request, 0)
        yield "ioctl", arguments, expected_ioctl(profile, arguments)
    for command in (*range(17), 36, 37, 38, *range(1024, 1043), HIGH + 3):
        yield "fcntl", (0, command, 0), CARRIED_OUT if command in FCNTLS[profile] else KILLED
    for call, allowed in (("getsockopt", GETSOCKOPTS[profile]), ("setsockopt", SETSOCKOPTS[profile])):
        for pair in product(LEVELS, OPTIONS):
            yield call, (0, *pair, 0, 0), CARRIED_OUT if pair in allowed else KILLED
    for protection in (*range(16), 0x01000000, 0x01000007, HIGH + 4, 2**63 + 4):
        for call in ("mmap", "mprotect"):
            arguments = (0, 4096, protection, 0x22, 2**64 - 1, 0)
            yield call, arguments, expected_memory(profile, arguments)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("profile", PROFILES)
def test_other_arguments_are_other_calls(profile: str) -> None:
    """Where a call has a row for some arguments, each of the others is answered as is written above."""
    rows = list(table(profile))
    found = outcomes(profile, [(_number(call), *arguments) for call, arguments, _ in rows])
    wrong = [
        (call, arguments, expected, outcome)
        for (call, arguments, expected), outcome in zip(rows, found, strict=True)
        if (outcome.startswith("SIG") if expected == CARRIED_OUT else outcome != expected)
    ]
    assert [] == wrong
    assert Counter(found)[KILLED] > 100, "what was tried is forbidden"


ANSWERED = {
    "HELPER": {
        "EPERM": "open openat openat2 creat access faccessat faccessat2 readlink readlinkat",
        "EAFNOSUPPORT": "socket socketpair",
    },
    "AGENT": {"EPERM": "access faccessat faccessat2 readlink readlinkat", "EAFNOSUPPORT": "socketpair", DONE: "listen"},
    "LOGPIPE": {
        "EPERM": "open openat openat2 creat access faccessat faccessat2 readlink readlinkat "
        "stat lstat newfstatat statx",
        "EAFNOSUPPORT": "socket socketpair",
    },
}
"""What is answered whatever the arguments: by a filter that does not look at what they point to."""


@pytest.mark.parametrize("profile", PROFILES)
def test_what_is_refused_without_a_kill_is_refused_with_one_error(profile: str) -> None:
    """Libraries try these and go another way; an attacker learns nothing from them."""
    rows = [(call, error) for error, calls in ANSWERED[profile].items() for call in calls.split()]
    rows = [(call, error) for call, error in rows if number_of(call) is not None]
    found = outcomes(profile, [(_number(call), *[0] * 6) for call, _ in rows])
    assert [error for _, error in rows] == found


def _number(call: str) -> int:
    number = number_of(call)
    assert number is not None, call
    return number
