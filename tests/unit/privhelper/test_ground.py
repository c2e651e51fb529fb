"""Whether the overlay fits the host: the table of what is in its way, what is only said, and what is neither."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from privhelper.addressing import derive, is_edge
from privhelper.ground import NoGround, check
from tests.unit.privhelper.over_fakes import NET, PINNED

OWN = derive(NET, b"self", 0)
WIDE = ip_network((OWN, 9), strict=False)
NET6 = ip_network("fd00::/8")
OWN6 = derive(NET6, b"self", 0)
ALL = [f"{derive(NET, b'self', attempt)}/32" for attempt in range(16)]
ALL6 = [f"{derive(NET6, b'self', attempt)}/128" for attempt in range(16)]
HALVES = ["10.0.0.0/9", "10.128.0.0/9"]


@pytest.mark.parametrize(
    ("net", "networks", "has_ipv6", "why"),
    [
        (NET, ["10.0.0.0/8"], True, "a local network is as wide as the overlay net 10.0.0.0/8; give another"),
        (NET, ["10.0.0.0/8", "10.1.0.0/16", f"{OWN}/32"], True, "as wide as the overlay net"),
        (NET, ALL, True, f"overlay address {OWN} of self lies in this host's network {OWN}/32; give another --over"),
        (NET, [*ALL, str(WIDE)], True, f"in this host's network {WIDE};"),
        (NET, HALVES, True, "lies in this host's network"),
        (NET6, [], False, "the overlay fd00::/8 needs IPv6, which is disabled on this host; enable it"),
        (NET6, ["fd00::/8"], True, "as wide as the overlay net"),
        (NET6, ALL6, True, f"overlay address {OWN6} of self"),
    ],
)  # fmt: skip
def test_what_is_in_the_overlays_way(net: object, networks: list[str], has_ipv6: bool, why: str) -> None:
    """One line that says what, why and what to give; the widest network is named."""
    with pytest.raises(NoGround) as raised:
        check(replace(PINNED, overlay_net=net), map(ip_network, networks), has_ipv6=has_ipv6)  # type: ignore[arg-type]
    assert why in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("networks", "named"),
    [
        (["10.0.0.0/24"], "10.0.0.0/8: 10.0.0.0/24; members"),
        (["10.2.0.0/24", "10.1.0.0/16", "10.1.0.0/16"], "10.1.0.0/16, 10.2.0.0/24; members"),
        ([f"10.0.{i}.0/24" for i in range(9)], "10.0.7.0/24 …; members"),
    ],
)
def test_narrower_networks_elsewhere_are_one_warning(networks: list[str], named: str) -> None:
    """The original runs there; a long list is cut."""
    warning = check(PINNED, map(ip_network, networks), has_ipv6=True)
    assert warning is not None
    assert named in warning
    assert "\n" not in warning


@pytest.mark.parametrize("last", range(16))
def test_one_address_that_is_left_is_enough(last: int) -> None:
    """The first is said to be none of those; whichever other one is left, that is the agent's to find."""
    warning = check(PINNED, map(ip_network, [net for net in ALL if net != ALL[last]]), has_ipv6=True)
    assert warning is not None
    assert warning.endswith(f"refused, and this node cannot have its first, {OWN}" if last else "will be refused")


def test_a_nets_first_and_last_address_are_no_way_out() -> None:
    """Of a net of four, with the two others covered."""
    small = replace(PINNED, overlay_net=ip_network("10.0.0.0/30"), node_name="node2")
    assert {str(derive(small.overlay_net, b"node2", attempt))[-1] for attempt in range(16)} == set("0123")
    own = derive(small.overlay_net, b"node2", 0)
    assert not is_edge(small.overlay_net, own)
    assert check(small, [ip_network(own)], has_ipv6=True) is not None
    with pytest.raises(NoGround):
        check(small, [ip_network("10.0.0.1"), ip_network("10.0.0.2")], has_ipv6=True)


@pytest.mark.parametrize("address", ["10.9.8.7", "10.9.8.8"])
def test_a_given_address_is_what_counts(address: str) -> None:
    """Not the one that the name would have."""
    given = replace(PINNED, static_addresses=True, address=ip_address(address))
    assert check(given, [ip_network(f"{OWN}/32")], has_ipv6=True) is not None
    with pytest.raises(NoGround, match=f"overlay address {address} of self lies in .*; give another --address$"):
        check(given, [ip_network(f"{address}/32")], has_ipv6=True)


def test_a_host_without_networks_in_the_overlay_is_good_ground() -> None:
    """With IPv6 or without it."""
    assert check(PINNED, [], has_ipv6=False) is None
    assert check(replace(PINNED, overlay_net=NET6), [], has_ipv6=True) is None
