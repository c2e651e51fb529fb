"""The profiles as one table: call, arguments, and how each process is answered; every number by its name.

Rows that differ in one argument become one row that lists its values; calls with the same arguments and answers one
row that lists the calls. A call that is not there, or with other arguments, kills.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Final

from privhelper.profiles import AGENT, HELPER, LOGPIPE, SIOCGIFADDR, Profile, Row, Test

PROFILES: Final[Mapping[str, Profile]] = {"agent": AGENT, "helper": HELPER, "logpipe": LOGPIPE}
"""In the order of the table's columns."""

KILLED: Final = "killed"
CARRIED_OUT: Final = "yes"
NOT_DONE: Final = "0, not done"


def _named(module: ModuleType, names: str) -> Mapping[int, str]:
    return {getattr(module, name): name for name in names.split()}


_ARGUMENTS: Final = {
    "fcntl": ("fd", "command"),
    "getsockopt": ("fd", "level", "option"),
    "ioctl": ("fd", "request"),
    "mmap": ("address", "length", "protection"),
    "mprotect": ("address", "length", "protection"),
    "sendmmsg": ("fd", "messages", "count", "flags"),
    "sendmsg": ("fd", "message", "flags"),
    "sendto": ("fd", "message", "length", "flags"),
    "setsockopt": ("fd", "level", "option"),
    "socket": ("domain", "type", "protocol"),
}

_LEVELS: Final = {
    socket.SOL_SOCKET: "SOL_SOCKET",
    socket.IPPROTO_IP: "IPPROTO_IP",
    socket.IPPROTO_IPV6: "IPPROTO_IPV6",
    socket.IPPROTO_TCP: "IPPROTO_TCP",
}
_OPTIONS: Final = {
    (socket.SOL_SOCKET, socket.SO_ERROR): "SO_ERROR",
    (socket.SOL_SOCKET, socket.SO_PEERCRED): "SO_PEERCRED",
    (socket.SOL_SOCKET, 83): "SO_PASSRIGHTS",
    (socket.IPPROTO_TCP, socket.TCP_NODELAY): "TCP_NODELAY",
    (socket.IPPROTO_IP, 11): "IP_RECVERR",
    (socket.IPPROTO_IPV6, 25): "IPV6_RECVERR",
}
_NAMES: Final[Mapping[str, Mapping[int, str]]] = {
    "command": _named(fcntl, "F_GETFD F_SETFD F_GETFL F_SETFL F_OFD_SETLK"),
    "request": {**_named(termios, "TCGETS FIONBIO FIONREAD FIOCLEX"), SIOCGIFADDR: "SIOCGIFADDR"},
    "protection": {4: "PROT_EXEC"},
    "flags": {socket.MSG_FASTOPEN: "MSG_FASTOPEN"},
    "level": _LEVELS,
    "domain": _named(socket, "AF_INET AF_AX25 AF_IPX AF_APPLETALK AF_NETROM AF_BRIDGE AF_ATMPVC AF_X25 AF_INET6"),
    "protocol": {0: "0", socket.IPPROTO_TCP: "IPPROTO_TCP", socket.IPPROTO_UDP: "IPPROTO_UDP"},
    "type": {
        kind | flags: f"{kind.name}{said}"
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        for flags, said in (
            (0, ""),
            (socket.SOCK_NONBLOCK, "+SOCK_NONBLOCK"),
            (socket.SOCK_CLOEXEC, "+SOCK_CLOEXEC"),
            (socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, "+both"),
        )
    },
}
_WORDS: Final[Mapping[Test, str]] = {"==": "", "<": "below ", ">": "above ", "has": "with ", "lacks": "without "}

