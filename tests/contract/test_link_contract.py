"""The link and its surroundings, over rtnetlink and a real TUN. What is there is read with `ip -json`, which is inside
the same network because this thread is."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from privhelper import link as rtnl
from privhelper.addressing import Address, Network
from privhelper.link import ALIAS, RtnlLink, Wanted
from privhelper.policy import Surroundings
from tests.contract.conftest import Machine

pytestmark = pytest.mark.root

NAME = "wgcontract"
LAN = ("link add lan type veth peer name far", "link set lan up", "link set far up")
"""A network of this host's, with a carrier."""
NET, NET6 = ip_network("10.0.0.0/8"), ip_network("fd00::/8")
OVERLAYS = {
    "ipv4": (NET, [ip_address(f"10.1.2.{i}") for i in range(1, 6)]),
    "ipv6": (NET6, [ip_address(f"fd00::{i}") for i in range(1, 6)]),
}


def ip(*arguments: str) -> Any:
    """What `ip` says, as data."""
    done = subprocess.run(["ip", "-json", *arguments], capture_output=True, text=True, check=True, timeout=10)
    return json.loads(done.stdout or "[]")


@pytest.fixture
def netlink(machine: Machine) -> Iterator[Any]:
    """The one netlink connection, opened inside."""
    with rtnl.open_netlink() as opened:
        yield opened


@pytest.fixture
def index(machine: Machine, netlink: Any) -> int:
    """A TUN of wireguard-go's, by index."""
    machine.start_wireguard(NAME)
    found = rtnl.find(netlink, NAME)
    assert found is not None
    assert (rtnl.TUN, None) == (found.kind, found.alias)
    return found.index


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> tuple[Network, list[Address]]:
    """A net, and some addresses in it."""
    return OVERLAYS[request.param]


def given(netlink: Any, index: int, net: Network, *resolvers: str, keep: bool = False, mtu: int = 1380) -> RtnlLink:
    """Our link on a TUN that is there."""
    known = [ip_address(resolver) for resolver in resolvers]
    return RtnlLink(netlink, Wanted(NAME, net, mtu), never_asked, known, given=index, keep=keep)


def never_asked(index: int) -> bool:
    """Whether a TUN is bare is nobody's question."""
    raise AssertionError(index)


@pytest.fixture
def link(netlink: Any, index: int, overlay: tuple[Network, list[Address]]) -> RtnlLink:
    """Our link, up."""
    made = given(netlink, index, overlay[0])
    made.make()
    made.bring_up()
    return made


def addresses() -> set[str]:
    """Of our link, all families and scopes."""
    (found,) = ip("address", "show", "dev", NAME)
    return {f"{a['local']}/{a['prefixlen']}" for a in found["addr_info"]}


def routes() -> set[str]:
    """Through our link in the main table, as destination and who made them."""
    rows = ip("-4", "route", "show", "dev", NAME) + ip("-6", "route", "show", "dev", NAME)
    return {row["dst"] for row in rows if row.get("protocol") != "kernel"}


def test_the_link_is_up_with_our_alias_and_mtu(link: RtnlLink, netlink: Any) -> None:
    """So that another instance, and a later start, know whose it is."""
    (found,) = ip("link", "show", "dev", NAME)
    assert (ALIAS, 1380, True) == (found["ifalias"], found["mtu"], "UP" in found["flags"])
    assert rtnl.Found(found["ifindex"], rtnl.TUN, ALIAS, 1380, True) == rtnl.find(netlink, NAME)


def test_the_link_has_no_address_of_its_own(link: RtnlLink) -> None:
    """No link-local one either, although it is up and IPv6 is on."""
    assert not os.path.exists(f"/proc/sys/net/ipv6/conf/{NAME}") or set() == addresses()
    (found,) = ip("-details", "link", "show", "dev", NAME)
    assert "none" == found["inet6_addr_gen_mode"]


def test_the_address_is_the_only_one(link: RtnlLink, overlay: tuple[Network, list[Address]]) -> None:
    """A /32 or /128; another takes its place; the same again is no change."""
    first, second, *_ = overlay[1]
    for address in (first, first, second, first):
        link.assign(address)
        assert {f"{address}/{address.max_prefixlen}"} == addresses()


