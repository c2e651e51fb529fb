"""What a stranger's log says against us. Every warning or error of memberlist counts, and every panic, except what the
table names: lines that a healthy cluster writes too. A test that provokes more has to name it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

COMPLAINT = re.compile(r"\[(WARN|ERR|ERROR)\]|^panic:|^fatal error:|DATA RACE")

HARMLESS = (
    # a joiner's own merge accuses it in its own name, when the others remember it as suspect or dead
    r"Refuting a suspect message \(from: {name}\)",
    # of its own sockets: it has left and is shutting down, while another part of it still sends
    r": use of closed network connection$",
    r"agent: Serf shutdown detected, quitting",  # how serf ends, once it has left
)
"""Regular expressions; `{name}` is the writer's own name."""


def complaints(log: Iterable[str], name: str, allowed: Sequence[str] = ()) -> list[str]:
    """The lines of `name`'s log that complain, without those that a pattern of HARMLESS or `allowed` finds."""
    patterns = [_compiled(pattern, name) for pattern in (*HARMLESS, *allowed)]
    return [line for line in log if COMPLAINT.search(line) and not any(pattern.search(line) for pattern in patterns)]


def has_written(name: str, log: Iterable[str], pattern: str) -> bool:
    """Whether a line of `name`'s log is like this."""
    return any(map(_compiled(pattern, name).search, log))


def _compiled(pattern: str, name: str) -> re.Pattern[str]:
    return re.compile(pattern.replace("{name}", re.escape(name)))
