"""The cluster's keys: the first one seals, every one opens.

A sealed blob, on both transports (protocol 1.7), is

    01 | nonce, 12 bytes | AES-GCM ciphertext | tag, 16 bytes

with the key's length, 16, 24 or 32 bytes, choosing the AES. Version 0 pads the plaintext and only memberlist's
protocol version 1 sends it; the version byte is not authenticated, so an attacker may choose it. We refuse all but 1.
"""

from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wesher.wire.errors import Reason, WireError
from wesher.wire.limits import NONCE_SIZE, SEAL_OVERHEAD

_VERSION = 1
_KEY_SIZES = (16, 24, 32)
_SEALED_AT = 1 + NONCE_SIZE


class Keyring:
    """Keys in the order they are tried; index 0 is the primary. No key ever shows in its repr or its errors."""

    __slots__ = ("_ciphers",)

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Raises ValueError for no key at all, or for one that is not 16, 24 or 32 bytes."""
        self._ciphers: dict[bytes, AESGCM] = {}
        self.hold(keys)

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._ciphers)}>"

    def keys(self) -> tuple[bytes, ...]:
        """All keys, the primary first."""
        return tuple(self._ciphers)

    def hold(self, keys: Sequence[bytes]) -> None:
        """These keys from now on, the primary first, and no others. Raises ValueError as the constructor does."""
        if not keys:
            raise ValueError("a keyring needs a key")
        for key in keys:
            if len(key) not in _KEY_SIZES:
                raise ValueError(f"a key of {len(key)} bytes: must be 16, 24 or 32")
        self._ciphers = {key: AESGCM(key) for key in keys}

    def seal(self, plaintext: bytes, aad: bytes, nonce: bytes, under: bytes | None = None) -> bytes:
        """The sealed blob, `SEAL_OVERHEAD` bytes longer. A nonce must never serve twice under one key.

        `under`: for one who has perhaps no other key; the primary where it is None, or no longer in the ring.
        """
        if len(nonce) != NONCE_SIZE:
            raise ValueError(f"a nonce of {len(nonce)} bytes: must be {NONCE_SIZE}")
        primary = next(iter(self._ciphers.values()))
        cipher = primary if under is None else self._ciphers.get(under, primary)
        return bytes([_VERSION]) + nonce + cipher.encrypt(nonce, plaintext, aad)

    def open(self, blob: bytes, aad: bytes) -> bytes:
        """The plaintext under whichever key fits. Raises WireError."""
        return self.open_with(blob, aad)[0]

    def open_with(self, blob: bytes, aad: bytes) -> tuple[bytes, bytes]:
        """The plaintext, and the key that fits. Raises WireError."""
        check_version(blob)
        if len(blob) < SEAL_OVERHEAD:
            raise WireError(Reason.TRUNCATED, f"a sealed blob of {len(blob)} bytes")
        nonce, sealed = blob[1:_SEALED_AT], blob[_SEALED_AT:]
        for key, cipher in self._ciphers.items():
            try:
                return cipher.decrypt(nonce, sealed, aad), key
            except InvalidTag:
                continue
        raise WireError(Reason.UNDECRYPTABLE, f"none of {len(self._ciphers)} keys opens it")


def check_version(blob: bytes) -> None:
    """Raises WireError unless the blob begins with encryption version 1."""
    if not blob:
        raise WireError(Reason.EMPTY, "nothing sealed")
    if blob[0] != _VERSION:
        raise WireError(Reason.ENCRYPTION_VERSION, f"encryption version {blob[0]}")
