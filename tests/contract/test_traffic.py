"""Packets through wireguard-go; the kernel's run in a guest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from privhelper import userspace
from privhelper.device import Device
from tests.contract.conftest import Machine
from tests.contract.traffic import FAMILIES, INTERFACE, check_traffic, wired

pytestmark = pytest.mark.root


@pytest.fixture
def far(machine: Machine) -> Iterator[Machine]:
    """A machine wired to the one the test is in."""
    with wired(machine) as made:
        yield made


@pytest.mark.parametrize("families", FAMILIES)
def test_packets_pass_through_wireguard_go(
    families: str, machine: Machine, far: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the families of overlay and underlay."""
    with ExitStack() as opened:

        def make(there: Machine) -> Device:
            monkeypatch.setattr(userspace, "DIRECTORY", str(there.wireguard_directory))
            there.start_wireguard(INTERFACE)
            device = userspace.connect(INTERFACE)
            opened.callback(device._connection.close)
            return device

        check_traffic(families, machine, far, make)
