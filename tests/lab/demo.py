"""What dist/demo.sh shows: three machines with nothing but an address each become a mesh whose nodes ping each other by
name. Run as root with `python -m tests.lab.demo`."""

import sys
from collections.abc import Callable
from ipaddress import ip_address, ip_network

from tests.lab import Daemon, Lab, Node, until

OVERLAY = ip_network("10.0.0.0/8")
USERS = "61001:61002"  # agent and helper, as numbers: a demonstration makes no system users
KEY_FILE = "/run/cluster.key"  # in the node's own tmpfs


class DaemonEnded(Exception):
    """A daemon is not there any more: no use waiting for what it should do."""


def wait(daemons: list[Daemon], condition: Callable[[], object], within: float, what: str) -> None:
    """Poll until `condition()` is true, as long as every daemon lives."""

    def condition_met() -> object:
        if not all(daemon.alive() for daemon in daemons):
            raise DaemonEnded(f"a daemon ended before this was true: {what}")
        return condition()

    until(condition_met, within, f"demo: {what}")


def start_mesh(nodes: list[Node]) -> list[Daemon]:
    """The first node makes a cluster key, the others join it with that key."""
    first, *others = nodes
    daemons = [first.start("--user", USERS)]
    wait(daemons, lambda: first.wesher("key", "show"), 10, f"{first.name} is up with a new cluster key")
    key = first.wesher("key", "show").stdout.strip().encode()
    for node in others:
        node.write(KEY_FILE, key + b"\n", mode=0o600)
        daemons.append(node.start("--user", USERS, "--cluster-key-file", KEY_FILE, "--join", first.address))
    return daemons


def knows_the_others(node: Node, nodes: list[Node]) -> bool:
    """Whether every other node's name resolves to an overlay address on this one."""
    return all(ip_address(node.resolve(other.name)) in OVERLAY for other in nodes if other is not node)


def ping_all(nodes: list[Node]) -> int:
    """Every node pings every other by name; returns how many were answered from the overlay."""
    good = 0
    for node in nodes:
        for other in nodes:
            if other is node:
                continue
            address = node.resolve(other.name)
            answered = ip_address(address) in OVERLAY and node.ping(other.name, timeout=2)
            print(f"demo: {node.name} pings {other.name} ({address}): {'ok' if answered else 'FAILED'}", flush=True)
            good += answered
    return good


def main() -> int:
    """Build, show and take down; returns the exit status."""
    try:
        with Lab(3) as lab:
            print(
                "demo: three nodes, each with its own network, host name and hosts file, on one private bridge",
                flush=True,
            )
            daemons = start_mesh(lab.nodes)
            wait(
                daemons,
                lambda: all(knows_the_others(node, lab.nodes) for node in lab.nodes),
                30,
                "every node has the other two in /etc/hosts",
            )
            good = ping_all(lab.nodes)
            table = lab.nodes[0].wesher("status").stdout
            if good != 6:
                print(lab.report())
    except KeyboardInterrupt:
        print("demo: interrupted, everything is taken down", file=sys.stderr)
        return 130
    except (AssertionError, DaemonEnded, RuntimeError) as error:
        print(f"demo: failed: {error}", file=sys.stderr)
        return 1
    print(table, end="" if table.endswith("\n") else "\n")
    print(f"demo: {good} of 6 pings by name through the overlay")
    return 0 if good == 6 else 1


if __name__ == "__main__":
    sys.exit(main())
