"""Several messages in one.

    07 | n | length[0] .. length[n-1], uint16 each | part[0] .. part[n-1]             (protocol 1.4)

Each part is a message with its own type byte, and may be a compound or compress message itself.
"""

import struct
from collections.abc import Sequence

from wesher.wire.errors import Reason, Unsendable, WireError
from wesher.wire.limits import COMPOUND_PART, MAX_COMPOUND_PARTS, MAX_PART
from wesher.wire.messages import MessageType


def join_compound(parts: Sequence[bytes]) -> bytes:
    """The compound of `parts`, type byte included. Raises Unsendable for what older peers mis-parse."""
    if not 1 <= len(parts) <= MAX_COMPOUND_PARTS:
        raise Unsendable(f"a compound of {len(parts)} parts")
    for part in parts:
        if not 1 <= len(part) <= MAX_PART:
            raise Unsendable(f"a compound's part of {len(part)} bytes")
    lengths = struct.pack(f">{len(parts)}H", *map(len, parts))
    return bytes([MessageType.COMPOUND, len(parts)]) + lengths + b"".join(parts)


def split_compound(body: bytes) -> tuple[list[bytes], int]:
    """The parts that are there whole, and how many are not; `body` is without its type byte.

    Bytes after the last part are ignored. Raises WireError where the count or the lengths are cut short.
    """
    if not body:
        raise WireError(Reason.TRUNCATED, "a compound without a count")
    count = body[0]
    at = 1 + count * COMPOUND_PART
    if len(body) < at:
        raise WireError(Reason.TRUNCATED, f"a compound of {count} parts without their lengths")
    parts = []
    for length in struct.unpack(f">{count}H", body[1:at]):
        if at + length > len(body):
            break
        parts.append(body[at : at + length])
        at += length
    return parts, count - len(parts)
