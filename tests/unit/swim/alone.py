"""One node without a network: what it is told, and what it wants done, opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from itertools import count
from typing import Final

from tests.unit.swim.virtual import KEY, PORT, START, endpoint, make_node
from wesher.swim.config import SwimConfig
from wesher.swim.io import CloseStream, Connect, Endpoint, SendDatagram, SendStream
from wesher.swim.member import Member
from wesher.swim.node import Node
from wesher.wire.codec import encode
from wesher.wire.keyring import Keyring
from wesher.wire.limits import VSN
from wesher.wire.messages import Alive, IndirectPing, Message, Ping
from wesher.wire.packet import open_packet, seal_packet
from wesher.wire.stream import StreamReader, seal_stream

LAN: Final = SwimConfig.lan()
RING: Final = Keyring([KEY])
HERE: Final = endpoint(1)
STRANGER: Final = Endpoint(ip_address("192.0.2.99"), 5555)

_nonces = count(1 << 64)


def sealed(*messages: Message) -> bytes:
    """A datagram from a node with the key."""
    return seal_packet([encode(message) for message in messages], RING, next(_nonces).to_bytes(12, "big"))


def stream(message: Message | bytes, key: bytes = KEY) -> bytes:
    """A whole stream from a node with `key`; bytes are an encoded message."""
    data = message if isinstance(message, bytes) else encode(message)
    return seal_stream(data, Keyring([key]), next(_nonces).to_bytes(12, "big"))


def alive(name: str, number: int, incarnation: int = 1, meta: bytes = b"", vsn: bytes = VSN) -> Alive:
    """The announcement of the member that lives at `endpoint(number)`."""
    return Alive(incarnation, name, endpoint(number).ip.packed, PORT, meta, vsn)


def knowing(*names: str, config: SwimConfig = LAN, incarnation: int = 1, meta: bytes = b"") -> Node:
    """The node `a` at `endpoint(1)` that knows members at `endpoint(2)` and on, and has nothing left to say."""
    node = make_node("a", HERE, config=config, incarnation=incarnation, meta=meta)
    for number, other in enumerate(names, 2):
        node.receive_datagram(sealed(alive(other, number)), endpoint(number), START)
    hush(node)
    return node


def hush(node: Node) -> None:
    """Everything the node had to say is said, and what has happened is told."""
    node._outbox.broadcasts.take(1 << 20, 0)
    node.actions()
    node.events()


def waiting(node: Node) -> list[bytes]:
    """The news that waits to be gossiped; it is gone then."""
    return node._outbox.broadcasts.take(1 << 20, 0)


def held(node: Node, name: str) -> Member | None:
    """What the node knows of a member."""
    return next((member for member in node.members() if member.name == name), None)


def packets(node: Node) -> Iterator[tuple[Endpoint, tuple[Message, ...]]]:
    """What the node wants sent as datagrams, opened; everything else it wants done is dropped."""
    for action in node.actions():
        if isinstance(action, SendDatagram):
            yield action.to, open_packet(action.data, RING).messages


def answers(node: Node, *kinds: type[Message]) -> list[tuple[Endpoint, Message]]:
    """Messages of these kinds that the node wants sent, and to whom."""
    return [(to, message) for to, messages in packets(node) for message in messages if isinstance(message, kinds)]


def spoken(node: Node) -> list[tuple[int, object]]:
    """What the node does with streams: messages it sends, "close", or whom it dials."""
    found: list[tuple[int, object]] = []
    for action in node.actions():
        match action:
            case SendStream(number, data):
                found.append((number, StreamReader(RING).feed(data)))
            case CloseStream(number):
                found.append((number, "close"))
            case Connect(number, to):
                found.append((number, to))
    return found


def indirect(nack: bool = True, **changes: object) -> IndirectPing:
    """Member c's request to ping member b."""
    return replace(IndirectPing(77, endpoint(2).ip.packed, PORT, "b", nack), **changes)


def probing(node: Node, now: float = START) -> tuple[float, Endpoint, Ping]:
    """Let time pass until the node pings somebody: when, whom, and what."""
    while True:
        now = max(now, node.get_timer())
        node.handle_timer(now)
        for to, message in answers(node, Ping):
            return now, to, message
