"""Encryption version 0: memberlist's before the padding went, which no wesher sends and every Go node still reads."""

from __future__ import annotations

import os
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.interop.ours import KEY
from wesher.wire.messages import MessageType


def packet(plain: bytes) -> bytes:
    """A datagram with this encoded message in it."""
    return _sealed(plain, b"")


def stream(plain: bytes) -> bytes:
    """All bytes of a stream with this encoded message in it."""
    size = len(_sealed(plain, b""))
    header = struct.pack(">BI", MessageType.ENCRYPT, size)
    return header + _sealed(plain, header)


def _sealed(plain: bytes, aad: bytes) -> bytes:
    pad = 16 - len(plain) % 16
    nonce = os.urandom(12)
    return b"\x00" + nonce + AESGCM(KEY).encrypt(nonce, plain + bytes([pad]) * pad, aad)
