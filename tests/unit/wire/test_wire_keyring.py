"""The keyring: what it opens, what it refuses, and that it never shows a key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wesher.wire.errors import WireError
from wesher.wire.keyring import Keyring

FIRST, SECOND, THIRD = (bytes([n]) * 32 for n in (1, 2, 3))
NONCE = bytes(range(12))


def refused(keyring: Keyring, blob: bytes, aad: bytes = b"") -> str:
    """The code of the error that opening raises."""
    with pytest.raises(WireError) as caught:
        keyring.open(blob, aad)
    return caught.value.code


@given(st.binary(max_size=200), st.binary(max_size=20), st.sampled_from([16, 24, 32]))
def test_what_is_sealed_is_opened(plaintext, aad, key_size):
    """Under AES-128, 192 and 256, 29 bytes longer."""
    keyring = Keyring([bytes(key_size)])
    blob = keyring.seal(plaintext, aad, NONCE)
    assert len(blob) == len(plaintext) + 29
    assert blob[:13] == b"\x01" + NONCE
    assert keyring.open(blob, aad) == plaintext


@given(st.binary(max_size=100), st.binary(max_size=10))
def test_any_bytes_open_or_raise_wire_error(blob, aad):
    """In truth they never open."""
    assert refused(Keyring([FIRST]), blob, aad) in {"empty", "encryption_version", "truncated", "undecryptable"}


@given(st.integers(1, 41), st.integers(1, 255))
def test_one_changed_byte_is_noticed(at, mask):
    """Nonce, ciphertext or tag."""
    keyring = Keyring([FIRST])
    blob = bytearray(keyring.seal(b"thirteen byte", b"", NONCE))
    blob[at] ^= mask
    assert refused(keyring, bytes(blob)) == "undecryptable"


def test_another_aad_does_not_open():
    """A packet's blob replayed as a stream's, or under another length."""
    keyring = Keyring([FIRST])
    assert refused(keyring, keyring.seal(b"text", b"", NONCE), b"\x0a\0\0\0\x21") == "undecryptable"


@pytest.mark.parametrize("version", [0, 2, 244, 255])
def test_every_version_but_one_is_refused(version):
    """The version byte is not authenticated: an attacker may choose it."""
    keyring = Keyring([FIRST])
    blob = keyring.seal(b"sixteen bytes ok", b"", NONCE)
    assert refused(keyring, bytes([version]) + blob[1:]) == "encryption_version"


@pytest.mark.parametrize("size", [1, 13, 28])
def test_a_blob_too_short_for_its_tag_is_refused(size):
    """Before any cipher sees it."""
    keyring = Keyring([FIRST])
    assert refused(keyring, keyring.seal(b"", b"", NONCE)[:size]) == "truncated"


def test_every_key_of_the_ring_opens():
    """So that a key can be rotated while both are in use."""
    ring = Keyring([FIRST, SECOND])
    assert ring.open(Keyring([SECOND]).seal(b"text", b"", NONCE), b"") == b"text"
    assert refused(ring, Keyring([THIRD]).seal(b"text", b"", NONCE)) == "undecryptable"


def test_the_primary_seals_unless_another_key_is_named():
    """For one who has perhaps no other; a key that is not in the ring is no reason to say nothing."""
    ring = Keyring([FIRST, SECOND])
    assert ring.seal(b"text", b"", NONCE) == Keyring([FIRST]).seal(b"text", b"", NONCE)
    assert ring.seal(b"text", b"", NONCE, SECOND) == Keyring([SECOND]).seal(b"text", b"", NONCE)
    assert ring.seal(b"text", b"", NONCE, THIRD) == Keyring([FIRST]).seal(b"text", b"", NONCE)


def test_who_opens_learns_the_key():
    """So that the answer can go under the same one."""
    ring = Keyring([FIRST, SECOND])
    for key in (FIRST, SECOND):
        assert ring.open_with(Keyring([key]).seal(b"text", b"", NONCE), b"") == (b"text", key)


def test_the_ring_is_what_was_last_said():
    """Its keys in order, each once."""
    ring = Keyring([FIRST])
    ring.hold([THIRD, SECOND, THIRD])
    assert ring.keys() == (THIRD, SECOND)
    assert refused(ring, Keyring([FIRST]).seal(b"text", b"", NONCE)) == "undecryptable"
    assert ring.seal(b"text", b"", NONCE) == Keyring([THIRD]).seal(b"text", b"", NONCE)


@pytest.mark.parametrize("keys", [[], [FIRST, b"short"]])
def test_a_ring_that_cannot_be_held_changes_nothing(keys):
    """There would be nothing to seal with."""
    ring = Keyring([SECOND])
    with pytest.raises(ValueError, match="key"):
        ring.hold(keys)
    assert ring.keys() == (SECOND,)


@pytest.mark.parametrize("keys", [[], [b""], [bytes(15)], [bytes(33)], [FIRST, bytes(20)]])
def test_a_ring_needs_keys_of_aes(keys):
    """16, 24 or 32 bytes, and at least one."""
    with pytest.raises(ValueError, match="needs a key" if not keys else "must be 16, 24 or 32"):
        Keyring(keys)


@pytest.mark.parametrize("size", [0, 11, 13])
def test_a_nonce_has_twelve_bytes(size):
    """GCM would take others; no peer would."""
    with pytest.raises(ValueError, match="nonce"):
        Keyring([FIRST]).seal(b"", b"", bytes(size))


def test_no_key_is_ever_shown():
    """Neither in repr nor in any error."""
    secret = b"0123456789abcdef"
    ring = Keyring([FIRST, secret])
    shown = [repr(ring), str(ring), f"{ring}"]
    for attempt in (lambda: ring.hold([secret[:15]]), lambda: ring.hold([FIRST, secret + b"!"])):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - what it says is the point
            attempt()
        shown.append(str(caught.value))
    for form in (secret.decode()[:15], secret.hex()[:30], "\\x01\\x01"):
        assert not any(form in text for text in shown)
