"""Who sees whom: the daemon's answer, read into rows, and those into pairs.

Gossip's sight has a direction: each member was asked for its own, and one that has not told sees nobody knows whom. A
handshake has none, as it takes both ends: what either tells of it holds for the pair, and the later one where both do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from wesher.mesh.contest import HANDSHAKE_COUNTS

ALIVE: Final = "alive"
SUSPECT: Final = "suspect"


@dataclass(frozen=True, slots=True)
class Row:
    """What one member told, or why it did not; None where it told nothing. Both go with the graph's names."""

    failure: str
    sees: tuple[str | None, ...] | None
    ages: tuple[float | None, ...] | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two members, of whom `one` has told what it sees. `told`: whether either tells of handshakes with the other;
    `age` of the last one in seconds, None where there has been none."""

    one: str
    other: str
    one_sees: bool
    other_sees: bool | None
    told: bool
    age: float | None

    @property
    def shakes(self) -> bool:
        """Whether their tunnel works, by what is told: an idle one tells nothing."""
        return self.age is not None and self.age <= HANDSHAKE_COUNTS


@dataclass(frozen=True, slots=True)
class Graph:
    """The whole answer: who was asked has a row, by name; `names` are all that anybody sees."""

    names: tuple[str, ...]
    rows: Mapping[str, Row]
    not_asked: int
    left_out: int

    @property
    def tellers(self) -> list[str]:
        """Who has told what it sees."""
        return [name for name in self.names if name in self.rows and self.rows[name].sees is not None]

    def pairs(self) -> Iterator[Pair]:
        """Each two of whom one has told something, once."""
        column = {name: number for number, name in enumerate(self.names)}
        tellers = self.tellers
        told = set(tellers)
        for one in tellers:
            for other in self.names:
                if other == one or (other in told and other < one):
                    continue
                here, there = column[one], column[other]
                ages = [
                    row.ages[at]
                    for row, at in ((self.rows[one], there), (self.rows.get(other), here))
                    if row is not None and row.ages is not None
                ]
                yield Pair(
                    one,
                    other,
                    _is_live(self.state(one, there)),
                    _is_live(self.state(other, here)) if other in told else None,
                    bool(ages),
                    min((age for age in ages if age is not None), default=None),
                )

    def state(self, name: str, column: int) -> str | None:
        """What a member that has told holds another for; None: it does not know it."""
        sees = self.rows[name].sees
        return None if sees is None else sees[column]


def read(answer: Mapping[str, Any]) -> Graph:
    """The graph in an answer of the daemon's. Raises KeyError, TypeError or ValueError where it is none."""
    names = tuple(map(_text, answer["names"]))
    if len(set(names)) < len(names) or list(names) != sorted(names):
        raise ValueError("names")
    rows = {_text(row["name"]): _row(row, len(names)) for row in answer["observers"]}
    if not rows.keys() <= set(names):
        raise ValueError("observers")
    return Graph(names, rows, int(_number(answer["not_asked"])), int(_number(answer["names_left_out"])))


def _row(row: Mapping[str, Any], size: int) -> Row:
    sees, ages = row["sees"], row["handshakes"]
    for told in (sees, ages):
        if told is not None and (not isinstance(told, list) or len(told) != size):
            raise ValueError("a row of another length")
    return Row(
        _text(row["failure"]),
        None if sees is None else tuple(None if state is None else _text(state) for state in sees),
        None if ages is None else tuple(None if age is None else _number(age) for age in ages),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(type(value).__name__)
    return float(value)


def _is_live(state: str | None) -> bool:
    return state in (ALIVE, SUSPECT)
