"""Changing keys under way: time, the disk, and several who change them at once. Whole clusters do so in tests/sim."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.unit.swim.virtual import endpoint, make_node
from wesher.mesh.holders import Holders
from wesher.mesh.rotation import UNUSED, Keys
from wesher.runtime import rotating
from wesher.runtime.rotating import AT_MOST_EVERY, Rotating
from wesher.wire.words import KeyPhase, KeyRecord

TODAY = 217_000_000
DAY = 86_400
FIRST, SECOND = (bytes([number]) * 32 for number in range(1, 3))


class Disk:
    """A state file: `write` may be held up, and fail. `has` is what was written last."""

    def __init__(self) -> None:
        self.rotating: Rotating | None = None
        self.has: Keys | None = None
        self.is_full = False
        self.free = asyncio.Event()
        self.free.set()

    async def write(self) -> bool:
        """As the agent's: what is held when it begins is what is written."""
        assert self.rotating is not None
        content = self.rotating.keys
        await self.free.wait()
        if not self.is_full:
            self.has = content
        return not self.is_full


def with_rotating(
    monkeypatch: pytest.MonkeyPatch, run: Callable[[Rotating, Disk, list[float]], Awaitable[None]]
) -> None:
    """Run a coroutine function over a ring of the first key, its disk, and the clock, which stands at 1000 s."""
    now = [1000.0]
    monkeypatch.setattr(rotating, "monotonic", lambda: now[0])
    monkeypatch.setattr(rotating, "seconds_since_2020", lambda: TODAY)

    async def begin() -> None:
        disk = Disk()
        everybody = Holders({}, (), ())
        disk.rotating = Rotating(
            Keys.of(FIRST),
            make_node("me", endpoint(1)),
            disk.write,
            lambda: None,
            lambda: everybody,
            lambda _: True,
        )
        following = asyncio.create_task(disk.rotating.run())
        try:
            await run(disk.rotating, disk, now)
        finally:
            following.cancel()

    asyncio.run(begin())


async def until_saved(disk: Disk) -> None:
    """Until the disk has what is held."""
    async with asyncio.timeout(10):
        while disk.rotating is None or disk.has != disk.rotating.keys:
            await asyncio.sleep(AT_MOST_EVERY)


@pytest.mark.parametrize(
    ("phase", "key", "lasts"),
    [(KeyPhase.INSTALLED, SECOND, UNUSED), (KeyPhase.USED, FIRST, 3600)],
    ids=["given out", "replaced"],
)
def test_a_key_has_its_whole_time_however_long_the_node_ran_before(monkeypatch, phase, key, lasts):
    """Time is passed when there is something to do: what went by before a key was heard of is not the key's."""

    async def run(changing: Rotating, disk: Disk, now: list[float]) -> None:
        await asyncio.sleep(0)
        now[0] += 30 * DAY
        changing.hear(KeyRecord(SECOND, TODAY, 3600, phase))
        await until_saved(disk)
        assert key in changing.keys.ring
        assert [held.left for held in changing.keys.held if held.key == key] == [lasts]

    with_rotating(monkeypatch, run)
