"""Every option does what the README's table says, seen on real nodes by what it changes: on the link, in WireGuard, in
the hosts file, in what the others see. What is wrong with one is in test_refusals."""

import json
import signal
from collections.abc import Callable
from functools import partial
from ipaddress import ip_network
from typing import Any

import pytest

from privhelper.addressing import derive
from tests.e2e.layouts import SPLIT, Layout
from tests.e2e.mesh import (
    AGENT_UID,
    CLUSTER_KEY_TEXT,
    INTERFACE,
    KEY_FILE,
    USERS,
    join_up,
    managed_names,
    overlay_addresses,
    peer_keys,
    rename,
    start,
    start_mesh,
    status,
)
from tests.e2e.split import as_user, helper_socket, start_agent, start_helper, start_wireguard
from tests.e2e.test_strangers import let_in
from tests.lab import Lab, Node, until
from tests.lab.lab import wesher_command
from wesher.mesh.node_meta import MetaForm, NodeMeta, encode

pytestmark = pytest.mark.root

HOSTS = b"127.0.0.1\tlocalhost\n"


@pytest.fixture
def pair(make_lab: Callable[[int], Lab]) -> list[Node]:
    """Two machines."""
    return make_lab(2).nodes


@pytest.fixture
def node(make_lab: Callable[[int], Lab]) -> Node:
    """One machine."""
    return make_lab(1).nodes[0]


def peers(node: Node, interface: str = INTERFACE) -> dict[str, dict[str, Any]]:
    """The others by name, as `wesher status` has them."""
    return {peer["name"]: peer for peer in status(node, interface)["peers"]}


def refusals(node: Node) -> dict[str, tuple[str, str]]:
    """Who is refused, by name, with the reasons for peer and hosts line."""
    return {entry["name"]: (entry["peer_reason"], entry["hosts_reason"]) for entry in status(node)["refused"]}


def mtu(node: Node, interface: str = INTERFACE) -> int:
    """The MTU of the overlay link."""
    (link,) = json.loads(node.run("ip", "-json", "link", "show", "dev", interface).stdout)
    return int(link["mtu"])


def listening(node: Node, port: int) -> set[str]:
    """The addresses on which somebody listens for gossip, UDP and TCP."""
    lines = node.run("ss", "-Hlntu", "sport", "=", f":{port}").stdout.splitlines()
    return {f"{fields[0]} {fields[4].rpartition(':')[0]}" for fields in map(str.split, lines)}


def in_tunnel(node: Node, other: Node, interface: str = INTERFACE) -> bool:
    """Whether `other`'s overlay address answers through the tunnel."""
    return node.ping(peers(node, interface)[other.name]["overlay_addr"])


def await_tunnels(nodes: list[Node]) -> None:
    """Until each reaches each other by overlay address, whatever the hosts files say."""
    for node in nodes:
        for other in nodes:
            if other is not node:
                until(partial(in_tunnel, node, other), 15, f"{node.name} reaches {other.name} through the overlay")


# --- the link and WireGuard


def test_interface_mtu_keepalive_and_ports_are_the_ones_given(pair: list[Node], layout: Layout) -> None:
    """On the link, in WireGuard and on the gossip sockets; the ports go for the whole mesh."""
    ports = ("--wireguard-port", "51999", "--cluster-port", "7950")
    options = ("--interface", "wg7", "--mtu", "1380", "--keepalive", "17", *ports)
    first, second = pair

    layout.start(first, *options)
    layout.start(second, "--join", first.address, *options)

    for node, other in ((first, second), (second, first)):
        # With a keepalive both begin a handshake in the same moment; where both get in each other's way, WireGuard
        # begins again every 5 s.
        until(partial(in_tunnel, node, other, "wg7"), 30, f"{node.name} reaches {other.name}")
        assert mtu(node, "wg7") == 1380
        assert node.run("wg", "show", "wg7", "listen-port").stdout.strip() == "51999"
        (keepalive,) = node.run("wg", "show", "wg7", "persistent-keepalive").stdout.splitlines()
        assert keepalive.split()[1] == "17"
        (endpoint,) = node.run("wg", "show", "wg7", "endpoints").stdout.splitlines()
        assert endpoint.split()[1] == f"{other.address}:51999"
        assert peers(node, "wg7")[other.name]["gossip_addr"] == f"{other.address}:7950"
        assert (listening(node, 7950), listening(node, 7946)) == ({"udp *", "tcp *"}, set())
        assert set(managed_names(node, "wg7")) == {other.name}
        assert node.run("test", "-S", "/run/wesher/wg7.sock", check=False).returncode == 0
        assert json.loads(node.read("/var/lib/wesher/wg7.json"))["ClusterKey"] == CLUSTER_KEY_TEXT


