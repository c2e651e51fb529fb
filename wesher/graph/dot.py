"""The graph as a DOT file, for graphviz. Members are numbered, and named in labels only: a name may hold anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wesher.graph.drawing import COLOURS, LINES, label, lines
from wesher.graph.sights import read


def dot_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """`wesher graph --format dot`. Raises KeyError, TypeError or ValueError where the answer is none of ours."""
    graph = read(answer)
    told = set(graph.tellers)
    yield "digraph wesher {"
    yield f"  // {LINES}"
    for colour, means in COLOURS.items():
        yield f"  // {colour}: {means}"
    yield "  layout=circo; node [shape=box];"
    for number, name in enumerate(graph.names):
        style = "" if name in told else ", style=dashed"
        yield f"  n{number} [label={quoted(label(name))}{style}];"
    for line in lines(graph):
        direction = "none" if line.both else "forward"
        style = "solid" if line.known else "dashed"
        text = quoted(line.handshake)
        yield (f'  n{line.start} -> n{line.end} [dir={direction}, style={style}, color="{line.colour}", label={text}];')
    yield "}"


def quoted(text: str) -> str:
    """A string of DOT that is shown as `text`: what a quote, an escape and an entity begin with is escaped."""
    return '"' + text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') + '"'
