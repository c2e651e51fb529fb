"""What this node does when its host has another address than the one announced: it moves there, or is started anew.

Gossip that is bound to everything moves within the process. Where it is bound to the one address it cannot: the sandbox
lets nobody bind, so the agent ends, and the next start binds what there is then (whereabouts.py notices).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

from privhelper.addressing import Address
from wesher.config import AgentConfig
from wesher.mesh.node_meta import has_claim
from wesher.mesh.remembered import Remembered
from wesher.runtime.bind_addr import sixteen_bytes
from wesher.runtime.clock import monotonic
from wesher.runtime.whereabouts import Whereabouts, first_address, is_announceable, source_towards
from wesher.swim.io import Endpoint, from_wire
from wesher.swim.node import Node

log = logging.getLogger("agent")


class AddressGone(Exception):
    """The one address that gossip is bound to is no longer this host's, which has another: in one line."""


class Following:
    """Has `node` follow its host, unless its address was given. `overlay` is its own there; `settle` acts on the node.

    `problem` is empty, or says that this host has no address that could be announced.
    """

    def __init__(
        self,
        config: AgentConfig,
        node: Node,
        remembered: Remembered,
        overlay: Callable[[], Address],
        settle: Callable[[], None],
    ) -> None:
        self._config = config
        self._node = node
        self._remembered = remembered
        self._overlay = overlay
        self._settle = settle
        self._whereabouts = Whereabouts(
            lambda: node.identity.endpoint.ip,
            self._targets,
            self._is_candidate,
            self._follow,
            source=self._source if config.bind_iface else source_towards,
        )

    @property
    def problem(self) -> str:
        """For `status`."""
        return self._whereabouts.problem

    async def run(self) -> None:
        """For ever, or until AddressGone."""
        await self._whereabouts.run()

    def _targets(self) -> tuple[list[Endpoint], list[Endpoint]]:
        """Whom this host is to reach: who is alive, else whoever is remembered."""
        own, port = self._node.identity.name, self._config.cluster_port
        live = [member.endpoint for member in self._node.members() if member.is_live and member.name != own]
        return live, [from_wire(ip_address(node.addr).packed, port) for node in self._remembered.nodes]

    def _source(self, _: Endpoint) -> IPv4Address | IPv6Address | None:
        return first_address(self._config.bind_iface)

    def _is_candidate(self, address: IPv4Address | IPv6Address) -> bool:
        return is_announceable(address) and address != self._overlay()

    def _follow(self, address: IPv4Address | IPv6Address) -> None:
        """This host has another address than the one announced. Raises AddressGone."""
        before = self._node.identity.endpoint.ip
        if not ip_address(self._config.bind_addr).is_unspecified:
            raise AddressGone(
                f"address {before}, which gossip is bound to, is gone from this host; it has {address} now, and the "
                "next start binds that"
            )
        log.warning("address %s is gone from this host: the others are told of %s", before, address)
        self._node.move(sixteen_bytes(address), monotonic(), confidants=self._others_of_ours())
        self._settle()

    def _others_of_ours(self) -> set[str]:
        """The members that are no Go nodes: those have a claim in their metadata."""
        return {member.name for member in self._node.members() if has_claim(member.meta)}
