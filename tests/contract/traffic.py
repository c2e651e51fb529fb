"""What a WireGuard back end is for: packets. Two machines with a wire between them, a device on each, and every pair of
families, since neither the overlay's nor the underlay's may matter to the other."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address

from privhelper.addressing import Address
from privhelper.device import Device
from privhelper.protocol import Peer
from tests.contract.conftest import SET_UP, Machine, inside
from tests.contract.device_contract import PORT
from tests.lab.namespaces import Namespaces

INTERFACE = "wgcontract"
FAMILIES = {
    "IPv4 over IPv4": ("10.9.0.{}", "192.0.2.{}"),
    "IPv4 over IPv6": ("10.9.0.{}", "2001:db8::{}"),
    "IPv6 over IPv4": ("fd99::{}", "192.0.2.{}"),
    "IPv6 over IPv6": ("fd99::{}", "2001:db8::{}"),
}
"""Overlay and underlay; the number is the machine's."""

WITHIN = 20  # seconds for the handshake and one packet there and back


@contextmanager
def wired(near: Machine) -> Iterator[Machine]:
    """A machine on the other end of a wire; this thread stays where it is."""
    namespaces = Namespaces(SET_UP)
    try:
        near.ip(f"link add lan type veth peer name lan netns {namespaces.pid}")
        yield Machine(namespaces)
    finally:
        namespaces.close()


def check_traffic(families: str, near: Machine, far: Machine, make: Callable[[Machine], Device]) -> None:
    """A ping passes, and both devices tell of it. `make` puts a link called INTERFACE into a machine."""
    overlay, underlay = FAMILIES[families]
    devices = [make(near)]
    with inside(far.namespaces):
        devices.append(make(far))
    keys = [device.create(PORT) for device in devices]
    ours = [_address(overlay, number) for number in (1, 2)]
    theirs = [_address(underlay, number) for number in (1, 2)]
    for here, there, machine in ((0, 1, near), (1, 0, far)):
        devices[here].apply([], [Peer(keys[there], theirs[there], ours[there], "node")])
        machine.ip(
            _assign(theirs[here], "lan", 24 if theirs[here].version == 4 else 64),
            "link set lan up",
            _assign(ours[here], INTERFACE, ours[here].max_prefixlen),
            f"link set {INTERFACE} up",
            f"route add {ours[there]} dev {INTERFACE}",
        )
    ping = subprocess.run(
        ["ping", "-n", "-c", "1", "-w", str(WITHIN), str(ours[1])], capture_output=True, text=True, check=False
    )
    assert ping.returncode == 0, ping.stdout
    for here, there in ((0, 1), (1, 0)):
        (status,) = devices[here].status()
        assert (keys[there], theirs[there]) == (status.public_key, status.endpoint)
        assert min(status.last_handshake, status.rx_bytes, status.tx_bytes) > 0


def _address(pattern: str, number: int) -> Address:
    return ip_address(pattern.format(number))


def _assign(address: Address, link: str, length: int) -> str:
    return f"address add {address}/{length} dev {link}" + (" nodad" if address.version == 6 else "")
