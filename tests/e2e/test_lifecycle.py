"""What happens to a running node: others change its network, members fail, signals come at any moment, and whoever
starts it may be an ordinary user or a service manager that listens."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from privhelper.addressing import derive
from tests.e2e.layouts import Layout, Running
from tests.e2e.mesh import (
    CLUSTER_KEY_TEXT,
    INTERFACE,
    KEY_FILE,
    USERS,
    await_mesh,
    has_nothing_left,
    has_only_a_bare_link,
    join_up,
    managed_names,
    overlay_addresses,
    overlay_routes,
    peer_keys,
    public_key,
    start,
    start_mesh,
    states,
    status,
)
from tests.e2e.split import PREPARE, as_user, start_agent, start_helper, start_split, start_wireguard
from tests.lab import Daemon, Lab, Node, bound, children, command_line, until, wesher_command

pytestmark = pytest.mark.root

NOBODY = "192.168.77.99"
A_KEY = "hHN1eyqnHkGOOLQZrnQk1wBd1Bp9cvKnqQqpZ9uJ0Gs="
ORDINARY_UID = 61003
LISTENER = (Path(__file__).parent / "service_manager.py").read_text()
NOTIFY_SOCKET = "/run/notify.sock"

State = tuple[object, ...]


# --- what others change -----------------------------------------------------------------------------------------------


def in_force(node: Node) -> State:
    """The overlay as this host has it."""
    (link,) = json.loads(node.run("ip", "-json", "link", "show", "dev", INTERFACE).stdout)
    return (
        *(link["mtu"], "UP" in link["flags"], link.get("ifalias")),
        *(overlay_addresses(node), overlay_routes(node)),
        *(public_key(node), peer_keys(node), node.run("wg", "show", INTERFACE, "allowed-ips").stdout),
    )


@pytest.fixture
def pair(layout: Layout, make_lab: Callable[[int], Lab]) -> tuple[Node, Running, Node]:
    """A node, what runs on it, and the other node of its mesh."""
    first, second = make_lab(2).nodes
    running, _ = join_up(layout.start, [first, second])
    return first, running, second


def test_what_others_do_to_link_address_and_routes_is_put_right(pair: tuple[Node, Running, Node]) -> None:
    """At once, since the kernel tells of it; the log says what it was, and traffic flows again."""
    node, running, other = pair
    before = in_force(node)
    (address,) = overlay_addresses(node)

    node.run("ip", "route", "flush", "dev", INTERFACE)
    until(lambda: repaired(running), 5, "the log says that something was wrong")
    assert repaired(running) == {"routes"}
    assert before == in_force(node)
    until(lambda: node.ping(other.name) and other.ping(node.name), 5, "both ping each other by name")

    # Again and more of it: the pause between two repairs grows.
    node.run("ip", "address", "del", f"{address}/32", "dev", INTERFACE)
    node.run("ip", "link", "set", "dev", INTERFACE, "alias", "mine")
    node.run("ip", "link", "set", "dev", INTERFACE, "mtu", "1300")
    node.run("ip", "link", "set", "dev", INTERFACE, "down")
    until(lambda: before == in_force(node), 5, "all is put right")
    until(lambda: repaired(running) == {"routes", "address", "alias", "MTU", "link down"}, 1, "the log says what")
    until(lambda: node.ping(other.name) and other.ping(node.name), 5, "both ping each other by name")


def repaired(running: Running) -> set[str]:
    """What the log says has been repaired."""
    lines = [line.partition("repaired: ")[2] for line in running.stderr_text().splitlines()]
    return {what for line in lines if line for what in line.split(", ")}


def test_what_others_do_to_peers_is_put_right_within_half_a_minute(lab: Lab) -> None:
    """WireGuard tells nobody, so it is asked: a peer taken away comes back, one that was added goes."""
    node, other, _ = lab.nodes
    running = start_mesh(lab.nodes)[0]
    before = in_force(node)
    assert A_KEY not in peer_keys(node)

    node.run("wg", "set", INTERFACE, "peer", public_key(other), "remove")
    node.run("wg", "set", INTERFACE, "peer", A_KEY, "allowed-ips", "10.1.2.3/32")

    until(lambda: before == in_force(node), 31, "both are put right")
    until(lambda: repaired(running) == {"peers"}, 1, "the log says so")
    until(lambda: node.ping(other.name), 5, "it pings the other again")


def test_a_network_that_comes_later_takes_its_peers_away_until_it_goes(pair: tuple[Node, Running, Node]) -> None:
    """A host route of ours would steal an address of it; `status` says why, and the hosts line goes too."""
    node, running, other = pair
    address = managed_names(node)[other.name]
    network = str(ip_interface(f"{address}/24").network)

    node.run("ip", "route", "add", network, "dev", "eth0")

    until(lambda: not peer_keys(node) and not overlay_routes(node), 10, "the peer is withdrawn")
    until(lambda: not managed_names(node), 1, "and its hosts line")
    reason = "overlay address belongs to a local network of this host"
    until(lambda: [(r["name"], r["peer_reason"]) for r in status(node)["refused"]] == [(other.name, reason)], 5, "why")
    until(lambda: reason in running.stderr_text(), 1, "the log says so")
    assert states(node) == {other.name: "alive"}

    node.run("ip", "route", "del", network, "dev", "eth0")

    until(lambda: managed_names(node) == {other.name: address}, 10, "the peer is back")
    until(lambda: node.ping(other.name), 5, "and answers")
    assert status(node)["refused"] == []


@pytest.mark.parametrize("kind", ["bridge", "tun"])
def test_a_helper_of_its_own_never_takes_over_an_interface_of_the_name(
    make_lab: Callable[[int], Lab], kind: str
) -> None:
    """Neither another link, nor a TUN that no wireguard-go serves. (The launcher's refusals: test_refusals.py.)"""
    node = make_lab(1).nodes[0]
    node.run("sh", "-c", PREPARE)
    make = ("tuntap", "add", INTERFACE, "mode", "tun") if kind == "tun" else ("link", "add", INTERFACE, "type", kind)
    node.run("ip", *make)
    before = node.run("ip", "-o", "-details", "link").stdout

    helper = start_helper(node)

    assert helper.wait(10) == 1
    (line,) = helper.stderr_text().splitlines()
    assert line.startswith("wesher: error: ")
    assert f"ip link del dev {INTERFACE}" in line
    assert before == node.run("ip", "-o", "-details", "link").stdout


# --- members that fail ------------------------------------------------------------------------------------------------


def test_a_failed_members_tunnel_is_kept_for_the_time_given(make_lab: Callable[[int], Lab]) -> None:
    """`status` says failed at once; peer, route and hosts line go only after --retain-failed, or at once with 0."""
    patient, hasty, victim = nodes = make_lab(3).nodes
    retained = int(bound(5))
    start(patient, "--retain-failed", str(retained))
    start(hasty, "--join", patient.address, "--retain-failed", "0")
    running = start(victim, "--join", patient.address)
    await_mesh(nodes)
    key, address = public_key(victim), managed_names(patient)[victim.name]

    running.kill()

    until(lambda: states(patient)[victim.name] == "failed", 20, "it counts as failed")
    until(lambda: key not in peer_keys(hasty), 3, "who retains nothing drops it")
    until(lambda: address not in overlay_routes(hasty) and victim.name not in managed_names(hasty), 1, "all of it")
    assert key in peer_keys(patient)
    assert address in overlay_routes(patient)
    assert managed_names(patient)[victim.name] == address
    until(lambda: key not in peer_keys(patient), 8, f"who retains for {retained} s drops it later")
    until(lambda: address not in overlay_routes(patient) and victim.name not in managed_names(patient), 1, "all of it")
    assert states(patient)[victim.name] == "failed"


def test_a_failed_member_that_comes_back_replaces_what_was_kept(make_lab: Callable[[int], Lab]) -> None:
    """With its new key, at once."""
    first, second = nodes = make_lab(2).nodes
    start(first)
    running = start_split(second, "--join", first.address)
    await_mesh(nodes)
    old = public_key(second)
    running.kill()
    until(lambda: states(first)[second.name] == "failed", 20, "it counts as failed")
    assert peer_keys(first) == {old}

    start_split(second)

    until(lambda: states(first)[second.name] == "alive", 10, "it is alive again")
    until(lambda: peer_keys(first) == {public_key(second)}, 2, "with its new key alone")
    await_mesh(nodes)


# --- signals ----------------------------------------------------------------------------------------------------------


def main_is(daemon: Daemon, word: str) -> bool:
    """Whether the main process is what `word` names, by now."""
    return word in command_line(daemon.pid)


def has_child(daemon: Daemon, word: str) -> bool:
    """Whether the main process has such a child."""
    return any(word in argv for argv in children(daemon.pid).values())


STAGES: dict[str, Callable[[Node, Daemon], object]] = {
    "started": lambda node, daemon: main_is(daemon, "--user"),
    "its log process runs": lambda node, daemon: has_child(daemon, "privhelper.logpipe"),
    "the link is made": lambda node, daemon: INTERFACE in node.links(),
    "the agent is started": lambda node, daemon: has_child(daemon, "wesher.runtime.agent"),
    "it has become the helper": lambda node, daemon: main_is(daemon, "privhelper"),
    "the control socket is made": lambda node, daemon: (node.inside.root / "run/wesher/wgoverlay.sock").exists(),
    "the address is set": lambda node, daemon: overlay_addresses(node),
    "it joins somebody who is not there": lambda node, daemon: "could not join" in daemon.stderr_text(),
}


@pytest.fixture(scope="module")
def bench() -> Iterator[Node]:
    """One machine for many starts, each of which must leave it as it was."""
    with Lab(1) as lab:
        yield lab.nodes[0]


@pytest.mark.parametrize(
    ("stage", "number"),
    [*((stage, signal.SIGTERM) for stage in STAGES), ("started", signal.SIGINT), ("the link is made", signal.SIGINT)],
)
def test_a_signal_at_any_stage_of_a_start_leaves_no_trace(bench: Node, stage: str, number: int) -> None:
    """Before there is anything to take down it may end by the signal itself; from the helper on it ends well."""
    before = bench.hosts()
    daemon = start(bench, "--join", NOBODY)
    until(lambda: STAGES[stage](bench, daemon), 10, stage)
    is_helper = main_is(daemon, "privhelper")

    daemon.signal(number)

    code = daemon.wait(12)
    assert code in ((0,) if is_helper else (0, -number, 130)), daemon.stderr_text()
    until(lambda: has_nothing_left(bench), 1, "nothing is left")
    until(lambda: not bench.inside.processes(), 2, "nobody is left")
    assert before == bench.hosts()
    if stage != "started":  # until it has read its own code, Ctrl-C gets the interpreter's answer
        assert "Traceback" not in daemon.stderr_text()


def test_further_signals_while_leaving_change_nothing(pair: tuple[Node, Running, Node], layout: Layout) -> None:
    """An operator who presses Ctrl-C five times gets the same graceful leave."""
    node, running, other = pair

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        with suppress(ProcessLookupError):  # it has left
            running.signal(number)

    assert running.wait(10) == 0
    until(lambda: states(other) == {node.name: "left"}, 2, "the other node knows that it has left")
    assert layout.leaves_no_trace(node)


def test_an_agent_that_is_signalled_itself_takes_the_launched_node_along(make_lab: Callable[[int], Lab]) -> None:
    """The helper has no other agent to wait for: it is a graceful leave of the whole."""
    first, second = nodes = make_lab(2).nodes
    running = start_mesh(nodes)[0]

    os.kill(running.agent_pid, signal.SIGTERM)

    assert running.wait(10) == 0
    assert has_nothing_left(first)
    until(lambda: states(second) == {first.name: "left"}, 2, "the other node knows that it has left")


def test_hanging_up_ends_nobody(pair: tuple[Node, Running, Node]) -> None:
    """SIGHUP is for reloading: to either half it says what that is and what not, and all goes on."""
    node, running, other = pair
    key = public_key(node)

    running.signal(signal.SIGHUP)

    until(lambda: "other options need a restart" in running.stderr_text(), 5, "it is said")
    os.kill(running.agent_pid, signal.SIGHUP)
    until(lambda: running.stderr_text().count("other options need a restart") == 2, 5, "it is said again")
    assert running.alive()
    assert key == public_key(node)
    until(lambda: node.ping(other.name), 5, "the tunnel carries")


def test_an_agent_that_joins_nobody_detaches_and_leaves_alike(make_lab: Callable[[int], Lab]) -> None:
    """In the split layout too, a contact that does not answer holds up no stop."""
    node = make_lab(1).nodes[0]
    split = start_split(node, "--join", NOBODY)
    until(lambda: "could not join" in split.agent.stderr_text(), 15, "it cannot join")
    key = public_key(node)

    split.agent.signal(signal.SIGTERM)
    assert split.agent.wait(10) == 0
    assert key == public_key(node)
    split.agent = start_agent(node, "--join", NOBODY)
    until(lambda: "could not join" in split.agent.stderr_text(), 15, "another cannot join")
    split.signal(signal.SIGTERM)

    assert (split.agent.wait(10), split.helper.wait(10)) == (0, 0)
    assert has_only_a_bare_link(node)


def test_a_helper_without_an_agent_ends_at_once(make_lab: Callable[[int], Lab]) -> None:
    """There is nobody to leave the mesh; what was set up is taken down."""
    node = make_lab(1).nodes[0]
    start_wireguard(node)
    helper = start_helper(node)
    assert public_key(node) != "(none)"

    helper.signal(signal.SIGTERM)

    assert helper.wait(5) == 0
    assert has_only_a_bare_link(node)
    assert helper.stderr_text() == ""


def test_an_agent_that_hangs_holds_up_a_stop_for_ten_seconds(make_lab: Callable[[int], Lab]) -> None:
    """Then everything is taken down without it, and the status says that it was no goodbye."""
    first, second = make_lab(2).nodes
    before = first.hosts()
    running = start_mesh([first, second])[0]
    os.kill(running.agent_pid, signal.SIGSTOP)

    running.signal(signal.SIGTERM)

    assert running.wait(20) == 1
    assert "did not say goodbye within 10 s" in running.stderr_text()
    assert has_nothing_left(first)
    assert before == first.hosts()


# --- who starts it ----------------------------------------------------------------------------------------------------


def test_an_ordinary_user_with_one_capability_can_run_it(make_lab: Callable[[int], Lab]) -> None:
    """Everything but the hosts file, with one warning about that; README has the command."""
    first, second = make_lab(2).nodes
    start(second)
    until(lambda: status(second), 10, "the other one is up")
    first.run("sh", "-c", PREPARE.partition("install")[0])
    first.run("install", "-d", "-o", str(ORDINARY_UID), "/var/lib/mine", "/run/mine", "/run/wireguard")
    first.write(KEY_FILE, CLUSTER_KEY_TEXT.encode() + b"\n")
    first.run("chown", str(ORDINARY_UID), KEY_FILE)
    before = first.hosts()

    daemon = first.start_program(
        *as_user(ORDINARY_UID, "net_admin"),
        *(wesher_command(), "--cluster-key-file", KEY_FILE, "--join", second.address),
        *("--state-dir", "/var/lib/mine", "--runtime-dir", "/run/mine"),
    )

    until(lambda: managed_names(second), 10, "it is in the mesh")
    there, here = managed_names(second)[first.name], derive(ip_network("10.0.0.0/8"), second.name.encode(), 0)
    until(lambda: first.ping(str(here)) and second.ping(there), 5, "both ping each other")
    (line,) = daemon.stderr_text().splitlines()
    assert line.startswith("wesher: warning: /etc/hosts cannot be opened (Permission denied)")
    for pid, argv in {daemon.pid: ["helper"], **daemon.children()}.items():
        fields = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert fields["Uid"].split() == [str(ORDINARY_UID)] * 4
        has_it = "helper" in argv or argv[0].endswith("wireguard-go")
        assert int(fields["CapEff"], 16) == (1 << 12 if has_it else 0), argv
    daemon.signal(signal.SIGTERM)
    assert daemon.wait(10) == 0
    assert has_nothing_left(first)
    assert before == first.hosts()


def test_without_a_hosts_file_it_runs_with_one_warning(layout: Layout, make_lab: Callable[[int], Lab]) -> None:
    """Names are then not written; everything else works."""
    first, second = make_lab(2).nodes
    first.run("mv", "/etc/hosts", "/etc/elsewhere")
    running = layout.start(first)
    layout.start(second, "--join", first.address)

    until(lambda: managed_names(second), 10, "it is in the mesh")
    until(lambda: second.ping(first.name), 5, "it answers")

    warnings = [line for line in running.stderr_text().splitlines() if "/etc/hosts" in line]
    assert len(warnings) == 1
    assert "No such file or directory" in warnings[0]
    assert running.alive()


# --- what a service manager hears -------------------------------------------------------------------------------------


@pytest.fixture
def manager(make_lab: Callable[[int], Lab]) -> tuple[Node, Daemon]:
    """A node, and one who listens as a service manager does."""
    node = make_lab(1).nodes[0]
    listener = node.start_program(sys.executable, "-c", LISTENER, NOTIFY_SOCKET)
    until(lambda: "listening" in listener.stdout_text(), 5, "somebody listens")
    return node, listener


def heard(listener: Daemon) -> list[tuple[float, str]]:
    """Each word that was heard, and when."""
    lines = [line.split(maxsplit=1) for line in listener.stdout_text().splitlines()[1:] if line.count(" ")]
    return [(float(at), word) for at, word in lines]


def count(listener: Daemon, word: str) -> int:
    """How often a word was heard."""
    return [heard_word for _, heard_word in heard(listener)].count(word)


def silence(node: Node, listener: Daemon) -> float:
    """Seconds since the watchdog was last fed, by the node's clock."""
    now = float(node.read("/proc/uptime").split()[0])
    return now - max(at for at, word in heard(listener) if word == "WATCHDOG=1")


def test_the_launched_node_says_when_it_is_ready_lives_and_stops(manager: tuple[Node, Daemon]) -> None:
    """The helper is the main process; it feeds the watchdog only while the agent asks it for something."""
    node, listener = manager
    node.write(KEY_FILE, CLUSTER_KEY_TEXT.encode() + b"\n")
    service = {"NOTIFY_SOCKET": NOTIFY_SOCKET, "WATCHDOG_USEC": "30000000"}
    daemon = node.start("--user", USERS, "--cluster-key-file", KEY_FILE, env=service)

    until(lambda: count(listener, "READY=1"), 10, "it is ready")
    assert status(node)["node"]["name"] == node.name
    fed = count(listener, "WATCHDOG=1")
    until(lambda: count(listener, "WATCHDOG=1") > fed, 10, "it feeds the watchdog once more")

    os.kill(daemon.agent_pid, signal.SIGSTOP)
    until(lambda: silence(node, listener) > 11, 17, "with the agent stopped nobody feeds the watchdog")
    os.kill(daemon.agent_pid, signal.SIGCONT)
    until(lambda: silence(node, listener) < 5, 10, "it is fed again")

    daemon.signal(signal.SIGHUP)
    until(lambda: count(listener, "READY=1") == 2, 5, "it is ready again after a reload")

    daemon.signal(signal.SIGTERM)
    until(lambda: count(listener, "STOPPING=1"), 5, "it says that it stops")
    assert daemon.wait(10) == 0
    assert [2, 1, 1] == [count(listener, word) for word in ("READY=1", "RELOADING=1", "STOPPING=1")]


def test_in_the_split_layout_each_half_speaks_for_itself(manager: tuple[Node, Daemon]) -> None:
    """The helper is ready when an agent may come, the agent when it is in the mesh; each has its own watchdog."""
    node, listener = manager
    service = {"NOTIFY_SOCKET": NOTIFY_SOCKET, "WATCHDOG_USEC": "2000000"}
    start_wireguard(node)
    helper = start_helper(node, env=service)
    until(lambda: count(listener, "READY=1") == 1, 10, "the helper is ready")
    until(lambda: count(listener, "WATCHDOG=1") > 2, 5, "it feeds its watchdog")
    helper.signal(signal.SIGTERM)
    until(lambda: count(listener, "STOPPING=1") == 1, 5, "the helper says that it stops")
    assert helper.wait(5) == 0

    start_helper(node)
    agent = start_agent(node, env=service)
    until(lambda: count(listener, "READY=1") == 2, 10, "the agent is ready")
    fed = count(listener, "WATCHDOG=1")
    until(lambda: count(listener, "WATCHDOG=1") > fed + 2, 10, "it feeds its watchdog")
    agent.signal(signal.SIGHUP)
    until(lambda: [count(listener, word) for word in ("RELOADING=1", "READY=1")] == [1, 3], 5, "it has reloaded")
    agent.signal(signal.SIGTERM)
    until(lambda: count(listener, "STOPPING=1") == 2, 5, "the agent says that it stops")
    assert agent.wait(5) == 0
