"""One direction of a stream: `mode u8 | cut u8 | bytes`, raw or sealed by somebody with the key, arriving in pieces.

Promises: only WireError; how the bytes are cut never changes what they mean; no more is held than was announced, and
nothing after the end; what is delivered survives being sent by us.
"""

import json
from typing import Final

from security.fuzz.targets.packet import RING
from wesher.wire.codec import decode_stream_message, encode, encode_stream_user
from wesher.wire.compression import compress_message
from wesher.wire.dissect import dissect_line
from wesher.wire.errors import WireError
from wesher.wire.limits import MAX_PUSH_PULL_NODES
from wesher.wire.messages import PushPull, StreamMessage, UserMessage
from wesher.wire.stream import StreamReader, seal_stream

RAW, COMPRESS, PRINT = 0x80, 1, 8
"""Modes: not sealed at all; compressed, then sealed; printed, too."""

_LIMIT: Final = 100_000
_HEADER: Final = 5
_NONCE: Final = bytes(12)


def check(data: bytes) -> None:
    """One direction, in one piece and in many."""
    mode, cut, body = int.from_bytes(data[:1], "big"), int.from_bytes(data[1:2], "big"), data[2:]
    stream = body if mode & RAW else _sealed(compress_message(body) if mode & COMPRESS else body)
    if mode & PRINT:
        json.dumps(dissect_line(f"tcp {stream.hex()}", RING), allow_nan=False).encode("ascii")
    whole = _outcome([stream])
    assert _outcome(_pieces(stream, cut)) == whole
    if not isinstance(whole, str | None):
        assert not mode & RAW, "opened what was not sealed"
        _check_message(whole)


def _sealed(plain: bytes) -> bytes:
    """Also what we would never send."""
    header = b"\x0a" + (len(plain) + 29).to_bytes(4, "big")
    return header + RING.seal(plain, header, _NONCE)


def _pieces(stream: bytes, cut: int) -> list[bytes]:
    """Of `cut % 16` bytes each, of which the first ones are shorter: that is where the header lies."""
    size = cut % 16 + 1
    head = [stream[at : at + 1] for at in range(cut // 16)]
    return [*head, *(stream[at : at + size] for at in range(cut // 16, len(stream), size))]


def _outcome(pieces: list[bytes]) -> StreamMessage | str | None:
    """The message, the reason of its refusal, or None while it is not complete."""
    reader = StreamReader(RING, limit=_LIMIT)
    found = None
    try:
        for piece in pieces:
            message = reader.feed(piece)
            assert message is None or found is None, "two messages of one stream"
            found = found or message
            assert reader.buffered <= _HEADER + _LIMIT
    except WireError as error:
        assert reader.buffered == 0
        return error.code
    assert found is None or reader.buffered == 0
    return found


def _check_message(message: StreamMessage) -> None:
    if isinstance(message, PushPull):
        assert len(message.nodes) + len(message.rejected) <= MAX_PUSH_PULL_NODES
        assert all(error.__traceback__ is None for error in message.rejected)
    data = encode_stream_user(message) if isinstance(message, UserMessage) else encode(message)
    assert decode_stream_message(data) == message
    assert StreamReader(RING).feed(seal_stream(data, RING, _NONCE)) == message
