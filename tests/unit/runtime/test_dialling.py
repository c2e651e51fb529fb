"""An exchange to wait for: one answer each, whoever asks."""

from __future__ import annotations

import asyncio

from tests.unit.swim.virtual import endpoint, make_node
from wesher.runtime.dialling import Dialling
from wesher.swim.event import Exchanged
from wesher.swim.io import Connect


class Adapter:
    """In the place of Gossip: notes whom the node dials."""

    def __init__(self, node):
        self.node = node
        self.dialled = []

    def settle(self):
        """As it is called after every input."""
        self.dialled += [action.to for action in self.node.actions() if isinstance(action, Connect)]


def with_node(run):
    """Run a coroutine function over a node, its adapter and its dialling."""
    node = make_node("me", endpoint(1))
    adapter = Adapter(node)
    return asyncio.run(run(adapter, Dialling(node, adapter)))


def test_each_is_told_how_its_own_exchange_went():
    """In whatever order the answers come."""

    async def run(_adapter, dialling):
        first, second = (asyncio.create_task(dialling.exchange(endpoint(number))) for number in (2, 3))
        await asyncio.sleep(0)
        dialling.exchanged(Exchanged(endpoint(3), join=True, failure="no"))
        dialling.exchanged(Exchanged(endpoint(2), join=True))
        return await first, await second

    assert with_node(run) == ("", "no")


def test_two_who_want_the_same_exchange_share_it():
    """And one of them that gives up takes nothing from the other. Later it is dialled anew."""

    async def run(adapter, dialling):
        first, second = (asyncio.create_task(dialling.exchange(endpoint(2))) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        dialling.exchanged(Exchanged(endpoint(2), join=True))
        assert await second == ""
        third = asyncio.create_task(dialling.exchange(endpoint(2)))
        await asyncio.sleep(0)
        third.cancel()
        return adapter.dialled

    assert with_node(run) == [endpoint(2)] * 2


def test_exchanges_that_nobody_waits_for_are_nobodys():
    """The node's own, with a member, every now and then; and answers that come too late."""

    async def run(_adapter, dialling):
        dialling.exchanged(Exchanged(endpoint(2), join=False))
        dialling.exchanged(Exchanged(endpoint(2), join=True))
        waiting = asyncio.create_task(dialling.exchange(endpoint(2)))
        await asyncio.sleep(0)
        dialling.exchanged(Exchanged(endpoint(2), join=False))
        await asyncio.sleep(0)
        return waiting.done() or not waiting.cancel()

    assert with_node(run) is False
