"""Everything that CAP_NET_ADMIN and an open hosts file could change on a host, read from outside: what is ours, and
what is not. Two readings of the latter are the same, or the helper has done what it must never do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from tests.e2e.mesh import INTERFACE
from tests.lab import Node

LISTINGS: Final = {
    "links": "ip -j -d link",
    "addresses": "ip -j -d address",
    "routes": "ip -j -d route show table all",
    "routes6": "ip -6 -j -d route show table all",
    "rules": "ip -j -d rule",
    "rules6": "ip -6 -j -d rule",
    "neighbours": "ip -j neighbour show nud all",
    "proxies": "ip -j neighbour show proxy",
    "groups": "ip -j maddress",
    "qdiscs": "tc -j qdisc",
    "firewall": "nft -j list ruleset",
    "xfrm": "ip xfrm state; ip xfrm policy",
    "sysctls": "grep -rs . /proc/sys/net | grep -v /nf_conntrack_count: | sort",
    "files": (
        "{ find /etc /run /var/lib -xdev -type d -printf '%p %U:%G %m\\n'; "
        "find /etc /run /var/lib -xdev -not -type d -not -path /etc/hosts -not -path '/run/wesher-priv/*' "
        "-printf '%p %y %U:%G %m %s %T@ %i\\n'; } | sort; find /etc/hosts -printf '%U:%G %m %i\\n'"
    ),
    "device": f"wg show {INTERFACE} dump",
}
"""What is read, and the command that does."""

SEPARATOR: Final = "--- 8< ---"
LOOK: Final = f"\necho; echo '{SEPARATOR}'\n".join(f"{{ {command}; }} 2>/dev/null" for command in LISTINGS.values())
BANNER: Final = f"# ! managed automatically by wesher interface {INTERFACE}"


@dataclass(frozen=True)
class Ours:
    """What the helper has in force, as the kernel, WireGuard and the hosts file have it."""

    alias: str | None
    """None: there is no link."""
    key: str | None
    port: int
    addresses: frozenset[str]
    routes: frozenset[str]
    peers: dict[str, tuple[str, str]]
    """Public key in base64 to endpoint and allowed IPs."""
    lines: dict[str, str]
    """Name to address."""

    @property
    def is_nothing(self) -> bool:
        """Whether of a mesh nothing is left but, perhaps, a link of the administrator's that does nothing."""
        return not (self.alias or self.key or self.addresses or self.routes or self.peers or self.lines)


@dataclass(frozen=True)
class Host:
    """One look at a host."""

    ours: Ours
    foreign: dict[str, list[Any]]


def look(node: Node) -> Host:
    """Read everything."""
    shown = node.run("sh", "-c", LOOK, check=False).stdout.split(f"\n{SEPARATOR}\n")
    found = {name: text.strip() for name, text in zip(LISTINGS, shown, strict=True)}
    hosts = node.hosts().decode().splitlines(keepends=True)
    foreign = {name: _rows(name, text) for name, text in found.items() if name != "device"}
    foreign["hosts"] = [line for line in hosts if not line.rstrip("\n").endswith(BANNER)]
    return Host(_ours(found, hosts), foreign)


def _rows(name: str, text: str) -> list[Any]:
    """What of a listing is not our link's."""
    if not text.startswith(("[", "{")):
        return [line for line in text.splitlines() if f"/{INTERFACE}/" not in line]
    rows = json.loads(text)
    if name == "firewall":
        return list(rows["nftables"])
    return [row for row in rows if not _is_ours(row) and not _is_the_kernels(name, row)]


def _is_ours(row: dict[str, Any]) -> bool:
    return INTERFACE in (row.get("dev"), row.get("ifname"))


def _is_the_kernels(name: str, row: dict[str, Any]) -> bool:
    """Neighbours that are computed, not found: those of groups come and go by themselves."""
    return name == "neighbours" and row.get("state") == ["NOARP"]


def _ours(found: dict[str, str], hosts: list[str]) -> Ours:
    links, addresses, routes = ([r for r in _json(found[n]) if _is_ours(r)] for n in ("links", "addresses", "routes"))
    routes += [route for route in _json(found["routes6"]) if _is_ours(route)]
    own, *peers = [line.split("\t") for line in found["device"].splitlines()] or [["(none)", "(none)", "0", ""]]
    return Ours(
        alias=links[0].get("ifalias", "") if links else None,
        key=None if own[1] == "(none)" else own[1],
        port=int(own[2]),
        addresses=frozenset(f"{a['local']}/{a['prefixlen']}" for link in addresses for a in link["addr_info"]),
        routes=frozenset(r["dst"] for r in routes if r["table"] == "main" and r["protocol"] != "kernel"),
        peers={peer[0]: (peer[2], peer[3]) for peer in peers},
        lines={line.split()[1]: line.split()[0] for line in hosts if line.rstrip("\n").endswith(BANNER)},
    )


def _json(text: str) -> list[dict[str, Any]]:
    return list(json.loads(text)) if text else []
