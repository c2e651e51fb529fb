"""The helper over a device, a link and a hosts file that are nothing but data, spoken to as an agent does."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

import pytest

from privhelper.addressing import Address, derive
from privhelper.monitor import Monitor
from privhelper.options import Pinned
from privhelper.policy import HostsVerdict, PeerVerdict, Surroundings
from privhelper.protocol import (
    Event,
    Hello,
    Peer,
    Reply,
    Request,
    SetAddr,
    SetPeers,
    Violation,
    decode_reply,
    encode_request,
)
from privhelper.tunnels import Tunnels
from tests.contract.fakes import FakeDevice, FakeHosts, FakeLink, Kernel, public_half

NET = IPv4Network("10.0.0.0/8")
PINNED = Pinned(
    node_name="self",
    overlay_net=NET,
    interface="wgoverlay",
    wireguard_port=51820,
    mtu=1420,
    max_peers=1000,
    keepalive=0,
    etc_hosts=True,
    hosts_file="/etc/hosts",
    hosts_suffix="",
)
OWN_KEY = public_half(b"key 1")
"""The first key that a FakeDevice makes."""
OK = (int(PeerVerdict.ACCEPTED), int(HostsVerdict.ACCEPTED))


def peer(name: str, number: int = 1, host: int = 1) -> Peer:
    """An acceptable peer."""
    return Peer(
        (number + 1).to_bytes(4, "big") * 7 + b"\x11" * 4,
        ip_address(0xC0000200 + host % 255),
        derive(NET, name.encode(), 0),
        name,
    )


A, B, C = (peer(name, number, number) for number, name in enumerate(("node-a", "node-b", "node-c"), start=1))


def line(of: Peer) -> tuple[Address, str]:
    """What the hosts file says of a peer."""
    return of.overlay_addr, of.name


class Helper:
    """Tunnels, set up, and a monitor over them; and what has been done since."""

    def __init__(self, pinned: Pinned = PINNED, surroundings: Surroundings | None = None) -> None:
        self.kernel = Kernel()
        self.device = FakeDevice(self.kernel)
        self.link = FakeLink(self.kernel, around=surroundings or Surroundings())
        self.hosts = FakeHosts(self.kernel)
        self.tunnels = Tunnels(pinned, self.device, self.link, self.hosts)
        self.tunnels.set_up()
        self.kernel.forget()
        self.next_agent()

    def next_agent(self) -> Helper:
        """EOF, and somebody else connects."""
        self.monitor = Monitor(self.tunnels)
        self._sequence = 0
        return self

    def send(self, request: Request) -> Reply:
        """One request and its reply, whose number must be the request's."""
        self._sequence += 1
        sequence, reply = decode_reply(self.monitor.receive(encode_request(self._sequence, request)))
        assert self._sequence == sequence
        assert not isinstance(reply, Event)
        return reply

    def violation(self, request: Request) -> str:
        """The code of the violation that `request` is."""
        with pytest.raises(Violation) as raised:
            self.send(request)
        return raised.value.code.value

    def greeted(self) -> Helper:
        """After HELLO."""
        self.send(Hello("test"))
        return self

    def addressed(self) -> Helper:
        """After SET_ADDR."""
        self.greeted().send(SetAddr(0))
        return self

    def configured(self, *peers: Peer) -> Helper:
        """After SET_PEERS, with nothing on record."""
        self.addressed().send(SetPeers(peers))
        self.kernel.forget()
        return self

    @property
    def carried(self) -> dict[bytes, tuple[Address, Address]]:
        """Endpoint and allowed address by key, as the device has them."""
        allowed = {key: address for address, key in self.device.allowed.items()}
        return {
            key: (endpoint, address)
            for key, endpoint in self.device.peers.items()
            if isinstance(address := allowed.get(key), IPv4Address | IPv6Address)
        }

    def has(self, peers: Iterable[Peer]) -> bool:
        """Whether device and routes are exactly what `peers` need."""
        wanted = list(peers)
        return (
            self.carried == {p.public_key: (p.endpoint, p.overlay_addr) for p in wanted}
            and len(self.device.peers) == len(self.device.allowed) == len(wanted)
            and self.link.routes == {p.overlay_addr for p in wanted}
        )

    def is_whole(self) -> bool:
        """Whether link, key and port are what they are to be, whoever the peers."""
        return (
            self.link.is_there
            and all(self.link.state.values())
            and (self.tunnels.public_key, 51820) == (self.device.key, self.device.port)
        )

    def is_down(self) -> bool:
        """Whether nothing is left of us."""
        nothing_carried = not self.device.peers and not self.device.allowed and self.device.key is None
        nothing_linked = not self.link.is_there and self.link.address is None and not self.link.routes
        return nothing_carried and nothing_linked and self.hosts.lines == ()

    def lose_link(self) -> None:
        """Somebody deletes the link, and with it goes what it carried."""
        self.link.lose()
        self.device.key, self.device.port = None, None
        self.device.peers.clear()
        self.device.allowed.clear()

    def done(self) -> list[tuple[str, object]]:
        """What has been done since it was last asked, readings left out."""
        steps = [step for step in self.kernel.done if step[0] != "holding"]
        self.kernel.forget()
        return steps
