"""Real meshes in the lab: started as an operator would, watched from outside with `wg`, `ip`, `getent` and `ping`."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tests.lab import Daemon, Node, until

USERS = "61001:61002"
AGENT_UID, HELPER_UID = 61001, 61002
CLUSTER_KEY = hashlib.sha256(b"a mesh for tests").digest()  # found in memory only where it is meant
CLUSTER_KEY_TEXT = base64.b64encode(CLUSTER_KEY).decode()
KEY_FILE = "/run/cluster.key"
INTERFACE = "wgoverlay"

T = TypeVar("T")


def start(node: Node, *arguments: str) -> Daemon:
    """Start wesher with the mesh's key in a file."""
    node.write(KEY_FILE, CLUSTER_KEY_TEXT.encode() + b"\n")
    return node.start("--user", USERS, "--cluster-key-file", KEY_FILE, *arguments)


def start_mesh(nodes: Sequence[Node], *arguments: str) -> list[Daemon]:
    """All of `nodes`, joining the first of them; returns when each pings each other by name."""
    return join_up(start, nodes, *arguments)


def join_up(begin: Callable[..., T], nodes: Sequence[Node], *arguments: str) -> list[T]:
    """`start_mesh`, where `begin` starts a node."""
    first, *others = nodes
    running = [begin(first, *arguments)]
    running += [begin(node, "--join", first.address, *arguments) for node in others]
    await_mesh(nodes)
    return running


def await_mesh(nodes: Sequence[Node]) -> None:
    """Until every node has every other as a peer, and pings it by name through the overlay."""
    for node in nodes:
        until(lambda n=node: status(n), 10, f"{node.name} is up")
        others = {other.name for other in nodes if other is not node}
        until(lambda n=node, o=others: set(managed_names(n)) == o, 10, f"{node.name} has {len(others)} names")
    for node in nodes:
        for other in nodes:
            if other is not node:
                until(lambda n=node, o=other: pings_by_name(n, o), 5, f"{node.name} pings {other.name}")


def pings_by_name(node: Node, other: Node) -> bool:
    """Whether `other`'s name means its overlay address on `node`, and that answers."""
    return node.resolve(other.name) == managed_names(node)[other.name] and node.ping(other.name)


def managed_names(node: Node, interface: str = INTERFACE) -> dict[str, str]:
    """Name to overlay address, from the hosts lines that the instance with `interface` manages."""
    banner = f"# ! managed automatically by wesher interface {interface}"
    lines = [line.split() for line in node.hosts().decode().splitlines() if line.endswith(banner)]
    return {fields[1]: fields[0] for fields in lines}


def move(node: Node, to: str) -> None:
    """Give the node's interface another address in place of the one it has."""
    node.run("ip", "address", "del", f"{node.address}/24", "dev", "eth0")
    node.run("ip", "address", "add", f"{to}/24", "dev", "eth0")
    node.address = to


def rename(node: Node, name: str) -> None:
    """Give the machine another host name, by which it is known from now on."""
    node.run("sh", "-c", f"echo {name} > /proc/sys/kernel/hostname")
    node.name = name


def public_key(node: Node, interface: str = INTERFACE) -> str:
    """The node's own WireGuard public key, from the device; "(none)" where it has none."""
    return node.run("wg", "show", interface, "public-key").stdout.strip()


def peer_keys(node: Node, interface: str = INTERFACE) -> set[str]:
    """The public keys of the node's WireGuard peers, from the device."""
    return set(node.run("wg", "show", interface, "peers").stdout.split())


def overlay_routes(node: Node, interface: str = INTERFACE) -> set[str]:
    """Destinations of the routes through the overlay link."""
    shown = node.run("ip", "-json", "route", "show", "dev", interface, check=False).stdout
    return {route["dst"] for route in json.loads(shown or "[]")}


def overlay_addresses(node: Node, interface: str = INTERFACE) -> set[str]:
    """The addresses of the overlay link."""
    (link,) = json.loads(node.run("ip", "-json", "address", "show", "dev", interface).stdout)
    return {address["local"] for address in link["addr_info"]}


def status(node: Node, interface: str = INTERFACE) -> dict[str, Any]:
    """`wesher status --json`."""
    answer = json.loads(node.wesher("status", "--json", "--interface", interface).stdout)
    assert isinstance(answer, dict)
    return answer


def states(node: Node) -> dict[str, str]:
    """Name to gossip state of the others, as `wesher status` has them."""
    return {peer["name"]: peer["state"] for peer in status(node)["peers"]}


def has_nothing_left(node: Node, interface: str = INTERFACE) -> bool:
    """Whether the node has no overlay link, no route through one and no managed line."""
    return interface not in node.links() and not overlay_routes(node, interface) and not managed_names(node, interface)


def has_only_a_bare_link(node: Node, interface: str = INTERFACE) -> bool:
    """Whether of the overlay nothing is there but a link that does nothing: the administrator's wireguard-go's."""
    left = (overlay_addresses, overlay_routes, peer_keys, managed_names)
    return public_key(node, interface) == "(none)" and not any(look(node, interface) for look in left)
