"""What gossip binds and announces: each row of the original's table, byte for byte."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from wesher.runtime.bind_addr import BindAddress, InterfaceAddress, NoAddress, choose, default_interface

PRIVATE, PUBLIC = "192.168.1.10", "203.0.114.5"
MAPPED = bytes(10) + b"\xff\xff"
ANY4, ANY6 = IPv4Address("0.0.0.0"), IPv6Address("::")


def host(*addresses: str) -> list[InterfaceAddress]:
    """Addresses as `interface address`; every host has a loopback."""
    found = [InterfaceAddress("lo", ip_address("127.0.0.1"), 8), InterfaceAddress("lo", ip_address("::1"), 128)]
    for text in addresses:
        interface, address = text.split()
        found.append(InterfaceAddress(interface, ip_address(address), 64 if ":" in address else 24))
    return found


def chosen(found, *, addr=None, iface=None, default=None) -> tuple[str, bytes]:
    """What to bind, as text, and what to announce."""
    choice = choose(None if addr is None else ip_address(addr), iface, found, default)
    assert isinstance(choice, BindAddress)
    return str(choice.bind), choice.announced


@pytest.mark.parametrize("addr", [PRIVATE, PUBLIC, "127.0.0.1", "2001:db8::1", "fd00::1"])
def test_a_given_address_is_bound_and_announced_as_it_is(addr):
    """Four bytes for IPv4, sixteen for IPv6, whatever else the host has."""
    assert chosen(host("eth0 10.0.0.1"), addr=addr) == (addr, ip_address(addr).packed)


@pytest.mark.parametrize(
    ("iface", "addr"),
    [("eth0", PRIVATE), ("eth1", PUBLIC), ("lo", "127.0.0.1"), ("eth2", "fd00::5")],
)
def test_a_given_interface_means_its_first_address(iface, addr):
    """Link-local ones are passed over: they mean nothing elsewhere."""
    found = host(f"eth0 {PRIVATE}", "eth1 fe80::1", f"eth1 {PUBLIC}", "eth2 169.254.3.3", "eth2 fd00::5")
    assert chosen(found, iface=iface) == (addr, ip_address(addr).packed)


@pytest.mark.parametrize("found", [host(), host("eth1 10.0.0.1"), host("eth0 fe80::1", "eth0 169.254.1.1")])
def test_a_given_interface_without_an_address_is_an_error(found):
    """Missing, or with link-local addresses only: said by name."""
    with pytest.raises(NoAddress, match="interface eth0 is not there or has no address; give another --bind-iface"):
        choose(None, "eth0", found, None)


@pytest.mark.parametrize("addr", [PUBLIC, "2a01:4f8::5"])
def test_a_public_address_is_bound_and_announced_as_it_is(addr):
    """Also beside private ones: a machine in the open is reached there."""
    assert chosen(host(f"eth0 {PRIVATE}", f"eth1 {addr}")) == (addr, ip_address(addr).packed)


@pytest.mark.parametrize("addr", [PRIVATE, "10.1.2.3", "172.16.0.9", "100.64.7.7"])
def test_a_private_host_binds_everything_and_announces_sixteen_bytes(addr):
    """Carrier-grade NAT counts as private: it is public to Python alone."""
    assert chosen(host(f"eth0 {addr}")) == ("0.0.0.0", MAPPED + ip_address(addr).packed)


def test_a_private_ipv6_host_announces_its_sixteen_bytes():
    """Without a mapped form, of course."""
    assert chosen(host("eth0 fe80::1", "eth0 fd00::2")) == ("0.0.0.0", ip_address("fd00::2").packed)


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
def test_a_given_wildcard_is_bound_and_a_private_address_announced(wildcard):
    """Even where there is a public one: that is what the original does."""
    found = host(f"eth0 {PUBLIC}", f"eth1 {PRIVATE}")
    assert chosen(found, addr=wildcard) == (wildcard, MAPPED + ip_address(PRIVATE).packed)


@pytest.mark.parametrize("kind", [("10.1.1.1", "10.2.2.2"), ("203.0.114.1", "203.0.114.2")])
@pytest.mark.parametrize("default", [0, 1])
def test_the_default_routes_interface_is_preferred(kind, default):
    """Whatever order the kernel lists interfaces in."""
    found = host(f"eth0 {kind[0]}", f"eth1 {kind[1]}")
    for listed in (found, found[::-1]):
        _, announced = chosen(listed, default=f"eth{default}")
        assert announced[-4:] == ip_address(kind[default]).packed


def test_ipv4_is_preferred_on_one_interface():
    """It is what the Go nodes of a mesh most likely have."""
    _, announced = chosen(host("eth0 fd00::2", f"eth0 {PRIVATE}"), default="eth0")
    assert announced == MAPPED + ip_address(PRIVATE).packed


@pytest.mark.parametrize("found", [host(), host("eth0 169.254.1.1", "eth0 fe80::1"), []])
@pytest.mark.parametrize("addr", [None, ANY4, ANY6])
def test_a_host_without_a_usable_address_is_an_error(found, addr):
    """Loopback and link-local reach nobody; the message says what to give."""
    with pytest.raises(NoAddress, match=r"give one with --bind-addr or --bind-iface"):
        choose(addr, None, found, None)


ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth1\t0000FEA9\t00000000\t0001\t0\t0\t1000\t0000FFFF\t0\t0\t0
vpn0\t00000000\t01006E0A\t0003\t0\t0\t50\t00000080\t0\t0\t0
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
"""


def test_the_default_route_is_the_one_with_neither_destination_nor_mask():
    """A /1 of a VPN is none."""
    assert default_interface(ROUTES) == "eth0"


@pytest.mark.parametrize("text", ["", "Iface\n", "\n".join(ROUTES.splitlines()[:3]), "x\ngarbage\n\n00000000 1 2\n"])
def test_without_a_default_route_there_is_no_preference(text):
    """Nor with a table that makes no sense."""
    assert default_interface(text) is None
