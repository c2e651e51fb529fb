"""Structs beyond the golden acceptance table: forms, limits and bombs."""

import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wesher.wire.errors import WireError
from wesher.wire.structs import StructReader, read_struct, write_struct

NAMES = (b"SeqNo", b"Node", b"Addr", b"Nack")


def refused(data: bytes) -> str:
    """The code of the error that reading any field raises."""
    with pytest.raises(WireError) as caught:
        read_all(data)
    return caught.value.code


def read_all(data: bytes) -> tuple[object, ...]:
    """All fields of the test's struct."""
    fields = read_struct(NAMES, data)
    return fields.unsigned(b"SeqNo", 32), fields.text(b"Node"), fields.octets(b"Addr"), fields.flag(b"Nack")


def test_keys_are_written_in_byte_order():
    """Upper case before lower, as Go sorts them."""
    assert write_struct({b"b": 1, b"a": 2, b"B": 3}) == b"\x83\xa1B\x03\xa1a\x02\xa1b\x01"


@pytest.mark.parametrize(
    ("size", "head"), [(31, "bf"), (32, "da0020"), (255, "da00ff"), (65535, "daffff"), (65536, "db00010000")]
)
def test_bytes_are_written_as_old_raw(size, head):
    """Never str8 and never bin: memberlist 0.1 reads neither as text."""
    assert write_struct({b"k": bytes(size)}) == bytes.fromhex("81a16b" + head) + bytes(size)


def test_a_reader_stops_at_the_end_of_each_struct():
    """So that entries and raw bytes may follow."""
    reader = StructReader(b"\x81\xa5SeqNo\x07" + b"\x94\x05\xa1n\xa0\xc3" + b"\xc0" + b"rest")
    assert reader.read(NAMES).unsigned(b"SeqNo", 32) == 7
    assert reader.read(NAMES).text(b"Node") == "n"
    assert reader.read(NAMES).flag(b"Nack") is False
    assert reader.offset == len(b"\x81\xa5SeqNo\x07" + b"\x94\x05\xa1n\xa0\xc3" + b"\xc0")


def test_an_array_may_be_longer_than_the_struct():
    """Fields that later versions add come last, and may be anything."""
    assert read_all(b"\x96\x07\xa1n\xa1a\xc3\x91\x91\x05\x81\xc0\xc0") == (7, "n", b"a", True)


@pytest.mark.parametrize("head", ["94", "dc0004", "dd00000004"])
def test_an_array_has_three_forms(head):
    """As every msgpack container."""
    assert read_all(bytes.fromhex(head) + b"\x07\xa1n\xa1a\xc3") == (7, "n", b"a", True)


def test_an_array_may_be_short():
    """What is missing is zero, down to all of it."""
    assert read_all(b"\x91\x07") == (7, "", b"", False)
    assert read_all(b"\x90") == (0, "", b"", False)


@pytest.mark.parametrize(("count", "head"), [(64, "dc0040"), (64, "de0040"), (65, "dc0041"), (65, "de0041")])
def test_a_struct_has_at_most_64_fields(count, head):
    """As an array and as a map."""
    data = bytes.fromhex(head) + (b"\xa1x\xc0" if head[:2] == "de" else b"\xc0") * count
    if count == 64:
        assert read_all(data) == (0, "", b"", False)
    else:
        assert refused(data) == "malformed"


@pytest.mark.parametrize(
    ("sent", "read"), [((1 << 63) - 1, (1 << 63) - 1), (1 << 63, -(1 << 63)), ((1 << 64) - 1, -1), (-5, -5)]
)
def test_a_signed_integer_wraps_as_in_go(sent, read):
    """A huge count becomes a negative one, which no caller accepts."""
    assert read_struct((b"Nodes",), msgpack.packb({"Nodes": sent})).signed(b"Nodes") == read


