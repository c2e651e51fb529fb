"""Answers to /graph, as runtime/views.py shapes them (tests/unit/runtime/test_views.py compares)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

A, S, F, L = "alive", "suspect", "failed", "left"


def row(
    name: str, sees: Sequence[str | None] | None, ages: Sequence[float | None] | None = None, failure: str = ""
) -> dict[str, Any]:
    """What one member told."""
    return {
        "name": name,
        "failure": failure,
        "sees": None if sees is None else list(sees),
        "handshakes": None if ages is None else list(ages),
    }


def graph(names: Sequence[str], *rows: Mapping[str, Any], not_asked: int = 0, left_out: int = 0) -> dict[str, Any]:
    """A whole answer."""
    return {
        "from": names[0],
        "names": list(names),
        "observers": [dict(row) for row in rows],
        "not_asked": not_asked,
        "names_left_out": left_out,
    }


def whole(size: int, age: float | None = 5) -> dict[str, Any]:
    """Everybody sees everybody."""
    names = [f"n{number:04}" for number in range(size)]
    return graph(names, *(row(name, [A] * size, [None if name == other else age for other in names]) for name in names))


MIXED = graph(
    ["alpha", "bravo", "charlie", "delta", "echo", "go"],
    row("alpha", [A, A, A, A, F, A], [None, 12, 200, None, 30, 4]),
    row("bravo", [A, A, S, A, F, A], [11, None, None, 7, None, 9]),
    row("charlie", [A, A, A, None, None, A], [210, None, None, None, None, 2]),
    row("delta", [A, L, A, A, None, A], [None, 7, None, None, None, 100]),
    row("echo", None, None, "no answer in 4 s"),
    row("go", [A, A, A, A, F, A]),
    not_asked=2,
    left_out=1,
)
"""One of each: bravo and delta see each other one way, charlie and delta neither way or one, echo is silent."""

EVIL = graph(
    sorted(["me", 'x"; evil [label="', "</text><script>alert(1)</script>", "\x1b[2J\n&lt;\\N", "\udc80", "z" * 255]),
    *(row(name, [A] * 6, [3] * 6) for name in ("me", "</text><script>alert(1)</script>")),
    row("z" * 255, None, None, "\x1b[2J refused by\nme"),
)
"""Names that want to be something else."""