def test_what_is_not_given_is_as_in_the_original(pair: list[Node]) -> None:
    """Interface wgoverlay, MTU 1420, ports 51820 and 7946, no keepalive, a /32 out of 10.0.0.0/8."""
    first, second = pair
    start_mesh(pair)

    assert mtu(first) == 1420
    assert first.run("wg", "show", INTERFACE, "listen-port").stdout.strip() == "51820"
    assert first.run("wg", "show", INTERFACE, "persistent-keepalive").stdout.split()[1] == "off"
    assert listening(first, 7946) == {"udp *", "tcp *"}
    assert overlay_addresses(first) == {"10.59.73.60"}
    assert first.run("wg", "show", INTERFACE, "allowed-ips").stdout.split()[1] == "10.59.76.237/32"
    assert peers(first)["node2"]["gossip_addr"] == f"{second.address}:7946"


@pytest.mark.parametrize("net", ["10.64.0.0/12", "172.20.1.2/16", "10.9.0.0/21", "fd00:77::/32", "fd00:77::/61"])
def test_addresses_come_from_any_overlay_net(pair: list[Node], net: str) -> None:
    """Also prefixes that are no multiple of 8, which the original refuses, and with host bits, which it clears."""
    start(pair[0], "--overlay-net", net)
    start(pair[1], "--overlay-net", net, "--join", pair[0].address)

    await_tunnels(pair)
    for node in pair:
        own = derive(ip_network(net, strict=False), node.name.encode(), 0)
        assert overlay_addresses(node) == {str(own)}


# --- the hosts file


def test_the_hosts_file_is_the_one_given(pair: list[Node], layout: Layout) -> None:
    """/etc/hosts stays as it is, and so do the other's lines in the one that is managed."""
    before = [node.hosts() for node in pair]
    for node in pair:
        node.write("/run/names", HOSTS, mode=0o644)
    layout.start(pair[0], "--hosts-file", "/run/names")
    layout.start(pair[1], "--hosts-file", "/run/names", "--join", pair[0].address)

    line = b"10.59.76.237\tnode2\t# ! managed automatically by wesher interface wgoverlay\n"
    until(lambda: pair[0].read("/run/names") == HOSTS + line, 10, "node2 stands in the file given")
    assert [node.hosts() for node in pair] == before


def test_without_etc_hosts_no_name_is_written(pair: list[Node], layout: Layout) -> None:
    """The tunnels are there, the file is not touched."""
    before = [node.hosts() for node in pair]

    layout.start(pair[0], "--no-etc-hosts")
    layout.start(pair[1], "--no-etc-hosts", "--join", pair[0].address)

    await_tunnels(pair)
    assert [node.hosts() for node in pair] == before
    assert refusals(pair[0]).get("node2", ("", ""))[0] == ""


