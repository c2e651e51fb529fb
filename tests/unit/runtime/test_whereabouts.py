"""Noticing that this host has another address: what it takes, what is left alone, and what the kernel is asked."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest

from wesher.runtime.whereabouts import (
    ANYWHERE,
    MOST_ASKED,
    Address,
    Whereabouts,
    first_address,
    is_announceable,
    is_of_this_host,
    source_towards,
)
from wesher.swim.io import Endpoint

OLD, NEW, OTHER = (ip_address(f"192.0.2.{number}") for number in (11, 12, 13))


def member(text: str) -> Endpoint:
    return Endpoint(ip_address(text), 7946)


class Host:
    """A host's addresses, and the source it would take towards each destination; `told` is what came of looking."""

    def __init__(self, *targets: list[Endpoint], announced: Address = OLD) -> None:
        self.addresses = {announced}
        self.sources: dict[Endpoint, Address] = {}
        self.targets = targets
        self.asked: list[Endpoint] = []
        self.told: list[Address] = []
        self.announced = announced
        self.whereabouts = Whereabouts(
            lambda: self.announced,
            lambda: self.targets,
            is_announceable,
            self.told.append,
            is_ours=lambda address: address in self.addresses,
            source=self.source,
        )

    def source(self, endpoint: Endpoint) -> Address | None:
        self.asked.append(endpoint)
        return self.sources.get(endpoint)

    def moves(self, to: Address) -> None:
        """Every packet leaves from there now."""
        self.addresses = {to}
        self.sources = {endpoint: to for group in (*self.targets, ANYWHERE) for endpoint in group}

    def look(self, times: int) -> list[Address]:
        for _ in range(times):
            self.whereabouts.look()
        return self.told


A, B, C = member("192.0.2.1"), member("192.0.2.2"), member("198.51.100.3")


def test_a_change_is_told_at_the_second_look():
    """Once; what follows is the caller's."""
    host = Host([A, B])
    assert host.look(2) == []
    host.moves(NEW)
    assert host.look(1) == []
    assert host.look(1) == [NEW]


def test_an_address_that_stays_is_kept_whatever_comes_beside_it():
    """Packets may leave from another one: nobody moves for that."""
    host = Host([A])
    host.moves(NEW)
    host.addresses = {OLD, NEW}
    assert host.look(3) == []
    assert host.asked == []


def test_while_there_is_none_nothing_is_done_but_to_say_so():
    """And when the same comes back nothing has happened."""
    host = Host([A])
    host.addresses = set()
    assert host.look(5) == []
    assert (
        host.whereabouts.problem
        == "address 192.0.2.11 is gone from this host, and there is no other; give the host one"
    )
    host.addresses = {OLD}
    assert host.look(2) == []
    assert host.whereabouts.problem == ""


def test_one_that_passes_is_not_believed():
    """Each time another one: the second look has to show the same as the first."""
    host = Host([A])
    for address in (NEW, OTHER, NEW):
        host.moves(address)
        assert host.look(1) == []
    host.addresses = {OLD}
    host.look(1)
    host.moves(NEW)
    assert host.look(1) == []
    assert host.look(1) == [NEW]


def test_of_several_it_is_the_one_that_reaches_most():
    """Of the family that was announced before, where there is one."""
    host = Host([A, B, C, member("fd00::1"), member("fd00::2"), member("fd00::3")])
    host.addresses = set()
    six = ip_address("fd00::9")
    host.sources = {A: NEW, B: NEW, C: OTHER, member("fd00::1"): six, member("fd00::2"): six, member("fd00::3"): six}
    assert host.look(2) == [NEW]
    del host.sources[A], host.sources[B], host.sources[C]
    assert host.look(2) == [NEW, six]


def test_those_who_are_gone_count_only_where_nobody_else_can_be_reached():
    """And nobody in particular where nobody is known."""
    host = Host([A], [B, C])
    host.addresses = set()
    host.sources = {A: NEW, B: OTHER, C: OTHER, ANYWHERE[0]: ip_address("192.0.2.14")}
    assert host.look(2) == [NEW]
    del host.sources[A]
    assert host.look(2) == [NEW, OTHER]
    del host.sources[B], host.sources[C]
    assert host.look(2) == [NEW, OTHER, ip_address("192.0.2.14")]


def test_what_cannot_be_announced_is_not():
    """Loopback and link-local addresses, and those that the caller leaves out."""
    host = Host([A])
    for text in ("127.0.0.1", "169.254.1.1", "0.0.0.0", "224.0.0.1", "fe80::1", "::1"):
        host.moves(ip_address(text))
        assert host.look(2) == []
    assert host.whereabouts.problem


def test_so_many_members_are_asked_about_and_no_more():
    """Each costs a socket."""
    host = Host([member(f"10.0.{number}.1") for number in range(100)])
    host.moves(NEW)
    host.look(1)
    assert len(host.asked) == MOST_ASKED


# --- what the kernel says


@pytest.mark.parametrize(("text", "ours"), [("127.0.0.1", True), ("192.0.2.77", False), ("2001:db8::77", False)])
def test_the_kernel_knows_which_addresses_are_this_hosts(text, ours):
    """No packet is sent for that, and none could be: there is no listener whose errors would come back."""
    assert is_of_this_host(ip_address(text)) is ours


def test_the_kernel_knows_an_interfaces_address():
    """None where there is no such interface."""
    assert first_address("lo") == IPv4Address("127.0.0.1")
    assert first_address("nosuchinterface") is None


def test_the_kernel_knows_where_packets_would_come_from():
    """None where no route leads."""
    assert source_towards(Endpoint(IPv4Address("127.0.0.9"), 7946)) == IPv4Address("127.0.0.1")
    assert source_towards(Endpoint(IPv4Address("255.255.255.255"), 7946)) is None
