"""The WireGuard back ends that can be had here, each against the one contract; the kernel's runs in a guest."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from ipaddress import ip_address, ip_network

import pytest
from nacl.public import PrivateKey

from privhelper import userspace
from privhelper.userspace import UserspaceDevice
from tests.contract.conftest import Machine
from tests.contract.device_contract import CLAIMS, PORT, A, Claim, Reading, Subject, Tampering, check_device
from tests.contract.fakes import FakeDevice, public_half

IDS = [check.__name__ for check in CLAIMS]
INTERFACE = "wgcontract"


class FakeSubject:
    """The device the unit tests use, whose attributes are the other way to it."""

    def __init__(self) -> None:
        self.device = FakeDevice()

    def read(self) -> Reading:
        """Its attributes."""
        fake = self.device
        return Reading(
            fake.key,
            fake.port or 0,
            {key: (endpoint, PORT) for key, endpoint in fake.peers.items()},
            {key: frozenset(ip_network(a) for a, owner in fake.allowed.items() if owner == key) for key in fake.peers},
            fake.keepalives,
        )

    def tamper(self, what: Tampering) -> None:
        """Write them."""
        fake = self.device
        fake.key = fake.key if what.private_key is None else public_half(what.private_key)
        fake.port = fake.port if what.port is None else what.port
        for key in what.removed:
            fake.take_addresses(key)
            del fake.peers[key], fake.keepalives[key]
        for key, ips in what.allowed_ips.items():
            fake.peers.setdefault(key, ip_address("203.0.113.9"))
            fake.keepalives.setdefault(key, 0)
            fake.take_addresses(key)
            for network in (ip_network(text, strict=False) for text in ips):
                is_host = network.prefixlen == network.max_prefixlen
                fake.allowed[network.network_address if is_host else network] = key


class UserspaceSubject:
    """A real wireguard-go, looked at over a connection of its own."""

    def __init__(self, device: UserspaceDevice) -> None:
        self.device = device

    def read(self) -> Reading:
        """Its answer to get=1, parsed here."""
        public_key, port = None, 0
        endpoints: dict[bytes, tuple[object, int]] = {}
        keepalives: dict[bytes, int] = {}
        allowed: dict[bytes, set[object]] = {}
        key = b""
        for name, _, value in (text.partition("=") for text in self._say("get=1")):
            if name == "private_key":
                public_key = bytes(PrivateKey(bytes.fromhex(value)).public_key) if int(value, 16) else None
            elif name == "listen_port":
                port = int(value)
            elif name == "public_key":
                key = bytes.fromhex(value)
                allowed[key] = set()
            elif name == "endpoint":
                host, _, number = value.rpartition(":")
                endpoints[key] = ip_address(host.strip("[]")), int(number)
            elif name == "persistent_keepalive_interval":
                keepalives[key] = int(value)
            elif name == "allowed_ip":
                allowed[key].add(ip_network(value))
            elif name == "errno":
                assert value == "0"
        nets = {owner: frozenset(found) for owner, found in allowed.items()}
        return Reading(public_key, port, endpoints, nets, keepalives)  # type: ignore[arg-type]

    def tamper(self, what: Tampering) -> None:
        """Its set=1, said here."""
        lines = ["set=1"]
        if what.private_key is not None:
            lines.append(f"private_key={what.private_key.hex()}")
        if what.port is not None:
            lines.append(f"listen_port={what.port}")
        for key in what.removed:
            lines += [f"public_key={key.hex()}", "remove=true"]
        for key, ips in what.allowed_ips.items():
            lines += [f"public_key={key.hex()}", "replace_allowed_ips=true", *(f"allowed_ip={text}" for text in ips)]
        assert ["errno=0", ""] == self._say(*lines)

    @staticmethod
    def _say(*lines: str) -> list[str]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(userspace.socket_path(INTERFACE))
            connection.sendall("\n".join([*lines, "", ""]).encode())
            answer = b""
            while not answer.endswith(b"\n\n"):
                answer += connection.recv(1 << 20)
            return answer.decode().splitlines()


@contextmanager
def make_fake() -> Iterator[Subject]:
    """A new fake."""
    yield FakeSubject()


@pytest.fixture
def make_userspace(machine: Machine) -> AbstractContextManager[Subject]:
    """A wireguard-go of its own for the test; it ends with the namespace."""

    @contextmanager
    def make() -> Iterator[Subject]:
        machine.start_wireguard(INTERFACE)
        device = userspace.connect(INTERFACE)
        try:
            yield UserspaceSubject(device)
        finally:
            device._connection.close()

    return make()


@pytest.mark.parametrize("check", CLAIMS, ids=IDS)
def test_the_fake_device_keeps_the_contract(check: Claim) -> None:
    """Else the unit tests would test a world that is not."""
    check_device(make_fake, check)


@pytest.mark.root
@pytest.mark.parametrize("check", CLAIMS, ids=IDS)
def test_wireguard_go_keeps_the_contract(check: Claim, make_userspace: AbstractContextManager[Subject]) -> None:
    """The real program, over its socket."""
    check_device(lambda: make_userspace, check)


@pytest.mark.root
def test_wireguard_gos_no_is_an_os_error_and_it_goes_on(machine: Machine) -> None:
    """A port that is taken is refused with its errno; the connection still serves."""
    machine.start_wireguard(INTERFACE)
    device = userspace.connect(INTERFACE)
    machine.ip(f"link set {INTERFACE} up")  # else it does not listen yet
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", PORT))
        with pytest.raises(OSError, match=r"\w"):
            device.create(PORT)
        device.create(PORT + 1)
        device.apply([], [A])
        assert [A.public_key] == [peer.public_key for peer in device.status()]
    device._connection.close()


@pytest.mark.root
def test_the_end_of_wireguard_go_makes_its_connection_readable(machine: Machine) -> None:
    """The helper watches it; taking the link away ends the process."""
    machine.start_wireguard(INTERFACE)
    device = userspace.connect(INTERFACE)
    device.create(PORT)
    machine.ip(f"link del {INTERFACE}")
    device._connection.settimeout(10)
    assert b"" == device._connection.recv(1)
    with pytest.raises(OSError, match="does not answer"):
        device.status()
    device._connection.close()
