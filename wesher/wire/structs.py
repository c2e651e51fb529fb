"""One memberlist struct in msgpack, written strictly and read as liberally as the Go decoders read it.

A struct is a map from Go field names to values in byte order of the names; text and bytes are both `raw` of the old
msgpack spec (protocol 3.1). The reader takes what both Go decoder families take (protocol 3.3): an array in
declaration order instead of the map, nil for anything, absent and unknown fields, the last of duplicate keys, bytes
spelt as an array, any width of integer, trailing bytes. It goes field by field and skips what it does not know
without building it, so a stranger's containers cost no memory.
"""

from collections.abc import Iterable, Mapping

import msgpack  # type: ignore[import-untyped, unused-ignore]  # no type information published

from wesher.wire.errors import Reason, WireError
from wesher.wire.limits import MAX_BYTE_ARRAY, MAX_STRUCT_FIELDS

_NIL = 0xC0
_ARRAY_TAGS = frozenset({*range(0x90, 0xA0), 0xDC, 0xDD})
_MAP_TAGS = frozenset({*range(0x80, 0x90), 0xDE, 0xDF})


def write_struct(fields: Mapping[bytes, object]) -> bytes:
    """The struct as a map in byte order of its keys.

    Signed fields take the form of go-msgpack 0.5.5 (128 is `cc 80`), which every decoder accepts (protocol 3.2).
    """
    packed: bytes = msgpack.packb(dict(sorted(fields.items())), use_bin_type=False)
    return packed


def read_struct(names: tuple[bytes, ...], data: bytes) -> "Fields":
    """The struct at the start of `data`; what follows it is ignored. Raises WireError."""
    return StructReader(data).read(names)


class Fields:
    """A struct's known fields, typed on access. Absent and nil read as the zero value, as in Go."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[bytes, object]) -> None:
        self._values = values

    def unsigned(self, name: bytes, bits: int) -> int:
        """An unsigned field of `bits` bits; never a float, a bool or text. Raises WireError out of range."""
        value = self._number(name)
        if not 0 <= value < 1 << bits:
            raise _malformed(name, f"{value} does not fit {bits} bits")
        return value

    def signed(self, name: bytes) -> int:
        """A Go int field. Beyond int64 it wraps, as there: a huge count is a negative one."""
        value = self._number(name)
        return value - (1 << 64) if value >= 1 << 63 else value

    def flag(self, name: bytes) -> bool:
        """A bool field, which Go also reads from the integers 0 and 1."""
        value = self._values.get(name)
        if value is None or (isinstance(value, int) and value in (0, 1)):
            return bool(value)
        raise _malformed(name, "not a bool")

    def octets(self, name: bytes) -> bytes:
        """A bytes field from any raw, bin or array of small integers."""
        value = self._values.get(name)
        if value is None:
            return b""
        if isinstance(value, bytes):
            return value
        raise _malformed(name, "not bytes")

    def text(self, name: bytes) -> str:
        """A string field; bytes that are not UTF-8 survive as surrogates."""
        return self.octets(name).decode("utf-8", "surrogateescape")

    def _number(self, name: bytes) -> int:
        value = self._values.get(name)
        if value is None:
            return 0
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise _malformed(name, "not an integer")


class StructReader:
    """Reads structs one after another out of `data`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._unpacker = msgpack.Unpacker(
            raw=True,
            strict_map_key=False,
            object_pairs_hook=tuple,  # a map where a scalar belongs is a wrong type, never an unhashable key
            max_buffer_size=max(1, len(data)),  # 0 would mean no limit
            max_str_len=len(data),
            max_bin_len=len(data),
            max_array_len=MAX_BYTE_ARRAY,  # msgpack allocates what a header claims, level by level
            max_map_len=MAX_STRUCT_FIELDS,
            max_ext_len=len(data),
        )
        self._unpacker.feed(data)

    @property
    def offset(self) -> int:
        """Where the next struct begins."""
        at: int = self._unpacker.tell()
        return at

    def read(self, names: tuple[bytes, ...]) -> Fields:
        """The next struct; `names` are its fields in declaration order, which is the array form's. Raises WireError."""
        try:
            return Fields(self._known_values(names))
        except _MSGPACK_ERRORS as error:
            raise _unreadable(error) from None

    def skip(self) -> None:
        """Pass over the next object, whatever it is. Raises WireError."""
        try:
            self._unpacker.skip()
        except _MSGPACK_ERRORS as error:
            raise _unreadable(error) from None

    def _known_values(self, names: tuple[bytes, ...]) -> dict[bytes, object]:
        tag = self._data[self.offset] if self.offset < len(self._data) else None
        if tag is None:
            raise WireError(Reason.TRUNCATED, "no struct")
        if tag in _MAP_TAGS:
            return self._from_map(names, self._unpacker.read_map_header())
        if tag in _ARRAY_TAGS:
            return self._from_array(names, self._unpacker.read_array_header())
        if tag != _NIL:
            raise WireError(Reason.MALFORMED, f"a struct cannot begin with {tag:#04x}")
        self._unpacker.skip()
        return {}

    def _from_map(self, names: tuple[bytes, ...], count: int) -> dict[bytes, object]:
        _check_count(count)
        values = {}
        for _ in range(count):
            key = self._unpacker.unpack()
            if not isinstance(key, bytes):
                raise WireError(Reason.MALFORMED, "a field name is not text")
            if key in names:
                values[key] = self._value()
            else:
                self._unpacker.skip()
        return values

    def _from_array(self, names: tuple[bytes, ...], count: int) -> dict[bytes, object]:
        _check_count(count)
        values = {name: self._value() for name in names[:count]}
        for _ in range(count - len(values)):
            self._unpacker.skip()
        return values

    def _value(self) -> object:
        value = self._unpacker.unpack()
        return _bytes_of(value) if isinstance(value, list) else value


_MSGPACK_ERRORS = (msgpack.UnpackException, ValueError)


def _bytes_of(values: Iterable[object]) -> bytes:
    """Bytes spelt as an array; msgpack knows no byte type that Go would not read from one."""
    numbers = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    if numbers != values:
        raise WireError(Reason.MALFORMED, "an array of something else than bytes")
    return bytes(numbers)  # ValueError beyond 255


def _check_count(count: int) -> None:
    if count > MAX_STRUCT_FIELDS:
        raise WireError(Reason.MALFORMED, f"a struct of {count} fields")


def _malformed(name: bytes, what: str) -> WireError:
    return WireError(Reason.MALFORMED, f"{name.decode()}: {what}")


def _unreadable(error: Exception) -> WireError:
    if isinstance(error, msgpack.OutOfData):
        return WireError(Reason.TRUNCATED, "the struct ends early")
    return WireError(Reason.MALFORMED, f"msgpack: {error or type(error).__name__}")
