"""A cluster in the lab whose machines run wesher, the real daemon, or a Go peer with the Go wesher's settings, and what
it takes for it to be whole: everybody knows everybody, and what each gives WireGuard, or would give it, is right."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from privhelper.addressing import derive
from tests.e2e.layouts import Running
from tests.e2e.mesh import INTERFACE, managed_names, start
from tests.interop.go import JOINED, OVERLAY_NET, Event, GoPeer, GoPeers, WesherMeta
from tests.lab import Lab, Node, until
from wesher.control_client import NotRunning, Unusable, get

SECOND_LIFE = (
    r"Refuting an alive message for '{name}'",  # the others' memory of the life before, with its key
    r"Refuting a (suspect|dead) message \(from: ",  # and what they made of its end
)
"""What a Go node that comes back under its name writes about itself."""

Member = GoPeer | Running


@dataclass(frozen=True)
class Peer:
    """One WireGuard peer of a device, as wg(8) shows it."""

    public_key: str
    endpoint: str
    allowed_ips: str


@dataclass(frozen=True)
class Device:
    """A node's WireGuard, from outside."""

    public_key: str
    peers: frozenset[Peer]


def device(node: Node) -> Device:
    """The node's overlay device. Raises AssertionError where there is none."""
    own, *others = (line.split("\t") for line in node.run("wg", "show", INTERFACE, "dump").stdout.splitlines())
    return Device(own[1], frozenset(Peer(fields[0], fields[2], fields[3]) for fields in others))


def status(node: Node) -> dict[str, Any]:
    """What `wesher status --json` shows, for less than a new interpreter each time. Raises AssertionError."""
    try:
        return get(str(node.inside.root / f"run/wesher/{INTERFACE}.sock"), "/status")
    except (NotRunning, Unusable) as error:
        raise AssertionError(f"{node.name}: {error}") from None


def states(node: Node) -> dict[str, str]:
    """Name to gossip state of the others, as the daemon has them."""
    return {peer["name"]: peer["state"] for peer in status(node)["peers"]}


def overlay(name: str) -> str:
    """The address that follows from a name."""
    return str(derive(OVERLAY_NET, name.encode(), 0))


