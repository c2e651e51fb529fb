"""An exchange to wait for: one answer each, whoever asks."""

from __future__ import annotations

import asyncio

from tests.unit.swim.virtual import endpoint, make_node
from wesher.runtime.dialling import Dialling
from wesher.swim.event import Exchanged
from wesher.swim.io import Connect, Endpoint


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


SECOND, THIRD = b"\x02" * 32, b"\x03" * 32


def refused(**more: bool) -> Exchanged:
    """An exchange with somebody who does not understand."""
    return Exchanged(endpoint(2), join=True, failure="no", **more)


def keys_of(run):
    """As `with_node`, with three keys in the ring; the keys that the node is asked to join under."""

    async def noting(adapter, dialling):
        adapter.node.hold_keys([*adapter.node.keyring.keys(), SECOND, THIRD], [])
        asked = []
        join = adapter.node.join
        adapter.node.join = lambda contacts, now, under=None: (asked.append(under), join(contacts, now, under))
        return await run(dialling), asked

    return with_node(noting)


def test_who_does_not_understand_is_asked_under_every_key():
    """He may have been away while they changed; the last failure is the answer."""

    async def run(dialling):
        waiting = asyncio.create_task(dialling.exchange(endpoint(2)))
        await asyncio.sleep(0)
        for _ in range(2):
            dialling.exchanged(refused(unread=True))
            assert not waiting.done()
        dialling.exchanged(refused(unread=True))
        return await waiting

    assert keys_of(run) == ("no", [None, SECOND, THIRD])


def test_who_is_not_there_is_not_asked_again():
    """That would take as long each time."""

    async def run(dialling):
        waiting = asyncio.create_task(dialling.exchange(endpoint(2)))
        await asyncio.sleep(0)
        dialling.exchanged(refused())
        return await waiting

    assert keys_of(run) == ("no", [None])


def test_who_understands_another_key_has_been_reached():
    """And is asked no more."""

    async def run(dialling):
        waiting = asyncio.create_task(dialling.exchange(endpoint(2)))
        await asyncio.sleep(0)
        dialling.exchanged(refused(unread=True))
        dialling.exchanged(Exchanged(endpoint(2), join=True))
        return await waiting

    assert keys_of(run) == ("", [None, SECOND])


def test_connections_that_do_not_come_about_are_counted_until_one_does():
    """Whoever wanted them; a connection over which nothing sensible came is one, and so is a member's return."""

    async def run(_adapter, dialling):
        for _ in range(2):
            dialling.exchanged(Exchanged(endpoint(2), join=False, failure="timed out"))
            dialling.exchanged(Exchanged(endpoint(3), join=True, failure="refused"))
        found = [dict(dialling.failed)]
        dialling.exchanged(Exchanged(endpoint(2), join=False, failure="unreadable", unread=True))
        dialling.joined(endpoint(3))
        return [*found, dict(dialling.failed)]

    assert with_node(run) == [{endpoint(2): 2, endpoint(3): 2}, {}]


def test_failed_connections_are_not_remembered_without_bound():
    """Members move, and addresses that were tried once are many."""

    async def run(_adapter, dialling):
        most = dialling._node.config.max_members
        for port in range(1, most + 2):
            dialling.exchanged(Exchanged(Endpoint(endpoint(2).ip, port), join=True, failure="refused"))
        return len(dialling.failed) <= most

    assert with_node(run)


def test_who_was_there_and_understood_nothing_is_noted_until_it_does():
    """It has none of our keys; whoever was not there at all may have any."""

    async def run(_adapter, dialling):
        found = []
        for failure, unread in (("no", True), ("no", False), ("no", True), ("", False)):
            task = asyncio.create_task(dialling.exchange(endpoint(2)))
            await asyncio.sleep(0)
            dialling.exchanged(Exchanged(endpoint(2), join=True, failure=failure, unread=unread))
            await task
            found.append(set(dialling.unread))
        return found

    assert with_node(run) == [{endpoint(2)}, set(), {endpoint(2)}, set()]
