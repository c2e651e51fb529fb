"""The cluster keys that this node holds: which one seals, which ones only open, and when one is dropped.

A key gives way to another without a moment in which two members cannot talk: first everybody has the new one, then
everybody seals with it, and the old one goes on opening for its grace. What is told of a key is its record: epoch,
which is when it was made, phase, and grace. Of each key the highest of each counts that was ever heard. So it does not
matter in which order records come, who was cut off, or whether two halves of a cut mesh changed keys at once: all who
have heard of each other hold the same keys and seal with the same, the highest (epoch, fingerprint) that is used.

    heard of a key that is   unknown                         held               dropped
    INSTALLED                hold it, if there is room, or   the higher epoch   ignore
                             in place of a lower one that
                             is not used yet
    USED                     hold it, if there is room, or   USED from now on   ignore, unless it was
                             in place of one not used yet                       dropped before it was used

    in the ring              seals   opens   is dropped
    SEALS                    yes     yes     never
    COMING   higher          no      yes     a day after it was heard of, unless it is used by then
    GOING    lower           no      yes     after the grace of the key that took its place

Those times are counted while the node runs, so that no clock that is set, and no month in a drawer, ends them early.
Whoever has the cluster key can make records too; hence the bounds on epochs, on graces from below, and on the number.
That is higher for what is heard than for what is given out: parts of a cut mesh that each changed keys as often as they
may have to hold all of them together, or they do not understand each other when they meet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from hashlib import sha256
from typing import Final

from wesher.mesh.node_meta import FINGERPRINT_SIZE, MAX_KEYS
from wesher.swim.members import is_ahead
from wesher.wire.words import KeyPhase, KeyRecord

KEY_SIZE: Final = 32
"""AES-256; the original accepts no other."""

SHORTEST_GRACE: Final = 60
"""Seconds: who hears of a key by its next full exchange still understands the others."""

UNUSED: Final = 86_400.0
"""Seconds after which a key that was given out and never used is dropped."""

MAX_HELD: Final = 12
"""Keys in the ring: those of three parts of a mesh, which began with one and gave out MAX_KEYS - 1 each, and some."""

MAX_DROPPED: Final = 32
"""Keys remembered as dropped, the latest."""

_U32_MAX: Final = 0xFFFF_FFFF


class Part(Enum):
    """What a key of the ring does."""

    SEALS = "seals"
    COMING = "coming"
    GOING = "going"


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key of the ring. `left`: seconds until it is dropped, None for the one that seals.

    key: 32 bytes. epoch: seconds since 2020, u32; 0 for the cluster's first. grace: seconds, u32. Raises ValueError.
    """

    key: bytes = field(repr=False)
    epoch: int = 0
    phase: KeyPhase = KeyPhase.USED
    grace: int = SHORTEST_GRACE
    left: float | None = None

    def __post_init__(self) -> None:
        if len(self.key) != KEY_SIZE:
            raise ValueError("a cluster key is 32 bytes")
        if not (0 <= self.epoch <= _U32_MAX and SHORTEST_GRACE <= self.grace <= _U32_MAX):
            raise ValueError("epoch and grace are u32, and a grace not too short")
        if self.left is not None and not 0 <= self.left <= _U32_MAX:
            raise ValueError("what is left is a u32 of seconds")

    @property
    def fingerprint(self) -> bytes:
        """4 bytes."""
        return fingerprint(self.key)

    @property
    def rank(self) -> tuple[int, bytes]:
        """The highest of those that are used seals."""
        return self.epoch, self.fingerprint


@dataclass(frozen=True, slots=True)
class Dropped:
    """A key that was in the ring, and how far it had come. fingerprint: 4 bytes."""

    fingerprint: bytes
    phase: KeyPhase


@dataclass(frozen=True, slots=True)
class Keys:
    """The ring, and what was in it. At least one held key is used. Raises ValueError otherwise, or for too many."""

    held: tuple[HeldKey, ...]
    dropped: tuple[Dropped, ...] = ()

    def __post_init__(self) -> None:
        if not any(key.phase is KeyPhase.USED for key in self.held):
            raise ValueError("no key to seal with")
        if len(self.held) > MAX_HELD or len({key.key for key in self.held}) != len(self.held):
            raise ValueError("too many keys, or one twice")

    @classmethod
    def of(cls, key: bytes) -> Keys:
        """The ring of a cluster that never changed its key."""
        return cls((HeldKey(key),))

    @property
    def primary(self) -> HeldKey:
        """The key that seals."""
        return max((key for key in self.held if key.phase is KeyPhase.USED), key=lambda key: key.rank)

    def part(self, key: HeldKey) -> Part:
        """What one of the held keys does."""
        return _part(key, self.primary)

    @property
    def ring(self) -> tuple[bytes, ...]:
        """The keys themselves, as they are tried: the one that seals, then the youngest."""
        others = sorted((key for key in self.held if key != self.primary), key=lambda key: key.rank, reverse=True)
        return tuple(key.key for key in (self.primary, *others))

    @property
    def fingerprints(self) -> tuple[bytes, ...]:
        """Of the ring."""
        return tuple(map(fingerprint, self.ring))

    @property
    def records(self) -> tuple[KeyRecord, ...]:
        """What to tell the others: all that is held, but for the first key, which is known to all or is of no use."""
        return tuple(KeyRecord(key.key, key.epoch, key.grace, key.phase) for key in self.held if key.epoch > 0)

    @property
    def unfinished(self) -> HeldKey | None:
        """The key that was given out and is not used yet, the highest if there are two."""
        coming = [key for key in self.held if self.part(key) is Part.COMING]
        return max(coming, key=lambda key: key.rank, default=None)

    @property
    def next_drop(self) -> float | None:
        """Seconds until a key is dropped."""
        return min((key.left for key in self.held if key.left is not None), default=None)


