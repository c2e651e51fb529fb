"""Finding the cluster: resolve the contacts, exchange with each, and try again until one of them has answered.

Names are resolved anew at every try, all their addresses. It never gives up: a node whose peers are not up yet waits.
Nor is it enough that somebody else joins us meanwhile, or whoever starts beside a slow contact would found a cluster
of its own; but then trying goes on in silence.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from wesher.config import Contact
from wesher.mesh.rejoin import Backoff
from wesher.runtime.clock import monotonic
from wesher.runtime.gossip import Gossip
from wesher.swim.event import Exchanged
from wesher.swim.io import Endpoint, from_wire
from wesher.swim.node import Node

log = logging.getLogger("agent")


class Joining:
    """Joins `contacts` with `node`; feed it the node's Exchanged events."""

    def __init__(
        self,
        node: Node,
        gossip: Gossip,
        contacts: Sequence[Contact],
        is_own: Callable[[Endpoint], bool],
        backoff: Backoff,
    ) -> None:
        self._node = node
        self._gossip = gossip
        self._contacts = contacts
        self._is_own = is_own
        self._backoff = backoff
        self._answers: asyncio.Queue[Exchanged] = asyncio.Queue()
        self._has_joined = False

    @property
    def unanswered(self) -> list[str]:
        """The contacts, as long as the cluster has not been found."""
        return [] if self._has_joined or self._company() else [contact.host for contact in self._contacts]

    def exchanged(self, event: Exchanged) -> None:
        """A push/pull that the node began is over."""
        if event.join:
            self._answers.put_nowait(event)

    async def run(self) -> None:
        """Return when at least one contact has answered, or is a member, and another member is known."""
        while True:
            endpoints, failures = await self._resolve()
            if not endpoints and not failures:
                break  # nobody but ourselves to join
            refusals = await self._try(endpoints)
            company = self._company()
            if company and (len(refusals) < len(endpoints) or not company.isdisjoint(endpoints)):
                break
            wait = self._backoff.next()
            if company:
                log.info("no contact has answered yet, retrying in %.1fs", wait)
            else:
                why = "; ".join((*failures, *refusals)) or "nobody there"
                log.error("could not join cluster, retrying in %.1fs: %s", wait, why)
            await asyncio.sleep(wait)
        self._has_joined = True

    def _company(self) -> set[Endpoint]:
        """Where the others live."""
        own = self._node.identity.name
        return {member.endpoint for member in self._node.members() if member.name != own and member.is_live}

    async def _try(self, endpoints: Sequence[Endpoint]) -> list[str]:
        """Why each of those refused who did."""
        self._node.join(endpoints, monotonic())
        self._gossip.settle()
        answers = [await self._answers.get() for _ in endpoints]
        return [f"{answer.with_whom}: {answer.failure}" for answer in answers if answer.failure]

    async def _resolve(self) -> tuple[list[Endpoint], list[str]]:
        """Each contact's addresses, our own left out; and what could not be resolved."""
        found: dict[Endpoint, None] = {}
        failures = []
        for contact in self._contacts:
            try:
                found.update(dict.fromkeys(await self._addresses(contact)))
            except OSError as error:
                failures.append(f"{contact.host}: {error.strerror or error}")
            except UnicodeError:  # an empty or overlong label, which no resolver is asked for
                failures.append(f"{contact.host!a}: not a host name")
        return [endpoint for endpoint in found if not self._is_own(endpoint)], failures

    async def _addresses(self, contact: Contact) -> list[Endpoint]:
        port = contact.port or self._node.identity.port
        answers = await asyncio.get_running_loop().getaddrinfo(contact.host, port, type=socket.SOCK_STREAM)
        return [from_wire(ip_address(str(address[0]).partition("%")[0]).packed, port) for *_, address in answers]
