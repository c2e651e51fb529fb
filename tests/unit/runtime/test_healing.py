"""Who is remembered and not alive is tried again and again, and nobody else. Whole clusters heal in tests/sim."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from random import Random

from tests.unit.swim.virtual import START, endpoint, make_node
from wesher.mesh.rejoin import Turns
from wesher.mesh.remembered import Remembered
from wesher.mesh.saved_state import SavedNode
from wesher.runtime.dialling import Dialling
from wesher.runtime.healing import AT_ONCE, Healing
from wesher.swim.event import Exchanged
from wesher.swim.io import Connect, Endpoint
from wesher.swim.node import Node
from wesher.wire.codec import encode
from wesher.wire.messages import Alive
from wesher.wire.packet import seal_packet

TODAY = 217_000_000


class NoWait(Random):
    """Everybody is due at once, again and again."""

    def uniform(self, _a: float, _b: float) -> float:
        """No time at all."""
        return 0.0


class Adapter:
    """In the place of Gossip: notes whom the node dials, and answers for everybody but `silent`."""

    def __init__(self, node: Node, silent: Collection[Endpoint]) -> None:
        self.node = node
        self.dialled: list[Endpoint] = []
        self.dialling = Dialling(node, self)
        self._silent = silent

    def settle(self) -> None:
        """As it is called after every input."""
        for action in self.node.actions():
            if isinstance(action, Connect):
                self.dialled.append(action.to)
                if action.to not in self._silent:
                    failed = Exchanged(action.to, join=True, failure="no")
                    asyncio.get_running_loop().call_soon(self.dialling.exchanged, failed)


def at(number: int, name: str | None = None) -> SavedNode:
    """A node remembered at that endpoint."""
    return SavedNode(name or f"n{number}", str(endpoint(number).ip), None, TODAY)


def dialled(
    *remembered: SavedNode,
    until: Callable[[list[Endpoint]], bool],
    alive: Collection[int] = (),
    silent: Collection[Endpoint] = (),
) -> list[Endpoint]:
    """Whom a node dials that knows members n… at those endpoints alone for alive."""

    async def run() -> list[Endpoint]:
        node = make_node("me", endpoint(1))
        for number in alive:
            news = Alive(1, f"n{number}", endpoint(number).ip.packed, endpoint(number).port, b"")
            node.receive_datagram(seal_packet([encode(news)], node.keyring, bytes(12)), endpoint(number), START)
        memory = Remembered(remembered, own_name="me", forget_after=60, most=1000, now=TODAY)
        adapter = Adapter(node, silent)
        healing = Healing(node, adapter.dialling, memory, Turns(NoWait()), lambda: TODAY)
        running = asyncio.create_task(healing.run())
        async with asyncio.timeout(30):
            while not until(adapter.dialled):
                await asyncio.sleep(0)
        running.cancel()
        return adapter.dialled

    return asyncio.run(run())


def test_who_is_not_alive_is_tried_again_and_again():
    """Each, for ever; who is a member is let alone."""
    found = dialled(at(2), at(3), at(4), alive=[3], until=lambda so_far: len(so_far) >= 20)
    assert set(found) == {endpoint(2), endpoint(4)}


def test_where_somebody_else_lives_by_now_nobody_is_looked_for():
    """Nor where we do: an address that was another's before."""
    found = dialled(at(1, "was here"), at(3, "was there"), at(4), alive=[3], until=lambda so_far: len(so_far) >= 5)
    assert set(found) == {endpoint(4)}


def test_tries_that_hang_are_so_many_and_no_more():
    """The rest of the streams is for others; and those who were members first come first."""
    nodes = [at(number) for number in range(2, 200)]
    silent = [endpoint(number) for number in range(2, 200)]
    rounds = 0

    def some_rounds_later(so_far: list[Endpoint]) -> bool:
        nonlocal rounds
        rounds += len(so_far) >= AT_ONCE
        return rounds > 50

    assert dialled(*nodes, silent=silent, until=some_rounds_later) == silent[:AT_ONCE]


class Never(Random):
    """Nobody's turn ever comes."""

    def uniform(self, _a: float, _b: float) -> float:
        """For ever, nearly."""
        return 1e6


def test_who_hurries_waits_for_nobodys_turn():
    """All of them are tried at once."""

    async def run() -> list[Endpoint]:
        node = make_node("me", endpoint(1))
        memory = Remembered([at(2), at(3)], own_name="me", forget_after=60, most=1000, now=TODAY)
        adapter = Adapter(node, ())
        healing = Healing(node, adapter.dialling, memory, Turns(Never()), lambda: TODAY)
        running = asyncio.create_task(healing.run())
        for _ in range(100):
            await asyncio.sleep(0)
        assert adapter.dialled == []
        healing.hurry()
        async with asyncio.timeout(30):
            while len(adapter.dialled) < 2:
                await asyncio.sleep(0.01)
        running.cancel()
        return adapter.dialled

    assert asyncio.run(run()) == [endpoint(2), endpoint(3)]
