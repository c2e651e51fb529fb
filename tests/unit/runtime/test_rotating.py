"""Changing keys under way: time, the disk, and several who change them at once. Whole clusters do so in tests/sim."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.unit.swim.virtual import endpoint, make_node
from wesher.mesh.holders import Holders
from wesher.mesh.rotation import UNUSED, Keys, fingerprint
from wesher.runtime import rotating
from wesher.runtime.control import Declined
from wesher.runtime.rotating import Rotating
from wesher.wire.words import KeyPhase, KeyRecord

TODAY = 217_000_000
DAY = 86_400
FIRST, SECOND, THIRD = (bytes([number]) * 32 for number in range(1, 4))


class Disk:
    """A state file: `write` may be held up, and fail. `has` is what was written last."""

    def __init__(self) -> None:
        self.has: Keys | None = None
        self.is_full = False
        self.free = asyncio.Event()
        self.free.set()

    async def write(self, keys: Keys) -> bool:
        """As the agent's."""
        await self.free.wait()
        if not self.is_full:
            self.has = keys
        return not self.is_full


def with_rotating(
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[Rotating, Disk, list[float]], Awaitable[None]],
    go: tuple[str, ...] = (),
) -> None:
    """Run a coroutine function over a ring of the first key, its disk, and the clock, which stands at 1000 s, where
    there are so many `go` nodes."""
    now = [1000.0]
    monkeypatch.setattr(rotating, "monotonic", lambda: now[0])
    monkeypatch.setattr(rotating, "seconds_since_2020", lambda: TODAY)

    async def begin() -> None:
        disk = Disk()
        everybody = Holders({}, go, ())
        changing = Rotating(
            Keys.of(FIRST),
            make_node("me", endpoint(1)),
            disk.write,
            lambda: None,
            lambda: everybody,
            lambda _: True,
        )
        following = asyncio.create_task(changing.run())
        try:
            await run(changing, disk, now)
        finally:
            following.cancel()

    asyncio.run(begin())


async def until_saved(changing: Rotating, disk: Disk) -> None:
    """Until the disk has what is held."""
    async with asyncio.timeout(10):
        while disk.has is None or disk.has.ring != changing.keys.ring:
            await asyncio.sleep(0.05)


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
        await until_saved(changing, disk)
        assert key in changing.keys.ring
        assert [held.left for held in changing.keys.held if held.key == key] == [lasts]

    with_rotating(monkeypatch, run)


@pytest.mark.parametrize("excused", ["b", 7, None, {"b": 1}])
def test_who_is_excused_is_named_in_a_list(monkeypatch, excused):
    """Whoever speaks to the socket by itself hears what is wrong."""

    async def run(changing: Rotating, _disk: Disk, _now: list[float]) -> None:
        changing.hear(KeyRecord(SECOND, TODAY, 3600, KeyPhase.INSTALLED))
        with pytest.raises(Declined, match="a list"):
            await changing.use({"fingerprint": fingerprint(SECOND).hex(), "without": excused})

    with_rotating(monkeypatch, run)


def test_what_is_heard_while_a_command_waits_for_the_disk_is_held_too(monkeypatch):
    """Another operator's key comes just then; forgotten here, it would seal what this node does not understand."""

    async def run(changing: Rotating, disk: Disk, _now: list[float]) -> None:
        disk.free.clear()
        changing.hear(KeyRecord(SECOND, TODAY, 3600, KeyPhase.INSTALLED))
        await asyncio.sleep(0)
        command = asyncio.create_task(changing.use({"fingerprint": fingerprint(SECOND).hex()}))
        await asyncio.sleep(0)
        changing.hear(KeyRecord(THIRD, TODAY, 3600, KeyPhase.INSTALLED))
        disk.free.set()
        await command
        await until_saved(changing, disk)
        assert set(changing.keys.ring) == {FIRST, SECOND, THIRD}
        assert changing.keys.primary.key == SECOND

    with_rotating(monkeypatch, run)


def test_what_is_heard_while_a_command_fails_is_held_too(monkeypatch):
    """A full disk refuses the command, not what others tell."""

    async def run(changing: Rotating, disk: Disk, _now: list[float]) -> None:
        disk.free.clear()
        disk.is_full = True
        command = asyncio.create_task(changing.rotate({"grace": 3600}))
        await asyncio.sleep(0)
        changing.hear(KeyRecord(SECOND, TODAY, 3600, KeyPhase.INSTALLED))
        disk.free.set()
        with pytest.raises(Declined, match="cannot be written"):
            await command
        assert set(changing.keys.ring) == {FIRST, SECOND}

    with_rotating(monkeypatch, run)


def test_two_commands_at_once_give_out_one_key(monkeypatch):
    """The second goes on with the first one's."""

    async def run(changing: Rotating, disk: Disk, _now: list[float]) -> None:
        disk.free.clear()
        commands = asyncio.gather(*(changing.rotate({"grace": 3600}) for _ in range(2)))
        await asyncio.sleep(0)
        disk.free.set()
        answers = await commands
        await until_saved(changing, disk)
        assert sorted(answer["new"] for answer in answers) == [False, True]
        assert {answer["fingerprint"] for answer in answers} == {changing.keys.fingerprints[1].hex()}

    with_rotating(monkeypatch, run)


@pytest.mark.parametrize("text", ["", "é" * 44, "A" * 44, 5, None], ids=str)
def test_what_is_no_cluster_key_is_declined(monkeypatch, text):
    """Whoever may use the control socket gets an answer, and no traceback."""

    async def run(changing: Rotating, _disk: Disk, _now: list[float]) -> None:
        with pytest.raises(Declined, match="base64 of 32 bytes"):
            await changing.replace({"cluster_key": text})

    with_rotating(monkeypatch, run)


def test_keys_that_change_all_the_time_do_not_drive_the_incarnation_past_the_clock(monkeypatch):
    """Each announcement takes the next, and one more than a day ahead of the clock is believed by nobody.

    Whoever has the cluster key can have two keys take each other's place by ever higher epochs.
    """

    async def run(changing: Rotating, disk: Disk, _now: list[float]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        announced = [changing.announced]
        for epoch in range(30):
            changing.hear(KeyRecord((SECOND, THIRD)[epoch % 2], TODAY + epoch, 3600, KeyPhase.USED))
            await asyncio.sleep(0.11)
            if changing.announced != announced[-1]:
                announced.append(changing.announced)
        assert 1 < len(announced) <= 3 + loop.time() - began

    with_rotating(monkeypatch, run)


def test_a_key_in_the_state_file_is_refused_with_the_reason_where_there_are_go_nodes(monkeypatch, caplog):
    """As a command's is: given out it would wait for a day for nothing, and nobody would know why."""

    async def run(changing: Rotating, _disk: Disk, _now: list[float]) -> None:
        changing.reread(Keys.of(SECOND))
        assert changing.keys.ring == (FIRST,)

    with_rotating(monkeypatch, run, go=("g1",))
    (line,) = caplog.messages
    assert line.startswith(f"cluster key {fingerprint(SECOND).hex()} of the state file is not taken: Go nodes cannot ")
    assert "g1" in line
