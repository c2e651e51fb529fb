"""Messages as memberlist 0.1.4, 0.2.2 and 0.5.1 encode them."""

import json
from pathlib import Path

import pytest

from wesher.wire.codec import (
    NODE_STATE_FIELDS,
    PUSH_PULL_FIELDS,
    decode_packet_message,
    decode_stream_message,
    encode,
    encode_stream_user,
)
from wesher.wire.compound import join_compound, split_compound
from wesher.wire.compression import compress_message, decompress_message
from wesher.wire.errors import WireError
from wesher.wire.messages import (
    Ack,
    Alive,
    Dead,
    ErrorReply,
    IndirectPing,
    Message,
    Nack,
    NodeState,
    Ping,
    PushNodeState,
    PushPull,
    Suspect,
    UserMessage,
)
from wesher.wire.structs import read_struct, write_struct

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
HEX = {entry["name"]: bytes.fromhex(entry["hex"]) for entry in VECTORS["messages"]}
META = {entry["name"]: bytes.fromhex(entry["hex"]) for entry in VECTORS["gob"]}

V4 = bytes([10, 1, 2, 3])
MAPPED = bytes(10) + b"\xff\xff" + V4
V6 = bytes.fromhex("20010db8000000000000000000000001")
WESHER_ADDR = bytes([192, 0, 2, 11])

NODE_A = PushNodeState("node-a", V4, 7946, b"meta", 2, NodeState.ALIVE)
NODE_B = PushNodeState("node-b", bytes([10, 1, 2, 4]), 7946, b"", 7, NodeState.DEAD)

PACKET_MESSAGES: dict[str, Message] = {
    **{f"nack_seq_{n}": Nack(n) for n in (0, 1, 127, 128, 255, 256, 65535, 65536, 4294967295)},
    "ping_noname_src": Ping(42, "node-b"),
    "ping_emptyname": Ping(42, ""),
    "ping_src": Ping(42, "node-b", V4, 7946, "node-a"),
    "ping_src16": Ping(42, "node-b", MAPPED, 7946, "node-a"),
    "indirect_nack": IndirectPing(42, bytes([10, 1, 2, 4]), 7946, "node-b", nack=True),
    "indirect_nonack": IndirectPing(42, bytes([10, 1, 2, 4]), 7946, "node-b", nack=False),
    "indirect_src": IndirectPing(42, bytes([10, 1, 2, 4]), 7946, "node-b", True, V4, 7946, "node-a"),
    "ack_nil": Ack(42),
    "ack_payload": Ack(42, b"hi"),
    "suspect": Suspect(3, "node-b", "node-a"),
    "dead": Dead(3, "node-b", "node-a"),
    "dead_from_empty": Dead(3, "node-b", ""),
    "dead_leave": Dead(3, "node-b", "node-b"),
    "alive_v4_nometa": Alive(1, "node-a", V4, 7946, b""),
    "alive_v4in16": Alive(1, "node-a", MAPPED, 7946, b""),
    "alive_v6": Alive(2, "node-a", V6, 7946, b"meta"),
    "alive_meta40": Alive(2, "node-a", V4, 7946, b"\xaa" * 40),
    "alive_wesher_v026": Alive(2, "test", WESHER_ADDR, 7946, META["v026_v4"]),
    "alive_wesher_master": Alive(2, "test", WESHER_ADDR, 7946, META["master_v4"]),
    "user_packet": UserMessage(b"hello"),
}

STREAM_MESSAGES: dict[str, Message] = {
    "err": ErrorReply("boom"),
    "err_32": ErrorReply("0123456789abcdef0123456789abcdef"),
    "pushpull_full": PushPull(True, (NODE_A, NODE_B)),
}

# What each remaining vector is, and where it is tested.
HEADERS = {"pushpull_header_join", "pushpull_header_300"}
STATES = {"pushnodestate_alive": NODE_A, "pushnodestate_dead": NODE_B}
ODD = {"ack_empty", "alive_nilvsn", "user_stream"}
WRAPPERS = {"compound_ping_suspect", "compress_pushpull_full", "compress_compound", "compress_empty"}
ELSEWHERE = {name for name in HEX if name.startswith("enc_")} | {"crc_compound"}


def test_every_vector_is_tested():
    """A vector added to the file must be added here."""
    tested = {*PACKET_MESSAGES, *STREAM_MESSAGES, *HEADERS, *STATES, *ODD, *WRAPPERS, *ELSEWHERE}
    assert tested == set(HEX)


