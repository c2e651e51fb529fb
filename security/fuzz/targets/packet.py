"""A datagram: `mode u8 | bytes`, which are the datagram itself or what somebody with the key has sealed.

Promises: only WireError, and nothing opens that was not sealed; no more parts and no more bytes than the budgets
allow; whatever is delivered survives being sent by us; `wesher decode` prints it as JSON.
"""

import json
import zlib
from typing import Final

from wesher.wire.codec import encode
from wesher.wire.compression import compress_message
from wesher.wire.dissect import dissect_line
from wesher.wire.errors import WireError
from wesher.wire.keyring import Keyring
from wesher.wire.limits import MAX_COMPOUND_PARTS, MAX_DATAGRAM, MAX_DECOMPRESSED_PACKET, MAX_PACKET_PARTS
from wesher.wire.messages import MessageType, UserMessage
from wesher.wire.packet import Opened, open_packet, seal_packet

RAW, CRC, COMPRESS, COMPOUND, PRINT = 0x80, 1, 2, 4, 8
"""Modes: not sealed at all, or sealed with these layers around the bytes, the last one innermost; printed, too."""

RING: Final = Keyring([bytes(range(32))])
_NONCE: Final = bytes(12)


def check(data: bytes) -> None:
    """One datagram."""
    mode, body = int.from_bytes(data[:1], "big"), data[1:]
    datagram = body if mode & RAW else RING.seal(_wrapped(mode, body), b"", _NONCE)
    if mode & PRINT:
        json.dumps(dissect_line(f"udp {datagram.hex()}", RING), allow_nan=False).encode("ascii")
    try:
        opened = open_packet(datagram, RING)
    except WireError:
        return
    assert not mode & RAW, "opened what was not sealed"
    _check_bounds(opened, len(datagram))
    _check_round_trip(opened)


def _wrapped(mode: int, plain: bytes) -> bytes:
    if mode & COMPOUND:
        parts = [plain, b"\x0b\x80", plain]
        plain = bytes([MessageType.COMPOUND, 3]) + b"".join((len(p) & 0xFFFF).to_bytes(2, "big") for p in parts)
        plain += b"".join(parts)
    if mode & COMPRESS:
        plain = compress_message(plain)
    if mode & CRC:
        plain = bytes([MessageType.HAS_CRC]) + zlib.crc32(plain).to_bytes(4, "big") + plain
    return plain


def _check_bounds(opened: Opened, size: int) -> None:
    assert size <= MAX_DATAGRAM
    assert len(opened.messages) + len(opened.damage) <= 2 * MAX_PACKET_PARTS
    assert len(opened.layers) + len(opened.messages) <= MAX_PACKET_PARTS + 2
    payloads = sum(len(message.payload) for message in opened.messages if isinstance(message, UserMessage))
    assert payloads <= size + MAX_DECOMPRESSED_PACKET


def _check_round_trip(opened: Opened) -> None:
    for at in range(0, len(opened.messages), MAX_COMPOUND_PARTS):
        messages = opened.messages[at : at + MAX_COMPOUND_PARTS]
        parts = [encode(message) for message in messages]
        if sum(map(len, parts)) < MAX_DATAGRAM - 1000:  # what came compressed may fit no datagram of ours
            again = open_packet(seal_packet(parts, RING, _NONCE), RING)
            assert again.messages == messages
            assert not again.damage
