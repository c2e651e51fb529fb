"""What stays when agents go, what is put right when others change it, and what is left after a failure: nothing."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from privhelper.addressing import Address, derive
from privhelper.policy import HostsVerdict, PeerVerdict, Surroundings
from privhelper.protocol import (
    MAX_PART,
    Bye,
    Failed,
    Farewell,
    Hello,
    HostsResult,
    HostsWritten,
    InForce,
    Op,
    OwnAddress,
    Peer,
    PeersInForce,
    PinnedPolicy,
    SetAddr,
    SetPeers,
    Staged,
    Status,
    StatusPart,
    Verdicts,
    WriteHosts,
)
from privhelper.tunnels import Tunnels
from tests.contract.fakes import FakeDevice, FakeHosts, FakeLink, Kernel, public_half
from tests.unit.privhelper.over_fakes import NET, OK, OWN_KEY, PINNED, A, B, C, Helper, line, peer

OWN = derive(NET, b"self", 0)
COVERED = (PeerVerdict.LOCAL_NETWORK, HostsVerdict.NO_PEER)

# --- one agent after the other -----------------------------------------------------------------------------------


def test_the_next_agent_finds_in_force_what_was_applied() -> None:
    """With the same key; the one before it said no goodbye."""
    helper = Helper().configured(A, B)
    helper.send(WriteHosts())
    helper.done()
    greeting = helper.next_agent().send(Hello("test"))
    assert isinstance(greeting, PinnedPolicy)
    assert (OWN_KEY, 2) == (greeting.public_key, greeting.in_force)
    assert PeersInForce((A, B), False) == helper.send(InForce(0))
    assert [] == helper.done()
    assert helper.has((A, B))
    assert (line(A), line(B)) == helper.hosts.lines


def test_an_agent_that_asks_for_the_same_touches_nothing() -> None:
    """Address, peers, names: a restart of the agent costs no packet."""
    helper = Helper().configured(A, B)
    helper.send(WriteHosts())
    helper.done()
    helper.next_agent().addressed()
    assert Verdicts((OK, OK)) == helper.send(SetPeers((A, B)))
    assert [] == helper.done()


def test_what_an_agent_staged_is_forgotten_with_it() -> None:
    """The next one's set begins with its own first part."""
    helper = Helper().configured(A)
    assert Staged() == helper.send(SetPeers((B,), True))
    helper.next_agent().addressed()
    assert Verdicts((OK, OK)) == helper.send(SetPeers((A, C)))
    assert helper.has((A, C))


def test_a_reading_of_one_agents_is_none_of_the_nexts() -> None:
    """Part 1 without a part 0 is empty."""
    peers = tuple(peer(f"node-{i}", i, i) for i in range(MAX_PART + 1))
    helper = Helper().addressed()
    helper.send(SetPeers(peers[:1], True))
    helper.send(SetPeers(peers[1:]))
    reading = helper.send(Status(0))
    assert isinstance(reading, StatusPart)
    assert reading.more
    helper.next_agent().greeted()
    assert StatusPart((), False) == helper.send(Status(1))


def test_the_next_agent_learns_of_a_change_that_failed_half_way_what_it_was_for() -> None:
    """Each name, key and address once: it sends what it learns back as its first set."""
    helper = Helper().configured(A, B)
    returned = replace(A, public_key=b"\x77" * 32)
    helper.kernel.fail_in(0)
    assert Failed(Op.SET_PEERS, errno.EIO) == helper.send(SetPeers((returned, C)))
    helper.kernel.recover()
    helper.next_agent().addressed()
    assert PeersInForce((returned, C), False) == helper.send(InForce(0))
    assert Verdicts((OK, OK)) == helper.send(SetPeers((returned, C)))
    assert helper.has((returned, C))


def test_after_a_goodbye_the_next_agent_gets_a_new_link_and_a_new_key() -> None:
    """And an empty set: nothing of what was taken down is adopted."""
    helper = Helper().configured(A)
    assert Farewell() == helper.send(Bye())
    assert helper.is_down()
    helper.done()
    greeting = helper.next_agent().send(Hello("test"))
    assert isinstance(greeting, PinnedPolicy)
    assert (public_half(b"key 2"), 0) == (greeting.public_key, greeting.in_force)
    assert [("make", None), ("create", 51820), ("bring up", None)] == helper.done()
    assert OwnAddress(OWN) == helper.send(SetAddr(0))
    assert Verdicts((OK,)) == helper.send(SetPeers((A,)))
    assert helper.has((A,))


