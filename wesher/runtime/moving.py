"""Giving up this node's overlay address for another, where a live member has the better right to it.

    1   wait, as long as it has not moved for long less than a second (see Moves); it may be over by then
    2   SET_ADDR to the next of our addresses that nobody is known to have; where a local network covers that, the next
    3   save the new claim, then announce it: what others have heard of must not be forgotten by a restart

Meanwhile nothing else changes: tunnels that others have to the old address stand until they hear of the new one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from privhelper.addressing import Address
from privhelper.protocol import OwnAddress, SetAddr
from wesher.mesh.addresses import Moves, better_right, next_attempts
from wesher.mesh.node_meta import PINNED_ATTEMPT, Claim, overlay_addr
from wesher.runtime.clock import monotonic, seconds_since_2020
from wesher.runtime.helper_client import HelperClient
from wesher.runtime.peers import Peers
from wesher.runtime.standing import Standing
from wesher.swim.member import Member

AT_MOST_EVERY: Final = 0.1
"""Seconds between two looks at all members, however many of them come and go."""

LOOK_AGAIN: Final = 30.0
"""Seconds, while it is where it has no right to be: a tunnel may have been given up whose address can be had."""

log = logging.getLogger("agent")


class Moving:
    """Watches `members` for who has a better right than `standing` says, whose address and claim it then replaces.

    `settle` saves and announces a new standing. `problem` is empty, or says why this node stays where it has no right
    to be.
    """

    def __init__(
        self,
        helper: HelperClient,
        standing: Standing,
        members: Callable[[], Iterable[Member]],
        peers: Peers,
        absent: Callable[[], Iterable[Address]],
        moves: Moves,
        settle: Callable[[Standing], Awaitable[None]],
    ) -> None:
        self.problem = ""
        self._helper = helper
        self._standing = standing
        self._members = members
        self._peers = peers
        self._absent = absent
        self._moves = moves
        self._settle = settle
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Somebody has come, gone, or claims something else."""
        self._changed.set()

    async def run(self) -> None:
        """For ever. Raises HelperGone."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN if self.problem else None):
                    await self._changed.wait()
            self._changed.clear()
            if self._rival() is not None and self._free():
                await asyncio.sleep(self._moves.wait(monotonic()))
            rival = self._rival()
            if rival is not None:
                await self._give_way_to(rival)
            else:
                self.problem = ""
            await asyncio.sleep(AT_MOST_EVERY)

    def _rival(self) -> str | None:
        return better_right(self._members(), self._standing.policy(), self._standing.claim)

    def _free(self) -> list[int]:
        """The attempts that are left, as far as is known here; none where the address was given."""
        pinned, attempt = self._standing.pinned, self._standing.claim.attempt
        if attempt == PINNED_ATTEMPT:
            return []
        others = (member for member in self._members() if member.is_live and member.name != pinned.node_name)
        live = map(overlay_addr, (member.meta for member in others))
        taken = {address for address in live if address is not None}
        taken |= {peer.overlay_addr for peer in self._peers.in_force.values()}
        return next_attempts(pinned.overlay_net, pinned.node_name, attempt, taken, set(self._absent()))

    async def _give_way_to(self, rival: str) -> None:
        before, free = self._standing, self._free()
        if free:
            self._moves.moved(monotonic())  # even if none can be had: the helper is not to be asked without end
        for attempt in free:
            answer = await self._helper.ask(SetAddr(attempt))
            if isinstance(answer, OwnAddress):
                log.warning("overlay address %s is %s's by right: now %s", before.address, rival, answer.address)
                self._standing = replace(before, address=answer.address, claim=Claim(attempt, seconds_since_2020()))
                self.problem = ""
                await self._settle(self._standing)
                return
        if before.claim.attempt == PINNED_ATTEMPT:
            what_then = "and was given to this node; give one of the two another --address, or rename it"
        else:
            what_then = "and of this node's others none is free; use a larger --overlay-net, or rename one of the two"
        self._cannot(f"overlay address {before.address} is {rival}'s by right, {what_then}")

    def _cannot(self, problem: str) -> None:
        if problem != self.problem:
            log.error("%s", problem)
        self.problem = problem
