"""What daemons may say while machines are killed and cut off: lines of level error are named here, or are a complaint.

So is a violation in any words, and everything that is no line of our log: a traceback, a message of a library, a
mistake on the command line. wireguard-go's own lines are not ours to judge.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

ALWAYS: Final = ("stopped", "killed", "lives")

ERRORS: Final = (
    ("could not join cluster, retrying in ", ALWAYS),  # started while it was cut off, or everybody else was
    ("stopping: ", ("killed",)),  # an agent whose helper has been killed
    ("wireguard-go is gone", ("killed",)),  # and what there is to be taken down has gone with it
    ("taking down: wireguard-go does not answer", ("killed",)),
    ("taking down: No such device", ("killed",)),
    ("repair: wireguard-go does not answer", ("killed",)),
)
"""How a line of level error may begin, and in what life."""

NAMESAKE: Final = "not let in: the name "
"""What a node may say too that has crashed and begins elsewhere: it is not forgotten where it was. That it does
not stay so, its status tells at the end."""

WIREGUARD: Final = re.compile(r"(DEBUG|INFO|ERROR): \(\w+\) ")


def complaints(text: str, ending: str, *, has_moved: bool) -> Iterator[str]:
    """The lines of one life's output that should not be there; `ending` is how it ended."""
    named = (*ERRORS, (NAMESAKE, ALWAYS)) if has_moved else ERRORS
    for line in text.splitlines():
        if not WIREGUARD.match(line) and not _is_good(line, ending, named):
            yield line


def _is_good(line: str, ending: str, named: Iterable[tuple[str, tuple[str, ...]]]) -> bool:
    try:
        entry = json.loads(line)
        level, message = entry["level"], entry["message"]
    except (ValueError, KeyError, TypeError):
        return False
    if "violation" in message or "exception" in entry:
        return False
    return level != "error" or any(message.startswith(begin) and ending in endings for begin, endings in named)


def warnings(text: str) -> Iterator[str]:
    """The warnings in it, without what differs from time to time: numbers, addresses and names in quotes."""
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("warn", "error"):
            yield re.sub(r"'[^']*'|\b(node\d+|like\d+)\b|[\d.]+(:\d+)?", "…", str(entry.get("message")))
