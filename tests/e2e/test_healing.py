"""A mesh that was cut, powered down or robbed of whom it was joined by: it is one again by itself, without an option.

Long cuts, after which nobody knows of the others any more, are the simulator's: its hours cost seconds.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable

import pytest

from tests.e2e.layouts import Layout
from tests.e2e.mesh import USERS, await_mesh, join_up, move, public_key, start, start_mesh, states, status
from tests.e2e.split import start_agent, start_split
from tests.lab import Lab, Node, until

pytestmark = pytest.mark.root

FILE = "/var/lib/wesher/wgoverlay.json"
TODAY = 217_000_000
"""Seconds since 2020 in November 2026."""


def others_are(node: Node, others: list[Node], state: str) -> bool:
    """Whether the node holds all of `others` for that."""
    known = states(node)
    return all(known.get(other.name) == state for other in others)


def saved(node: Node) -> dict[str, str]:
    """How each member was last seen, by the state file."""
    return {entry["Name"]: entry["Wesher"]["Last"] for entry in json.loads(node.read(FILE))["Nodes"]}


def test_two_halves_that_hold_each_other_for_dead_are_one_within_half_a_minute(make_lab: Callable[[int], Lab]) -> None:
    """Nobody joins anybody; the tunnels of the others stayed, and keep the keys they had."""
    lab = make_lab(4)
    left, right = lab.nodes[:2], lab.nodes[2:]
    start_mesh(lab.nodes)
    keys = [public_key(node) for node in lab.nodes]
    lab.partition(left, right)
    for node, others in ((left[0], right), (right[0], left)):
        until(lambda n=node, o=others: others_are(n, o, "failed"), 30, f"{node.name} holds the other half for dead")
    lab.heal()
    for node in lab.nodes:
        others = [other for other in lab.nodes if other is not node]
        until(lambda n=node, o=others: others_are(n, o, "alive"), 30, f"{node.name} has everybody again")
    await_mesh(lab.nodes)
    assert keys == [public_key(node) for node in lab.nodes]


def test_a_cluster_that_lost_power_comes_back_without_an_option(make_lab: Callable[[int], Lab]) -> None:
    """All at once, each with a new key and what its state file remembers."""
    nodes = make_lab(3).nodes
    for daemon in start_mesh(nodes):
        daemon.kill()
    for node in nodes:
        node.start("--user", USERS)
    await_mesh(nodes)


def test_where_the_contact_is_gone_those_remembered_lead_to_the_cluster(make_lab: Callable[[int], Lab]) -> None:
    """The machine that all were joined by has left for good, and units still name it."""
    contact, member, restarted = nodes = make_lab(3).nodes
    running = start_mesh(nodes)
    for daemon in (running[0], running[2]):
        daemon.signal(15)
        assert daemon.wait(20) == 0
    start(restarted, "--join", contact.address)
    await_mesh([member, restarted])
    assert states(member)[restarted.name] == "alive"


def test_who_was_named_is_found_whenever_it_comes(make_lab: Callable[[int], Lab]) -> None:
    """Of two contacts one is there; the other comes later, joins nobody, and is joined."""
    first, joiner, later = nodes = make_lab(3).nodes
    start(first)
    start(joiner, "--join", f"{first.address},{later.address}")
    await_mesh([first, joiner])
    start(later)
    until(lambda: status(later), 10, "it is up, and alone")
    until(lambda: others_are(later, [first, joiner], "alive"), 30, "it is found")
    await_mesh(nodes)


def test_who_is_named_and_is_the_node_itself_is_not_looked_for(make_lab: Callable[[int], Lab]) -> None:
    """One list for all nodes, and this one by another of its addresses: nobody is missing, and nobody is dialled."""
    (node,) = make_lab(1).nodes
    node.run("ip", "address", "add", "192.168.78.1/24", "dev", "eth0")
    running = start(node, "--join", f"{node.address},192.168.78.1,127.0.0.1", "--log-level", "info")
    until(lambda: status(node)["problems"] == [], 5, "it is not waiting for itself")
    assert "could not join" not in running.stderr_text()


def test_a_reload_looks_for_whoever_is_missing_at_once(layout: Layout, make_lab: Callable[[int], Lab]) -> None:
    """A node that has waited for long, and would for seconds yet, tries again when it is told to, by a name that means
    another address by now."""
    node, other = nodes = make_lab(2).nodes
    node.write_hosts(node.hosts() + b"192.168.77.99 contact\n")
    running = layout.start(node, "--join", "contact")

    def waits() -> list[float]:
        return [float(wait) for wait in re.findall(r"retrying in ([0-9.]+)s", running.stderr_text())]

    until(lambda: waits()[-1] > 6, 60, "it waits for long")
    start(other)
    until(lambda: status(other), 10, "the other is there, and alone")
    node.write_hosts(node.hosts().replace(b"192.168.77.99", other.address.encode()))
    running.signal(signal.SIGHUP)
    await_mesh(nodes)


RESOLVER = """
import socket, struct, sys
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind(("127.0.0.1", 53))
print("ready", flush=True)
while True:
    query, client = listener.recvfrom(512)
    name = query[13 : 13 + query[12]]
    end = query.index(0, 12) + 5
    (kind,) = struct.unpack(">H", query[end - 4 : end - 2])
    try:
        found = [line.split() for line in open("/run/zone") if line.split()[0].encode() == name]
    except OSError:
        found = []
    family = {1: socket.AF_INET, 28: socket.AF_INET6}.get(kind)
    data = [socket.inet_pton(family, to) for _, to in found if family and (":" in to) == (kind == 28)]
    records = b"".join(b"\\xc0\\x0c" + struct.pack(">HHIH", kind, 1, 0, len(d)) + d for d in data)
    head = struct.pack(">HHHHH", 0x8180 if found else 0x8183, 1, len(data), 0, 0)
    listener.sendto(query[:2] + head + query[12:end] + records, client)