def test_of_a_change_that_failed_half_way_nothing_outlives_a_goodbye() -> None:
    """The next agent learns of nobody."""
    helper = Helper().configured(A)
    helper.kernel.fail_in(0)
    assert Failed(Op.SET_PEERS, errno.EIO) == helper.send(SetPeers((A, B)))
    helper.kernel.recover()
    assert Farewell() == helper.send(Bye())
    greeting = helper.next_agent().send(Hello("test"))
    assert isinstance(greeting, PinnedPolicy)
    assert greeting.in_force == 0
    assert PeersInForce((), False) == helper.send(InForce(0))
    assert helper.tunnels.repair() == []
    helper.send(SetAddr(0))
    assert helper.has(())


def test_who_could_not_be_reached_before_a_goodbye_is_nobody_after_it() -> None:
    """A repair in between, with no address of our own yet, has nothing to judge anybody by."""
    helper = Helper(surroundings=Surroundings((ip_network(A.overlay_addr),))).configured(A)
    helper.send(Bye())
    helper.next_agent().greeted()
    helper.link.around = Surroundings()
    assert helper.tunnels.repair() == []


def test_the_keepalive_is_the_pinned_one() -> None:
    """The agent has no say in it."""
    helper = Helper(replace(PINNED, keepalive=25)).configured(A)
    assert {A.public_key: 25} == helper.device.keepalives


# --- set up, and taken down --------------------------------------------------------------------------------------


@pytest.mark.parametrize("refused", ["create", "bring_up"])
def test_a_start_that_fails_half_way_leaves_nothing(refused: str) -> None:
    """The link is made, then the device refuses its key, or the link to come up; all else works."""
    kernel = Kernel()
    device, link, hosts = FakeDevice(kernel), FakeLink(kernel), FakeHosts(kernel)

    def refuse(*arguments: object) -> bytes:
        raise OSError(errno.EIO, "no")

    setattr(device if refused == "create" else link, refused, refuse)
    tunnels = Tunnels(PINNED, device, link, hosts)
    with pytest.raises(OSError, match="no"):
        tunnels.set_up()
    assert ("make", None) in kernel.done
    assert tunnels.public_key is None
    assert (None, False, ()) == (device.key, link.is_there, hosts.lines)


def test_a_hello_that_cannot_set_up_is_answered_and_can_come_again() -> None:
    """The agent may have come while the kernel was short of memory."""
    helper = Helper()
    helper.send(Hello("test"))
    helper.send(Bye())
    helper.next_agent()
    helper.kernel.fail_in(1)
    assert Failed(Op.HELLO, errno.EIO) == helper.send(Hello("test"))
    assert "order" == helper.violation(SetAddr(0))
    helper.kernel.recover()
    helper.next_agent()
    assert isinstance(helper.send(Hello("test")), PinnedPolicy)
    assert helper.is_whole()


def test_a_link_of_somebody_elses_is_left_alone() -> None:
    """Of our name: it is not ours to delete."""
    helper = Helper()
    helper.tunnels.take_down()

    def refuse() -> None:
        raise FileExistsError(errno.EEXIST, "interface wgoverlay exists already")

    helper.link.make = refuse  # type: ignore[method-assign]
    helper.done()
    assert Failed(Op.HELLO, errno.EEXIST) == helper.send(Hello("test"))
    assert [] == helper.done()


def test_what_could_not_be_taken_down_is_remembered() -> None:
    """For the exit status, and for the log."""
    helper = Helper().configured(A)
    helper.kernel.fail_in(1)
    helper.tunnels.take_down()
    assert [errno.EIO, errno.EIO] == [failure.errno for failure in helper.tunnels.failures]
    assert helper.tunnels.public_key is None
    helper.kernel.recover()
    helper.tunnels.take_down()
    assert [] == helper.tunnels.failures
    assert helper.is_down()


# --- what others do ----------------------------------------------------------------------------------------------


