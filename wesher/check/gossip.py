"""Gossip's address and port, and who is to be joined."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any, Final

from wesher.check.finding import Level, Said, ok, some, warning
from wesher.check.start import REFUSALS, Start
from wesher.config import Contact
from wesher.plan import check_cluster_port
from wesher.runtime.bind_addr import BindAddress
from wesher.show import plain
from wesher.swim.io import Endpoint, from_wire

ANSWERS_WITHIN: Final = 2.0
"""Seconds that whoever is to be joined has to take a TCP connection, on all addresses of the name together."""

_AT_ONCE: Final = 16
"""Names that are tried at the same time."""


def address(start: Start) -> Said:
    """Which address is bound, which announced, and why."""
    if isinstance(start.bound, REFUSALS):
        raise start.bound
    bound = start.bound
    announced = from_wire(bound.announced, 0).ip
    yield ok(f"{bound.bind} is bound, {announced} announced: {_why(start.values, bound)}")


def _why(values: Mapping[str, Any], bound: BindAddress) -> str:
    if values["advertise-addr"] is not None:
        return "as --advertise-addr says"
    if bound.bind.is_unspecified:
        return "a private address of this host" + ("" if values["bind-addr"] else ", which has no public one")
    if values["bind-addr"] is not None:
        return "as --bind-addr says"
    return "a public address of this host" if values["bind-iface"] is None else f"the first of {values['bind-iface']}"


def gossip_port(start: Start) -> Said:
    """Whether it can be bound."""
    if isinstance(start.bound, REFUSALS):
        return
    check_cluster_port(start.bound.bind, start.config.cluster_port)
    yield ok(f"{start.config.cluster_port} is free, UDP and TCP")


def join(start: Start) -> Said:
    """Whether those answer who are named."""
    if not start.config.join:
        known = () if isinstance(start.saved, REFUSALS) else start.saved.nodes
        members = "1 saved member" if len(known) == 1 else f"{len(known)} saved members"
        yield ok(f"nobody named: {f'{members} will be tried' if known else 'waits for others'}")
        return
    own = None if isinstance(start.bound, REFUSALS) else from_wire(start.bound.announced, start.config.cluster_port)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(lambda contact: _try(contact, start.config.cluster_port, own), start.config.join)


def _try(contact: Contact, cluster_port: int, own: Endpoint | None) -> tuple[Level, str]:
    """Whether somebody there takes a TCP connection."""
    name, port = plain(contact.host), contact.port or cluster_port
    try:
        answers = socket.getaddrinfo(contact.host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return warning(f"{name} cannot be resolved: {error.strerror or error}; give a name that can, or an address")
    except UnicodeError:  # an empty or overlong label, which no resolver is asked for
        return warning(f"{name} is no host name; give one, or an address")
    found = dict.fromkeys(from_wire(ip_address(str(at[0]).partition("%")[0]).packed, port) for *_, at in answers)
    others = [endpoint for endpoint in found if endpoint != own]
    if not others:
        return ok(f"{name} is this node itself, and passed over")
    deadline = time.monotonic() + ANSWERS_WITHIN
    failures = []
    for endpoint in others:
        try:
            within = max(0.01, deadline - time.monotonic())
            socket.create_connection((str(endpoint.ip), endpoint.port), timeout=within).close()
        except OSError as error:
            failures.append(f"{endpoint}: {error.strerror or error}")
        else:
            return ok(f"{name} answers as {endpoint}")
    return warning(
        f"{name} does not answer ({some(failures)}); start wesher there, and open port {port}, TCP and UDP, between "
        "the two; until then it will be tried again"
    )
