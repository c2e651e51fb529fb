"""The network link under WireGuard: alias, MTU, address, host routes, and what else this host has, through rtnetlink.

The link is remembered by ifindex, never again looked up by name, so nothing that takes our name later can be meant.
Its alias says to other instances, and to a later start, whose it is. pyroute2 validates little: everything given to
it here is an `ipaddress` object or an integer that the policy or the options have seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from privhelper.addressing import Address, Network
from privhelper.policy import Surroundings

ALIAS: Final = "wesher"
"""What every link of ours carries as its alias (IFLA_IFALIAS)."""

_TABLES: Final = (254, 255)  # main, local
_CARRYING: Final = (1, 2, 3, 4)  # unicast, local, broadcast, anycast: the route types that deliver somewhere
_RTPROT_STATIC: Final = 4
_SCOPE_LINK: Final = 253
_ADDR_GEN_NONE: Final = 1  # IN6_ADDR_GEN_MODE_NONE: no link-local address, whose group traffic nobody would answer
_IFA_F_NODAD: Final = 0x02
_TUN_KIND: Final = "tun"


class RtnlLink:
    """A link known by `index`. Methods raise OSError."""

    def __init__(self, rtnl: IPRoute, index: int, overlay_net: Network, resolvers: Collection[Address] = ()) -> None:
        self._rtnl = rtnl
        self._index = index
        self._net = overlay_net
        self._resolvers = frozenset(resolvers)
        self._address: Address | None = None
        self._routes: set[Address] = set()

    def bring_up(self, mtu: int) -> None:
        """Mark the link as ours and set it up."""
        self._do(self._rtnl.link, "set", index=self._index, ifalias=ALIAS)
        self._do(self._rtnl.link, "set", index=self._index, mtu=mtu)
        try:
            self._no_link_local_address()
        except OSError:
            if self._net.version == 6:
                raise  # without IPv6 on the host, an IPv4 overlay does as well
        self._do(self._rtnl.link, "set", index=self._index, state="up")

    def _no_link_local_address(self) -> None:
        mode = {"attrs": [["AF_INET6", {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_NONE]]}]]}
        self._do(self._rtnl.link, "set", index=self._index, IFLA_AF_SPEC=mode)

    def assign(self, address: Address) -> None:
        """Make `address`, as a /32 or /128, the link's only one."""
        if address == self._address:
            return
        if self._address is not None:
            self._do(self._rtnl.addr, "del", **self._host(self._address), gone_is_good=True)
            self._address = None
        fields = self._host(address) | ({"flags": _IFA_F_NODAD} if address.version == 6 else {})
        self._do(self._rtnl.addr, "replace", **fields)
        self._address = address

    def route(self, wanted: Collection[Address]) -> None:
        """Make host routes to `wanted` the only ones of ours. What has been done is remembered, also after an error."""
        for address in [address for address in self._routes if address not in wanted]:
            self._do(self._rtnl.route, "del", **self._route(address), gone_is_good=True)
            self._routes.discard(address)
        for address in [address for address in wanted if address not in self._routes]:
            # Never in place of a route that is there: that one is somebody else's, and would be lost for good.
            self._do(self._rtnl.route, "add", **self._route(address), proto=_RTPROT_STATIC)
            self._routes.add(address)

    def surroundings(self) -> Surroundings:
        """What other links of this host have that concerns the overlay."""
        with _kernel_words():
            links, addresses = list(self._rtnl.get_links()), list(self._rtnl.get_addr())
            routes = [route for table in _TABLES for route in self._rtnl.get_routes(table=table)]
        ours = {link["index"] for link in links if link.get("IFLA_IFALIAS") == ALIAS} - {self._index}
        found: dict[bool, set[Network]] = {True: set(), False: set(map(ip_network, self._resolvers))}
        for address in addresses:
            if address["index"] != self._index:
                found[address["index"] in ours].update(_address_nets(address))
        for route in routes:
            hops = _hops(route)
            if hops != {self._index} and _is_respected(route, self._net):
                found[bool(hops) and hops <= ours].update(_route_nets(route))
        networks, others = ({n for n in found[key] if _at_least_as_specific(n, self._net)} for key in (False, True))
        taken = {network.network_address for network in others if network.prefixlen == network.max_prefixlen}
        own = {_local(address) for address in addresses if address["index"] != self._index}
        return Surroundings(tuple(sorted(networks, key=str)), frozenset(taken), frozenset(own))

    def others(self) -> list[str]:
        """Names of other links with our alias: other instances that run on this host."""
        with _kernel_words():
            links = list(self._rtnl.get_links())
        return [
            link.get("ifname") for link in links if link.get("IFLA_IFALIAS") == ALIAS and link["index"] != self._index
        ]

    def delete(self) -> None:
        """Take the link away; gone already is as good."""
        self._do(self._rtnl.link, "del", index=self._index, gone_is_good=True)
        self._routes.clear()
        self._address = None

    def _host(self, address: Address) -> dict[str, Any]:
        return {"index": self._index, "address": str(address), "prefixlen": address.max_prefixlen}

    def _route(self, address: Address) -> dict[str, Any]:
        scope = {"scope": _SCOPE_LINK} if address.version == 4 else {}
        return {"dst": f"{address}/{address.max_prefixlen}", "oif": self._index, **scope}

    def _do(self, call: Callable[..., object], *args: Any, gone_is_good: bool = False, **fields: Any) -> None:
        with _kernel_words():
            try:
                call(*args, **fields)
            except NetlinkError as error:
                if not gone_is_good or error.code not in _GONE:
                    raise