def test_a_changed_address_leaves_the_routes_as_they_are(
    link: RtnlLink, overlay: tuple[Network, list[Address]]
) -> None:
    """Of IPv4 the kernel takes every route away with a link's last address."""
    first, second, *peers = overlay[1]
    link.assign(first)
    link.route(peers)
    link.assign(second)
    assert {str(peer) for peer in peers} == routes()
    assert [] == link.repair()


def test_the_address_can_be_used_at_once(link: RtnlLink, overlay: tuple[Network, list[Address]]) -> None:
    """No duplicate address detection on a link where nobody could answer."""
    link.assign(overlay[1][0])
    (found,) = ip("address", "show", "dev", NAME)
    assert [False] == [a.get("tentative", False) for a in found["addr_info"]]
    assert [overlay[0].version == 6] == [a.get("nodad", False) for a in found["addr_info"]]


def test_an_address_that_someone_took_away_can_be_replaced(
    link: RtnlLink, overlay: tuple[Network, list[Address]], machine: Machine
) -> None:
    """What was to be removed is not there: as good."""
    first, second, *_ = overlay[1]
    link.assign(first)
    machine.ip(f"address del {first}/{first.max_prefixlen} dev {NAME}")
    link.assign(second)
    assert {f"{second}/{second.max_prefixlen}"} == addresses()


def test_routes_are_exactly_the_wanted_ones(link: RtnlLink, overlay: tuple[Network, list[Address]]) -> None:
    """Added, kept, removed; the same again is no change."""
    own, *peers = overlay[1]
    link.assign(own)
    for wanted in (set(peers[:2]), set(peers[:2]), set(peers[1:]), set(), set(peers)):
        link.route(wanted)
        assert {str(address) for address in wanted} == routes()


def test_routes_are_host_routes_marked_static(link: RtnlLink, overlay: tuple[Network, list[Address]]) -> None:
    """Of link scope in IPv4: there is no gateway."""
    peer = overlay[1][1]
    link.route({peer})
    (row,) = [row for row in ip(f"-{peer.version}", "route", "show", "dev", NAME) if row["dst"] == str(peer)]
    assert "static" == row["protocol"]
    assert "gateway" not in row
    assert peer.version == 6 or row["scope"] == "link"


def test_a_route_that_someone_took_away_can_be_removed(
    link: RtnlLink, overlay: tuple[Network, list[Address]], machine: Machine
) -> None:
    """Gone is gone; the others follow."""
    peers = overlay[1][1:4]
    link.route(peers)
    machine.ip(f"route del {peers[0]} dev {NAME}")
    link.route([])
    assert set() == routes()


def test_a_peers_route_leads_into_the_tunnel(link: RtnlLink, overlay: tuple[Network, list[Address]]) -> None:
    """From the own address."""
    own, peer, *_ = overlay[1]
    link.assign(own)
    link.route({peer})
    (way,) = ip("route", "get", str(peer))
    assert (NAME, str(own)) == (way["dev"], way["prefsrc"])


def test_a_link_can_be_deleted_twice(link: RtnlLink, overlay: tuple[Network, list[Address]], netlink: Any) -> None:
    """With all it had; the second time there is nothing to do."""
    link.assign(overlay[1][0])
    link.route(overlay[1][1:])
    link.delete()
    assert rtnl.find(netlink, NAME) is None
    link.delete()


def test_a_deleted_link_takes_no_address_and_no_route(
    link: RtnlLink, overlay: tuple[Network, list[Address]], machine: Machine
) -> None:
    """An OSError with the kernel's word, also when another link has our name now."""
    link.assign(overlay[1][0])
    machine.ip(f"link del {NAME}", f"link add {NAME} type bridge", f"link set {NAME} up")
    for call in (lambda: link.assign(overlay[1][1]), lambda: link.route([overlay[1][2]]), link.bring_up):
        with pytest.raises(OSError, match=os.strerror(errno.ENODEV)) as raised:
            call()
        assert errno.ENODEV == raised.value.errno
    link.delete()
    (found,) = ip("link", "show", "dev", NAME)
    assert "ifalias" not in found
    assert 1500 == found["mtu"]


