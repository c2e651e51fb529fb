"""The graph as text: a matrix where it fits a screen, and below it whatever is not as in a whole mesh, in sentences.

A row is what one member told: whom it sees, gossip's word, with WireGuard's handshake. Sentences name a member once for
each kind of exception, so that a mesh in two halves is told in as many lines as it has members, and no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from wesher.graph.sights import ALIVE, SUSPECT, Graph, Pair, read
from wesher.mesh.contest import HANDSHAKE_COUNTS
from wesher.show import duration, harmless, plain, table

LARGEST_MATRIX: Final = 30
"""Members: so many columns fit beside their names."""

_MOST_NAMED: Final = 8
"""Names in one sentence."""

_MOST_SENTENCES: Final = 100

_LONG: Final = duration(HANDSHAKE_COUNTS)

_SIGNS: Final[Mapping[str, str]] = {
    ".": "itself",
    "*": f"sees it, handshake within {_LONG}",
    "o": "sees it, older handshake or none",
    "+": "sees it, handshakes not told",
    "?": "suspects it",
    "x": "holds it for failed",
    "l": "holds it for left",
    "-": "does not know it",
    " ": "has not told",
}
_OF_STATE: Final = {SUSPECT: "?", "failed": "x", "left": "l", None: "-"}

_ONE_WAY: Final = "does not see, and is seen by"
_APART: Final = "does not see, nor is seen by"
_UNTOLD: Final = "does not see (and these have not told)"
_SUSPECTS: Final = "suspects"
_NO_HANDSHAKE: Final = "has had no handshake yet with"
_KINDS: Final = (_ONE_WAY, _APART, _UNTOLD, _SUSPECTS, _NO_HANDSHAKE)


def graph_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """`wesher graph`. Raises KeyError, TypeError or ValueError where the answer is none of this version."""
    return map(harmless, _graph_lines(read(answer)))


def _graph_lines(graph: Graph) -> Iterator[str]:
    if len(graph.names) < 2:
        yield "nobody but this node is known"
        return
    pairs = list(graph.pairs())
    both = sum(pair.one_sees and pair.other_sees is True for pair in pairs)
    told = sum(pair.other_sees is not None for pair in pairs)
    yield (
        f"{len(graph.names)} members, of whom {len(graph.tellers)} have told whom they see; "
        f"{both} of their {told} pairs see each other"
    )
    if len(graph.names) <= LARGEST_MATRIX:
        yield from _matrix(graph, pairs)
    found = list(_sentences(graph, pairs))
    yield from found[:_MOST_SENTENCES]
    if len(found) > _MOST_SENTENCES:
        yield f"and {len(found) - _MOST_SENTENCES} lines more; --json has everything"


def _matrix(graph: Graph, pairs: list[Pair]) -> Iterator[str]:
    of_pair = {frozenset((pair.one, pair.other)): pair for pair in pairs}
    told = set(graph.tellers)

    def sign(one: str, other: str, column: int) -> str:
        if one not in told:
            return " "
        if one == other:
            return "."
        state, pair = graph.state(one, column), of_pair[frozenset((one, other))]
        if state != ALIVE:
            return _OF_STATE.get(state, "-")
        return "*" if pair.shakes else "o" if pair.told else "+"

    rows = [
        [str(number), plain(one), *(sign(one, other, column) for column, other in enumerate(graph.names))]
        for number, one in enumerate(graph.names, 1)
    ]
    yield from table([["", "", *(str(number) for number in range(1, len(rows) + 1))], *rows])
    used = {sign for row in rows for sign in row[2:]}
    yield "a row sees a column:  " + "   ".join(f"{s} {means}" for s, means in _SIGNS.items() if s in used and s != " ")


def _sentences(graph: Graph, pairs: list[Pair]) -> Iterator[str]:
    for name, row in graph.rows.items():
        if row.sees is None:
            yield f"{plain(name)} has not answered: {row.failure}"
    exceptions = _exceptions(graph, pairs)
    for kind in _KINDS:
        for name in graph.names:
            if found := exceptions.get((kind, name)):
                yield f"{plain(name)} {kind}: {_named(found)}"
    old = sum(pair.age is not None and not pair.shakes for pair in pairs)
    if old:
        yield f"last handshake more than {_LONG} ago: {old} pairs; their tunnels are idle, or do not work"
    untold = [plain(name) for name in graph.tellers if graph.rows[name].ages is None]
    if untold:
        yield f"tell of no handshakes (Go nodes, or older versions): {_named(untold)}"
    if graph.not_asked:
        yield f"not asked: {graph.not_asked} members; in a large mesh some are, others each time"
    if graph.left_out:
        yield f"left out: {graph.left_out} names that others see and this node does not"


def _exceptions(graph: Graph, pairs: list[Pair]) -> dict[tuple[str, str], list[str]]:
    """What is to be said of whom, by kind and subject."""
    column = {name: number for number, name in enumerate(graph.names)}
    found: dict[tuple[str, str], list[str]] = {}

    def note(kind: str, one: str, other: str, more: str = "") -> None:
        found.setdefault((kind, one), []).append(plain(other) + (f" ({more})" if more else ""))

    for pair in pairs:
        for one, other, sees, is_seen in (
            (pair.one, pair.other, pair.one_sees, pair.other_sees),
            (pair.other, pair.one, pair.other_sees, pair.one_sees),
        ):
            if sees is None:
                continue
            state = graph.state(one, column[other])
            if state == SUSPECT:
                note(_SUSPECTS, one, other)
            if not sees and (is_seen or is_seen is None or one == pair.one):
                kind = _UNTOLD if is_seen is None else _ONE_WAY if is_seen else _APART
                shaken = f", handshake {duration(pair.age or 0)} ago" if pair.shakes else ""
                note(kind, one, other, (state or "not known") + shaken)
        if pair.one_sees and pair.told and pair.age is None:
            note(_NO_HANDSHAKE, pair.one, pair.other)
    return found


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