def test_where_nothing_has_changed_nothing_is_repaired() -> None:
    """Looking is not touching."""
    helper = Helper().configured(A, B)
    assert [] == helper.tunnels.repair()
    assert [] == helper.done()


def test_names_that_stand_are_not_written_again() -> None:
    """The file is the operator's, and every write of it is seen by whoever watches it."""
    helper = Helper().configured(A, B)
    helper.send(WriteHosts())
    helper.done()
    assert [] == helper.tunnels.repair()
    assert [] == helper.done()


def test_of_several_steps_that_fail_the_first_is_said() -> None:
    """The others are tried all the same."""
    helper = Helper().configured(A)
    _remove_peer(helper)
    raised: list[OSError] = []

    def refuse(*_: object) -> None:
        raised.append(OSError(errno.ENOBUFS, f"no {len(raised)}"))
        raise raised[-1]

    helper.device.apply = refuse  # type: ignore[method-assign]
    helper.link.surroundings = refuse  # type: ignore[method-assign, assignment]
    with pytest.raises(OSError, match="no 0"):
        helper.tunnels.repair()
    assert len(raised) > 1


def test_while_nothing_is_set_up_nothing_is_repaired() -> None:
    """Nor looked at: the link's name may be somebody else's by now."""
    helper = Helper().configured(A)
    helper.send(Bye())
    helper.kernel.forget()
    assert [] == helper.tunnels.repair()
    assert [] == helper.kernel.done


def test_before_an_agent_has_come_the_link_is_kept_whole() -> None:
    """It has no address and no peer yet."""
    helper = Helper()
    helper.lose_link()
    assert ["link gone"] == helper.tunnels.repair()
    assert helper.is_whole()
    assert helper.has(())


def _lose_link(helper: Helper) -> None:
    helper.lose_link()


def _set(word: str) -> Callable[[Helper], None]:
    def change(helper: Helper) -> None:
        helper.link.state[word] = False

    return change


def _flush_routes(helper: Helper) -> None:
    helper.link.routes.clear()


def _take_address(helper: Helper) -> None:
    helper.link.address = None


def _remove_peer(helper: Helper) -> None:
    del helper.device.peers[A.public_key]
    helper.device.take_addresses(A.public_key)


def _add_peer(helper: Helper) -> None:
    helper.device.peers[b"\x99" * 32] = ip_address("192.0.2.99")


def _steal_address(helper: Helper) -> None:
    _add_peer(helper)
    helper.device.allowed[A.overlay_addr] = b"\x99" * 32


def _exchange_addresses(helper: Helper) -> None:
    helper.device.allowed |= {A.overlay_addr: B.public_key, B.overlay_addr: A.public_key}


def _widen_allowed_ips(helper: Helper) -> None:
    helper.device.allowed[ip_network("192.168.0.0/16")] = A.public_key


def _drop_allowed_ips(helper: Helper) -> None:
    helper.device.take_addresses(A.public_key)


def _change_key(helper: Helper) -> None:
    helper.device.key = b"\x99" * 32


def _change_port(helper: Helper) -> None:
    helper.device.port = 12345