"""
"""Answers for the names and addresses that stand in /run/zone at that moment."""


@pytest.mark.parametrize("right", ["192.168.77.2", "fd77::2"], ids=["A", "AAAA"])
def test_a_name_is_asked_for_again_and_all_its_addresses_are_tried(right: str, make_lab: Callable[[int], Lab]) -> None:
    """By DNS, long after the agent was confined, and whether the right one is the first or of the other kind."""
    node, other = nodes = make_lab(2).nodes
    node.write("/run/zone", b"contact 192.168.77.98\ncontact fd77::98\n", mode=0o644)
    resolver = node.start_program("/usr/bin/python3", "-c", RESOLVER)
    until(lambda: "ready" in resolver.stdout_text(), 5, "names are resolved")
    node.write("/etc/resolv.conf", b"nameserver 127.0.0.1\noptions attempts:1 timeout:1\n", mode=0o644)
    options = ("--bind-addr", "::") if ":" in right else ()
    running = start(node, "--join", "contact.example", *options)
    start(other, *options)
    until(lambda: running.stderr_text().count("could not join cluster") >= 3, 30, "nobody is there")
    node.write("/run/zone", f"contact 192.168.77.98\ncontact fd77::98\ncontact {right}\n".encode(), mode=0o644)
    await_mesh(nodes)


def test_a_member_is_remembered_for_the_time_given(make_lab: Callable[[int], Lab]) -> None:
    """By a node in company until --forget-after; for longer by one that was given longer, with how it was seen."""
    short, long = nodes = make_lab(2).nodes
    ghost = {"Name": "ghost", "Addr": "10.99.0.77", "Wesher": {"Seen": TODAY - 100_000, "Last": "failed"}}
    for node in nodes:
        node.run("mkdir", "-m", "700", "/var/lib/wesher")
        node.write(FILE, json.dumps({"ClusterKey": None, "Nodes": [ghost]}).encode())
    start(short, "--forget-after", "1h")
    start(long, "--forget-after", "365d", "--join", short.address)
    await_mesh(nodes)
    until(lambda: saved(short) == {long.name: "alive"}, 10, "forgotten by one")
    until(lambda: saved(long) == {"ghost": "failed", short.name: "alive"}, 10, "remembered by the other")


@pytest.mark.parametrize("how", ["left", "crashed"])
def test_a_node_that_comes_back_at_another_address_is_followed_by_all(how: str, make_lab: Callable[[int], Lab]) -> None:
    """Whether it left or crashed; started without an option, and at once."""
    nodes = make_lab(4).nodes
    running = start_mesh(nodes)
    moved, others = nodes[3], nodes[:3]
    if how == "left":
        running[3].signal(signal.SIGTERM)
        assert running[3].wait(10) == 0
    else:
        running[3].kill()
    move(moved, "192.168.77.44")
    moved.start("--user", USERS)
    until(lambda: status(moved), 10, "it is up")
    for node in others:
        until(lambda n=node: gossip_address(n, moved.name) == "192.168.77.44:7946", 10, f"{node.name} follows it")
    await_mesh(nodes)


def gossip_address(node: Node, name: str) -> str | None:
    """Where the node holds a live member to be."""
    (found,) = (peer for peer in status(node)["peers"] if peer["name"] == name)
    return found["gossip_addr"] if found["state"] == "alive" else None


def test_an_address_that_changes_under_a_running_node_is_followed_by_all(
    layout: Layout, make_lab: Callable[[int], Lab]
) -> None:
    """Nobody restarts anything; nobody's key is another afterwards, and its tunnels were never taken away."""
    nodes = make_lab(4).nodes
    join_up(layout.start, nodes)
    moved, others = nodes[3], nodes[:3]
    keys = [public_key(node) for node in nodes]
    shaken = [handshake(node, moved) for node in others]
    move(moved, "192.168.77.44")
    until(lambda: moved.ping(others[0].name), 5, "it reaches others, who have said nothing to it yet")
    for node in others:
        until(lambda n=node: gossip_address(n, moved.name) == "192.168.77.44:7946", 10, f"{node.name} follows it")
    assert shaken == [handshake(node, moved) for node in others]
    await_mesh(nodes)
    assert keys == [public_key(node) for node in nodes]
    assert status(moved)["problems"] == []


