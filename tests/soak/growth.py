"""What a process keeps: memory and descriptors, looked at again and again, and whether they have grown.

Memory is compared by medians: those of the first and the last quarter of what was seen after the first minutes, in
which Python's allocator comes to rest. A median does not care about a storm that happens to be under way. An agent
remembers who was there, so it may grow with every name that is gone, by what such a name costs.

Descriptors are compared twice: so, and exactly, at rest before the first event and after the last, without the streams
that are being dialled to who is gone for good.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

JUDGED: Final = ("agent", "helper", "logpipe")
"""wireguard-go is seen too, but it is not ours."""

MEMORY: Final = 1024
"""kB by which a process may have grown between the two quarters."""

A_NAME: Final = 6
"""kB by which an agent may have grown for each name that has gone between them: a name has 0.4 kB in the state file,
and 2.5 while the file is made; what the allocator keeps of that, and what else is known of it, is as much again."""

SYN_SENT: Final = "02"
"""In /proc/net/tcp."""

DESCRIPTORS: Final = 8
"""By which the median may differ: streams to those who are gone are under way, and more and more names are gone."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look: seconds since the beginning, proportional and resident memory in kB, open descriptors."""

    at: float
    pss: int
    rss: int
    descriptors: int


class Growth:
    """The looks at one process of one machine."""

    def __init__(self, whose: str, program: str, pid: int) -> None:
        self.whose = whose
        self.program = program
        self.pid = pid
        self.seen: list[Seen] = []

    def look(self, at: float) -> None:
        """Once more. Raises OSError where it has ended."""
        fields = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()[1:]
            if ":" in line
        )
        self.seen.append(Seen(at, _kb(fields["Pss"]), _kb(fields["Rss"]), count(self.pid)))

    def quarters(self, after: float) -> tuple[list[Seen], list[Seen]]:
        """The first and the last quarter of what was seen since `after`; each has one look at least."""
        seen = [one for one in self.seen if one.at >= after] or self.seen
        size = max(1, len(seen) // 4)
        return seen[:size], seen[-size:]

    def problems(self, after: float, gone: Iterable[float] = ()) -> Iterator[str]:
        """In what it has grown; `gone`: when names have gone for good."""
        if self.program not in JUDGED:
            return
        first, last = self.quarters(after)
        names = sum(first[0].at <= at <= last[-1].at for at in gone) if self.program == "agent" else 0
        for what, allowed, unit in (("rss", MEMORY + names * A_NAME, " kB"), ("descriptors", DESCRIPTORS, "")):
            before, now = (median(getattr(one, what) for one in part) for part in (first, last))
            if now - before > allowed:
                yield f"{self.whose}'s {self.program}: {what} {before:g}{unit}, then {now:g}{unit}, {names} names gone"

    def told(self, after: float) -> str:
        """In a line."""
        first, last = self.quarters(after)
        parts = (
            f"{what} {median(getattr(one, what) for one in first):g} → {median(getattr(one, what) for one in last):g}"
            for what in ("rss", "pss", "descriptors")
        )
        return f"{self.whose:8} {self.program:12} {'  '.join(parts)}"


def count(pid: int) -> int:
    """How many descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def lasting(pid: int) -> int:
    """How many of them are no stream that is being dialled: who is gone for good is tried again and again."""
    open_ = [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
    rows = [row.split() for row in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    dialled = {f"socket:[{row[9]}]" for row in rows if row[3] == SYN_SENT}
    return sum(link not in dialled for link in open_)


def table(growths: Iterable[Growth]) -> str:
    """Everything seen, for whoever wants to draw it."""
    rows = (f"{g.whose}\t{g.program}\t{s.at:.0f}\t{s.pss}\t{s.rss}\t{s.descriptors}" for g in growths for s in g.seen)
    return "\n".join(("machine\tprogram\tseconds\tpss_kb\trss_kb\tdescriptors", *rows, ""))


def _kb(field: str) -> int:
    return int(field.split(maxsplit=1)[0])
