"""A message is a type byte and a struct; here is which struct, and which values in it are sane.

The structs read as liberally as Go reads them (structs.py). Then comes what Go does not check and should: a member
needs a name, an address of 4 or 16 bytes, bounded metadata, and a Vsn that does not break everybody's push/pull
(protocol 8.1, rows 10 and 11). A bad entry of a push/pull costs that entry only; what makes the rest unreadable
(lying counts, broken msgpack) costs the exchange.

Where Go gives a value no meaning, none is taken from it either: an accusation may be of nobody (Go ignores unknown
names), a ping may be for anybody.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from wesher.wire.errors import Reason, Unsendable, WireError
from wesher.wire.limits import (
    MAX_ERROR_TEXT,
    MAX_META,
    MAX_NAME,
    MAX_PUSH_PULL_NODES,
    MAX_RECEIVED_META,
    MAX_USER_STATE,
    VSN_SIZE,
)
from wesher.wire.messages import (
    Ack,
    Alive,
    Dead,
    ErrorReply,
    IndirectPing,
    Message,
    MessageType,
    Nack,
    NodeState,
    PacketMessage,
    Ping,
    PushNodeState,
    PushPull,
    StreamMessage,
    Suspect,
    UserMessage,
)
from wesher.wire.structs import Fields, StructReader, read_struct, write_struct

# Field names in Go's declaration order, which is the order of a struct sent as an array (protocol 3.3).
_SOURCE = (b"SourceAddr", b"SourcePort", b"SourceNode")
PING_FIELDS: Final = (b"SeqNo", b"Node", *_SOURCE)
INDIRECT_PING_FIELDS: Final = (b"SeqNo", b"Target", b"Port", b"Node", b"Nack", *_SOURCE)
ACK_FIELDS: Final = (b"SeqNo", b"Payload")
NACK_FIELDS: Final = (b"SeqNo",)
ACCUSATION_FIELDS: Final = (b"Incarnation", b"Node", b"From")
ALIVE_FIELDS: Final = (b"Incarnation", b"Node", b"Addr", b"Port", b"Meta", b"Vsn")
PUSH_PULL_FIELDS: Final = (b"Nodes", b"UserStateLen", b"Join")
NODE_STATE_FIELDS: Final = (b"Name", b"Addr", b"Port", b"Meta", b"Incarnation", b"State", b"Vsn")
USER_FIELDS: Final = (b"UserMsgLen",)
ERROR_FIELDS: Final = (b"Error",)

_ADDRESS_SIZES = (4, 16)
_UINT32 = (1 << 32) - 1

_M = TypeVar("_M")


def encode(message: Message) -> bytes:
    """`message` with its type byte, as memberlist encodes it (protocol 3.4); a UserMessage in its packet form.

    Signed fields take the form of go-msgpack 0.5.5, empty bytes are nil, numbers of messages wrap at 2**32. Raises
    Unsendable for what no honest node sends.
    """
    match message:
        case Ping():
            return _framed(MessageType.PING, _ping_fields(message))
        case IndirectPing():
            return _framed(MessageType.INDIRECT_PING, _indirect_ping_fields(message))
        case Ack():
            return _framed(MessageType.ACK, {b"SeqNo": _u32(message.seq_no), b"Payload": message.payload or None})
        case Nack():
            return _framed(MessageType.NACK, {b"SeqNo": _u32(message.seq_no)})
        case Suspect():
            return _framed(MessageType.SUSPECT, _accusation_fields(message))
        case Dead():
            return _framed(MessageType.DEAD, _accusation_fields(message))
        case Alive():
            return _framed(MessageType.ALIVE, {b"Node": _raw(message.node), **_member_fields(message)})
        case UserMessage():
            return bytes([MessageType.USER]) + message.payload
        case PushPull():
            return _encode_push_pull(message)
        case ErrorReply():
            return _framed(MessageType.ERROR, {b"Error": _raw(message.error)})


def encode_stream_user(message: UserMessage) -> bytes:
    """The stream form of a user message: 08 | {UserMsgLen} | payload."""
    return _framed(MessageType.USER, {b"UserMsgLen": len(message.payload)}) + message.payload


def decode_packet_message(data: bytes) -> PacketMessage:
    """One message of a packet, layers removed, type byte first. Raises WireError."""
    return _decode(data, _PACKET_MESSAGES)


def decode_stream_message(data: bytes) -> StreamMessage:
    """The message of a stream, layers removed, type byte first; bytes after it are ignored. Raises WireError."""
    return _decode(data, _STREAM_MESSAGES)


# --- encoding


def _framed(kind: MessageType, fields: Mapping[bytes, object]) -> bytes:
    return bytes([kind]) + write_struct(fields)


def _ping_fields(ping: Ping) -> dict[bytes, object]:
    return {b"SeqNo": _u32(ping.seq_no), b"Node": _raw(ping.node), **_source_fields(ping)}


def _indirect_ping_fields(ping: IndirectPing) -> dict[bytes, object]:
    return {
        b"SeqNo": _u32(ping.seq_no),
        b"Target": _address_to_send(ping.target),
        b"Port": _u16(ping.port),
        b"Node": _raw(ping.node),
        b"Nack": ping.nack,
        **_source_fields(ping),
    }


def _source_fields(ping: Ping | IndirectPing) -> dict[bytes, object]:
    """The only fields that vanish when empty, each for itself; memberlist 0.1 does not know them."""
    values = (ping.source_addr, _u16(ping.source_port), _raw(ping.source_node))
    return {name: value for name, value in zip(_SOURCE, values, strict=True) if value}


def _accusation_fields(message: Suspect | Dead) -> dict[bytes, object]:
    return {
        b"Incarnation": _u32(message.incarnation),
        b"Node": _raw(message.node),
        b"From": _raw(message.accuser),
    }


def _member_fields(member: Alive | PushNodeState) -> dict[bytes, object]:
    """All but the name, whose key differs. Older Go peers do not survive a Vsn of another length."""
    if len(member.vsn) != VSN_SIZE:
        raise Unsendable(f"a Vsn of {len(member.vsn)} bytes")
    if len(member.meta) > MAX_META:
        raise Unsendable(f"{len(member.meta)} bytes of metadata")
    return {
        b"Addr": _address_to_send(member.addr),
        b"Port": _u16(member.port),
        b"Meta": member.meta or None,
        b"Incarnation": _u32(member.incarnation),
        b"Vsn": member.vsn,
    }


def _encode_push_pull(exchange: PushPull) -> bytes:
    header = {
        b"Nodes": len(exchange.nodes),
        b"UserStateLen": len(exchange.user_state),
        b"Join": exchange.join,
    }
    states = [
        write_struct({b"Name": _raw(node.name), b"State": int(node.state), **_member_fields(node)})
        for node in exchange.nodes
    ]
    return b"".join([_framed(MessageType.PUSH_PULL, header), *states, exchange.user_state])


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _address_to_send(addr: bytes) -> bytes:
    if len(addr) not in _ADDRESS_SIZES:
        raise Unsendable(f"an address of {len(addr)} bytes")
    return addr


def _u16(value: int) -> int:
    if not 0 <= value <= 0xFFFF:
        raise Unsendable(f"port {value}")
    return value


def _u32(value: int) -> int:
    """Sequence numbers and incarnations wrap, as they do in Go."""
    if value < 0:
        raise Unsendable(f"a negative number: {value}")
    return value & _UINT32


# --- decoding


def _decode(data: bytes, known: Mapping[int, Callable[[bytes], _M]]) -> _M:
    if not data:
        raise WireError(Reason.EMPTY, "a message without a type byte")
    decode_body = known.get(data[0])
    if decode_body is None:
        raise WireError(Reason.UNSUPPORTED_TYPE, f"message type {data[0]}")
    return decode_body(data[1:])


def _decode_ping(body: bytes) -> Ping:
    fields = read_struct(PING_FIELDS, body)
    return Ping(
        seq_no=fields.unsigned(b"SeqNo", 32),
        node=_name(fields, b"Node"),
        source_addr=_optional_address(fields, b"SourceAddr"),
        source_port=fields.unsigned(b"SourcePort", 16),
        source_node=_name(fields, b"SourceNode"),
    )


def _decode_indirect_ping(body: bytes) -> IndirectPing:
    fields = read_struct(INDIRECT_PING_FIELDS, body)
    return IndirectPing(
        seq_no=fields.unsigned(b"SeqNo", 32),
        target=_address(fields, b"Target"),
        port=fields.unsigned(b"Port", 16),
        node=_name(fields, b"Node"),
        nack=fields.flag(b"Nack"),
        source_addr=_optional_address(fields, b"SourceAddr"),
        source_port=fields.unsigned(b"SourcePort", 16),
        source_node=_name(fields, b"SourceNode"),
    )


def _decode_ack(body: bytes) -> Ack:
    fields = read_struct(ACK_FIELDS, body)
    return Ack(fields.unsigned(b"SeqNo", 32), fields.octets(b"Payload"))


def _decode_nack(body: bytes) -> Nack:
    return Nack(read_struct(NACK_FIELDS, body).unsigned(b"SeqNo", 32))


def _decode_suspect(body: bytes) -> Suspect:
    return Suspect(*_accusation(body))


def _decode_dead(body: bytes) -> Dead:
    return Dead(*_accusation(body))


def _accusation(body: bytes) -> tuple[int, str, str]:
    """Incarnation, node, accuser. Accuser is empty in memberlist 0.1's leave."""
    fields = read_struct(ACCUSATION_FIELDS, body)
    return fields.unsigned(b"Incarnation", 32), _name(fields, b"Node"), _name(fields, b"From")


