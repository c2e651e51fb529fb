"""A WireGuard device, a link and a hosts file that are nothing but data.

`Kernel` is what can go wrong: it counts the single steps the three take and says no from a given one on, so that a
test can break any operation in its middle. The device passes the same contract as the real ones.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network

from privhelper.addressing import Address, Network
from privhelper.device import Holding
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
    allowed: dict[Address | Network, bytes] = field(default_factory=dict)
    """Public key by allowed address: as in WireGuard, an address belongs to one peer, the last that was given it. We
    give single addresses; somebody else may give networks."""
    keepalives: dict[bytes, int] = field(default_factory=dict)
    """Persistent keepalive interval by public key, in seconds."""
    key: bytes | None = None
    """The public key. It is made up: nothing here is encrypted."""
    port: int | None = None
    _given: tuple[bytes, int] | None = None
    _keepalive: int = 0
    _keys_made: int = 0

    def create(self, port: int, keepalive: int = 0) -> bytes:
        """A new key; no peer."""
        self.kernel.step("create", port)
        self._keys_made += 1
        key = public_half(b"key %d" % self._keys_made)
        self._given, self._keepalive = (key, port), keepalive
        self._begin(key, port)
        return key

    def restore(self) -> None:
        """The last key made, if it is not forgotten."""
        key, port = self._given or (None, 0)
        self.kernel.step("restore", port)
        self.key, self.port = key, port

    def _begin(self, key: bytes | None, port: int | None) -> None:
        self.key, self.port = key, port
        self.peers.clear()
        self.allowed.clear()
        self.keepalives.clear()

    def holding(self) -> Holding:
        """What the attributes say, whoever wrote them."""
        self.kernel.step("holding", None)
        owned: dict[bytes, set[Network]] = {key: set() for key in self.peers}
        for address, owner in self.allowed.items():
            owned[owner].add(ip_network(address))
        return Holding(self.key, self.port or 0, {key: frozenset(nets) for key, nets in owned.items()})

    def apply(self, removed: Sequence[bytes], changed: Sequence[Peer], placed: Collection[bytes] = ()) -> None:
        """Step by step, so that a failure leaves half."""
        for key in removed:
            self.kernel.step("remove", key)
            self.peers.pop(key, None)
            self.keepalives.pop(key, None)
            self.take_addresses(key)
        for peer in changed:
            self.kernel.step("set", peer)
            if peer.public_key not in placed:
                self.peers[peer.public_key] = peer.endpoint
            elif peer.public_key not in self.peers:
                continue
            self.keepalives[peer.public_key] = self._keepalive
            self.take_addresses(peer.public_key)
            self.allowed[peer.overlay_addr] = peer.public_key

    def forget_sources(self) -> None:
        """There are no packets."""
        self.kernel.step("forget sources", None)

    def take_addresses(self, key: bytes) -> None:
        """Leave a peer without allowed IPs."""
        self.allowed = {address: owner for address, owner in self.allowed.items() if owner != key}

    def status(self) -> list[PeerStatus]:
        """No peer has ever shaken hands."""
        self.kernel.step("status", None)
        return [PeerStatus(key, endpoint, 0, 0, 0) for key, endpoint in self.peers.items()]

    def destroy(self) -> None:
        """Nothing is left."""
        self.kernel.step("destroy", None)
        self._given = None
        self._begin(None, None)


def public_half(private_key: bytes) -> bytes:
    """What `FakeDevice` takes for the public key of a private one."""
    return hashlib.sha256(private_key).digest()


@dataclass
class FakeLink:
    """An address and a set of routes, as they are and, like the real one, as it made them. Somebody else may change
    what is."""

    kernel: Kernel = field(default_factory=Kernel)
    address: Address | None = None
    routes: set[Address] = field(default_factory=set)
    foreign_routes: set[Address] = field(default_factory=set)
    """Host routes through other links, in whose place none can be made."""
    around: Surroundings = field(default_factory=Surroundings)
    """What other links have; a test may change it between requests."""
    is_there: bool = False
    state: dict[str, bool] = field(default_factory=dict)
    """Whether its alias, its MTU and its being up are ours, by the words that `repair` has for them."""
    _address: Address | None = None
    _routes: set[Address] = field(default_factory=set)

    def make(self) -> None:
        """There, and down."""
        self.kernel.step("make", None)
        self.lose()
        self.is_there = True

    def lose(self) -> None:
        """Gone, and with it what it had."""
        self.is_there = False
        self.address = None
        self.routes.clear()
        self.state = {"alias": True, "MTU": False, "link down": False}

    def bring_up(self) -> None:
        """Up, with what it had."""
        self.kernel.step("bring up", None)
        self.state = dict.fromkeys(self.state, True)
        address, routes = self._address, set(self._routes)
        self._address = None
        self._routes.clear()
        if address is not None:
            self.assign(address)
        self.route(routes)

    def exists(self) -> bool:
        """Whether nobody has taken it away."""
        return self.is_there

    def assign(self, address: Address) -> None:
        """The one address."""
        if address != self._address:
            self._step("assign", address)
            self.address = self._address = address

    def route(self, wanted: Collection[Address]) -> None:
        """Step by step, so that a failure leaves half."""
        for address in sorted(self._routes - set(wanted)):
            self.kernel.step("unroute", address)
            self.routes.discard(address)
            self._routes.discard(address)
        for address in sorted(set(wanted) - self._routes):
            self._step("route", address)
            if address in self.foreign_routes:
                raise FileExistsError(errno.EEXIST, "somebody else routes it")
            self.routes.add(address)
            self._routes.add(address)

    def repair(self) -> Sequence[str]:
        """What is becomes what was made."""
        repaired = []
        for word in [word for word, is_ours in self.state.items() if not is_ours]:
            self._step(word, None)
            self.state[word] = True
            repaired.append(word)
        if self._address is not None and self.address != self._address:
            address, self._address = self._address, None
            self.assign(address)
            repaired.append("address")
        if missing := self._routes - self.routes:
            wanted = set(self._routes)
            self._routes -= missing
            self.route(wanted)
            repaired.append("routes")
        return repaired

    def surroundings(self) -> Surroundings:
        """What it was told."""
        return self.around

    def delete(self) -> None:
        """Gone, and with it what it had."""
        self.kernel.step("delete", None)
        self.lose()
        self._address = None
        self._routes.clear()

    def _step(self, verb: str, what: object) -> None:
        if not self.is_there:
            raise OSError(errno.ENODEV, "there is no such link")
        self.kernel.step(verb, what)


@dataclass
class FakeHosts:
    """Names taken by the operator, and the lines that are ours."""

    kernel: Kernel = field(default_factory=Kernel)
    taken: frozenset[str] = frozenset()
    lines: tuple[tuple[Address, str], ...] = ()
    unreadable: bool = False
    replaced: bool = False

    def taken_names(self) -> frozenset[str]:
        """What the operator's lines hold."""
        if self.unreadable:
            raise OSError(errno.EIO, "the file cannot be read")
        return self.taken

    def lacks(self, lines: Sequence[tuple[Address, str]]) -> bool:
        """Whether somebody has taken one away."""
        if self.unreadable:
            raise OSError(errno.EIO, "the file cannot be read")
        return not self.replaced and not set(self.lines).issuperset(lines)

    def write(self, lines: Sequence[tuple[Address, str]]) -> HostsResult:
        """All lines at once."""
        self.kernel.step("hosts", tuple(lines))
        if self.replaced:
            return HostsResult.REPLACED
        self.lines = tuple(lines)
        return HostsResult.WRITTEN

    def clear(self) -> None:
        """No line is left."""
        self.write(())
