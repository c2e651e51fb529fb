"""What every WireGuard back end does, as claims that `check_device` puts to each. Back ends are siblings: the monitor
cannot tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Protocol

from privhelper.addressing import Address, Network
from privhelper.device import Device
from privhelper.protocol import Peer, PeerStatus

PORT = 51820
A = Peer(b"\x0a" * 32, ip_address("192.0.2.1"), ip_address("10.1.2.3"), "node-a")
B = Peer(b"\x0b" * 32, ip_address("192.0.2.2"), ip_address("10.1.2.4"), "node-b")
V6 = Peer(b"\x0c" * 32, ip_address("2001:db8::1"), ip_address("fd00::3"), "node-c")


@dataclass(frozen=True)
class Reading:
    """What a device is, read past the code under test."""

    public_key: bytes | None
    port: int
    endpoints: Mapping[bytes, tuple[Address, int]]
    allowed_ips: Mapping[bytes, frozenset[Network]]


class Subject(Protocol):
    """A device, and another way to look at it."""

    device: Device

    def read(self) -> Reading:
        """What there is."""


Make = Callable[[], AbstractContextManager[Subject]]
Claim = Callable[[Subject], None]
CLAIMS: list[Claim] = []


def claim(check: Claim) -> Claim:
    """One line of the contract."""
    CLAIMS.append(check)
    return check


def check_device(make: Make, *claims: Claim) -> None:
    """Put each claim (all of them unless named) to a device made for it."""
    for check in claims or CLAIMS:
        with make() as subject:
            check(subject)


def assert_has(subject: Subject, *peers: Peer) -> None:
    """The device has exactly `peers`: endpoint at the pinned port, and as allowed IPs the overlay address alone."""
    reading = subject.read()
    assert {p.public_key: (p.endpoint, PORT) for p in peers} == reading.endpoints
    assert {p.public_key: frozenset((ip_network(p.overlay_addr),)) for p in peers} == reading.allowed_ips


@claim
def create_gives_a_fresh_key_each_time(subject: Subject) -> None:
    """Its public half is the one answered."""
    first = subject.device.create(PORT)
    assert first == subject.read().public_key
    second = subject.device.create(PORT)
    assert second == subject.read().public_key
    assert len(first) == len(second) == 32
    assert first != second


@claim
def create_sets_the_port_and_forgets_every_peer(subject: Subject) -> None:
    """A new key with old peers would be somebody else's set."""
    subject.device.create(PORT)
    subject.device.apply([], [A, B])
    subject.device.create(PORT + 1)
    assert subject.read().port == PORT + 1
    subject.device.create(PORT)
    assert subject.read().port == PORT
    assert_has(subject)


@claim
def allowed_ips_are_exactly_the_overlay_address(subject: Subject) -> None:
    """A /32 or a /128, whichever family the endpoint has."""
    subject.device.create(PORT)
    mixed = replace(V6, public_key=b"\x0d" * 32, endpoint=A.endpoint, overlay_addr=ip_address("fd00::4"))
    subject.device.apply([], [A, B, V6, mixed])
    assert_has(subject, A, B, V6, mixed)


@claim
def only_named_peers_are_touched(subject: Subject) -> None:
    """One goes, one changes, one stays."""
    subject.device.create(PORT)
    subject.device.apply([], [A, B, V6])
    moved = replace(B, endpoint=ip_address("198.51.100.2"))
    subject.device.apply([A.public_key], [moved])
    assert_has(subject, moved, V6)


@claim
def applying_nothing_changes_nothing(subject: Subject) -> None:
    """Nor does applying the same again."""
    subject.device.create(PORT)
    subject.device.apply([], [A])
    subject.device.apply([], [])
    subject.device.apply([], [A])
    assert_has(subject, A)


@claim
def removing_an_unknown_peer_is_no_error(subject: Subject) -> None:
    """After a failure the monitor removes what may or may not be there."""
    subject.device.create(PORT)
    subject.device.apply([B.public_key, V6.public_key], [A])
    assert_has(subject, A)


@claim
def an_address_moves_from_an_old_key_to_a_new_one(subject: Subject) -> None:
    """In one change, as when a node comes back."""
    subject.device.create(PORT)
    subject.device.apply([], [A, B])
    returned = replace(A, public_key=b"\x1a" * 32)
    subject.device.apply([A.public_key], [returned])
    assert_has(subject, returned, B)


@claim
def a_peers_new_address_replaces_its_old_one(subject: Subject) -> None:
    """Not both."""
    subject.device.create(PORT)
    subject.device.apply([], [A, B])
    moved = replace(A, overlay_addr=ip_address("10.9.9.9"))
    subject.device.apply([], [moved])
    assert_has(subject, moved, B)


@claim
def two_peers_can_exchange_addresses(subject: Subject) -> None:
    """In whichever order they are named."""
    subject.device.create(PORT)
    subject.device.apply([], [A, B])
    swapped = [replace(A, overlay_addr=B.overlay_addr), replace(B, overlay_addr=A.overlay_addr)]
    subject.device.apply([], swapped)
    assert_has(subject, *swapped)
    subject.device.apply([], [B, A])
    assert_has(subject, A, B)


@claim
def a_peer_removed_and_added_at_once_is_there(subject: Subject) -> None:
    """Removals come first."""
    subject.device.create(PORT)
    subject.device.apply([], [A])
    subject.device.apply([A.public_key], [A])
    assert_has(subject, A)


@claim
def status_tells_every_peer(subject: Subject) -> None:
    """None of them has ever shaken hands."""
    subject.device.create(PORT)
    assert subject.device.status() == []
    subject.device.apply([], [A, V6])
    expected = {
        PeerStatus(A.public_key, A.endpoint, 0, 0, 0),
        PeerStatus(V6.public_key, V6.endpoint, 0, 0, 0),
    }
    assert expected == set(subject.device.status())
    assert len(subject.device.status()) == 2


@claim
def a_thousand_peers_are_one_change(subject: Subject) -> None:
    """The default limit."""
    subject.device.create(PORT)
    peers = [
        Peer((i + 256).to_bytes(2, "big") * 16, ip_address(0xC6330000 + i), ip_address(0x0A000001 + i), f"node-{i}")
        for i in range(1000)
    ]
    subject.device.apply([], peers)
    assert_has(subject, *peers)
    assert len(subject.device.status()) == 1000
    subject.device.apply([p.public_key for p in peers[1:]], [])
    assert_has(subject, peers[0])


@claim
def destroy_forgets_key_and_peers(subject: Subject) -> None:
    """And the device can be created anew."""
    subject.device.create(PORT)
    subject.device.apply([], [A])
    subject.device.destroy()
    assert subject.read().public_key is None
    assert_has(subject)
    assert subject.device.status() == []
    subject.device.destroy()
    assert subject.device.create(PORT) == subject.read().public_key
