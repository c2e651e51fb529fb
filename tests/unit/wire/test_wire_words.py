"""Words of our own: exactly what is written is read, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wesher.wire.errors import WireError
from wesher.wire.limits import MAX_HANDSHAKES, MAX_USER_STATE, MAX_WORDS
from wesher.wire.messages import PushPull, UserMessage
from wesher.wire.words import (
    AskHandshakes,
    Forget,
    Handshake,
    Handshakes,
    KeyPhase,
    KeyRecord,
    Unknown,
    are_words,
    decode_words,
    encode_words,
)

RECORDS = st.builds(
    KeyRecord,
    st.binary(min_size=32, max_size=32),
    st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 0xFFFF_FFFF),
    st.sampled_from(tuple(KeyPhase)),
)
NAMES = st.binary(min_size=1, max_size=255).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
FORGETS = st.builds(Forget, NAMES, st.integers(0, 0xFFFF_FFFF))
TUNNELS = st.builds(Handshake, NAMES, st.none() | st.integers(0, 0xFFFF_FFFE))
HANDSHAKES = st.builds(AskHandshakes) | st.builds(Handshakes, st.lists(TUNNELS, max_size=5).map(tuple))
UNKNOWNS = st.builds(Unknown, st.integers(100, 255), st.binary(max_size=50))
ONE = b"wesher\x01" + b"\x01\x00\x0a\x00\x01\x02\x03node-b"


def refused(data: bytes) -> str:
    """The code of the error that reading raises."""
    with pytest.raises(WireError) as caught:
        decode_words(data)
    return caught.value.code


def test_the_bytes_of_a_word():
    """Other versions of this program have to read them: magic, version, kind, length, incarnation, name."""
    assert encode_words([Forget("node-b", 0x10203)]) == ONE
    assert decode_words(ONE) == (Forget("node-b", 0x10203),)


def test_the_bytes_of_a_keys_record():
    """Kind, length, epoch, grace, phase, key."""
    data = b"wesher\x01" + b"\x02\x00\x29" + b"\x00\x01\x02\x03" + b"\x00\x03\xf4\x80" + b"\x02" + b"k" * 32
    assert encode_words([KeyRecord(b"k" * 32, 0x10203, 259_200, KeyPhase.USED)]) == data
    assert decode_words(data) == (KeyRecord(b"k" * 32, 0x10203, 259_200, KeyPhase.USED),)


@given(st.lists(FORGETS | RECORDS | HANDSHAKES | UNKNOWNS, min_size=1, max_size=MAX_WORDS))
def test_what_is_written_is_read(words):
    """Whatever bytes a name has."""
    data = encode_words(words)
    assert are_words(data)
    assert decode_words(data) == tuple(words)


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda rest: b"wesher\x01" + rest))
def test_what_is_read_is_what_would_be_written(data):
    """There is one spelling of each word, and no room for anything beside it."""
    try:
        words = decode_words(data)
    except WireError:
        return
    assert encode_words(words) == data


@given(st.lists(FORGETS, min_size=1, max_size=3), st.data())
def test_words_cut_off_are_none_or_fewer(words, data):
    """Never others."""
    whole = encode_words(words)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        found = decode_words(cut)
    except WireError:
        return
    assert found == tuple(words)[: len(found)]
    assert len(found) < len(words)


def test_a_word_of_a_newer_version_is_read_past():
    """Its length says where the next one begins: nodes are replaced one by one."""
    data = b"wesher\x01" + b"\x63\x00\x03new" + ONE[7:]
    assert decode_words(data) == (Unknown(0x63, b"new"), Forget("node-b", 0x10203))
    assert decode_words(b"wesher\x01\x63\x00\x00") == (Unknown(0x63, b""),)


def test_the_bytes_of_handshakes():
    """Kind, length; then for each tunnel its age, all ones for none yet, the name's length, and the name."""
    words = (AskHandshakes(), Handshakes((Handshake("b", 0x10203), Handshake("node-c", None))), Handshakes(()))
    data = b"wesher\x01" + b"\x03\x00\x00" + b"\x04\x00\x11\x00\x01\x02\x03\x01b\xff\xff\xff\xff\x06node-c"
    assert encode_words(words) == data + b"\x04\x00\x00"
    assert decode_words(data + b"\x04\x00\x00") == words