def test_a_suffix_keeps_all_names_within_it(make_lab: Callable[[int], Lab], layout: Layout) -> None:
    """A plain name stands under it, one inside stands as it is, one outside costs its line and keeps its tunnel."""
    first, plain, inside, outside = make_lab(4).nodes
    for node, name in ((inside, "db.Mesh.example"), (outside, "db.elsewhere.example")):
        rename(node, name)
    layout.start(first, "--hosts-suffix", "mesh.example")
    for node in (plain, inside, outside):
        start(node, "--join", first.address)

    until(lambda: len(peer_keys(first)) == 3, 15, "all are peers")

    until(lambda: set(managed_names(first)) == {"node2.mesh.example", "db.Mesh.example"}, 10, "two names stand there")
    assert refusals(first) == {"db.elsewhere.example": ("", "name lies outside --hosts-suffix")}
    assert first.resolve("node2.mesh.example") == derive(ip_network("10.0.0.0/8"), b"node2", 0).compressed
    everybody = {"node1", "db.Mesh.example", "db.elsewhere.example"}
    until(lambda: everybody == set(managed_names(plain)), 10, "all stand there without it")
    outsider = peers(first)["db.elsewhere.example"]["overlay_addr"]
    until(lambda: first.ping(outsider), 5, "the one outside is reached by its address")


# --- peers


def test_beyond_max_peers_a_member_is_refused_and_named(lab: Lab, layout: Layout) -> None:
    """Who is in force stays."""
    first, second, third = lab.nodes
    join_up(layout.start, [first, second], "--max-peers", "1")
    (key,) = peer_keys(first)

    start(third, "--join", first.address)

    until(lambda: refusals(first), 10, "one is refused")
    assert refusals(first) == {third.name: ("more members than --max-peers", "peer refused")}
    assert (peer_keys(first), set(managed_names(first))) == ({key}, {second.name})
    assert status(first)["cluster"]["size"] == 3


def test_the_form_of_the_metadata_is_the_one_given(lab: Lab) -> None:
    """Each in its own, seen by the others; without Go members auto is the newer one."""
    first, second, third = lab.nodes
    start(first)
    start(second, "--join", first.address, "--meta-format", "0.2")
    start(third, "--join", first.address, "--meta-format", "0.3")

    forms = {first.name: "0.3", second.name: "0.2", third.name: "0.3"}
    for node in lab.nodes:
        others = {name: form for name, form in forms.items() if name != node.name}
        until(lambda n=node, o=others: {p: peers(n)[p]["meta_format"] for p in peers(n)} == o, 10, "as it was given")
    await_tunnels(lab.nodes)


def test_auto_follows_the_go_members_that_are_there(lab: Lab) -> None:
    """A member that announces as Go 0.2.6 does, without a claim, can read nothing else."""
    first, second, go = lab.nodes
    start_mesh([first, second])
    assert peers(first)[second.name]["meta_format"] == "0.3"
    address = derive(ip_network("10.0.0.0/8"), b"old", 0)
    let_in(go, {"old": encode(NodeMeta(address, b"\x42" * 32, MetaForm.V02, None))}, first.address)

    until(lambda: peers(first)[second.name]["meta_format"] == "0.2", 15, "node2 speaks 0.2")
    until(lambda: peers(second)[first.name]["meta_format"] == "0.2", 15, "node1 speaks 0.2")
    await_tunnels([first, second])


@pytest.mark.parametrize("profiles", [("lan", "lan"), ("wan", "wan"), ("mesh", "wan")])
def test_every_profile_makes_a_mesh(pair: list[Node], profiles: tuple[str, str]) -> None:
    """Timings are local: mixed ones get along."""
    start(pair[0], "--profile", profiles[0])
    start(pair[1], "--profile", profiles[1], "--join", pair[0].address)

    await_tunnels(pair)


# --- addresses


def test_it_binds_and_announces_the_address_given(pair: list[Node], layout: Layout) -> None:
    """By --bind-addr or the first address of --bind-iface; nothing listens on the others."""
    first, second = pair
    second.run("ip", "address", "add", "192.168.77.102/24", "dev", "eth0")
    layout.start(first, "--bind-addr", first.address)
    layout.start(second, "--bind-iface", "eth0", "--join", first.address)

    await_tunnels(pair)
    for node, other in ((first, second), (second, first)):
        assert listening(node, 7946) == {f"udp {node.address}", f"tcp {node.address}"}
        assert peers(node)[other.name]["gossip_addr"] == f"{other.address}:7946"


