"""What the helper holds: a WireGuard device, its link, and the hosts file, each behind a few methods.

Back ends are siblings: they share data, not base classes. `Device` is WireGuard itself (keys, peers), `Link` is
what any link has (address, routes). All methods raise OSError where the kernel or the device says no; none of
them checks policy, which has been done by then.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from privhelper.addressing import Address
from privhelper.policy import Surroundings
from privhelper.protocol import Backend, HostsResult, Peer, PeerStatus


class Device(Protocol):
    """WireGuard on our link."""

    backend: Backend

    def create(self, port: int) -> bytes:
        """Give the device a new private key, `port` and no peer; return its public key (32 bytes)."""

    def apply(self, removed: Sequence[bytes], changed: Sequence[Peer]) -> None:
        """Remove peers by public key, then add or change others; those not named stay as they are."""

    def status(self) -> list[PeerStatus]:
        """A reading of every peer."""

    def destroy(self) -> None:
        """Forget key and peers."""


class Link(Protocol):
    """The network link under the device, known by its ifindex."""

    def assign(self, address: Address) -> None:
        """Make `address`, as a /32 or /128, the link's only one."""

    def route(self, wanted: Collection[Address]) -> None:
        """Make host routes to `wanted` the only ones through the link."""

    def surroundings(self) -> Surroundings:
        """What other links of this host have that concerns the overlay."""

    def delete(self) -> None:
        """Take the link away, and with it its addresses and routes."""


class Hosts(Protocol):
    """The hosts file."""

    def taken_names(self) -> frozenset[str]:
        """Folded host names in lines that no instance of wesher manages."""

    def write(self, peers: Sequence[Peer]) -> HostsResult:
        """Make `peers` the only lines of ours in the file."""

    def clear(self) -> None:
        """Take our lines away, also while somebody else holds the file's lock."""