def _decode_alive(body: bytes) -> Alive:
    fields = read_struct(ALIVE_FIELDS, body)
    return Alive(
        incarnation=fields.unsigned(b"Incarnation", 32),
        node=_member_name(fields, b"Node"),
        addr=_address(fields, b"Addr"),
        port=fields.unsigned(b"Port", 16),
        meta=_meta(fields),
        vsn=_vsn(fields),
    )


def _decode_packet_user(body: bytes) -> UserMessage:
    return UserMessage(body)


def _decode_stream_user(body: bytes) -> UserMessage:
    reader = StructReader(body)
    length = reader.read(USER_FIELDS).signed(b"UserMsgLen")
    return UserMessage(_exactly(body, reader.offset, length))


def _decode_error(body: bytes) -> ErrorReply:
    fields = read_struct(ERROR_FIELDS, body)
    size = len(fields.octets(b"Error"))
    if size > MAX_ERROR_TEXT:
        raise WireError(Reason.TOO_LARGE, f"an error text of {size} bytes")
    return ErrorReply(fields.text(b"Error"))


def _decode_push_pull(body: bytes) -> PushPull:
    """Entries are first cut apart, then decoded, so that one of the wrong shape does not take the next along."""
    reader = StructReader(body)
    header = reader.read(PUSH_PULL_FIELDS)
    entries = [_next_entry(reader, body) for _ in range(_node_count(header))]
    user_state = _exactly(body, reader.offset, _user_state_size(header))
    nodes: list[PushNodeState] = []
    rejected: list[WireError] = []
    for entry in entries:
        try:
            nodes.append(_decode_node_state(entry))
        except WireError as error:
            rejected.append(error.as_value())
    return PushPull(header.flag(b"Join"), tuple(nodes), user_state, tuple(rejected))