def handshake(node: Node, other: Node) -> str:
    """When the two shook hands last, by the node's device: a peer that is taken away and comes back has not."""
    shown = node.run("wg", "show", "wgoverlay", "latest-handshakes").stdout.splitlines()
    (when,) = (line.split()[1] for line in shown if line.split()[0] == public_key(other))
    assert when != "0"
    return when


def test_an_address_that_comes_back_costs_nothing(make_lab: Callable[[int], Lab]) -> None:
    """A lease that was lost for longer than members are suspected: nobody is at another address, nor has left."""
    node, *others = nodes = make_lab(3).nodes
    running = start_mesh(nodes)
    node.run("ip", "address", "del", f"{node.address}/24", "dev", "eth0")
    for other in others:
        until(lambda o=other: others_are(o, [node], "failed"), 30, f"{other.name} holds it for dead")
    until(lambda: any("gone from this host" in problem for problem in status(node)["problems"]), 5, "it says why")
    node.run("ip", "address", "add", f"{node.address}/24", "dev", "eth0")
    for other in others:
        until(lambda o=other: others_are(o, [node], "alive"), 30, f"{other.name} has it again")
    await_mesh(nodes)
    assert status(node)["problems"] == []
    assert "gone from this host" not in running[0].stderr_text()


def test_an_interface_that_was_named_is_waited_for(make_lab: Callable[[int], Lab]) -> None:
    """As long as it has no address, whatever other way there is; the one that comes back is bound still."""
    nodes = make_lab(2).nodes
    node, other = nodes
    node.inside.ip(
        "link add spare type veth peer name far",
        "link set spare up",
        "link set far up",
        "address add 172.16.9.1/24 dev spare",
        "route add default via 172.16.9.2",
    )
    running = join_up(start, nodes, "--bind-iface", "eth0")
    node.run("ip", "address", "del", f"{node.address}/24", "dev", "eth0")
    until(lambda: others_are(other, [node], "failed"), 30, "it is held for dead")
    until(lambda: any("gone from this host" in problem for problem in status(node)["problems"]), 5, "it says why")
    node.run("ip", "address", "add", f"{node.address}/24", "dev", "eth0")
    until(lambda: others_are(other, [node], "alive"), 30, "it is back")
    assert running[0].alive()


@pytest.mark.parametrize("options", [(), ("--bind-iface", "eth0")], ids=["public", "interface"])
def test_gossip_that_is_bound_to_an_address_that_changes_is_started_anew(
    options: tuple[str, ...], make_lab: Callable[[int], Lab]
) -> None:
    """A public one that was found, or a named interface's. The agent leaves and ends; its tunnels stay, and the next
    one is followed."""
    nodes = make_lab(3).nodes
    moved, others = nodes[2], nodes[:2]
    for number, node in enumerate(nodes, start=1):
        node.run("ip", "address", "del", f"{node.address}/24", "dev", "eth0")
        node.address = f"8.8.8.{number}"
        node.run("ip", "address", "add", f"{node.address}/24", "dev", "eth0")
    running = join_up(start_split, nodes, *options)
    key = public_key(moved)
    move(moved, "8.8.8.44")
    assert running[2].agent.wait(10) == 1
    gone = "address 8.8.8.3, which gossip is bound to, is gone from this host; it has 8.8.8.44 now"
    assert gone in running[2].agent.stderr_text()
    for other in others:
        until(lambda o=other: others_are(o, [moved], "left"), 5, f"{other.name} has heard its leave")
    start_agent(moved, *options)
    for other in others:
        until(lambda o=other: gossip_address(o, moved.name) == "8.8.8.44:7946", 10, f"{other.name} follows it")
    await_mesh(nodes)
    assert public_key(moved) == key
