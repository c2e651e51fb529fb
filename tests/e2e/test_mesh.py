"""A mesh does what it promises beyond the original's scenarios (test_scenarios.py): nodes come back from a kill, leave
no trace when they go, keep the operator's bytes, and let nobody in who has another key."""

import json
import signal
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from privhelper.addressing import derive
from tests.e2e.mesh import (
    CLUSTER_KEY_TEXT,
    INTERFACE,
    await_mesh,
    has_nothing_left,
    managed_names,
    overlay_routes,
    peer_keys,
    public_key,
    start,
    start_mesh,
    status,
)
from tests.lab import Lab, until

pytestmark = pytest.mark.root


def test_a_mesh_over_ipv6_with_ipv6_addresses(make_lab: Callable[[int], Lab]) -> None:
    """Gossip, tunnels, routes and hosts lines, without an IPv4 address anywhere in them."""
    lab = make_lab(2)
    first, second = lab.nodes
    net = ("--overlay-net", "fd00:1234::/64")
    start(first, *net, "--bind-addr", first.address6)
    start(second, *net, "--bind-addr", second.address6, "--join", first.address6)

    for node, other in ((first, second), (second, first)):
        until(lambda n=node, o=other: set(managed_names(n)) == {o.name}, 10, f"{node.name} has the name")
        address = managed_names(node)[other.name]
        assert address.startswith("fd00:1234::")
        until(lambda n=node, a=address: n.ping(a), 5, f"{node.name} pings {address}")
        assert node.run("getent", "ahostsv6", other.name).stdout.split()[0] == address
        assert status(node)["peers"][0]["endpoint"] == other.address6


def test_a_killed_node_that_comes_back_replaces_its_old_key(lab: Lab) -> None:
    """The others have not noticed that it was gone, and still hold its old key; its new word outbids the old one."""
    daemons = start_mesh(lab.nodes)
    first, second, third = lab.nodes
    old = public_key(second)
    daemons[1].signal(signal.SIGKILL)
    daemons[1].wait(5)
    until(lambda: INTERFACE not in second.links(), 1, "the killed node's link is gone")

    start(second)

    until(lambda: status(second), 10, "up again")
    until(lambda: {public_key(second)} <= peer_keys(first) & peer_keys(third), 2, "the new key is in use")
    until(lambda: old not in peer_keys(first) | peer_keys(third), 2, "the old key is gone")
    await_mesh(lab.nodes)


def test_after_sigterm_the_others_drop_the_node_and_it_leaves_no_trace(lab: Lab) -> None:
    """A graceful leave is known everywhere in 2 s; the leaver's host is as it was, byte for byte."""
    before = [node.hosts() for node in lab.nodes]
    daemons = start_mesh(lab.nodes)
    first, second, third = lab.nodes
    gone = public_key(third)

    daemons[2].signal(signal.SIGTERM)

    until(lambda: gone not in peer_keys(first) | peer_keys(second), 2, "the others dropped the peer")
    until(lambda: third.name not in managed_names(first) | managed_names(second), 2, "and its name")
    assert 0 == daemons[2].wait(10)
    assert has_nothing_left(third)
    assert before[2] == third.hosts()
    assert {"alive": 2, "left": 1} == {k: v for k, v in status(first)["cluster"].items() if k in ("alive", "left")}
    assert {second.name} == set(managed_names(first))
    assert len(overlay_routes(first)) == 1


def test_interrupt_from_the_keyboard_leaves_too(make_lab: Callable[[int], Lab]) -> None:
    """Ctrl-C sends SIGINT to the foreground process, which is the helper."""
    lab = make_lab(1)
    before = lab.nodes[0].hosts()
    daemon = start(lab.nodes[0])
    until(lambda: status(lab.nodes[0]), 5, "up")

    daemon.signal(signal.SIGINT)

    assert 0 == daemon.wait(10)
    assert has_nothing_left(lab.nodes[0])
    assert before == lab.nodes[0].hosts()


def test_a_hosts_file_without_a_final_line_end_is_restored_exactly(make_lab: Callable[[int], Lab]) -> None:
    """Our lines need one before them; the operator gets back what he had."""
    lab = make_lab(2)
    peculiar = b"127.0.0.1 localhost\r\n\n# tabs\tand spaces  \n192.0.2.1 last.example # no end"
    lab.nodes[1].write_hosts(peculiar)
    daemons = start_mesh(lab.nodes)
    assert peculiar == lab.nodes[1].hosts()[: len(peculiar)]

    daemons[1].signal(signal.SIGTERM)
    daemons[1].wait(10)

    assert peculiar == lab.nodes[1].hosts()


