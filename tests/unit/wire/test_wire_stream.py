"""Streams: sealed, cut anywhere, cut short, and lying about their length."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wesher.wire import stream
from wesher.wire.codec import encode, encode_stream_user
from wesher.wire.compression import compress_message
from wesher.wire.errors import Unsendable, WireError
from wesher.wire.keyring import Keyring
from wesher.wire.limits import MAX_STREAM_BLOB, STREAM_COMPRESS_ABOVE
from wesher.wire.messages import Ack, ErrorReply, NodeState, Ping, PushNodeState, PushPull, UserMessage
from wesher.wire.stream import StreamReader, seal_stream

KEYRING = Keyring([bytes(range(32))])
NONCE = bytes(12)
NODES = tuple(PushNodeState(f"n{n}", bytes([10, 0, 0, n]), 7946, bytes(90), n, NodeState.ALIVE) for n in range(20))
EXCHANGE = PushPull(True, NODES)

messages = st.one_of(
    st.builds(Ping, st.integers(0, 99), st.text(max_size=9)),
    st.builds(UserMessage, st.binary(max_size=3000)),
    st.builds(Ack, st.integers(0, 99), st.binary(max_size=3000)),
    st.builds(ErrorReply, st.text(max_size=99)),
    st.integers(0, 20).map(lambda count: PushPull(False, NODES[:count])),
)


def sealed(plain: bytes) -> bytes:
    """A stream of any plaintext, from somebody with the key."""
    header = b"\x0a" + (len(plain) + 29).to_bytes(4, "big")
    return header + KEYRING.seal(plain, header, NONCE)


def refused(data: bytes, **options: int) -> str:
    """The code of the error that feeding all of it raises."""
    with pytest.raises(WireError) as caught:
        StreamReader(KEYRING, **options).feed(data)
    return caught.value.code


@settings(deadline=None)
@given(messages, st.sampled_from([True, False, None]), st.lists(st.integers(0, 400)), st.binary(max_size=9))
def test_a_stream_fed_in_any_pieces_gives_the_message_once(message, compress, sizes, trailing):
    """Whole, byte by byte, with empty pieces and trailing bytes."""
    encoded = encode_stream_user(message) if isinstance(message, UserMessage) else encode(message)
    data = seal_stream(encoded, KEYRING, NONCE, compress=compress) + trailing
    reader = StreamReader(KEYRING)
    given_out = []
    for size in [*sizes, len(data)]:
        given_out.append(reader.feed(data[:size]))
        data = data[size:]
    assert [got for got in given_out if got is not None] == [message]
    assert reader.buffered == 0
    assert reader.layers == (("encrypt", "compress") if "compress" in reader.layers else ("encrypt",))


def test_a_stream_fed_byte_by_byte_is_complete_with_its_last_byte():
    """And not one sooner."""
    data = seal_stream(encode(EXCHANGE), KEYRING, NONCE)
    reader = StreamReader(KEYRING)
    for at, byte in enumerate(data[:-1]):
        assert reader.feed(bytes([byte])) is None
        assert reader.buffered == at + 1
    assert reader.feed(data[-1:]) == EXCHANGE


@given(st.binary(max_size=300))
def test_any_stream_gives_nothing_or_raises_wire_error(data):
    """In truth none opens that was not sealed."""
    reader = StreamReader(KEYRING)
    try:
        assert reader.feed(data) is None
    except WireError:
        assert reader.buffered == 0


@settings(deadline=None)
@given(st.binary(max_size=300) | st.binary(max_size=300).map(compress_message))
def test_any_plaintext_gives_a_message_or_raises_wire_error(plain):
    """From somebody with the key."""
    reader = StreamReader(KEYRING)
    with contextlib.suppress(WireError):
        assert reader.feed(sealed(plain)) is not None
    assert reader.buffered == 0


@pytest.mark.parametrize(
    ("first", "code"),
    [(0xF4, "label"), (0, "plaintext"), (6, "plaintext"), (9, "plaintext"), (13, "plaintext")]
    + [(byte, "unsupported_type") for byte in (14, ord("G"), 0x16, 0xFF)],
)
def test_a_stranger_is_known_by_his_first_byte(first, code):
    """Labels, plaintext, HTTP, TLS: refused before a second byte arrives."""
    assert refused(bytes([first])) == code


def test_a_blob_too_long_is_refused_before_any_of_it_is_taken():
    """20 MiB is the last length allowed."""
    assert refused(b"\x0a" + (MAX_STREAM_BLOB + 1).to_bytes(4, "big")) == "too_large"
    assert refused(b"\x0a\xff\xff\xff\xff" + bytes(1000)) == "too_large"
    reader = StreamReader(KEYRING)
    assert reader.feed(b"\x0a" + MAX_STREAM_BLOB.to_bytes(4, "big")) is None
    assert reader.buffered == 5


def test_a_smaller_limit_can_be_set():
    """For a server with many connections."""
    data = sealed(encode(Ping(1, "")))
    size = len(data) - 5
    assert StreamReader(KEYRING, limit=size).feed(data) == Ping(1, "")
    assert refused(data[:5], limit=size - 1) == "too_large"


def test_a_blob_too_short_for_its_tag_is_refused_at_its_length():
    """28 bytes hold no message."""
    assert refused(b"\x0a\0\0\0\x1c") == "truncated"


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_encryption_version_is_refused_at_its_byte(version):
    """Before the blob is buffered."""
    assert refused(b"\x0a\0\0\1\0" + bytes([version])) == "encryption_version"


def test_the_length_is_authenticated():
    """A frame cut or stretched by somebody in between does not open."""
    data = sealed(encode(Ping(1, "")))
    length = int.from_bytes(data[1:5], "big")
    assert refused(b"\x0a" + (length - 1).to_bytes(4, "big") + data[5:-1]) == "undecryptable"
    assert refused(b"\x0a" + (length + 1).to_bytes(4, "big") + data[5:] + b"\0") == "undecryptable"


def test_a_packet_is_not_a_stream():
    """Its blob has another AAD, so that neither can be replayed as the other."""
    blob = KEYRING.seal(encode(Ping(1, "")), b"", NONCE)
    assert refused(b"\x0a" + len(blob).to_bytes(4, "big") + blob) == "undecryptable"


@pytest.mark.parametrize(
    ("plain", "code"),
    [
        (b"", "empty"),
        (b"\x03\x80", "unsupported_type"),
        (b"\x0c" + bytes(9), "unsupported_type"),
        (b"\x06\x81\xa5Nodes\x01", "truncated"),
        (compress_message(compress_message(b"\x00\x80")), "unsupported_type"),
        (compress_message(b""), "empty"),
        (compress_message(b"\x00\x80")[:-1], "truncated"),
        (b"\x09\x82\xa4Algo\x01\xa3Buf\xa3\x00\x03\x02", "compression"),
        (b"\x09\x80", "compression"),
    ],
)
def test_a_sealed_stream_without_a_message_is_refused(plain, code):
    """Types of packets, a second compress layer, broken layers."""
    assert refused(sealed(plain)) == code


def test_a_bomb_in_a_stream_stops_at_the_limit(monkeypatch):
    """The limit is for what comes out, whatever came in."""
    monkeypatch.setattr(stream, "MAX_DECOMPRESSED_STREAM", 1 << 16)
    overhead = len(encode(Ack(1, bytes(1 << 15)))) - (1 << 15)
    fits = Ack(1, bytes((1 << 16) - overhead))
    too_much = Ack(1, bytes((1 << 16) - overhead + 1))
    assert StreamReader(KEYRING).feed(sealed(compress_message(encode(fits)))) == fits
    assert refused(sealed(compress_message(encode(too_much)))) == "too_large"


def test_an_error_stays():
    """A reader that failed does not recover on later bytes."""
    reader = StreamReader(KEYRING)
    with pytest.raises(WireError):
        reader.feed(b"G")
    with pytest.raises(WireError, match="unsupported_type"):
        reader.feed(sealed(encode(Ping(1, ""))))
    assert reader.buffered == 0


def test_what_follows_a_message_is_neither_kept_nor_read():
    """One request a connection."""
    reader = StreamReader(KEYRING)
    data = sealed(encode(Ping(1, "")))
    assert reader.feed(data + data) == Ping(1, "")
    assert reader.feed(data) is None
    assert reader.buffered == 0


def test_streams_are_compressed_only_where_it_pays():
    """Above a kibibyte, unless it would grow."""
    small = encode(UserMessage(bytes(STREAM_COMPRESS_ABOVE - 1)))
    random = encode(UserMessage(bytes(n * 73 % 256 ^ n >> 3 & 0xFF for n in range(2000))))
    assert len(seal_stream(small, KEYRING, NONCE)) == len(small) + 34
    assert len(seal_stream(small + b"\0", KEYRING, NONCE)) < len(small)
    assert len(seal_stream(random, KEYRING, NONCE)) <= len(random) + 34
    assert len(seal_stream(b"\x00\x80", KEYRING, NONCE, compress=True)) > 2 + 34
    assert len(seal_stream(small + b"\0", KEYRING, NONCE, compress=False)) == len(small) + 35


def test_a_user_message_comes_through_a_stream():
    """In its stream form."""
    data = seal_stream(encode_stream_user(UserMessage(b"hello")), KEYRING, NONCE)
    assert StreamReader(KEYRING).feed(data) == UserMessage(b"hello")


def test_the_largest_stream_goes_both_ways(monkeypatch):
    """20 MiB sealed; and of what is compressed, the limit of the other side (here a smaller one)."""
    largest = encode_stream_user(UserMessage(bytes(MAX_STREAM_BLOB - 29 - 18)))
    sealed_up = seal_stream(largest, KEYRING, NONCE, compress=False)
    assert len(sealed_up) == 5 + MAX_STREAM_BLOB
    assert StreamReader(KEYRING).feed(sealed_up) is not None
    monkeypatch.setattr(stream, "MAX_DECOMPRESSED_STREAM", 5000)
    assert seal_stream(bytes(5000), KEYRING, NONCE)
    with pytest.raises(Unsendable):
        seal_stream(bytes(5001), KEYRING, NONCE)


@pytest.mark.parametrize("size", [0, MAX_STREAM_BLOB - 28, MAX_STREAM_BLOB + 1])
def test_what_peers_do_not_accept_is_never_sealed(size):
    """An empty message, or a blob beyond 20 MiB."""
    with pytest.raises(Unsendable):
        seal_stream(bytes(size), KEYRING, NONCE, compress=False)
