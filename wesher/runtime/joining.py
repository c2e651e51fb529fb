"""Finding the cluster: resolve the contacts, exchange with each, and try again until one of them has answered.

Names are resolved anew at every try, all their addresses. It never gives up: a node whose peers are not up yet waits.
Nor is it enough that somebody else joins us meanwhile, or whoever starts beside a slow contact would found a cluster
of its own; but then trying goes on in silence. So it does, for those that were named, once the cluster is found: where
nobody lives, somebody may again, after whatever cut.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum, auto
from ipaddress import ip_address
from random import Random
from typing import Final

from wesher.config import Contact
from wesher.mesh.rejoin import Backoff
from wesher.runtime.dialling import Dialling
from wesher.swim.io import Endpoint, from_wire
from wesher.swim.node import Node

log = logging.getLogger("agent")


AT_ONCE: Final = 64
"""Contacts tried at once, by chance where there are more: half the streams that a node dials."""

_NAMED: Final = 5
"""Failures that one line of the log tells."""


class Reply(Enum):
    """What came from the contacts, the best of all: what keeps a node alone is looked for elsewhere for each."""

    NONE = auto()
    UNREAD = auto()
    """They have another key, or are something else."""
    ANSWER = auto()


class Joining:
    """Joins `contacts` with `node`."""

    def __init__(
        self,
        node: Node,
        dialling: Dialling,
        contacts: Sequence[Contact],
        is_own: Callable[[Endpoint], bool],
        rng: Random,
        backoff: Backoff,
    ) -> None:
        self._node = node
        self._dialling = dialling
        self._contacts = contacts
        self._is_own = is_own
        self._rng = rng
        self._backoff = backoff
        self._has_joined = False
        self.reply = Reply.NONE
        """What came of the last try."""
        self._hurried = asyncio.Event()

    @property
    def unanswered(self) -> list[str]:
        """The contacts, as long as the cluster has not been found."""
        return [] if self._has_joined or self._company() else [contact.host for contact in self._contacts]

    async def find(self) -> None:
        """Return when at least one contact has answered, or is a member, and another member is known."""
        while True:
            endpoints, failures = await self._resolve()
            if not endpoints and not failures:
                break  # nobody but ourselves to join
            refusals = await self._try(endpoints)
            self.reply = self._reply(endpoints, refusals)
            company = self._company()
            if company and (self.reply is Reply.ANSWER or not company.isdisjoint(endpoints)):
                break
            wait = self._backoff.next()
            if company:
                log.info("no contact has answered yet, retrying in %.1fs", wait)
            else:
                why = _first_of((*failures, *refusals)) or "who answers does not count as a member"
                log.error("could not join cluster, retrying in %.1fs: %s", wait, why)
            await self._pause(wait)
        self._has_joined = True

    def _reply(self, endpoints: Sequence[Endpoint], refusals: Sequence[str]) -> Reply:
        if len(refusals) < len(endpoints):
            return Reply.ANSWER
        return Reply.NONE if self._dialling.unread.isdisjoint(endpoints) else Reply.UNREAD

    async def keep(self) -> None:
        """Exchange with whoever of the contacts is not a member, again and again."""
        while self._contacts:
            await self._pause(self._backoff.next())
            endpoints, _ = await self._resolve()
            company = self._company()
            await self._try([endpoint for endpoint in endpoints if endpoint not in company])

    def hurry(self) -> None:
        """Resolve and try everybody at once, or where a try is under way right after it, and soon again."""
        self._backoff.reset()
        self._hurried.set()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()
        self._hurried.clear()

    def _company(self) -> set[Endpoint]:
        """Where the others live."""
        own = self._node.identity.name
        return {member.endpoint for member in self._node.members() if member.name != own and member.is_live}

    async def _try(self, endpoints: Sequence[Endpoint]) -> list[str]:
        """Why each of those refused who did."""
        failures = await asyncio.gather(*map(self._dialling.exchange, endpoints))
        return [f"{endpoint}: {failure}" for endpoint, failure in zip(endpoints, failures, strict=True) if failure]

    async def _resolve(self) -> tuple[list[Endpoint], list[str]]:
        """Each contact's addresses, our own left out; and what could not be resolved."""
        found: dict[Endpoint, None] = {}
        failures = []
        for contact in self._some():
            try:
                found.update(dict.fromkeys(await self._addresses(contact)))
            except OSError as error:
                failures.append(f"{contact.host}: {error.strerror or error}")
            except UnicodeError:  # an empty or overlong label, which no resolver is asked for
                failures.append(f"{contact.host!a}: not a host name")
        return [endpoint for endpoint in found if not self._is_own(endpoint)], failures

    def _some(self) -> Sequence[Contact]:
        return self._contacts if len(self._contacts) <= AT_ONCE else self._rng.sample(self._contacts, AT_ONCE)

    async def _addresses(self, contact: Contact) -> list[Endpoint]:
        port = contact.port or self._node.identity.port
        answers = await asyncio.get_running_loop().getaddrinfo(contact.host, port, type=socket.SOCK_STREAM)
        return [from_wire(ip_address(str(address[0]).partition("%")[0]).packed, port) for *_, address in answers]


def _first_of(reasons: Sequence[str]) -> str:
    """As many as a line of the log has room for."""
    more = [f"and {len(reasons) - _NAMED} more"] if len(reasons) > _NAMED else []
    return "; ".join((*reasons[:_NAMED], *more))
