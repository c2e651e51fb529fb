"""Leaving the mesh: told to the members, to the helper, and to the operator whose command it was.

    1   a leave goes out, and is heard, or five seconds are over (swim/leaving.py)
    2   gossip ends, the state is saved
    3   BYE: the helper takes the tunnels down, and says whether it could
    4   who commanded it is answered

An agent that detaches does none of it but saving: its tunnels stay with the helper, and who waits is told so.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import Any

from privhelper.protocol import Bye, Failed
from wesher.runtime.clock import monotonic
from wesher.runtime.control import Declined
from wesher.runtime.gossip import Gossip
from wesher.runtime.helper_client import HelperClient, HelperGone
from wesher.runtime.stop import Stop
from wesher.swim.node import Node

log = logging.getLogger("agent")


class Leaving:
    """Takes `node` out of the mesh once; feed it the node's LeaveFinished event."""

    def __init__(self, node: Node, gossip: Gossip, helper: HelperClient, stop: Stop) -> None:
        self._node = node
        self._gossip = gossip
        self._helper = helper
        self._stop = stop
        self._heard = asyncio.Event()
        self._ended = asyncio.Event()
        self._not_left: str | None = "the daemon has ended before it had left; see its log"

    async def command(self, _: Mapping[str, Any]) -> dict[str, bool]:
        """`wesher leave`: answered once it is done. Raises Declined."""
        log.info("told to leave")
        self._stop.leave()
        await self._ended.wait()
        if self._not_left is not None:
            raise Declined(self._not_left)
        return {"left": True}

    async def tell_members(self) -> None:
        """Return once they have heard it, as far as can be known. Raises HelperGone."""
        log.info("leaving")
        self._node.leave(monotonic())
        self._gossip.settle()
        waiting: set[asyncio.Future[Any]] = {asyncio.create_task(self._heard.wait()), self._helper.gone}
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self._helper.gone in done:
            raise HelperGone(self._helper.gone.result())

    def heard(self) -> None:
        """The node's leave is finished."""
        self._heard.set()

    async def take_down(self) -> None:
        """Have the helper take everything down. Raises HelperGone."""
        farewell = await self._helper.ask(Bye())
        self._not_left = None
        if isinstance(farewell, Failed):
            self._not_left = f"the helper could not take everything down: {os.strerror(farewell.errno)}"
            log.error("%s", self._not_left)

    def detach(self) -> None:
        """The tunnels stay: another agent goes on with them."""
        self._not_left = "the daemon was being stopped, and detached: its tunnels stay with the helper"
        log.info("detaching: tunnels stay with the helper")

    def end(self) -> None:
        """This run is over, however: who waits is answered."""
        self._ended.set()
