"""The network link under WireGuard: its making, alias, MTU, address and host routes, and what else this host has,
through rtnetlink.

The link is remembered by ifindex, never again looked up by name, so nothing that takes our name later can be meant.
Its alias says to other instances, and to a later start, whose it is; the kernel takes none in the message that makes
a link, which is why one of our name without key and peer counts as ours too. pyroute2 validates little: everything
given to it here is an `ipaddress` object or an integer that the policy or the options have seen.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from privhelper.addressing import Address, Network
from privhelper.policy import Surroundings

ALIAS: Final = "wesher"
"""What every link of ours carries as its alias (IFLA_IFALIAS)."""

WIREGUARD: Final = "wireguard"
TUN: Final = "tun"

_TABLES: Final = (254, 255)  # main, local
_CARRYING: Final = (1, 2, 3, 4)  # unicast, local, broadcast, anycast: the route types that deliver somewhere
_OF_HERE: Final = (2, 3, 4)  # local, broadcast, anycast: what this host takes for its own, or sends to all of a network
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
_MULTICAST: Final = 5
_EVERYWHERE: Final[Mapping[int, Network]] = {
    socket.AF_INET: ip_network("0.0.0.0/0"),
    socket.AF_INET6: ip_network("::/0"),
}
_RTPROT_STATIC: Final = 4
_SCOPE_LINK: Final = 253
_ADDR_GEN_NONE: Final = 1  # IN6_ADDR_GEN_MODE_NONE: no link-local address, whose group traffic nobody would answer
_IFA_F_NODAD: Final = 0x02
_IFF_UP: Final = 0x01
_LOOPBACK: Final = 1  # LOOPBACK_IFINDEX: the first link of every network


@dataclass(frozen=True, slots=True)
class Found:
    """A link as the kernel tells it."""

    index: int
    kind: str | None
    alias: str | None
    mtu: int
    is_up: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What our link is to be."""

    name: str
    overlay_net: Network
    mtu: int