FOREIGN: Mapping[str, tuple[Callable[[Helper], None], list[str]]] = {
    "link deleted": (_lose_link, ["link gone", "peers"]),
    "alias changed": (_set("alias"), ["alias"]),
    "MTU changed": (_set("MTU"), ["MTU"]),
    "set down": (_set("link down"), ["link down"]),
    "address removed": (_take_address, ["address"]),
    "routes flushed": (_flush_routes, ["routes"]),
    "peer removed": (_remove_peer, ["peers"]),
    "peer added": (_add_peer, ["peers"]),
    "address given to another": (_steal_address, ["peers"]),
    "addresses exchanged": (_exchange_addresses, ["peers"]),
    "network added to a peer": (_widen_allowed_ips, ["peers"]),
    "allowed IPs taken": (_drop_allowed_ips, ["peers"]),
    "key changed": (_change_key, ["key or port"]),
    "port changed": (_change_port, ["key or port"]),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_change_is_put_right_and_said(what: str) -> None:
    """With the same key, address, routes and peers as before; the second look finds nothing."""
    change, words = FOREIGN[what]
    helper = Helper().configured(A, B)
    change(helper)
    assert not (helper.is_whole() and helper.has((A, B)) and helper.link.address == OWN)
    assert words == helper.tunnels.repair()
    assert helper.is_whole()
    assert helper.has((A, B))
    assert (OWN, OWN_KEY) == (helper.link.address, helper.device.key)
    assert [] == helper.tunnels.repair()


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_change_is_put_right_with_no_agent_there(what: str) -> None:
    """Tunnels outlive it."""
    change, words = FOREIGN[what]
    helper = Helper().configured(A, B)
    helper.next_agent()
    change(helper)
    assert words == helper.tunnels.repair()
    assert helper.has((A, B))


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("works", range(8))
def test_a_repair_that_fails_half_way_is_finished_by_the_next(what: str, works: int) -> None:
    """Whichever step is refused, and with peers whose keepalive goes with them."""
    change, _ = FOREIGN[what]
    helper = Helper(replace(PINNED, keepalive=25)).configured(A, B)
    change(helper)
    helper.kernel.fail_in(works)
    try:
        helper.tunnels.repair()
        failed = False
    except OSError:
        failed = True
    helper.kernel.recover()
    found = helper.tunnels.repair()
    assert failed or found == []
    assert helper.is_whole()
    assert helper.has((A, B))
    assert helper.link.address == OWN
    assert {A.public_key: 25, B.public_key: 25} == helper.device.keepalives
    assert [] == helper.tunnels.repair()


def test_a_roamed_endpoint_is_no_foreign_change() -> None:
    """WireGuard itself moved it, on word of whoever has the peer's key."""
    helper = Helper().configured(A)
    helper.device.peers[A.public_key] = ip_address("198.51.100.7")
    assert [] == helper.tunnels.repair()
    assert ip_address("198.51.100.7") == helper.device.peers[A.public_key]


def test_a_peer_whose_tunnel_is_whole_is_not_set_again() -> None:
    """It may have roamed, and its endpoint in the table is the announced one."""
    helper = Helper().configured(A, B)
    _remove_peer(helper)
    helper.tunnels.repair()
    assert [("set", A)] == helper.done()


def test_packets_no_longer_come_from_an_address_that_this_host_has_lost() -> None:
    """Told once for each that goes, and again where that fails; one that comes is none that goes."""
    helper = Helper().configured(A)
    first, second = ip_address("192.0.2.50"), ip_address("192.0.2.51")

    def repaired(*addresses: Address) -> int:
        helper.link.around = Surroundings(addresses=frozenset(addresses))
        assert [] == helper.tunnels.repair()
        return [verb for verb, _ in helper.done()].count("forget sources")

    assert (repaired(first), repaired(first), repaired(first, second)) == (0, 0, 0)
    assert (repaired(second), repaired(second)) == (1, 0)
    helper.link.around = Surroundings()
    helper.kernel.fail_in(1)
    with pytest.raises(OSError, match="the kernel says no"):
        helper.tunnels.repair()
    helper.kernel.recover()
    assert (repaired(), repaired()) == (1, 0)


ROAMED = ip_address("198.51.100.7")


def _roamed() -> Helper:
    """A is not where it says, and WireGuard has found it."""
    helper = Helper().configured(A, B)
    helper.device.peers[A.public_key] = ROAMED
    return helper


@pytest.mark.parametrize(
    "what",
    [
        pytest.param((A, B, C), id="somebody comes"),
        pytest.param((A,), id="somebody goes"),
        pytest.param((A, replace(B, endpoint=C.endpoint)), id="somebody moves"),
        pytest.param((replace(A, overlay_addr=derive(NET, b"node-a", 1)), B), id="it changes its overlay address"),
        pytest.param((A, replace(B, public_key=b"\x77" * 32)), id="somebody has a new key"),
    ],
)
def test_an_endpoint_that_was_learned_survives_what_else_a_set_changes(what: tuple[Peer, ...]) -> None:
    """As long as gossip announces the same."""
    helper = _roamed()
    helper.send(SetPeers(what))
    assert helper.device.peers[A.public_key] == ROAMED
    assert [] == helper.tunnels.repair()
    helper.next_agent()
    helper.greeted().send(SetAddr(0))
    helper.send(SetPeers(what))
    assert helper.device.peers[A.public_key] == ROAMED


def test_an_endpoint_that_gossip_changes_is_set() -> None:
    """Whatever had been learned before."""
    helper = _roamed()
    helper.send(SetPeers((replace(A, endpoint=C.endpoint), B)))
    assert helper.device.peers[A.public_key] == C.endpoint


def test_an_endpoint_that_was_learned_survives_a_repair() -> None:
    """Of what somebody else did to the peer's addresses, or to key and port. Who took the peer away took that too."""
    helper = _roamed()
    helper.device.take_addresses(A.public_key)
    assert ["peers"] == helper.tunnels.repair()
    helper.device.key = b"\x42" * 32
    assert ["key or port"] == helper.tunnels.repair()
    assert helper.device.peers[A.public_key] == ROAMED
    helper.device.peers.pop(A.public_key)
    helper.device.take_addresses(A.public_key)
    assert ["peers"] == helper.tunnels.repair()
    assert helper.has((A, B))


def test_an_endpoint_that_may_not_have_been_set_is_set_again() -> None:
    """The change before this one failed half way, and nobody knows what of it there is."""
    helper = Helper().configured(A, B)
    moved = replace(A, endpoint=C.endpoint)
    helper.kernel.fail_in(0)
    assert Failed(Op.SET_PEERS, errno.EIO) == helper.send(SetPeers((moved, B)))
    helper.kernel.recover()
    helper.send(SetPeers((moved, B)))
    assert helper.has((moved, B))


@pytest.mark.parametrize("works", range(9))
def test_a_set_that_failed_half_way_is_finished_by_a_repair(works: int) -> None:
    """Also where an address has gone over to another key, and no agent is left to ask again."""
    helper = Helper().configured(A, B, C)
    after = (
        replace(A, public_key=b"\x77" * 32),
        replace(B, overlay_addr=derive(NET, b"node-b", 1)),
        peer("node-d", 4),
    )
    helper.kernel.fail_in(works)
    assert Failed(Op.SET_PEERS, errno.EIO) == helper.send(SetPeers(after))
    helper.kernel.recover()
    helper.next_agent()
    assert ["a set half applied"] == helper.tunnels.repair()
    assert helper.has(after)
    assert [] == helper.tunnels.repair()
    assert PeersInForce(after, False) == helper.greeted().send(InForce(0))


def test_names_of_a_set_that_failed_half_way_do_not_outlive_its_peers() -> None:
    """The lines of those that stay stay; who comes waits for the agent to ask again."""
    helper = Helper().configured(A, B)
    helper.send(WriteHosts())
    helper.kernel.fail_in(0)
    helper.send(SetPeers((B, C)))
    helper.kernel.recover()
    helper.tunnels.repair()
    assert (line(B),) == helper.hosts.lines


def test_an_own_address_that_was_lost_in_a_change_comes_back() -> None:
    """The old one went, the new one was refused."""
    helper = Helper().configured(A)
    helper.link.address = helper.link._address = None
    helper.tunnels.repair()
    assert OWN == helper.link.address


# --- a local network that comes later ----------------------------------------------------------------------------


def test_a_local_network_that_comes_withdraws_the_peers_it_covers_and_their_names() -> None:
    """Their traffic would go to the neighbours; the others stay, and the next set says why."""
    helper = Helper().configured(A, B)
    helper.send(WriteHosts())
    helper.link.around = Surroundings((ip_network(A.overlay_addr),))
    assert ["peers refused by now"] == helper.tunnels.repair()
    assert helper.has((B,))
    assert (line(B),) == helper.hosts.lines
    assert [] == helper.tunnels.repair()
    assert Verdicts((COVERED, OK)) == helper.send(SetPeers((A, B)))


def test_when_the_network_has_gone_the_next_set_brings_its_peers_back() -> None:
    """Nobody but the agent knows of them any more."""
    helper = Helper().configured(A, B)
    helper.link.around = Surroundings((ip_network(A.overlay_addr),))
    helper.tunnels.repair()
    helper.link.around = Surroundings()
    assert [] == helper.tunnels.repair()
    assert Verdicts((OK, OK)) == helper.send(SetPeers((A, B)))
    assert helper.has((B, A))


@pytest.mark.parametrize(
    "around",
    [
        Surroundings((ip_network(A.overlay_addr),)),
        Surroundings(addresses=frozenset((A.endpoint,))),
        Surroundings(tunnelled=(ip_network(A.endpoint),)),
    ],
)
def test_that_nothing_stands_in_a_peers_way_any_more_is_said_once(around: Surroundings) -> None:
    """As an event it makes the agent ask again; before that, and for others that are refused, there is no reason to."""
    helper = Helper(surroundings=around).configured(A, replace(B, public_key=bytes(32)), C)
    assert [] == helper.tunnels.repair()
    helper.link.around = Surroundings()
    assert ["peers possible again"] == helper.tunnels.repair()
    assert [] == helper.tunnels.repair()
    assert Verdicts((OK, OK)) == helper.send(SetPeers((A, C)))


def test_that_nothing_stands_in_a_peers_way_is_said_by_the_first_look_that_works() -> None:
    """One that fails says that and nothing else."""
    helper = Helper(surroundings=Surroundings((ip_network(A.overlay_addr),))).configured(A, B)
    helper.link.around = Surroundings()
    helper.kernel.fail_in(0)
    with pytest.raises(OSError, match="the kernel says no"):
        helper.tunnels.repair()
    helper.kernel.recover()
    assert ["peers possible again"] == helper.tunnels.repair()


def test_peers_that_are_wanted_no_more_stand_in_nobodys_way() -> None:
    """The last set counts."""
    helper = Helper(surroundings=Surroundings((ip_network(A.overlay_addr),))).configured(A, B)
    helper.send(SetPeers((B,)))
    helper.link.around = Surroundings()
    assert [] == helper.tunnels.repair()


@pytest.mark.parametrize("what", ["routes flushed", "link deleted"])
def test_a_route_of_somebody_elses_in_the_place_of_ours_costs_one_peer(what: str) -> None:
    """It can not be replaced, and it is a local network; the others are whole after the second look at the latest."""
    helper = Helper().configured(A, B, C)
    FOREIGN[what][0](helper)
    helper.link.foreign_routes.add(B.overlay_addr)
    helper.link.around = Surroundings((ip_network(B.overlay_addr),))
    with pytest.raises(FileExistsError):
        helper.tunnels.repair()
    helper.tunnels.repair()
    assert helper.has((A, C))
    assert helper.is_whole()
    assert [] == helper.tunnels.repair()


def test_names_that_were_never_written_are_not_written_by_a_repair() -> None:
    """The agent asks for them, or does not."""
    helper = Helper().configured(A, B)
    helper.link.around = Surroundings((ip_network(A.overlay_addr),))
    helper.tunnels.repair()
    assert [] == [step for step in helper.done() if step[0] == "hosts"]


def test_names_that_somebody_has_taken_out_of_the_file_are_written_again() -> None:
    """A container engine writes its hosts file anew with every container of the pod that it starts."""
    helper = Helper().configured(A, B)
    helper.send(WriteHosts())
    helper.hosts.lines = ()
    assert ["names gone"] == helper.tunnels.repair()
    assert {line(A), line(B)} == set(helper.hosts.lines)
    assert [] == helper.tunnels.repair()


@pytest.mark.parametrize("state", ["unreadable", "replaced"])
def test_of_a_file_that_is_not_in_sight_no_name_is_said_to_be_gone(state: str) -> None:
    """It may have all of them, or be another file."""
    helper = Helper().configured(A, B)
    helper.send(WriteHosts())
    helper.done()
    helper.hosts.lines = ()
    setattr(helper.hosts, state, True)
    assert [] == helper.tunnels.repair()
    assert [] == [step for step in helper.done() if step[0] == "hosts"]


def test_a_hosts_file_that_cannot_be_written_keeps_no_tunnel_alive() -> None:
    """The peer goes; its name is tried again with the next look."""
    helper = Helper().configured(A, B)
    helper.send(WriteHosts())
    write = helper.hosts.write

    def refuse(lines: object) -> None:
        raise OSError(errno.EAGAIN, "locked")

    helper.hosts.write = refuse  # type: ignore[method-assign, assignment]
    helper.link.around = Surroundings((ip_network(A.overlay_addr),))
    with pytest.raises(BlockingIOError):
        helper.tunnels.repair()
    assert helper.has((B,))
    helper.hosts.write = write  # type: ignore[method-assign]
    helper.tunnels.repair()
    assert (line(B),) == helper.hosts.lines


def test_a_name_goes_before_its_tunnel_when_nobody_asks_either() -> None:
    """In between it would be answered, and its traffic go out in clear."""
    helper = Helper().configured(A, B)
    helper.send(WriteHosts())
    helper.done()
    helper.link.around = Surroundings((ip_network(A.overlay_addr),))
    helper.tunnels.repair()
    steps = [step[0] for step in helper.done()]
    assert "hosts" == steps[0]
    assert 1 == steps.count("hosts")


def test_lines_that_may_have_been_written_before_a_failure_go_with_their_peers() -> None:
    """A first write that the disk broke off half way; nobody asks for another."""
    helper = Helper().configured(A, B)
    write = helper.hosts.write

    def break_off(lines: Sequence[tuple[Address, str]]) -> None:
        write(lines)
        raise OSError(errno.EIO, "at fsync")

    helper.hosts.write = break_off  # type: ignore[method-assign, assignment]
    assert Failed(Op.WRITE_HOSTS, errno.EIO) == helper.send(WriteHosts())
    helper.hosts.write = write  # type: ignore[method-assign]
    helper.link.around = Surroundings((ip_network(A.overlay_addr),))
    helper.tunnels.repair()
    assert (line(B),) == helper.hosts.lines


def _full(lines: object) -> HostsResult:
    raise OSError(errno.ENOSPC, "the disk is full")


def test_once_a_write_is_whole_no_name_is_left_to_take_away() -> None:
    """Whatever failed before it: neither the next look nor the next set has a reason to write."""
    helper = Helper().configured(A, B, C)
    helper.send(WriteHosts())
    write, helper.hosts.write = helper.hosts.write, _full  # type: ignore[method-assign]
    helper.send(SetPeers((B, C)))
    assert Failed(Op.WRITE_HOSTS, errno.ENOSPC) == helper.send(WriteHosts())
    helper.hosts.write = write  # type: ignore[method-assign]
    helper.send(WriteHosts())
    assert (line(B), line(C)) == helper.hosts.lines
    helper.done()
    assert [] == helper.tunnels.repair()
    helper.send(SetPeers((B, C)))
    assert [] == helper.done()


def test_who_has_left_loses_the_line_however_many_writes_have_failed_since() -> None:
    """Each of them was for others, and none is for who has left; that it still stands is said with each look."""
    helper = Helper().configured(A)
    helper.send(WriteHosts())
    write, helper.hosts.write = helper.hosts.write, _full  # type: ignore[method-assign]
    for wanted in ((B,), (B, C), (B, C)):
        helper.send(SetPeers(wanted))
        assert Failed(Op.WRITE_HOSTS, errno.ENOSPC) == helper.send(WriteHosts())
    with pytest.raises(OSError, match="full"):
        helper.tunnels.repair()
    helper.hosts.write = write  # type: ignore[method-assign]
    assert (line(A),) == helper.hosts.lines
    helper.tunnels.repair()
    assert (line(B), line(C)) == helper.hosts.lines


def test_that_the_last_line_still_stands_is_said_with_each_look() -> None:
    """Though no line that is wanted is missing."""
    helper = Helper().configured(A)
    helper.send(WriteHosts())
    helper.hosts.write = _full  # type: ignore[method-assign]
    helper.send(SetPeers(()))
    assert Failed(Op.WRITE_HOSTS, errno.ENOSPC) == helper.send(WriteHosts())
    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            helper.tunnels.repair()


def test_whose_line_could_not_be_taken_away_loses_it_with_the_next_set() -> None:
    """Before a tunnel changes, though none of those in the set goes; and that is the end of it."""
    helper = Helper().configured(A, B)
    helper.send(WriteHosts())
    write, helper.hosts.write = helper.hosts.write, _full  # type: ignore[method-assign]
    helper.send(SetPeers((B,)))
    helper.send(WriteHosts())
    helper.hosts.write = write  # type: ignore[method-assign]
    helper.done()
    helper.send(SetPeers((B, C)))
    helper.send(SetPeers((B, C)))
    steps = helper.done()
    assert ("hosts", (line(B),)) == steps[0]
    assert [] == [step for step in steps[1:] if step[0] == "hosts"]


@pytest.mark.parametrize("is_asked", [False, True])
def test_lines_in_a_file_that_was_away_for_a_while_go_when_it_is_back(is_asked: bool) -> None:
    """An editor, or a backup, puts the one that we have open in its place again."""
    helper = Helper().configured(A, B)
    helper.send(WriteHosts())
    helper.hosts.replaced = True
    helper.send(SetPeers((B,)))
    if is_asked:
        assert HostsWritten(HostsResult.REPLACED) == helper.send(WriteHosts())
    assert [] == helper.tunnels.repair()
    helper.hosts.replaced = False
    assert (line(A), line(B)) == helper.hosts.lines
    assert [] == helper.tunnels.repair()
    assert (line(B),) == helper.hosts.lines


def test_after_a_goodbye_no_leftovers_are_looked_for() -> None:
    """The file is as it was; before the next agent asks for names, nothing is written."""
    helper = Helper().configured(A)
    helper.send(WriteHosts())
    write, helper.hosts.write = helper.hosts.write, _full  # type: ignore[method-assign]
    helper.send(SetPeers(()))
    helper.send(WriteHosts())
    helper.hosts.write = write  # type: ignore[method-assign]
    helper.send(Bye())
    assert () == helper.hosts.lines
    helper.next_agent().addressed()
    helper.done()
    assert [] == helper.tunnels.repair()
    assert [] == helper.done()


def test_writes_that_fail_are_remembered_without_the_names_they_were_for() -> None:
    """A full disk can last, or a lock, and the agent thinks up as many names as it likes."""
    helper = Helper().addressed()
    helper.hosts.write = _full  # type: ignore[method-assign]
    sizes = set()
    for round_ in range(20):
        helper.send(SetPeers(tuple(peer(f"node-{round_}-{number}", number, number) for number in range(5))))
        assert Failed(Op.WRITE_HOSTS, errno.ENOSPC) == helper.send(WriteHosts())
        sizes.add(sum(len(held) for held in vars(helper.tunnels).values() if isinstance(held, (list, dict, set))))
    assert 1 == len(sizes)


# --- names that the operator gives to somebody else ---------------------------------------------------------------


def test_a_name_that_the_operator_takes_loses_its_line_without_being_asked() -> None:
    """Else both would be answered until the agent asks again, and a hostile one never does. The tunnel stays."""
    helper = Helper().configured(A, B)
    helper.send(WriteHosts())
    helper.hosts.taken = frozenset(("node-a",))
    helper.done()
    assert ["names refused by now"] == helper.tunnels.repair()
    assert [("hosts", (line(B),))] == helper.done()
    assert helper.has((A, B))
    assert [] == helper.tunnels.repair()
    assert Verdicts(((PeerVerdict.ACCEPTED, HostsVerdict.TAKEN), OK)) == helper.send(SetPeers((A, B)))


def test_a_hosts_file_that_cannot_be_read_costs_no_name_its_line() -> None:
    """Nobody knows that it is taken."""
    helper = Helper().configured(A)
    helper.send(WriteHosts())
    helper.hosts.unreadable = True
    helper.done()
    assert [] == helper.tunnels.repair()
    assert [] == helper.done()
    assert (line(A),) == helper.hosts.lines


def test_a_name_that_never_had_a_line_is_none_to_lose() -> None:
    """It was refused from the first."""
    helper = Helper()
    helper.hosts.taken = frozenset(("node-a",))
    helper.configured(A, B).send(WriteHosts())
    assert [] == helper.tunnels.repair()


# --- names -------------------------------------------------------------------------------------------------------


def test_under_a_suffix_the_lines_bear_it() -> None:
    """A label gets it; a dotted name elsewhere gets no line."""
    helper = Helper(replace(PINNED, hosts_suffix="mesh.example"))
    wanted = (A, peer("node-b.mesh.example", 2, 2), peer("git.corp.example", 3, 3))
    verdicts = helper.addressed().send(SetPeers(wanted))
    assert Verdicts((OK, OK, (PeerVerdict.ACCEPTED, HostsVerdict.OUTSIDE_SUFFIX))) == verdicts
    helper.send(WriteHosts())
    assert ((A.overlay_addr, "node-a.mesh.example"), line(wanted[1])) == helper.hosts.lines
