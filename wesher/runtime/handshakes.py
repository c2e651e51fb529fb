"""When this node's tunnels shook hands last, for whoever asks: an operator here, or through a member anywhere.

The helper is asked at most once a second, however many ask us: members must not make it busy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import Final

from privhelper.protocol import Peer, PeerStatus
from wesher.runtime.clock import monotonic
from wesher.runtime.gossip import Gossip
from wesher.runtime.helper_client import HelperClient, HelperGone
from wesher.swim.node import Node
from wesher.wire.words import Handshake

AT_MOST_EVERY: Final = 1.0
"""Seconds between two looks at the tunnels."""


class OwnHandshakes:
    """`in_force` gives the peers that the helper has, by name."""

    def __init__(self, helper: HelperClient, in_force: Callable[[], Mapping[str, Peer]]) -> None:
        self._helper = helper
        self._in_force = in_force
        self._tunnels: list[PeerStatus] = []
        self._looked_at = -inf

    async def latest(self) -> list[Handshake]:
        """One for each peer in force, by name. Raises HelperGone."""
        if monotonic() - self._looked_at >= AT_MOST_EVERY:
            self._tunnels = await self._helper.status()
            self._looked_at = monotonic()
        last = {tunnel.public_key: tunnel.last_handshake for tunnel in self._tunnels}
        now = time.time()
        return [
            Handshake(name, max(0, round(now - at)) if (at := last.get(peer.public_key)) else None)
            for name, peer in sorted(self._in_force().items())
        ]


class Telling:
    """Tells `node` of its handshakes where somebody waits for them."""

    def __init__(self, node: Node, gossip: Gossip, handshakes: OwnHandshakes) -> None:
        self._node = node
        self._gossip = gossip
        self._handshakes = handshakes
        self._under_way: asyncio.Task[None] | None = None

    def wanted(self) -> None:
        """Somebody has asked; all who ask until the helper has answered are told at once."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        try:
            handshakes = await self._handshakes.latest()
        except HelperGone:
            return  # which ends this process; it says so elsewhere
        self._node.tell_tunnels(handshakes)
        self._gossip.settle()