def test_a_public_address_is_found_bound_and_announced(pair: list[Node]) -> None:
    """As the original does, though there is a private one; and the endpoints are the public ones."""
    for number, node in enumerate(pair, start=1):
        node.run("ip", "address", "add", f"8.8.8.{number}/24", "dev", "eth0")

    start(pair[0])
    start(pair[1], "--join", "8.8.8.1")

    await_tunnels(pair)
    assert listening(pair[0], 7946) == {"udp 8.8.8.1", "tcp 8.8.8.1"}
    assert peers(pair[0])["node2"]["gossip_addr"] == "8.8.8.2:7946"
    assert peers(pair[0])["node2"]["endpoint"] == "8.8.8.2"


def test_an_address_behind_nat_can_be_announced(pair: list[Node], layout: Layout) -> None:
    """The others see it in gossip and send WireGuard's packets there, whatever is bound."""
    first, second = pair
    first.run("ip", "address", "add", "192.168.77.101/24", "dev", "eth0")
    # its answers come from there, as they would through a NAT: an endpoint is where the last good packet came from
    first.run("ip", "route", "replace", "192.168.77.0/24", "dev", "eth0", "src", "192.168.77.101")

    layout.start(first, "--advertise-addr", "192.168.77.101")
    layout.start(second, "--join", first.address)

    until(partial(in_tunnel, second, first), 15, "node2 reaches node1")
    assert peers(second)[first.name]["gossip_addr"] == "192.168.77.101:7946"
    assert status(first)["node"]["gossip_addr"] == "192.168.77.101:7946"
    (endpoint,) = second.run("wg", "show", INTERFACE, "endpoints").stdout.splitlines()
    assert endpoint.split()[1] == "192.168.77.101:51820"
    assert listening(first, 7946) == {"udp *", "tcp *"}


def test_the_bind_address_can_be_the_name(pair: list[Node]) -> None:
    """--ip-as-name: the overlay address is derived from it; it gets no hosts line, being no host name."""
    first, second = pair
    start(first, "--ip-as-name", "--bind-addr", first.address)
    start(second, "--join", first.address)

    until(lambda: peer_keys(second), 15, "it is a peer")
    own = derive(ip_network("10.0.0.0/8"), first.address.encode(), 0)
    assert (status(first)["node"]["name"], overlay_addresses(first)) == (first.address, {str(own)})
    until(lambda: second.ping(str(own)), 5, "and is reached")
    assert (managed_names(second), refusals(second)) == ({}, {first.address: ("", "name is an address")})
    assert set(managed_names(first)) == {second.name}


def test_without_a_bind_address_the_host_name_stays(node: Node) -> None:
    """As in the original: every address of the host would otherwise be called 0.0.0.0."""
    start(node, "--ip-as-name")

    until(lambda: status(node)["node"]["name"] == node.name, 10, "it has its host's name")


@pytest.mark.parametrize(
    "contacts",
    ["node1-underlay", "node1-underlay:7946", "192.168.77.99,192.168.77.1", "fd77::1", "[fd77::1]:7946,"],
)
def test_members_are_joined_by_name_or_address_with_or_without_port(pair: list[Node], contacts: str) -> None:
    """One that answers is enough."""
    start(pair[0])
    until(lambda: status(pair[0]), 10, "node1 is up")

    start(pair[1], "--join", contacts)

    until(lambda: set(peers(pair[1])) == {"node1"}, 15, "joined")


def test_whom_nobody_answers_tries_again_and_says_so(pair: list[Node]) -> None:
    """In the original's words, as long as it takes."""
    daemon = start(pair[1], "--join", pair[0].address)
    said = "could not join cluster, retrying in "
    until(lambda: daemon.stderr_text().count(said) >= 2, 15, "it has tried twice")

    start(pair[0])

    until(lambda: set(peers(pair[1])) == {"node1"}, 30, "joined")


# --- files, users, output


