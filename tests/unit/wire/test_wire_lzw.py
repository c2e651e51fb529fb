"""LZW beyond the golden streams: hostile code streams, and the way back for anything."""

import contextlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from security.fuzz.targets import lzw as lzw_target
from tests.unit.wire.bombs import codes
from wesher.wire.errors import WireError
from wesher.wire.lzw import compress, decompress

CLEAR, END = 256, 257
ABABABA = bytes.fromhex("00830811483020")


def bits(*codes: tuple[int, int]) -> bytes:
    """(code, width) pairs, lowest bit first."""
    value = at = 0
    for code, width in codes:
        value |= code << at
        at += width
    return value.to_bytes((at + 7) // 8, "little")


def refused(data: bytes, limit: int = 1000) -> str:
    """The code of the error that decompressing raises."""
    with pytest.raises(WireError) as caught:
        decompress(data, limit)
    return caught.value.code


@settings(deadline=None)
@given(st.binary(max_size=6000) | st.lists(st.sampled_from(b"ab"), max_size=9000).map(bytes))
def test_decompressing_undoes_compressing(data):
    """Whatever the data, with a limit of exactly its size."""
    assert decompress(compress(data), len(data)) == data


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 1000))
def test_any_bytes_decompress_within_the_limit_or_not_at_all(data, limit):
    """No other error than WireError."""
    with contextlib.suppress(WireError):
        assert len(decompress(data, limit)) <= limit


@settings(deadline=None)
@given(st.lists(st.sampled_from([65, 66, CLEAR]) | st.integers(0, 300), max_size=1200), st.integers(0, 3000))
def test_a_slow_decoder_written_from_the_description_agrees(numbers, limit):
    """Also on streams that nobody would encode: clears anywhere, codes that are not known yet, widths that grow."""
    lzw_target.check(limit.to_bytes(2, "big") + codes(numbers, 1 << 16))


def test_a_stream_may_lack_the_leading_clear():
    """Older Go libraries are believed to leave it out."""
    assert decompress(bits((65, 9), (66, 9), (258, 9), (END, 9)), 4) == b"ABAB"


def test_bytes_after_the_end_code_are_ignored():
    """As in Go."""
    assert decompress(ABABABA + b"\xff\xff\xff", 7) == b"ABABABA"


@pytest.mark.parametrize("size", range(len(ABABABA)))
def test_a_stream_without_its_end_is_refused(size):
    """Wherever it is cut."""
    assert refused(ABABABA[:size]) == "compression"


def test_a_code_that_is_not_known_yet_is_refused():
    """One beyond the entry that this code would itself define."""
    assert decompress(bits((65, 9), (258, 9), (END, 9)), 3) == b"AAA"
    assert refused(bits((65, 9), (259, 9), (END, 9))) == "compression"


def test_a_table_code_right_after_a_clear_is_refused():
    """There is no entry, and no previous one to define it by."""
    assert refused(bits((258, 9), (END, 9))) == "compression"
    assert refused(bits((65, 9), (66, 9), (CLEAR, 9), (258, 9), (END, 9))) == "compression"


def test_a_clear_forgets_the_table():
    """The next entry is 258 again, and nine bits wide."""
    stream = bits((65, 9), (66, 9), (CLEAR, 9), (67, 9), (258, 9), (END, 9))
    assert decompress(stream, 5) == b"ABCCC"


def test_a_full_table_stays_until_it_is_cleared():
    """Go never sends that; its decoder takes it, with 4095 as the last entry."""
    widths = [9] * 255 + [10] * 512 + [11] * 1024 + [12] * 2048
    literals = [(index % 256, width) for index, width in enumerate(widths)]
    stream = bits(*literals, (4095, 12), (4095, 12), (CLEAR, 12), (65, 9), (END, 9))
    data = bytes(index % 256 for index in range(len(widths)))
    last_entry = data[4095 - 258 : 4095 - 258 + 2]
    assert decompress(stream, 10000) == data + last_entry * 2 + b"A"


def test_a_table_that_fills_with_the_last_code_is_cleared_before_the_end():
    """3838 codes fill it; the end is then nine bits wide again."""
    distinct = bytes(code for a in range(64) for b in range(a, 64) for code in ((a, b) if a != b else (a,)))[:3838]
    assert len({distinct[at : at + 2] for at in range(3837)}) == 3837  # no pair twice: every byte is a code
    codes = [(byte, 9 if at < 255 else 10 if at < 767 else 11 if at < 1791 else 12) for at, byte in enumerate(distinct)]
    assert compress(distinct) == bits((CLEAR, 9), *codes, (CLEAR, 12), (END, 9))
    assert compress(distinct[:-1]) == bits((CLEAR, 9), *codes[:-1], (END, 12))


def test_the_limit_is_the_last_size_allowed():
    """One byte more is refused."""
    assert decompress(ABABABA, 7) == b"ABABABA"
    assert refused(ABABABA, 6) == "too_large"


def test_a_bomb_stops_at_the_limit():
    """A megabyte of zeros costs no more memory than a few times the limit."""
    bomb = compress(bytes(1 << 20))
    tracemalloc.start()
    assert refused(bomb, limit=1 << 14) == "too_large"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(bomb) < 2000
    assert peak < 8 << 14


def test_many_clears_make_nothing():
    """Codes that expand to nothing cost only their own length."""
    assert decompress(bits(*[(CLEAR, 9)] * 10000, (END, 9)), 0) == b""
