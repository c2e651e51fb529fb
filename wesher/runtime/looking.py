"""What the members see, each asked once: on an operator's word only, since nobody needs to know it all the time.

Who is held for failed is asked too: it may live, and see us. In a large mesh everybody's view of everybody is more than
anybody wants to carry or read, so some are asked, others each time. The answer comes in time to be waited for, whoever
does not answer meanwhile.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Final

from wesher.runtime.clock import monotonic
from wesher.runtime.gossip import Gossip
from wesher.swim.event import Viewed
from wesher.swim.io import Endpoint
from wesher.swim.member import Member
from wesher.swim.node import Node
from wesher.wire.messages import NodeState

AT_ONCE: Final = 32
"""Looks under way: a quarter of the streams that a node dials at once, as many as healing takes."""

WITHIN: Final = 4.0
"""Seconds for all of them: who asks over the control socket is answered within five, or never."""

MOST_CELLS: Final = 1 << 16
"""Entries of all the views together: about a second of processor time, in steps of a few milliseconds, and a megabyte
to tell. A mesh of 256 is seen by all of its members."""


class Looking:
    """Looks of `node` at what its members see; feed it the node's Viewed events."""

    def __init__(self, node: Node, gossip: Gossip, rng: Random) -> None:
        self._node = node
        self._gossip = gossip
        self._rng = rng
        self._answers: dict[Endpoint, asyncio.Future[Viewed]] = {}
        self._under_way: asyncio.Task[dict[str, Viewed]] | None = None

    async def around(self) -> dict[str, Viewed]:
        """What each member that was asked sees, by its name; who asks while others wait is told the same."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._around())
        return await asyncio.shield(self._under_way)

    def viewed(self, event: Viewed) -> None:
        """A look that the node began is over."""
        answer = self._answers.pop(event.with_whom, None)
        if answer is not None:
            answer.set_result(event)

    async def _around(self) -> dict[str, Viewed]:
        chosen = self._chosen()
        found = {member.name: Viewed(member.endpoint, "not asked: too many were slow") for member in chosen}
        turns = asyncio.Semaphore(AT_ONCE)

        async def look(member: Member) -> None:
            async with turns:
                found[member.name] = Viewed(member.endpoint, f"no answer in {WITHIN:g} s")
                found[member.name] = await self._at(member.endpoint)

        looks = [asyncio.create_task(look(member)) for member in chosen]
        if looks:
            _, late = await asyncio.wait(looks, timeout=WITHIN)
            for task in late:
                task.cancel()
        return found

    def _chosen(self) -> list[Member]:
        """Everybody but this node and who has left, or so many of them as are to be asked; first those who live."""
        there = [member for member in self._node.members() if member.state is not NodeState.LEFT]
        others = [member for member in there if member.name != self._node.identity.name]
        self._rng.shuffle(others)
        others.sort(key=lambda member: not member.is_live)
        return others[: MOST_CELLS // max(1, len(there))]

    async def _at(self, endpoint: Endpoint) -> Viewed:
        answer = self._answers.get(endpoint)
        if answer is None:
            answer = self._answers[endpoint] = asyncio.get_running_loop().create_future()
            self._node.look(endpoint, monotonic())
            self._gossip.settle()
        return await asyncio.shield(answer)  # two names may be said to live there
