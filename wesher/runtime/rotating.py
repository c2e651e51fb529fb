"""Changing the cluster key under way: what is heard and what is told to, on the disk, in the node, to the others.

    1   the rules decide which keys are held now (mesh/rotation.py)
    2   the state file has them
    3   the node opens and seals with them, and tells of them
    4   the metadata says that this node has them: the others count on what is on its disk

A full disk keeps nobody from understanding the others: it only ends before 4, and is tried again.

Three commands, of which `wesher key rotate` gives the first two in turn; each does what is left to do, so that one
that was broken off anywhere, on any node, is taken up by giving it once more.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from wesher.mesh import rotation
from wesher.mesh.holders import Holders
from wesher.mesh.rotation import KEY_SIZE, SHORTEST_GRACE, HeldKey, Keys, NoRoom, Part
from wesher.runtime.clock import monotonic, seconds_since_2020
from wesher.runtime.control import Declined
from wesher.swim.members import CLOCK_IS_SET
from wesher.swim.node import Node
from wesher.wire.words import KeyPhase, KeyRecord

TRY_AGAIN: Final = 5.0
"""Seconds after which a state file that could not be written is tried again."""

AT_MOST_EVERY: Final = 1.0
"""Seconds between two looks: a member can go on telling of keys, and each change is written to the disk, and announced
under the next incarnation, which is not to outrun the clock."""

LOOK_AGAIN: Final = 0.5
"""Seconds between two looks at who has a key that is to be used."""

GRACE_BY_HAND: Final = 3 * 86_400
"""Seconds that the former key opens where an operator put the new one into the state file."""

LONGEST_GRACE: Final = 366 * 86_400

_NAMED: Final = 5
"""Members that one line names."""

log = logging.getLogger("agent")


class Rotating:
    """Keeps `keys` true to what is heard, and `node` true to `keys`.

    `save` writes the state file with the keys given, and returns whether it could; `announce` has the node announce
    its metadata, which hold `announced`. `look` tells who has which key; `is_new`, whether something is worth a line
    in the log.
    """

    def __init__(
        self,
        keys: Keys,
        node: Node,
        save: Callable[[Keys], Awaitable[bool]],
        announce: Callable[[], None],
        look: Callable[[], Holders],
        is_new: Callable[[object], bool],
    ) -> None:
        self.keys = keys
        self.announced = keys.fingerprints
        self._node = node
        self._save = save
        self._announce = announce
        self._look = look
        self._is_new = is_new
        self._looked_at = monotonic()
        self._wanted: bytes | None = None
        self._changed = asyncio.Event()
        self._applying = asyncio.Lock()
        node.hold_keys(keys.ring, keys.records)

    def hear(self, record: KeyRecord) -> None:
        """A member tells of a key."""
        self._pass_time()
        self._take(rotation.hear(self.keys, record, seconds_since_2020()))

    def reread(self, saved: Keys) -> None:
        """What the state file has, in which an operator may have put another key."""
        today = seconds_since_2020()
        self._pass_time()
        keys = self.keys
        for held in saved.held:
            if held.epoch > 0:
                keys = rotation.hear(keys, KeyRecord(held.key, held.epoch, held.grace, held.phase), today)
        key = saved.primary.key
        name = rotation.fingerprint(key)
        if key not in keys.ring and all(gone.fingerprint != name for gone in keys.dropped):
            try:
                self._without_go()
                keys = rotation.install(keys, key, today, GRACE_BY_HAND)
            except NoRoom:
                log.warning("cluster key %s of the state file is not taken: too many are held", name.hex())
            except Declined as why:
                log.warning("cluster key %s of the state file is not taken: %s", name.hex(), why)
        self._wanted = name if any(held.fingerprint == name for held in keys.held) else None
        self._take(keys)
        self._changed.set()

    async def run(self) -> None:
        """For ever: carry out what was heard, and drop the keys whose time is up."""
        while True:
            self._changed.clear()
            saved = await self._apply()
            self._use_what_is_wanted()
            due = self.keys.next_drop if saved else TRY_AGAIN
            if self._wanted is not None:
                due = LOOK_AGAIN
            elif due is not None:
                due = max(due, AT_MOST_EVERY)
            await asyncio.sleep(AT_MOST_EVERY)  # not before a change is carried out: others may seal with its key
            with suppress(TimeoutError):
                async with asyncio.timeout(due):
                    await self._changed.wait()

    # --- commands

    async def list(self) -> dict[str, Any]:
        """`wesher key list`."""
        self._pass_time()
        found = self._look()

        def untold(key: HeldKey) -> list[str]:
            return found.untold(key.fingerprint) if self.keys.part(key) is Part.GOING else []

        return {
            "size": len(found.keys) + len(found.go),
            "go": list(found.go),
            "absent": list(found.absent),
            "keys": [
                {
                    "fingerprint": key.fingerprint.hex(),
                    "part": self.keys.part(key).value,
                    "epoch": key.epoch or None,
                    "seconds_left": None if key.left is None else round(key.left),
                    "without": sorted({*found.without(key.fingerprint)} - {*untold(key)}),
                    "untold": untold(key),
                    "not_sealing": found.not_sealing_with(key.fingerprint),
                }
                for key in sorted(self.keys.held, key=lambda key: key.rank, reverse=True)
            ],
        }

    async def rotate(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Give out a new key, or go on with the one that was given out; `dry_run` only says so. Raises Declined."""
        grace = words.get("grace")
        if type(grace) is not int or not SHORTEST_GRACE <= grace <= LONGEST_GRACE:
            raise Declined(f"a grace is {SHORTEST_GRACE} seconds to {LONGEST_GRACE // 86_400} days")
        if seconds_since_2020() < CLOCK_IS_SET:
            raise Declined("this node's clock is not set, and nobody would believe it; set it, or ask another node")
        self._without_go()
        self._pass_time()
        found = self._look()
        key, today = secrets.token_bytes(KEY_SIZE), seconds_since_2020()

        def with_one_coming(keys: Keys) -> Keys:
            return keys if keys.unfinished is not None else rotation.install(keys, key, today, grace)

        try:
            keys = with_one_coming(self.keys) if words.get("dry_run") else await self._keep(with_one_coming)
        except NoRoom:
            raise Declined(
                f"{len(self.keys.held)} keys are held, as many as there may be; wait until the grace of one is over: "
                "see wesher key list"
            ) from None
        coming = keys.unfinished
        assert coming is not None  # noqa: S101 - it was there, or was just put there
        is_new = coming.key == key
        name = None if is_new and words.get("dry_run") else coming.fingerprint.hex()
        if is_new and name is not None:
            log.info("cluster key %s: given out", name)
        return {"new": is_new, "fingerprint": name, "grace": coming.grace, "absent": list(found.absent)}

    async def use(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Have everybody seal with the key that was given out, once everybody has it. Raises Declined."""
        key = next((key for key in self.keys.held if key.fingerprint.hex() == words.get("fingerprint")), None)
        if key is None:
            raise Declined("no such key is held here; see wesher key list")
        if self.keys.part(key) is Part.GOING:
            raise Declined("a newer key is used already; see wesher key list")
        self._without_go()
        excused = words.get("without", [])
        if not isinstance(excused, list):
            raise Declined("without is a list of the members who need not have it")
        lacking = [name for name in self._look().without(key.fingerprint) if name not in excused]
        if lacking:
            raise Declined(f"not everybody has the new key: {_some(lacking)}")
        await self._keep(lambda keys: rotation.use(keys, key.fingerprint))
        return {"fingerprint": key.fingerprint.hex()}

    async def replace(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Go on with the key in `words` and no other, on this node alone and at once. Raises Declined."""
        try:
            key = base64.b64decode(str(words.get("cluster_key", "")), validate=True)
        except ValueError:  # also for what is not ASCII
            key = b""
        if len(key) != KEY_SIZE:
            raise Declined("a cluster key is the base64 of 32 bytes")
        today = seconds_since_2020()
        await self._keep(lambda keys: rotation.put_in_place(keys, key, today))
        return {"fingerprint": rotation.fingerprint(key).hex()}

    def _without_go(self) -> None:
        if go := self._look().go:
            raise Declined(
                f"Go nodes cannot follow, and these are or may be some, alive or remembered: {_some(go)}; replace "
                "them, or where they are gone: wesher forget"
            )

    # --- parts

    def _use_what_is_wanted(self) -> None:
        """An operator has put a key into the state file: it is used once everybody has it."""
        key = next((key for key in self.keys.held if key.fingerprint == self._wanted), None)
        if key is None or self.keys.part(key) is not Part.COMING:
            self._wanted = None
            return
        found = self._look()
        if not found.go and not found.without(key.fingerprint):
            self._take(rotation.use(self.keys, key.fingerprint))

    def _take(self, keys: Keys) -> None:
        """What has begun to wait in `keys` has its whole time from now on: pass what went by before you make them."""
        if keys is not self.keys:
            before, self.keys = self.keys, keys
            self._tell(before)
            self._changed.set()

    async def _keep(self, change: Callable[[Keys], Keys]) -> Keys:
        """For a command, which is refused where the disk does not take it. What is heard meanwhile is changed too."""
        async with self._applying:
            self._pass_time()
            keys = change(self.keys)
            if keys is not self.keys and not await self._save(keys):
                raise Declined("the state file cannot be written, see the log; nothing has changed")
        self._pass_time()
        self._take(change(self.keys))
        keys = self.keys
        await self._apply()
        return keys

    async def _apply(self) -> bool:
        """Bring disk, node and announcement to what `keys` says; False where the disk does not take it."""
        async with self._applying:
            self._pass_time()
            keys = self.keys
            saved = keys.fingerprints == self.announced or await self._save(keys)
            self._node.hold_keys(keys.ring, keys.records)
            if saved and keys.fingerprints != self.announced:
                self.announced = keys.fingerprints
                self._announce()
            return saved

    def _pass_time(self) -> None:
        now = monotonic()
        before, self.keys = self.keys, rotation.elapse(self.keys, now - self._looked_at)
        self._looked_at = now
        if len(self.keys.held) != len(before.held):
            self._tell(before)
            self._changed.set()

    def _tell(self, before: Keys) -> None:
        new = self.keys.primary
        if new.key != before.primary.key and self._is_new(("sealing", new.fingerprint)):
            log.warning(
                "cluster key %s is in use from now on, in place of %s; where one is given in options, give the new one "
                "(wesher key show)",
                new.fingerprint.hex(),
                before.primary.fingerprint.hex(),
            )
        known = {key.key for key in before.held}
        for key in self.keys.held:
            is_coming = key.key not in known and key.phase is KeyPhase.INSTALLED
            if is_coming and self._is_new(("coming", key.fingerprint)):
                log.info("cluster key %s: held, and not used yet", key.fingerprint.hex())
        for name in {key.fingerprint for key in before.held} - {key.fingerprint for key in self.keys.held}:
            if self._is_new(("dropped", name)):
                log.warning("cluster key %s is dropped: who has no other is not understood any more", name.hex())


def _some(names: Mapping[str, Any] | list[str] | tuple[str, ...]) -> str:
    shown = [ascii(name)[1:-1] for name in names][:_NAMED]
    return ", ".join(shown) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