class RtnlLink:
    """Our link. Without `given` it is a WireGuard link of the kernel's that `make` makes; `given` is the ifindex of a
    TUN that wireguard-go serves, which `delete` deletes or, if it is the administrator's (`keep`), only empties.

    Methods raise OSError.
    """

    def __init__(
        self,
        rtnl: IPRoute,
        wanted: Wanted,
        is_bare: Callable[[int], bool],
        resolvers: Collection[Address] = (),
        *,
        given: int | None = None,
        keep: bool = False,
    ) -> None:
        self.index = given or 0
        self.netlink = self._rtnl = rtnl
        self._wanted = wanted
        self._is_bare = is_bare
        self._resolvers = frozenset(resolvers)
        self._given = given
        self._keep = keep
        self._address: Address | None = None
        self._routes: set[Address] = set()

    # --- its life

    def make(self) -> None:
        """Make the link, unless it was given: then only empty it of what an earlier run left."""
        if self._given is not None:
            self._empty()
            return
        self.clear_stale()
        self.index = make_wireguard(self._rtnl, self._wanted.name)

    def clear_stale(self) -> None:
        """Delete a link of our name that an earlier run left; raises FileExistsError where it is somebody else's."""
        clear_stale(self._rtnl, self._wanted.name, self._is_bare)

    def bring_up(self) -> None:
        """Mark the link as ours and set it up, with the address and routes it had, if it had any."""
        self._set(ifalias=ALIAS)
        self._set(mtu=self._wanted.mtu)
        self._no_link_local_address()
        self._set(state="up")
        address, routes = self._address, frozenset(self._routes)
        self._address = None
        self._routes.clear()
        if address is not None:
            self.assign(address)
        self.route(routes)

    def exists(self) -> bool:
        """Whether the link is still there."""
        return self._found() is not None

    def delete(self) -> None:
        """Take the link away, or empty it if it is the administrator's; gone already is as good."""
        self._address = None
        self._routes.clear()
        if self._keep:
            self._empty()
            self._set(ifalias="")  # or other instances would count this one as running
        elif self.index:
            self._do(self._rtnl.link, "del", index=self.index, gone_is_good=True)

    # --- what it carries

    def assign(self, address: Address) -> None:
        """Make `address`, as a /32 or /128, the link's only one of ours."""
        if address == self._address:
            return
        fields = self._host(address) | ({"flags": _IFA_F_NODAD} if address.version == 6 else {})
        self._do(self._rtnl.addr, "replace", **fields)
        former, self._address = self._address, address
        if former is not None:  # last: with a link's only IPv4 address the kernel takes all its routes away
            self._do(self._rtnl.addr, "del", **self._host(former), gone_is_good=True)

    def route(self, wanted: Collection[Address]) -> None:
        """Make host routes to `wanted` the only ones of ours. What has been done is remembered, also after an error."""
        for address in [address for address in self._routes if address not in wanted]:
            self._do(self._rtnl.route, "del", **self._route(address), gone_is_good=True)
            self._routes.discard(address)
        for address in [address for address in wanted if address not in self._routes]:
            # Never in place of a route that is there: that one is somebody else's, and would be lost for good.
            self._do(self._rtnl.route, "add", **self._route(address), proto=_RTPROT_STATIC)
            self._routes.add(address)

    def repair(self) -> list[str]:
        """Put right what others changed about the link, its address and its routes; says what it was."""
        found, repaired = self._found(), []
        if found is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        if found.alias != ALIAS:
            self._set(ifalias=ALIAS)
            repaired.append("alias")
        if found.mtu != self._wanted.mtu:
            self._set(mtu=self._wanted.mtu)
            repaired.append("MTU")
        if not found.is_up:
            self._no_link_local_address()
            self._set(state="up")
            repaired.append("link down")
        if self._address is not None and self._address not in self._addresses():
            address, self._address = self._address, None
            self.assign(address)
            repaired.append("address")
        there = set(self._destinations())
        missing = {address for address in self._routes if ip_network(address) not in there}
        if missing:
            wanted = set(self._routes)
            self._routes -= missing
            self.route(wanted)
            repaired.append("routes")
        return repaired

    # --- this host

    def surroundings(self) -> Surroundings:
        """What other links of this host have that concerns the overlay."""
        given = self._routes if self._address is None else {*self._routes, self._address}
        return surroundings(self._rtnl, self._wanted.overlay_net, self._resolvers, self.index, given)

    def others(self) -> list[str]:
        """Names of other links with our alias: other instances that run on this host."""
        with _kernel_words():
            links = list(self._rtnl.get_links())
        return [
            link.get("ifname") for link in links if link.get("IFLA_IFALIAS") == ALIAS and link["index"] != self.index
        ]

    # --- below

    def _empty(self) -> None:
        """Take every address and route away that is on the link."""
        for destination in self._destinations():
            self._do(self._rtnl.route, "del", dst=str(destination), oif=self.index, gone_is_good=True)
        with _kernel_words():
            addresses = [(_local(a), a["prefixlen"]) for a in self._rtnl.get_addr() if a["index"] == self.index]
        for address, length in addresses:
            fields = {"index": self.index, "address": str(address), "prefixlen": length}
            self._do(self._rtnl.addr, "del", **fields, gone_is_good=True)

    def _found(self) -> Found | None:
        # Out of a dump: pyroute2 0.9 keeps the acknowledgement of each request for a single link for ever.
        with _kernel_words():
            return next((_found(link) for link in self._rtnl.get_links() if link["index"] == self.index), None)

    def _addresses(self) -> set[Address]:
        with _kernel_words():
            return {_local(address) for address in self._rtnl.get_addr() if address["index"] == self.index}

    def _destinations(self) -> list[Network]:
        """Where the routes through the link lead."""
        with _kernel_words():
            routes = [route for route in self._rtnl.get_routes(table=_TABLES[0]) if _hops(route) == {self.index}]
        return [ip_network(f"{route.get('RTA_DST')}/{route['dst_len']}") for route in routes if route.get("RTA_DST")]

    def _no_link_local_address(self) -> None:
        mode = {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_NONE]]}
        try:
            self._set(IFLA_AF_SPEC={"attrs": [["AF_INET6", mode]]})
        except OSError:
            if self._wanted.overlay_net.version == 6:
                raise  # without IPv6 on the host, an IPv4 overlay does as well

    def _set(self, **fields: Any) -> None:
        self._do(self._rtnl.link, "set", index=self.index, **fields)

    def _host(self, address: Address) -> dict[str, Any]:
        return {"index": self.index, "address": str(address), "prefixlen": address.max_prefixlen}

    def _route(self, address: Address) -> dict[str, Any]:
        scope = {"scope": _SCOPE_LINK} if address.version == 4 else {}
        return {"dst": f"{address}/{address.max_prefixlen}", "oif": self.index, **scope}

    def _do(self, call: Callable[..., object], *args: Any, gone_is_good: bool = False, **fields: Any) -> None:
        with _kernel_words():
            try:
                call(*args, **fields)
            except NetlinkError as error:
                if not gone_is_good or error.code not in _GONE:
                    raise


