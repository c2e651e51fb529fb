"""The worst that somebody with the cluster key can put into a datagram or a stream: plaintexts by name.

Each is as large as its limit lets it be, or is as small as it can be for what it sets going.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import Random

import msgpack

from wesher.wire.codec import encode, encode_stream_user
from wesher.wire.compression import compress_message
from wesher.wire.limits import MAX_DATAGRAM, MAX_DECOMPRESSED_PACKET, MAX_PUSH_PULL_NODES, SEAL_OVERHEAD, VSN
from wesher.wire.messages import Alive, Ping, UserMessage

ROOM = MAX_DATAGRAM - SEAL_OVERHEAD
ARRAY, MAP = b"\xdc\x02\x00", b"\xde\x00\x40"
"""Headers of the longest array and map that are read at all: 512 and 64."""


def compound(parts: Iterable[bytes]) -> bytes:
    """Up to 255, of any kind."""
    parts = list(parts)
    return bytes([7, len(parts)]) + b"".join(len(part).to_bytes(2, "big") for part in parts) + b"".join(parts)


def struct(fields: dict[str, object]) -> bytes:
    """As a careless peer writes it."""
    return msgpack.packb(fields, use_bin_type=False)


def entry(number: int, meta: bytes = b"", name: bytes = b"") -> bytes:
    """A push/pull's, good if `meta` is; at a loopback address, to which a node on real sockets may well write."""
    addr = b"\x7f\x01" + number.to_bytes(2, "big")
    fields = {"Name": name or b"%05d" % number, "Addr": addr, "Port": 1, "Meta": meta, "Incarnation": 5, "State": 0}
    return struct(fields | {"Vsn": VSN})


def push_pull(entries: Iterable[bytes], *, count: int | None = None, user_state: bytes = b"") -> bytes:
    """Of any entries; `count` lies."""
    entries = list(entries)
    header = {"Join": False, "Nodes": len(entries) if count is None else count, "UserStateLen": len(user_state)}
    return b"\x06" + struct(header) + b"".join(entries) + user_state


def compressed(codes: bytes) -> bytes:
    """A compress message around any code stream."""
    return b"\x09" + struct({"Algo": 0, "Buf": codes})


def codes(numbers: Iterable[int], size: int) -> bytes:
    """A code stream of `size` bytes that begins with these codes and ends with the end code."""
    value, at, width, newest = 0, 0, 9, 257
    out = bytearray()
    for number in numbers:
        value |= number << at
        at += width
        newest += 1
        if number == 256:
            width, newest = 9, 257
        elif newest == 1 << width and width < 12:
            width += 1
        while at >= 8:
            out.append(value & 0xFF)
            value, at = value >> 8, at - 8
        if len(out) >= size - 4:
            break
    value |= 257 << at
    return bytes(out) + value.to_bytes(4, "little")


def _literals(clear_after: int) -> Iterator[int]:
    """Codes that never pay: a byte each, the table cleared when it has this many entries."""
    rng = Random(0)
    while True:
        yield 256
        yield from (rng.randrange(256) for _ in range(clear_after))


def _alive(name: str, meta: bytes = b"") -> bytes:
    return encode(Alive(5, name, b"\x7f\x01\0\1", 1, meta))


_HALF = MAX_DECOMPRESSED_PACKET // 2 - 64
_MANY_FIELDS = MAP + b"\xa0\xc0" * 64

