"""What nodes tell each other, as values.

Names are `str`, decoded as UTF-8 with surrogateescape: any bytes survive the round trip, and equal bytes are equal
names. Addresses are the raw bytes as sent, 4 or 16; an IPv4 address has two forms, and Go compares bytes, so
they are never normalised here. Sequence numbers and incarnations are uint32.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from wesher.wire.errors import WireError
from wesher.wire.limits import VSN


class MessageType(IntEnum):
    """A message's first byte (protocol 1.1)."""

    PING = 0
    INDIRECT_PING = 1
    ACK = 2
    SUSPECT = 3
    ALIVE = 4
    DEAD = 5
    PUSH_PULL = 6
    COMPOUND = 7
    USER = 8
    COMPRESS = 9
    ENCRYPT = 10
    NACK = 11
    HAS_CRC = 12
    ERROR = 13
    HAS_LABEL = 244


class NodeState(IntEnum):
    """What a push/pull entry says of its node (protocol 3.4). LEFT exists since memberlist 0.1.6."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you `node`? Empty means whoever you are. The ack goes to the source fields, where given (since 0.2.0)."""

    seq_no: int
    node: str
    source_addr: bytes = b""
    source_port: int = 0
    source_node: str = ""


@dataclass(frozen=True, slots=True)
class IndirectPing:
    """Ping `node` at `target`:`port` for me; where `nack`, say also that it did not answer. Port 0: the usual one."""

    seq_no: int
    target: bytes
    port: int
    node: str
    nack: bool
    source_addr: bytes = b""
    source_port: int = 0
    source_node: str = ""


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to the ping of that number. wesher's payload is empty."""

    seq_no: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Nack:
    """A relay's: I am here, but the node of your indirect ping did not answer me."""

    seq_no: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """`accuser` (the wire's From) could not reach `node`, which it knew at `incarnation`."""

    incarnation: int
    node: str
    accuser: str


@dataclass(frozen=True, slots=True)
class Dead:
    """`node` is dead, says `accuser` (the wire's From). Where both are the same node, it has left."""

    incarnation: int
    node: str
    accuser: str


@dataclass(frozen=True, slots=True)
class Alive:
    """`node` is alive at this address with this metadata. Port 0: the receiver's own."""

    incarnation: int
    node: str
    addr: bytes
    port: int
    meta: bytes
    vsn: bytes = VSN


@dataclass(frozen=True, slots=True)
class UserMessage:
    """An application's own bytes, or words of ours (words.py)."""

    payload: bytes = field(repr=False)  # perhaps a cluster key: a repr ends up in logs


@dataclass(frozen=True, slots=True)
class PushNodeState:
    """One node as the sender of a push/pull sees it."""

    name: str
    addr: bytes
    port: int
    meta: bytes
    incarnation: int
    state: NodeState
    vsn: bytes = VSN


@dataclass(frozen=True, slots=True)
class PushPull:
    """All that one side knows. `rejected` are the received entries that were left out of `nodes`, and why."""

    join: bool
    nodes: tuple[PushNodeState, ...]
    user_state: bytes = field(default=b"", repr=False)  # perhaps with cluster keys
    rejected: tuple[WireError, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """A stream server's answer to a first message that it could not read."""

    error: str


PacketMessage = Ping | IndirectPing | Ack | Nack | Suspect | Dead | Alive | UserMessage
StreamMessage = Ping | Ack | PushPull | UserMessage | ErrorReply
Message = PacketMessage | StreamMessage
