"""Notifications of a kernel whose network is this test's alone: whose doing counts, and what is lost counts too."""

from __future__ import annotations

import select
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from privhelper import link as rtnl
from privhelper.watch import Watch
from tests.contract.conftest import inside
from tests.lab.namespaces import Namespaces
from tests.lab.until import until

pytestmark = pytest.mark.root

SET_UP = "ip link set lo up; ip link add ours type bridge; ip link set ours up"


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    """A network with a link for us; this thread is in it."""
    made = Namespaces(SET_UP)
    try:
        with inside(made):
            yield made
    finally:
        made.close()


@pytest.fixture
def netlink(namespaces: Namespaces) -> Iterator[Any]:
    """Our netlink connection."""
    with rtnl.open_netlink() as opened:
        yield opened


@pytest.fixture
def watch(namespaces: Namespaces) -> Iterator[Watch]:
    """A watch that begins when all is set up."""
    opened = Watch()
    yield opened
    opened._socket.close()


@pytest.fixture
def link(netlink: Any) -> rtnl.RtnlLink:
    """Our link."""
    found = rtnl.find(netlink, "ours")
    assert found is not None
    wanted = rtnl.Wanted("ours", ip_network("10.0.0.0/8"), 1420)
    return rtnl.RtnlLink(netlink, wanted, lambda index: False, given=found.index)


def has_news(watch: Watch, within: float = 0.0) -> bool:
    """Whether there is a notification to be read, after waiting for one."""
    return bool(select.select([watch], [], [], within)[0])


@pytest.mark.parametrize(
    "command",
    [
        "address add 192.0.2.1/24 dev ours",
        "address add 2001:db8::1/64 dev ours nodad",
        "route add 198.51.100.0/24 dev ours",
        "route add 2001:db8:1::/48 dev ours",
        "link set ours mtu 1400",
        "link set ours alias x",
        "link set ours down",
        "link del ours",
        "link add another type bridge",
    ],
)
def test_what_somebody_else_does_counts(namespaces: Namespaces, netlink: Any, watch: Watch, command: str) -> None:
    """Links, addresses and routes of both families, whoever does it."""
    assert not has_news(watch)
    namespaces.ip(command)
    assert has_news(watch, 5)
    assert watch.changed(rtnl.port_of(netlink))
    # an IPv6 address is announced after its route, by a worker of the kernel's
    until(lambda: not watch.changed(rtnl.port_of(netlink)), 5, "what was read is no news any more")


def test_our_own_routes_do_not_count(netlink: Any, watch: Watch, link: rtnl.RtnlLink) -> None:
    """A thousand peers of a set are no reason to look at everything again."""
    peers = [ip_address(f"10.1.{i}.1") for i in range(50)]
    for wanted in (peers, peers[:10], []):
        link.route(wanted)
        assert has_news(watch, 5)
        assert not watch.changed(rtnl.port_of(netlink))


def test_somebody_elses_change_counts_among_our_own(
    namespaces: Namespaces, netlink: Any, watch: Watch, link: rtnl.RtnlLink
) -> None:
    """One among many, before and after."""
    link.route([ip_address("10.1.1.1")])
    namespaces.ip("route add 10.1.1.2 dev ours")
    link.route([ip_address("10.1.1.1"), ip_address("10.1.1.3")])
    assert watch.changed(rtnl.port_of(netlink))
    link.route([])
    assert not watch.changed(rtnl.port_of(netlink))


def test_an_overrun_counts(netlink: Any, watch: Watch, link: rtnl.RtnlLink) -> None:
    """What was lost may have been anything, even if all that is left is our own."""
    some, others = ([ip_address(f"10.{net}.{i // 200}.{i % 200 + 1}") for i in range(2000)] for net in (1, 2))
    link.route(some)
    link.route(others)
    assert watch.changed(rtnl.port_of(netlink))
    while has_news(watch):
        watch.changed(rtnl.port_of(netlink))
    link.route(others[:10])
    link.route(others[:20])
    while has_news(watch):
        watch.changed(rtnl.port_of(netlink))
    link.route(others[:5])
    assert not watch.changed(rtnl.port_of(netlink))
