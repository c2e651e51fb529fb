"""A WireGuard device, a link and a hosts file that are nothing but data.

`Kernel` is what can go wrong: it counts the single steps the three take and says no from a given one on, so that a
test can break any operation in its middle. The device passes the same contract as the real ones.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from privhelper.addressing import Address
from privhelper.policy import Surroundings
from privhelper.protocol import Backend, HostsResult, Peer, PeerStatus


class Kernel:
    """What the fakes have done, step by step; `fail_in(n)` makes the n-th step from now the last that works."""

    def __init__(self) -> None:
        self.done: list[tuple[str, object]] = []
        self._left: int | None = None

    def fail_in(self, steps: int) -> None:
        """Let `steps` more steps work and refuse those after."""
        self._left = steps

    def recover(self) -> None:
        """Let everything work again."""
        self._left = None

    def step(self, verb: str, what: object) -> None:
        """One thing that is done whole or not at all."""
        if self._left is not None:
            if self._left == 0:
                raise OSError(errno.EIO, "the kernel says no")
            self._left -= 1
        self.done.append((verb, what))

    def forget(self) -> None:
        """Begin a new record."""
        self.done.clear()


@dataclass
class FakeDevice:
    """WireGuard without packets."""

    kernel: Kernel = field(default_factory=Kernel)
    backend: Backend = Backend.USERSPACE
    peers: dict[bytes, Address] = field(default_factory=dict)
    """Endpoint by public key."""
    allowed: dict[Address, bytes] = field(default_factory=dict)
    """Public key by allowed address: as in WireGuard, an address belongs to one peer, the last that was given it."""
    port: int | None = None
    _keys_made: int = 0

    def create(self, port: int) -> bytes:
        """A new key; no peer."""
        self.kernel.step("create", port)
        self._keys_made += 1
        self.port = port
        self.peers.clear()
        self.allowed.clear()
        return hashlib.sha256(b"key %d" % self._keys_made).digest()

    def apply(self, removed: Sequence[bytes], changed: Sequence[Peer]) -> None:
        """Step by step, so that a failure leaves half."""
        for key in removed:
            self.kernel.step("remove", key)
            self.peers.pop(key, None)
            self._take_addresses(key)
        for peer in changed:
            self.kernel.step("set", peer)
            self.peers[peer.public_key] = peer.endpoint
            self._take_addresses(peer.public_key)
            self.allowed[peer.overlay_addr] = peer.public_key

    def _take_addresses(self, key: bytes) -> None:
        self.allowed = {address: owner for address, owner in self.allowed.items() if owner != key}

    def status(self) -> list[PeerStatus]:
        """No peer has ever shaken hands."""
        self.kernel.step("status", None)
        return [PeerStatus(key, endpoint, 0, 0, 0) for key, endpoint in self.peers.items()]

    def destroy(self) -> None:
        """Nothing is left."""
        self.kernel.step("destroy", None)
        self.port = None
        self.peers.clear()
        self.allowed.clear()


@dataclass
class FakeLink:
    """An address and a set of routes."""

    kernel: Kernel = field(default_factory=Kernel)
    address: Address | None = None
    routes: set[Address] = field(default_factory=set)
    around: Surroundings = field(default_factory=Surroundings)
    """What other links have; a test may change it between requests."""
    exists: bool = True

    def assign(self, address: Address) -> None:
        """The one address."""
        if address != self.address:
            self.kernel.step("assign", address)
            self.address = address

    def route(self, wanted: Collection[Address]) -> None:
        """Step by step, so that a failure leaves half."""
        for address in sorted(self.routes - set(wanted)):
            self.kernel.step("unroute", address)
            self.routes.discard(address)
        for address in sorted(set(wanted) - self.routes):
            self.kernel.step("route", address)
            self.routes.add(address)

    def surroundings(self) -> Surroundings:
        """What it was told."""
        return self.around

    def delete(self) -> None:
        """Gone, and with it what it had."""
        self.kernel.step("delete", None)
        self.exists = False
        self.address = None
        self.routes.clear()


@dataclass
class FakeHosts:
    """Names taken by the operator, and the lines that are ours."""

    kernel: Kernel = field(default_factory=Kernel)
    taken: frozenset[str] = frozenset()
    lines: tuple[Peer, ...] = ()
    unreadable: bool = False
    replaced: bool = False

    def taken_names(self) -> frozenset[str]:
        """What the operator's lines hold."""
        if self.unreadable:
            raise OSError(errno.EIO, "the file cannot be read")
        return self.taken

    def write(self, peers: Sequence[Peer]) -> HostsResult:
        """All lines at once."""
        self.kernel.step("hosts", tuple(peers))
        if self.replaced:
            return HostsResult.REPLACED
        self.lines = tuple(peers)
        return HostsResult.WRITTEN

    def clear(self) -> None:
        """No line is left."""
        self.write(())
