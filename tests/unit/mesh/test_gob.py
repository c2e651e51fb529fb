"""The gob reader: Go's own bytes, every kind of value, and streams made to hurt."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wesher.mesh import gob
from wesher.mesh.gob import GobError, GobMap, GobValue, Interface, Marshaler, Opaque, decode

GOLDEN = Path(__file__).parents[2] / "golden" / "mesh"
VECTORS = {name: bytes.fromhex(data) for name, data in json.loads((GOLDEN / "gob_vectors.json").read_text()).items()}
FACTS = {
    fact["name"]: bytes.fromhex(fact["hex"])
    for fact in json.loads((GOLDEN / "gob_go_verdicts.json").read_text())["facts"]
}
CORPUS = [*VECTORS.values(), *FACTS.values()]

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
V4 = bytes([10, 221, 153, 165])
V6 = bytes.fromhex("20010db8c5757277b806e99413dd99a5")

BOOL, INT, UINT, FLOAT, BYTES, STRING, COMPLEX, INTERFACE = range(1, 9)
ARRAY_T, SLICE_T, STRUCT_T, MAP_T, GOB_T, BINARY_T, TEXT_T = range(1, 8)


def uint(number: int) -> bytes:
    if number < 128:
        return bytes([number])
    body = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes([256 - len(body)]) + body


def sint(number: int) -> bytes:
    return uint(~number << 1 | 1 if number < 0 else number << 1)


def counted(data: bytes) -> bytes:
    return uint(len(data)) + data


def definition(type_id: int, kind: int, *ints: int) -> bytes:
    """A message that defines an array, slice or map by the type ids (and length) in its numbered fields."""
    body = b"\1\0" + b"".join(b"\1" + sint(number) for number in ints)
    return counted(sint(-type_id) + uint(kind) + body + b"\0\0")


def struct_definition(type_id: int, fields: Iterable[tuple[str, int]]) -> bytes:
    entries = [b"\1" + counted(name.encode()) + b"\1" + sint(field) + b"\0" for name, field in fields]
    body = b"\1\0\1" + uint(len(entries)) + b"".join(entries)
    return counted(sint(-type_id) + uint(STRUCT_T) + body + b"\0\0")


def holder(field_type: int) -> bytes:
    """Type 65 is a struct of one field V."""
    return struct_definition(65, [("V", field_type)])


def holding(value: bytes) -> bytes:
    """A message with a value of type 65, its one field being these bytes."""
    return counted(sint(65) + b"\1" + value + b"\0")


NET_IP_V4: GobValue = {"IP": V4, "Mask": b"\xff" * 4}
ADDR_V4 = Opaque(Marshaler.BINARY, V4)

VECTOR_VALUES: dict[str, dict[str, GobValue]] = {
    "v026_v4": {"OverlayAddr": NET_IP_V4, "PubKey": KEY},
    "v026_v6": {"OverlayAddr": {"IP": V6, "Mask": b"\xff" * 16}, "PubKey": KEY},
    "v026_zero-addr": {"OverlayAddr": {}, "PubKey": "x"},
    "v026_zero": {"OverlayAddr": {}},
    "master_v4": {"OverlayAddr": ADDR_V4, "PubKey": KEY},
    "master_v6": {"OverlayAddr": Opaque(Marshaler.BINARY, V6), "PubKey": KEY},
    "master_v4in6": {
        "OverlayAddr": Opaque(Marshaler.BINARY, bytes.fromhex("00000000000000000000ffff0a010203")),
        "PubKey": KEY,
    },
    "master_zone": {
        "OverlayAddr": Opaque(Marshaler.BINARY, bytes.fromhex("fe80000000000000000000000000000165746830")),
        "PubKey": KEY,
    },
    "master_zero-addr": {"PubKey": KEY},
    "master_zero": {},
    "master_with_extra_fields": {
        "OverlayAddr": ADDR_V4,
        "PubKey": KEY,
        "Ver": 300,
        "Name": "x",
        "Blob": b"\1\2",
        "Neg": -5,
        "F": 1.5,
        "L": ("a",),
        "M": GobMap((("k", 1),)),
        "S": {"A": 1, "B": ("q",), "C": GobMap((("z", 2),))},
        "Other": ADDR_V4,
        "Arr": (1, 2, 3),
        "Bo": True,
    },
    "v026_with_extra_fields": {"OverlayAddr": NET_IP_V4, "PubKey": KEY, "Ver": 1, "Extra": b"\x09"},
}

APPENDED: dict[str, GobValue] = {
    "uint": 300,
    "int": -70000,
    "string": "x\udcffy",
    "bytes": b"\1\2\3",
    "float": -2.5,
    "complex": 1.5 - 2j,
    "bool": True,
    "slice of strings": ("a", "", "c"),
    "map": GobMap((("k", -1),)),
    "map with struct keys": GobMap((({"N": 1}, True),)),
    "nested struct": {"A": True, "B": 2, "C": ("q",), "D": GobMap((("z", 1),))},
    "slice of structs": ({"A": True}, {}),
    "byte array": (1, 2, 3),
    "array": (0, 5),
    "second address": Opaque(Marshaler.BINARY, bytes.fromhex("20010db8000000000000000000000007")),
    "GobEncoder": Opaque(Marshaler.GOB, bytes.fromhex("010000000ed6f0070000000000ffff")),
    "big integer": Opaque(Marshaler.GOB, bytes.fromhex("02010000000000")),
    "recursive struct": {"V": 1, "Next": {"V": 2, "Next": {"V": 3}}},
    "interface of int": Interface("int", b"\0\x0a"),
    "interface of struct": Interface("main.reg", b"\1\x12\0"),
}


def test_every_reference_vector_has_an_expected_value() -> None:
    """No vector goes untested because nobody wrote its value down."""
    assert VECTORS.keys() == VECTOR_VALUES.keys()


@pytest.mark.parametrize("name", VECTOR_VALUES)
def test_a_reference_vector_decodes_to_its_fields(name: str) -> None:
    """The metadata of both wesher versions, with zero values, zone, mapped address and extra fields."""
    assert decode(VECTORS[name]) == VECTOR_VALUES[name]


@pytest.mark.parametrize("form", ["0.2", "0.3"])
@pytest.mark.parametrize("kind", APPENDED)
def test_a_value_of_any_go_kind_decodes_and_leaves_the_next_field_in_place(kind: str, form: str) -> None:
    """Bytes from Go's encoder: the field in question, then Last uint = 9."""
    fields = decode(FACTS[f"{form} appended {kind}"])

    assert (fields["PubKey"], fields["Extra"], fields["Last"]) == (KEY, APPENDED[kind], 9)


