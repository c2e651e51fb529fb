"""A network of its own for the tests that change one. The test's thread is in it from set-up to tear-down, so whatever
a back end under test opens or runs is in it as well; the host's interfaces are out of reach all the while."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from privhelper import link as rtnl
from privhelper import userspace
from tests.lab.namespaces import ENV, Namespaces, namespace_of
from tests.lab.requirements import pytest_runtest_setup, pytest_terminal_summary

__all__ = ["pytest_runtest_setup", "pytest_terminal_summary"]

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
SET_UP = "mount -t tmpfs tmpfs /run; mkdir /run/wireguard; ip link set lo up"


def _enter(descriptor: int) -> None:
    """Move this thread into a network namespace."""
    if LIBC.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def inside(namespaces: Namespaces) -> Iterator[None]:
    """This thread is in the network of `namespaces`, and of nothing else of theirs."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/proc/{namespaces.pid}/ns/net", os.O_RDONLY)
    try:
        _enter(there)
        assert os.readlink("/proc/thread-self/ns/net") == namespace_of(namespaces.pid, "net") != namespace_of(1, "net")
        yield
    finally:
        _enter(home)
        os.close(there)
        os.close(home)


class Machine:
    """A network, and a wireguard-go in it for each interface that is asked for."""

    def __init__(self, namespaces: Namespaces) -> None:
        self.namespaces = namespaces
        self.wireguard_directory = Path(f"{namespaces.root}/run/wireguard")

    def start_wireguard(self, interface: str) -> None:
        """A userspace WireGuard and its TUN. It sets the link's MTU after its socket is there and before it answers, so
        it has answered when this returns; the helper as well sets the MTU after its first exchange."""
        command = self.namespaces.enter("wireguard-go", interface)
        done = subprocess.run(
            command, env=ENV, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        device = userspace.connect(interface)
        assert [] == device.status()
        device._connection.close()

    def ip(self, *commands: str) -> None:
        """Run `ip` commands."""
        self.namespaces.ip(*commands)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A network of its own, which the test is in."""
    namespaces = Namespaces(SET_UP)
    try:
        with inside(namespaces):
            made = Machine(namespaces)
            monkeypatch.setattr(userspace, "DIRECTORY", str(made.wireguard_directory))
            with rtnl.open_netlink() as netlink:
                names = [found.get("ifname") for found in netlink.get_links()]
            assert names == ["lo"], "this would not be a network of its own"
            yield made
    finally:
        namespaces.close()
