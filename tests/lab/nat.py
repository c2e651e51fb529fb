"""A router that translates addresses, with one machine of the lab behind it. It is told what stands for what, and
remembers nothing of what passes: a mapping changes from one packet to the next."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

from tests.lab.namespaces import ENV, Namespaces

if TYPE_CHECKING:
    from tests.lab.lab import Lab, Node

WIREGUARD: Final = 51820

ROUTER = """
echo 1 > /proc/sys/net/ipv4/ip_forward
ip link set dev lo up
"""

RULES = """
table ip nat
delete table ip nat
table ip nat {{
    chain in {{
        type filter hook prerouting priority raw;
        {drop}
        ip daddr {{ {public}, {tunnels} }} ip daddr set {inside}
    }}
    chain out {{
        type filter hook postrouting priority filter;
        ip saddr {inside} udp sport {port} ip saddr set {tunnels}
        ip saddr {inside} ip saddr set {public}
    }}
}}
"""


class Nat:
    """`node` is moved behind it: 1:1, at a new private address, and reached at `node.address`, the router's.

    Make it before anything runs on the node.
    """

    inside: Final = "172.16.5.2"

    def __init__(self, lab: Lab, node: Node) -> None:
        self._public = f"192.168.77.{100 + int(node.port.removeprefix('port'))}"
        self._router = Namespaces(ROUTER)
        lab.routers.append(self._router)
        lab.lan.ip(
            f"link add name nat{node.port} type veth peer name wan netns {self._router.pid}",
            f"link set dev nat{node.port} master lan up",
            f"link set dev {node.port} nomaster netns {self._router.pid}",
        )
        self._router.ip(
            f"address add {self._public}/24 dev wan",
            "link set dev wan up",
            f"address add 172.16.5.1/24 dev {node.port}",
            f"link set dev {node.port} up",
        )
        node.inside.ip(
            "address flush dev eth0",
            f"address add {self.inside}/24 dev eth0",
            "link set dev eth0 up",
            "route add default via 172.16.5.1",
        )
        node.address = self._public
        self.map_tunnels(self._public)

    def map_tunnels(self, address: str) -> None:
        """From now on WireGuard's packets come from `address`, which is the only one where they are let in."""
        if address != self._public:
            self._router.ip(f"address replace {address}/24 dev wan")
        drop = f"ip daddr {self._public} udp dport {WIREGUARD} drop" if address != self._public else ""
        rules = RULES.format(drop=drop, public=self._public, tunnels=address, inside=self.inside, port=WIREGUARD)
        command = ["nsenter", f"--target={self._router.pid}", "--net", "--", "nft", "-f", "-"]
        subprocess.run(command, input=rules, text=True, env=ENV, cwd="/", check=True, timeout=30)
