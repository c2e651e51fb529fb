"""Whom this node looks for: those it was told to join, those it remembers, and never itself.

    --join          those named are found, and tried for good; those remembered beside them, from the start
    no --join       the last known members are found; then whoever is remembered and missing is tried for good

Who is named may be gone: then those remembered lead to the cluster.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from ipaddress import ip_address
from random import Random
from typing import Any

from wesher.config import AgentConfig, Contact
from wesher.mesh.rejoin import Backoff, Turns
from wesher.mesh.remembered import Remembered
from wesher.mesh.saved_state import LastSeen
from wesher.runtime.clock import seconds_since_2020
from wesher.runtime.dialling import Dialling
from wesher.runtime.healing import Healing
from wesher.runtime.joining import Joining, Reply
from wesher.runtime.whereabouts import is_of_this_host
from wesher.swim.io import Endpoint
from wesher.swim.node import Node


class Company:
    """Joining and healing of `node`."""

    def __init__(
        self, config: AgentConfig, node: Node, dialling: Dialling, remembered: Remembered, rng: Random
    ) -> None:
        self._is_bound_to_all = ip_address(config.bind_addr).is_unspecified
        self._is_named = bool(config.join)
        self._node = node
        contacts = config.join or last_known(remembered)
        self._joining = Joining(node, dialling, contacts, self._is_own, rng, Backoff(rng))
        self._healing = Healing(node, dialling, remembered, Turns(rng), seconds_since_2020)

    @property
    def unanswered(self) -> list[str]:
        """The contacts, as long as the cluster has not been found."""
        return self._joining.unanswered

    @property
    def reply(self) -> Reply:
        """What came of the last try."""
        return self._joining.reply

    def changed(self) -> None:
        """Somebody has come or gone."""
        self._healing.changed()

    def hurry(self) -> None:
        """Try everybody who is not there at once, and soon again."""
        self._joining.hurry()
        self._healing.hurry()

    def keep(self) -> list[Coroutine[Any, Any, None]]:
        """What is to be run beside each other."""
        return [self._find_named(), self._healing.run()] if self._is_named else [self._find_remembered()]

    async def _find_named(self) -> None:
        await self._joining.find()
        await self._joining.keep()

    async def _find_remembered(self) -> None:
        await self._joining.find()
        await self._healing.run()

    def _is_own(self, endpoint: Endpoint) -> bool:
        """By whichever of this host's addresses, where gossip is bound to all of them."""
        own = self._node.identity
        if endpoint.port != own.port or not self._is_bound_to_all:
            return endpoint == own.endpoint
        return endpoint == own.endpoint or is_of_this_host(endpoint.ip)


def last_known(remembered: Remembered) -> Sequence[Contact]:
    """The members of the last run, at this node's port; who has left only where nobody else is known."""
    stayed = [node for node in remembered.nodes if node.last is not LastSeen.LEFT]
    return [Contact(node.addr, 0) for node in stayed or remembered.nodes]