def test_a_new_cluster_makes_a_key_and_keeps_it(make_lab: Callable[[int], Lab]) -> None:
    """Without a key given one is generated, shown by `key show`, saved, and used again after a restart."""
    node = make_lab(1).nodes[0]
    daemon = node.start("--user", "61001:61002")
    until(lambda: status(node), 5, "up")
    key = node.wesher("key", "show").stdout.strip()
    daemon.signal(signal.SIGTERM)
    daemon.wait(10)
    saved = json.loads(node.read("/var/lib/wesher/wgoverlay.json"))
    assert key == saved["ClusterKey"]
    assert "new cluster key" not in daemon.stdout_text() + daemon.stderr_text()  # no terminal, so it is not shown

    node.start("--user", "61001:61002")
    until(lambda: status(node), 5, "up again")

    assert key == node.wesher("key", "show").stdout.strip()


def test_init_forgets_the_cluster_and_keeps_the_old_file_aside(make_lab: Callable[[int], Lab]) -> None:
    """`--init` makes a new key; nothing of the old state is lost."""
    node = make_lab(1).nodes[0]
    daemon = start(node)
    until(lambda: status(node), 5, "up")
    daemon.signal(signal.SIGTERM)
    daemon.wait(10)

    node.start("--user", "61001:61002", "--init")
    until(lambda: status(node), 5, "up again")

    assert node.wesher("key", "show").stdout.strip() != CLUSTER_KEY_TEXT
    aside = json.loads(node.read("/var/lib/wesher/wgoverlay.json.old-1"))
    assert aside["ClusterKey"] == CLUSTER_KEY_TEXT


def test_a_node_with_another_key_gets_in_nowhere(lab: Lab) -> None:
    """It keeps trying, it says so, and nobody sees it."""
    first, second, stranger = lab.nodes
    start(first)
    start(second, "--join", first.address)
    await_mesh([first, second])
    daemon = stranger.start("--user", "61001:61002", "--join", first.address)

    until(lambda: "could not join cluster" in daemon.stderr_text(), 10, "the stranger says it cannot join")

    assert 1 == status(stranger)["cluster"]["size"]
    assert {second.name} == set(managed_names(first))


def test_a_lock_on_the_hosts_file_does_not_make_our_lines_outlive_us(make_lab: Callable[[int], Lab]) -> None:
    """Any local user may hold one; a name without its tunnel would send traffic in clear."""
    lab = make_lab(2)
    node = lab.nodes[0]
    before = node.hosts()
    daemon = start_mesh(lab.nodes)[0]
    lock = "f = open('/etc/hosts'); fcntl.lockf(f, fcntl.LOCK_SH); print('ok', flush=True); signal.pause()"
    user = ("setpriv", "--reuid=61003", "--regid=61003", "--clear-groups")
    holder = node.start_program(*user, "/usr/bin/python3", "-c", f"import fcntl, signal; {lock}")
    until(lambda: "ok" in holder.stdout_text(), 5, "the lock is held")

    daemon.signal(signal.SIGTERM)

    assert daemon.wait(15) == 0
    assert before == node.hosts()


def test_a_route_that_another_gave_keeps_its_address_from_becoming_a_peer(make_lab: Callable[[int], Lab]) -> None:
    """The operator's route to what is a peer's address elsewhere stays; that peer is refused and named."""
    first, second = make_lab(2).nodes
    address = str(derive(ip_network("10.0.0.0/8"), second.name.encode(), 0))
    start(first)
    until(lambda: status(first), 5, "up")
    first.run("ip", "route", "add", f"{address}/32", "dev", "eth0")
    before = first.run("ip", "route").stdout

    start(second, "--join", first.address)
    until(lambda: status(first)["refused"], 10, "the peer is refused")

    refused = {entry["name"]: entry["peer_reason"] for entry in status(first)["refused"]}
    assert refused == {second.name: "overlay address belongs to a local network of this host"}
    assert before == first.run("ip", "route").stdout
    assert not managed_names(first)


def test_a_replaced_hosts_file_is_left_alone(make_lab: Callable[[int], Lab]) -> None:
    """An editor that writes a new file and renames it over the old one gets a file without our lines, and a word."""
    lab = make_lab(2)
    first, second = lab.nodes
    daemon = start(first)
    until(lambda: status(first), 5, "up")
    first.run("cp", "/etc/hosts", "/etc/hosts.new")
    first.run("mv", "/etc/hosts.new", "/etc/hosts")
    before = first.hosts()

    start(second, "--join", first.address)
    until(lambda: "hosts file has been replaced" in daemon.stderr_text(), 10, "it is said")

    assert before == first.hosts()
    assert 1 == len(peer_keys(first))  # the tunnel does not depend on it
    daemon.signal(signal.SIGTERM)
    assert daemon.wait(10) == 1  # lines of ours may be in the new file, and nobody takes them away
    assert "Stale file handle" in daemon.stderr_text() or "replaced" in daemon.stderr_text()
