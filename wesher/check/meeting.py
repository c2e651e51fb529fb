"""Those who are to be joined, as this host finds them: a name, what it resolves to, and how far that is reached."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from wesher.check.reaching import Probe, Prober, Reached
from wesher.config import Contact
from wesher.swim.io import Endpoint, from_wire

_AT_ONCE: Final = 16
"""Names that are tried at the same time."""


@dataclass(frozen=True, slots=True)
class Met:
    """One who was named. `unresolved` is why there is no address, else empty; nobody is `reached` where all addresses
    are this node's own. The last of `reached` is the one that answered, if any did."""

    contact: Contact
    port: int
    unresolved: str = ""
    reached: tuple[Reached, ...] = ()

    @property
    def best(self) -> Reached | None:
        """How far he is reached."""
        answering = [reached for reached in self.reached if reached.udp]
        return answering[-1] if answering else self.reached[-1] if self.reached else None


def meet(contacts: Sequence[Contact], cluster_port: int, own: Endpoint | None, probe: Probe) -> list[Met]:
    """How it goes with each of them, in order. `own` is this node's endpoint, which is passed over."""
    if not contacts:
        return []
    prober = Prober(probe)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda contact: _meet(contact, contact.port or cluster_port, own, prober), contacts))


def _meet(contact: Contact, port: int, own: Endpoint | None, prober: Prober) -> Met:
    try:
        answers = socket.getaddrinfo(contact.host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return Met(contact, port, f"cannot be resolved: {error.strerror or error}; give a name that can, or an address")
    except UnicodeError:  # an empty or overlong label, which no resolver is asked for
        return Met(contact, port, "is no host name; give one, or an address")
    found = dict.fromkeys(from_wire(ip_address(str(at[0]).partition("%")[0]).packed, port) for *_, at in answers)
    others = [endpoint for endpoint in found if endpoint != own]
    return Met(contact, port, reached=tuple(prober.try_all(others)))
