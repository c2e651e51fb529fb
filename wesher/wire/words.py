"""Words of our own, in what memberlist leaves to applications: a user message, and the state behind a full exchange.

The Go wesher has no application and reads past both, so Python nodes have the room to themselves:

    words   "wesher" | version 1 | word …                  a user message has one, a state any number
    word    kind u8 | length of the body u16 | body        big endian, as all that follows
    forget  kind 1: incarnation u32 | name, as bytes       forget `name`: every life of it up to that incarnation
    key     kind 2: epoch u32 | grace u32 | phase u8 | 32 bytes of key
    ask     kind 3: nothing                                tell me your handshakes behind your answer
    shakes  kind 4: (age u32 | length u8 | name) …         whose tunnels the sender has, and how long ago, in seconds,
                                                           each shook hands last; 0xffffffff: not yet. Several where
                                                           they are more than MAX_HANDSHAKES

A kind that is unknown comes from a newer version: it is kept apart, and costs nothing. Beyond that reading is strict:
nobody but we write this. What begins otherwise is an application's, and none of ours.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from wesher.wire.errors import Reason, WireError
from wesher.wire.limits import MAX_HANDSHAKES, MAX_NAME, MAX_WORDS

MAGIC: Final = b"wesher"
_VERSION: Final = 1
_FORGET: Final = 1
_KEY: Final = 2
_ASK: Final = 3
_HANDSHAKES: Final = 4
_HEAD: Final = struct.Struct(">BH")
_INCARNATION: Final = struct.Struct(">I")
_RECORD: Final = struct.Struct(">IIB32s")
_HANDSHAKE: Final = struct.Struct(">IB")
_NOT_YET: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Forget:
    """Forget `node`: every life of it that began at `incarnation` (u32) or before, once it is over.

    node: 1 to 255 bytes, undecodable ones as surrogateescape.
    """

    node: str
    incarnation: int


class KeyPhase(IntEnum):
    """How far a key has come; it never goes back."""

    INSTALLED = 1
    """It opens. Everybody is to have it before anybody seals with it."""
    USED = 2
    """It seals, where no higher one does."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A cluster key: 32 bytes. epoch: when it was made, in seconds since 2020, u32. grace: seconds for which the keys
    that it replaces are kept, u32."""

    key: bytes = field(repr=False)  # a repr ends up in logs
    epoch: int
    grace: int
    phase: KeyPhase


@dataclass(frozen=True, slots=True)
class AskHandshakes:
    """Tell me your handshakes."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """The tunnel to `peer` shook hands last `age` seconds ago (below 0xffffffff); None: not yet. peer: 1 to 255 bytes,
    undecodable ones as surrogateescape."""

    peer: str
    age: int | None


@dataclass(frozen=True, slots=True)
class Handshakes:
    """At most MAX_HANDSHAKES of the sender's tunnels; none: it has none."""

    tunnels: tuple[Handshake, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A word of a newer version: its kind (u8) and its body."""

    kind: int
    body: bytes = field(repr=False)  # perhaps a cluster key


Word = Forget | KeyRecord | AskHandshakes | Handshakes | Unknown


def are_words(data: bytes) -> bool:
    """Whether this is meant to be words, and not an application's."""
    return data.startswith(MAGIC)


def encode_words(words: Iterable[Word]) -> bytes:
    """At most MAX_WORDS; none at all is nothing."""
    parts = [_encode(word) for word in words]
    return b"".join([MAGIC, bytes([_VERSION]), *parts]) if parts else b""


def decode_words(data: bytes) -> tuple[Word, ...]:
    """What `encode_words` wrote. Raises WireError."""
    if not are_words(data):
        raise WireError(Reason.UNSUPPORTED_TYPE, "no words of ours")
    at = len(MAGIC) + 1
    if data[at - 1 : at] != bytes([_VERSION]):
        raise WireError(Reason.UNSUPPORTED_TYPE, "words of another version")
    words: list[Word] = []
    while at < len(data):
        if len(words) == MAX_WORDS:
            raise WireError(Reason.TOO_MANY, f"more than {MAX_WORDS} words")
        begins = at + _HEAD.size
        if begins > len(data):
            raise WireError(Reason.TRUNCATED, "a word ends early")
        kind, size = _HEAD.unpack_from(data, at)
        at = begins + size
        if at > len(data):
            raise WireError(Reason.TRUNCATED, "a word's body ends early")
        body = data[begins:at]
        words.append(_READ[kind](body) if kind in _READ else Unknown(kind, body))
    if not words:
        raise WireError(Reason.EMPTY, "no word")
    return tuple(words)


def _encode(word: Word) -> bytes:
    match word:
        case Forget(node, incarnation):
            kind, body = _FORGET, _INCARNATION.pack(incarnation) + _bytes(node)
        case KeyRecord(key, epoch, grace, phase):
            kind, body = _KEY, _RECORD.pack(epoch, grace, phase, key)
        case AskHandshakes():
            kind, body = _ASK, b""
        case Handshakes(tunnels):
            kind, body = _HANDSHAKES, b"".join(map(_encode_handshake, tunnels))
        case Unknown(kind, body):
            pass
    return _HEAD.pack(kind, len(body)) + body


def _encode_handshake(tunnel: Handshake) -> bytes:
    name = _bytes(tunnel.peer)
    return _HANDSHAKE.pack(_NOT_YET if tunnel.age is None else min(tunnel.age, _NOT_YET - 1), len(name)) + name


def _forget(body: bytes) -> Forget:
    if len(body) < _INCARNATION.size:
        raise WireError(Reason.TRUNCATED, f"a word to forget of {len(body)} bytes")
    (incarnation,) = _INCARNATION.unpack_from(body)
    return Forget(_name(body[_INCARNATION.size :]), incarnation)


def _key_record(body: bytes) -> KeyRecord:
    if len(body) != _RECORD.size:
        raise WireError(Reason.TRUNCATED, f"a key's record of {len(body)} bytes")
    epoch, grace, phase, key = _RECORD.unpack(body)
    if phase not in _PHASES:
        raise WireError(Reason.UNSUPPORTED_TYPE, f"a key's phase {phase}")
    return KeyRecord(key, epoch, grace, KeyPhase(phase))


def _ask(body: bytes) -> AskHandshakes:
    if body:
        raise WireError(Reason.MALFORMED, f"a word that asks, with {len(body)} bytes")
    return AskHandshakes()


def _handshakes(body: bytes) -> Handshakes:
    tunnels: list[Handshake] = []
    at = 0
    while at < len(body):
        if len(tunnels) == MAX_HANDSHAKES:
            raise WireError(Reason.TOO_MANY, f"more than {MAX_HANDSHAKES} handshakes")
        begins = at + _HANDSHAKE.size
        if begins > len(body):
            raise WireError(Reason.TRUNCATED, "a handshake ends early")
        age, size = _HANDSHAKE.unpack_from(body, at)
        at = begins + size
        if at > len(body):
            raise WireError(Reason.TRUNCATED, "a handshake's name ends early")
        tunnels.append(Handshake(_name(body[begins:at]), None if age == _NOT_YET else age))
    return Handshakes(tuple(tunnels))


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _name(data: bytes) -> str:
    if not 1 <= len(data) <= MAX_NAME:
        raise WireError(Reason.BAD_NAME, f"a name of {len(data)} bytes")
    return data.decode("utf-8", "surrogateescape")


_PHASES: Final = frozenset(KeyPhase)
_READ: Final = MappingProxyType[int, Callable[[bytes], Word]](
    {_FORGET: _forget, _KEY: _key_record, _ASK: _ask, _HANDSHAKES: _handshakes}
)
