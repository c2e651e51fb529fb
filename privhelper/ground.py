"""Whether the overlay fits this host, before anything is made on it.

A local network as wide as the overlay net would lose all its traffic to it, or take all of the overlay's; one that
covers this node's own overlay address makes it ambiguous. Narrower ones elsewhere only cost the members whose address
falls there, which is how the original runs on many clouds: one warning.
"""

from __future__ import annotations

from collections.abc import Iterable

from privhelper.addressing import Network
from privhelper.options import Pinned, own_address


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
    own = own_address(pinned, 0)
    found = sorted(set(networks), key=lambda network: (network.prefixlen, str(network)))
    for network in found:
        if network == net:
            raise NoGround(f"a local network is as wide as the overlay net {net}; give another --overlay-net")
        if own in network:
            raise NoGround(
                f"overlay address {own} of {pinned.node_name} lies in this host's network {network}; "
                f"give another {'--overlay-net' if pinned.address is None else '--address'}"
            )
    if not found:
        return None
    widest = [network for network in found if not any(network != other and _lies_in(network, other) for other in found)]
    return (
        f"networks of this host lie inside the overlay net {net}: {', '.join(map(str, widest[:8]))}"
        f"{' …' if len(widest) > 8 else ''}; members whose address falls there will be refused"
    )


def _lies_in(inner: Network, outer: Network) -> bool:
    return inner.network_address in outer and inner.prefixlen >= outer.prefixlen
