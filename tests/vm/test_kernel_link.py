"""The link as the kernel's own WireGuard makes it: whose a link of our name is, and how ours comes back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from privhelper import link as rtnl
from privhelper.kernel import KernelDevice, is_bare
from privhelper.link import ALIAS, RtnlLink, Wanted
from tests.contract.conftest import Machine
from tests.contract.device_contract import PORT

pytestmark = pytest.mark.vm

NAME = "wgcontract"
NETS = {"ipv4": ip_network("10.9.0.0/16"), "ipv6": ip_network("fd99::/32")}
KEY = "eE6IZ9yI4p2VHqUq0rFOdO0V3Qd3S0c8nqk8lX4mT1Q="


@pytest.fixture
def netlink(machine: Machine) -> Iterator[Any]:
    """The one netlink connection, opened inside."""
    with rtnl.open_netlink() as opened:
        yield opened


@pytest.fixture
def link(netlink: Any) -> RtnlLink:
    """Ours, not made yet."""
    return ours(netlink, "ipv4")


def ours(netlink: Any, family: str) -> RtnlLink:
    """Not made yet."""
    return RtnlLink(netlink, Wanted(NAME, NETS[family], 1380), is_bare)


def shown(*what: str) -> str:
    """What `ip` says of the link."""
    done = subprocess.run(["ip", *what, "show", "dev", NAME], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout


def test_a_new_link_is_wireguards_and_carries_our_alias(link: RtnlLink, netlink: Any) -> None:
    """From its first moment that another process could act on."""
    link.make()
    assert rtnl.Found(link.index, rtnl.WIREGUARD, ALIAS, 1420, False) == rtnl.find(netlink, NAME)


STALE = {
    "with our alias": [f"link set {NAME} alias {ALIAS}"],
    "with our alias, a key and a peer": [f"link set {NAME} alias {ALIAS}", f"peer {KEY}"],
    "without alias, key and peer": [],
}


@pytest.mark.parametrize("kind", STALE)
def test_a_stale_link_is_made_anew(kind: str, link: RtnlLink, netlink: Any, machine: Machine) -> None:
    """What an earlier run left, whenever it was killed."""
    _make_link(machine, STALE[kind])
    before = rtnl.find(netlink, NAME)
    link.make()
    assert before is not None
    assert before.index != link.index
    assert is_bare(link.index)
    link.delete()
    assert rtnl.find(netlink, NAME) is None


FOREIGN = {
    "without our alias, with a peer": [f"peer {KEY}"],
    "with another alias and a peer": [f"link set {NAME} alias other", f"peer {KEY}"],
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_somebody_elses_wireguard_is_left_alone(kind: str, link: RtnlLink, machine: Machine) -> None:
    """The error says what to do."""
    _make_link(machine, FOREIGN[kind])
    before = shown("-details", "link")
    with pytest.raises(FileExistsError, match=f"ip link del dev {NAME}"):
        link.make()
    link.delete()
    assert before == shown("-details", "link")


def test_a_link_of_another_kind_is_left_alone_even_with_our_alias(link: RtnlLink, machine: Machine) -> None:
    """An alias is no proof: who has the right may give it to anything."""
    machine.ip(f"link add {NAME} type bridge", f"link set {NAME} alias {ALIAS}")
    before = shown("-details", "link")
    with pytest.raises(FileExistsError, match=f"ip link del dev {NAME}"):
        link.make()
    assert before == shown("-details", "link")


@pytest.mark.parametrize("family", NETS)
def test_a_link_that_somebody_deleted_comes_back_as_it_was(family: str, netlink: Any, machine: Machine) -> None:
    """Key, port, address and routes; only its index is another."""
    link = ours(netlink, family)
    device = KernelDevice(lambda: link.index)
    link.make()
    key = device.create(PORT)
    link.bring_up()
    own, *peers = (NETS[family].network_address + number for number in range(1, 5))
    link.assign(own)
    link.route(peers)
    index, addresses, routes = link.index, shown("-brief", "address"), shown(f"-{own.version}", "route")
    assert str(own) in addresses
    assert all(str(peer) in routes for peer in peers)
    machine.ip(f"link del {NAME}")
    assert not link.exists()
    link.make()
    device.restore()
    link.bring_up()
    assert index != link.index
    assert (key, PORT) == (device.holding().public_key, device.holding().port)
    assert (addresses, routes) == (shown("-brief", "address"), shown(f"-{own.version}", "route"))
    assert [] == link.repair()
    device.close()


def _make_link(machine: Machine, then: list[str]) -> None:
    machine.ip(f"link add {NAME} type wireguard")
    for command in then:
        if command.startswith("peer"):
            subprocess.run(["wg", "set", NAME, *command.split()], check=True, timeout=30)
        else:
            machine.ip(command)
