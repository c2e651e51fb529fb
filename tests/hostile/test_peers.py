"""Who gets a tunnel and a route: addresses that are nobody else's, endpoints that are other hosts, keys that hide
something. A record that is refused costs itself and nothing more."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address

import pytest

from privhelper.addressing import derive
from privhelper.policy import HostsVerdict, PeerVerdict
from privhelper.protocol import FIXED_ADDRESS, OwnAddress, SetAddr, SetPeers, ViolationCode
from tests.e2e.mesh import public_key
from tests.hostile.case import Case, put, table
from tests.hostile.cast import ALPHA, BETA, GAMMA, NAME, at, member, name_for
from tests.hostile.furniture import GATEWAY, HOST_ROUTE, NEXT_HOP, OTHERS_ADDRESS, OTHERS_ROUTE, OVERLAY6, RESOLVER
from tests.hostile.liar import At
from tests.hostile.policy import Row, judge, rows
from tests.hostile.stage import Stage

pytestmark = pytest.mark.root

P, H = PeerVerdict, HostsVerdict
IPV6 = ("--overlay-net", OVERLAY6)
STATIC = ("--static-addresses",)
PINNED = (*STATIC, "--address", "10.77.3.9")


def elsewhere(address: str) -> Row:
    """GAMMA, said to be at an address outside the overlay."""
    return Row(
        f"{address} as overlay address",
        replace(GAMMA, overlay_addr=member("x", address=address).overlay_addr),
        P.OUTSIDE_NET,
    )


@rows(
    *map(
        elsewhere,
        (
            "0.0.0.0",
            "127.0.0.1",
            "8.8.8.8",
            "192.168.77.1",
            "192.168.77.254",
            "10.76.255.255",
            "10.77.16.0",
            "10.77.17.3",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "fd77::1",
            "fe80::1",
            "::ffff:10.77.0.9",
            "::10.77.0.9",
        ),
    )
)
def test_outside_the_overlay(stage: Stage, row: Row) -> None:
    """No route to it is ever made."""
    judge(stage, row)


@rows(
    Row("this node's own", at("10.77.1.48"), P.OWN_ADDRESS),
    Row("another name's", replace(GAMMA, overlay_addr=member("nobody-here").overlay_addr), P.NOT_DERIVED),
    Row("the name's, one further", replace(GAMMA, overlay_addr=GAMMA.overlay_addr + 1), P.NOT_DERIVED),
    Row("the name's in capitals", replace(GAMMA, name=GAMMA.name.upper()), P.NOT_DERIVED),
    Row("in the operator's network", at("10.77.8.200"), P.LOCAL_NETWORK),
    Row("the operator's own", at("10.77.8.1"), P.LOCAL_NETWORK),
    Row("the operator's gateway", at(GATEWAY), P.LOCAL_NETWORK),
    Row("the broadcast address of the operator's network", at("10.77.8.255"), P.LOCAL_NETWORK),
    Row("behind the operator's gateway", at("10.77.9.60"), P.LOCAL_NETWORK),
    Row("beside what is behind the operator's gateway", at("10.77.9.200"), P.ACCEPTED, H.ACCEPTED),
    Row("a single host of the operator's", at(HOST_ROUTE), P.LOCAL_NETWORK),
    Row("what the operator keeps in a black hole", at("10.77.11.3"), P.LOCAL_NETWORK),
    Row("this host's name server", at(RESOLVER), P.LOCAL_NETWORK),
    Row("a next hop that is in no network", at(NEXT_HOP), P.LOCAL_NETWORK),
    Row("behind two gateways at once", at("10.77.13.150"), P.LOCAL_NETWORK),
    Row("another instance's own", at(OTHERS_ADDRESS), P.LOCAL_NETWORK),
    Row("another instance's peer", at(OTHERS_ROUTE), P.LOCAL_NETWORK),
    Row("in another instance's net, nobody's", at("10.77.15.9"), P.ACCEPTED, H.ACCEPTED),
    Row("the overlay's last, which members may have", at("10.77.15.255"), P.ACCEPTED, H.ACCEPTED),
    Row("the overlay's first, which members may have", at("10.77.0.0"), P.ACCEPTED, H.ACCEPTED),
)
def test_overlay_addresses(stage: Stage, row: Row) -> None:
    """Derived from the name, and nothing of this host's."""
    judge(stage, row)


