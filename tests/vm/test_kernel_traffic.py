"""Packets through WireGuard in the kernel."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from privhelper.device import Device
from privhelper.kernel import KernelDevice
from tests.contract.conftest import Machine
from tests.contract.traffic import FAMILIES, INTERFACE, check_traffic, wired

pytestmark = pytest.mark.vm


@pytest.fixture
def far(machine: Machine) -> Iterator[Machine]:
    """A machine wired to the one the test is in."""
    with wired(machine) as made:
        yield made


@pytest.mark.parametrize("families", FAMILIES)
def test_packets_pass_through_the_kernels_wireguard(families: str, machine: Machine, far: Machine) -> None:
    """Whatever the families of overlay and underlay."""
    with ExitStack() as opened:

        def make(there: Machine) -> Device:
            there.ip(f"link add {INTERFACE} type wireguard")
            index = socket.if_nametoindex(INTERFACE)
            return opened.enter_context(closing(KernelDevice(lambda: index)))

        check_traffic(families, machine, far, make)
