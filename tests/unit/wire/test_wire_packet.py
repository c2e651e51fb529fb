"""Datagrams: layers on and off, damage that costs only itself, and bombs."""

import contextlib
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wesher.wire import packet
from wesher.wire.codec import encode
from wesher.wire.compression import compress_message, decompress_message
from wesher.wire.errors import Unsendable, WireError
from wesher.wire.keyring import Keyring
from wesher.wire.limits import (
    CRC_OVERHEAD,
    MAX_DATAGRAM,
    MAX_DECOMPRESSED_PACKET,
    MAX_PACKET_PARTS,
    SEAL_OVERHEAD,
)
from wesher.wire.messages import Nack, Suspect, UserMessage
from wesher.wire.packet import Opened, open_packet, seal_packet

KEYRING = Keyring([bytes(range(32))])
NONCE = bytes(12)
NACK = encode(Nack(1))
USER_BOMB = compress_message(encode(UserMessage(bytes(MAX_DECOMPRESSED_PACKET))))


def opened(plain: bytes) -> Opened:
    """What is in a plaintext that somebody with the key sealed."""
    return open_packet(KEYRING.seal(plain, b"", NONCE), KEYRING)


def refused(data: bytes) -> str:
    """The code of the error that opening the datagram raises."""
    with pytest.raises(WireError) as caught:
        open_packet(data, KEYRING)
    return caught.value.code


def codes(result: Opened) -> list[str]:
    """Why parts were dropped."""
    return [error.code for error in result.damage]


def compound(*parts: bytes) -> bytes:
    """A compound such as we would never send: up to 255 parts, of any kind."""
    lengths = b"".join(len(part).to_bytes(2, "big") for part in parts)
    return bytes([7, len(parts)]) + lengths + b"".join(parts)


messages = st.builds(Suspect, st.integers(0, 99), st.text(max_size=5), st.text(max_size=5)) | st.builds(
    UserMessage, st.binary(max_size=50)
)


@settings(deadline=None)
@given(st.lists(messages, min_size=1, max_size=127), st.booleans(), st.binary(min_size=12, max_size=12))
def test_what_is_sealed_is_opened_in_order(sent, crc, nonce):
    """One message bare, several as a compound, with or without CRC."""
    parts = [encode(message) for message in sent]
    datagram = seal_packet(parts, KEYRING, nonce, crc=crc)
    layers = ("encrypt", *["hasCrc"] * crc, *["compound"] * (len(sent) > 1))
    assert open_packet(datagram, KEYRING) == Opened(layers, tuple(sent), ())


@st.composite
def layered(draw: st.DrawFn, depth: int = 3) -> tuple[bytes, list[object]]:
    """A message, or compress and compound layers around some, at most three deep; and the messages in order."""
    kind = draw(st.sampled_from(["message", "compress", "compound"])) if depth else "message"
    if kind == "message":
        message = draw(messages)
        return encode(message), [message]
    inside = draw(st.lists(layered(depth - 1), min_size=1, max_size=1 if kind == "compress" else 4))
    parts = [part for part, _ in inside]
    plain = compress_message(parts[0]) if kind == "compress" else compound(*parts)
    return plain, [message for _, found in inside for message in found]


@settings(deadline=None)
@given(layered(), st.booleans())
def test_what_any_layers_hold_is_opened_in_order(wrapped, crc):
    """As other senders may nest them, the CRC around all of it."""
    plain, sent = wrapped
    checked = b"\x0c" + zlib.crc32(plain).to_bytes(4, "big") + plain if crc else plain
    assert (list(opened(checked).messages), opened(checked).damage) == (sent, ())


@given(st.binary(max_size=300))
def test_any_datagram_opens_or_raises_wire_error(data):
    """In truth none opens that was not sealed."""
    assert refused(data)