_GONE: Final = (errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL)  # what was to be removed is not there


# --- WireGuard's port ------------------------------------------------------------------------------------------------


def check_port(port: int) -> None:
    """Raise OSError where WireGuard could not listen on UDP `port`: the kernel says it only when the link is up, and
    wireguard-go only in its log. A stale link of ours, not yet cleared, has it too.

    Where a service manager lets this process make no such socket, it is the kernel that will say so."""
    try:
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return
        raise
    with probe:
        probe.bind(("0.0.0.0", port))  # noqa: S104 - WireGuard listens on every address


# --- links by name ------------------------------------------------------------------------------------------------


def open_netlink() -> IPRoute:
    """The one netlink connection. Open it before lockdown."""
    return IPRoute()


def port_of(rtnl: IPRoute) -> int:
    """The netlink port of the connection, which notifications of our own changes carry."""
    with _kernel_words():
        list(rtnl.get_links(_LOOPBACK))  # pyroute2 binds its socket with the first request; until then the port is 0
    with socket.socket(fileno=os.dup(rtnl.fileno())) as same:
        return int(same.getsockname()[0])


def find(rtnl: IPRoute, name: str) -> Found | None:
    """The link called `name`."""
    with _kernel_words():
        return next((_found(link) for link in rtnl.get_links() if link.get("ifname") == name), None)


def make_wireguard(rtnl: IPRoute, name: str) -> int:
    """Make a WireGuard link called `name` under our alias; its ifindex. EEXIST where there is one of that name,
    EOPNOTSUPP where the kernel has no WireGuard."""
    with _kernel_words():
        rtnl.link("add", ifname=name, kind=WIREGUARD)  # pyroute2 says NLM_F_EXCL for `add`
    made = find(rtnl, name)
    if made is None or made.kind != WIREGUARD:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    with _kernel_words():
        try:
            rtnl.link("set", index=made.index, ifalias=ALIAS)
        except NetlinkError:
            rtnl.link("del", index=made.index)
            raise
    return made.index


def find_stale(rtnl: IPRoute, name: str, is_bare: Callable[[int], bool]) -> Found | None:
    """The link called `name`, if an earlier run left it; raises FileExistsError where it is somebody else's."""
    found = find(rtnl, name)
    if found is None:
        return None
    if found.kind != WIREGUARD or (found.alias != ALIAS and not is_bare(found.index)):
        raise FileExistsError(
            errno.EEXIST, f"interface {name} exists already; if nothing needs it: ip link del dev {name}"
        )
    return found


def clear_stale(rtnl: IPRoute, name: str, is_bare: Callable[[int], bool]) -> None:
    """Delete a link called `name` that an earlier run left; raises FileExistsError where it is somebody else's."""
    stale = find_stale(rtnl, name, is_bare)
    if stale is None:
        return
    with _kernel_words():
        rtnl.link("del", index=stale.index)


