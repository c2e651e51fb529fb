"""What lies between two nodes: each drop and each narrow path is named, before the start by `wesher check`, later by
`wesher status --check`, with what opens it."""

from __future__ import annotations

import json

import pytest

from tests.e2e.mesh import CLUSTER_KEY_TEXT, KEY_FILE, USERS, start, status
from tests.e2e.test_check import Checked, check
from tests.lab import Lab, Node, until
from wesher.health import MISSED_FROM, SILENT_FOR, degraded

pytestmark = pytest.mark.root

FILTER = """
table inet filter {{
    chain input {{
        type filter hook input priority 0; policy {policy};
        {rules}
    }}
}}
"""
ONLY_ANSWERS = FILTER.format(policy="drop", rules="ct state established,related accept\niifname lo accept")


def rules(node: Node, text: str) -> None:
    """Give the node these rules and no others."""
    node.write("/run/rules", f"flush ruleset\n{text}".encode())
    node.run("nft", "-f", "/run/rules")


def dropping(node: Node, what: str) -> None:
    """Have the node drop what comes in so, and nothing else."""
    rules(node, FILTER.format(policy="accept", rules=f"{what} drop"))


def mesh_of_one(node: Node) -> None:
    """Somebody to join."""
    start(node)
    until(lambda: status(node), 10, "up")


def check_join(node: Node, other: Node, *arguments: str) -> Checked:
    """A check of `node`, which would join `other`."""
    node.write(KEY_FILE, CLUSTER_KEY_TEXT.encode())
    return check(node, "--user", USERS, "--cluster-key-file", KEY_FILE, "--join", other.address, *arguments)


def test_a_drop_there_is_named_by_its_port(lab: Lab) -> None:
    """TCP and UDP are two rows of a firewall, and may each be missing."""
    first, second, _ = lab.nodes
    mesh_of_one(first)

    dropping(first, "udp dport 7946")
    checked = check_join(second, first)
    assert (checked.code, set(checked.of("warning"))) == (0, {"join"})
    assert "answers by TCP as 192.168.77.1:7946, but not by UDP; open UDP port 7946" in checked.of("warning")["join"]

    dropping(first, "tcp dport 7946")
    checked = check_join(second, first)
    assert (checked.code, set(checked.of("warning"))) == (0, {"join"})
    assert "by UDP as 192.168.77.1:7946, but not by TCP (timed out); open TCP" in checked.of("warning")["join"]

    rules(first, FILTER.format(policy="accept", rules="udp dport 51820 reject"))
    checked = check_join(second, first)
    assert set(checked.of("warning")) == {"join"}
    assert "says that nobody is at its UDP port 51820; open it there for WireGuard" in checked.of("warning")["join"]

    rules(first, "")
    checked = check_join(second, first)
    assert checked.of("warning") == {}
    assert checked.of("ok")["join"].endswith("TCP and UDP and is heard here")
    assert status(first)["cluster"]["size"] == 1


def test_a_drop_here_is_named_with_the_commands_that_open_it(lab: Lab) -> None:
    """Answers come back through a firewall that keeps state; what others begin does not. The commands do what they
    say, and then the check has nothing more to say."""
    first, second, _ = lab.nodes
    mesh_of_one(first)
    rules(second, ONLY_ANSWERS)

    checked = check_join(second, first)

    assert (checked.code, set(checked.of("warning"))) == (0, {"firewall", "join"})
    assert checked.of("ok")["ports"].endswith("TCP and UDP 7946 (gossip), UDP 51820 (WireGuard)")
    assert "does not arrive; open UDP port 7946 for it here" in checked.of("warning")["join"]
    said, _, commands = checked.of("warning")["firewall"].partition("; open it: ")
    assert said == (
        "TCP 7946, UDP 7946, UDP 51820: dropped here by nftables' chain inet filter input, whoever sends it"
    )
    second.run("sh", "-ec", commands)
    assert check_join(second, first).of("warning") == {}


