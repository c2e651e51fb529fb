"""LZW: `limit u16 | bytes`, taken for a code stream and for what is to be compressed.

Promises: only WireError; never more than the limit; compressing is undone; and the decoder agrees with the slow one
below, which was written from the description alone: bits from one long integer, entries as chains of single bytes.
"""

from __future__ import annotations

from wesher.wire.errors import WireError
from wesher.wire.lzw import compress, decompress


def check(data: bytes) -> None:
    """Both ways."""
    limit, body = int.from_bytes(data[:2], "big"), data[2:]
    found = _quickly(body, limit)
    assert found == slowly(body, limit)
    assert found is None or len(found) <= limit
    assert decompress(compress(body), len(body)) == body
    assert slowly(compress(body), len(body)) == body


def _quickly(data: bytes, limit: int) -> bytes | None:
    try:
        return decompress(data, limit)
    except WireError as error:
        assert error.code in {"compression", "too_large"}
        return None


def slowly(data: bytes, limit: int) -> bytes | None:
    """What the stream means, or None where it is invalid, unended or longer than `limit`."""
    stream, at = int.from_bytes(data, "little"), 0
    out: list[int] = []
    chains: dict[int, tuple[int | None, int]] = {}  # code -> (code before, last byte)
    since_clear, previous = 0, None
    while True:
        width = min(12, max(9, (257 + since_clear).bit_length()))
        if at + width > 8 * len(data):
            return None
        code, at = stream >> at & (1 << width) - 1, at + width
        since_clear += 1
        if code == 257:
            return bytes(out)
        if code == 256:
            chains, since_clear, previous = {}, 0, None
            continue
        if previous is not None and len(chains) < 4096 - 258:
            # the entry that this code completes; for the code that is this entry, by its own first byte
            first = _bytes(previous if code == 258 + len(chains) else code, chains)
            if not first:
                return None
            chains[258 + len(chains)] = (previous, first[0])
        entry = _bytes(code, chains)
        if not entry:
            return None
        out += entry
        if len(out) > limit:
            return None
        previous = code


def _bytes(code: int, chains: dict[int, tuple[int | None, int]]) -> list[int]:
    """The bytes of a code; none for one that is not known."""
    backwards = []
    link: int | None = code
    while link is not None and link > 257:
        if link not in chains:
            return []
        link, last = chains[link]
        backwards.append(last)
    assert link is not None
    return [link, *reversed(backwards)]
