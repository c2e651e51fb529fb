"""WireGuard in the kernel: the contract of every back end, and what the kernel's alone has. What there is is read with
wg(8), which is inside the same network because this thread is."""

from __future__ import annotations

import errno
import logging
import socket
import subprocess
import traceback
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network

import pytest

from privhelper.device import Holding
from privhelper.kernel import PEERS_A_MESSAGE, KernelDevice, is_bare
from privhelper.protocol import Peer
from tests.contract.conftest import Machine
from tests.contract.device_contract import (
    CLAIMS,
    PORT,
    A,
    B,
    Claim,
    Reading,
    Subject,
    Tampering,
    assert_has,
    check_device,
)

pytestmark = pytest.mark.vm

INTERFACE = "wgcontract"


def wg(*arguments: str, stdin: str = "") -> str:
    """What wg(8) says."""
    done = subprocess.run(["wg", *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def encoded(key: bytes) -> str:
    """A key as wg(8) has it."""
    return b64encode(key).decode()


class KernelSubject:
    """A link of the kernel's, looked at and changed with wg(8)."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.make_link()
        self.device = KernelDevice(self.index)

    def make_link(self) -> None:
        """The link, up, so that it listens."""
        self._machine.ip(f"link add {INTERFACE} type wireguard", f"link set {INTERFACE} up")

    def delete_link(self) -> None:
        """As an administrator does it."""
        self._machine.ip(f"link del {INTERFACE}")

    def index(self) -> int:
        """The link's ifindex as of now; 0, which is no link's, without one."""
        return dict(map(reversed, socket.if_nameindex())).get(INTERFACE, 0)

    def read(self) -> Reading:
        """`wg show dump`: the device's line, then one for each peer."""
        own, *peers = (line.split("\t") for line in wg("show", INTERFACE, "dump").splitlines())
        endpoints, allowed, keepalives = {}, {}, {}
        for text, _, endpoint, ips, _, _, _, keepalive in peers:
            key = b64decode(text)
            if endpoint != "(none)":
                host, _, port = endpoint.rpartition(":")
                endpoints[key] = ip_address(host.strip("[]")), int(port)
            allowed[key] = frozenset(ip_network(net) for net in ips.split(",") if net != "(none)")
            keepalives[key] = 0 if keepalive == "off" else int(keepalive)
        return Reading(None if own[1] == "(none)" else b64decode(own[1]), int(own[2]), endpoints, allowed, keepalives)

    def tamper(self, what: Tampering) -> None:
        """`wg set`, one thing after the other."""
        if what.private_key is not None:
            wg("set", INTERFACE, "private-key", "/dev/stdin", stdin=encoded(what.private_key))
        if what.port is not None:
            wg("set", INTERFACE, "listen-port", str(what.port))
        for key in what.removed:
            wg("set", INTERFACE, "peer", encoded(key), "remove")
        for key, ips in what.allowed_ips.items():
            wg("set", INTERFACE, "peer", encoded(key), "allowed-ips", ",".join(ips))


@pytest.fixture
def subject(machine: Machine) -> Iterator[KernelSubject]:
    """A link in a network of its own, and the device on it."""
    made = KernelSubject(machine)
    yield made
    made.device.close()


@pytest.mark.parametrize("check", CLAIMS, ids=[check.__name__ for check in CLAIMS])
def test_the_kernels_wireguard_keeps_the_contract(check: Claim, subject: KernelSubject) -> None:
    """The real one, over generic netlink."""

    @contextmanager
    def make() -> Iterator[Subject]:
        yield subject

    check_device(make, check)


def test_restore_sets_up_a_link_that_was_made_anew(subject: KernelSubject) -> None:
    """Somebody deleted ours: another ifindex, the same key."""
    key = subject.device.create(PORT, keepalive=9)
    subject.device.apply([], [A])
    first = subject.index()
    subject.delete_link()
    subject.make_link()
    assert first != subject.index()
    assert subject.device.holding().public_key is None
    subject.device.restore()
    assert Holding(key, PORT, {}) == subject.device.holding()
    subject.device.apply([], [A])
    assert {A.public_key: 9} == subject.read().keepalives


def test_only_our_link_is_touched(subject: KernelSubject, machine: Machine) -> None:
    """Another WireGuard beside it stays as it was, also when it takes our link's name."""
    machine.ip("link add other type wireguard")
    wg("set", "other", "private-key", "/dev/stdin", "listen-port", "9", stdin=encoded(b"\x42" * 32))
    before = wg("show", "other", "dump")
    index = subject.index()
    device = KernelDevice(lambda: index)
    device.create(PORT)
    machine.ip(f"link set {INTERFACE} down", f"link set {INTERFACE} name away", f"link set other name {INTERFACE}")
    device.apply([], [A, B])
    device.destroy()
    device.close()
    assert before == wg("show", INTERFACE, "dump")


def test_a_link_is_bare_without_key_and_peer(subject: KernelSubject) -> None:
    """Only then may it be one that we made and did not come to mark."""
    assert is_bare(subject.index())
    subject.tamper(Tampering(private_key=b"\x42" * 32))
    assert not is_bare(subject.index())
    subject.device.destroy()
    assert is_bare(subject.index())
    subject.tamper(Tampering(allowed_ips={A.public_key: []}))
    assert not is_bare(subject.index())


def test_what_is_no_wireguard_link_is_an_os_error(subject: KernelSubject) -> None:
    """Neither bare nor not."""
    for index, code in ((1, errno.EOPNOTSUPP), (4321, errno.ENODEV)):
        with pytest.raises(OSError, match=r"\w") as raised:
            is_bare(index)
        assert code == raised.value.errno


CALLS = {
    "create": lambda device: device.create(PORT),
    "restore": lambda device: device.restore(),
    "holding": lambda device: device.holding(),
    "apply": lambda device: device.apply([A.public_key], [B]),
    "status": lambda device: device.status(),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_kernels_no_is_an_os_error_and_the_device_goes_on(name: str, subject: KernelSubject) -> None:
    """The link is gone; then there is another."""
    subject.device.create(PORT)
    subject.delete_link()
    with pytest.raises(OSError, match="No such device") as raised:
        CALLS[name](subject.device)
    assert errno.ENODEV == raised.value.errno
    subject.make_link()
    CALLS[name](subject.device)


def test_destroying_a_device_that_is_gone_is_no_error(subject: KernelSubject) -> None:
    """There is neither key nor peer any more."""
    subject.device.create(PORT)
    subject.delete_link()
    subject.device.destroy()


def test_a_taken_port_is_refused_and_changes_nothing(subject: KernelSubject) -> None:
    """Neither the device nor what it would restore."""
    key = subject.device.create(PORT)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", PORT + 1))
        with pytest.raises(OSError, match="in use") as raised:
            subject.device.create(PORT + 1)
    assert errno.EADDRINUSE == raised.value.errno
    assert Holding(key, PORT, {}) == subject.device.holding()
    subject.device.restore()
    assert key == subject.read().public_key


def test_the_longest_messages_hold_as_many_peers_as_they_are_given(subject: KernelSubject) -> None:
    """The longest addresses, and one peer more than goes into one message, added and removed."""
    subject.device.create(PORT, keepalive=25)
    peers = [
        Peer((i + 256).to_bytes(2, "big") * 16, ip_address(f"2001:db8::1:{i:x}"), ip_address(f"fd00::{i:x}"), "n")
        for i in range(PEERS_A_MESSAGE + 1)
    ]
    subject.device.apply([], peers)
    assert_has(subject, *peers)
    subject.device.apply([peer.public_key for peer in peers], [A])
    assert_has(subject, A)


def test_the_private_key_is_in_no_exception_text_repr_or_log(
    subject: KernelSubject, caplog: pytest.LogCaptureFixture
) -> None:
    """pyroute2 logs whole messages if asked; the answer to GET_DEVICE has the key, and a refused request comes back."""
    caplog.set_level(logging.DEBUG)
    subject.device.create(PORT)
    subject.device.holding()
    private = wg("show", INTERFACE, "private-key").strip()
    errors: list[BaseException] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        subject.tamper(Tampering(port=PORT + 1))
        taken.bind(("0.0.0.0", PORT))
        with pytest.raises(OSError, match="in use") as raised:
            subject.device.restore()
    errors.append(raised.value)
    texts = [repr(subject.device), str(vars(subject.device)), *(record.getMessage() for record in caplog.records)]
    while errors:
        error = errors.pop()
        texts += [repr(error), str(error), *traceback.format_exception(error, chain=True)]
        errors += [cause for cause in (error.__cause__, error.__context__) if cause is not None]
    forms = (private, b64decode(private).hex(), str(b64decode(private)))
    assert any("WGDEVICE_A_PUBLIC_KEY" in text for text in texts), "the messages were not logged: this proves nothing"
    assert [] == [text for text in texts if any(form in text for form in forms)]
