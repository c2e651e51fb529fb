"""`wesher check` on whole machines: every error is the line that a start would end with, a good host has none, and the
machine and whoever runs on it stay as they are."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from tests.e2e.mesh import (
    AGENT_UID,
    CLUSTER_KEY_TEXT,
    HELPER_UID,
    INTERFACE,
    KEY_FILE,
    USERS,
    public_key,
    start,
    status,
)
from tests.e2e.split import PREPARE, as_user, helper_socket, start_agent, start_split
from tests.e2e.test_refusals import everything, occupy, plug_in
from tests.lab import Daemon, Lab, Node, until
from tests.lab.lab import wesher_command

pytestmark = pytest.mark.root

WESHER = wesher_command()
STATE_FILE = "/var/lib/wesher/wgoverlay.json"
SOMEBODY = 61003


@pytest.fixture
def node(make_lab: Callable[[int], Lab]) -> Node:
    """One machine."""
    return make_lab(1).nodes[0]


class Checked(NamedTuple):
    """Exit status, and what was said of each thing."""

    code: int
    findings: dict[str, list[tuple[str, str]]]

    def of(self, level: str) -> dict[str, str]:
        """Thing to text, of one level; at most one each."""
        found = [(what, text) for what, said in self.findings.items() for at, text in said if at == level]
        assert len(dict(found)) == len(found)
        return dict(found)


def check(node: Node, *arguments: str, by: tuple[str, ...] = (), env: Mapping[str, str] | None = None) -> Checked:
    """A check, `by` whom; it changes nothing."""
    before = everything(node)
    program = node.start_program(*by, WESHER, "check", "--json", *arguments, env=env)
    code = program.wait(30)
    assert everything(node) == before
    assert program.stderr_text() == ""
    findings: dict[str, list[tuple[str, str]]] = {}
    for finding in json.loads(program.stdout_text())["findings"]:
        findings.setdefault(finding["what"], []).append((finding["level"], finding["text"]))
    return Checked(code, findings)


def last_words(daemon: Daemon) -> tuple[int, str]:
    """Exit status and the one line of a start that fails."""
    code = daemon.wait(15)
    (line,) = daemon.stderr_text().splitlines()
    return code, line.removeprefix("wesher: error: ")


def test_a_good_host_has_nothing_but_good_lines(node: Node) -> None:
    """Then it starts, as what was told."""
    node.write(KEY_FILE, CLUSTER_KEY_TEXT.encode())

    checked = check(node, "--user", USERS, "--cluster-key-file", KEY_FILE)

    assert (checked.code, checked.of("warning"), checked.of("error")) == (0, {}, {})
    good = checked.of("ok")
    assert good["users"] == f"the agent is uid {AGENT_UID}, the helper {HELPER_UID}"
    assert good["address"].startswith(f"0.0.0.0 is bound, {node.address} announced: ")
    assert good["wireguard"].startswith("wireguard-go 0.")
    lines = node.wesher("check", "--user", USERS, "--cluster-key-file", KEY_FILE).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * len(good)
    start(node)
    until(lambda: status(node), 10, "up")
    assert good["overlay"] == f"node1 is {status(node)['node']['overlay_addr']} in 10.0.0.0/8"


# --- what would end a start


def nothing(_: Node) -> None:
    """As it is."""


def without_ipv6(node: Node) -> None:
    """Disabled by the administrator."""
    for which in ("all", "default"):
        node.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{which}/disable_ipv6")


def rubbish(node: Node) -> None:
    """A state file that somebody wrote over."""
    node.run("mkdir", "-m", "700", "/var/lib/wesher")
    node.write(STATE_FILE, b"rubbish")


def read_only(node: Node) -> None:
    """A state directory that cannot be given away."""
    node.run("mkdir", "/var/lib/wesher")
    node.run("mount", "-t", "tmpfs", "-o", "ro,mode=0755", "tmpfs", "/var/lib/wesher")


def in_the_sockets_place(node: Node) -> None:
    """A directory, which an agent that is no longer itself may have made where it has no sandbox."""
    node.run("install", "-d", "-o", str(AGENT_UID), "/run/wesher", "/run/wesher/wgoverlay.sock")


@pytest.mark.parametrize(
    ("spoil", "arguments", "what"),
    [
        (nothing, ("--user", "nobody-such:61002"), "users"),
        (nothing, ("--user", "61001:61001"), "users"),
        (nothing, ("--bind-iface", "none0"), "address"),
        (nothing, ("--bind-addr", "192.0.2.77"), "gossip port"),
        (nothing, ("--cluster-port", "1023"), "gossip port"),
        (lambda node: occupy(node, "SOCK_DGRAM", 7946), (), "gossip port"),
        (lambda node: occupy(node, "SOCK_STREAM", 7946), (), "gossip port"),
        (lambda node: occupy(node, "SOCK_DGRAM", 51820), (), "wireguard port"),
        (nothing, ("--wireguard", "kernel"), "wireguard"),
        (lambda node: node.run("mount", "--bind", "/dev/null", "/usr/bin/wireguard-go"), (), "wireguard"),
        (lambda node: node.run("mount", "-t", "tmpfs", "tmpfs", "/dev/net"), (), "wireguard"),
        (lambda node: node.run("ip", "link", "add", INTERFACE, "type", "bridge"), (), "interface"),
        (lambda node: plug_in(node, "10.4.4.1/16"), ("--overlay-net", "10.4.0.0/16"), "overlay"),
        (without_ipv6, ("--overlay-net", "fd00:77::/32"), "overlay"),
        (nothing, ("--state-dir", "/etc"), "state directory"),
        (lambda node: node.run("install", "-d", "-o", "61003", "/var/lib/wesher"), (), "state directory"),
        (read_only, ("--cluster-key-file", KEY_FILE), "state directory"),
        (nothing, ("--runtime-dir", "/etc/hosts"), "runtime directory"),
        (in_the_sockets_place, (), "runtime directory"),
        (rubbish, (), "state file"),
        (nothing, ("--cluster-key-file", "/run/none"), "cluster key"),
        (nothing, ("--helper-socket", "/run/none.sock"), "helper socket"),
    ],
)
def test_an_error_is_the_line_that_a_start_would_end_with(
    node: Node, spoil: Callable[[Node], object], arguments: tuple[str, ...], what: str
) -> None:
    """One thing is wrong, one error names it, and the start agrees."""
    node.write(KEY_FILE, CLUSTER_KEY_TEXT.encode())
    spoil(node)
    users = () if "--user" in arguments else ("--user", USERS)

    checked = check(node, *users, *arguments)

    assert (checked.code, list(checked.of("error"))) == (1, [what])
    assert last_words(node.start(*users, *arguments)) == (1, checked.of("error")[what])


def test_a_new_key_that_could_not_be_kept_is_an_error(node: Node) -> None:
    """With a key given it is a warning."""
    node.run("mkdir", "/var/lib/wesher")
    options = f"ro,mode=0700,uid={AGENT_UID},gid={AGENT_UID}"
    node.run("mount", "-t", "tmpfs", "-o", options, "tmpfs", "/var/lib/wesher")
    node.write(KEY_FILE, CLUSTER_KEY_TEXT.encode())

    assert list(check(node, "--user", USERS).of("error")) == ["state file"]
    checked = check(node, "--user", USERS, "--cluster-key-file", KEY_FILE)
    assert (checked.code, list(checked.of("warning"))) == (0, ["state file"])
    assert last_words(node.start("--user", USERS))[0] == 1


def test_a_network_over_the_first_address_costs_that_address(node: Node) -> None:
    """A start takes the next of its sixteen, and says so as the check does."""
    plug_in(node, "10.59.73.1/24")
    checked = check(node, "--user", USERS)
    assert (checked.code, set(checked.of("warning"))) == (0, {"overlay"})
    assert "10.59.73.0/24; members whose" in checked.of("warning")["overlay"]
    assert "this node cannot have its first, 10.59.73.60" in checked.of("warning")["overlay"]


def test_what_only_costs_something_is_a_warning(node: Node) -> None:
    """A start would say it too, and go on."""
    plug_in(node, "10.1.2.1/24")

    checked = check(node, "--user", USERS, "--hosts-file", "/none", env={"WESHER_JION": "node2"})

    assert checked.code == 0
    assert set(checked.of("warning")) == {"environment", "overlay", "hosts file"}
    assert "inside the overlay net 10.0.0.0/8: 10.1.2.0/24; members whose" in checked.of("warning")["overlay"]


def test_wrong_usage_is_one_line(node: Node) -> None:
    """Status 2, and nothing is looked at."""
    done = node.wesher("check", "--mtu", "1", check=False)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


# --- who checks


def test_any_user_may_check_a_start_by_root(node: Node) -> None:
    """What he may not see is a warning that says so; what he sees to be wrong is an error all the same."""
    start(node)
    until(lambda: status(node), 10, "up")
    node.daemons[0].signal(signal.SIGTERM)
    assert node.daemons[0].wait(15) == 0
    options = ("--user", USERS, "--cluster-key-file", KEY_FILE)

    checked = check(node, *options, by=as_user(SOMEBODY))

    assert (checked.code, checked.of("error")) == (0, {})
    warnings = checked.of("warning")
    assert set(warnings) >= {"privilege", "hosts file", "state directory", "cluster key"}
    assert all(f"uid {SOMEBODY}" in text and "use sudo" in text for text in warnings.values())
    node.run("ip", "link", "add", INTERFACE, "type", "bridge")
    assert list(check(node, *options, by=as_user(SOMEBODY)).of("error")) == ["interface"]


def test_a_user_who_may_start_it_checks_his_own_start(node: Node) -> None:
    """With CAP_NET_ADMIN, and directories of his."""
    node.run("sh", "-c", PREPARE)
    node.run("install", "-d", "-o", str(HELPER_UID), "/run/mine")
    options = ("--state-dir", "/run/mine/state", "--runtime-dir", "/run/mine/run")
    by = as_user(HELPER_UID, "net_admin")

    checked = check(node, *options, by=by)

    assert (checked.code, checked.of("error"), set(checked.of("warning"))) == (0, {}, {"hosts file"})
    assert checked.of("ok")["users"] == f"the agent is uid {HELPER_UID}, the helper {HELPER_UID}"
    daemon = node.start_program(*by, WESHER, *options)
    until(lambda: status_in(node, "/run/mine/run"), 10, "it starts")
    assert checked.of("warning")["hosts file"] in daemon.stderr_text()
    lacking = check(node, by=as_user(SOMEBODY, "net_admin"))
    assert (lacking.code, set(lacking.of("error")) >= {"wireguard"}) == (1, True)


def status_in(node: Node, runtime_dir: str) -> object:
    """Whether a daemon answers there."""
    return json.loads(node.wesher("status", "--json", "--runtime-dir", runtime_dir).stdout)


# --- who runs


def test_a_running_daemon_is_named_and_not_disturbed(node: Node) -> None:
    """Its ports and its link are no errors: another start would have them. Somebody else's still are."""
    daemon = start(node)
    until(lambda: node.read(STATE_FILE) and status(node), 10, "up")
    key = public_key(node)
    options = ("--user", USERS, "--cluster-key-file", KEY_FILE)

    checked = check(node, *options)

    assert (checked.code, checked.of("warning"), checked.of("error")) == (0, {}, {})
    good = checked.of("ok")
    assert good["daemon"].startswith(f"wesher runs on interface {INTERFACE} (/run/wesher/{INTERFACE}.sock answers); ")
    assert good["gossip port"] == good["wireguard port"] == "in use, and not looked at: wesher runs"
    another = check(node, *options, "--interface", "wg7")
    assert set(another.of("error")) == {"gossip port", "wireguard port"}
    ordinary = check(node, *options, by=as_user(SOMEBODY))
    assert (ordinary.code, ordinary.of("error")) == (0, {})
    assert set(ordinary.of("warning")) >= {"daemon", "gossip port", "wireguard port", "interface"}
    assert (daemon.alive(), daemon.stderr_text(), public_key(node)) == (True, "", key)
    assert status(node)["node"]["public_key"] == key