FOREIGN = {
    "alias": ["link set {name} alias other"],
    "MTU": ["link set {name} mtu 1300"],
    "link down": ["link set {name} down"],
    "address": ["address flush dev {name}"],
    "routes": ["route del {peer} dev {name}"],
}
"""What the repair calls it, and how it comes about."""


def everything() -> tuple[Any, set[str], set[str]]:
    """What the link is, has, and carries."""
    (found,) = ip("link", "show", "dev", NAME)
    return (found["ifalias"], found["mtu"], "UP" in found["flags"]), addresses(), routes()


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_change_is_repaired_and_named(
    what: str, link: RtnlLink, overlay: tuple[Network, list[Address]], machine: Machine
) -> None:
    """Whatever else goes with it: with a link that is down, its routes do. Afterwards there is nothing to repair."""
    own, *peers = overlay[1]
    link.assign(own)
    link.route(peers)
    assert [] == link.repair()
    before = everything()
    machine.ip(*(command.format(name=NAME, peer=peers[0]) for command in FOREIGN[what]))
    assert before != everything()
    assert what in link.repair()
    assert before == everything()
    assert [] == link.repair()


def test_what_others_add_to_the_link_is_left(
    link: RtnlLink, overlay: tuple[Network, list[Address]], machine: Machine
) -> None:
    """An operator's own address or route on it is nothing to repair."""
    own, peer, theirs, other, _ = overlay[1]
    link.assign(own)
    link.route([peer])
    machine.ip(f"address add {theirs}/{theirs.max_prefixlen} dev {NAME}", f"route add {other} dev {NAME}")
    before = everything()
    assert [] == link.repair()
    assert before == everything()


def test_a_link_that_is_gone_cannot_be_repaired(link: RtnlLink, machine: Machine) -> None:
    """It says so, and does not mistake another of its name for itself."""
    assert link.exists()
    machine.ip(f"link del {NAME}", f"link add {NAME} type bridge")
    assert not link.exists()
    with pytest.raises(OSError, match=os.strerror(errno.ENODEV)):
        link.repair()


def test_the_administrators_link_is_emptied_at_both_ends(
    netlink: Any, index: int, overlay: tuple[Network, list[Address]], machine: Machine
) -> None:
    """What an earlier run left on it goes, then what this one put there; the link stays."""
    own, peer, old, older, _ = overlay[1]
    machine.ip(
        f"link set {NAME} up",
        f"address add {old}/{old.max_prefixlen} dev {NAME}",
        f"route add {older} dev {NAME}",
    )
    link = given(netlink, index, overlay[0], keep=True)
    link.make()
    assert (set(), set()) == (addresses(), routes())
    link.bring_up()
    link.assign(own)
    link.route([peer])
    assert {f"{own}/{own.max_prefixlen}"} == addresses()
    link.delete()
    assert (set(), set()) == (addresses(), routes())
    left = rtnl.find(netlink, NAME)
    assert left is not None
    assert not left.alias  # no other instance takes it for a running one's


def test_looking_after_the_link_for_ever_takes_no_memory(link: RtnlLink, netlink: Any) -> None:
    """pyroute2 0.9 keeps the acknowledgement of each request for one link; the helper looks twice a minute."""
    link.repair()
    before = {key: queue.qsize() for key, queue in netlink.asyncore.msg_queue.queues.items()}
    for _ in range(50):
        assert link.exists()
        link.repair()
        link.surroundings()
    assert before == {key: queue.qsize() for key, queue in netlink.asyncore.msg_queue.queues.items()}


