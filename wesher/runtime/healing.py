"""Looking for members that are not there: each that is remembered is tried again until it answers or is forgotten.

One that answers is enough: the exchange tells both sides what the other believes, who is wrongly held for dead refutes,
and gossip carries the rest, on Go nodes too. So a mesh that was cut becomes one again from whichever node gets through
first, and a node that was declared dead to everybody comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from math import inf
from typing import Final

from wesher.mesh.rejoin import LONGEST, LONGEST_AFTER_LEAVE, Turns
from wesher.mesh.remembered import Remembered
from wesher.mesh.saved_state import LastSeen, SavedNode
from wesher.runtime.clock import monotonic
from wesher.runtime.dialling import Dialling
from wesher.swim.io import Endpoint, from_wire
from wesher.swim.node import Node

AT_ONCE: Final = 32
"""Tries under way: a quarter of the streams that a node dials at once, so that many who are gone keep it from
nothing. Where they are more than can be tried in time, those go first that were members first."""

LOOK_AT_MOST_EVERY: Final = 0.2
"""Seconds: a look goes through all members, and in a storm of news there are many changes a second."""


class Healing:
    """Keeps `remembered` true to `node`, and tries those again that are not alive. `calendar`: seconds since 2020."""

    def __init__(
        self,
        node: Node,
        dialling: Dialling,
        remembered: Remembered,
        turns: Turns,
        calendar: Callable[[], int],
    ) -> None:
        self._node = node
        self._dialling = dialling
        self._remembered = remembered
        self._turns = turns
        self._calendar = calendar
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Somebody has come or gone."""
        self._changed.set()

    def hurry(self) -> None:
        """Try everybody who is not there at once, and soon again."""
        self._turns.hurry(monotonic())
        self._changed.set()

    async def run(self) -> None:
        """For ever."""
        try:
            while True:
                self._changed.clear()
                self._remembered.observe(self._node.members(), self._calendar())
                absent = self._absent()
                longest = {name: _longest(node) for name, node in absent.items()}
                room = AT_ONCE - len(self._under_way)
                for name in self._turns.due(longest, self._under_way, room, monotonic()):
                    self._under_way[name] = asyncio.create_task(self._try(absent[name]))
                await self._until_due()
                await asyncio.sleep(LOOK_AT_MOST_EVERY)
        finally:
            for task in self._under_way.values():
                task.cancel()

    def _absent(self) -> dict[str, SavedNode]:
        """Who is not alive, at addresses where nobody else is, nor we."""
        live = [member for member in self._node.members() if member.is_live]
        names, endpoints = {member.name for member in live}, {member.endpoint for member in live}
        return {
            node.name: node
            for node in self._remembered.nodes
            if node.name not in names and self._endpoint(node) not in endpoints
        }

    async def _try(self, node: SavedNode) -> None:
        await self._dialling.exchange(self._endpoint(node))
        del self._under_way[node.name]
        self._changed.set()

    async def _until_due(self) -> None:
        """Until somebody's turn comes, or something has changed; where there is no room, until a try is over."""
        due = self._turns.next(self._under_way) if len(self._under_way) < AT_ONCE else inf
        with suppress(TimeoutError):
            async with asyncio.timeout(None if due == inf else max(0.0, due - monotonic())):
                await self._changed.wait()

    def _endpoint(self, node: SavedNode) -> Endpoint:
        return from_wire(ip_address(node.addr).packed, self._node.identity.port)


def _longest(node: SavedNode) -> float:
    return LONGEST_AFTER_LEAVE if node.last is LastSeen.LEFT else LONGEST
