"""One line of the answer: how bad, of what, and how it is, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

_SHOWN: Final = 8
"""Names in one line, at most."""


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(NamedTuple):
    """One line: what was looked at, and how it is, why, and what to do."""

    level: Level
    what: str
    text: str


Said = Iterator[tuple[Level, str]]
"""What one row has to say, without its name."""


def ok(text: str) -> tuple[Level, str]:
    """As it should be."""
    return Level.OK, text


def warning(text: str) -> tuple[Level, str]:
    """It costs something, or could not be looked at."""
    return Level.WARNING, text


def error(text: str) -> tuple[Level, str]:
    """It would end the start."""
    return Level.ERROR, text


def findings_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """`wesher check`: a line each."""
    widths = max(map(len, Level)), max(len(finding.what) for finding in findings)
    for level, what, text in findings:
        yield f"{level:<{widths[0]}}  {what:<{widths[1]}}  {text}"


def some(texts: Sequence[str]) -> str:
    """A few of `texts`, and how many more there are."""
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return f"{', '.join(texts[:_SHOWN])}{more}"
