"""The two verdicts: each reason has a record that earns it, and whatever is accepted keeps every promise."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nacl.bindings import crypto_scalarmult
from nacl.exceptions import RuntimeError as SodiumError
from nacl.public import PrivateKey

from privhelper.addressing import Address, Network, derive
from privhelper.policy import (
    HOSTS_REASONS,
    PEER_REASONS,
    HostsVerdict,
    PeerVerdict,
    Policy,
    Surroundings,
    is_foreign_unicast,
    is_low_order,
    line_name,
    name_verdict,
)
from privhelper.protocol import Peer
from tests.unit.privhelper.strategies import keys, printable

NET = IPv4Network("10.0.0.0/8")
NET6 = IPv6Network("fd00::/8")
OWN_KEY = bytes(PrivateKey(b"\x07" * 32).public_key)
OWN_ADDRESS = derive(NET, b"self", 0)

POLICY = Policy(
    overlay_net=NET,
    node_name="self",
    own_address=OWN_ADDRESS,
    own_key=OWN_KEY,
    max_peers=10,
    etc_hosts=True,
    hosts_suffix="",
    surroundings=Surroundings(),
)


def key(number: int) -> bytes:
    """A public key like any other."""
    return number.to_bytes(4, "big") + b"\x55" * 28


def peer(name: str, number: int = 1, **fields: Any) -> Peer:
    """A peer nothing speaks against, but for `fields`."""
    whole = Peer(key(number), ip_address(f"192.0.2.{number % 250 + 1}"), derive(NET, name.encode(), 0), name)
    return replace(whole, **fields)


def nets(*texts: str) -> tuple[Network, ...]:
    """Networks."""
    return tuple(map(ip_network, texts))


def surrounded_by(*networks: str, **others: Any) -> Policy:
    """A host with other networks."""
    return replace(POLICY, surroundings=Surroundings(nets(*networks), **others))


# --- the peer verdict --------------------------------------------------------------------------------------------

GOOD = peer("node-a")
STATIC = replace(POLICY, static_addresses=True)
REFUSED: Mapping[PeerVerdict, list[tuple[Policy, Peer]]] = {
    PeerVerdict.ACCEPTED: [
        (POLICY, GOOD),
        (POLICY, peer("node-a", overlay_addr=derive(NET, b"node-a", 15))),
        (POLICY, peer("node-a", endpoint=ip_address("10.9.9.9"))),  # the underlay may lie in the overlay net
        (POLICY, peer("node-a", endpoint=ip_address("2001:db8::1"))),
        (surrounded_by("10.1.2.0/24"), GOOD),
        (surrounded_by(ranges=nets("127.0.0.0/8"), tunnelled=nets("198.51.100.0/24", "::/0")), GOOD),
        (surrounded_by(tunnelled=nets("0.0.0.0/0"), beside=nets("192.0.2.0/24")), GOOD),
        (surrounded_by(tunnelled=nets("0.0.0.0/0", "192.0.2.0/24"), beside=nets("192.0.2.2/32")), GOOD),
        (STATIC, peer("node-a", overlay_addr=GOOD.overlay_addr + 1)),
        (STATIC, peer("node-a", overlay_addr=ip_address("10.255.255.255"))),  # a member may have the net's last
        (STATIC, peer("node-a", overlay_addr=derive(NET, b"node-b", 0))),
        (STATIC, GOOD),
        (replace(POLICY, own_address=None), peer("node-a", overlay_addr=derive(NET, b"node-a", 1))),
        (
            replace(POLICY, overlay_net=NET6, own_address=derive(NET6, b"self", 0)),
            peer("node-a", overlay_addr=derive(NET6, b"node-a", 3)),
        ),
    ],
    PeerVerdict.OUTSIDE_NET: [
        (POLICY, peer("node-a", overlay_addr=ip_address("11.224.124.195"))),
        (POLICY, peer("node-a", overlay_addr=ip_address("192.168.0.1"))),
        (STATIC, peer("node-a", overlay_addr=ip_address("11.224.124.195"))),
        (POLICY, peer("node-a", overlay_addr=ip_address("::10.224.124.195"))),
    ],
    PeerVerdict.OWN_ADDRESS: [
        (STATIC, peer("node-a", overlay_addr=OWN_ADDRESS)),
        (POLICY, peer("self")),
        (POLICY, peer("node-a", overlay_addr=OWN_ADDRESS)),
    ],
    PeerVerdict.NOT_DERIVED: [
        (POLICY, peer("node-a", overlay_addr=GOOD.overlay_addr + 1)),
        (POLICY, peer("node-a", overlay_addr=derive(NET, b"node-b", 0))),
        (POLICY, peer("node-a", overlay_addr=derive(NET, b"node-a", 16))),
        (POLICY, peer("node-a", overlay_addr=derive(NET, b"Node-A", 0))),
    ],
    PeerVerdict.LOCAL_NETWORK: [
        (
            replace(STATIC, surroundings=Surroundings(nets("10.1.2.0/24"))),
            peer("node-a", overlay_addr=ip_address("10.1.2.3")),
        ),
        (replace(POLICY, surroundings=Surroundings(taken=frozenset((GOOD.overlay_addr,)))), GOOD),
        (surrounded_by(f"{GOOD.overlay_addr}/32"), GOOD),
        (surrounded_by("192.168.0.0/16", f"{ip_network((GOOD.overlay_addr, 24), strict=False)}"), GOOD),
        (surrounded_by("10.0.0.0/8"), GOOD),
    ],
    PeerVerdict.ENDPOINT_CLASS: [
        (POLICY, peer("node-a", endpoint=ip_address("127.0.0.1"))),
        (POLICY, peer("node-a", endpoint=ip_address("ff02::1"))),
    ],
    PeerVerdict.ENDPOINT_LOCAL: [
        (surrounded_by(addresses=frozenset((GOOD.endpoint,))), GOOD),
        (surrounded_by(ranges=nets("127.0.0.0/8", "192.0.2.0/24")), GOOD),
    ],
    PeerVerdict.ENDPOINT_OVERLAY: [(POLICY, peer("node-a", endpoint=OWN_ADDRESS))],
    PeerVerdict.ENDPOINT_TUNNELLED: [
        (surrounded_by(tunnelled=nets("198.51.100.0/24", "192.0.2.0/24")), GOOD),
        (surrounded_by(tunnelled=nets("0.0.0.0/0")), GOOD),
        (surrounded_by(tunnelled=nets("192.0.2.0/25", "0.0.0.0/0"), beside=nets("192.0.2.0/24")), GOOD),
    ],
    PeerVerdict.OWN_KEY: [(POLICY, peer("node-a", public_key=OWN_KEY))],
    PeerVerdict.WEAK_KEY: [
        (POLICY, peer("node-a", public_key=bytes(32))),
        (POLICY, peer("node-a", public_key=POLICY.own_key[:31] + bytes((POLICY.own_key[31] | 0x80,)))),  # our twin
    ],
    PeerVerdict.TOO_MANY: [(replace(POLICY, max_peers=0), GOOD)],
}


@pytest.mark.parametrize(
    ("verdict", "policy", "wanted"), [(v, *case) for v, cases in REFUSED.items() for case in cases]
)
def test_each_reason_to_refuse_a_peer(verdict: PeerVerdict, policy: Policy, wanted: Peer) -> None:
    """One thing is wrong with each, or nothing."""
    assert [verdict] == [v for v, _ in policy.judge([wanted], {}, frozenset())]


def test_the_numbers_of_verdicts_are_what_they_were() -> None:
    """An agent of another age has the same reasons for them; a new one comes last."""
    assert [verdict.name for verdict in PeerVerdict] == (
        "ACCEPTED OUTSIDE_NET OWN_ADDRESS NOT_DERIVED LOCAL_NETWORK ENDPOINT_CLASS ENDPOINT_LOCAL ENDPOINT_OVERLAY"
        " OWN_KEY WEAK_KEY TOO_MANY ENDPOINT_TUNNELLED"
    ).split()
    assert [verdict.name for verdict in HostsVerdict] == (
        "ACCEPTED NO_PEER NOT_A_HOST_NAME ADDRESS_LITERAL RESERVED OWN_NAME TAKEN DISABLED UNREADABLE OUTSIDE_SUFFIX"
        " DOUBLE"
    ).split()
    assert [*map(int, PeerVerdict)] == [*range(12)]
    assert [*map(int, HostsVerdict)] == [*range(11)]


def test_every_verdict_has_a_case_and_a_reason() -> None:
    """The tables are whole; the agent's user reads the reasons."""
    assert set(PeerVerdict) == set(REFUSED) == set(PEER_REASONS)
    assert set(HostsVerdict) == set(HOSTS_REASONS)
    assert len(set(HOSTS_REASONS.values())) == len(HostsVerdict)
    assert len(set(PEER_REASONS.values())) == len(PeerVerdict)


