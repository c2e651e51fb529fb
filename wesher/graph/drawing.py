"""What DOT and SVG have in common: a line for each pair of which one sees the other, and what it looks like.

A line without arrow is seen from both ends, one with an arrow from there only, a dashed one from there, while the other
end has not told. Its colour is WireGuard's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from wesher.graph.sights import Graph, Pair
from wesher.mesh.contest import HANDSHAKE_COUNTS
from wesher.show import duration, plain

_LONGEST_LABEL: Final = 64

GREEN, ORANGE, GREY = "#1a7f37", "#d97706", "#8c8c8c"
COLOURS: Final = {
    GREEN: f"handshake within {duration(HANDSHAKE_COUNTS)}",
    ORANGE: "older handshake or none",
    GREY: "handshakes not told",
}
LINES: Final = "line: see each other; arrow: only one sees the other; dashed: the other has not told"


@dataclass(frozen=True, slots=True)
class Line:
    """From the column of one name to that of another."""

    start: int
    end: int
    both: bool
    known: bool
    colour: str
    handshake: str


def lines(graph: Graph) -> Iterator[Line]:
    """One for each pair, if any of the two sees the other."""
    column = {name: number for number, name in enumerate(graph.names)}
    for pair in graph.pairs():
        ends = (pair.one, pair.other) if pair.one_sees else (pair.other, pair.one)
        if pair.one_sees or pair.other_sees:
            yield Line(
                column[ends[0]],
                column[ends[1]],
                pair.one_sees and pair.other_sees is True,
                pair.other_sees is not None,
                GREEN if pair.shakes else ORANGE if pair.told else GREY,
                _handshake(pair),
            )


def label(name: str) -> str:
    """Printable ASCII, and not longer than can be drawn."""
    shown = plain(name)
    return shown if len(shown) <= _LONGEST_LABEL else shown[: _LONGEST_LABEL - 3] + "..."


def _handshake(pair: Pair) -> str:
    if not pair.told:
        return "not told"
    return "never" if pair.age is None else duration(pair.age)