def surroundings(
    rtnl: IPRoute,
    overlay_net: Network,
    resolvers: Collection[Address] = (),
    own_index: int = 0,
    given: Collection[Address] = (),
) -> Surroundings:
    """What this host's links have that concerns `overlay_net`. Of the one with `own_index` that is only what somebody
    else gave it: `given` are the address and the routes that it has of us."""
    with _kernel_words():
        links, addresses = list(rtnl.get_links()), list(rtnl.get_addr())
        every = [route for table in _TABLES for route in rtnl.get_routes(table=table)]
    routes = [route for route in every if route["family"] in _FAMILIES]  # MPLS, say: its destinations are no addresses
    ours = {link["index"] for link in links if link.get("IFLA_IFALIAS") == ALIAS} - {own_index}
    found: dict[bool, set[Network]] = {True: set(), False: set(map(ip_network, resolvers))}
    for address in addresses:
        if address["index"] != own_index:
            found[address["index"] in ours].update(_address_nets(address))
    for route in routes:
        hops = _hops(route)
        if hops != {own_index} and _is_respected(route, overlay_net):
            found[bool(hops) and hops <= ours].update(_route_nets(route))
    networks, others = ({n for n in found[key] if _is_within(n, overlay_net)} for key in (False, True))
    taken = {network.network_address for network in others if network.prefixlen == network.max_prefixlen}
    ours_there = set(map(ip_network, given))
    here = {ip_network(_local(address)) for address in addresses}
    here.update(net for route in routes if route["type"] in _OF_HERE and (net := _destination(route)) is not None)
    single = {net.network_address for net in here - ours_there if net.prefixlen == net.max_prefixlen}
    ranges = {net for net in here if net.prefixlen < net.max_prefixlen}
    tunnelled, beside = _through(routes, own_index, ours_there)
    return Surroundings(
        networks=_sorted(networks),
        taken=frozenset(taken),
        addresses=frozenset(single),
        ranges=_sorted(ranges),
        tunnelled=_sorted(tunnelled),
        beside=_sorted(beside),
    )


@contextmanager
def _kernel_words() -> Iterator[None]:
    """pyroute2's own exception is no OSError; the rest of the helper knows only errno."""
    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from None


def _found(link: Mapping[str, Any]) -> Found:
    info = link.get("IFLA_LINKINFO")
    kind = info.get("IFLA_INFO_KIND") if info is not None else None
    is_up = bool(link["flags"] & _IFF_UP)
    return Found(link["index"], kind, link.get("IFLA_IFALIAS"), link.get("IFLA_MTU") or 0, is_up)


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


def _destination(route: Mapping[str, Any]) -> Network | None:
    """Where a route leads; None for one to everywhere."""
    destination = route.get("RTA_DST")
    return ip_network(f"{destination}/{route['dst_len']}") if destination else None


def _route_nets(route: Mapping[str, Any]) -> list[Network]:
    """A route's destination and gateways, of which IPv4's may be IPv6's."""
    hops = (route, *(route.get("RTA_MULTIPATH") or ()))
    vias = [via for hop in hops if (via := hop.get("RTA_VIA")) and via["family"] in _FAMILIES]
    gateways = [hop.get("RTA_GATEWAY") for hop in hops] + [via["addr"] for via in vias]
    nets = [ip_network(gateway) for gateway in gateways if gateway]
    destination = _destination(route)
    return nets if destination is None else [destination, *nets]


def _whole(route: Mapping[str, Any]) -> Network:
    return _destination(route) or _EVERYWHERE[route["family"]]


def _through(
    routes: Sequence[Mapping[str, Any]], own_index: int, given: Collection[Network]
) -> tuple[set[Network], set[Network]]:
    """What somebody else routes through our link, and what is within that and goes elsewhere. Of routes to one net the
    kernel takes that with the lowest metric."""
    leading = [route for route in routes if route["type"] not in (*_OF_HERE, _MULTICAST)]
    wide = {_whole(route) for route in leading if own_index in _hops(route)} - set(given)
    best: dict[Network, tuple[int, bool]] = {}
    for route in leading if wide else ():
        net, way = _whole(route), (route.get("RTA_PRIORITY") or 0, own_index not in _hops(route))
        if any(_is_within(net, other) for other in wide):
            best[net] = min(way, best.get(net, way))
    tunnelled = {net for net, (_, elsewhere) in best.items() if not elsewhere}
    return tunnelled, best.keys() - tunnelled


def _is_within(network: Network, other: Network) -> bool:
    return network.version == other.version and network.prefixlen >= other.prefixlen and network.overlaps(other)


def _sorted(networks: Collection[Network]) -> tuple[Network, ...]:
    return tuple(sorted(networks, key=str))


def has_ipv6() -> bool:
    """Whether new links of this host can have IPv6."""
    try:
        with open("/proc/sys/net/ipv6/conf/all/disable_ipv6", encoding="ascii") as file:
            return file.read().strip() == "0"
    except OSError:
        return False


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