@rows(
    Row("another name's", replace(GAMMA, overlay_addr=member("nobody-here").overlay_addr), P.ACCEPTED, H.ACCEPTED),
    Row("the net's last", member("m", address="10.77.15.255"), P.ACCEPTED, H.ACCEPTED),
    Row("one outside the net", member("m", address="10.77.16.0"), P.OUTSIDE_NET),
    Row("this node's own", member("m", address="10.77.1.48"), P.OWN_ADDRESS),
    Row("in the operator's network", member("m", address="10.77.8.200"), P.LOCAL_NETWORK),
    Row("the operator's gateway", member("m", address=GATEWAY), P.LOCAL_NETWORK),
    Row("a single host of the operator's", member("m", address=HOST_ROUTE), P.LOCAL_NETWORK),
    Row("what the operator keeps in a black hole", member("m", address="10.77.11.3"), P.LOCAL_NETWORK),
    Row("this host's name server", member("m", address=RESOLVER), P.LOCAL_NETWORK),
    Row("a next hop that is in no network", member("m", address=NEXT_HOP), P.LOCAL_NETWORK),
    Row("another instance's own", member("m", address=OTHERS_ADDRESS), P.LOCAL_NETWORK),
    Row("another instance's peer", member("m", address=OTHERS_ROUTE), P.LOCAL_NETWORK),
    Row("its own endpoint", member("m", address="10.77.3.3", endpoint="10.77.3.3"), P.ENDPOINT_OVERLAY),
)
def test_static_overlay_addresses(stage: Stage, row: Row) -> None:
    """No name decides any more; all else does."""
    judge(stage, replace(row, options=STATIC))


@table(
    Case("a derived address", At.GREETED, SetAddr(0), ViolationCode.ATTEMPT, PINNED),
    Case("another one", At.GREETED, [SetAddr(FIXED_ADDRESS), SetAddr(3)], ViolationCode.ATTEMPT, PINNED),
    Case("peers without an address", At.GREETED, SetPeers((GAMMA,)), ViolationCode.ORDER, PINNED),
    Case("an address that nobody gave", At.GREETED, SetAddr(FIXED_ADDRESS), ViolationCode.ATTEMPT, STATIC),
    Case("the same in force", At.CONFIGURED, SetAddr(FIXED_ADDRESS), ViolationCode.ATTEMPT, STATIC),
)
def test_whose_address_it_is_to_give(stage: Stage, case: Case) -> None:
    """The administrator's, where it was given; nobody's, where not."""
    put(stage, case)


def test_the_given_address_is_the_administrators(stage: Stage) -> None:
    """SET_ADDR names it by a number; the agent never says which it is."""
    stage.serve(*PINNED)
    with closing(stage.connect(At.GREETED)) as liar:
        assert OwnAddress(ip_address("10.77.3.9")) == liar.ask(SetAddr(FIXED_ADDRESS))
        assert stage.ours().addresses == {"10.77.3.9/32"}
        ours = member("m", address="10.77.3.9")
        assert [(P.OWN_ADDRESS, H.NO_PEER)] == liar.set([ours])
    stage.assert_at_rest()


def from_there(endpoint: str, verdict: PeerVerdict) -> Row:
    """GAMMA, said to be at an endpoint."""
    return Row(f"endpoint {endpoint}", member(GAMMA.name, endpoint=endpoint), verdict)


@rows(
    *(
        from_there(endpoint, P.ENDPOINT_CLASS)
        for endpoint in (
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "ff0e::1",
            "::ffff:127.0.0.1",
            "::ffff:192.0.2.1",
            "::127.0.0.1",
            "::192.0.2.1",
        )
    ),
    *(
        from_there(endpoint, P.ENDPOINT_LOCAL)
        for endpoint in ("192.168.77.1", "fd77::1", "10.77.8.1", "fd00:77::801", "172.16.5.1", OTHERS_ADDRESS)
    ),
    from_there("192.168.77.255", P.ENDPOINT_LOCAL),
    from_there("10.77.8.255", P.ENDPOINT_LOCAL),
    from_there("203.0.113.200", P.ENDPOINT_LOCAL),
    from_there("10.77.1.48", P.ENDPOINT_OVERLAY),
    from_there(str(ALPHA.overlay_addr), P.ENDPOINT_OVERLAY),
    from_there(str(GAMMA.overlay_addr), P.ENDPOINT_OVERLAY),
    Row(
        "an endpoint that is the next record's overlay address",
        member(GAMMA.name, endpoint=str(at("10.77.3.3").overlay_addr)),
        P.ENDPOINT_OVERLAY,
        others=(at("10.77.3.3"),),
    ),
    Row(
        "two that are each other's endpoint",
        at("10.77.3.4", endpoint="10.77.3.5"),
        P.ENDPOINT_OVERLAY,
        others=(at("10.77.3.5", endpoint="10.77.3.4"),),
    ),
)
def test_endpoints(stage: Stage, row: Row) -> None:
    """Another host's, outside the overlay."""
    judge(stage, row)


LOW_ORDER = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)


