"""What `wesher decode` prints for a line."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wesher.wire.codec import encode
from wesher.wire.dissect import dissect_line
from wesher.wire.keyring import Keyring
from wesher.wire.messages import (
    Ack,
    Alive,
    Dead,
    ErrorReply,
    IndirectPing,
    Nack,
    NodeState,
    Ping,
    PushNodeState,
    PushPull,
    Suspect,
    UserMessage,
)
from wesher.wire.packet import seal_packet
from wesher.wire.stream import seal_stream

KEYRING = Keyring([bytes(range(32))])
NONCE = bytes(12)
V4 = bytes([10, 1, 2, 3])
VSN = "010502000000"


def udp(*parts: bytes) -> dict[str, object]:
    """The dissected datagram of these messages."""
    return dissect_line("udp " + seal_packet(parts, KEYRING, NONCE).hex(), KEYRING)


def tcp(message: bytes) -> dict[str, object]:
    """The dissected stream of this message."""
    return dissect_line("tcp " + seal_stream(message, KEYRING, NONCE).hex(), KEYRING)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            Ping(1, "b", V4, 7946, "a"),
            {
                "type": "ping",
                "seq_no": 1,
                "node": "b",
                "source_addr": "0a010203",
                "source_port": 7946,
                "source_node": "a",
            },
        ),
        (
            IndirectPing(1, V4, 7946, "b", nack=True),
            {
                "type": "indirectPing",
                "seq_no": 1,
                "target": "0a010203",
                "port": 7946,
                "node": "b",
                "nack": True,
                "source_addr": "",
                "source_port": 0,
                "source_node": "",
            },
        ),
        (Ack(1, b"hi"), {"type": "ackResp", "seq_no": 1, "payload": "6869"}),
        (Nack(1), {"type": "nackResp", "seq_no": 1}),
        (Suspect(2, "b", "a"), {"type": "suspect", "incarnation": 2, "node": "b", "accuser": "a"}),
        (Dead(2, "b", "b"), {"type": "dead", "incarnation": 2, "node": "b", "accuser": "b"}),
        (
            Alive(2, "b", V4, 7946, b"meta"),
            {
                "type": "alive",
                "incarnation": 2,
                "node": "b",
                "addr": "0a010203",
                "port": 7946,
                "meta": "6d657461",
                "vsn": VSN,
            },
        ),
        (UserMessage(b"hi"), {"type": "user", "payload": "6869"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_packet_message_is_its_type_and_its_fields(message, expected):
    """Types as on the wire, fields as in the dataclass, in its order."""
    dissected = udp(encode(message))
    assert dissected == {"layers": ["encrypt"], "messages": [expected]}
    assert list(dissected["messages"][0]) == list(expected)


def test_a_push_pull_lists_its_nodes():
    """With their states by name."""
    node = PushNodeState("a", V4, 7946, b"", 3, NodeState.LEFT)
    assert tcp(encode(PushPull(True, (node,), b"s"))) == {
        "layers": ["encrypt"],
        "messages": [
            {
                "type": "pushPull",
                "join": True,
                "nodes": [
                    {
                        "name": "a",
                        "addr": "0a010203",
                        "port": 7946,
                        "meta": "",
                        "incarnation": 3,
                        "state": "left",
                        "vsn": VSN,
                    }
                ],
                "user_state": "73",
            }
        ],
    }


def test_rejected_entries_are_told():
    """Whoever debugs a mesh looks for those."""
    (message,) = tcp(b"\x06\x81\xa5Nodes\x01\xc0")["messages"]
    assert message["nodes"] == []
    assert message["rejected"] == ["bad_name: a member without a name"]


def test_damage_is_told_beside_the_good_parts():
    """In its order."""
    dissected = udp(encode(Nack(1)), b"\x63", encode(Nack(2)))
    assert dissected["layers"] == ["encrypt", "compound"]
    assert [message["seq_no"] for message in dissected["messages"]] == [1, 2]
    assert dissected["damage"] == ["unsupported_type: message type 99"]


def test_an_error_reply_is_a_stream_message():
    """Its type is err."""
    assert tcp(encode(ErrorReply("no"))) == {"layers": ["encrypt"], "messages": [{"type": "err", "error": "no"}]}


def test_a_name_that_is_not_utf8_can_be_printed():
    """Escaped, where json.dumps would otherwise write what no UTF-8 output takes."""
    (message,) = udp(encode(Suspect(1, b"caf\xc3\xa9\xff".decode("utf-8", "surrogateescape"), "")))["messages"]
    assert message["node"] == "café\\xff"
    assert json.dumps(message, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("", "not a line"),
        ("udp", "empty: an empty datagram"),
        ("tcp", "truncated"),
        ("sctp 00", "not a line"),
        ("udp 0", "not hex"),
        ("udp zz", "not hex"),
        ("udp f40462", "label"),
        ("tcp 0a000000ff01", "truncated"),
        ("tcp 47", "unsupported_type"),
    ],
)
def test_a_line_that_says_nothing_is_an_error(line, error):
    """A value, not an exception: the next line may be good."""
    dissected = dissect_line(line, KEYRING)
    assert set(dissected) == {"error"}
    assert dissected["error"].startswith(error)


def test_hex_may_be_spaced_and_upper_case():
    """As capture tools print it."""
    data = seal_packet([encode(Nack(1))], KEYRING, NONCE).hex(" ").upper()
    assert dissect_line(f"  udp   {data}\n", KEYRING) == udp(encode(Nack(1)))


@settings(deadline=None)
@given(
    st.sampled_from(["udp", "tcp"]),
    st.binary(max_size=200).map(lambda plain: KEYRING.seal(plain, b"", NONCE))
    | st.binary(max_size=200)
    | st.binary(max_size=200).map(lambda plain: seal_stream(plain + b"\0", KEYRING, NONCE)),
)
def test_any_bytes_become_json(transport, data):
    """Printable as UTF-8."""
    dissected = dissect_line(f"{transport} {data.hex()}", KEYRING)
    assert set(dissected) in ({"error"}, {"layers", "messages"}, {"layers", "messages", "damage"})
    assert json.dumps(dissected, ensure_ascii=False).encode()


@given(st.text())
def test_any_line_becomes_json(line):
    """Whatever a file holds."""
    assert json.dumps(dissect_line(line, KEYRING))