def test_every_appended_kind_that_go_encoded_is_expected() -> None:
    """The table above covers the golden file."""
    assert {name[len("0.3 appended ") :] for name in FACTS if " appended " in name} == APPENDED.keys()


def test_a_text_marshaler_is_opaque() -> None:
    """Go defines this wire type but its own encoder does not use it."""
    stream = holder(66) + counted(sint(-66) + uint(TEXT_T) + b"\1\0\0\0") + holding(counted(b"10.0.0.1"))

    assert decode(stream) == {"V": Opaque(Marshaler.TEXT, b"10.0.0.1")}


def test_a_nil_interface_is_an_interface_without_a_name() -> None:
    """In a slice Go sends nil interfaces as an empty name and nothing more."""
    stream = holder(66) + definition(66, SLICE_T, INTERFACE) + holding(uint(2) + b"\0\0")

    assert decode(stream) == {"V": (Interface("", b""), Interface("", b""))}


def test_definitions_may_come_in_any_order_under_any_user_id() -> None:
    """Recent Go releases number from 64, a process with other gob types from higher; the element may come first."""
    members = [("V", 75)]
    value = counted(sint(64) + b"\1" + uint(1) + counted(b"x") + b"\0")

    assert decode(definition(75, SLICE_T, STRING) + struct_definition(64, members) + value) == {"V": ("x",)}


def test_a_definition_that_no_value_uses_may_point_nowhere() -> None:
    """Only what the value needs is resolved."""
    stream = struct_definition(65, [("V", UINT), ("W", 99)]) + holding(uint(7))

    assert decode(stream) == {"V": 7}


def test_integers_in_more_bytes_than_needed_are_accepted() -> None:
    """Go's decoder does not ask for the shortest form."""
    assert decode(holder(UINT) + holding(b"\xfc\0\0\0\x05")) == {"V": 5}


def test_what_follows_the_value_is_ignored() -> None:
    """Inside its message and after it, as in Go: a second value, half a message, garbage."""
    value = counted(sint(65) + b"\1\x05\0" + b"left over")

    assert decode(holder(UINT) + value + b"\xff" * 9) == {"V": 5}


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1))
def test_integers_of_64_bits_are_exact(signed: int, unsigned: int) -> None:
    """Both integer encodings over their whole range."""
    types = struct_definition(65, [("I", INT), ("U", UINT)])
    value = counted(sint(65) + b"\1" + sint(signed) + b"\1" + uint(unsigned) + b"\0")

    assert decode(types + value) == {"I": signed, "U": unsigned}


