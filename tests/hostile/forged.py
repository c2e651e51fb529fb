"""Messages in which any byte can be wrong. Written from the layout in privhelper/protocol.py, not with its encoder:
what this says, no honest agent can say."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from privhelper.protocol import Op, Peer

HEADER: Final = struct.Struct("!BBHHI")
PEER: Final = struct.Struct("!32sB16sB16sB64s5s")
HELLO: Final = struct.Struct("!B31s")

MORE, REPLY, FAILED = 1, 2, 4


@dataclass(frozen=True)
class Forged:
    """A message. `sequence` None is the number that is due; `count` None is that of an honest header."""

    op: int
    body: bytes = b""
    count: int = 0
    flags: int = 0
    sequence: int | None = None
    version: int = 1
    cut: int = 0
    """How many of the last bytes are left out."""

    def encode(self, due: int) -> bytes:
        """The bytes, where `due` is the number that an honest agent would give."""
        number = due if self.sequence is None else self.sequence
        whole = HEADER.pack(self.version, self.op, self.flags, self.count, number & 0xFFFFFFFF) + self.body
        return whole[: len(whole) - self.cut]


def hello(build: bytes = b"liar", *, length: int | None = None, padding: bytes = b"") -> bytes:
    """HELLO's record."""
    return HELLO.pack(len(build) if length is None else length, build + padding)


def record(
    peer: Peer,
    *,
    key: bytes | None = None,
    family: int | None = None,
    endpoint: bytes | None = None,
    overlay_family: int | None = None,
    overlay: bytes | None = None,
    length: int | None = None,
    name: bytes | None = None,
    zero: bytes = b"",
) -> bytes:
    """A peer's record: `peer`'s, but for the fields that are given."""
    text = peer.name.encode("ascii") if name is None else name
    return PEER.pack(
        peer.public_key if key is None else key,
        peer.endpoint.version if family is None else family,
        peer.endpoint.packed if endpoint is None else endpoint,
        peer.overlay_addr.version if overlay_family is None else overlay_family,
        peer.overlay_addr.packed if overlay is None else overlay,
        len(text) if length is None else length,
        text,
        zero,
    )


def set_of(*records: bytes, more: bool = False) -> Forged:
    """SET_PEERS with `records`, well-formed around them."""
    return Forged(Op.SET_PEERS, b"".join(records), len(records), MORE if more else 0)


def packed(address: str, room: int = 16) -> bytes:
    """An address as it stands in a record."""
    return ip_address(address).packed.ljust(room, b"\0")
