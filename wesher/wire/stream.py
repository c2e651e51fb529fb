"""One direction of a TCP connection: one message, sealed.

    0a | length, uint32 | sealed blob                                                 (protocol 1.7)

The blob's AAD is the five bytes before it; inside is a message, or a compress message around it. Nobody half-closes,
so the length alone says where the message ends, and what follows is ignored. The length is a stranger's claim: it
and all that can be judged before the tag is judged on arrival.
"""

import struct

from wesher.wire.codec import decode_stream_message
from wesher.wire.compression import compress_message, decompress_message
from wesher.wire.errors import Reason, Unsendable, WireError
from wesher.wire.keyring import Keyring, check_version
from wesher.wire.limits import (
    MAX_DECOMPRESSED_STREAM,
    MAX_STREAM_BLOB,
    SEAL_OVERHEAD,
    STREAM_COMPRESS_ABOVE,
)
from wesher.wire.messages import MessageType, StreamMessage

_HEADER = struct.Struct(">BI")


def seal_stream(
    message: bytes, keyring: Keyring, nonce: bytes, *, compress: bool | None = None, under: bytes | None = None
) -> bytes:
    """All bytes of a stream for one encoded message, sealed by the primary key or the one it is to go `under`.

    `compress`: True as Go does, even where it grows; False never; None above STREAM_COMPRESS_ABOVE where it shrinks.
    Raises Unsendable for an empty message and for one beyond what peers accept.
    """
    if not 1 <= len(message) <= MAX_DECOMPRESSED_STREAM:
        raise Unsendable(f"a stream message of {len(message)} bytes")
    plain = _maybe_compressed(message, compress)
    header = _HEADER.pack(MessageType.ENCRYPT, len(plain) + SEAL_OVERHEAD)
    if len(plain) + SEAL_OVERHEAD > MAX_STREAM_BLOB:
        raise Unsendable(f"a stream of {len(plain)} bytes")
    return header + keyring.seal(plain, header, nonce, under)


def _maybe_compressed(message: bytes, compress: bool | None) -> bytes:
    if compress is False or (compress is None and len(message) <= STREAM_COMPRESS_ABOVE):
        return message
    compressed = compress_message(message)
    return compressed if compress else min(compressed, message, key=len)


class StreamReader:
    """Reads one message from a stream, fed as it arrives.

    `layers` names the layers that came off, outermost first; `key` is the one that opened it. After an error, feeding
    again raises it again.
    """

    def __init__(self, keyring: Keyring, *, limit: int = MAX_STREAM_BLOB) -> None:
        """`limit`: the largest blob to accept, in bytes, and the most that one may expand to."""
        self.layers: tuple[str, ...] = ()
        self.key: bytes | None = None
        self._keyring = keyring
        self._limit = limit
        self._expanded = min(limit, MAX_DECOMPRESSED_STREAM)
        self._buffer = bytearray()
        self._done = False
        self._error: WireError | None = None

    @property
    def buffered(self) -> int:
        """Bytes held: never more than the announced length, which is never more than the limit."""
        return len(self._buffer)

    def feed(self, data: bytes) -> StreamMessage | None:
        """The message when it is complete, None before and after. Raises WireError as early as the bytes show it."""
        if self._error is not None:
            raise self._error
        try:
            return self._feed(data)
        except WireError as error:
            self._error = error.as_value()
            self._buffer.clear()
            raise

    def _feed(self, data: bytes) -> StreamMessage | None:
        if self._done:
            return None
        rest = self._fill(data, _HEADER.size)
        _check_first(self._buffer)
        if len(self._buffer) < _HEADER.size:
            return None
        end = _HEADER.size + self._blob_size()
        self._fill(rest, end)
        _check_blob_version(self._buffer)
        return self._finish() if len(self._buffer) == end else None

    def _fill(self, data: bytes, end: int) -> bytes:
        """Take what is missing up to `end`, and no more; the rest comes back."""
        missing = max(0, end - len(self._buffer))
        self._buffer += data[:missing]
        return data[missing:]

    def _blob_size(self) -> int:
        size = int.from_bytes(self._buffer[1 : _HEADER.size], "big")
        if size > self._limit:
            raise WireError(Reason.TOO_LARGE, f"a stream of {size} bytes announced")
        if size < SEAL_OVERHEAD:
            raise WireError(Reason.TRUNCATED, f"a sealed blob of {size} bytes announced")
        return size

    def _finish(self) -> StreamMessage:
        header, blob = bytes(self._buffer[: _HEADER.size]), bytes(self._buffer[_HEADER.size :])
        self._buffer.clear()
        self._done = True
        plain, self.key = self._keyring.open_with(blob, header)
        self.layers = ("encrypt",)
        if plain[:1] == bytes([MessageType.COMPRESS]):
            plain = decompress_message(plain[1:], self._expanded)
            self.layers = ("encrypt", "compress")
        return decode_stream_message(plain)


def _check_first(buffer: bytearray) -> None:
    """The first byte, which alone tells most strangers from peers."""
    if not buffer or buffer[0] == MessageType.ENCRYPT:
        return
    if buffer[0] == MessageType.HAS_LABEL:
        raise WireError(Reason.LABEL, "a label: another cluster's")
    if buffer[0] <= MessageType.ERROR:
        raise WireError(Reason.PLAINTEXT, f"not encrypted: begins with {buffer[0]}")
    raise WireError(Reason.UNSUPPORTED_TYPE, f"a stream cannot begin with {buffer[0]:#04x}")


def _check_blob_version(buffer: bytearray) -> None:
    if len(buffer) > _HEADER.size:
        check_version(bytes(buffer[_HEADER.size : _HEADER.size + 1]))
