"""A mesh in a machine: the installed services are one node, and a second lives in a network namespace beside it."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.deploy.machine import Machine
from tests.lab import until

HELPER, AGENT = "wesher-privhelper.service", "wesher.service"
PAIR = (HELPER, AGENT)

_NETWORK = """
ip netns add peer
ip link add veth0 type veth peer name veth1 netns peer
ip addr add 192.168.77.1/24 dev veth0
ip link set veth0 up
ip -n peer addr add 192.168.77.2/24 dev veth1
ip -n peer link set veth1 up
ip -n peer link set lo up
"""
# The second node has its own copy of what is installed, so that nothing runs from the original but the services.
_COPY = 'cp -a "$(dirname "$(readlink -f "$(command -v wesher)")")/.." /var/tmp/peer'
_PEER = """
mkdir -p /run/wireguard-of-peer /run/wireguard
mount --bind /run/wireguard-of-peer /run/wireguard
hostname peer
exec /var/tmp/peer/bin/python -I -m wesher --state-dir /var/tmp/peer-state --runtime-dir /run/peer --no-etc-hosts \
  --interface wgpeer --join 192.168.77.1 --cluster-key-file /run/peer-key
"""


def connect(machine: Machine) -> None:
    """Give it an address, and room for a second node."""
    machine.good("sh", "-ec", _NETWORK)


def start_pair(machine: Machine) -> None:
    """The two services, as an operator starts them, where the kernel may have no WireGuard. The host has an address."""
    connect(machine)
    machine.good("systemctl", "enable", "--now", "wesher-wireguard-go")
    machine.good("systemctl", "enable", "--now", "wesher")


def start_peer(machine: Machine) -> None:
    """A node that joins the one of the services; returns when each has the other as a peer."""
    machine.good("sh", "-ec", _COPY)
    machine.write("/run/peer-key", machine.good("wesher", "key", "show"), "600")
    machine.good("systemd-run", "--unit=peer", "ip", "netns", "exec", "peer",
                 "unshare", "--uts", "--mount", "sh", "-ec", _PEER)  # fmt: skip
    try:
        until(lambda: [peer["state"] for peer in status(machine)["peers"]] == ["alive"], 30, "the peer has joined")
    except BaseException:
        print(machine.journal())
        raise


def status(machine: Machine) -> dict[str, Any]:
    """What `wesher status --json` says. Raises ValueError where no daemon answers."""
    answer: dict[str, Any] = json.loads(machine.run("wesher", "status", "--json").out)
    return answer


def overlay_address_of_peer(machine: Machine) -> str:
    """Where it is pinged."""
    (peer,) = status(machine)["peers"]
    return str(peer["overlay_addr"])


def main_pid(machine: Machine, unit: str) -> int:
    """The service's, in the machine."""
    return int(machine.good("systemctl", "show", "--property", "MainPID", "--value", unit))


def public_key(machine: Machine) -> str:
    """The device's, which is another with every start of the helper."""
    return machine.good("wg", "show", "wgoverlay", "public-key").strip()


def lost(ping: str) -> int:
    """Packets, of what ping(8) said. The last one may have been on its way when it was told to end."""
    answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", ping)}
    assert answered, ping
    return max(answered) - len(answered)
