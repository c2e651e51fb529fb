"""What every WireGuard back end does, as claims that `check_device` puts to each. Back ends are siblings: the monitor
cannot tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Protocol

from privhelper.addressing import Address, Network
from privhelper.device import Device, Holding
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
    keepalives: Mapping[bytes, int]
    """Seconds; 0 is off."""


@dataclass(frozen=True)
class Tampering:
    """What somebody else does to the device, as with wg(8). None and empty change nothing."""

    private_key: bytes | None = None
    port: int | None = None
    removed: Collection[bytes] = ()
    allowed_ips: Mapping[bytes, Collection[str]] = field(default_factory=dict)
    """In place of those a peer had; a peer that is not there comes to be."""


class Subject(Protocol):
    """A device, and another way to look at it and to change it."""

    device: Device

    def read(self) -> Reading:
        """What there is."""

    def tamper(self, what: Tampering) -> None:
        """Change the device past the code under test."""


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


def assert_holding_is_what_there_is(subject: Subject) -> None:
    """Nothing of it remembered, nothing left out."""
    reading = subject.read()
    assert Holding(reading.public_key, reading.port, reading.allowed_ips) == subject.device.holding()


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
def a_thousand_peers_with_keepalive_are_taken_too(subject: Subject) -> None:
    """wireguard-go begins a handshake with each before it answers, which once took longer than the helper waited."""
    subject.device.create(PORT, 25)
    peers = [
        Peer((i + 256).to_bytes(2, "big") * 16, ip_address(0xC6330000 + i), ip_address(0x0A000001 + i), f"node-{i}")
        for i in range(1000)
    ]
    subject.device.apply([], peers)
    assert_has(subject, *peers)


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


@claim
def holding_is_what_there_is(subject: Subject) -> None:
    """Before the first key, with peers, and at the end."""
    assert subject.device.holding().public_key is None
    key = subject.device.create(PORT)
    assert Holding(key, PORT, {}) == subject.device.holding()
    subject.device.apply([], [A, V6])
    expected = {peer.public_key: frozenset((ip_network(peer.overlay_addr),)) for peer in (A, V6)}
    assert Holding(key, PORT, expected) == subject.device.holding()
    assert_holding_is_what_there_is(subject)
    subject.device.destroy()
    assert subject.device.holding().public_key is None
    assert {} == subject.device.holding().allowed_ips


@claim
def holding_tells_every_one_of_a_thousand_peers(subject: Subject) -> None:
    """However many messages or reads that takes."""
    subject.device.create(PORT)
    subject.device.apply([], [replace(A, public_key=(i + 256).to_bytes(2, "big") * 16) for i in range(1000)])
    assert 1000 == len(subject.device.holding().allowed_ips)
    assert_holding_is_what_there_is(subject)


@claim
def holding_tells_every_allowed_ip_of_a_peer(subject: Subject) -> None:
    """Somebody else may give it very many, of both families, and not as they are masked."""
    subject.device.create(PORT)
    subject.device.apply([], [A, B])
    many = [f"10.{i // 256}.{i % 256}.0/24" for i in range(1500)] + [
        "172.16.5.5/12",
        "fd00:1::1/64",
        "0.0.0.0/0",
        "::/0",
    ]
    subject.tamper(Tampering(allowed_ips={A.public_key: many}))
    expected = frozenset(ip_network(text, strict=False) for text in many)
    assert expected == subject.device.holding().allowed_ips[A.public_key]
    assert {A.public_key, B.public_key} == set(subject.device.holding().allowed_ips)
    assert_holding_is_what_there_is(subject)


FOREIGN: Mapping[str, Tampering] = {
    "a key": Tampering(private_key=b"\x42" * 32),
    "a port": Tampering(port=PORT + 7),
    "a peer taken away": Tampering(removed=[A.public_key]),
    "a peer added": Tampering(allowed_ips={V6.public_key: ["10.7.7.7/32"]}),
    "an address added": Tampering(allowed_ips={A.public_key: ["10.1.2.3/32", "fd00::99/128"]}),
    "addresses taken away": Tampering(allowed_ips={A.public_key: []}),
    "an address taken over": Tampering(allowed_ips={B.public_key: ["10.1.2.3/32"]}),
    "all traffic taken": Tampering(allowed_ips={B.public_key: ["0.0.0.0/0", "10.1.2.4/32"]}),
}


@claim
def holding_sees_a_foreign_change(subject: Subject) -> None:
    """Each kind, one after the other; the same peers applied again undo what was done to them."""
    for what in FOREIGN.values():
        subject.device.create(PORT)
        subject.device.apply([], [A, B])
        before = subject.device.holding()
        subject.tamper(what)
        assert before != subject.device.holding()
        assert_holding_is_what_there_is(subject)
        subject.device.apply([key for key in subject.device.holding().allowed_ips if key == V6.public_key], [A, B])
        assert before.allowed_ips == subject.device.holding().allowed_ips


@claim
def a_placed_peer_keeps_the_endpoint_it_has(subject: Subject) -> None:
    """All else about it is set; one that is not there does not come to be, since nobody would know where it is."""
    subject.device.create(PORT, keepalive=25)
    subject.device.apply([], [A, B])
    elsewhere = ip_address("198.51.100.2")
    moved = replace(A, endpoint=elsewhere, overlay_addr=ip_address("10.1.2.9"))
    subject.device.apply([], [moved, V6, replace(B, endpoint=elsewhere)], [A.public_key, V6.public_key])
    assert_has(subject, replace(moved, endpoint=A.endpoint), replace(B, endpoint=elsewhere))
    assert {A.public_key: 25, B.public_key: 25} == subject.read().keepalives


@claim
def restore_brings_back_key_and_port_and_leaves_peers_alone(subject: Subject) -> None:
    """The key is the one of the last create, so that other nodes need not learn a new one."""
    subject.device.create(PORT + 1)
    key = subject.device.create(PORT)
    subject.device.apply([], [A])
    subject.tamper(Tampering(private_key=b"\x42" * 32, port=PORT + 7, allowed_ips={V6.public_key: ["10.7.7.7/32"]}))
    assert key != subject.read().public_key
    subject.device.restore()
    assert (key, PORT) == (subject.device.holding().public_key, subject.device.holding().port)
    assert_holding_is_what_there_is(subject)
    subject.device.apply([V6.public_key], [B])
    assert_has(subject, A, B)


@claim
def forgetting_sources_changes_nothing_that_was_set(subject: Subject) -> None:
    """Key, port and peers stay."""
    key = subject.device.create(PORT)
    subject.device.apply([], [A, B])
    before = subject.device.holding()
    subject.device.forget_sources()
    assert before == subject.device.holding()
    assert (key, PORT) == (subject.read().public_key, subject.read().port)
    assert_has(subject, A, B)


@claim
def nothing_is_restored_after_destroy(subject: Subject) -> None:
    """The key is forgotten."""
    subject.device.create(PORT)
    subject.device.destroy()
    subject.device.restore()
    assert subject.read().public_key is None


@claim
def keepalive_is_set_for_every_peer_when_asked(subject: Subject) -> None:
    """New ones and changed ones, also after a restore; off again with the next create."""
    subject.device.create(PORT, keepalive=25)
    subject.device.apply([], [A, B])
    subject.device.apply([], [replace(B, endpoint=ip_address("198.51.100.2")), V6])
    assert {A.public_key: 25, B.public_key: 25, V6.public_key: 25} == subject.read().keepalives
    subject.device.restore()
    subject.device.apply([], [A])
    subject.device.apply([B.public_key, V6.public_key], [])
    assert {A.public_key: 25} == subject.read().keepalives
    subject.device.create(PORT)
    subject.device.apply([], [A, V6])
    assert {A.public_key: 0, V6.public_key: 0} == subject.read().keepalives
