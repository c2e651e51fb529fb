"""The graph as a drawing: members on a circle, lines between them. No script, no link, nothing loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import cos, pi, sin
from typing import Any, Final

from wesher.graph.drawing import COLOURS, LINES, Line, label, lines
from wesher.graph.sights import Graph, read

_BETWEEN: Final = 26
"""Along the circle, from one member to the next: more than a line of text is high."""
_SMALLEST: Final = 120
_CHARACTER: Final = 8
"""Width of one, in the font's size below."""
_LEGEND: Final = _CHARACTER * (len(LINES) + 5)
_DOT: Final = 5


def svg_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """`wesher graph --format svg`. Raises KeyError, TypeError or ValueError where the answer is none of ours."""
    graph = read(answer)
    radius = max(_SMALLEST, len(graph.names) * _BETWEEN / (2 * pi))
    beside = _CHARACTER * max((len(label(name)) for name in graph.names), default=0) + 4 * _DOT
    width, height = max(_LEGEND, 2 * (radius + beside)), 2 * radius + 160
    centre = (width / 2, radius + 50)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="monospace" font-size="13">'
    )
    yield "<title>wesher: who sees whom</title>"
    yield '<rect width="100%" height="100%" fill="white"/>'
    yield (
        '<marker id="arrow" viewBox="0 0 10 10" refX="16" refY="5" markerWidth="9" markerHeight="9" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L10 5L0 10z"/></marker>'
    )
    places = [_place(number, len(graph.names), centre, radius) for number in range(len(graph.names))]
    for line in lines(graph):
        yield _drawn(line, graph, places)
    for number, name in enumerate(graph.names):
        yield _member(name, places[number], centre[0], told=name in graph.rows and graph.rows[name].sees is not None)
    for number, (colour, means) in enumerate(COLOURS.items()):
        yield f'<text x="20" y="{height - 60 + 16 * number:.0f}" fill="{colour}">{escaped(means)}</text>'
    yield f'<text x="20" y="{height - 12:.0f}">{escaped(LINES)}</text>'
    yield "</svg>"


def escaped(text: str) -> str:
    """Text of XML, also within quotes."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(character, entity)
    return text


def _place(number: int, count: int, centre: tuple[float, float], radius: float) -> tuple[float, float]:
    """The first is at the top, the others follow clockwise."""
    angle = 2 * pi * number / max(1, count) - pi / 2
    return centre[0] + radius * cos(angle), centre[1] + radius * sin(angle)


def _drawn(line: Line, graph: Graph, places: list[tuple[float, float]]) -> str:
    (x1, y1), (x2, y2) = places[line.start], places[line.end]
    look = "" if line.both else ' marker-end="url(#arrow)"'
    look += "" if line.known else ' stroke-dasharray="4 3"'
    between = f"{label(graph.names[line.start])} {'and' if line.both else 'sees'} {label(graph.names[line.end])}"
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{line.colour}"{look}>'
        f"<title>{escaped(f'{between}; handshake: {line.handshake}')}</title></line>"
    )


def _member(name: str, place: tuple[float, float], middle: float, *, told: bool) -> str:
    x, y = place
    is_left = x < middle - 1
    anchor, beside = ("end", x - 2 * _DOT) if is_left else ("start", x + 2 * _DOT)
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_DOT}" fill="{"black" if told else "white"}" stroke="black"/>'
        f'<text x="{beside:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{escaped(label(name))}</text>'
    )
