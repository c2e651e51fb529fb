"""Whether the overlay fits this host, before anything is made on it.

A local network as wide as the overlay net would lose all its traffic to it, or take all of the overlay's; one that
covers this node's own overlay address makes it ambiguous. Where the address follows from the name there are fifteen
more, of which the agent may have taken one long ago, and takes one if not. Networks elsewhere only cost the members
whose address falls there, which is how the original runs on many clouds: one warning.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from privhelper.addressing import MAX_ATTEMPT, Network, is_edge
from privhelper.options import Pinned, own_address
from privhelper.policy import covers


class NoGround(Exception):
    """Why the overlay cannot be here, in one line."""


def check(pinned: Pinned, networks: Iterable[Network], *, has_ipv6: bool) -> str | None:
    """A warning, or None. `networks` are this host's, each at least as specific as the overlay net. Raises NoGround."""
    net = pinned.overlay_net
    if net.version == 6 and not has_ipv6:
        raise NoGround(
            f"the overlay {net} needs IPv6, which is disabled on this host; "
            "enable it (sysctl net.ipv6.conf.all.disable_ipv6=0), or give an IPv4 --overlay-net"
        )
    found = sorted(set(networks), key=lambda network: (network.prefixlen, str(network)))
    for network in found:
        if network == net:
            raise NoGround(f"a local network is as wide as the overlay net {net}; give another --overlay-net")
    if not found:
        return None
    own = own_address(pinned, 0)
    under = next((network for network in found if own in network), None)
    if under is not None and not _has_room(pinned, found):
        raise NoGround(
            f"overlay address {own} of {pinned.node_name} lies in this host's network {under}; "
            f"give another {'--overlay-net' if pinned.address is None else '--address'}"
        )
    widest = [network for network in found if not any(network != other and _lies_in(network, other) for other in found)]
    return (
        f"networks of this host lie inside the overlay net {net}: {', '.join(map(str, widest[:8]))}"
        f"{' …' if len(widest) > 8 else ''}; members whose address falls there will be refused"
        f"{'' if under is None else f', and this node cannot have its first, {own}'}"
    )


def _has_room(pinned: Pinned, networks: Collection[Network]) -> bool:
    """Whether one of the addresses that this node can have lies in none of `networks`."""
    own = (own_address(pinned, attempt) for attempt in range(MAX_ATTEMPT + 1))
    return any(not is_edge(pinned.overlay_net, address) and not covers(networks, address) for address in own)


def _lies_in(inner: Network, outer: Network) -> bool:
    return inner.network_address in outer and inner.prefixlen >= outer.prefixlen
