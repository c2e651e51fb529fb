"""The WireGuard back ends that can be had here, each against the one contract; the kernel's runs in a guest."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from ipaddress import ip_address, ip_network

import pytest
from nacl.public import PrivateKey

from privhelper import link as rtnl
from privhelper import userspace
from privhelper.userspace import UserspaceDevice
from tests.contract.conftest import Machine
from tests.contract.device_contract import CLAIMS, PORT, A, Claim, Reading, Subject, check_device
from tests.contract.fakes import FakeDevice

IDS = [check.__name__ for check in CLAIMS]
INTERFACE = "wgcontract"


class FakeSubject:
    """The device the unit tests use. Its keys are made up, so the device under test is asked for its own."""

    def __init__(self) -> None:
        self.device = _Remembering()

    def read(self) -> Reading:
        """Its attributes."""
        fake = self.device
        return Reading(
            fake.key,
            fake.port or 0,
            {key: (endpoint, PORT) for key, endpoint in fake.peers.items()},
            {key: frozenset(ip_network(a) for a, owner in fake.allowed.items() if owner == key) for key in fake.peers},
        )


class _Remembering(FakeDevice):
    key: bytes | None = None

    def create(self, port: int) -> bytes:
        self.key = super().create(port)
        return self.key

    def destroy(self) -> None:
        super().destroy()
        self.key = None


class UserspaceSubject:
    """A real wireguard-go, looked at over a connection of its own."""

    def __init__(self, device: UserspaceDevice) -> None:
        self.device = device

    def read(self) -> Reading:
        """Its answer to get=1, parsed here."""
        public_key, port = None, 0
        endpoints: dict[bytes, tuple[object, int]] = {}
        allowed: dict[bytes, set[object]] = {}
        key = b""
        for name, _, value in (text.partition("=") for text in self._ask()):
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
            elif name == "allowed_ip":
                allowed[key].add(ip_network(value))
            elif name == "errno":
                assert value == "0"
        nets = {owner: frozenset(found) for owner, found in allowed.items()}
        return Reading(public_key, port, endpoints, nets)  # type: ignore[arg-type]

    @staticmethod
    def _ask() -> list[str]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(userspace.socket_path(INTERFACE))
            connection.sendall(b"get=1\n\n")
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
    with rtnl.open_netlink() as netlink, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        found = rtnl.find(netlink, INTERFACE)
        assert found is not None
        rtnl.RtnlLink(netlink, found["index"], ip_network("10.0.0.0/8")).bring_up(1420)
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