@settings(deadline=None)
@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_floats_are_the_byte_reversed_bits_of_a_double(real: float, imaginary: float) -> None:
    """And a complex number is two of them."""
    bits = [uint(int.from_bytes(struct.pack("<d", number), "big")) for number in (real, imaginary)]

    assert decode(holder(FLOAT) + holding(bits[0])) == {"V": real}
    assert decode(holder(COMPLEX) + holding(b"".join(bits))) == {"V": complex(real, imaginary)}


def nested_slices(depth: int) -> bytes:
    """V is a slice in a slice in …, `depth` of them around an empty one; the struct adds one level."""
    types = b"".join(definition(65 + level, SLICE_T, 66 + level) for level in range(1, depth))
    return holder(66) + types + definition(65 + depth, SLICE_T, UINT) + holding(b"\1" * (depth - 1) + b"\0")


def test_sixteen_levels_are_read() -> None:
    """A struct and fifteen slices."""
    value = decode(nested_slices(15))["V"]

    for _ in range(14):
        assert isinstance(value, tuple)
        (value,) = value
    assert value == ()


def test_seventeen_levels_are_refused() -> None:
    """One more than MAX_NESTING."""
    with pytest.raises(GobError, match="nested"):
        decode(nested_slices(16))


def test_sixty_four_definitions_are_read_and_one_more_is_refused() -> None:
    """MAX_DEFINITIONS, whether they are used or not."""
    unused = b"".join(definition(100 + number, SLICE_T, UINT) for number in range(63))

    assert decode(holder(UINT) + unused + holding(b"\5")) == {"V": 5}
    with pytest.raises(GobError, match="definitions"):
        decode(holder(UINT) + unused + definition(99, SLICE_T, UINT) + holding(b"\5"))


def test_four_kibibytes_are_read_and_one_byte_more_is_refused() -> None:
    """MAX_TOTAL, even where the excess would be ignored."""
    stream = holder(UINT) + holding(b"\5")

    assert decode(stream.ljust(4096, b"\0")) == {"V": 5}
    with pytest.raises(GobError, match="4096"):
        decode(stream.ljust(4097, b"\0"))


