"""Everything that wesher nodes of both generations said to each other in three captured runs."""

import base64
import json
from pathlib import Path

import pytest

from wesher.wire.codec import encode
from wesher.wire.compression import compress_message, decompress_message
from wesher.wire.dissect import dissect_line
from wesher.wire.keyring import Keyring
from wesher.wire.messages import (
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Message,
    Nack,
    Ping,
    PushNodeState,
    PushPull,
    Suspect,
)
from wesher.wire.packet import open_packet
from wesher.wire.stream import StreamReader, seal_stream

CLUSTER_KEY = base64.b64decode("ILICZ3yBMCGAWNIq5Pn0bewBVimW3Q2yRVJ/Be+b1Uc=")
KEYRING = Keyring([CLUSTER_KEY])
COUNTS = {"master": (198, 10), "v026": (198, 12), "bindaddr": (63, 8)}
CAPTURES = {
    name: [json.loads(line) for line in (Path(__file__).parent / "captures" / f"{name}.jsonl").read_text().splitlines()]
    for name in COUNTS
}
PACKETS = [
    pytest.param(entry, id=f"{name}-{index}-{'+'.join(message['type'] for message in entry['messages'])}")
    for name, entries in CAPTURES.items()
    for index, entry in enumerate(entries)
    if entry["line"].startswith("udp ")
]
STREAMS = [
    pytest.param(entry, id=f"{name}-{index}")
    for name, entries in CAPTURES.items()
    for index, entry in enumerate(entries)
    if entry["line"].startswith("tcp ")
]


def wire(entry: dict) -> bytes:
    """The bytes behind `udp` or `tcp`."""
    return bytes.fromhex(entry["line"].partition(" ")[2])


def raw(name: str) -> str:
    """A name's bytes in hex, as the captures have them."""
    return name.encode("utf-8", "surrogateescape").hex()


def member_fields(member: Alive | PushNodeState) -> dict[str, object]:
    """What an alive and a push/pull entry share, in Go's names."""
    return {
        "Addr": member.addr.hex(),
        "Incarnation": member.incarnation,
        "Meta": member.meta.hex() or None,
        "Port": member.port,
        "Vsn": member.vsn.hex(),
    }


def source_fields(ping: Ping | IndirectPing) -> dict[str, object]:
    """Absent where empty."""
    if not ping.source_addr:
        return {}
    return {
        "SourceAddr": ping.source_addr.hex(),
        "SourceNode": raw(ping.source_node),
        "SourcePort": ping.source_port,
    }


def go_fields(message: Message) -> dict[str, object]:
    """The message's fields under their Go names, in the captures' form."""
    match message:
        case Ping():
            return {"Node": raw(message.node), "SeqNo": message.seq_no, **source_fields(message)}
        case IndirectPing():
            return {
                "Nack": message.nack,
                "Node": raw(message.node),
                "Port": message.port,
                "SeqNo": message.seq_no,
                "Target": message.target.hex(),
                **source_fields(message),
            }
        case Ack():
            return {"Payload": message.payload.hex() or None, "SeqNo": message.seq_no}
        case Nack():
            return {"SeqNo": message.seq_no}
        case Suspect() | Dead():
            return {
                "From": raw(message.accuser),
                "Incarnation": message.incarnation,
                "Node": raw(message.node),
            }
        case Alive():
            return {"Node": raw(message.node), **member_fields(message)}
        case PushPull():
            return {
                "Join": message.join,
                "Nodes": len(message.nodes),
                "UserStateLen": len(message.user_state),
                "states": [
                    {"Name": raw(node.name), "State": int(node.state), **member_fields(node)} for node in message.nodes
                ],
            }
    raise AssertionError(message)


@pytest.mark.parametrize("name", COUNTS)
def test_the_captures_are_whole(name):
    """So that an emptied file does not pass."""
    kinds = [entry["line"][:3] for entry in CAPTURES[name]]
    assert (kinds.count("udp"), kinds.count("tcp")) == COUNTS[name]


@pytest.mark.parametrize("entry", PACKETS)
def test_a_captured_packet_decodes_to_what_go_meant(entry):
    """All layers, all messages in order, all fields, no damage."""
    opened = open_packet(wire(entry), KEYRING)
    assert list(opened.layers) == entry["layers"]
    assert [go_fields(message) for message in opened.messages] == [message["fields"] for message in entry["messages"]]
    assert opened.damage == ()


@pytest.mark.parametrize("entry", PACKETS)
def test_a_captured_message_is_encoded_to_the_bytes_go_sent(entry):
    """Every message of every packet."""
    opened = open_packet(wire(entry), KEYRING)
    assert [encode(message).hex() for message in opened.messages] == [message["plain"] for message in entry["messages"]]


@pytest.mark.parametrize("entry", STREAMS)
def test_a_captured_stream_decodes_to_what_go_meant(entry):
    """A push/pull each, all nodes, all fields, none rejected."""
    reader = StreamReader(KEYRING)
    message = reader.feed(wire(entry))
    assert isinstance(message, PushPull)
    assert list(reader.layers) == entry["layers"]
    assert [go_fields(message)] == [message["fields"] for message in entry["messages"]]
    assert message.rejected == ()


@pytest.mark.parametrize("entry", STREAMS)
def test_a_captured_stream_is_encoded_to_the_bytes_go_sent(entry):
    """Down to the compressed, sealed stream under the nonce of the capture."""
    sent = wire(entry)
    message = StreamReader(KEYRING).feed(sent)
    assert isinstance(message, PushPull)
    compressed = KEYRING.open(sent[5:], sent[:5])
    assert encode(message) == decompress_message(compressed[1:], 1 << 20)
    assert compress_message(encode(message)) == compressed
    assert seal_stream(encode(message), KEYRING, nonce=sent[6:18], compress=True) == sent


@pytest.mark.parametrize("entry", [*PACKETS, *STREAMS])
def test_a_captured_line_is_dissected(entry):
    """`wesher decode` names the same layers and types."""
    dissected = dissect_line(entry["line"], KEYRING)
    assert dissected["layers"] == entry["layers"]
    assert [message["type"] for message in dissected["messages"]] == [message["type"] for message in entry["messages"]]
    assert "damage" not in dissected
    json.dumps(dissected)