@pytest.mark.parametrize(
    ("address", "foreign"),
    [
        ("0.0.0.0", False),
        ("0.1.2.3", False),
        ("0.255.255.255", False),
        ("1.0.0.0", True),
        ("8.8.8.8", True),
        ("10.0.0.1", True),
        ("100.64.0.1", True),
        ("126.255.255.255", True),
        ("127.0.0.1", False),
        ("127.255.255.254", False),
        ("128.0.0.1", True),
        ("169.253.255.255", True),
        ("169.254.0.0", False),
        ("169.254.169.254", False),
        ("172.16.0.1", True),
        ("192.168.1.1", True),
        ("223.255.255.255", True),
        ("224.0.0.1", False),
        ("239.255.255.255", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::2", False),
        ("::7f00:1", False),
        ("::8000:0", False),
        ("::1:0:0", True),
        ("::ffff:127.0.0.1", False),
        ("::ffff:192.0.2.1", False),
        ("2000::1", True),
        ("2001:db8::1", True),
        ("64:ff9b::c000:201", True),
        ("fc00::1", True),
        ("fd00::1", True),
        ("fe80::1", False),
        ("febf::1", False),
        ("ff00::1", False),
        ("ff02::1", False),
        ("ff0e::1", False),
    ],
)
def test_the_classes_of_endpoints(address: str, foreign: bool) -> None:
    """Only what can be one other host."""
    assert foreign == is_foreign_unicast(ip_address(address))


LOW_ORDER = (
    "0000000000000000000000000000000000000000000000000000000000000000",  # 0
    "0100000000000000000000000000000000000000000000000000000000000000",  # 1
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",  # order 8
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",  # order 8
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # p - 1
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # p
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # p + 1
)
TWINS = [text[:62] + format(int(text[62:], 16) | 0x80, "02x") for text in LOW_ORDER]


@pytest.mark.parametrize("text", [*LOW_ORDER, *TWINS])
def test_a_low_order_key_is_weak(text: str) -> None:
    """X25519 with it gives zero whatever the private key, which libsodium refuses; the top bit makes no difference."""
    with pytest.raises(SodiumError):
        crypto_scalarmult(b"\x42" * 32, bytes.fromhex(text))
    assert is_low_order(bytes.fromhex(text))
    assert PeerVerdict.WEAK_KEY is POLICY.peer_verdict(peer("node-a", public_key=bytes.fromhex(text)))


@given(st.binary(min_size=32, max_size=32), keys)
def test_a_real_key_is_not_weak(private: bytes, raw: bytes) -> None:
    """Keys people have, and any bytes that X25519 accepts."""
    assert not is_low_order(bytes(PrivateKey(private).public_key))
    try:
        crypto_scalarmult(private, raw)
    except SodiumError:
        assume(False)
    assert not is_low_order(raw)


# --- rules between peers -----------------------------------------------------------------------------------------


def test_fakes_that_flood_in_displace_nobody() -> None:
    """Those in force keep their place wherever they stand among the wanted."""
    held = [peer(f"old-{i}", i) for i in range(10)]
    fakes = [peer(f"fake-{i}", 100 + i) for i in range(10)]
    verdicts = POLICY.judge([*fakes, *held], {p.public_key for p in held}, frozenset())
    assert [PeerVerdict.TOO_MANY] * 10 + [PeerVerdict.ACCEPTED] * 10 == [v for v, _ in verdicts]
    assert [HostsVerdict.NO_PEER] * 10 + [HostsVerdict.ACCEPTED] * 10 == [v for _, v in verdicts]


def test_places_left_go_in_the_agents_order() -> None:
    """Nine in force, one place, two newcomers."""
    held = [peer(f"old-{i}", i) for i in range(9)]
    wanted = [peer("new-b", 50), *held, peer("new-a", 51)]
    verdicts = [v for v, _ in POLICY.judge(wanted, {p.public_key for p in held}, frozenset())]
    assert [PeerVerdict.ACCEPTED] * 10 + [PeerVerdict.TOO_MANY] == verdicts


def test_refused_records_take_no_place() -> None:
    """Ten weak keys before ten good ones."""
    weak = [peer(f"weak-{i}", i, endpoint=ip_address("127.0.0.1")) for i in range(10)]
    good = [peer(f"good-{i}", 100 + i) for i in range(10)]
    verdicts = [v for v, _ in POLICY.judge([*weak, *good], {}, frozenset())]
    assert [PeerVerdict.ENDPOINT_CLASS] * 10 + [PeerVerdict.ACCEPTED] * 10 == verdicts


def test_a_returning_nodes_new_key_replaces_its_old_one() -> None:
    """Its name and address are in force under another key: no reason against it."""
    old = peer("node-a", 1)
    assert [(0, 0)] == POLICY.judge([replace(old, public_key=key(2))], {old.public_key}, frozenset())


def test_an_endpoint_equal_to_anothers_overlay_address_loses() -> None:
    """Its packets would go into the tunnel they carry; the other has done nothing."""
    victim = peer("node-a", 1)
    looped = peer("node-b", 2, endpoint=victim.overlay_addr)
    expected = {victim.name: PeerVerdict.ACCEPTED, looped.name: PeerVerdict.ENDPOINT_OVERLAY}
    for wanted in ([victim, looped], [looped, victim]):
        verdicts = POLICY.judge(wanted, {looped.public_key}, frozenset())
        assert expected == {p.name: v for p, (v, _) in zip(wanted, verdicts, strict=True)}


def test_one_too_many_is_told_that_and_nothing_else() -> None:
    """Its endpoint, which is another's overlay address, was never looked at."""
    held = [peer(f"old-{i}", i) for i in range(10)]
    late = peer("late", 99, endpoint=held[0].overlay_addr)
    verdicts = POLICY.judge([late, *held], {p.public_key for p in held}, frozenset())
    assert [PeerVerdict.TOO_MANY] + [PeerVerdict.ACCEPTED] * 10 == [verdict for verdict, _ in verdicts]


def test_an_endpoint_equal_to_its_own_overlay_address_loses() -> None:
    """The shortest loop."""
    alone = peer("node-a", endpoint=GOOD.overlay_addr)
    assert [PeerVerdict.ENDPOINT_OVERLAY] == [v for v, _ in POLICY.judge([alone], {}, frozenset())]


def test_a_refused_peers_overlay_address_refuses_no_endpoint() -> None:
    """A record that gets no route cannot loop anything: neither a weak one nor a fake beyond the cap."""
    address = peer("fake").overlay_addr
    held = [peer(f"old-{i}", i) for i in range(9)] + [peer("node-a", 10, endpoint=address)]
    for fake in (peer("fake", 99), peer("fake", 99, public_key=bytes(32))):
        verdicts = POLICY.judge([fake, *held], {p.public_key for p in held}, frozenset())
        assert [PeerVerdict.ACCEPTED] * 10 == [v for v, _ in verdicts[1:]]
        assert verdicts[0][0] is not PeerVerdict.ACCEPTED


# --- the hosts verdict -------------------------------------------------------------------------------------------

NAMES: Mapping[HostsVerdict, list[str]] = {
    HostsVerdict.ACCEPTED: [
        "node-a", "a", "0a", "node-a.example.org", "x" * 63, "x" * 63 + ".y", "xn--hte-ula", "ip6", "mywpad",
        "localhost2", "1.2.3.4.5", "0x7g", "a.10", "ip", "NODE-A", ".".join(["x" * 63] * 3 + ["x" * 61]),
    ],
    HostsVerdict.NOT_A_HOST_NAME: [
        "", "-a", "a-", "a.-b", "a..b", ".a", "node-a.", "a_b", "_gateway", "a b", "a\tb", "a\n", "\na", "a\nb",
        "a\r", "a\0", "a#b", "*", "::1", "fd00::1", "a:b", "x" * 64, "hôte", "\u212aelvin", "a\u0131", "a\u2028", "१२",
        ".".join(["x" * 62] * 5), ".".join(["x" * 63] * 3 + ["x" * 62]), "1.2.3.4/8", "%s", "../etc", "!",
    ],
    HostsVerdict.ADDRESS_LITERAL: [
        "10", "0", "0x7f.1", "0X7F.1", "0x", "127.1", "127.0.0.1", "010.1.2.3", "1.2.3", "3232235777", "0xdeadbeef",
        "999.999.999.999", "1.2.3.0x",
    ],
    HostsVerdict.RESERVED: [
        "localhost", "LocalHost", "localdomain", "ip6-localhost", "ip6-loopback", "IP6-allnodes", "ip4-x", "loopback",
        "broadcasthost", "wpad", "WPAD", "isatap", "foo.localhost", "localhost.localdomain", "x.y.localdomain",
        "localhost4", "LOCALHOST6", "localhost4.localdomain4", "localhost6.localdomain6", "ipv4only.arpa",
        "1.0.0.127.in-addr.ARPA", "nas.home.arpa.arpa", "x.onion", "x.invalid",
    ],
    HostsVerdict.OWN_NAME: ["self.example.org", "SELF.example.ORG", "self", "Self"],
    HostsVerdict.TAKEN: ["git", "GIT", "git.corp.example"],
}  # fmt: skip


@pytest.mark.parametrize(("verdict", "name"), [(v, name) for v, names in NAMES.items() for name in names])
def test_the_names(verdict: HostsVerdict, name: str) -> None:
    """On a host called Self.Example.org, whose administrator has named two machines."""
    assert verdict is name_verdict(name, "Self.Example.org", frozenset(("git", "git.corp.example")))


def test_a_short_own_name_reserves_no_longer_ones() -> None:
    """`self.other.org` is another machine."""
    assert HostsVerdict.ACCEPTED is name_verdict("self.other.org", "self", frozenset())
    assert HostsVerdict.ACCEPTED is name_verdict("selfish", "self", frozenset())


@pytest.mark.parametrize(
    "name", ["nas.home.arpa", "NAS.Home.ARPA", "arpa", "onion.example", "nas.localdomain4.example"]
)
def test_a_domain_that_only_looks_reserved_is_free(name: str) -> None:
    """home.arpa is there for home networks (RFC 8375), and a suffix that an operator may well choose."""
    assert HostsVerdict.ACCEPTED is name_verdict(name, "self", frozenset())


def test_the_hosts_verdicts_that_are_not_about_the_name() -> None:
    """A refused peer, a file not managed, a file not read: in this order of precedence from the back."""
    refused = replace(GOOD, public_key=bytes(32))
    unmanaged = replace(POLICY, etc_hosts=False)
    assert HostsVerdict.NO_PEER is POLICY.judge([refused], {}, frozenset())[0][1]
    assert HostsVerdict.DISABLED is unmanaged.judge([refused], {}, frozenset())[0][1]
    assert HostsVerdict.DISABLED is unmanaged.judge([GOOD], {}, None)[0][1]
    assert HostsVerdict.UNREADABLE is POLICY.judge([GOOD], {}, None)[0][1]
    assert HostsVerdict.NO_PEER is POLICY.judge([refused], {}, None)[0][1]


def test_a_bad_name_costs_the_line_and_not_the_tunnel() -> None:
    """Mesh member `wpad` is reached by its address."""
    assert [(PeerVerdict.ACCEPTED, HostsVerdict.RESERVED)] == POLICY.judge([peer("wpad")], {}, frozenset())


SUFFIXED = replace(POLICY, hosts_suffix="Mesh.example")


@pytest.mark.parametrize(
    ("name", "suffix", "line"),
    [
        ("node-a", "", "node-a"),
        ("node-a.other.org", "", "node-a.other.org"),
        ("node-a", "mesh.example", "node-a.mesh.example"),
        ("node-a.mesh.example", "mesh.example", "node-a.mesh.example"),
        ("Node-A.MESH.Example", "mesh.example", "Node-A.MESH.Example"),
        ("a.b.mesh.example", "mesh.example", "a.b.mesh.example"),
        ("node-a.other.org", "mesh.example", None),
        ("node-a.mesh.example.org", "mesh.example", None),
        ("node-amesh.example", "mesh.example", None),
        ("mesh.example", "mesh.example", None),
        ("mesh", "mesh", "mesh.mesh"),
    ],
)
def test_the_name_a_line_has_under_a_suffix(name: str, suffix: str, line: str | None) -> None:
    """A label gets the suffix, a name that ends so is as it is, any other dotted one gets no line."""
    assert line == line_name(name, suffix)


def hosts_verdicts(policy: Policy, wanted: list[Peer], *taken: str) -> list[HostsVerdict]:
    """Only these."""
    return [verdict for _, verdict in policy.judge(wanted, {}, frozenset(taken))]


def test_a_dotted_name_outside_the_suffix_costs_the_line_and_not_the_tunnel() -> None:
    """A member may call itself git.corp.example; nobody here shall go there for it."""
    expected = [(PeerVerdict.ACCEPTED, HostsVerdict.OUTSIDE_SUFFIX), (PeerVerdict.ACCEPTED, HostsVerdict.ACCEPTED)]
    assert expected == SUFFIXED.judge([peer("git.corp.example", 1), peer("git", 2)], {}, frozenset())


@pytest.mark.parametrize(
    ("name", "taken", "verdict"),
    [
        ("git", "git", HostsVerdict.ACCEPTED),  # `git` is the operator's, `git.mesh.example` is free
        ("git", "git.mesh.example", HostsVerdict.TAKEN),
        ("localhost", "", HostsVerdict.ACCEPTED),  # under a suffix it says nothing of this host
        ("ip6-x", "", HostsVerdict.RESERVED),
        ("a_b", "", HostsVerdict.NOT_A_HOST_NAME),
        ("Self.mesh.example", "", HostsVerdict.OWN_NAME),
        ("SELF", "", HostsVerdict.OWN_NAME),
    ],
)
def test_what_is_judged_under_a_suffix_is_the_name_in_the_line(name: str, taken: str, verdict: HostsVerdict) -> None:
    """This host's own is what the others write for it."""
    wanted = peer(name, overlay_addr=derive(NET, name.encode(), 1))
    assert [verdict] == hosts_verdicts(SUFFIXED, [wanted], taken)


def test_who_bears_the_whole_name_keeps_it() -> None:
    """`a` and `a.mesh.example` would be one name; in whatever order they come, and whatever case they have."""
    label, whole = peer("node-a", 1), peer("Node-A.mesh.EXAMPLE", 2)
    expected = {label.name: HostsVerdict.DOUBLE, whole.name: HostsVerdict.ACCEPTED}
    for wanted in ([label, whole], [whole, label]):
        assert expected == dict(zip([p.name for p in wanted], hosts_verdicts(SUFFIXED, wanted), strict=True))
    assert [HostsVerdict.ACCEPTED] * 2 == hosts_verdicts(POLICY, [label, whole])


def test_a_refused_member_is_not_told_that_its_name_is_anothers() -> None:
    """It has no line to lose: what speaks against it is the peer's own verdict."""
    label, whole = peer("node-a", 1, public_key=bytes(32)), peer("node-a.mesh.example", 2)
    assert [HostsVerdict.NO_PEER, HostsVerdict.ACCEPTED] == hosts_verdicts(SUFFIXED, [label, whole])


def test_a_host_whose_own_name_is_elsewhere_has_a_name_of_its_own_all_the_same() -> None:
    """It gets no line on the others; what it is called here is still nobody else's."""
    elsewhere = replace(SUFFIXED, node_name="self.corp.example")
    assert [HostsVerdict.ACCEPTED] == hosts_verdicts(elsewhere, [peer("node-a")])
    within = replace(elsewhere, hosts_suffix="example")
    assert [HostsVerdict.OWN_NAME] == hosts_verdicts(within, [peer("Self.Corp.example")])


def test_a_whole_name_without_a_tunnel_takes_nobodys_line() -> None:
    """A refused fake must cost nobody anything."""
    label, fake = peer("node-a", 1), peer("node-a.mesh.example", 2, public_key=bytes(32))
    assert [HostsVerdict.ACCEPTED, HostsVerdict.NO_PEER] == hosts_verdicts(SUFFIXED, [label, fake])


# --- whatever comes ----------------------------------------------------------------------------------------------

SMALL = IPv4Network("10.0.0.0/28")  # where addresses meet each other, ours and the local network
SURROUNDED = Policy(
    overlay_net=SMALL,
    node_name="self",
    own_address=derive(SMALL, b"self", 0),
    own_key=OWN_KEY,
    max_peers=3,
    etc_hosts=True,
    hosts_suffix="",
    surroundings=Surroundings((IPv4Network("10.0.0.4/30"),), addresses=frozenset((ip_address("192.0.2.1"),))),
)
near = st.integers(0, 15).map(lambda host: SMALL.network_address + host)
member_keys = st.sampled_from([OWN_KEY, bytes(32), *map(key, range(8))]) | keys
member_names = st.sampled_from(["self", "localhost", "git", "10", "node-a", "node-b", "A_B"]) | printable(64)


@st.composite
def wanted_sets(draw: st.DrawFn) -> list[Peer]:
    """Records with unique keys, addresses and folded names, most of them derived."""
    records = []
    for name in draw(st.lists(member_names, max_size=8, unique_by=str.lower)):
        derived = derive(SMALL, name.encode(), draw(st.integers(0, 16)))
        overlay = draw(st.sampled_from([derived] * 6 + [ip_address("192.0.2.9")]) | near)
        endpoint = draw(near | st.ip_addresses() | st.sampled_from([ip_address("192.0.2.1"), ip_address("192.0.2.2")]))
        records.append(Peer(draw(member_keys), endpoint, overlay, name))
    return list({p.public_key: p for p in {p.overlay_addr: p for p in records}.values()}.values())


def _shared_secret_is_secret(public_key: bytes) -> bool:
    try:
        crypto_scalarmult(b"\x42" * 32, public_key)
    except SodiumError:
        return False
    return True


@given(wanted_sets(), st.sets(st.sampled_from(list(map(key, range(8))))))
def test_accepted_peers_keep_every_promise(wanted: list[Peer], in_force: set[bytes]) -> None:
    """Written without the policy's own predicates, as the threat model states it."""
    verdicts = SURROUNDED.judge(wanted, in_force, frozenset(("git",)))
    assert len(wanted) == len(verdicts)
    accepted = [p for p, (v, _) in zip(wanted, verdicts, strict=True) if v is PeerVerdict.ACCEPTED]
    overlay: set[Address] = {p.overlay_addr for p in accepted}
    assert len(accepted) <= 3
    for p in accepted:
        assert p.overlay_addr in SMALL
        assert p.overlay_addr not in IPv4Network("10.0.0.4/30")
        assert p.overlay_addr != SURROUNDED.own_address
        assert p.overlay_addr in {derive(SMALL, p.name.encode(), attempt) for attempt in range(16)}
        assert p.endpoint not in overlay | {SURROUNDED.own_address, ip_address("192.0.2.1")}
        assert {False} == {p.endpoint.is_multicast, p.endpoint.is_loopback, p.endpoint.is_unspecified}
        assert p.public_key != OWN_KEY
        assert _shared_secret_is_secret(p.public_key)
    for p, (peer_verdict, hosts) in zip(wanted, verdicts, strict=True):
        if hosts is HostsVerdict.ACCEPTED:
            assert peer_verdict is PeerVerdict.ACCEPTED
            assert re.fullmatch(r"[A-Za-z0-9.-]{1,64}", p.name)
            assert p.name.lower() not in ("localhost", "git", "self", "10")


@given(wanted_sets(), st.sets(st.sampled_from(list(map(key, range(8)))), max_size=3))
def test_a_newcomer_never_takes_the_place_of_one_in_force(wanted: list[Peer], in_force: set[bytes]) -> None:
    """At most `max_peers` are in force, so none of them can be one too many."""
    verdicts = SURROUNDED.judge(wanted, in_force, frozenset())
    over = {p.public_key for p, (v, _) in zip(wanted, verdicts, strict=True) if v is PeerVerdict.TOO_MANY}
    assert not over & in_force


@given(wanted_sets(), st.sets(st.sampled_from(list(map(key, range(8))))), st.randoms(use_true_random=False))
def test_without_a_cap_the_order_decides_nothing(wanted: list[Peer], in_force: set[bytes], rng: Any) -> None:
    """A record's verdict does not depend on where it stands or on what was in force."""
    policy = replace(SURROUNDED, max_peers=100)
    shuffled = rng.sample(wanted, len(wanted))
    expected = dict(zip(wanted, policy.judge(wanted, set(), frozenset()), strict=True))
    assert expected == dict(zip(shuffled, policy.judge(shuffled, in_force, frozenset()), strict=True))


def _is_address(text: str) -> bool:
    try:
        socket.inet_aton(text)
    except OSError:
        return False
    return True


@given(st.text(max_size=80) | st.text("0123456789abcdefx.", max_size=16), st.text(max_size=20))
def test_any_text_as_a_name_gets_a_verdict(name: str, own: str) -> None:
    """Whatever stands in the file afterwards is one word of letters, digits, hyphens and dots that is no address."""
    if name_verdict(name, own, frozenset()) is HostsVerdict.ACCEPTED:
        assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", name, re.ASCII)
        assert not _is_address(name)
