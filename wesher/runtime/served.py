"""What the control socket serves of a running agent: what may be asked, and what may be commanded.

    GET   /status /members /graph /key /keys
    POST  /leave /forget, /key/rotate /key/use /key/replace (rotating.py)

Who may connect may do all of it: the cluster key is not more than leaving is.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wesher.mesh.remembered import Remembered
from wesher.runtime import report
from wesher.runtime.clock import monotonic, seconds_since_2020
from wesher.runtime.control import Command, Declined, Handler
from wesher.runtime.dialling import Dialling
from wesher.runtime.handshakes import OwnHandshakes
from wesher.runtime.helper_client import HelperClient
from wesher.runtime.leaving import Leaving
from wesher.runtime.looking import Looking
from wesher.runtime.peers import Peers
from wesher.runtime.rotating import Rotating
from wesher.runtime.standing import Standing
from wesher.runtime.views import graph
from wesher.swim.members import CLOCK_IS_SET
from wesher.swim.node import Node
from wesher.version import VERSION

log = logging.getLogger("agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The parts of an agent that are asked; `standing` is the present one, `save` writes the state file."""

    node: Node
    helper: HelperClient
    peers: Peers
    remembered: Remembered
    dialling: Dialling
    looking: Looking
    handshakes: OwnHandshakes
    rotating: Rotating
    leaving: Leaving
    standing: Callable[[], Standing]
    problems: Callable[[], list[str]]
    save: Callable[[], Awaitable[object]]
    settle: Callable[[], None]
    started: float

    def routes(self) -> dict[str, Handler]:
        """What may be asked."""
        return {
            "/status": self.status,
            "/members": self.members,
            "/graph": self.graph,
            "/key": self.key,
            "/keys": self.rotating.list,
        }

    def commands(self) -> dict[str, Command]:
        """What may be commanded."""
        return {
            "/leave": self.leaving.command,
            "/forget": self.forget,
            "/key/rotate": self.rotating.rotate,
            "/key/use": self.rotating.use,
            "/key/replace": self.rotating.replace,
        }

    async def status(self) -> dict[str, Any]:
        """`wesher status --json`."""
        standing = self.standing()
        return report.status(
            version=VERSION,
            pinned=standing.pinned,
            overlay_addr=str(standing.address),
            me=self.node.me,
            uptime=monotonic() - self.started,
            health_score=self.node.health_score,
            members=self.node.members(),
            refused=self.peers.refused,
            tunnels=await self.helper.status(),
            round_trips=self.node.round_trips,
            missed_pings=self.node.missed_pings,
            failed_dials=self.dialling.failed,
            now=monotonic(),
            calendar=time.time(),
            retained=self.peers.retained,
            problems=self.problems(),
        )

    async def members(self) -> dict[str, Any]:
        """`wesher members --json`."""
        return report.members(
            me=self.node.me,
            members=self.node.members(),
            now=monotonic(),
            today=seconds_since_2020(),
            retained=self.peers.retained,
            remembered=self.remembered.nodes,
        )

    async def graph(self) -> dict[str, Any]:
        """`wesher graph --json`: every member is asked what it sees, and told nothing."""
        own = await self.handshakes.latest()
        views = await self.looking.around()
        return graph(me=self.node.me, members=self.node.members(), own=own, views=views)

    async def key(self) -> dict[str, str]:
        """`wesher key show`."""
        return {"cluster_key": base64.b64encode(self.rotating.keys.primary.key).decode("ascii")}

    async def forget(self, words: Mapping[str, Any]) -> dict[str, str]:
        """`wesher forget NAME`: mesh-wide; answered once this node has done it. Raises Declined."""
        name = words.get("name")
        if not isinstance(name, str):
            raise Declined("name whom to forget")
        known = {member.name: member for member in self.node.members()}
        if name == self.node.identity.name:
            raise Declined(f"{name!a} is this node itself; to take it out of the mesh: wesher leave")
        if name in known and known[name].is_live:
            raise Declined(f"{name!a} is alive; take it out first, there: wesher leave")
        gone = {*known, *(node.name for node in self.remembered.nodes), *(peer.name for peer in self.peers.retained)}
        if name not in gone:
            raise Declined(f"nobody here remembers {name!a}; see wesher members, here or on another node")
        if seconds_since_2020() < CLOCK_IS_SET:
            raise Declined("this node's clock is not set, and nobody would believe it; set it, or ask another node")
        log.info("told to forget %s", ascii(name))
        self.node.forget(name, monotonic())
        self.settle()
        await self.save()
        return {"forgotten": name}