def test_a_helper_that_waits_for_its_agent_is_not_disturbed(node: Node) -> None:
    """The next agent finds its tunnels: a connection by the check would have been a session."""
    split = start_split(node)
    until(lambda: status(node), 10, "up")
    key = public_key(node)
    split.agent.signal(signal.SIGKILL)
    split.agent.wait(5)
    until(split.helper.stderr_text, 5, "the helper has said that its agent is gone")
    said = split.helper.stderr_text()

    checked = check(node, "--helper-socket", helper_socket(), by=as_user(AGENT_UID))

    assert (checked.code, checked.of("warning"), checked.of("error")) == (0, {}, {})
    assert "helper socket" in check(node, "--helper-socket", helper_socket(), by=as_user(SOMEBODY)).of("error")
    assert (split.helper.alive(), split.helper.stderr_text(), public_key(node)) == (True, said, key)
    start_agent(node)
    until(lambda: status(node)["node"]["public_key"] == key, 10, "the next agent takes over")


def test_who_is_to_be_joined_is_tried_and_not_disturbed(lab: Lab) -> None:
    """A daemon that answers is good, a machine without one a warning, and so is a name that nobody knows."""
    first, second, third = lab.nodes
    daemon = start(first)
    until(lambda: status(first), 10, "up")
    second.write(KEY_FILE, CLUSTER_KEY_TEXT.encode())
    contacts = ",".join((first.address, third.address, "nobody.invalid", second.address))

    checked = check(second, "--user", USERS, "--cluster-key-file", KEY_FILE, "--join", contacts)

    assert checked.code == 0
    answers, silent, unknown, own = checked.findings["join"]
    assert answers == ("ok", f"{first.address} answers as {first.address}:7946, TCP and UDP and is heard here")
    assert silent[0] == "warning"
    assert silent[1].startswith(f"{third.address} does not answer ({third.address}:7946: Connection refused); ")
    assert unknown[0] == "warning"
    assert unknown[1].startswith("nobody.invalid cannot be resolved: ")
    assert own == ("ok", f"{second.address} is this node itself, and passed over")
    assert (daemon.alive(), daemon.stderr_text(), status(first)["cluster"]["size"]) == (True, "", 1)
