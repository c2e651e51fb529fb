"""Full exchanges to wait for: the node begins them and tells in an event how each went; here that is one answer."""

from __future__ import annotations

import asyncio

from wesher.runtime.clock import monotonic
from wesher.runtime.gossip import Gossip
from wesher.swim.event import Exchanged
from wesher.swim.io import Endpoint
from wesher.swim.node import Node


class Dialling:
    """Exchanges of `node` that join; feed it the node's Exchanged events. Two at once with one endpoint are one."""

    def __init__(self, node: Node, gossip: Gossip) -> None:
        self._node = node
        self._gossip = gossip
        self._answers: dict[Endpoint, asyncio.Future[str]] = {}

    async def exchange(self, endpoint: Endpoint) -> str:
        """Exchange everything with whoever is there; what failed, empty if nothing did."""
        answer = self._answers.get(endpoint)
        if answer is None:
            answer = self._answers[endpoint] = asyncio.get_running_loop().create_future()
            self._node.join([endpoint], monotonic())
            self._gossip.settle()
        return await asyncio.shield(answer)  # another may be waiting for it

    def exchanged(self, event: Exchanged) -> None:
        """A push/pull that the node began is over."""
        if event.join and (answer := self._answers.pop(event.with_whom, None)) is not None:
            answer.set_result(event.failure)