def fingerprint(key: bytes) -> bytes:
    """What a key is called: 4 bytes of a hash, which tell nothing of a key that was drawn at random."""
    return sha256(b"wesher cluster key" + key).digest()[:FINGERPRINT_SIZE]


def _part(key: HeldKey, primary: HeldKey) -> Part:
    if key.key == primary.key:
        return Part.SEALS
    return Part.COMING if key.rank > primary.rank else Part.GOING


class NoRoom(Exception):
    """The ring is full: a key must be dropped first."""


def hear(keys: Keys, record: KeyRecord, seconds_since_2020: int) -> Keys:
    """The ring after a member has told of a key; the same object where that is no news, or not to be believed."""
    if is_ahead(record.epoch, seconds_since_2020):
        return keys
    name = fingerprint(record.key)
    if any(gone.fingerprint == name and gone.phase >= record.phase for gone in keys.dropped):
        return keys
    known = next((key for key in keys.held if key.key == record.key), None)
    heard = HeldKey(record.key, record.epoch, record.phase, max(record.grace, SHORTEST_GRACE))
    if known is None:
        room = _with_room(keys, heard)
        return keys if room is None else _changed(keys, (*room, heard))
    higher = replace(
        known,
        epoch=max(known.epoch, heard.epoch),
        phase=max(known.phase, heard.phase),
        grace=max(known.grace, heard.grace),
    )
    if higher == known:
        return keys
    return _changed(keys, tuple(higher if key is known else key for key in keys.held))


def install(keys: Keys, key: bytes, seconds_since_2020: int, grace: int) -> Keys:
    """Begin to change to a new `key`. Raises NoRoom where MAX_KEYS are held."""
    if len(keys.held) >= MAX_KEYS:
        raise NoRoom
    new = HeldKey(key, _next_epoch(keys, seconds_since_2020), KeyPhase.INSTALLED, max(grace, SHORTEST_GRACE))
    return _changed(keys, (*keys.held, new))


def use(keys: Keys, name: bytes) -> Keys:
    """Seal with the held key of that fingerprint from now on, unless a higher one is in use."""
    held = tuple(replace(key, phase=KeyPhase.USED) if key.fingerprint == name else key for key in keys.held)
    return _changed(keys, held)


def put_in_place(keys: Keys, key: bytes, seconds_since_2020: int) -> Keys:
    """`key` and no other at once, whatever it was before: where the others are known to whom they should not."""
    gone = [Dropped(other.fingerprint, KeyPhase.USED) for other in keys.held if other.key != key]
    new = HeldKey(key, _next_epoch(keys, seconds_since_2020))
    return Keys((new,), _latest((*keys.dropped, *gone), {new.fingerprint}))


def given(keys: Keys, key: bytes) -> tuple[Keys, str | None]:
    """The ring of a node that is started with `key`, and what is to be said of that; the same one where it goes on.

    A key that is held, or was, has been replaced since it was written into the options, or is being so; a coming one
    was read off another node.
    """
    name = fingerprint(key)
    if key == keys.primary.key:
        return keys, None
    if any(held.key == key and keys.part(held) is Part.COMING for held in keys.held):
        return use(keys, name), None
    if any(held.key == key for held in keys.held):
        return keys, "is being replaced by key rotation, and the newer is used"
    if any(gone.fingerprint == name and gone.phase is KeyPhase.USED for gone in keys.dropped):
        return keys, "was replaced by key rotation, and the newer is used"
    return Keys.of(key), None


def elapse(keys: Keys, seconds: float) -> Keys:
    """The ring after so many seconds; keys whose time is up are dropped. The same object where nothing waits."""
    if keys.next_drop is None:
        return keys
    held = [key if key.left is None else replace(key, left=max(0.0, key.left - seconds)) for key in keys.held]
    gone = [Dropped(key.fingerprint, key.phase) for key in held if key.left == 0]
    return Keys(tuple(key for key in held if key.left != 0), _latest((*keys.dropped, *gone), set()))


def _changed(keys: Keys, held: tuple[HeldKey, ...]) -> Keys:
    """The ring with `held`: whatever does something else than before has its whole time from now on."""
    before = keys.primary
    parts = {key.key: _part(key, before) for key in keys.held}
    new = Keys(held, _latest(keys.dropped, {key.fingerprint for key in held}))
    primary = new.primary
    times = {Part.SEALS: None, Part.COMING: UNUSED, Part.GOING: float(primary.grace)}

    def timed(key: HeldKey) -> HeldKey:
        part = _part(key, primary)
        return key if parts.get(key.key) is part else replace(key, left=times[part])

    return replace(new, held=tuple(map(timed, new.held)))


def _with_room(keys: Keys, heard: HeldKey) -> tuple[HeldKey, ...] | None:
    """The held keys beside which `heard` has room. Nothing was ever sealed with one that was not used."""
    if len(keys.held) < MAX_HELD:
        return keys.held
    unused = [key for key in keys.held if key.phase is KeyPhase.INSTALLED]
    lowest = min(unused, key=lambda key: key.rank, default=None)
    if lowest is None or (heard.phase is KeyPhase.INSTALLED and heard.rank < lowest.rank):
        return None
    return tuple(key for key in keys.held if key is not lowest)


def _next_epoch(keys: Keys, seconds_since_2020: int) -> int:
    return min(max(seconds_since_2020, *(key.epoch + 1 for key in keys.held)), _U32_MAX)


def _latest(dropped: Iterable[Dropped], held: set[bytes]) -> tuple[Dropped, ...]:
    """Without those that are held; the latest."""
    return tuple(gone for gone in dropped if gone.fingerprint not in held)[-MAX_DROPPED:]
