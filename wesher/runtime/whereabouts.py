"""Noticing that this host has another address than the one announced.

In the sandbox there is no netlink, and nobody tells. But what the kernel would take for a packet's source can be asked
with sockets as any program has them; neither question sends a packet.

    is it still ours?   to route something from the address to itself, which is refused where the host does not have it
    which is it now?    what a UDP socket that is connected to a member is bound to; of many members, the most frequent.
                        Where one interface was named: that one's first (IPv4 only, netdevice(7) tells no other)

An address that the host still has stays, whatever others it gets beside it. Where it has none meanwhile nothing is
done: the same may come back, as it does to whoever loses a lease for a minute. And a change is believed at the second
look, or an address that is replaced in two steps would be taken for gone.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice
from typing import Final

from privhelper.profiles import SIOCGIFADDR
from wesher.swim.io import Endpoint

Address = IPv4Address | IPv6Address

LOOK_EVERY: Final = 1.0
"""Seconds."""

MOST_ASKED: Final = 32
"""Members for whom the kernel is asked for a source, of however many."""

ANYWHERE: Final = (Endpoint(IPv4Address("192.0.2.1"), 9), Endpoint(IPv6Address("2001:db8::1"), 9))
"""Nobody's, for a node that knows of nobody: what default routes make of them is as good a guess as any."""

_IP_PKTINFO: Final = 8
_MSG_PROBE: Final = 0x10
_ROUTE_ONLY: Final = socket.MSG_CONFIRM | _MSG_PROBE
"""With nothing to send: the route is looked up, and that is all."""

_NOT_OURS: Final = (errno.EINVAL, errno.ENETUNREACH, errno.EADDRNOTAVAIL)


class Whereabouts:
    """Watches `announced`, and calls `moved` with the address that has come in its place.

    `targets` are those to be reached, in groups: the first group is asked about that has a route at all. `source` tells
    from which address packets to one of them should come; `is_candidate` leaves out what nobody is to be told.
    `problem` is empty, or says that there is no address.
    """

    def __init__(
        self,
        announced: Callable[[], Address],
        targets: Callable[[], Sequence[Iterable[Endpoint]]],
        is_candidate: Callable[[Address], bool],
        moved: Callable[[Address], None],
        *,
        source: Callable[[Endpoint], Address | None],
        is_ours: Callable[[Address], bool] | None = None,
    ) -> None:
        self.problem = ""
        self._announced = announced
        self._targets = targets
        self._is_candidate = is_candidate
        self._moved = moved
        self._is_ours = is_ours or is_of_this_host
        self._source = source
        self._seen: Address | None = None

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.look()

    def look(self) -> None:
        """See whether something has changed since the last look."""
        announced = self._announced()
        if self._is_ours(announced):
            self._seen, self.problem = None, ""
            return
        before, self._seen = self._seen, self._now(announced)
        if self._seen is None:
            self.problem = f"address {announced} is gone from this host, and there is no other; give the host one"
        elif self._seen == before:
            self._seen, self.problem = None, ""
            self._moved(before)

    def _now(self, announced: Address) -> Address | None:
        for group in (*self._targets(), ANYWHERE):
            sources = map(self._source, islice(group, MOST_ASKED))
            found = Counter(source for source in sources if source is not None and self._is_candidate(source))
            if found:
                return max(found, key=lambda address: (address.version == announced.version, found[address]))
        return None


def is_of_this_host(address: Address) -> bool:
    """Whether this host has the address, and not on a link that is down. True where that cannot be told."""
    if isinstance(address, IPv4Address):
        family, source = socket.AF_INET, struct.pack("=i4s4s", 0, address.packed, bytes(4))
        ancillary = (socket.IPPROTO_IP, _IP_PKTINFO, source)
    else:
        family, source = socket.AF_INET6, struct.pack("=16si", address.packed, 0)
        ancillary = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, source)
    with _datagram_socket(family) as asking:
        try:
            asking.sendmsg([], [ancillary], _ROUTE_ONLY, (str(address), ANYWHERE[0].port))
        except OSError as error:
            return error.errno not in _NOT_OURS
    return True


def source_towards(endpoint: Endpoint) -> Address | None:
    """The address of this host that packets to `endpoint` would come from; None without a route."""
    family = socket.AF_INET if endpoint.ip.version == 4 else socket.AF_INET6
    with _datagram_socket(family) as asking:
        try:
            asking.connect((str(endpoint.ip), endpoint.port))
        except OSError:
            return None
        return ip_address(str(asking.getsockname()[0]).partition("%")[0])


def first_address(interface: str) -> IPv4Address | None:
    """The first IPv4 address of an interface; None without one, or without the interface."""
    with _datagram_socket(socket.AF_INET) as asking:
        try:
            answer = fcntl.ioctl(asking, SIOCGIFADDR, struct.pack("=15sx24x", interface.encode()))
        except OSError:
            return None
    return IPv4Address(answer[20:24])


def is_announceable(address: Address) -> bool:
    """Whether others could reach it."""
    return not (address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast)


def _datagram_socket(family: int) -> socket.socket:
    return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
