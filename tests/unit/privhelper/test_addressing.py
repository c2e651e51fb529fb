"""Overlay addresses: the Go original's for attempt 0, ours for the others, and nothing else."""

from __future__ import annotations

import json
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privhelper.addressing import MAX_ATTEMPT, Address, Network, derive, fnv1a_128, is_derived, is_edge
from tests.unit.privhelper.strategies import networks

GOLDEN = Path(__file__).parents[2] / "golden" / "privhelper" / "fnv128a.json"
VECTORS = json.loads(GOLDEN.read_text(encoding="utf-8"))["vectors"]
DERIVED = [
    (vector["name"], net, address)
    for vector in VECTORS
    for net, address in vector.items()
    if net not in ("name", "hash")
]
NET = IPv4Network("10.0.0.0/8")

names = st.binary(max_size=64).filter(lambda name: b"\0" not in name)


def bits(address: Address) -> str:
    """The address as a string of 0 and 1."""
    return format(int(address), f"0{address.max_prefixlen}b")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: repr(vector["name"]))
def test_the_hash_is_gos(vector: dict[str, str]) -> None:
    """hash/fnv's New128a over the name's bytes."""
    assert int(vector["hash"], 16) == fnv1a_128(vector["name"].encode())


@pytest.mark.parametrize(("name", "net", "address"), DERIVED)
def test_the_first_attempt_is_the_originals_address(name: str, net: str, address: str) -> None:
    """Every vector, every net."""
    assert ip_address(address) == derive(ip_network(net), name.encode(), 0)


@given(networks(), names, st.integers(0, MAX_ATTEMPT))
def test_any_prefix_length_is_exact_to_the_bit(net: Network, name: bytes, attempt: int) -> None:
    """The net's first bits, then as many of the hash's last bits as are left."""
    hashed = name if attempt == 0 else name + b"\0" + bytes((attempt,))
    digest = format(fnv1a_128(hashed), "0128b")
    host_bits = net.max_prefixlen - net.prefixlen
    expected = bits(net.network_address)[: net.prefixlen] + (digest[-host_bits:] if host_bits else "")
    assert expected == bits(derive(net, name, attempt))


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        ("10.0.0.0/9", "10.93.153.165"),
        ("10.128.0.0/9", "10.221.153.165"),
        ("10.0.0.0/12", "10.13.153.165"),
        ("10.1.0.0/20", "10.1.9.165"),
        ("192.168.7.64/27", "192.168.7.69"),
        ("fd00::/125", "fd00::5"),
        ("fd12:3456:7000::/36", "fd12:3456:7575:7277:b806:e994:13dd:99a5"),
    ],
)
def test_prefixes_that_end_within_a_byte(net: str, expected: str) -> None:
    """`test` hashes to 69d061a9c5757277b806e99413dd99a5: worked out by hand."""
    assert ip_address(expected) == derive(ip_network(net), b"test", 0)


@given(names)
def test_attempts_differ(name: bytes) -> None:
    """In a net with room, no name meets itself."""
    net = IPv6Network("fd00::/8")
    assert MAX_ATTEMPT + 1 == len({derive(net, name, attempt) for attempt in range(MAX_ATTEMPT + 1)})


def test_a_later_attempt_goes_on_from_the_name() -> None:
    """FNV-1a over name, 0x00, attempt: the vector for whoever writes another implementation."""
    assert ip_address("10.181.65.98") == derive(NET, b"test", 1)
    assert fnv1a_128(b"test\0\x0f") == fnv1a_128(b"\0\x0f", fnv1a_128(b"test"))


@given(networks(), names)
def test_the_sixteen_addresses_are_derived(net: Network, name: bytes) -> None:
    """Each of them."""
    assert all(is_derived(net, name, derive(net, name, attempt)) for attempt in range(16))


@given(names, st.integers(0, 2**24 - 1))
def test_no_other_address_is_derived(name: bytes, host: int) -> None:
    """Not one of the net's other addresses, and not the seventeenth."""
    address = NET.network_address + host
    sixteen = {derive(NET, name, attempt) for attempt in range(16)}
    assert (address in sixteen) == is_derived(NET, name, address)
    assert (derive(NET, name, 16) in sixteen) == is_derived(NET, name, derive(NET, name, 16))


def test_a_neighbour_and_the_other_family_are_not_derived() -> None:
    """One bit beside, and the same number as IPv6."""
    address = derive(NET, b"test", 0)
    assert not is_derived(NET, b"test", address + 1)
    assert not is_derived(NET, b"Test", address)
    assert not is_derived(NET, b"test", ip_address(int(address) | 1 << 100))


@pytest.mark.parametrize(
    ("net", "edges"),
    [
        ("10.0.0.0/8", {"10.0.0.0", "10.255.255.255"}),
        ("192.168.0.0/30", {"192.168.0.0", "192.168.0.3"}),
        ("192.168.0.0/31", set()),
        ("fd00::/126", {"fd00::", "fd00::3"}),
        ("fd00::/127", set()),
    ],
)
def test_the_edges_of_a_net_are_its_first_and_last_address(net: str, edges: set[str]) -> None:
    """A net of two has none (RFC 3021, RFC 6164)."""
    network = ip_network(net)
    near = [network.network_address + i for i in range(2)] + [network.broadcast_address - i for i in range(2)]
    assert {ip_address(edge) for edge in edges} == {address for address in near if is_edge(network, address)}
