"""A node behind a NAT: with --advertise-addr it is a member like others, and where WireGuard finds it in truth is not
taken back by anything but news of another address."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.e2e.layouts import Layout
from tests.e2e.mesh import INTERFACE, await_mesh, managed_names, public_key, start, states, status
from tests.e2e.split import Split, start_agent
from tests.lab import Lab, Nat, Node, bound, until

pytestmark = pytest.mark.root


def endpoint(node: Node, of: Node) -> str | None:
    """Where the node's WireGuard has a peer by now."""
    lines = node.run("wg", "show", INTERFACE, "endpoints").stdout.splitlines()
    return dict(line.split("\t") for line in lines).get(public_key(of))


def allowed_ips(node: Node, of: Node) -> str | None:
    """What the node's WireGuard takes from a peer."""
    lines = node.run("wg", "show", INTERFACE, "allowed-ips").stdout.splitlines()
    return dict(line.split("\t") for line in lines).get(public_key(of))


def is_alive(node: Node, other: Node) -> bool:
    return states(node).get(other.name) == "alive"


def test_a_node_behind_nat_is_a_member_like_others(make_lab: Callable[[int], Lab], layout: Layout) -> None:
    """It joins, is joined, is pinged by name and pings; nobody suspects anybody; and so it is after a restart."""
    lab = make_lab(3)
    hidden, *others = nodes = lab.nodes
    Nat(lab, hidden)
    options = ("--advertise-addr", hidden.address, "--keepalive", "2", "--log-level", "info")
    running = [layout.start(hidden, *options)]
    running += [layout.start(node, "--join", hidden.address, "--log-level", "info") for node in others]
    await_mesh(nodes)
    assert status(hidden)["node"]["gossip_addr"] == f"{hidden.address}:7946"

    running[0].signal(signal.SIGTERM)
    assert running[0].wait(bound(15)) == 0
    running[0] = layout.start(hidden, *options)
    await_mesh(nodes)
    for node in others:
        probed = [peer["rtt_ms"] for peer in status(node)["peers"] if peer["name"] == hidden.name]
        until(lambda n=node: is_alive(n, hidden), 5, f"{node.name} has it")
        assert probed
    until(lambda: all(peer["rtt_ms"] for peer in status(hidden)["peers"]), 20, "its own probes are answered")
    for node in others:
        until(lambda n=node: all(peer["rtt_ms"] for peer in status(n)["peers"]), 20, f"{node.name}'s probes are")
    assert not any("does not answer" in each.stderr_text() for each in running)


def test_the_keepalive_keeps_a_mapping_open_that_only_the_hidden_node_can_open(
    make_lab: Callable[[int], Lab],
) -> None:
    """Nothing is sent but that: the others reach it where its packets come from, after each change of the mapping."""
    lab = make_lab(2)
    hidden, other = nodes = lab.nodes
    nat = Nat(lab, hidden)
    nat.map_tunnels("192.168.77.201")
    start(other)
    start(hidden, "--advertise-addr", hidden.address, "--keepalive", "1", "--join", other.address)
    await_mesh(nodes)
    for address in ("192.168.77.202", "192.168.77.203"):
        nat.map_tunnels(address)
        until(lambda a=address: endpoint(other, hidden) == f"{a}:51820", 10, f"it is found at {address}")
    until(lambda: other.ping(hidden.name), 5, "the tunnel carries")


def test_an_endpoint_that_was_learned_is_not_overwritten(make_lab: Callable[[int], Lab], layout: Layout) -> None:
    """By joins, leaves, new keys, the look every half a minute, repairs, reloads and another agent. WireGuard's packets
    are only let in where its own come from, and it sends none meanwhile: what was lost would stay lost."""
    lab = make_lab(4)
    hidden, watcher, mover, late = lab.nodes
    nat = Nat(lab, hidden)
    nat.map_tunnels("192.168.77.201")
    running = layout.start(watcher)
    start(hidden, "--advertise-addr", hidden.address, "--join", watcher.address)
    second = start(mover, "--join", watcher.address)
    until(lambda: is_alive(watcher, hidden), 10, "all are there")
    until(lambda: is_alive(hidden, mover), 10, "all are there")

    def found_at(address: str) -> bool:
        return hidden.ping(managed_names(hidden)[watcher.name]) and endpoint(watcher, hidden) == f"{address}:51820"

    def assert_kept() -> None:
        assert endpoint(watcher, hidden) == "192.168.77.202:51820"

    until(lambda: found_at("192.168.77.201"), 20, "it is found where its packets come from")
    nat.map_tunnels("192.168.77.202")
    until(lambda: found_at("192.168.77.202"), 20, "and found again when that changes")

    third = start(late, "--join", watcher.address)
    until(lambda: late.name in managed_names(watcher), 10, "somebody joins")
    assert_kept()
    third.signal(signal.SIGTERM)
    until(lambda: late.name not in managed_names(watcher), 15, "and leaves")
    assert_kept()
    key = public_key(mover)
    second.kill()
    start(mover, "--join", watcher.address)
    until(lambda: endpoint(watcher, mover) is not None and public_key(mover) != key, 20, "somebody has a new key")
    assert_kept()
    running.signal(signal.SIGHUP)
    watcher.run("wg", "set", INTERFACE, "peer", public_key(hidden), "allowed-ips", "")
    overlay = managed_names(watcher)[hidden.name]
    until(lambda: allowed_ips(watcher, hidden) == f"{overlay}/32", 40, "the look every half a minute repairs")
    assert_kept()
    if isinstance(running, Split):
        running.agent.signal(signal.SIGTERM)
        assert running.agent.wait(bound(15)) == 0
        start_agent(watcher)
        until(lambda: is_alive(watcher, hidden), 20, "another agent has found the mesh")
        until(lambda: not status(watcher)["problems"], 10, "and it is in force")
        assert_kept()
    assert watcher.ping(overlay, timeout=3)