HUGE = b"\xf8" + b"\xff" * 8  # the uint 2^64 - 1
BOMBS = {
    "a message length": HUGE,
    "a string length": holder(STRING) + holding(HUGE + b"x"),
    "a bytes length": holder(BYTES) + holding(HUGE + b"x"),
    "an opaque length": holder(66) + counted(sint(-66) + uint(BINARY_T) + b"\1\0\0\0") + holding(HUGE + b"x"),
    "an interface's name": holder(INTERFACE) + holding(HUGE + b"int"),
    "an interface's length": holder(INTERFACE) + holding(counted(b"int") + sint(INT) + HUGE),
    "a slice count": holder(66) + definition(66, SLICE_T, UINT) + holding(HUGE + b"\1\1"),
    "a count of empty structs": holder(66)
    + definition(66, SLICE_T, 67)
    + struct_definition(67, [])
    + holding(HUGE + b"\0\0"),
    "a map count": holder(66) + definition(66, MAP_T, UINT, UINT) + holding(HUGE + b"\1\1"),
    "an array as long as its type says": holder(66)
    + definition(66, ARRAY_T, UINT, 2**62)
    + holding(uint(2**62) + b"\1"),
    "an array longer than its type": holder(66) + definition(66, ARRAY_T, UINT, 1) + holding(b"\2\1\1"),
    "a field count": counted(sint(-65) + uint(STRUCT_T) + b"\1\0\1" + HUGE),
    "a field delta": holder(UINT) + counted(sint(65) + HUGE + b"\1\0"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_length_or_count_beyond_the_input_is_refused(bomb: str) -> None:
    """Nothing is allocated or repeated on the word of a number."""
    with pytest.raises(GobError):
        decode(BOMBS[bomb])


CYCLES = {
    "slice of itself": holder(66) + definition(66, SLICE_T, 66) + holding(b"\1" * 200),
    "array of itself": holder(66) + definition(66, ARRAY_T, 66, 1) + holding(b"\1" * 200),
    "map of itself": holder(66) + definition(66, MAP_T, 66, 66) + holding(b"\1" * 200),
    "struct of itself": holder(65) + holding(b"\1" * 200),
    "two slices of each other": holder(66)
    + definition(66, SLICE_T, 67)
    + definition(67, SLICE_T, 66)
    + holding(b"\1" * 200),
}


@pytest.mark.parametrize("cycle", CYCLES)
def test_a_type_that_contains_itself_ends_at_the_nesting_limit(cycle: str) -> None:
    """Such types are legal (Go's linked lists); a value of one can only go as deep as any other."""
    with pytest.raises(GobError, match="nested"):
        decode(CYCLES[cycle])


def test_an_array_of_itself_without_elements_ends() -> None:
    """Length 0, so the value is empty although the type never bottoms out."""
    assert decode(holder(66) + definition(66, ARRAY_T, 66, 0) + holding(b"\0")) == {"V": ()}


def raw_definition(type_id: int, wire_type: bytes) -> bytes:
    return counted(sint(-type_id) + wire_type)


MALFORMED = {
    "nothing": b"",
    "an empty message": b"\0",
    "definitions without a value": holder(UINT),
    "a value of an undefined type": holding(b"\5"),
    "a field of an undefined type": holder(66) + holding(b"\5"),
    "a field of type 0": holder(0) + holding(b"\5"),
    "a field of a negative type": holder(-65) + holding(b"\5"),
    "a value that is no struct": counted(sint(STRING) + b"\0" + counted(b"x")),
    "a value of a slice type": definition(65, SLICE_T, UINT) + counted(sint(65) + b"\0\1\5"),
    "an integer of 9 bytes": holder(UINT) + holding(b"\xf7" + b"\0" * 9),
    "an integer cut off": holder(UINT) + counted(sint(65) + b"\1\xfc\0"),
    "a struct without its end": holder(UINT) + counted(sint(65) + b"\1\5"),
    "a field beyond the last": holder(UINT) + counted(sint(65) + b"\2\5\0"),
    "a type defined twice": holder(UINT) + holder(UINT) + holding(b"\5"),
    "a redefined uint": definition(UINT, SLICE_T, INT) + holder(UINT) + holding(b"\5"),
    "a definition below the first user id": definition(63, SLICE_T, INT) + holder(UINT) + holding(b"\5"),
    "a redefined wireType": struct_definition(16, [("V", UINT)]) + holder(UINT) + holding(b"\5"),
    "a definition of no kind": raw_definition(65, b"\0") + holding(b"\5"),
    "a definition of two kinds": raw_definition(65, b"\5\1\0\0\1\1\0\0\0") + holding(b"\5"),
    "a value in its definition's message": counted(holder(UINT)[1:] + holding(b"\5")),
    "an unnamed field": struct_definition(65, [("", UINT)]) + holding(b"\5"),
    "two fields of one name": struct_definition(65, [("V", UINT), ("V", STRING)]) + holding(b"\5"),
    "an array shorter than its type": holder(66) + definition(66, ARRAY_T, UINT, 3) + holding(b"\2\1\1"),
    "an array of negative length": holder(66) + definition(66, ARRAY_T, UINT, -1) + holding(b"\1\1"),
}


@pytest.mark.parametrize("stream", MALFORMED)
def test_a_malformed_stream_is_refused(stream: str) -> None:
    """Each breaks one rule of the format."""
    with pytest.raises(GobError):
        decode(MALFORMED[stream])


@pytest.mark.parametrize("name", ["master_v4", "v026_v6", "master_with_extra_fields"])
def test_every_truncation_is_refused(name: str) -> None:
    """No prefix of a stream is a stream."""
    vector = VECTORS[name]

    for end in range(len(vector)):
        with pytest.raises(GobError):
            decode(vector[:end])


Edit = tuple[float, int, bytes]
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=9)), min_size=1, max_size=5)


def mutated(data: bytes, changes: list[Edit]) -> bytes:
    """Replace a few bytes at a few places (given as fractions) by others, perhaps more or fewer."""
    for place, removed, inserted in changes:
        at = int(place * len(data))
        data = data[:at] + inserted + data[at + removed :]
    return data


def only_gob_error(data: bytes) -> None:
    """Decode, in work that the input's length bounds: every read but that of an empty string consumes a byte."""
    reads = 0
    take = gob._Cursor.take

    def counting_take(cursor: gob._Cursor, size: int) -> bytes:
        nonlocal reads
        reads += 1
        return take(cursor, size)

    with patch.object(gob._Cursor, "take", counting_take):
        try:
            value = decode(data)
        except GobError:
            pass
        else:
            assert all(isinstance(name, str) for name in value)
    assert reads <= 2 * len(data) + 2


@settings(deadline=None)
@given(st.binary(max_size=300))
@example(b"\xff" * 4096)
@example(b"\1" * 4096)
def test_arbitrary_bytes_cost_bounded_work_and_raise_only_gob_error(data: bytes) -> None:
    """Whatever a stranger sends."""
    only_gob_error(data)


@settings(deadline=None)
@given(st.sampled_from([*CORPUS, *BOMBS.values(), *CYCLES.values()]), edits)
def test_mutated_streams_cost_bounded_work_and_raise_only_gob_error(data: bytes, changes: list[Edit]) -> None:
    """Near-valid streams reach deeper than noise."""
    only_gob_error(mutated(data, changes))
