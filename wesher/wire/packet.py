"""A UDP datagram: its layers on, its layers off.

    message or compound -> compress -> CRC -> sealed                                  (protocol 1.2)

We send no compress layer; Go sends it, so it is read. The CRC is `0c | crc32, uint32 | inner` over all of inner
(protocol 1.6); it is a layer only right inside the encryption. Compress and compound may nest in each other: the
budgets against that are for a datagram as a whole, since limits for each layer multiply.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from wesher.wire.codec import decode_packet_message
from wesher.wire.compound import join_compound, split_compound
from wesher.wire.compression import decompress_message
from wesher.wire.errors import Reason, Unsendable, WireError
from wesher.wire.keyring import Keyring
from wesher.wire.limits import (
    CRC_OVERHEAD,
    MAX_DATAGRAM,
    MAX_DECOMPRESSED_PACKET,
    MAX_NESTING,
    MAX_PACKET_PARTS,
)
from wesher.wire.messages import MessageType, PacketMessage

_NO_AAD = b""  # AAD of a packet is its label, and wesher has none


@dataclass(frozen=True, slots=True)
class Opened:
    """A datagram with its layers off: their names outermost first, what is inside in order, what did not decode."""

    layers: tuple[str, ...]
    messages: tuple[PacketMessage, ...]
    damage: tuple[WireError, ...]


def seal_packet(parts: Sequence[bytes], keyring: Keyring, nonce: bytes, *, crc: bool = False) -> bytes:
    """The datagram for encoded messages: one goes bare, several as a compound; `crc` for receivers of PMax >= 5.

    Raises Unsendable for an empty part, more than 127, or more than a datagram holds.
    """
    plain = parts[0] if len(parts) == 1 else join_compound(parts)
    if not plain:
        raise Unsendable("an empty message")
    if crc:
        plain = struct.pack(">BI", MessageType.HAS_CRC, zlib.crc32(plain)) + plain
    datagram = keyring.seal(plain, _NO_AAD, nonce)
    if len(datagram) > MAX_DATAGRAM:
        raise Unsendable(f"a datagram of {len(datagram)} bytes")
    return datagram


def open_packet(data: bytes, keyring: Keyring) -> Opened:
    """What a datagram says. Raises WireError where it is bad as a whole: not sealed by a key of ours, or its CRC."""
    unwrapping = _Unwrapping()
    unwrapping.unwrap(unwrapping.check_crc(unwrapping.decrypt(data, keyring)))
    return Opened(tuple(unwrapping.layers), tuple(unwrapping.messages), tuple(unwrapping.damage))


class _Unwrapping:
    """One datagram's layers coming off, with the budgets for all of them together."""

    def __init__(self) -> None:
        self.layers: list[str] = []
        self.messages: list[PacketMessage] = []
        self.damage: list[WireError] = []
        self._bytes_left = MAX_DECOMPRESSED_PACKET

    def decrypt(self, data: bytes, keyring: Keyring) -> bytes:
        _check_sealed(data)
        plain = keyring.open(data, _NO_AAD)
        self.layers.append("encrypt")
        if not plain:
            raise WireError(Reason.EMPTY, "an empty message, sealed")
        return plain

    def check_crc(self, plain: bytes) -> bytes:
        if plain[0] != MessageType.HAS_CRC or len(plain) < CRC_OVERHEAD:
            return plain
        inner = plain[CRC_OVERHEAD:]
        if zlib.crc32(inner) != int.from_bytes(plain[1:CRC_OVERHEAD], "big"):
            raise WireError(Reason.CRC, "wrong CRC")
        self.layers.append("hasCrc")
        return inner

    def unwrap(self, message: bytes) -> None:
        """Deliver all that is inside, in order. Each part is visited once and is charged to one budget."""
        pending = [(message, 0)]
        for _ in range(MAX_PACKET_PARTS):
            if not pending:
                return
            part, depth = pending.pop()
            inside = self._open_part(part, depth)
            pending += [(inner, depth + 1) for inner in reversed(inside)]
        if pending:
            self._drop(WireError(Reason.TOO_MANY, f"more than {MAX_PACKET_PARTS} parts in a datagram"))

    def _open_part(self, part: bytes, depth: int) -> list[bytes]:
        """What is inside a wrapper; nothing for a message, which is delivered, and for what does not decode."""
        try:
            if part[:1] == bytes([MessageType.COMPOUND]):
                return self._split(part, depth)
            if part[:1] == bytes([MessageType.COMPRESS]):
                return self._decompress(part, depth)
            self.messages.append(decode_packet_message(part))
        except WireError as error:
            self._drop(error)
        return []

    def _split(self, part: bytes, depth: int) -> list[bytes]:
        self._enter("compound", depth)
        parts, missing = split_compound(part[1:])
        if missing:
            self._drop(WireError(Reason.TRUNCATED, f"a compound lacks {missing} parts"))
        return parts

    def _decompress(self, part: bytes, depth: int) -> list[bytes]:
        """A layer that fails has spent the whole budget, or each of many parts could burn it once more."""
        self._enter("compress", depth)
        limit, self._bytes_left = self._bytes_left, 0
        message = decompress_message(part[1:], limit)
        self._bytes_left = limit - len(message)
        return [message]

    def _enter(self, layer: str, depth: int) -> None:
        if depth >= MAX_NESTING:
            raise WireError(Reason.NESTING, f"{layer} inside {depth} layers")
        self.layers.append(layer)

    def _drop(self, error: WireError) -> None:
        self.damage.append(error.as_value())


def _check_sealed(data: bytes) -> None:
    """Name what is not even meant as a sealed packet; encryption versions look like types 0 and 1."""
    if not data:
        raise WireError(Reason.EMPTY, "an empty datagram")
    if len(data) > MAX_DATAGRAM:
        raise WireError(Reason.TOO_LARGE, f"a datagram of {len(data)} bytes")
    if data[0] == MessageType.HAS_LABEL:
        raise WireError(Reason.LABEL, "a label: another cluster's")
    if MessageType.ACK <= data[0] <= MessageType.ERROR:
        raise WireError(Reason.PLAINTEXT, f"not encrypted: begins with {data[0]}")
