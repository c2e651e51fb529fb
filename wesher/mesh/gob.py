"""A bounded reader of one value in Go's gob encoding, the form of a wesher node's metadata.

A gob stream describes itself: messages that define types come first, then one with a value of such a type. So a
reader needs no schema. It keeps the definitions, walks the value along them, and hands back names and values; what
they mean is for the caller, who picks fields by name, as Go does. That walk is also what makes unknown fields of any
kind skippable, which is how the format is extended.

The bytes come from any member of the mesh, so every bound is the input itself: a length or count may not exceed the
bytes that are left, and each step down into a type consumes at least one byte, so a type that contains itself ends
with the input. Definitions are resolved only where a value uses them; one that nothing uses costs nothing.

Layout (memberlist-protocol.md section 7.3; Go's encoding/gob documentation):

    stream   = { length:uint  -T:int  wireType }  length:uint  T:int  value
    uint     = one byte below 128, else the byte 256 - n and n big-endian bytes
    int      = uint, bit 0 says complement, the rest is the magnitude
    struct   = { delta:uint >= 1  value }  0            fields left out are zero
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias, cast

MAX_TOTAL = 4096  # eight times memberlist's MetaMaxSize of 512: room for a stranger's extensions, none for a bomb
MAX_NESTING = 16  # wesher's own values nest 2 deep; far below the interpreter's recursion limit
MAX_DEFINITIONS = 64  # wesher's own streams hold 2
FIRST_USER_ID = 64  # Go's firstUserId; older Go releases start at 65


class GobError(ValueError):
    """These bytes are not one bounded gob struct value. A stranger's mistake: count it and go on."""


