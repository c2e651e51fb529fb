"""Sealed packets and streams: the fixed vectors, and what live memberlist 0.1.4, 0.2.2 and 0.5.1 sent."""

import json
from pathlib import Path

import pytest

from wesher.wire.codec import encode
from wesher.wire.compression import decompress_message
from wesher.wire.errors import WireError
from wesher.wire.keyring import Keyring
from wesher.wire.messages import Ack, Alive, ErrorReply, Ping, PushPull, Suspect
from wesher.wire.packet import Opened, open_packet, seal_packet
from wesher.wire.stream import StreamReader, seal_stream

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
HEX = {entry["name"]: bytes.fromhex(entry["hex"]) for entry in VECTORS["messages"]}
CAPTURED = {entry["name"]: entry for entry in VECTORS["captured"]}
VERSIONS = ("0.1.4", "0.2.2", "0.5.1")
NONCE = bytes.fromhex(VECTORS["meta"]["fixed_nonce_hex"])
PING = Ping(42, "node-b")
SUSPECT = Suspect(3, "node-b", "node-a")


@pytest.fixture
def keyring() -> Keyring:
    """The vectors' key, alone."""
    return Keyring([HEX["enc_key"]])


def captured(kind: str, version: str) -> tuple[bytes, bytes]:
    """Wire and plaintext of one captured packet or stream."""
    entry = CAPTURED[f"captured_{version}_{kind}"]
    return bytes.fromhex(entry["wire"]), bytes.fromhex(entry["plain"])


def test_a_bare_packet_is_sealed_as_go_seals_it(keyring):
    """Version 1, no padding, no AAD."""
    assert seal_packet([encode(PING)], keyring, NONCE) == HEX["enc_v1_packet_ping"]
    assert open_packet(HEX["enc_v1_packet_ping"], keyring) == Opened(("encrypt",), (PING,), ())


def test_a_compound_with_a_crc_is_sealed_as_go_seals_it(keyring):
    """The CRC is inside the encryption, around the compound."""
    sealed = seal_packet([encode(PING), encode(SUSPECT)], keyring, NONCE, crc=True)
    assert sealed == HEX["enc_v1_packet_crc_compound"]
    assert keyring.open(sealed, b"") == HEX["crc_compound"]
    assert open_packet(sealed, keyring) == Opened(("encrypt", "hasCrc", "compound"), (PING, SUSPECT), ())


def test_a_push_pull_stream_is_sealed_as_go_seals_it(keyring):
    """Compressed, with the five bytes of framing as AAD."""
    sealed = seal_stream(HEX["pushpull_full"], keyring, NONCE, compress=True)
    assert sealed == HEX["enc_v1_stream_pushpull"]
    reader = StreamReader(keyring)
    assert encode(reader.feed(sealed)) == HEX["pushpull_full"]
    assert reader.layers == ("encrypt", "compress")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("enc_v0_packet_ping", "encryption_version"),
        ("enc_v1_packet_ping_label", "undecryptable"),
        ("enc_v1_packet_ping_label_wire", "label"),
        ("ping_noname_src", "encryption_version"),
        ("indirect_nack", "undecryptable"),
        ("alive_v6", "plaintext"),
        ("crc_compound", "plaintext"),
    ],
)
def test_a_packet_not_sealed_for_us_is_dropped(keyring, name, code):
    """Version 0, labels and plaintext; a plaintext ping or indirect ping looks like versions 0 and 1."""
    with pytest.raises(WireError) as caught:
        open_packet(HEX[name], keyring)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("enc_v0_stream_pushpull", "encryption_version"),
        ("enc_v1_stream_pushpull_label", "label"),
        ("pushpull_full", "plaintext"),
        ("compress_pushpull_full", "plaintext"),
    ],
)
def test_a_stream_not_sealed_for_us_is_refused(keyring, name, code):
    """Version 0, labels and plaintext."""
    with pytest.raises(WireError) as caught:
        StreamReader(keyring).feed(HEX[name])
    assert caught.value.code == code


@pytest.mark.parametrize("version", VERSIONS)
def test_a_live_push_pull_reply_is_read(keyring, version):
    """And its re-encoding is what was sent."""
    wire, plain = captured("pushpull_reply", version)
    message = StreamReader(keyring).feed(wire)
    assert isinstance(message, PushPull)
    assert [node.name for node in message.nodes] == ["go"]
    assert encode(message) == decompress_message(plain[1:], 1000)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_live_error_reply_is_read(keyring, version):
    """Go answers so to a plaintext stream."""
    wire, _ = captured("err_reply", version)
    expected = ErrorReply("Encryption is configured but remote state is not encrypted")
    assert StreamReader(keyring).feed(wire) == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_a_live_ack_on_a_stream_is_read(keyring, version):
    """Compressed although that makes it longer."""
    wire, plain = captured("tcp_ack", version)
    message = StreamReader(keyring).feed(wire)
    assert isinstance(message, Ack)
    assert encode(message) == decompress_message(plain[1:], 1000)


@pytest.mark.parametrize("version", VERSIONS)
def test_live_gossip_is_read(keyring, version):
    """CRC, LZW, compound, two alives."""
    wire, plain = captured("udp_gossip_crc", version)
    opened = open_packet(wire, keyring)
    assert keyring.open(wire, b"") == plain
    assert opened.layers == ("encrypt", "hasCrc", "compress", "compound")
    assert [type(message) for message in opened.messages] == [Alive, Alive]
    assert opened.damage == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_live_ping_is_read(keyring, version):
    """With source fields since 0.2.0, and re-encoded to the same bytes."""
    wire, plain = captured("udp_ping", version)
    (ping,) = open_packet(wire, keyring).messages
    assert ping.node == "py"
    assert ping.source_node == ("" if version == "0.1.4" else "go")
    assert encode(ping) == plain
