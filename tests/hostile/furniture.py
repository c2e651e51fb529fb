"""What an operator has on a machine besides the mesh: networks, neighbours, a firewall, names. All of it must be the
same after every attack, and much of it stands in the way of some."""

from __future__ import annotations

import shutil
from typing import Final

from tests.lab import Node
from tests.lab.namespaces import ENV

OVERLAY: Final = "10.77.0.0/20"
"""Narrow, so that a name for any of its addresses is found at once."""
OVERLAY6: Final = "fd00:77::/116"

LAN: Final = "10.77.8.0/24"
GATEWAY: Final = "10.77.8.7"
ROUTED: Final = "10.77.9.0/25"
HOST_ROUTE: Final = "10.77.10.5"
BLACKHOLE: Final = "10.77.11.0/28"
RESOLVER: Final = "10.77.12.53"
NEXT_HOP: Final = "10.77.13.1"
"""The gateway of a route that leads elsewhere, on a link without a network there."""
OTHERS_ADDRESS, OTHERS_ROUTE, OTHERS_NET = "10.77.14.1", "10.77.14.2", "10.77.15.0/24"
"""Another instance's own address, a peer of its, and its overlay net."""
MULTIPATH: Final = "10.77.13.128/26"
LAN6: Final = "fd00:77::800/120"
ANYIP: Final = "203.0.113.128/25"
"""Addresses that are this host's without being any link's (`ip route add local`)."""

IP: Final = f"""
link add office type veth peer name desk
link set dev office addrgenmode none
link set dev desk addrgenmode none
link set dev office up
link set dev desk up
address add 10.77.8.1/24 brd + dev office
address add fd00:77::801/120 dev office nodad
address add 172.16.5.1 peer 172.16.5.2 dev office
route add {ROUTED} via {GATEWAY}
route add {HOST_ROUTE} dev office
route add blackhole {BLACKHOLE}
route add 198.51.100.0/24 via {NEXT_HOP} dev office onlink
route add {MULTIPATH} nexthop via {GATEWAY} nexthop via 10.77.8.8
route add local {ANYIP} dev lo
route add default via {GATEWAY} table 100
route add fd00:99::/64 via fd00:77::807
rule add from 203.0.113.0/24 table 100 priority 1000
neighbour add 10.77.8.9 lladdr 02:00:00:00:00:09 dev office nud permanent
neighbour add fd00:77::809 lladdr 02:00:00:00:00:09 dev office nud permanent
link add other type veth peer name rehto
link set dev other addrgenmode none alias wesher
link set dev rehto addrgenmode none
link set dev other up
link set dev rehto up
address add {OTHERS_ADDRESS}/32 dev other
route add {OTHERS_ROUTE} dev other
route add {OTHERS_NET} dev other
xfrm policy add dir out src 198.51.100.1 dst 198.51.100.2 tmpl proto esp mode transport
"""

NFT: Final = """
table inet operator {
  set friends { type ipv4_addr; elements = { 192.0.2.1 } }
  chain input { type filter hook input priority 0; policy accept; ip saddr @friends accept; }
}
"""

OPERATORS_LINES: Final = b"""127.0.0.1\tlocalhost
127.0.1.1\tnode1.example.org node1
::1\tlocalhost ip6-localhost
# the operator's own lines
192.0.2.10\tPrinter.example.net printer  # second floor
192.0.2.11   git\r
192.0.2.12\tdb.internal db
"""
OTHERS_LINES: Final = b"10.77.14.2\tneighbour\t# ! managed automatically by wesher interface other\n"
"""Another instance's, as its address and route are."""
HOSTS: Final = OPERATORS_LINES + OTHERS_LINES

RESOLV_CONF: Final = f"nameserver {RESOLVER}\noptions attempts:1 timeout:1\n".encode()


def furnish(node: Node) -> None:
    """Make `node` somebody's machine; where there is no nft, without a firewall."""
    node.inside.ip(*IP.strip().splitlines())
    node.inside.tc("qdisc", "replace", "dev", "office", "root", "pfifo", "limit", "77")
    if shutil.which("nft", path=ENV["PATH"]) is not None:
        node.write("/run/operator.nft", NFT.encode())
        node.run("nft", "-f", "/run/operator.nft")
    node.write_hosts(HOSTS)
    node.write("/etc/resolv.conf", RESOLV_CONF, mode=0o644)
