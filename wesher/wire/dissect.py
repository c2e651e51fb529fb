"""One captured packet or stream as JSON: what `wesher decode` prints.

A line is `udp HEX` or `tcp HEX`, the latter a whole direction of a connection. Nothing on a line is an exception: it
comes from a capture, where everything happens. Bytes become hex, names text, with bytes that are not UTF-8 as \\xNN.
"""

from dataclasses import fields, is_dataclass
from enum import IntEnum

from wesher.wire.errors import WireError
from wesher.wire.keyring import Keyring
from wesher.wire.messages import (
    Ack,
    Alive,
    Dead,
    ErrorReply,
    IndirectPing,
    Message,
    Nack,
    Ping,
    PushPull,
    Suspect,
    UserMessage,
)
from wesher.wire.packet import open_packet
from wesher.wire.stream import StreamReader

_TYPE_NAMES: dict[type, str] = {  # protocol 1.1
    Ping: "ping",
    IndirectPing: "indirectPing",
    Ack: "ackResp",
    Suspect: "suspect",
    Alive: "alive",
    Dead: "dead",
    PushPull: "pushPull",
    UserMessage: "user",
    Nack: "nackResp",
    ErrorReply: "err",
}


def dissect_line(line: str, keyring: Keyring) -> dict[str, object]:
    """`{"layers": [...], "messages": [{"type": ..., fields}], "damage": [...]}`, or `{"error": text}`. Never raises.

    "damage" and a push/pull's "rejected" are there only where there is some.
    """
    transport, _, text = line.strip().partition(" ")
    if transport not in {"udp", "tcp"}:
        return {"error": "not a line: want `udp HEX` or `tcp HEX`"}
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return {"error": "not hex"}
    try:
        return _dissect_udp(data, keyring) if transport == "udp" else _dissect_tcp(data, keyring)
    except WireError as error:
        return {"error": str(error)}


def _dissect_udp(data: bytes, keyring: Keyring) -> dict[str, object]:
    opened = open_packet(data, keyring)
    found: dict[str, object] = {
        "layers": list(opened.layers),
        "messages": [_describe(message) for message in opened.messages],
    }
    if opened.damage:
        found["damage"] = _plain(opened.damage)
    return found


def _dissect_tcp(data: bytes, keyring: Keyring) -> dict[str, object]:
    reader = StreamReader(keyring)
    message = reader.feed(data)
    if message is None:
        return {"error": f"truncated: the stream ends after {len(data)} bytes"}
    return {"layers": list(reader.layers), "messages": [_describe(message)]}


def _describe(message: Message) -> dict[str, object]:
    described = {"type": _TYPE_NAMES[type(message)], **_fields(message)}
    if not described.get("rejected"):
        described.pop("rejected", None)
    return described


def _fields(value: object) -> dict[str, object]:
    assert is_dataclass(value)  # noqa: S101 - for mypy
    return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}


def _plain(value: object) -> object:
    """`value` in JSON's types."""
    match value:
        case bytes():
            return value.hex()
        case str():
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        case IntEnum():
            return value.name.lower()
        case int():
            return value
        case tuple():
            return [_plain(item) for item in value]
        case WireError():
            return _plain(str(value))
        case _:
            return _fields(value)
