"""Words of our own, in what memberlist leaves to applications: a user message, and the state behind a full exchange.

The Go wesher has no application and reads past both, so Python nodes have the room to themselves:

    words   "wesher" | version 1 | word …                             a user message has one, a state any number
    forget  kind 1 | incarnation u32 | length of the name u8 | name   big endian; the name as bytes

Reading is strict: nobody but we write this. What begins otherwise is an application's, and none of ours.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wesher.wire.errors import Reason, WireError
from wesher.wire.limits import MAX_NAME, MAX_WORDS

MAGIC: Final = b"wesher"
_VERSION: Final = 1
_FORGET: Final = 1
_HEAD: Final = struct.Struct(">BIB")


@dataclass(frozen=True, slots=True)
class Forget:
    """Forget `node`: every life of it that began at `incarnation` (u32) or before, once it is over.

    node: 1 to 255 bytes, undecodable ones as surrogateescape.
    """

    node: str
    incarnation: int


def are_words(data: bytes) -> bool:
    """Whether this is meant to be words, and not an application's."""
    return data.startswith(MAGIC)


def encode_words(words: Iterable[Forget]) -> bytes:
    """At most MAX_WORDS; none at all is nothing."""
    parts = [_forget(word) for word in words]
    return b"".join([MAGIC, bytes([_VERSION]), *parts]) if parts else b""


def decode_words(data: bytes) -> tuple[Forget, ...]:
    """What `encode_words` wrote. Raises WireError."""
    if not are_words(data):
        raise WireError(Reason.UNSUPPORTED_TYPE, "no words of ours")
    at = len(MAGIC) + 1
    if data[at - 1 : at] != bytes([_VERSION]):
        raise WireError(Reason.UNSUPPORTED_TYPE, "words of another version")
    words: list[Forget] = []
    while at < len(data):
        if len(words) == MAX_WORDS:
            raise WireError(Reason.TOO_MANY, f"more than {MAX_WORDS} words")
        word, at = _read_forget(data, at)
        words.append(word)
    if not words:
        raise WireError(Reason.EMPTY, "no word")
    return tuple(words)


def _forget(word: Forget) -> bytes:
    name = word.node.encode("utf-8", "surrogateescape")
    return _HEAD.pack(_FORGET, word.incarnation, len(name)) + name


def _read_forget(data: bytes, at: int) -> tuple[Forget, int]:
    """The word that begins there, and where it ends."""
    begins = at + _HEAD.size
    if begins > len(data):
        raise WireError(Reason.TRUNCATED, "a word ends early")
    kind, incarnation, size = _HEAD.unpack_from(data, at)
    if kind != _FORGET:
        raise WireError(Reason.UNSUPPORTED_TYPE, f"word {kind}")
    if not 1 <= size <= MAX_NAME:
        raise WireError(Reason.BAD_NAME, f"a name of {size} bytes")
    if begins + size > len(data):
        raise WireError(Reason.TRUNCATED, "a word's name ends early")
    return Forget(data[begins : begins + size].decode("utf-8", "surrogateescape"), incarnation), begins + size