def test_only_what_is_in_doubt_is_left_open(lab: Lab) -> None:
    """A rule for somebody lets somebody in; who it is cannot be known before there is a mesh."""
    second = lab.nodes[1]
    ports = "udp dport { 7946, 51820 } accept\ntcp dport 7946"
    rules(second, FILTER.format(policy="drop", rules=f"{ports} ip saddr 192.168.77.0/24 accept"))
    second.write(KEY_FILE, CLUSTER_KEY_TEXT.encode())

    checked = check(second, "--user", USERS, "--cluster-key-file", KEY_FILE)

    assert checked.of("warning") == {}
    assert checked.of("ok")["firewall"].startswith("TCP 7946: whether nftables' chain inet filter input lets it in ")


@pytest.mark.parametrize(("version", "fitting"), [(4, 1340), (6, 1320)])
def test_a_narrow_path_is_named_with_the_mtu_that_fits(lab: Lab, version: int, fitting: int) -> None:
    """This host knows its own link; what is narrow elsewhere swallows what is too large, and says nothing."""
    first, second, _ = lab.nodes
    addresses = [node.address if version == 4 else node.address6 for node in (first, second)]
    start(first, "--bind-addr", addresses[0])
    until(lambda: status(first), 10, "up")
    (second if version == 6 else first).run("ip", "link", "set", "dev", "eth0", "mtu", "1400")
    second.write(KEY_FILE, CLUSTER_KEY_TEXT.encode())
    options = ("--user", USERS, "--cluster-key-file", KEY_FILE, "--bind-addr", addresses[1], "--join", addresses[0])

    checked = check(second, *options)

    assert (checked.code, set(checked.of("warning"))) == (0, {"path mtu"})
    assert checked.of("warning")["path mtu"] == (
        f"the path to {addresses[0]} ({addresses[0]}) takes packets of 1400 bytes, and with --mtu 1420 tunnels make "
        f"some of {1400 + 1420 - fitting}, which will be lost or cut up; give --mtu {fitting}, here and there"
    )
    checked = check(second, *options, "--mtu", str(fitting))
    assert checked.of("warning") == {}
    assert checked.of("ok")["path mtu"] == f"packets of 1400 bytes get there, the largest with --mtu {fitting}"


def findings(node: Node) -> tuple[int, list[str]]:
    """`wesher status --check`."""
    done = node.wesher("status", "--check", check=False)
    return done.returncode, done.stdout.splitlines()


def test_a_running_node_names_the_port_that_is_dropped(lab: Lab) -> None:
    """Gossip by UDP fails between two of three, and a tunnel between one of them and the third. Nobody is suspected:
    the others and TCP bear witness. The tunnel is judged by what the daemon tells, as it will be when it has lasted."""
    first, second, third = lab.nodes
    rules(
        first,
        FILTER.format(
            policy="accept",
            rules=f"ip saddr {second.address} udp dport 7946 drop\nip saddr {third.address} udp dport 51820 drop",
        ),
    )
    rules(second, FILTER.format(policy="accept", rules=f"ip saddr {first.address} udp dport 7946 drop"))
    rules(third, FILTER.format(policy="accept", rules=f"ip saddr {first.address} udp dport 51820 drop"))
    for node in lab.nodes:
        start(node, *(() if node is first else ("--join", first.address)))
    until(lambda: [status(node)["cluster"]["alive"] for node in lab.nodes] == [3, 3, 3], 30, "three are alive")

    line = (
        "node2 is alive, but only by TCP or as others hear it: {} pings in a row went unanswered; open its gossip port "
        "(UDP 7946) between the two nodes"
    )
    until(
        lambda: [said.partition(":")[0] for said in findings(first)[1]] == [line.partition(":")[0]],
        60,
        f"{MISSED_FROM} pings are missed",
    )
    peers = {peer["name"]: peer for peer in status(first)["peers"]}

    overlay = peers["node3"]["overlay_addr"]
    assert not first.ping(overlay)
    lasting = json.loads(first.wesher("status", "--json").stdout)
    for peer in lasting["peers"]:
        peer["since_s"] = SILENT_FOR + 1
    assert (
        "node3 is alive, but its tunnel is silent: no packet has come back; open its WireGuard port (UDP 51820) "
        "between the two nodes"
    ) in degraded(lasting)

    for node in lab.nodes:
        rules(node, "")
    until(lambda: findings(first) == (0, []), 30, "a ping is answered, and all is well")
    until(lambda: first.ping(overlay), 15, "the tunnel works")