@dataclass
class MixedCluster:
    """What runs on each node of a lab; nodes without an entry in `running` run nothing, and belong to nothing."""

    lab: Lab
    go_peers: GoPeers
    running: dict[str, Member] = field(default_factory=dict)
    shape: str = "master"

    def node(self, name: str) -> Node:
        """The machine of this name."""
        return next(node for node in self.lab.nodes if node.name == name)

    @property
    def python(self) -> list[Node]:
        """The machines with our daemon."""
        ours = {name for name, member in self.running.items() if not isinstance(member, GoPeer)}
        return [node for node in self.lab.nodes if node.name in ours]

    @property
    def go(self) -> list[GoPeer]:
        """The Go peers that run."""
        return [member for member in self.running.values() if isinstance(member, GoPeer)]

    def other(self, node: Node) -> Node:
        """A machine that runs something, for `node` to join."""
        return next(other for other in self.lab.nodes if other is not node and other.name in self.running)

    # --- one machine

    def start_go(
        self, node: Node, join: Node | None, *, wide: bool = False, again: bool = False, **timings: float
    ) -> GoPeer:
        """A Go peer with a new key. wide: it listens at every address, and announces 16 bytes. again: it comes back."""
        peer = self.go_peers.start(
            node.name,
            "0.0.0.0" if wide else node.address,
            node=node,
            meta=WesherMeta.of(node.name, self.shape),
            join=[join.address] if join else [],
            allow=SECOND_LIFE if again else (),
            **timings,
        )
        self.running[node.name] = peer
        if join is not None:
            assert peer.answer(JOINED)["count"] == 1, f"{node.name} could not join {join.name}: {peer.last_words()}"
        return peer

    def start_python(
        self,
        node: Node,
        join: Node | None,
        *,
        wide: bool = False,
        begin: Callable[..., Running] = start,
        forget: bool = False,
    ) -> Running:
        """Our daemon. Without `join` it has only its state file; `forget` loses that one first."""
        if forget:
            node.run("sh", "-c", f"rm -f {node.state_dir}/*")
        bind = () if wide else ("--bind-addr", node.address)
        daemon = begin(node, *bind, *(("--join", join.address) if join else ()))
        self.running[node.name] = daemon
        until(lambda: status(node), 10, f"{node.name} is up")
        return daemon

    def kill(self, node: Node) -> None:
        """What runs there is gone without a word."""
        member = self._take_away(node)
        member.kill()
        if not isinstance(member, GoPeer):
            until(lambda: INTERFACE not in node.links(), 5, f"{node.name} has no link")

    def leave(self, node: Node) -> None:
        """What runs there leaves in good order, and ends."""
        member = self._take_away(node)
        if isinstance(member, GoPeer):
            member.leave()
        else:
            member.signal(signal.SIGTERM)
            assert member.wait(15) == 0

    def lose_touch(self, node: Node) -> None:
        """The network is about to be cut: a Go node may say whom it cannot reach, and defend itself when it is back."""
        self.go_peers.allow(rf"(Push/Pull with {node.name} failed|Failed fallback ping): .*(timeout|no route to host)")
        self.go_peers.allow(rf"[Ff]ailed to .*(timeout|no route to host)( from={re.escape(node.address)}:|$)")
        for line in SECOND_LIFE:
            self.go_peers.allow(line)

    def _take_away(self, node: Node) -> Member:
        """Who meets a machine without a program may say so."""
        down = "(connection refused|connection reset by peer|EOF|broken pipe)"
        self.go_peers.allow(rf"(Push/Pull with {node.name} failed|Failed fallback ping): .*{down}")
        self.go_peers.allow(rf"[Ff]ailed to .*{down} from={re.escape(node.address)}:")
        return self.running.pop(node.name)

    # --- all of them

    def assert_whole(self) -> None:
        """Raise AssertionError unless every node knows just what runs now: names, addresses, keys, endpoints."""
        devices = {node.name: device(node) for node in self.python}
        keys = {name: found.public_key for name, found in devices.items()}
        keys |= {peer.name: self._announced(peer).public_key for peer in self.go}
        assert keys.keys() == self.running.keys()
        for node in self.python:
            others = [self.node(name) for name in keys if name != node.name]
            wanted = {Peer(keys[o.name], f"{o.address}:51820", f"{overlay(o.name)}/32") for o in others}
            assert devices[node.name].peers == wanted, f"{node.name}: peers {devices[node.name].peers ^ wanted} differ"
            assert managed_names(node) == {o.name: overlay(o.name) for o in others}, f"{node.name}: names"
        for peer in self.go:
            self._assert_go_reads(peer, keys)

    def await_whole(self, within: float, what: str) -> float:
        """Until `assert_whole` is content; returns the seconds."""

        def whole() -> bool:
            self.assert_whole()
            return True

        return until(whole, within, what)

    def await_dead(self, names: Sequence[str], since: float, marks: dict[str, int], within: float) -> None:
        """Until every node knows that `names` are dead; since: time.monotonic() at the kill, marks: `mark_all` then."""
        known: dict[str, float] = {}

        def everywhere() -> bool:
            for node in self.python:
                if node.name not in known and all(states(node).get(name) == "failed" for name in names):
                    known[node.name] = time.monotonic() - since
            for peer in self.go:
                told = (peer.seen("leave", since=marks[peer.name], name=name) for name in names)
                if peer.name not in known and all(told):
                    known[peer.name] = time.monotonic() - since
            return known.keys() == self.running.keys()

        until(everywhere, within, f"the death of {' and '.join(names)} is known on all {len(self.running)} nodes")
        python = sorted(known[node.name] for node in self.python)
        go = sorted(known[peer.name] for peer in self.go)
        print(
            f"  on Python nodes after {python[0]:.2f} to {python[-1]:.2f} s, on Go nodes {go[0]:.2f} to {go[-1]:.2f} s"
        )

    def mark_all(self) -> dict[str, int]:
        """A place in each Go peer's events."""
        return {peer.name: peer.mark() for peer in self.go}

    def _announced(self, peer: GoPeer) -> WesherMeta:
        assert isinstance(peer.meta, WesherMeta)
        return peer.meta

    def _assert_go_reads(self, peer: GoPeer, keys: dict[str, str]) -> None:
        members = peer.members()
        assert members.keys() == keys.keys(), f"{peer.name}: members {sorted(members.keys() ^ keys.keys())} differ"
        for name, member in members.items():
            wanted: Event = WesherMeta(overlay(name), keys[name], self.shape).read
            assert member["read"][self.shape] == wanted, f"{peer.name} reads {member['read']} of {name}"
            assert member["addr"] == self.node(name).address