def _node_count(header: Fields) -> int:
    count = header.signed(b"Nodes")
    if not 0 <= count <= MAX_PUSH_PULL_NODES:
        raise WireError(Reason.TOO_MANY, f"{count} nodes in a push/pull")
    return count


def _user_state_size(header: Fields) -> int:
    size = header.signed(b"UserStateLen")
    if size > MAX_USER_STATE:
        raise WireError(Reason.TOO_LARGE, f"{size} bytes of user state")
    return size


def _next_entry(reader: StructReader, body: bytes) -> bytes:
    start = reader.offset
    reader.skip()
    return body[start : reader.offset]


def _decode_node_state(entry: bytes) -> PushNodeState:
    fields = read_struct(NODE_STATE_FIELDS, entry)
    return PushNodeState(
        name=_member_name(fields, b"Name"),
        addr=_address(fields, b"Addr"),
        port=fields.unsigned(b"Port", 16),
        meta=_meta(fields),
        incarnation=fields.unsigned(b"Incarnation", 32),
        state=_state(fields),
        vsn=_vsn(fields),
    )


_PACKET_MESSAGES: Mapping[int, Callable[[bytes], PacketMessage]] = {
    MessageType.PING: _decode_ping,
    MessageType.INDIRECT_PING: _decode_indirect_ping,
    MessageType.ACK: _decode_ack,
    MessageType.SUSPECT: _decode_suspect,
    MessageType.ALIVE: _decode_alive,
    MessageType.DEAD: _decode_dead,
    MessageType.USER: _decode_packet_user,
    MessageType.NACK: _decode_nack,
}