def test_the_directories_are_the_ones_given(node: Node) -> None:
    """Made if need be, and given to the agent; the commands take the same option."""
    daemon = start(node, "--state-dir", "/var/lib/a/state", "--runtime-dir", "/run/a/sockets")
    until(lambda: node.wesher("status", "--runtime-dir", "/run/a/sockets"), 10, "up")

    assert json.loads(node.read("/var/lib/a/state/wgoverlay.json"))["ClusterKey"] == CLUSTER_KEY_TEXT
    owners = {path: (node.inside.root / path).stat() for path in ("var/lib/a/state", "run/a/sockets")}
    assert {path: info.st_uid for path, info in owners.items()} == dict.fromkeys(owners, AGENT_UID)
    assert {path: info.st_mode & 0o777 for path, info in owners.items()} == {
        "var/lib/a/state": 0o700,
        "run/a/sockets": 0o755,
    }
    assert node.wesher("status", check=False).returncode == 3
    daemon.signal(signal.SIGTERM)
    assert daemon.wait(15) == 0
    assert node.run("ls", "/run", "/var/lib").stdout.count("wesher") == 0


@pytest.mark.parametrize("users", ["one:two", "61005:two", "one:61006", "one"])
def test_users_are_given_by_name_or_number(node: Node, users: str) -> None:
    """A helper that is not named is the default one."""
    for name, number in (("one", 61005), ("two", 61006), ("wesher-priv", 61006)):
        node.run("useradd", "--system", "--no-create-home", "--non-unique", "--uid", str(number), name)

    daemon = node.start("--user", users)

    until(lambda: status(node), 10, "up")
    uids = {(node.inside.root / f"/proc/{pid}").stat().st_uid for pid in (daemon.agent_pid, daemon.pid)}
    assert uids == {61005, 61006}


def test_the_command_line_wins_over_the_environment(node: Node) -> None:
    """And what only the environment has counts too."""
    variables = {"WESHER_MTU": "1300", "WESHER_KEEPALIVE": "9", "WESHER_INTERFACE": "wg8", "WESHER_NO_ETC_HOSTS": "1"}

    daemon = node.start("--user", USERS, "--mtu", "1400", env={**variables, "WESHER_CLUSTER_KEY": CLUSTER_KEY_TEXT})

    until(lambda: status(node, "wg8"), 10, "up")
    assert mtu(node, "wg8") == 1400
    assert node.wesher("key", "show", "--interface", "wg8").stdout.strip() == CLUSTER_KEY_TEXT
    assert daemon.stderr_text() == ""


def test_in_the_split_layout_one_environment_serves_both_programs(node: Node) -> None:
    """Each takes its own and passes over the other's; the command line wins in both."""
    variables = {"WESHER_MTU": "1300", "WESHER_KEEPALIVE": "9", "WESHER_JOIN": "192.168.77.99", "WESHER_LINGER": "60"}
    start_wireguard(node)

    helper = start_helper(node, "--mtu", "1400", env=variables)
    agent = start_agent(node, "--mtu", "1400", "--join", node.address, env=variables)

    until(lambda: status(node), 10, "up")
    assert mtu(node) == 1400
    assert helper.stderr_text() == agent.stderr_text() == ""


def test_a_cluster_key_comes_as_a_credential(node: Node, layout: Layout) -> None:
    """systemd's LoadCredential=cluster-key: the directory is named in the environment; what is typed wins."""
    node.run("install", "-d", "-m", "755", "/run/credentials")
    node.write("/run/credentials/cluster-key", CLUSTER_KEY_TEXT.encode(), mode=0o400)
    environment = {"CREDENTIALS_DIRECTORY": "/run/credentials"}
    if layout is SPLIT:
        node.run("chown", str(AGENT_UID), "/run/credentials/cluster-key")
        start_wireguard(node)
        start_helper(node)
        agent = (*as_user(AGENT_UID), wesher_command(), "--helper-socket", helper_socket())
        node.start_program(*agent, env=environment)
    else:
        node.start("--user", USERS, env=environment)

    until(lambda: node.wesher("key", "show").stdout.strip() == CLUSTER_KEY_TEXT, 10, "the key is the credential")


