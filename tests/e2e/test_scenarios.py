"""The five scenarios that the original is tested with, in both layouts."""

import signal
from collections.abc import Callable

import pytest

from tests.e2e.layouts import Layout
from tests.e2e.mesh import (
    INTERFACE,
    await_mesh,
    join_up,
    managed_names,
    overlay_addresses,
    overlay_routes,
    peer_keys,
    public_key,
    status,
)
from tests.lab import Lab, Node, until

pytestmark = pytest.mark.root

SECOND = "wgsecond"
CLUSTERS = {
    INTERFACE: ("--overlay-net", "10.20.0.0/16"),
    SECOND: (
        *("--interface", SECOND, "--overlay-net", "10.30.0.0/16"),
        *("--cluster-port", "7947", "--wireguard-port", "51821"),
    ),
}


def test_three_nodes(layout: Layout, lab: Lab) -> None:
    """Every node pings every other by name; `status`, hosts file, routes and WireGuard say the same."""
    join_up(layout.start, lab.nodes)

    for node in lab.nodes:
        seen = status(node)
        assert {"size": 3, "alive": 3, "suspect": 0, "failed": 0, "left": 0} == {
            name: count for name, count in seen["cluster"].items() if name != "health_score"
        }
        assert [] == seen["refused"] == seen["problems"]
        assert managed_names(node) == {peer["name"]: peer["overlay_addr"] for peer in seen["peers"]}
        assert peer_keys(node) == {peer["public_key"] for peer in seen["peers"]}
        assert all(peer["last_handshake_s"] is not None for peer in seen["peers"])
        assert set(managed_names(node).values()) == overlay_routes(node)
        assert {seen["node"]["overlay_addr"]} == overlay_addresses(node)


def test_five_nodes(layout: Layout, make_lab: Callable[[int], Lab]) -> None:
    """Every node pings every other by name."""
    join_up(layout.start, make_lab(5).nodes)


def test_restart_of_a_node(layout: Layout, lab: Lab) -> None:
    """It comes back by its saved state alone, with a new key, which the others use as soon as it is up."""
    running = join_up(layout.start, lab.nodes)
    first, second, third = lab.nodes
    old = public_key(second)
    running[1].signal(signal.SIGTERM)
    assert 0 == running[1].wait(10)
    until(lambda: old not in peer_keys(first) | peer_keys(third), 2, "the old key is gone")

    layout.start(second)

    until(lambda: status(second), 10, "the node is up again")
    assert public_key(second) != old
    until(lambda: {public_key(second)} <= peer_keys(first) & peer_keys(third), 2, "the new key is in use")
    await_mesh(lab.nodes)


def test_simultaneous_start(layout: Layout, lab: Lab) -> None:
    """Each joins the others: whoever comes up first waits for them, since joining is retried."""
    for node in lab.nodes:
        layout.start(node, "--join", ",".join(other.address for other in lab.nodes if other is not node))

    await_mesh(lab.nodes)


def test_two_clusters_on_one_machine_through_a_restart_of_one(layout: Layout, make_lab: Callable[[int], Lab]) -> None:
    """Each has its own link, net, ports, state and hosts lines; the other one notices nothing of the restart."""
    first, second = nodes = make_lab(2).nodes
    running = {}
    for interface, arguments in CLUSTERS.items():
        running[interface] = layout.start(first, *arguments)
        layout.start(second, "--join", first.address, *arguments)
    for interface in CLUSTERS:
        until(lambda i=interface: is_pair(nodes, i), 20, f"{interface} is a mesh")
    key, lines = public_key(first, INTERFACE), managed_names(first, INTERFACE)
    old = public_key(first, SECOND)

    running[SECOND].signal(signal.SIGTERM)
    assert 0 == running[SECOND].wait(10)

    assert layout.leaves_no_trace(first, SECOND)
    assert is_pair(nodes, INTERFACE)
    until(lambda: old not in peer_keys(second, SECOND), 2, "the others of the second cluster dropped it")

    layout.start(first, *CLUSTERS[SECOND])

    for interface in CLUSTERS:
        until(lambda i=interface: is_pair(nodes, i), 20, f"{interface} is a mesh, again or still")
    assert old != public_key(first, SECOND)
    assert (key, lines) == (public_key(first, INTERFACE), managed_names(first, INTERFACE))
    assert running[INTERFACE].alive()


def is_pair(nodes: list[Node], interface: str) -> bool:
    """Whether the two are a mesh through `interface`, with each other's line and an answer from its address."""
    return all(
        status(node, interface)["cluster"]["alive"] == 2
        and managed_names(node, interface).keys() == {other.name}
        and node.ping(managed_names(node, interface)[other.name])
        for node, other in (nodes, reversed(nodes))
    )
