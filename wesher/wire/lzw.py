"""LZW as Go's compress/lzw writes it: LSB first, 8-bit literals, the code stream of a GIF without its framing.

A stream is codes of 9 to 12 bits: 0-255 a byte, 256 clear, 257 end, from 258 table entries (protocol 1.5). The width
of a code follows from nothing but how many codes came since the last clear, so bits <-> codes and codes <-> bytes
are two steps that know nothing of each other. Where other LZWs differ: TIFF is MSB first and widens one code
earlier; Unix compress has no end code.
"""

from collections.abc import Iterable, Iterator

from wesher.wire.errors import Reason, WireError

_CLEAR = 256
_END = 257
_FIRST_WIDTH = 9
_LAST_WIDTH = 12
_TABLE_SIZE = 1 << _LAST_WIDTH
_LAST_CODE = _TABLE_SIZE - 1  # Go's encoder clears where it would assign this one
_ROOTS = [bytes([byte]) for byte in range(256)] + [b"", b""]


def compress(data: bytes) -> bytes:
    """`data` byte for byte as Go compresses it; b"" gives clear and end."""
    return _pack(_encode(data))


def decompress(data: bytes, limit: int) -> bytes:
    """The bytes behind a code stream; what follows the end code is ignored, the leading clear is optional.

    Raises WireError where a code is invalid, the end code is missing, or more than `limit` bytes come out. Time is
    bounded by `len(data)` and `limit`, memory by about twice `limit`.
    """
    return _decode(_unpack(data), limit)


def _encode(data: bytes) -> Iterator[int]:
    """Bytes to codes. An entry (prefix, byte) is numbered by the codes sent since the clear, its prefix included."""
    yield _CLEAR
    table: dict[int, int] = {}
    newest = _END
    prefix = -1
    for byte in data:
        key = prefix << 8 | byte
        if prefix < 0 or key in table:
            prefix = table.get(key, byte)
            continue
        yield prefix
        prefix = byte
        newest += 1
        if newest < _LAST_CODE:
            table[key] = newest
            continue
        yield _CLEAR
        table.clear()
        newest = _END
    if prefix >= 0:
        yield prefix
        if newest + 1 == _LAST_CODE:
            yield _CLEAR  # the clear comes before the end, too
    yield _END


def _decode(codes: Iterable[int], limit: int) -> bytes:
    """Codes to bytes. The table is full at 4096 entries; then it stays as it is until a clear."""
    out = bytearray()
    table = _ROOTS.copy()
    previous = b""  # none yet: right after a clear
    for code in codes:
        if code == _CLEAR:
            del table[len(_ROOTS) :]
            previous = b""
            continue
        if code < len(table):
            entry = table[code]
        elif code == len(table) and previous:
            entry = previous + previous[:1]  # KwKwK: the entry that this very code defines
        else:
            raise WireError(Reason.COMPRESSION, f"code {code} where {len(table)} are known")
        if previous and len(table) < _TABLE_SIZE:
            table.append(previous + entry[:1])
        previous = entry
        out += entry
        if len(out) > limit:
            raise WireError(Reason.TOO_LARGE, f"decompresses to more than {limit} bytes")
    return bytes(out)


def _pack(codes: Iterable[int]) -> bytes:
    """Codes to bits, lowest bit first; the last byte is filled up with zeros."""
    out = bytearray()
    bits = held = 0
    width, newest = _FIRST_WIDTH, _END
    for code in codes:
        bits |= code << held
        held += width
        while held >= 8:
            out.append(bits & 0xFF)
            bits >>= 8
            held -= 8
        newest += 1
        if code == _CLEAR:
            width, newest = _FIRST_WIDTH, _END
        elif newest == 1 << width and width < _LAST_WIDTH:
            width += 1
    return bytes(out) + bytes([bits] * (held > 0))


def _unpack(data: bytes) -> Iterator[int]:
    """Bits to codes, up to the end code, which is not among them. Raises WireError where it is missing."""
    bits = held = 0
    width, newest = _FIRST_WIDTH, _END
    for byte in data:
        bits |= byte << held
        held += 8
        if held < width:
            continue  # no code is narrower than 9 bits, so at most one ends in a byte
        code = bits & (1 << width) - 1
        bits >>= width
        held -= width
        if code == _END:
            return
        yield code
        newest += 1
        if code == _CLEAR:
            width, newest = _FIRST_WIDTH, _END
        elif newest == 1 << width and width < _LAST_WIDTH:
            width += 1
    raise WireError(Reason.COMPRESSION, "the code stream has no end")