def test_an_unknown_field_may_be_anything():
    """Unhashable map keys, ext types msgpack knows better, floats, deep nesting: all skipped."""
    for value in (
        "8191810102c0",
        "c7050a0000000000",
        "d5ff0000",
        "ca00000000",
        "91" * 500 + "c0",
        "c70cff" + "00" * 12,
    ):
        data = b"\x82\xa3Foo" + bytes.fromhex(value) + b"\xa4Node\xa1n"
        assert read_all(data) == (0, "n", b"", False)


@pytest.mark.parametrize("value", ["80", "81c0c0", "c7000a", "d6ff00000000", "cb3ff0000000000000", "c3"])
def test_a_known_field_of_a_senseless_type_is_refused(value):
    """Maps, ext, time stamps, floats, and a bool where a number or text belongs."""
    for key in (b"SeqNo", b"Node", b"Addr"):
        assert refused(b"\x81" + msgpack.packb(key, use_bin_type=False) + bytes.fromhex(value)) == "malformed"


@pytest.mark.parametrize("value", ["02", "ff", "a131", "cb3ff0000000000000", "cb0000000000000000"])
def test_a_bool_is_a_bool_or_zero_or_one(value):
    """Go reads 1 as true; a float 1.0 it does not."""
    assert refused(b"\x81\xa4Nack" + bytes.fromhex(value)) == "malformed"


@pytest.mark.parametrize("value", ["91ff", "91cd0100", "91a161", "91c0", "91c3", "9191c0"])
def test_an_array_of_anything_else_is_not_bytes(value):
    """Negative, too large, text, nil, bool, nested."""
    assert refused(b"\x81\xa4Addr" + bytes.fromhex(value)) == "malformed"


@pytest.mark.parametrize("first", [0x00, 0x7F, 0xA1, 0xC1, 0xC3, 0xC4, 0xCC, 0xD4, 0xE0, 0xFF])
def test_a_struct_is_a_map_an_array_or_nil(first):
    """Anything else in its place is not read as one."""
    assert refused(bytes([first]) + bytes(20)) == "malformed"


@pytest.mark.parametrize(
    "data",
    [
        "dfffffffff",  # a map of 2**32 - 1
        "ddffffffff",  # an array of as many
        "dfffffffff" + "a0c0" * 500,
        "81a441646472ddffffffff",  # known bytes as a huge array
        "81a441646472dc0201" + "00" * 513,
        "81a3416464dfffffffff",  # an unknown field of a huge map
        "81a441646472c6ffffffff",
        "81a441646472c9ffffffff05",
        "81a441646472" + "91" * 5000,
    ],
)
def test_a_count_that_lies_is_refused_without_making_room_for_it(data):
    """msgpack would allocate what a header claims, level by level."""
    tracemalloc.start()
    refused(bytes.fromhex(data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_nested_arrays_cost_little_where_bytes_belong():
    """The densest nest of headers a datagram can hold: three bytes a level claim 512 entries each."""
    nest = b"\xdc\x02\x00" * 21000
    tracemalloc.start()
    assert refused(b"\x81\xa4Addr" + nest) in {"malformed", "truncated"}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


@given(st.binary(max_size=200))
def test_any_bytes_read_or_raise_wire_error(data):
    """Also field by field."""
    try:
        seq_no, _, _, nack = read_all(data)
    except WireError:
        return
    assert 0 <= seq_no < 1 << 32
    assert isinstance(nack, bool)


@given(st.integers(0, (1 << 32) - 1), st.binary(max_size=300), st.binary(max_size=300), st.booleans())
def test_what_is_written_is_read(seq_no, node, addr, nack):
    """Text that is not UTF-8 included."""
    data = write_struct({b"SeqNo": seq_no, b"Node": node, b"Addr": addr, b"Nack": nack})
    name = node.decode("utf-8", "surrogateescape")
    assert read_all(data) == (seq_no, name, addr, nack)
    assert name.encode("utf-8", "surrogateescape") == node
