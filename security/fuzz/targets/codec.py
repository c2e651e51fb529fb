"""One message, type byte first, read as a packet's and as a stream's.

Promises: only WireError; what is read is written in the one form we send, which reads as the same and is written as
the same again.
"""

from wesher.wire.codec import decode_packet_message, decode_stream_message, encode, encode_stream_user
from wesher.wire.errors import Reason, WireError
from wesher.wire.limits import MAX_ERROR_TEXT, MAX_NAME, MAX_RECEIVED_META
from wesher.wire.messages import Alive, ErrorReply, Message, PushNodeState, PushPull, UserMessage

_CODES = {reason.value for reason in Reason}


def check(data: bytes) -> None:
    """One message."""
    try:
        message: Message = decode_packet_message(data)
    except WireError as error:
        assert error.code in _CODES
    else:
        _check_values(message)
        assert decode_packet_message(encode(message)) == message
    try:
        message = decode_stream_message(data)
    except WireError as error:
        assert error.code in _CODES
        return
    _check_values(message)
    written = encode_stream_user(message) if isinstance(message, UserMessage) else encode(message)
    again = decode_stream_message(written)
    assert again == message
    assert written == (encode_stream_user(again) if isinstance(again, UserMessage) else encode(again))


def _check_values(message: Message) -> None:
    match message:
        case Alive(node=name):
            _check_member(name, message)
        case PushPull(nodes=nodes):
            for node in nodes:
                _check_member(node.name, node)
        case ErrorReply(text):
            assert len(_raw(text)) <= MAX_ERROR_TEXT


def _check_member(name: str, member: Alive | PushNodeState) -> None:
    assert 0 < len(_raw(name)) <= MAX_NAME
    assert len(member.addr) in {4, 16}
    assert len(member.meta) <= MAX_RECEIVED_META
    assert 0 <= member.port < 1 << 16
    assert 0 <= member.incarnation < 1 << 32


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