@pytest.mark.parametrize("name", [*PACKET_MESSAGES, *STREAM_MESSAGES])
def test_a_message_is_encoded_as_go_encodes_it(name):
    """Byte for byte, for every memberlist version."""
    assert encode({**PACKET_MESSAGES, **STREAM_MESSAGES}[name]).hex() == HEX[name].hex()


@pytest.mark.parametrize("name", PACKET_MESSAGES)
def test_a_packet_message_of_go_is_decoded(name):
    """Every field of it."""
    assert decode_packet_message(HEX[name]) == PACKET_MESSAGES[name]


@pytest.mark.parametrize("name", STREAM_MESSAGES)
def test_a_stream_message_of_go_is_decoded(name):
    """Every field of it."""
    assert decode_stream_message(HEX[name]) == STREAM_MESSAGES[name]


def test_an_empty_payload_is_an_ack_without_one():
    """Go tells nil from empty; nobody means anything by it."""
    assert decode_packet_message(HEX["ack_empty"]) == Ack(42)


def test_an_alive_without_a_vsn_is_refused():
    """Go accepts it, and from then on every push/pull that repeats it fails."""
    with pytest.raises(WireError) as caught:
        decode_packet_message(HEX["alive_nilvsn"])
    assert caught.value.code == "bad_vsn"


def test_a_user_message_has_another_form_on_a_stream():
    """There its length comes first."""
    assert encode_stream_user(UserMessage(b"hello")) == HEX["user_stream"]
    assert decode_stream_message(HEX["user_stream"]) == UserMessage(b"hello")


@pytest.mark.parametrize("entry", [e for e in VECTORS["messages"] if e["name"] in HEADERS], ids=lambda e: e["hex"])
def test_a_push_pull_header_is_read_in_both_forms_of_integers(entry):
    """go-msgpack 0.5.5 sends 300 as uint16, 2.x as int16."""
    fields = read_struct(PUSH_PULL_FIELDS, bytes.fromhex(entry["hex"])[1:])
    joining = entry["name"] == "pushpull_header_join"
    assert fields.signed(b"Nodes") == (2 if joining else 300)
    assert fields.signed(b"UserStateLen") == (0 if joining else 5)
    assert fields.flag(b"Join") is joining


def test_a_push_pull_of_300_nodes_begins_as_go_begins_it():
    """With the unsigned form of 0.5.5, which all accept."""
    header = next(bytes.fromhex(e["hex"]) for e in VECTORS["messages"] if e["name"] == "pushpull_header_300")
    assert encode(PushPull(False, (NODE_A,) * 300, b"state")).startswith(header)


@pytest.mark.parametrize("name", STATES)
def test_an_entry_of_a_push_pull_is_the_same_on_both_sides(name):
    """Its key is Name where an alive says Node."""
    body = encode(PushPull(True, (STATES[name],)))
    assert body.endswith(HEX[name])
    assert read_struct(NODE_STATE_FIELDS, HEX[name]).text(b"Name") == STATES[name].name


@pytest.mark.parametrize("entry", VECTORS["int_encoding"], ids=lambda e: str(e["value"]))
def test_a_signed_integer_is_read_in_either_form(entry):
    """And written in the form of 0.5.5."""
    key = b"\x81\xa5Nodes"
    for form in ("go_int_field_msgpack_0.5.5", "go_int_field_msgpack_v2"):
        fields = read_struct(PUSH_PULL_FIELDS, key + bytes.fromhex(entry[form]))
        assert fields.signed(b"Nodes") == entry["value"]
    assert write_struct({b"Nodes": entry["value"]}) == key + bytes.fromhex(entry["go_int_field_msgpack_0.5.5"])


def test_a_compound_is_put_together_and_taken_apart():
    """Ping and suspect, as a probe of a suspect sends them."""
    parts = [HEX["ping_noname_src"], HEX["suspect"]]
    assert join_compound(parts) == HEX["compound_ping_suspect"]
    assert split_compound(HEX["compound_ping_suspect"][1:]) == (parts, 0)


@pytest.mark.parametrize("inner", ["pushpull_full", "compound_ping_suspect"])
def test_a_compress_message_is_the_same_on_both_sides(inner):
    """Type byte, Algo and Buf."""
    wrapped = HEX["compress_pushpull_full" if inner == "pushpull_full" else "compress_compound"]
    assert compress_message(HEX[inner]) == wrapped
    assert decompress_message(wrapped[1:], 1 << 16) == HEX[inner]


def test_a_compress_message_with_nothing_inside_is_refused():
    """memberlist before its guards panicked on it."""
    assert compress_message(b"") == HEX["compress_empty"]
    with pytest.raises(WireError) as caught:
        decompress_message(HEX["compress_empty"][1:], 100)
    assert caught.value.code == "empty"
