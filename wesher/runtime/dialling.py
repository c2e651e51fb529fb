"""Full exchanges to wait for: the node begins them and tells in an event how each went; here that is one answer."""

from __future__ import annotations

import asyncio
from collections import Counter

from wesher.runtime.clock import monotonic
from wesher.runtime.gossip import Gossip
from wesher.swim.event import Exchanged
from wesher.swim.io import Endpoint
from wesher.swim.node import Node


class Dialling:
    """Exchanges of `node` that join; feed it the node's Exchanged events. Two at once with one endpoint are one.

    Who is there and does not understand may have been away while the cluster's keys changed: he is asked again under
    each other key that still opens.
    """

    def __init__(self, node: Node, gossip: Gossip) -> None:
        self._node = node
        self._gossip = gossip
        self._answers: dict[Endpoint, asyncio.Future[str]] = {}
        self._other_keys: dict[Endpoint, list[bytes]] = {}
        self.failed: Counter[Endpoint] = Counter()
        """How often in a row no connection came about, whoever wanted it."""
        self.unread: set[Endpoint] = set()
        """Where somebody was at the last exchange that joins, and had none of our keys; or said nothing."""

    async def exchange(self, endpoint: Endpoint) -> str:
        """Exchange everything with whoever is there; what failed, empty if nothing did."""
        answer = self._answers.get(endpoint)
        if answer is None:
            answer = self._answers[endpoint] = asyncio.get_running_loop().create_future()
            self._other_keys[endpoint] = list(self._node.keyring.keys()[1:])
            self._node.join([endpoint], monotonic())
            self._gossip.settle()
        return await asyncio.shield(answer)  # another may be waiting for it

    def joined(self, endpoint: Endpoint) -> None:
        """A member is there that was not: what became of dials there before says nothing any more."""
        self.failed.pop(endpoint, None)

    def exchanged(self, event: Exchanged) -> None:
        """A push/pull that the node began is over."""
        endpoint = event.with_whom
        self._count(event)
        if not event.join or endpoint not in self._answers:
            return
        others = self._other_keys[endpoint]
        if event.unread and others:
            self._node.join([endpoint], monotonic(), under=others.pop(0))
            return
        del self._other_keys[endpoint]
        if not event.unread:
            self.unread.discard(endpoint)
        elif len(self.unread) < self._node.config.max_members:
            self.unread.add(endpoint)
        self._answers.pop(endpoint).set_result(event.failure)

    def _count(self, event: Exchanged) -> None:
        if not event.failure or event.unread:  # there was a connection
            self.failed.pop(event.with_whom, None)
            return
        if len(self.failed) >= self._node.config.max_members:  # of addresses that nobody has any more
            self.failed.clear()
        self.failed[event.with_whom] += 1
