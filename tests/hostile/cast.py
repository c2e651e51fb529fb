"""Members that never were, with names for the addresses they are to have: anybody finds such a name in no time."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from privhelper.addressing import Address, derive
from privhelper.protocol import Peer
from tests.hostile.furniture import LAN, OVERLAY

NAME = "target"
"""Of the node that is attacked: its address lies where the operator has nothing, in the net's lower half."""
ENDPOINT = "192.0.2.77"
"""Nobody's, and there is no way to it."""


@functools.cache
def _names(net: str) -> Mapping[Address, str]:
    """A name for each address of `net`, which is small."""
    network = ip_network(net)
    names = (f"n{number:x}" for number in range(16 * network.num_addresses))
    return {derive(network, name.encode(), 0): name for name in names}


def name_for(address: str, net: str = OVERLAY) -> str:
    """A host name that has `address` in `net`."""
    return _names(net)[ip_address(address)]


def key_of(name: str) -> bytes:
    """A public key that looks like one: nobody has its private half."""
    digest = bytearray(hashlib.sha256(name.encode()).digest())
    digest[31] &= 0x7F
    return bytes(digest)


def member(
    name: str, *, endpoint: str = ENDPOINT, address: str | None = None, key: bytes | None = None, net: str = OVERLAY
) -> Peer:
    """A member: at the address that its name has, unless another is given."""
    overlay = derive(ip_network(net), name.encode("ascii"), 0) if address is None else ip_address(address)
    return Peer(key_of(name) if key is None else key, ip_address(endpoint), overlay, name)


def at(address: str, *, endpoint: str = ENDPOINT, net: str = OVERLAY) -> Peer:
    """A member whose name gives it just this address."""
    return member(name_for(address, net), endpoint=endpoint, net=net)


def is_free(name: str) -> bool:
    """Whether neither the operator nor this node is where the name's address is."""
    return int(member(name).overlay_addr) & 0xFFF < 0x800 and name != NAME


def members(number: int, label: str = "m", net: str = OVERLAY) -> list[Peer]:
    """So many of whom each is acceptable."""
    found: dict[Address, Peer] = {}
    for count in itertools.count():
        peer = member(f"{label}-{count}", net=net)
        if net != OVERLAY or is_free(peer.name):
            found.setdefault(peer.overlay_addr, peer)
        if len(found) == number:
            break
    return list(found.values())


ALPHA, BETA = members(2, "old")
"""Who is in force when a helper is attacked."""
GAMMA, DELTA = members(2, "new")

assert ip_address("10.77.8.0") in ip_network(LAN)
