"""What the helper holds: a WireGuard device, its link, and the hosts file, each behind a few methods.

Back ends are siblings: they share data, not base classes. `Device` is WireGuard itself (keys, peers), `Link` is
what any link has (address, routes). All methods raise OSError where the kernel or the device says no; none of
them checks policy, which has been done by then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from privhelper.addressing import Address, Network
from privhelper.policy import Surroundings
from privhelper.protocol import Backend, HostsResult, Peer, PeerStatus


@dataclass(frozen=True, slots=True)
class Holding:
    """What a device really has: its public key (None without a key), its port, and allowed IPs by peer key."""

    public_key: bytes | None
    port: int
    allowed_ips: Mapping[bytes, frozenset[Network]]


class Device(Protocol):
    """WireGuard on our link."""

    backend: Backend

    def create(self, port: int, keepalive: int = 0) -> bytes:
        """Give the device a new private key, `port` and no peer; return its public key (32 bytes).

        Peers applied later get `keepalive` as their persistent keepalive interval, in seconds; 0 is off.
        """

    def restore(self) -> None:
        """Set the key and port of the last `create` again: somebody else changed them, or the link under the device was
        made anew. Peers that it has stay, with the endpoints they have."""

    def holding(self) -> Holding:
        """What the device has now, whoever gave it."""

    def apply(self, removed: Sequence[bytes], changed: Sequence[Peer], placed: Collection[bytes] = ()) -> None:
        """Remove peers by public key, then add or change others; those not named stay as they are.

        Of those changed the `placed` keep the endpoint they have, which may be another by now than the announced one,
        since WireGuard follows who roams; one of them that is not there does not come to be.
        """

    def forget_sources(self) -> None:
        """This host has lost an address: packets to peers come from whichever the kernel chooses, as if none had ever
        been taken from them."""

    def status(self) -> list[PeerStatus]:
        """A reading of every peer."""

    def destroy(self) -> None:
        """Forget key and peers."""


class Link(Protocol):
    """The network link under the device, known by its ifindex."""

    def make(self) -> None:
        """Make the link, or empty the one that was given. FileExistsError where its name is somebody else's."""

    def bring_up(self) -> None:
        """Mark it as ours and set it up, with the address and routes it had before it was made anew, if any."""

    def exists(self) -> bool:
        """Whether the link is still there."""

    def assign(self, address: Address) -> None:
        """Make `address`, as a /32 or /128, the link's only one."""

    def route(self, wanted: Collection[Address]) -> None:
        """Make host routes to `wanted` the only ones through the link."""

    def repair(self) -> Sequence[str]:
        """Put right what others changed about the link, its address and its routes; says what it was."""

    def surroundings(self) -> Surroundings:
        """What other links of this host have that concerns the overlay."""

    def delete(self) -> None:
        """Take the link away, and with it its addresses and routes."""


class Hosts(Protocol):
    """The hosts file."""

    def taken_names(self) -> frozenset[str]:
        """Folded host names in lines that no instance of wesher manages."""

    def lacks(self, lines: Sequence[tuple[Address, str]]) -> bool:
        """Whether somebody has taken one of `lines`, which were written, out of the file."""

    def write(self, lines: Sequence[tuple[Address, str]]) -> HostsResult:
        """Make `lines`, an address and a name each, the only ones of ours in the file."""

    def clear(self) -> None:
        """Take our lines away, also while somebody else holds the file's lock."""
