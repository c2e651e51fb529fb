"""Joining a cluster that is large already: one exchange brings hundreds of members, and nothing waits for them.

The Go original hands its events through a channel of a hundred, so with 102 members it hangs at the join, and so do the
signals that should end it. 128 is where the number of members no longer fits memberlist's smallest integers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from nacl.public import PrivateKey

from tests.e2e.mesh import CLUSTER_KEY, has_nothing_left, managed_names, start
from tests.interop.go import GoPeer, GoPeers
from tests.interop.mixed import Peer, device, overlay, states, status
from tests.lab import Daemon, Lab, Node, until
from wesher.mesh.node_meta import MetaForm, NodeMeta, encode

pytestmark = pytest.mark.root

SOURCE = (Path(__file__).parent / "crowd.py").read_text()
SILENT = IPv4Address("192.168.80.0")
"""Members' addresses are above this one: on the lab's Ethernet, and nobody has them."""
OBEYED_WITHIN = 2


@dataclass(frozen=True)
class Silent:
    """A member that is announced and does not answer."""

    name: str
    address: str

    @property
    def key(self) -> bytes:
        """Its WireGuard key, the same in every run."""
        return bytes(PrivateKey(hashlib.sha256(self.name.encode()).digest()).public_key)

    @property
    def plan(self) -> dict[str, str]:
        """As crowd.py takes it."""
        meta = encode(NodeMeta(IPv4Address(overlay(self.name)), self.key, MetaForm.V03, None))
        return {"name": self.name, "address": self.address, "meta": meta.hex()}

    @property
    def peer(self) -> Peer:
        """What wg(8) shows of it."""
        return Peer(base64.b64encode(self.key).decode(), f"{self.address}:51820", f"{overlay(self.name)}/32")


def crowd(count: int) -> list[Silent]:
    """So many members."""
    return [Silent(f"silent{number}", str(SILENT + number)) for number in range(1, count + 1)]


def announce(node: Node, members: list[Silent]) -> Silent:
    """Let the node answer, and know of the members; returns what it is itself."""
    own = Silent(node.name, node.address)
    plan = own.plan | {"key": CLUSTER_KEY.hex(), "members": [member.plan for member in members]}
    node.write("/run/crowd.json", json.dumps(plan).encode())
    node.start_program(sys.executable, "-c", SOURCE, "/run/crowd.json")
    listening = ("sh", "-c", "ss -Htln 'sport = 7946' | grep -q .")
    until(lambda: node.run(*listening, check=False).returncode == 0, 20, f"{len(members)} members are announced")
    return own


def reach_all(*nodes: Node) -> None:
    """The silent ones' network is on the Ethernet, where nobody answers for them."""
    for node in nodes:
        node.inside.ip("route add 192.168.80.0/20 dev eth0")


def end_at_once(node: Node, daemon: Daemon, before: bytes) -> None:
    """SIGTERM, and within two seconds nothing is left."""
    daemon.signal(signal.SIGTERM)
    until(lambda: not daemon.alive(), OBEYED_WITHIN, f"{node.name} has ended after SIGTERM")
    assert daemon.wait(1) == 0
    assert has_nothing_left(node)
    assert node.hosts() == before


@pytest.mark.parametrize("count", [102, 128, 500])
def test_joining_a_large_cluster_works_and_sigterm_ends_it_at_once(make_lab: Callable[[int], Lab], count: int) -> None:
    """All of them are WireGuard peers and names, however silent; the daemon goes on answering, and goes when told."""
    ours, large = make_lab(2).nodes
    reach_all(ours, large)
    others = crowd(count - 1)
    others.append(announce(large, others))
    before = ours.hosts()
    daemon = start(ours, "--join", large.address)
    until(lambda: status(ours), 10, "our node is up")

    until(lambda: device(ours).peers == {other.peer for other in others}, 20, f"{count} are WireGuard peers")
    until(lambda: managed_names(ours).keys() == {other.name for other in others}, 5, f"{count} are names")
    assert status(ours)["refused"] == status(ours)["problems"] == []

    end_at_once(ours, daemon, before)


def test_sigterm_in_the_midst_of_joining_a_large_cluster_is_obeyed_too(make_lab: Callable[[int], Lab]) -> None:
    """While hundreds of peers are on their way to WireGuard."""
    ours, large = make_lab(2).nodes
    reach_all(ours, large)
    announce(large, crowd(499))
    before = ours.hosts()
    daemon = start(ours, "--join", large.address)
    until(lambda: device(ours).peers, 20, "the first peers are there")

    end_at_once(ours, daemon, before)


def test_sigterm_while_hundreds_are_found_silent_is_obeyed_too(make_lab: Callable[[int], Lab]) -> None:
    """Probes run into nothing and suspicions are under way; a leave does not wait for those who cannot hear it."""
    ours, large = make_lab(2).nodes
    reach_all(ours, large)
    others = crowd(499)
    others.append(announce(large, others))
    before = ours.hosts()
    daemon = start(ours, "--join", large.address)
    until(lambda: "suspect" in states(ours).values(), 20, "somebody is suspected")
    assert device(ours).peers == {other.peer for other in others}

    end_at_once(ours, daemon, before)


@pytest.mark.go
def test_a_go_node_that_knows_more_than_128_answers_our_join(make_lab: Callable[[int], Lab], peers: GoPeers) -> None:
    """The number of entries in its answer is a signed integer of more than seven bits; and it reads ours as well."""
    ours, large, theirs = make_lab(3).nodes
    reach_all(ours, large, theirs)
    others = crowd(200)
    others.append(announce(large, others))
    go = peers.start(theirs.name, theirs.address, node=theirs, push_pull_interval=3600)
    assert go.join(large.address) == 1
    until(lambda: len(go.members()) == 202, 10, "Go knows them all")
    before = ours.hosts()

    daemon = start(ours, "--join", theirs.address)

    until(lambda: device(ours).peers == {other.peer for other in others} | {as_peer(go)}, 20, "all are WireGuard peers")
    until(lambda: go.members()[ours.name]["read"]["master"]["key"] == device(ours).public_key, 5, "Go reads ours")
    end_at_once(ours, daemon, before)


def as_peer(go: GoPeer) -> Peer:
    """What wg(8) shows of a Go peer."""
    return Peer(go.local()["read"]["master"]["key"], f"{go.address}:51820", f"{overlay(go.name)}/32")