@settings(deadline=None)
@given(
    st.binary(max_size=300)
    | st.lists(st.binary(max_size=60), max_size=20).map(lambda parts: compound(*parts))
    | st.lists(st.binary(max_size=60), max_size=5).map(lambda parts: compress_message(compound(*parts)))
)
def test_any_plaintext_opens_or_raises_wire_error(plain):
    """A message is delivered or is damage."""
    with contextlib.suppress(WireError):
        result = opened(plain)
        assert len(result.messages) + len(result.damage) >= (plain[0] not in {7, 9})
        assert len(result.messages) + len(result.damage) <= MAX_PACKET_PARTS + 1


def test_the_overheads_are_what_packing_counts_with():
    """29 bytes for the seal, 5 for the CRC."""
    assert len(seal_packet([NACK], KEYRING, NONCE)) == len(NACK) + SEAL_OVERHEAD
    assert len(seal_packet([NACK], KEYRING, NONCE, crc=True)) == len(NACK) + SEAL_OVERHEAD + CRC_OVERHEAD


@pytest.mark.parametrize(
    "parts", [[], [b""], [NACK, b""], [NACK] * 128, [bytes(MAX_DATAGRAM)]], ids=["none", "empty", "part", "128", "64k"]
)
def test_what_old_peers_do_not_survive_is_never_sealed(parts):
    """Empty messages, more than 127 parts, more than a datagram."""
    with pytest.raises(Unsendable):
        seal_packet(parts, KEYRING, NONCE)


def test_a_packet_with_a_wrong_crc_is_dropped():
    """Whole: the CRC is over all of it."""
    assert refused(KEYRING.seal(b"\x0c" + bytes(4) + NACK, b"", NONCE)) == "crc"


def test_a_crc_inside_another_layer_is_not_supported():
    """It is a layer only right inside the encryption."""
    checked = b"\x0c" + zlib.crc32(NACK).to_bytes(4, "big") + NACK
    assert opened(checked) == Opened(("encrypt", "hasCrc"), (Nack(1),), ())
    assert codes(opened(compound(checked))) == ["unsupported_type"]
    assert codes(opened(b"\x0c" + bytes(3))) == ["unsupported_type"]


def test_a_crc_of_nothing_is_right_and_says_nothing():
    """The shortest layer there is."""
    result = opened(b"\x0c" + bytes(4))
    assert (result.layers, codes(result)) == (("encrypt", "hasCrc"), ["empty"])


def test_a_datagram_may_be_as_long_as_it_is_read():
    """65536 bytes."""
    user = UserMessage(bytes(MAX_DATAGRAM - SEAL_OVERHEAD - 1))
    datagram = seal_packet([encode(user)], KEYRING, NONCE)
    assert len(datagram) == MAX_DATAGRAM
    assert open_packet(datagram, KEYRING).messages == (user,)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (bytes(MAX_DATAGRAM + 1), "too_large"),
        (b"\xf4\x04blue" + bytes(50), "label"),
        (b"\x00" + bytes(50), "encryption_version"),
        (b"\x01" + bytes(50), "undecryptable"),
        (b"\x02" + bytes(50), "plaintext"),
        (b"\x07" + bytes(50), "plaintext"),
        (b"\x0d" + bytes(50), "plaintext"),
        (b"\x0e" + bytes(50), "encryption_version"),
        (KEYRING.seal(b"", b"", NONCE), "empty"),
        (Keyring([bytes(32)]).seal(NACK, b"", NONCE), "undecryptable"),
    ],
)
def test_a_datagram_not_sealed_for_us_is_dropped_whole(data, code):
    """And counted under what it looks like."""
    assert refused(data) == code


def test_a_bad_part_costs_only_itself():
    """Unknown types, broken structs, empty parts, types of streams."""
    result = opened(compound(NACK, b"\x63", b"", b"\x0b\xc1", b"\x06\x80", b"\x0a", NACK))
    assert result.messages == (Nack(1), Nack(1))
    assert codes(result) == ["unsupported_type", "empty", "malformed", "unsupported_type", "unsupported_type"]


def test_the_parts_before_a_cut_are_delivered():
    """The rest is damage."""
    result = opened(compound(NACK, NACK, NACK)[:-1])
    assert result.messages == (Nack(1), Nack(1))
    assert codes(result) == ["truncated"]


