"""What a node wants done on the network, and what it is told of its streams. No socket here.

A stream carries one request and at most one reply. The node names those it dials with even numbers; whoever drives
it names accepted ones with odd numbers, so that they never meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple


class Endpoint(NamedTuple):
    """Where a node is reached, as sockets need it."""

    ip: IPv4Address | IPv6Address
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if self.ip.version == 6 else f"{self.ip}:{self.port}"


def from_wire(addr: bytes, port: int) -> Endpoint:
    """The endpoint for an address of 4 or 16 bytes; an IPv4-mapped one becomes IPv4. The bytes stay the identity."""
    ip = ip_address(addr)
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return Endpoint(mapped or ip, port)


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Send `data` to `to` from the one bound socket."""

    to: Endpoint
    data: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    """Dial `to`, then report StreamConnected or StreamEnded."""

    stream: int
    to: Endpoint


@dataclass(frozen=True, slots=True)
class SendStream:
    """Send `data` on an open stream."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class CloseStream:
    """Send what is buffered, close, and report nothing more."""

    stream: int


Action = SendDatagram | Connect | SendStream | CloseStream


@dataclass(frozen=True, slots=True)
class StreamAccepted:
    """A stranger has connected."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamConnected:
    """A dialled stream is open."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamData:
    """Bytes have come."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The other end closed, or the stream broke or never came about: `reason`."""

    stream: int
    reason: str


StreamInput = StreamAccepted | StreamConnected | StreamData | StreamEnded
