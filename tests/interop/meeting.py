"""Who meets in a test: Go peers, nodes of ours and peers driven by hand, each at an address of its own.

All have the same key and the same shortened timers, so that neither side waits for the other. Go peers end first: what
they would say of our going has nothing to do with the test.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from ipaddress import IPv6Address, ip_address
from types import TracebackType
from typing import Any, Final, Self

from tests.interop.go import GoPeer, GoPeers
from tests.interop.loopback import Loopback
from tests.interop.ours import KEY, QUICK, OurNode, RawPeer, the_loop
from tests.lab import until
from wesher.runtime.gossip import bind
from wesher.swim.io import Endpoint
from wesher.wire.messages import NodeState, PushNodeState

GO_QUICK: Final = {
    "preset": "lan",
    "probe_interval": QUICK.probe_interval,
    "probe_timeout": QUICK.probe_timeout,
    "gossip_interval": QUICK.gossip_interval,
    "push_pull_interval": QUICK.push_pull_interval,
    "gossip_to_the_dead": QUICK.gossip_to_the_dead,
    "suspicion_mult": QUICK.suspicion_mult,
    "tcp_timeout": QUICK.stream_timeout,
}
"""QUICK, as a Go peer takes it."""

STILL: Final = {"probe_interval": 600.0, "push_pull_interval": 600.0}
"""Nobody is probed, so that whoever is not there stays alive, and only gossip brings news."""

Peer = GoPeer | OurNode
"""Whoever may be asked; `at`, `told` and `join` below work for both."""


class Meeting:
    """The block in which they live."""

    def __init__(self, peers: GoPeers, loopback: Loopback) -> None:
        self.peers = peers
        self._loopback = loopback
        self.nodes: list[OurNode] = []
        self._raw: list[RawPeer] = []
        self._ports6 = iter(range(loopback.port, loopback.port + 1000))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for peer in self.peers.all:  # all at once, or the last would complain of the first
            if peer.alive():
                peer.signal(signal.SIGSTOP)
        for peer in self.peers.all:
            peer.close()
        for node in self.nodes:
            node.kill()
        for raw in self._raw:
            raw.close()
        faults = the_loop().take_faults()
        if kind is None:
            assert faults == [], "raised unseen in a node of ours"

    def place(self) -> Endpoint:
        """An address that nobody was given before."""
        return Endpoint(ip_address(self._loopback.address()), self._loopback.port)

    def place6(self) -> Endpoint:
        """The one IPv6 loopback address, with a port that nobody was given before."""
        for port in self._ports6:
            try:
                opened = bind(IPv6Address("::1"), port)
            except OSError:
                continue
            for each in opened:
                each.close()
            return Endpoint(IPv6Address("::1"), port)
        raise AssertionError("no port of ::1 is free")

    def go(self, name: str, place: Endpoint | None = None, **settings: Any) -> GoPeer:
        """A Go peer with shortened timers; `settings` as GoPeer takes them."""
        place = place or self.place()
        return self.peers.start(name, str(place.ip), place.port, **{"key": KEY, **GO_QUICK, **settings})

    def ours(self, name: str, place: Endpoint | None = None, **settings: Any) -> OurNode:
        """A node of ours; `settings` as OurNode takes them."""
        node = OurNode(name, place or self.place(), **{"meta": f"of {name}".encode(), **settings})
        self.nodes.append(node)
        return node

    def either(self, kind: str, name: str, place: Endpoint | None = None, **timings: float) -> Peer:
        """A Go peer or a node of ours, whichever is asked; `timings` as SwimConfig has them."""
        if kind == "go":
            return self.go(name, place, **timings)
        return self.ours(name, place, config=replace(QUICK, **timings))

    def raw(self, name: str, place: Endpoint | None = None, **settings: Any) -> RawPeer:
        """A peer driven by hand; `settings` as RawPeer takes them."""
        peer = RawPeer(name, place or self.place(), **settings)
        self._raw.append(peer)
        return peer

    def view(self, of: Peer) -> dict[str, PushNodeState]:
        """All that a peer knows, itself included, as it tells in a push/pull."""
        if isinstance(of, OurNode):
            return {name: member.as_entry() for name, member in of.members().items()}
        if not self._raw:
            self.raw("onlooker")
        return self._raw[0].view(at(of))

    def state(self, of: Peer, name: str) -> NodeState | None:
        """What a peer believes of a member; None where it knows of none."""
        entry = self.view(of).get(name)
        return None if entry is None else entry.state

    # --- what all come to

    def until_all_know(self, *peers: Peer, within: float = 10) -> None:
        """Every peer holds all of them for alive, with the metadata they announce, and knows of nobody else alive."""
        metas = {peer.name: meta(peer) for peer in peers}
        self._until(peers, lambda peer: live(self.view(peer)) == metas, within, f"{len(metas)} are known")

    def until_they_know(self, peers: Iterable[Peer], names: set[str], within: float = 10) -> None:
        """Every peer remembers exactly these, alive or not."""
        self._until(peers, lambda peer: set(self.view(peer)) == names, within, f"{sorted(names)} are remembered")

    def until_state(self, peers: Iterable[Peer], name: str, state: NodeState, within: float = 10) -> None:
        """Every peer holds the member for alive, suspect, dead or left."""
        self._until(peers, lambda peer: self.state(peer, name) is state, within, f"{name} is {state.name}")

    def _until(self, peers: Iterable[Peer], condition: Callable[[Peer], bool], within: float, what: str) -> None:
        for peer in peers:
            until(partial(condition, peer), within, f"at {peer.name}: {what}")


def at(peer: Peer | RawPeer) -> Endpoint:
    """Where a peer is."""
    return Endpoint(ip_address(peer.address), peer.port) if isinstance(peer, GoPeer) else peer.at


def meta(peer: Peer) -> bytes:
    """The metadata that a peer announces."""
    return bytes.fromhex(peer.local()["meta"]) if isinstance(peer, GoPeer) else peer.members()[peer.name].meta


def told(peer: Peer, name: str) -> list[str]:
    """What a peer told about a member: "join", "update", "leave", "conflict"."""
    if isinstance(peer, OurNode):
        return peer.told(name)
    words = ("join", "update", "leave", "conflict")
    return [event["event"] for event in list(peer.events) if event["event"] in words and event["name"] == name]


def until_told(peer: Peer, name: str, *words: str) -> None:
    """A peer told exactly this about a member; a Go peer's word comes through a pipe, later than what it shows."""
    until(lambda: told(peer, name) == list(words), 10, f"{peer.name} told of {name}: {', '.join(words)}")


def join(who: Peer, whom: Peer | RawPeer) -> None:
    """`who` joins the cluster by `whom`."""
    if isinstance(who, GoPeer):
        assert who.join(str(at(whom))) == 1
    else:
        assert who.join(at(whom)) == ""


def live(view: dict[str, PushNodeState]) -> dict[str, bytes]:
    """Metadata of those that a view holds for alive or suspect, by name."""
    return {entry.name: entry.meta for entry in view.values() if entry.state in (NodeState.ALIVE, NodeState.SUSPECT)}