def test_an_age_that_no_u32_holds_is_the_highest():
    """Whoever set his clock by a century is not to be kept from answering."""
    (word,) = decode_words(encode_words([Handshakes((Handshake("b", 1 << 40),))]))
    assert word == Handshakes((Handshake("b", 0xFFFF_FFFE),))


def test_as_many_handshakes_as_a_word_holds_are_read():
    """With the longest names; not one more, however short. All of 4000 peers fit behind an exchange."""
    longest = Handshakes(tuple(Handshake("n" * 252 + f"{number:03}", number) for number in range(MAX_HANDSHAKES)))
    assert decode_words(encode_words([longest])) == (longest,)
    assert len(encode_words([longest] * 16)) <= MAX_USER_STATE
    assert 16 * MAX_HANDSHAKES >= 4000
    body = (MAX_HANDSHAKES + 1) * b"\x00\x00\x00\x00\x01n"
    assert refused(b"wesher\x01\x04" + len(body).to_bytes(2, "big") + body) == "too_many"


def test_no_words_are_no_bytes():
    """So a full exchange has no state as long as nobody has said anything."""
    assert encode_words([]) == b""
    assert not are_words(b"")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "unsupported_type"),
        (b"\x06state", "unsupported_type"),
        (b"WESHER\x01" + ONE[7:], "unsupported_type"),
        (ONE[:6], "unsupported_type"),
        (b"wesher\x00" + ONE[7:], "unsupported_type"),
        (b"wesher\x02" + ONE[7:], "unsupported_type"),
        (ONE[:7], "empty"),
        (ONE + b"\x01", "truncated"),
        (ONE[:-1], "truncated"),
        (ONE[:12], "truncated"),
        (ONE + b"\x63\x00", "truncated"),
        (b"wesher\x01\x01\x00\x00", "truncated"),
        (b"wesher\x01\x03\x00\x01?", "malformed"),
        (b"wesher\x01\x04\x00\x04\x00\x00\x00\x00", "truncated"),
        (b"wesher\x01\x04\x00\x05\x00\x00\x00\x00\x01", "truncated"),
        (b"wesher\x01\x04\x00\x05\x00\x00\x00\x00\x00", "bad_name"),
        (b"wesher\x01\x01\x00\x03\x00\x00\x00", "truncated"),
        (b"wesher\x01\x01\x00\x04\x00\x00\x00\x00", "bad_name"),
        (ONE + b"\x01\x01\x04\x00\x00\x00\x00" + 256 * b"n", "bad_name"),
        (b"wesher\x01\x02\x00\x28" + b"\x01" * 40, "truncated"),
        (b"wesher\x01\x02\x00\x2a" + b"\x01" * 42, "truncated"),
        (b"wesher\x01\x02\x00\x29" + b"\x00" * 41, "unsupported_type"),
        (b"wesher\x01\x02\x00\x29" + b"\x03" * 41, "unsupported_type"),
        (encode_words([Forget("n", 1)]) + (encode_words([Forget("n", 1)])[7:]) * MAX_WORDS, "too_many"),
    ],
)
def test_anything_else_is_refused(data, code):
    """With its reason, to be counted."""
    assert refused(data) == code


def test_as_many_words_as_are_kept_are_read():
    """And not one more."""
    words = tuple(Forget(f"n{number}", number) for number in range(MAX_WORDS))
    assert decode_words(encode_words(words)) == words
    assert refused(encode_words([*words, Forget("n", 1)])) == "too_many"


def test_a_key_is_never_shown():
    """A repr ends up in logs."""
    assert "kkkk" not in repr(KeyRecord(b"k" * 32, 1, 60, KeyPhase.USED))
    words = encode_words([KeyRecord(b"k" * 32, 1, 60, KeyPhase.USED)])
    assert "kkkk" not in repr((UserMessage(words), PushPull(False, (), words), Unknown(9, b"k" * 32)))