PACKETS = {
    "arrays in arrays": b"\x04\x81\xa4Addr" + ARRAY * ((ROOM - 8) // 3),
    "arrays in arrays, often": compound([b"\x04\x81\xa4Addr" + ARRAY * 80] * 250),
    "maps in maps": b"\x04\x81\xa4Addr" + MAP * ((ROOM - 8) // 3),
    "a map as a key of a map": b"\x04\x81" + b"\x81" * (ROOM - 8),
    "one field 64 times": b"\x04" + MAP + (b"\xa4Addr" + ARRAY + b"\x01" * 512) * 64,
    "unknown fields": compound([compound([b"\x04" + _MANY_FIELDS] * 80)] * 6),
    "a raw of 4 GiB": b"\x04\x81\xa4Addr\xdb\xff\xff\xff\xff",
    "an ext of 4 GiB": b"\x04\x81\xa4Addr\xc9\xff\xff\xff\xff\x01",
    "compounds of compounds": compound([compound([b"\x08"] * 80)] * 250),
    "compounds of nothing": compound([compound([b""] * 120)] * 255),
    "bytes as arrays": compound([b"\x04\x81\xa4Addr\xdc\x00\xe0" + b"\x01" * 224] * 255),
    "an LZW bomb": compress_message(encode(UserMessage(bytes(1 << 20)))),
    "a hundred LZW bombs": compound([compress_message(encode(UserMessage(bytes(70000))))] * 120),
    "a bomb in a bomb in a bomb": compress_message(compress_message(compress_message(bytes(MAX_DECOMPRESSED_PACKET)))),
    "a bomb of good news": compress_message(
        compound([compound([_alive(f"{part:02}{index:03}") for index in range(90)]) for part in range(7)])
    ),
    "codes that never pay": compressed(codes(_literals(3837), _HALF)),
    "codes of nine bits": compressed(codes(_literals(253), _HALF)),
    "clears": compressed(codes(iter(lambda: 256, None), _HALF)),
    "clears in turn": compressed(codes(_literals(1), _HALF)),
    "a name of 64 KiB": b"\x04" + struct({"Node": bytes(65400)}),
    "metadata of 64 KiB": b"\x04" + struct({"Node": b"n", "Addr": bytes(4), "Vsn": VSN, "Meta": bytes(65400)}),
    "a user message": encode(UserMessage(bytes(ROOM - 1))),
    "pings": compound([encode(Ping(1, ""))] * 255),
}


def _fill(one: bytes, room: int) -> bytes:
    """As many of one entry as fit."""
    return push_pull([one] * min(MAX_PUSH_PULL_NODES, (room - 64) // len(one)))


STREAMS: dict[str, Callable[[int], bytes]] = {  # for a reader with this limit
    "two milliard entries": lambda limit: push_pull([], count=1 << 31),
    "good entries": lambda limit: push_pull(map(entry, range(min(MAX_PUSH_PULL_NODES, (limit - 64) // 70)))),
    "the longest good entries": lambda limit: _fill(entry(7, bytes(512), bytes(255)), limit - 29),
    "entries that are nothing": lambda limit: _fill(b"\xc0", limit - 29),
    "entries that lack something": lambda limit: _fill(struct({"Name": bytes(100)}), limit - 29),
    "unknown fields": lambda limit: _fill(_MANY_FIELDS, limit - 29),
    "arrays in arrays": lambda limit: push_pull([b"\x81\xa4Addr" + ARRAY * ((limit - 100) // 3)]),
    "arrays in arrays, often": lambda limit: _fill(b"\x81\xa4Addr" + b"\xdc\x00\x03" * 50 + b"\xc0" * 101, limit - 29),
    "bytes as arrays": lambda limit: _fill(b"\x81\xa4Addr\xdc\x02\x00" + b"\x01" * 512, limit - 29),
    "names of 32 KiB": lambda limit: _fill(entry(1, name=bytes(32768)), limit - 29),
    "metadata of 32 KiB": lambda limit: _fill(entry(1, bytes(32768)), limit - 29),
    "user state": lambda limit: push_pull([], user_state=bytes(min(limit - 100, 1 << 20))),
    "a user message": lambda limit: encode_stream_user(UserMessage(bytes(limit - 100))),
    "an LZW bomb": lambda limit: compress_message(encode_stream_user(UserMessage(bytes(4 * limit)))),
    "an LZW bomb that fits": lambda limit: compress_message(encode_stream_user(UserMessage(bytes(limit - 64)))),
    "a bomb of good news": lambda limit: compress_message(
        push_pull(map(entry, range(min(MAX_PUSH_PULL_NODES, limit // 75))))
    ),
    "codes that never pay": lambda limit: compressed(codes(_literals(3837), limit // 2 - 64)),
    "codes of nine bits": lambda limit: compressed(codes(_literals(253), limit // 2 - 64)),
    "clears": lambda limit: compressed(codes(iter(lambda: 256, None), limit // 2 - 64)),
}