_GONE: Final = (3, 19, 99)  # ESRCH, ENODEV, EADDRNOTAVAIL: what was to be removed is not there


def open_netlink() -> IPRoute:
    """The one netlink connection. Open it before lockdown."""
    return IPRoute()


def find(rtnl: IPRoute, name: str) -> Mapping[str, Any] | None:
    """The link called `name`, or None: `index`, `kind`, `alias`."""
    with _kernel_words():
        for link in rtnl.get_links():
            if link.get("ifname") == name:
                info = link.get("IFLA_LINKINFO")
                kind = info.get("IFLA_INFO_KIND") if info is not None else None
                return {"index": link["index"], "kind": kind, "alias": link.get("IFLA_IFALIAS")}
    return None


def is_tun(link: Mapping[str, Any]) -> bool:
    """Whether `link`, as `find` gives it, is a TUN device."""
    return bool(link["kind"] == _TUN_KIND)


@contextmanager
def _kernel_words() -> Iterator[None]:
    """pyroute2's own exception is no OSError; the rest of the helper knows only errno."""
    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from None


def _local(address: Mapping[str, Any]) -> Address:
    return ip_address(str(address.get("IFA_LOCAL") or address.get("IFA_ADDRESS")))


def _address_nets(address: Mapping[str, Any]) -> list[Network]:
    """The address itself and, for a point-to-point link, the other end's."""
    there = ip_address(str(address.get("IFA_ADDRESS") or address.get("IFA_LOCAL")))
    return [ip_network(_local(address)), ip_network(there)]


def _hops(route: Mapping[str, Any]) -> set[int]:
    """The links a route goes through; none for one that goes nowhere."""
    links = {route.get("RTA_OIF"), *(hop.get("oif") for hop in route.get("RTA_MULTIPATH") or ())}
    return {link for link in links if link is not None}


def _is_respected(route: Mapping[str, Any], overlay: Network) -> bool:
    """A blackhole or unreachable route as wide as the overlay is how routers keep private networks in; a narrower
    one means just these addresses."""
    return route["type"] in _CARRYING or bool(route["dst_len"] > overlay.prefixlen)


def _route_nets(route: Mapping[str, Any]) -> list[Network]:
    """A route's destination and gateways."""
    gateways = [hop.get("RTA_GATEWAY") for hop in (route, *(route.get("RTA_MULTIPATH") or ()))]
    destination = route.get("RTA_DST")
    nets = [ip_network(gateway) for gateway in gateways if gateway]
    return [ip_network(f"{destination}/{route['dst_len']}"), *nets] if destination else nets


def _at_least_as_specific(network: Network, overlay: Network) -> bool:
    return network.version == overlay.version and network.prefixlen >= overlay.prefixlen and network.overlaps(overlay)


def resolvers(resolv_conf: str) -> Sequence[Address]:
    """The name servers in the text of a resolv.conf; what does not parse is not one."""
    found = []
    for line in resolv_conf.splitlines():
        fields = line.split()
        if len(fields) > 1 and fields[0] == "nameserver":
            try:
                found.append(ip_address(fields[1].split("%")[0]))
            except ValueError:
                continue
    return found