class Marshaler(Enum):
    """The Go interface that made an opaque value; Go refuses to read one kind as another."""

    GOB = "GobEncoderT"
    BINARY = "BinaryMarshalerT"
    TEXT = "TextMarshalerT"


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value that its Go type encoded by itself, for example a netip.Addr."""

    marshaler: Marshaler
    data: bytes


@dataclass(frozen=True, slots=True)
class Interface:
    """The value of a Go interface, undecoded: the registered name of its type and its bytes. A nil has no name."""

    type_name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class GobMap:
    """A Go map as pairs in the order sent; its keys need not be hashable here."""

    items: tuple[tuple[GobValue, GobValue], ...]


_Scalar: TypeAlias = bool | int | float | complex | bytes | str
GobValue: TypeAlias = "_Scalar | Opaque | Interface | GobMap | tuple[GobValue, ...] | dict[str, GobValue]"


@dataclass(frozen=True, slots=True)
class _Array:
    element: int
    length: int


@dataclass(frozen=True, slots=True)
class _Slice:
    element: int


@dataclass(frozen=True, slots=True)
class _Struct:
    fields: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class _Map:
    key: int
    element: int


_Definition: TypeAlias = _Array | _Slice | _Struct | _Map | Marshaler

_BOOL, _INT, _UINT, _FLOAT, _BYTES, _STRING, _COMPLEX, _INTERFACE = range(1, 9)
_WIRE_TYPE, _ARRAY_TYPE, _COMMON_TYPE, _SLICE_TYPE, _STRUCT_TYPE, _FIELD_TYPE, _FIELD_TYPES, _MAP_TYPE = range(16, 24)
_MARSHALER_TYPE = 24  # Go gives its gobEncoderType no fixed id; inside a wireType none is ever sent

# A definition is itself a gob value, of these types, so it is read by the same walk as everything else.
_PREDEFINED: dict[int, _Definition] = {
    _WIRE_TYPE: _Struct(
        (
            ("ArrayT", _ARRAY_TYPE),
            ("SliceT", _SLICE_TYPE),
            ("StructT", _STRUCT_TYPE),
            ("MapT", _MAP_TYPE),
            ("GobEncoderT", _MARSHALER_TYPE),
            ("BinaryMarshalerT", _MARSHALER_TYPE),
            ("TextMarshalerT", _MARSHALER_TYPE),
        )
    ),
    _ARRAY_TYPE: _Struct((("CommonType", _COMMON_TYPE), ("Elem", _INT), ("Len", _INT))),
    _COMMON_TYPE: _Struct((("Name", _STRING), ("Id", _INT))),
    _SLICE_TYPE: _Struct((("CommonType", _COMMON_TYPE), ("Elem", _INT))),
    _STRUCT_TYPE: _Struct((("CommonType", _COMMON_TYPE), ("Field", _FIELD_TYPES))),
    _FIELD_TYPE: _Struct((("Name", _STRING), ("Id", _INT))),
    _FIELD_TYPES: _Slice(_FIELD_TYPE),
    _MAP_TYPE: _Struct((("CommonType", _COMMON_TYPE), ("Key", _INT), ("Elem", _INT))),
    _MARSHALER_TYPE: _Struct((("CommonType", _COMMON_TYPE),)),
}


def decode(data: bytes) -> dict[str, GobValue]:
    """Return the fields of the first value in a gob stream, which must be a struct, by their Go names.

    Fields that the sender left out because they are zero are absent. Whatever follows the value is ignored, as Go's
    decoder does. Raises GobError for anything else than one well-formed struct value within the bounds.
    """
    if len(data) > MAX_TOTAL:
        raise GobError("longer than 4096 bytes")
    cursor, types = _Cursor(data), _Types()
    cursor.next_message()
    return _struct(cursor, types, types.struct(_type_id(cursor, types)), depth=1)


def _type_id(cursor: _Cursor, types: _Types) -> int:
    """Read type definitions, each ending its message, up to the type id of a value."""
    while (type_id := cursor.signed()) < 0:
        types.define(-type_id, cursor)
        cursor.next_message()
    return type_id


@dataclass(slots=True)
class _Cursor:
    """A position in the current message of a stream; every read is checked against what is left of it."""

    data: bytes
    at: int = 0
    end: int = 0

    def left(self) -> int:
        return self.end - self.at

    def next_message(self) -> None:
        if self.left():
            raise GobError("bytes after a type definition")
        self.end = len(self.data)
        length = len(self.count())
        self.end = self.at + length

    def take(self, size: int) -> bytes:
        if size > self.left():
            raise GobError("a length exceeds the bytes that are left")
        self.at += size
        return self.data[self.at - size : self.at]

    def unsigned(self) -> int:
        first = self.take(1)[0]
        if first < 128:
            return first
        size = 256 - first
        if size > 8:
            raise GobError("an integer of more than 8 bytes")
        return int.from_bytes(self.take(size), "big")

    def signed(self) -> int:
        bits = self.unsigned()
        return ~(bits >> 1) if bits & 1 else bits >> 1

    def real(self) -> float:
        # The bits travel byte-reversed as a uint, so the uint's big-endian bytes are a little-endian double.
        (value,) = struct.unpack("<d", self.unsigned().to_bytes(8, "big"))
        return float(value)

    def counted(self) -> bytes:
        return self.take(self.unsigned())

    def text(self) -> str:
        return self.counted().decode("utf-8", "surrogateescape")

    def count(self) -> range:
        """How many bytes follow, or elements, each of which takes at least one byte, whatever its type."""
        count = self.unsigned()
        if count > self.left():
            raise GobError("a count exceeds the bytes that are left")
        return range(count)


_BASIC: dict[int, Callable[[_Cursor], GobValue]] = {
    _BOOL: lambda cursor: cursor.unsigned() != 0,
    _INT: _Cursor.signed,
    _UINT: _Cursor.unsigned,
    _FLOAT: _Cursor.real,
    _BYTES: _Cursor.counted,
    _STRING: _Cursor.text,
    _COMPLEX: lambda cursor: complex(cursor.real(), cursor.real()),
}


@dataclass(slots=True)
class _Types:
    """The type definitions of one stream, by id."""

    known: dict[int, _Definition] = field(default_factory=lambda: dict(_PREDEFINED))

    def __getitem__(self, type_id: int) -> _Definition:
        if type_id not in self.known:
            raise GobError("a value of an undefined type")
        return self.known[type_id]

    def struct(self, type_id: int) -> _Struct:
        definition = self.known.get(type_id)
        if not isinstance(definition, _Struct):
            raise GobError("the value is not a struct")
        return definition

    def define(self, type_id: int, message: _Cursor) -> None:
        if type_id < FIRST_USER_ID:
            raise GobError("a definition of a reserved type id")
        if type_id in self.known:
            raise GobError("a type id defined twice")
        if len(self.known) - len(_PREDEFINED) >= MAX_DEFINITIONS:
            raise GobError("more than 64 type definitions")
        self.known[type_id] = _definition(_struct(message, self, self.struct(_WIRE_TYPE), depth=1))


def _definition(wire_type: dict[str, GobValue]) -> _Definition:
    """Turn a decoded wireType into what the walk needs. CommonType's id repeats the message's; Go ignores it too."""
    if len(wire_type) != 1:
        raise GobError("a type definition that is not of exactly one kind")
    ((kind, body),) = wire_type.items()
    match kind, body:
        case "ArrayT", dict():
            return _Array(_number(body, "Elem"), _number(body, "Len"))
        case "SliceT", dict():
            return _Slice(_number(body, "Elem"))
        case "MapT", dict():
            return _Map(_number(body, "Key"), _number(body, "Elem"))
        case "StructT", dict():
            return _Struct(_named_fields(body.get("Field", ())))
        case _:
            return Marshaler(kind)


def _named_fields(entries: GobValue) -> tuple[tuple[str, int], ...]:
    fields = cast(tuple[dict[str, GobValue], ...], entries)  # by _PREDEFINED
    pairs = tuple((cast(str, entry.get("Name", "")), _number(entry, "Id")) for entry in fields)
    names = {name for name, _ in pairs}
    # Go reads the later of two fields of one name over the earlier. No Go struct has two: only an attack would.
    if "" in names or len(names) != len(pairs):
        raise GobError("a struct type with an unnamed field or two of one name")
    return pairs


def _number(fields: dict[str, GobValue], name: str) -> int:
    return cast(int, fields.get(name, 0))  # by _PREDEFINED


def _value(cursor: _Cursor, types: _Types, type_id: int, depth: int) -> GobValue:
    """Read one value of any type; `depth` counts the composites around it."""
    if read := _BASIC.get(type_id):
        return read(cursor)
    if type_id == _INTERFACE:
        return _interface(cursor, types)
    return _composite(cursor, types, types[type_id], depth + 1)


def _composite(cursor: _Cursor, types: _Types, definition: _Definition, depth: int) -> GobValue:
    if depth > MAX_NESTING:
        raise GobError("nested more than 16 deep")
    match definition:
        case _Struct():
            return _struct(cursor, types, definition, depth)
        case _Slice(element):
            return tuple(_value(cursor, types, element, depth) for _ in cursor.count())
        case _Array(element, length):
            count = cursor.count()
            if len(count) != length:
                raise GobError("an array of another length than its type")
            return tuple(_value(cursor, types, element, depth) for _ in count)
        case _Map(key, element):
            return GobMap(tuple(_pair(cursor, types, key, element, depth) for _ in cursor.count()))
        case Marshaler():
            return Opaque(definition, cursor.counted())


def _pair(cursor: _Cursor, types: _Types, key: int, element: int, depth: int) -> tuple[GobValue, GobValue]:
    return _value(cursor, types, key, depth), _value(cursor, types, element, depth)


def _struct(cursor: _Cursor, types: _Types, definition: _Struct, depth: int) -> dict[str, GobValue]:
    values: dict[str, GobValue] = {}
    index = -1
    while delta := cursor.unsigned():
        index += delta
        if index >= len(definition.fields):
            raise GobError("a field that its struct type does not have")
        name, type_id = definition.fields[index]
        values[name] = _value(cursor, types, type_id, depth)
    return values


def _interface(cursor: _Cursor, types: _Types) -> Interface:
    """Skip an interface's value by its length, as Go does for a field it does not know.

    Go defines a type that is first used here right here, within the value, which then goes on in the next message.
    """
    name = cursor.text()
    if not name:
        return Interface("", b"")
    _type_id(cursor, types)
    return Interface(name, cursor.counted())
