"""Whole nodes on the kernel's WireGuard, in both layouts: what a TUN and wireguard-go cannot show."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.mesh import INTERFACE, has_nothing_left, managed_names, public_key, start, status
from tests.e2e.split import PREPARE, start_agent, start_helper
from tests.lab import Lab, Node, Pinging, until

pytestmark = pytest.mark.vm


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Node, Node]]:
    """Two machines on one Ethernet."""
    monkeypatch.setenv("WESHER_BIN", "/usr/local/bin/wesher")
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(2))
        first, second = lab.nodes
        yield first, second


def index(node: Node) -> int:
    """The overlay link's ifindex."""
    (link,) = json.loads(node.run("ip", "-json", "link", "show", "dev", INTERFACE).stdout)
    return int(link["ifindex"])


def await_ping(node: Node, other: Node) -> None:
    """Until `other` answers by name, or by the address of its hosts line."""
    until(lambda: node.ping(managed_names(node)[other.name]), 20, f"{node.name} pings {other.name}")


def test_a_mesh_on_the_kernels_wireguard_survives_its_link_and_leaves_nothing(pair: tuple[Node, Node]) -> None:
    """Without a word it is the kernel's that is used; a link that somebody deletes comes back with the same key."""
    first, second = pair
    start(first)
    leaver = start(second, "--join", first.address)
    await_ping(first, second)
    await_ping(second, first)
    assert {"kernel"} == {status(node)["node"]["backend"] for node in pair}
    key, old = public_key(first), index(first)

    first.run("ip", "link", "del", "dev", INTERFACE)

    until(lambda: index(first) != old and public_key(first) == key, 10, "the link is there again")
    await_ping(first, second)
    leaver.signal(signal.SIGTERM)
    assert leaver.wait(60) == 0
    assert has_nothing_left(second)
    until(lambda: not managed_names(first), 5, "the other has dropped its name")


def test_an_agent_is_killed_and_restarted_over_ipv6_and_no_ping_is_lost(pair: tuple[Node, Node]) -> None:
    """The helper alone keeps the kernel's tunnels; overlay and underlay are IPv6."""
    first, second = pair
    net = ("--overlay-net", "fd00:1234::/64")
    first.run("sh", "-c", PREPARE)
    start_helper(first, *net)
    agent = start_agent(first, *net, "--bind-addr", first.address6)
    start(second, *net, "--bind-addr", second.address6, "--join", first.address6)
    await_ping(second, first)
    key, old = public_key(first), index(first)
    target = managed_names(second)[first.name]
    pings = Pinging(second.start_program, target, every=0.2)

    agent.signal(signal.SIGKILL)
    agent.wait(30)
    start_agent(first, *net, "--bind-addr", first.address6)
    until(lambda: status(first)["cluster"]["alive"] == 2, 20, "the new agent is in the mesh")

    assert pings.losses() == set()
    assert (key, old) == (public_key(first), index(first))
    assert set(managed_names(first)) == {second.name}


def test_a_link_that_a_killed_node_left_is_made_anew_and_a_foreign_one_never(pair: tuple[Node, Node]) -> None:
    """The kernel's link outlives its processes. One without our alias, but with a key, is somebody else's."""
    first, second = pair
    killed = start(first)
    until(lambda: status(first), 20, "up")
    key, agent = public_key(first), killed.agent_pid
    killed.signal(signal.SIGKILL)
    killed.wait(30)
    until(lambda: not os.path.exists(f"/proc/{agent}"), 20, "its agent is gone too")
    assert public_key(first) == key

    again = start(first)
    until(lambda: status(first) and public_key(first) != key, 20, "up again with a new key")
    again.signal(signal.SIGTERM)
    assert again.wait(60) == 0

    private = second.run("wg", "genkey").stdout
    second.write("/run/foreign", private.encode())
    second.run("ip", "link", "add", INTERFACE, "type", "wireguard")
    second.run("wg", "set", INTERFACE, "private-key", "/run/foreign")
    before = public_key(second)
    refused = start(second)
    assert refused.wait(60) == 1
    assert f"ip link del dev {INTERFACE}" in refused.stderr_text()
    assert 1 == refused.stderr_text().count("\n")
    assert before == public_key(second)
