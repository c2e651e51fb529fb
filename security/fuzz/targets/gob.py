"""One gob value of any type.

Promises: only GobError; a value no larger and no deeper than the input lets it be.
"""

from __future__ import annotations

from wesher.mesh import gob
from wesher.mesh.gob import GobError, GobMap, GobValue, Interface, Opaque


def check(data: bytes) -> None:
    """One stream."""
    try:
        found = gob.decode(data)
    except GobError:
        return
    assert len(data) <= gob.MAX_TOTAL
    _check_value(found, 0)
    assert _size(found) <= 2 * len(data) + 2, "a value that is larger than its bytes"


def _check_value(value: GobValue, depth: int) -> None:
    assert depth <= gob.MAX_NESTING
    match value:
        case dict():
            assert all(isinstance(name, str) and name for name in value)
    for inner in _parts(value):
        _check_value(inner, depth + 1)


def _size(value: GobValue) -> int:
    """Nodes of the value, and the bytes in it; a text's and a field's name count in its definition."""
    match value:
        case bytes() | str():
            return len(value)
        case Opaque(_, data):
            return len(data)
        case Interface(name, data):
            return len(name) + len(data)
        case _:
            return sum(1 + _size(inner) for inner in _parts(value))


def _parts(value: GobValue) -> list[GobValue]:
    match value:
        case dict():
            return list(value.values())
        case tuple():
            return list(value)
        case GobMap(items):
            return [part for pair in items for part in pair]
        case _:
            return []
