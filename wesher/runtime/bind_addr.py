"""Which address gossip binds, and which it announces, byte for byte as the Go original would in the same place.

    --bind-addr, --bind-iface   bind it, announce it: 4 bytes for IPv4
    a public address found      the same
    else                        bind every address, announce a private one: 16 bytes, IPv4 in its mapped form

Peers compare announced addresses byte by byte, so a node that takes over another's name must use the same form.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import ifaddr

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_SHARED: Final = ipaddress.IPv4Network("100.64.0.0/10")
"""Carrier-grade NAT: neither private nor global in Python's tables, RFC 6890 to the original."""


class NoAddress(Exception):
    """There is nothing to bind or to announce: what is wrong and what to do, in one line."""


@dataclass(frozen=True, slots=True)
class BindAddress:
    """`bind` may be a wildcard; `announced` are the bytes other nodes get to see."""

    bind: Address
    announced: bytes


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """One address of one interface of this host."""

    interface: str
    address: Address
    prefix: int


def choose(
    bind_addr: Address | None, bind_iface: str | None, found: Sequence[InterfaceAddress], default_interface: str | None
) -> BindAddress:
    """The choice for these options on a host with these addresses. Raises NoAddress."""
    if bind_addr is not None and not bind_addr.is_unspecified:
        return BindAddress(bind_addr, bind_addr.packed)
    if bind_iface is not None:
        return _of_interface(bind_iface, found)
    usable = [entry for entry in found if not entry.address.is_loopback and not entry.address.is_link_local]
    usable.sort(key=lambda entry: (entry.interface != default_interface, entry.address.version, entry.prefix))
    public = [entry.address for entry in usable if not _is_private(entry.address)]
    if public and bind_addr is None:
        return BindAddress(public[0], public[0].packed)
    private = [entry.address for entry in usable if _is_private(entry.address)]
    if not private:
        raise NoAddress("no private or public address on any interface; give one with --bind-addr or --bind-iface")
    wildcard = bind_addr if bind_addr is not None else ipaddress.IPv4Address(0)
    return BindAddress(wildcard, sixteen_bytes(private[0]))


def interface_addresses(leave_out: str) -> list[InterfaceAddress]:
    """The addresses of this host's interfaces, but for the one called `leave_out` (the overlay's own)."""
    found = []
    for adapter in ifaddr.get_adapters():
        if adapter.name == leave_out:
            continue
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            found.append(InterfaceAddress(adapter.name, ipaddress.ip_address(text), ip.network_prefix))
    return found


def default_interface(proc_net_route: str) -> str | None:
    """The interface of the default route in the text of /proc/net/route."""
    for line in proc_net_route.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == fields[7] == "00000000":
            return fields[0]
    return None


def _of_interface(name: str, found: Sequence[InterfaceAddress]) -> BindAddress:
    addresses = [entry.address for entry in found if entry.interface == name]
    usable = [address for address in addresses if not address.is_link_local]
    if not usable:
        raise NoAddress(f"interface {name} is not there or has no address; give another --bind-iface")
    return BindAddress(usable[0], usable[0].packed)


def _is_private(address: Address) -> bool:
    return address.is_private or (address.version == 4 and address in _SHARED)


def sixteen_bytes(address: Address) -> bytes:
    """How an address is announced by who has bound every address."""
    return bytes(10) + b"\xff\xff" + address.packed if address.version == 4 else address.packed