def test_a_key_that_is_typed_wins_over_the_credential(node: Node) -> None:
    """The nearest word counts."""
    node.run("install", "-d", "-m", "755", "/run/credentials")
    node.write("/run/credentials/cluster-key", b"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=")

    node.start("--user", USERS, "--cluster-key", CLUSTER_KEY_TEXT, env={"CREDENTIALS_DIRECTORY": "/run/credentials"})

    until(lambda: node.wesher("key", "show").stdout.strip() == CLUSTER_KEY_TEXT, 10, "the key is the one typed")


def test_init_from_the_environment_acts_at_every_start_and_warns(node: Node) -> None:
    """As in the original it forgets each time; a unit file that keeps it set is a mistake that shows."""
    keys = []
    for _ in range(2):
        daemon = node.start("--user", USERS, env={"WESHER_INIT": "true"})
        until(lambda: status(node), 10, "up")
        warning = "wesher: warning: WESHER_INIT is set: every start begins a new cluster; unset it after the first"
        assert daemon.stderr_text().splitlines()[0] == warning
        keys.append(node.wesher("key", "show").stdout.strip())
        daemon.signal(signal.SIGTERM)
        assert daemon.wait(15) == 0

    assert keys[0] != keys[1]
    assert json.loads(node.read("/var/lib/wesher/wgoverlay.json.old-1"))["ClusterKey"] == keys[0]


@pytest.mark.parametrize("value", ["0", "false"])
def test_a_switch_can_be_off_in_the_environment(node: Node, value: str) -> None:
    """It begins no new cluster, and manages the hosts file."""
    start(node, "--init")
    until(lambda: status(node), 10, "up")
    assert node.daemons[0].stderr_text() == ""
    node.daemons[0].signal(signal.SIGTERM)
    assert node.daemons[0].wait(15) == 0

    daemon = node.start("--user", USERS, env={"WESHER_INIT": value, "WESHER_NO_ETC_HOSTS": value})

    until(lambda: node.wesher("key", "show").stdout.strip() == CLUSTER_KEY_TEXT, 10, "up with the same key")
    assert daemon.stderr_text() == ""


@pytest.mark.parametrize(
    "words", [("agent",), ("--log-level", "info", "agent"), ("--log-level=info", "agent"), ("--log-level", "info")]
)
def test_the_daemon_can_be_called_by_its_command(node: Node, words: tuple[str, ...]) -> None:
    """`agent` is what no command means; the log level may stand before it or alone, as in the original."""
    node.write(KEY_FILE, CLUSTER_KEY_TEXT.encode())

    daemon = node.start(*words, "--user", USERS, "--cluster-key-file", KEY_FILE)

    until(lambda: status(node), 10, "up")
    until(lambda: ("INFO agent: " in daemon.stderr_text()) == (words != ("agent",)), 10, "the level is heard")


def test_every_line_of_a_json_log_is_json(node: Node) -> None:
    """Both halves', each with time, level, who, and what."""
    start_wireguard(node)
    helper = start_helper(node, "--log-format", "json", "--log-level", "info")
    agent = start_agent(node, "--log-format", "json", "--log-level", "info")
    until(lambda: status(node), 10, "up")
    helper.signal(signal.SIGTERM)
    assert (agent.wait(15), helper.wait(15)) == (0, 0)

    for daemon, name in ((helper, "helper"), (agent, "agent")):
        lines = [json.loads(line) for line in daemon.stderr_text().splitlines()]
        assert {line["logger"] for line in lines} == {name}
        assert all({"time", "level", "logger", "message"} == set(line) for line in lines)


def test_version_and_help_are_answers(node: Node) -> None:
    """Status 0, on standard output; `agent` takes both too."""
    for words in (("--version",), ("agent", "--version"), ("--log-level", "debug", "--version")):
        done = node.wesher(*words)
        assert (done.stdout.startswith("v"), done.stderr) == (True, "")
    for words in (("--help",), ("-h",), ("agent", "--help"), ("agent", "-h")):
        done = node.wesher(*words)
        assert (done.stdout.startswith("Usage: wesher"), done.stderr) == (True, "")
    shown = node.wesher("agent", "--help").stdout
    assert "--cluster-key KEY" in shown
    assert "--ip-as-name" not in shown
