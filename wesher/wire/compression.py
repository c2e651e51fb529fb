"""The compress message: another message, shrunk.

    09 | msgpack {Algo: 0, Buf: raw}                                                  (protocol 1.5)

Algo 0 is LZW, the only one. What comes out is a message again, type byte first.
"""

from wesher.wire import lzw
from wesher.wire.errors import Reason, WireError
from wesher.wire.limits import COMPRESSED_SHARE
from wesher.wire.messages import MessageType
from wesher.wire.structs import read_struct, write_struct

_LZW = 0
_FIELDS = (b"Algo", b"Buf")


def compress_message(message: bytes) -> bytes:
    """`message` as a compress message, type byte included; it may be longer."""
    return bytes([MessageType.COMPRESS]) + write_struct({b"Algo": _LZW, b"Buf": lzw.compress(message)})


def decompress_message(body: bytes, limit: int) -> bytes:
    """The message inside; `body` is without its type byte.

    Raises WireError, also beyond `limit` bytes, and beyond a share of that before they are decompressed.
    """
    fields = read_struct(_FIELDS, body)
    algorithm = fields.unsigned(b"Algo", 8)
    if algorithm != _LZW:
        raise WireError(Reason.COMPRESSION, f"unknown algorithm {algorithm}")
    codes = fields.octets(b"Buf")
    if len(codes) > limit // COMPRESSED_SHARE:
        raise WireError(Reason.TOO_LARGE, f"{len(codes)} compressed bytes, where {limit} may come out")
    message = lzw.decompress(codes, limit)
    if not message:
        raise WireError(Reason.EMPTY, "nothing was compressed")
    return message