_STREAM_MESSAGES: Mapping[int, Callable[[bytes], StreamMessage]] = {
    MessageType.PING: _decode_ping,
    MessageType.ACK: _decode_ack,
    MessageType.PUSH_PULL: _decode_push_pull,
    MessageType.USER: _decode_stream_user,
    MessageType.ERROR: _decode_error,
}


# --- values that must be sane


def _exactly(data: bytes, start: int, size: int) -> bytes:
    if not 0 <= size <= len(data) - start:
        raise WireError(Reason.TRUNCATED, f"{size} bytes announced, {len(data) - start} there")
    return data[start : start + size]


def _name(fields: Fields, key: bytes) -> str:
    raw = fields.octets(key)
    if len(raw) > MAX_NAME:
        raise WireError(Reason.BAD_NAME, f"{key.decode()}: {len(raw)} bytes")
    return fields.text(key)


def _member_name(fields: Fields, key: bytes) -> str:
    name = _name(fields, key)
    if not name:
        raise WireError(Reason.BAD_NAME, "a member without a name")
    return name


def _address(fields: Fields, key: bytes) -> bytes:
    addr = fields.octets(key)
    if len(addr) not in _ADDRESS_SIZES:
        raise WireError(Reason.BAD_ADDRESS, f"{key.decode()}: {len(addr)} bytes")
    return addr


def _optional_address(fields: Fields, key: bytes) -> bytes:
    return _address(fields, key) if fields.octets(key) else b""


def _meta(fields: Fields) -> bytes:
    meta = fields.octets(b"Meta")
    if len(meta) > MAX_RECEIVED_META:
        raise WireError(Reason.BAD_META, f"{len(meta)} bytes of metadata")
    return meta


def _vsn(fields: Fields) -> bytes:
    """A Vsn that could pass memberlist's verifyProtocol at least alone (protocol 4.3).

    Go stores what it gets; from then on every push/pull that repeats a senseless Vsn fails, for everybody.
    """
    vsn = fields.octets(b"Vsn")
    if len(vsn) != VSN_SIZE:
        raise WireError(Reason.BAD_VSN, f"a Vsn of {len(vsn)} bytes")
    pmin, pmax, pcur, dmin, dmax, dcur = vsn
    if not (1 <= pmin <= pcur <= pmax and dmin <= dcur <= dmax):
        raise WireError(Reason.BAD_VSN, f"Vsn {vsn.hex()}")
    return vsn


def _state(fields: Fields) -> NodeState:
    state = fields.signed(b"State")
    try:
        return NodeState(state)
    except ValueError:
        raise WireError(Reason.BAD_STATE, f"node state {state}") from None