Condition = tuple[tuple[str, tuple[str, ...]], ...]
"""Argument's name, and the values of which it has one; all of a row's must hold. Of what is not there: any."""


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table; `answers` in the order of PROFILES."""

    calls: tuple[str, ...]
    condition: Condition
    answers: tuple[str, ...]


def table() -> list[str]:
    """The table's lines, in Markdown."""
    head = f"| calls | arguments | {' | '.join(PROFILES)} |"
    rule = "|---|---|" + "---|" * len(PROFILES)
    found = lines()
    partly = {call for line in found if line.condition for call in line.calls}
    return [head, rule, *(_markdown(line, "any other" if partly.issuperset(line.calls) else "any") for line in found)]


def lines() -> list[Line]:
    """What the table says."""
    found: dict[tuple[str, Condition], Line] = {}
    for profile in PROFILES.values():
        for row in profile:
            key = (row.call, condition(row))
            found.setdefault(key, Line((row.call,), key[1], _answers(*key)))
    alike: list[Line] = []
    for line in found.values():
        _merge(alike, line)
    return sorted(_one_line_a_row(alike), key=lambda line: (line.condition != (), -_told(line), line.calls))


def _told(line: Line) -> int:
    return sum(answer == CARRIED_OUT for answer in line.answers)


def _answers(call: str, when: Condition) -> tuple[str, ...]:
    """What each process is answered: by its row for that, else by its row for any arguments."""
    answers = []
    for profile in PROFILES.values():
        rows = {condition(row): row for row in profile if row.call == call}
        row = rows.get(when) or rows.get(())
        answers.append(KILLED if row is None else _answer(row))
    return tuple(answers)


def _answer(row: Row) -> str:
    if row.answer is None:
        return CARRIED_OUT
    return errno.errorcode[row.answer] if row.answer else NOT_DONE


def condition(row: Row) -> Condition:
    """When a row holds, in words. Raises LookupError where a number has none."""
    numbers = {position: number for position, _, number in row.when}
    found = []
    for position, test, number in row.when:
        argument = _ARGUMENTS[row.call][position]
        name = _OPTIONS.get((numbers[1], number)) if argument == "option" else _NAMES[argument].get(number)
        if name is None:
            raise LookupError(f"{argument} {number} of {row.call} has no name; add it to {__name__}")
        found.append((argument, (_WORDS[test] + name,)))
    return tuple(found)


def _merge(alike: list[Line], line: Line) -> None:
    """Add `line`, made one with any that differs from it in one argument's values alone, as often as that helps."""
    for index, other in enumerate(alike):
        if (other.calls, other.answers) == (line.calls, line.answers) and (both := _joined(other, line)) is not None:
            del alike[index]
            _merge(alike, both)
            return
    alike.append(line)


def _joined(one: Line, other: Line) -> Line | None:
    if [argument for argument, _ in one.condition] != [argument for argument, _ in other.condition]:
        return None
    apart = [index for index, pair in enumerate(zip(one.condition, other.condition, strict=True)) if pair[0] != pair[1]]
    if len(apart) != 1:
        return None
    joined = list(one.condition)
    argument, values = joined[apart[0]]
    joined[apart[0]] = (argument, values + other.condition[apart[0]][1])
    return replace(one, condition=tuple(joined))


def _one_line_a_row(alike: Sequence[Line]) -> list[Line]:
    with_conditions = {line.calls for line in alike if line.condition}
    together: dict[tuple[Condition, tuple[str, ...], bool], tuple[str, ...]] = {}
    for line in alike:
        # A call that has other rows as well stands alone: there "any" means any other.
        key = (line.condition, line.answers, line.condition == () and line.calls in with_conditions)
        together[key] = tuple(sorted(together.get(key, ()) + line.calls))
    return [Line(calls, when, answers) for (when, answers, _), calls in together.items()]


def _markdown(line: Line, without_condition: str) -> str:
    calls = " ".join(f"`{call}`" for call in line.calls)
    when = "; ".join(f"{argument} {', '.join(values)}" for argument, values in line.condition) or without_condition
    return f"| {calls} | {when} | {' | '.join(line.answers)} |"