@pytest.mark.parametrize("works", range(4))
def test_routes_are_put_right_after_a_refusal_half_way(
    link: RtnlLink, overlay: tuple[Network, list[Address]], netlink: Any, monkeypatch: pytest.MonkeyPatch, works: int
) -> None:
    """What was done before the kernel said no is remembered, and so is what was not."""
    peers, real, left = overlay[1], netlink.route, [works]
    link.route(peers[:2])

    def route(*arguments: Any, **fields: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise NetlinkError(errno.ENOBUFS, "no room")
        return real(*arguments, **fields)

    monkeypatch.setattr(netlink, "route", route)
    with pytest.raises(OSError, match=os.strerror(errno.ENOBUFS)):
        link.route(peers[2:])
    monkeypatch.undo()
    link.route(peers[1:3])
    assert {str(address) for address in peers[1:3]} == routes()


# --- surroundings ------------------------------------------------------------------------------------------------


def surroundings(netlink: Any, index: int, net: Network, *resolvers: str) -> Surroundings:
    """What the link with `index` sees."""
    return given(netlink, index, net, *resolvers).surroundings()


def test_a_bare_host_has_no_networks_that_concern_the_overlay(netlink: Any, index: int) -> None:
    """Only its loopback net and addresses."""
    own = frozenset(map(ip_address, ("127.0.0.1", "127.255.255.255", "::1")))
    bare = Surroundings(addresses=own, ranges=(ip_network("127.0.0.0/8"),))
    assert bare == surroundings(netlink, index, NET)
    assert bare == surroundings(netlink, index, NET6)


@pytest.mark.parametrize(
    ("net", "commands", "found", "not_found"),
    [
        (NET, ["address add 10.5.0.1/24 dev lan"], ["10.5.0.0/24", "10.5.0.1/32", "10.5.0.255/32"], []),
        (NET, ["address add 192.168.7.1/24 dev lan"], [], ["192.168.7.0/24", "192.168.7.1/32"]),
        (NET, ["address add 10.5.0.1 peer 10.6.0.1 dev lan"], ["10.5.0.1/32", "10.6.0.1/32"], []),
        (NET, ["address add 10.5.0.1/7 dev lan"], ["10.5.0.1/32"], ["10.0.0.0/7"]),
        (NET, ["address add 10.5.0.1/8 dev lan"], ["10.0.0.0/8", "10.5.0.1/32"], []),
        (NET, ["route add 10.7.0.0/16 dev lan"], ["10.7.0.0/16"], []),
        (
            NET,
            ["address add 192.168.7.1/24 dev lan", "route add default via 192.168.7.2"],
            [],
            ["0.0.0.0/0", "192.168.7.2/32"],
        ),
        (
            NET,
            ["route add 10.9.0.1 dev lan scope link", "route add default via 10.9.0.1 dev lan"],
            ["10.9.0.1/32"],
            ["0.0.0.0/0"],
        ),
        (NET, ["route add default via 10.9.0.1 dev lan onlink"], ["10.9.0.1/32"], ["0.0.0.0/0"]),
        (
            NET,
            ["route add 10.7.0.0/16 nexthop via 10.9.0.1 dev lan onlink nexthop via 10.9.0.2 dev lan onlink"],
            ["10.7.0.0/16", "10.9.0.1/32", "10.9.0.2/32"],
            [],
        ),
        (NET, ["route add blackhole 10.7.0.0/16", "route add unreachable 10.0.0.0/8"], ["10.7.0.0/16"], ["10.0.0.0/8"]),
        (NET, ["route add 10.7.0.0/16 dev lan table 100"], [], ["10.7.0.0/16"]),
        (NET6, ["address add fd05::1/64 dev lan nodad"], ["fd05::/64", "fd05::1/128"], ["fe80::/64"]),
        (NET6, ["route add fd07::/32 dev lan"], ["fd07::/32"], []),
        (NET6, ["route add default via fd09::1 dev lan onlink"], ["fd09::1/128"], ["::/0"]),
        (
            NET6,
            ["route add fd07::/32 nexthop via fd09::1 dev lan onlink nexthop via fd09::2 dev lan onlink"],
            ["fd07::/32", "fd09::1/128", "fd09::2/128"],
            [],
        ),
        (NET6, ["address add 2001:db8::1/64 dev lan nodad"], [], ["2001:db8::/64", "2001:db8::1/128"]),
    ],
)
def test_what_another_link_has_is_found(
    netlink: Any,
    index: int,
    machine: Machine,
    net: Network,
    commands: list[str],
    found: list[str],
    not_found: list[str],
) -> None:
    """Routes, gateways and addresses at least as specific as the overlay and within it; nothing wider or elsewhere."""
    machine.ip(*LAN, *commands)
    networks = {str(network) for network in surroundings(netlink, index, net).networks}
    assert set(found) <= networks
    assert set() == networks & set(not_found)
    assert all(ip_network(network).subnet_of(net) for network in networks)  # type: ignore[arg-type]


def test_a_gateway_of_the_other_family_is_found(netlink: Any, index: int, machine: Machine) -> None:
    """An IPv4 network behind an IPv6 router."""
    machine.ip(*LAN, "route add 10.7.0.0/16 via inet6 fd09::1 dev lan onlink")
    assert [ip_network("fd09::1/128")] == list(surroundings(netlink, index, NET6).networks)
    assert ip_network("10.7.0.0/16") in surroundings(netlink, index, NET).networks


def test_addresses_of_all_links_are_found_whatever_their_net(netlink: Any, index: int, machine: Machine) -> None:
    """An endpoint must not be one of them; what an operator gave our own link is none of ours."""
    machine.ip(
        *LAN,
        "address add 192.168.7.1/24 dev lan",
        "address add 2001:db8::1/64 dev lan nodad",
        f"address add 192.168.9.1/24 dev {NAME}",
    )
    own = surroundings(netlink, index, NET).addresses
    assert {ip_address(a) for a in ("192.168.7.1", "2001:db8::1", "127.0.0.1", "192.168.9.1")} <= own


def test_what_a_host_takes_for_its_own_or_sends_to_all_of_a_network_is_found(
    netlink: Any, index: int, machine: Machine
) -> None:
    """A network's broadcast address, as long as the network is there; a range that is routed to the host itself."""
    machine.ip(*LAN, "address add 192.168.7.65/26 brd + dev lan")
    assert surroundings(netlink, index, NET).has(ip_address("192.168.7.127"))
    assert not surroundings(netlink, index, NET).has(ip_address("192.168.7.126"))
    machine.ip("address flush dev lan", "route add local 192.0.2.0/24 dev lo", "route add local 2001:db8::/64 dev lo")
    around = surroundings(netlink, index, NET)
    assert not around.has(ip_address("192.168.7.127"))
    assert all(around.has(ip_address(address)) for address in ("192.0.2.77", "2001:db8::77"))


@pytest.mark.parametrize(
    ("commands", "tunnelled", "past"),
    [
        ([], [], ["192.0.2.7", "2001:db8::7"]),
        (["route add 192.0.2.0/24 dev {name}"], ["192.0.2.7"], ["198.51.100.7", "2001:db8::7"]),
        (["route add 2001:db8::/32 dev {name}"], ["2001:db8::7"], ["2001:db9::7", "192.0.2.7"]),
        (["route add default dev {name}"], ["192.0.2.7", "198.51.100.7"], ["192.168.7.7", "2001:db8::7"]),
        (["route add ::/0 dev {name}"], ["2001:db8::7"], ["192.0.2.7"]),
        (["route add 192.0.2.0/24 dev {name}", "route add 192.0.2.0/28 dev lan"], ["192.0.2.77"], ["192.0.2.7"]),
        (["route add 192.0.2.0/24 dev {name}", "route add unreachable 192.0.2.7"], ["192.0.2.8"], ["192.0.2.7"]),
        (["route add 192.0.2.0/24 dev lan", "route add default dev {name}"], ["198.51.100.7"], ["192.0.2.7"]),
        (["route add 192.0.2.0/24 dev {name} metric 9", "route add 192.0.2.0/24 dev lan"], [], ["192.0.2.7"]),
        (["route add 192.0.2.0/24 dev {name}", "route add 192.0.2.0/24 dev lan metric 9"], ["192.0.2.7"], []),
        (["route add 192.0.2.0/24 nexthop dev lan nexthop dev {name}"], ["192.0.2.7"], []),
        (["address add 192.0.2.1/24 dev {name}"], ["192.0.2.7"], ["192.0.3.7"]),
    ],
)
def test_what_somebody_routes_through_our_own_link_is_found(
    link: RtnlLink, machine: Machine, commands: list[str], tunnelled: list[str], past: list[str]
) -> None:
    """An endpoint there would be sent into the tunnel that it carries; the kernel is asked whether it is so."""
    machine.ip(*LAN, "address add 192.168.7.1/24 dev lan", *(command.format(name=NAME) for command in commands))
    around = link.surroundings()
    for address in tunnelled:
        assert around.tunnels(ip_address(address))
        assert NAME in {hop["dev"] for hop in ip("route", "get", address)} or "nexthop" in commands[0]
    for address in past:
        assert not around.tunnels(ip_address(address))


def test_what_is_ours_on_our_link_is_nobody_elses(link: RtnlLink, overlay: tuple[Network, list[Address]]) -> None:
    """Neither the own address nor a peer's route; the policy knows better what of it is wanted."""
    own, *peers = overlay[1]
    link.assign(own)
    link.route(peers)
    around = link.surroundings()
    assert ((), ()) == (around.tunnelled, around.beside)
    assert not any(around.tunnels(address) or around.has(address) for address in overlay[1])


def test_resolvers_within_the_overlay_are_found(netlink: Any, index: int) -> None:
    """Whoever is at a resolver's address answers for every name."""
    assert (ip_network("10.0.0.53/32"),) == surroundings(netlink, index, NET, "10.0.0.53", "192.0.2.53").networks
    assert (ip_network("fd00::53/128"),) == surroundings(netlink, index, NET6, "fd00::53", "10.0.0.53").networks


def test_of_links_with_our_alias_only_single_addresses_count(netlink: Any, index: int, machine: Machine) -> None:
    """Another instance's overlay may be the same net; its link's name is known."""
    machine.ip(
        "link add wgother type bridge",
        f"link set wgother alias {ALIAS} up",
        "address add 10.1.1.1/32 dev wgother",
        "route add 10.1.1.2 dev wgother",
        "route add 10.1.1.3 nexthop dev wgother nexthop dev wgother",
    )
    link = given(netlink, index, NET)
    found = link.surroundings()
    assert () == found.networks
    assert {ip_address(f"10.1.1.{n}") for n in (1, 2, 3)} == found.taken
    assert ["wgother"] == link.others()
    machine.ip("link set wgother alias wesher2")
    assert {"10.1.1.1/32", "10.1.1.2/32", "10.1.1.3/32"} <= {str(n) for n in link.surroundings().networks}
    assert [] == link.others()


def test_a_route_that_is_there_is_never_replaced(link: RtnlLink, netlink: Any, index: int, machine: Machine) -> None:
    """The operator's route stays, and the address it covers is found the next time one looks."""
    machine.ip(*LAN, "route add blackhole 10.66.66.66", "route add 10.66.66.67 dev lan")
    before = ip("route", "show", "10.66.66.66/31")
    for address in ("10.66.66.66", "10.66.66.67"):
        with pytest.raises(FileExistsError):
            link.route([ip_address(address)])
    assert before == ip("route", "show", "10.66.66.66/31")
    assert {"10.66.66.66/32", "10.66.66.67/32"} <= {str(n) for n in surroundings(netlink, index, NET).networks}


def test_our_own_link_is_left_out(link: RtnlLink, overlay: tuple[Network, list[Address]]) -> None:
    """Its address and its routes are the overlay."""
    link.assign(overlay[1][0])
    link.route(overlay[1][1:])
    assert () == link.surroundings().networks
    assert overlay[1][0] not in link.surroundings().addresses
    assert [] == link.others()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("nameserver 10.0.0.53\nnameserver fd00::53\n", ["10.0.0.53", "fd00::53"]),
        ("nameserver fe80::1%eth0\n", ["fe80::1"]),
        ("search example.org\n# nameserver 10.0.0.1\n; nameserver 10.0.0.2\nnameserver\nnameserver x\n", []),
        ("  nameserver\t10.0.0.53  # ours\nnameservers 10.0.0.54\n", ["10.0.0.53"]),
    ],
)
def test_the_resolvers_of_a_resolv_conf(text: str, expected: list[str]) -> None:
    """What does not parse is none."""
    assert [ip_address(address) for address in expected] == list(rtnl.resolvers(text))