@rows(
    *(
        Row(f"of low order, {text[:4]}", replace(GAMMA, public_key=bytes.fromhex(text)), P.WEAK_KEY)
        for text in LOW_ORDER
    ),
    *(
        Row(
            f"of low order and the top bit, {text[:4]}",
            replace(GAMMA, public_key=bytes.fromhex(text[:62]) + bytes((int(text[62:], 16) | 0x80,))),
            P.WEAK_KEY,
        )
        for text in LOW_ORDER[:3]
    ),
    Row(
        "a member's key under its second name",
        replace(GAMMA, public_key=bytes((*ALPHA.public_key[:31], ALPHA.public_key[31] | 0x80))),
        P.WEAK_KEY,
    ),
)
def test_keys(stage: Stage, row: Row) -> None:
    """A secret that everybody knows is none."""
    judge(stage, row)


def test_this_nodes_own_key_is_no_peers(stage: Stage) -> None:
    """It would have the node talk to itself."""
    import base64

    stage.serve()
    stage.connect(At.CONFIGURED).close()
    own = base64.b64decode(public_key(stage.node))
    judge(stage, Row("own key", replace(GAMMA, public_key=own), P.OWN_KEY))
    mirrored = bytes((*own[:31], own[31] | 0x80))
    judge(stage, Row("own key under its second name", replace(GAMMA, public_key=mirrored), P.WEAK_KEY))


def test_a_refused_record_takes_its_tunnel_away(stage: Stage) -> None:
    """Being in force already is no right: what a set has wrong about a peer costs it what it had."""
    judge(stage, Row("moved", replace(GAMMA, endpoint=member("x", endpoint="127.0.0.1").endpoint), P.ENDPOINT_CLASS))
    stage.serve()
    liar = stage.connect(At.CONFIGURED)
    bad = replace(ALPHA, endpoint=member("x", endpoint="127.0.0.1").endpoint)
    assert [(P.ENDPOINT_CLASS, H.NO_PEER), (P.ACCEPTED, H.ACCEPTED)] == liar.set([bad, BETA])
    liar.write()
    ours = stage.ours()
    assert {str(BETA.overlay_addr)} == set(ours.routes) == set(ours.lines.values())
    liar.close()
    stage.assert_at_rest()


SIX_A, SIX_B = (member(name_for(f"fd00:77::{n}", OVERLAY6), net=OVERLAY6) for n in ("7", "5"))


@rows(
    Row("an IPv4 overlay address", GAMMA, P.OUTSIDE_NET, options=IPV6),
    Row("a mapped overlay address", member("m", address="::ffff:10.77.0.9"), P.OUTSIDE_NET, options=IPV6),
    Row("one bit outside", member("m", address="fd00:77::1007"), P.OUTSIDE_NET, options=IPV6),
    Row("of the operator's network", at("fd00:77::8aa", net=OVERLAY6), P.LOCAL_NETWORK, options=IPV6),
    Row("of the operator's gateway", at("fd00:77::807", net=OVERLAY6), P.LOCAL_NETWORK, options=IPV6),
    Row("not derived", member("m", address="fd00:77::3"), P.NOT_DERIVED, options=IPV6),
    Row("endpoint inside", at("fd00:77::6", net=OVERLAY6, endpoint="fd00:77::7"), P.ENDPOINT_OVERLAY, options=IPV6),
    Row("endpoint this host", at("fd00:77::6", net=OVERLAY6, endpoint="fd77::1"), P.ENDPOINT_LOCAL, options=IPV6),
    Row("an honest one", at("fd00:77::6", net=OVERLAY6, endpoint="2001:db8::6"), P.ACCEPTED, H.ACCEPTED, options=IPV6),
)
def test_an_overlay_of_the_other_family(stage: Stage, row: Row) -> None:
    """The same rules for 128 bits."""
    judge(stage, row, standing=(SIX_A, SIX_B))


@pytest.mark.parametrize("attempt", range(16))
def test_own_address_is_one_of_sixteen_and_nothing_of_the_operators(stage: Stage, attempt: int) -> None:
    """SET_ADDR names an attempt, never an address; where one falls on a local network, the kernel's word is given."""
    from ipaddress import ip_address, ip_network

    from privhelper.protocol import Failed, OwnAddress
    from tests.hostile.furniture import OVERLAY

    stage.serve()
    liar = stage.connect(At.CONFIGURED)
    before = stage.ours()
    reply = liar.ask(SetAddr(attempt))
    expected = derive(ip_network(OVERLAY), NAME.encode(), attempt)
    after = stage.ours()
    if isinstance(reply, Failed):
        assert before == after
        assert expected >= ip_address("10.77.8.0")
    else:
        assert OwnAddress(expected) == reply
        assert after.addresses == {f"{expected}/32"}
    liar.close()
    stage.assert_at_rest()