def test_a_message_alone_that_does_not_decode_is_damage():
    """The packet itself was good."""
    result = opened(b"\x63")
    assert (result.layers, result.messages, codes(result)) == (("encrypt",), (), ["unsupported_type"])


def test_nested_layers_are_opened_in_order():
    """Three, one more than Go makes."""
    users = [encode(UserMessage(bytes([n]))) for n in range(6)]
    inner = compress_message(compound(*users[2:4]))
    result = opened(compound(*users[:2], inner, *users[4:]))
    assert result.layers == ("encrypt", "compound", "compress", "compound")
    assert result.messages == tuple(UserMessage(bytes([n])) for n in range(6))
    assert result.damage == ()


@pytest.mark.parametrize("wrap", [compress_message, compound], ids=["compress", "compound"])
def test_a_fourth_layer_is_damage(wrap):
    """What is inside it is never looked at."""
    plain = NACK
    for depth in range(1, 5):
        plain = wrap(plain)
        result = opened(plain)
        assert (len(result.messages), codes(result)) == ((1, []) if depth <= 3 else (0, ["nesting"]))
    assert len(result.layers) == 4


def test_a_compress_message_may_fill_the_budget():
    """And not one byte more."""
    full = encode(UserMessage(bytes(MAX_DECOMPRESSED_PACKET - 1)))
    assert opened(compress_message(full)).messages == (UserMessage(bytes(MAX_DECOMPRESSED_PACKET - 1)),)
    assert codes(opened(USER_BOMB)) == ["too_large"]


@pytest.fixture
def expanded(monkeypatch) -> list[int]:
    """What each decompression gave, or was allowed to give before it failed."""
    sizes: list[int] = []

    def watched(body: bytes, limit: int) -> bytes:
        sizes.append(limit)
        message = decompress_message(body, limit)
        sizes[-1] = len(message)
        return message

    monkeypatch.setattr(packet, "decompress_message", watched)
    return sizes


@pytest.mark.parametrize(
    "part",
    [
        USER_BOMB,
        compress_message(encode(UserMessage(bytes(30000)))),
        compress_message(bytes(60000))[:-3],
        compress_message(USER_BOMB),
    ],
    ids=["bomb", "half", "broken", "nested"],
)
def test_all_bombs_of_a_datagram_share_one_budget(expanded, part):
    """A hundred of them together give, and cost, no more than one."""
    result = opened(compound(*[part] * 100))
    assert sum(expanded) <= MAX_DECOMPRESSED_PACKET
    assert sum(len(message.payload) for message in result.messages) <= MAX_DECOMPRESSED_PACKET
    assert set(codes(result)) <= {"too_large", "compression", "truncated"}
    assert len(result.damage) >= 98


def test_compounds_of_compounds_share_one_budget_of_parts():
    """65 thousand bytes could hold ten thousand messages; the first ones are delivered."""
    user = encode(UserMessage(b""))
    result = opened(compound(*[compound(*[user] * 80)] * 250))
    assert len(result.messages) < MAX_PACKET_PARTS
    assert len(result.messages) > MAX_PACKET_PARTS - 20
    assert codes(result) == ["too_many"]


def test_compounds_of_nothing_share_it_too():
    """Parts that fail are counted like parts that do not."""
    result = opened(compound(*[compound(*[b""] * 255)] * 120))
    assert result.messages == ()
    assert len(result.damage) <= MAX_PACKET_PARTS
    assert codes(result)[-1] == "too_many"


def test_a_full_compound_is_within_the_budgets():
    """255 messages, as memberlist since 0.3.2 may send."""
    result = opened(compound(*[NACK] * 255))
    assert result.messages == (Nack(1),) * 255
    assert result.damage == ()


def test_damage_does_not_hold_on_to_the_datagram():
    """Errors are kept as values; a traceback would keep every frame alive."""
    (error,) = opened(b"\x63").damage
    assert error.__traceback__ is None
