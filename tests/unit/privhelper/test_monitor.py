"""The helper's behaviour between the bytes and the kernel: what may come when, what is applied, and what a kernel
that says no half way leaves behind."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from privhelper.addressing import Address, derive
from privhelper.monitor import PERMITTED
from privhelper.policy import HostsVerdict, PeerVerdict, Surroundings
from privhelper.protocol import (
    FIXED_ADDRESS,
    MAX_PART,
    Backend,
    Bye,
    Event,
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
    PeerStatus,
    PinnedPolicy,
    Reply,
    Request,
    SetAddr,
    SetPeers,
    Staged,
    Status,
    StatusPart,
    Verdicts,
    Violation,
    WriteHosts,
    decode_reply,
    encode_event,
    encode_request,
)
from tests.unit.privhelper.over_fakes import NET, OK, OWN_KEY, PINNED, A, B, C, Helper, line, peer

# --- order -------------------------------------------------------------------------------------------------------

PHASES: Mapping[str, Callable[[], Helper]] = {
    "new": Helper,
    "greeted": lambda: Helper().greeted(),
    "addressed": lambda: Helper().addressed(),
    "staging": lambda: _after(Helper().addressed(), SetPeers((peer("node-z"),), True)),
    "configured": lambda: Helper().configured(),
    "ended": lambda: _after(Helper().configured(), Bye()),
}
REQUESTS: Mapping[str, Request] = {
    "hello": Hello("test"),
    "in_force": InForce(0),
    "set_addr": SetAddr(1),
    "part": SetPeers((peer("node-a", 2),), True),
    "set_peers": SetPeers(()),
    "write_hosts": WriteHosts(),
    "status": Status(0),
    "bye": Bye(),
}
TABLE = """
               new  greeted  addressed  staging  configured  ended
  hello        yes  no       no         no       no          no
  in_force     no   yes      yes        no       yes         no
  set_addr     no   yes      yes        no       yes         no
  part         no   no       yes        yes      yes         no
  set_peers    no   no       yes        yes      yes         no
  write_hosts  no   no       no         no       yes         no
  status       no   yes      yes        no       yes         no
  bye          no   yes      yes        no       yes         no
"""
_PHASE_NAMES, *_ROWS = (line.split() for line in TABLE.strip().splitlines())
CELLS = [
    (phase, name, word == "yes") for name, *words in _ROWS for phase, word in zip(_PHASE_NAMES, words, strict=True)
]


def _after(helper: Helper, request: Request) -> Helper:
    helper.send(request)
    return helper


@pytest.mark.parametrize(("phase", "request_name", "allowed"), CELLS)
def test_what_may_come_when(phase: str, request_name: str, allowed: bool) -> None:
    """The whole table: every request in every phase is either answered or a violation of order."""
    helper = PHASES[phase]()
    helper.kernel.forget()
    if allowed:
        assert not isinstance(helper.send(REQUESTS[request_name]), Failed)
    else:
        assert "order" == helper.violation(REQUESTS[request_name])
        assert [] == helper.done()


@pytest.mark.parametrize("phase", PHASES)
def test_what_a_monitor_says_of_itself(phase: str) -> None:
    """What the server goes by: whether it has greeted, whether it has had a whole set, whether it is over."""
    monitor = PHASES[phase]().monitor
    expected = [phase == name for name in ("new", "configured", "ended")]
    assert expected == [monitor.is_new, monitor.is_configured, monitor.ended]


def test_the_table_is_whole() -> None:
    """No request type and no phase is left out above."""
    assert set(PERMITTED) == {type(request) for request in REQUESTS.values()}
    assert len(PHASES) * len(REQUESTS) == len(CELLS) == 48


@pytest.mark.parametrize("first", [0, 2, 3, 2**32 - 1])
def test_the_first_request_is_number_one(first: int) -> None:
    """A gap means that something was lost between two processes that lose nothing."""
    with pytest.raises(Violation, match="sequence"):
        Helper().monitor.receive(encode_request(first, Hello("test")))


@pytest.mark.parametrize("second", [0, 1, 3])
def test_each_number_follows_the_last(second: int) -> None:
    """Neither again nor ahead."""
    monitor = Helper().monitor
    monitor.receive(encode_request(1, Hello("test")))
    with pytest.raises(Violation, match="sequence"):
        monitor.receive(encode_request(second, Status(0)))


def test_the_numbers_wrap() -> None:
    """After 2**32 - 1 comes 0. Four thousand million requests are not sent here: the count is put there."""
    helper = Helper().greeted()
    helper.monitor._sequence = 2**32 - 1
    assert (0, StatusPart((), False)) == decode_reply(helper.monitor.receive(encode_request(0, Status(0))))


def test_bytes_that_are_no_request_are_a_violation() -> None:
    """Also such as the helper itself sends."""
    for data in (b"", b"\0" * 10, encode_event(Event.TERMINATE)):
        with pytest.raises(Violation):
            Helper().monitor.receive(data)


# --- HELLO and SET_ADDR ------------------------------------------------------------------------------------------

FIXED_TEXT = "10.9.8.7"
FIXED = ip_address(FIXED_TEXT)
STATIC = replace(PINNED, static_addresses=True, address=FIXED)


def test_hello_answers_what_was_pinned() -> None:
    """All of it, and the device's key."""
    expected = PinnedPolicy(
        "self", "wgoverlay", NET, 51820, 1420, 1000, 25, True, Backend.USERSPACE, OWN_KEY, 0, "mesh.example"
    )
    given = replace(PINNED, keepalive=25, hosts_suffix="mesh.example")
    assert expected == Helper(given).send(Hello("test"))
    given, expected = replace(given, static_addresses=True), replace(expected, static_addresses=True)
    assert expected == Helper(given).send(Hello("test"))
    assert replace(expected, address_is_pinned=True) == Helper(replace(given, address=FIXED)).send(Hello("test"))


@pytest.mark.parametrize("attempt", [0, 1, 15])
def test_the_own_address_is_derived_from_the_pinned_name(attempt: int) -> None:
    """The agent chooses only the attempt."""
    helper = Helper().greeted()
    assert OwnAddress(derive(NET, b"self", attempt)) == helper.send(SetAddr(attempt))
    assert derive(NET, b"self", attempt) == helper.link.address


def test_the_fixed_address_is_a_violation_where_none_is_pinned() -> None:
    """An honest agent has read the policy."""
    assert "attempt" == Helper().greeted().violation(SetAddr(FIXED_ADDRESS))


def test_a_pinned_address_is_the_only_one() -> None:
    """The administrator's word: an honest agent, who has read that there is one, asks for no other."""
    helper = Helper(STATIC).greeted()
    assert OwnAddress(FIXED) == helper.send(SetAddr(FIXED_ADDRESS))
    assert helper.link.address == FIXED
    assert OwnAddress(FIXED) == helper.send(SetAddr(FIXED_ADDRESS))
    for attempt in (0, 15):
        assert "attempt" == Helper(STATIC).greeted().violation(SetAddr(attempt))
    assert "attempt" == Helper(replace(STATIC, address=None)).greeted().violation(SetAddr(FIXED_ADDRESS))


@pytest.mark.parametrize("local", [f"{FIXED_TEXT}/32", "10.9.8.0/24"])
def test_a_pinned_address_of_a_local_network_is_not_taken(local: str) -> None:
    """Pinned before that network came, say."""
    helper = Helper(STATIC, Surroundings((ip_network(local),))).greeted()
    assert Failed(Op.SET_ADDR, errno.EADDRNOTAVAIL) == helper.send(SetAddr(FIXED_ADDRESS))
    assert helper.link.address is None


def test_static_addresses_let_members_have_any_address_that_is_nobody_elses() -> None:
    """What no name derives, and this node's own derived one, since it has another."""
    helper = Helper(STATIC).greeted()
    helper.send(SetAddr(FIXED_ADDRESS))
    anywhere = replace(A, overlay_addr=ip_address("10.1.2.3"))
    derived = replace(B, overlay_addr=derive(NET, b"self", 0))
    assert Verdicts((OK, OK)) == helper.send(SetPeers((anywhere, derived)))
    ours = replace(C, overlay_addr=FIXED)
    assert Verdicts((OK, (PeerVerdict.OWN_ADDRESS, HostsVerdict.NO_PEER))) == helper.send(SetPeers((anywhere, ours)))
    assert "duplicate address" == helper.violation(SetPeers((anywhere, replace(B, overlay_addr=anywhere.overlay_addr))))


def test_an_own_address_at_the_nets_edge_is_not_taken() -> None:
    """The agent goes on to its next attempt; it may not send peers before one has worked."""
    net = ip_network("10.0.0.0/29")
    edge = next(n for n in range(16) if derive(net, b"self", n) in (net.network_address, net.broadcast_address))
    inner = next(n for n in range(16) if derive(net, b"self", n) not in (net.network_address, net.broadcast_address))
    helper = Helper(replace(PINNED, overlay_net=net)).greeted()
    assert Failed(Op.SET_ADDR, errno.EADDRNOTAVAIL) == helper.send(SetAddr(edge))
    assert helper.link.address is None
    assert OwnAddress(derive(net, b"self", inner)) == helper.send(SetAddr(inner))


def test_an_own_address_that_another_instance_has_too_is_taken() -> None:
    """Two clusters on one host may use one net, and this host has one name."""
    helper = Helper(surroundings=Surroundings(taken=frozenset((derive(NET, b"self", 0),)))).greeted()
    assert OwnAddress(derive(NET, b"self", 0)) == helper.send(SetAddr(0))


def test_an_own_address_of_a_local_network_is_not_taken() -> None:
    """It would cut this host off from one of its neighbours."""
    local = ip_network((derive(NET, b"self", 0), 24), strict=False)
    helper = Helper(surroundings=Surroundings((local,))).greeted()
    assert Failed(Op.SET_ADDR, errno.EADDRNOTAVAIL) == helper.send(SetAddr(0))
    assert [] == helper.done()
    assert "order" == helper.violation(SetPeers(()))


def test_a_network_that_comes_later_refuses_what_it_covers_from_then_on() -> None:
    """Surroundings are looked at for every set: the peer in force is withdrawn, the others stay."""
    helper = Helper().configured(A, B)
    helper.link.around = Surroundings((ip_network(A.overlay_addr),))
    refused = (PeerVerdict.LOCAL_NETWORK, HostsVerdict.NO_PEER)
    assert Verdicts((refused, OK)) == helper.send(SetPeers((A, B)))
    assert helper.has([B])


def test_an_address_the_kernel_refuses_can_be_tried_again() -> None:
    """Failed, with the kernel's word, and no peers before it has worked."""
    helper = Helper().greeted()
    helper.kernel.fail_in(0)
    assert Failed(Op.SET_ADDR, errno.EIO) == helper.send(SetAddr(0))
    helper.kernel.recover()
    assert OwnAddress(derive(NET, b"self", 0)) == helper.send(SetAddr(0))
    assert Verdicts(()) == helper.send(SetPeers(()))


def test_a_new_own_address_is_what_the_next_set_is_judged_by() -> None:
    """A peer at it is refused, one at the old address is not for that."""
    helper = Helper().configured()
    helper.send(SetAddr(1))
    at_old, at_new = (replace(peer("self"), overlay_addr=derive(NET, b"self", attempt)) for attempt in (0, 1))
    assert Verdicts(((PeerVerdict.OWN_ADDRESS, HostsVerdict.NO_PEER),)) == helper.send(SetPeers((at_new,)))
    assert Verdicts(((PeerVerdict.ACCEPTED, HostsVerdict.OWN_NAME),)) == helper.send(SetPeers((at_old,)))


# --- SET_PEERS: staging ------------------------------------------------------------------------------------------


def test_nothing_is_applied_before_the_last_part() -> None:
    """What stands in the parts is the whole wanted set."""
    helper = Helper().configured(C)
    assert Staged() == helper.send(SetPeers((A,), True))
    assert Staged() == helper.send(SetPeers((B,), True))
    assert [] == helper.done()
    assert Verdicts((OK, OK)) == helper.send(SetPeers(()))
    assert helper.has((A, B))


def test_verdicts_come_in_the_order_of_all_parts() -> None:
    """One list for the whole set."""
    helper = Helper().addressed()
    helper.send(SetPeers((A, peer("wpad", 7)), True))
    helper.send(SetPeers((replace(peer("node-x", 8), public_key=OWN_KEY),), True))
    expected = (OK, (PeerVerdict.ACCEPTED, HostsVerdict.RESERVED), (PeerVerdict.OWN_KEY, HostsVerdict.NO_PEER), OK)
    assert Verdicts(expected) == helper.send(SetPeers((B,)))


def test_twice_max_peers_may_be_staged_and_no_more() -> None:
    """Membership is capped there; the record beyond is a violation at once, not at the end."""
    records = tuple(peer(f"node-{i}", i) for i in range(5))
    helper = Helper(replace(PINNED, max_peers=2)).addressed()
    assert Staged() == helper.send(SetPeers(records[:4], True))
    assert "count" == helper.violation(SetPeers(records[4:], True))
    helper = Helper(replace(PINNED, max_peers=2)).addressed()
    assert OK == helper.send(SetPeers(records[:4])).verdicts[0]  # type: ignore[union-attr]
    assert "count" == helper.violation(SetPeers(records))


def test_staging_begins_anew_after_each_set() -> None:
    """The count of one set does not reach into the next."""
    helper = Helper(replace(PINNED, max_peers=2)).addressed()
    for _ in range(3):
        helper.send(SetPeers((A, B), True))
        assert Verdicts((OK, OK)) == helper.send(SetPeers(()))


@pytest.mark.parametrize(
    ("twin", "code"),
    [
        (replace(B, public_key=A.public_key), "duplicate key"),
        (replace(B, overlay_addr=A.overlay_addr), "duplicate address"),
        (replace(B, name="Node-A"), "duplicate name"),
    ],
)
@pytest.mark.parametrize("parts", [1, 2])
def test_doubles_are_violations_within_and_across_parts(twin: Peer, code: str, parts: int) -> None:
    """An honest agent has removed them; none of the set is applied."""
    helper = Helper().configured(C)
    if parts == 2:
        helper.send(SetPeers((A,), True))
    assert code == helper.violation(SetPeers((twin,) if parts == 2 else (A, twin)))
    assert [] == helper.done()


# --- SET_PEERS: the difference -----------------------------------------------------------------------------------


def test_an_unchanged_set_touches_nothing() -> None:
    """However often, and in whatever order."""
    helper = Helper().configured(A, B, C)
    assert Verdicts((OK,) * 3) == helper.send(SetPeers((C, A, B)))
    assert [] == helper.done()


def test_only_the_difference_is_applied() -> None:
    """One leaves, one moves, one stays, one comes; a route goes before its peer and comes after it."""
    helper = Helper().configured(A, B, C)
    moved, new = replace(B, endpoint=ip_address("198.51.100.1")), peer("node-d", 4)
    helper.send(SetPeers((moved, C, new)))
    expected = [
        ("unroute", A.overlay_addr),
        ("remove", A.public_key),
        ("set", moved),
        ("set", new),
        ("route", new.overlay_addr),
    ]
    assert expected == helper.done()
    assert helper.has((moved, C, new))


def test_a_new_key_takes_the_address_after_the_old_key_is_gone() -> None:
    """The old key is removed before the new one is added, in one change of the device; the route stays."""
    helper = Helper().configured(A, B)
    returned = replace(A, public_key=b"\x77" * 32)
    helper.send(SetPeers((returned, B)))
    assert [("remove", A.public_key), ("set", returned)] == helper.done()
    assert helper.has((returned, B))


def test_a_new_address_takes_the_route_along() -> None:
    """The peer's old route is gone before the device changes, the new one comes after."""
    helper = Helper().configured(A)
    moved = replace(A, overlay_addr=derive(NET, b"node-a", 1))
    helper.send(SetPeers((moved,)))
    assert [("unroute", A.overlay_addr), ("set", moved), ("route", moved.overlay_addr)] == helper.done()


def test_two_peers_can_exchange_their_addresses() -> None:
    """Each has the other's afterwards; both names hash to both."""
    net = ip_network("10.0.0.0/28")
    sixteen = [{derive(net, name, attempt) for attempt in range(16)} for name in (b"node-a", b"node-b")]
    helper = Helper(replace(PINNED, overlay_net=net)).greeted()
    own = helper.send(SetAddr(1))
    assert isinstance(own, OwnAddress)
    first, second = sorted((sixteen[0] & sixteen[1]) - {own.address})[:2]
    helper.send(SetPeers((replace(A, overlay_addr=first), replace(B, overlay_addr=second))))
    swapped = replace(A, overlay_addr=second), replace(B, overlay_addr=first)
    assert Verdicts((OK, OK)) == helper.send(SetPeers(swapped))
    assert helper.has(swapped)


def test_a_refused_peer_is_taken_out_of_force() -> None:
    """It was good, and its new endpoint is not."""
    helper = Helper().configured(A, B)
    verdicts = helper.send(SetPeers((replace(A, endpoint=ip_address("127.0.0.1")), B)))
    assert Verdicts(((PeerVerdict.ENDPOINT_CLASS, HostsVerdict.NO_PEER), OK)) == verdicts
    assert helper.has((B,))


def test_those_in_force_keep_their_place_when_fakes_flood_in() -> None:
    """Two places, both taken."""
    helper = Helper(replace(PINNED, max_peers=2)).configured(A, B)
    fakes = peer("fake-1", 11), peer("fake-2", 12)
    verdicts = helper.send(SetPeers((*fakes, A, B)))
    assert Verdicts(((PeerVerdict.TOO_MANY, HostsVerdict.NO_PEER),) * 2 + (OK, OK)) == verdicts
    assert helper.has((A, B))


def test_in_force_pages_through_the_peers_in_force() -> None:
    """513 of them: a full part and one."""
    peers = tuple(peer(f"node-{i}", i, i) for i in range(MAX_PART + 1))
    helper = Helper().addressed()
    helper.send(SetPeers(peers[:MAX_PART], True))
    helper.send(SetPeers(peers[MAX_PART:]))
    assert PeersInForce(peers[:MAX_PART], True) == helper.send(InForce(0))
    assert PeersInForce(peers[MAX_PART:], False) == helper.send(InForce(1))
    assert PeersInForce((), False) == helper.send(InForce(2))
    assert PeersInForce((), False) == helper.send(InForce(65535))


def test_a_full_part_is_the_last_when_nothing_follows() -> None:
    """512 of them, exactly."""
    peers = tuple(peer(f"node-{i}", i, i) for i in range(MAX_PART))
    helper = Helper().configured(*peers)
    assert PeersInForce(peers, False) == helper.send(InForce(0))
    reading = helper.send(Status(0))
    assert isinstance(reading, StatusPart)
    assert (MAX_PART, False) == (len(reading.peers), reading.more)


def test_status_pages_through_one_reading() -> None:
    """Part 0 takes it; a peer that goes in between is still in the later parts."""
    peers = tuple(peer(f"node-{i}", i, i) for i in range(MAX_PART + 1))
    helper = Helper().addressed()
    assert StatusPart((), False) == helper.send(Status(1))
    helper.send(SetPeers(peers[:MAX_PART], True))
    helper.send(SetPeers(peers[MAX_PART:]))
    reading = tuple(PeerStatus(p.public_key, p.endpoint, 0, 0, 0) for p in peers)
    assert StatusPart(reading[:MAX_PART], True) == helper.send(Status(0))
    helper.send(SetPeers(()))
    assert StatusPart(reading[MAX_PART:], False) == helper.send(Status(1))
    assert StatusPart((), False) == helper.send(Status(0))


def test_a_reading_that_fails_is_an_answer() -> None:
    """And leaves everything as it was."""
    helper = Helper().configured(A)
    helper.kernel.fail_in(0)
    assert Failed(Op.STATUS, errno.EIO) == helper.send(Status(0))
    assert helper.has((A,))


def test_a_no_without_a_number_is_an_answer_too() -> None:
    """A time-out of Python's own has none."""
    helper = Helper().configured(A)

    def refuse() -> list[PeerStatus]:
        raise TimeoutError("late")

    helper.device.status = refuse  # type: ignore[method-assign]
    assert Failed(Op.STATUS, 0) == helper.send(Status(0))


# --- the kernel says no ------------------------------------------------------------------------------------------

BEFORE = (A, B, C)
AFTER = (
    replace(A, public_key=b"\x77" * 32),  # a new key
    replace(B, overlay_addr=derive(NET, b"node-b", 1)),  # a new address
    peer("node-d", 4),
)  # and node-c has left
STEPS = 10
"""unroute b, c; remove a, c; set a, b, d; route b, d: nine, and one more that is not reached."""


@pytest.mark.parametrize("works", range(STEPS))
@pytest.mark.parametrize("following", [AFTER, BEFORE, (), (A,), (B, peer("node-e", 5))])
def test_the_next_set_heals_what_a_refusing_kernel_left(works: int, following: Sequence[Peer]) -> None:
    """Whichever step is refused, the answer is Failed, and whatever is wanted next is then exactly what there is."""
    helper = Helper().configured(*BEFORE)
    helper.kernel.fail_in(works)
    reply = helper.send(SetPeers(AFTER))
    assert (Verdicts((OK,) * 3) if works == STEPS - 1 else Failed(Op.SET_PEERS, errno.EIO)) == reply
    helper.kernel.recover()
    assert Verdicts((OK,) * len(following)) == helper.send(SetPeers(tuple(following)))
    assert helper.has(following)
    assert PeersInForce(tuple(following), False) == _sorted_like(helper.send(InForce(0)), following)


def _sorted_like(reply: Reply, order: Sequence[Peer]) -> Reply:
    assert isinstance(reply, PeersInForce)
    return PeersInForce(tuple(sorted(reply.peers, key=list(order).index)), reply.more)


@pytest.mark.parametrize("first", range(STEPS - 1))
@pytest.mark.parametrize("second", range(4))
def test_two_failures_in_a_row_heal_as_well(first: int, second: int) -> None:
    """The second set wants something else again."""
    helper = Helper().configured(*BEFORE)
    helper.kernel.fail_in(first)
    helper.send(SetPeers(AFTER))
    helper.kernel.fail_in(second)
    helper.send(SetPeers((B,)))
    helper.kernel.recover()
    helper.send(SetPeers((C,)))
    assert helper.has((C,))


def test_a_failed_set_keeps_its_doubts_until_one_succeeds() -> None:
    """A peer whose setting failed is set again although it is wanted unchanged."""
    helper = Helper().configured(A)
    moved = replace(A, endpoint=ip_address("198.51.100.1"))
    helper.kernel.fail_in(0)
    helper.send(SetPeers((moved,)))
    helper.kernel.recover()
    helper.send(SetPeers((A,)))
    assert [("set", A)] == helper.done()
    helper.send(SetPeers((A,)))
    assert [] == helper.done()


# --- names -------------------------------------------------------------------------------------------------------


def test_only_accepted_names_are_written() -> None:
    """A refused name costs its line."""
    helper = Helper()
    helper.hosts.taken = frozenset(("node-b",))
    helper.configured(A, B, C)
    assert HostsWritten(HostsResult.WRITTEN) == helper.send(WriteHosts())
    assert (line(A), line(C)) == helper.hosts.lines


def test_a_name_goes_before_its_tunnel_whether_or_not_the_agent_asks() -> None:
    """A name that outlives its tunnel sends traffic for it in clear. What comes, waits for the agent to ask."""
    helper = Helper().configured(A, B)
    helper.send(WriteHosts())
    helper.done()
    assert Verdicts((OK, OK)) == helper.send(SetPeers((B, C)))
    assert ("hosts", (line(B),)) == helper.done()[0]
    assert (line(B),) == helper.hosts.lines
    helper.send(WriteHosts())
    assert (line(B), line(C)) == helper.hosts.lines


def test_a_name_that_could_not_be_taken_away_costs_no_tunnel_and_is_put_right() -> None:
    """A full disk, or somebody's lock: the set is carried out, and the next look takes the name away."""
    helper = Helper().configured(A, B)
    helper.send(WriteHosts())
    write, helper.hosts.write = helper.hosts.write, _no  # type: ignore[method-assign]
    assert Verdicts((OK,)) == helper.send(SetPeers((B,)))
    assert helper.has((B,))
    helper.hosts.write = write  # type: ignore[method-assign]
    assert (line(A), line(B)) == helper.hosts.lines
    helper.tunnels.repair()
    assert (line(B),) == helper.hosts.lines


def _no(lines: object) -> HostsResult:
    raise OSError(errno.ENOSPC, "the disk is full")


def test_an_unreadable_hosts_file_costs_names_and_not_tunnels() -> None:
    """And only as long as it is so."""
    helper = Helper()
    helper.hosts.unreadable = True
    helper.addressed()
    assert Verdicts(((PeerVerdict.ACCEPTED, HostsVerdict.UNREADABLE),)) == helper.send(SetPeers((A,)))
    assert helper.has((A,))
    helper.send(WriteHosts())
    assert () == helper.hosts.lines
    helper.hosts.unreadable = False
    assert Verdicts((OK,)) == helper.send(SetPeers((A,)))
    helper.send(WriteHosts())
    assert (line(A),) == helper.hosts.lines


def test_a_replaced_hosts_file_is_reported() -> None:
    """The agent's status says so."""
    helper = Helper().configured(A)
    helper.hosts.replaced = True
    assert HostsWritten(HostsResult.REPLACED) == helper.send(WriteHosts())


def test_a_hosts_file_that_cannot_be_written_is_an_answer() -> None:
    """The tunnels stay, and so does the agent."""
    helper = Helper().configured(A)
    helper.kernel.fail_in(0)
    assert Failed(Op.WRITE_HOSTS, errno.EIO) == helper.send(WriteHosts())
    assert helper.has((A,))


def test_without_etc_hosts_the_file_is_never_touched() -> None:
    """Neither read nor written, at BYE either."""
    helper = Helper(replace(PINNED, etc_hosts=False))
    helper.hosts.unreadable = True
    helper.addressed()
    assert Verdicts(((PeerVerdict.ACCEPTED, HostsVerdict.DISABLED),)) == helper.send(SetPeers((A,)))
    assert HostsWritten(HostsResult.DISABLED) == helper.send(WriteHosts())
    helper.send(Bye())
    assert [] == [step for step in helper.done() if step[0] == "hosts"]


# --- the end -----------------------------------------------------------------------------------------------------


def test_bye_takes_down_names_then_tunnels_then_the_link() -> None:
    """A name goes before the tunnel it leads to."""
    helper = Helper().configured(A)
    helper.send(WriteHosts())
    helper.done()
    assert not helper.monitor.ended
    assert Farewell() == helper.send(Bye())
    assert helper.monitor.ended
    assert [("hosts", ()), ("destroy", None), ("delete", None)] == helper.done()


@pytest.mark.parametrize("request_name", REQUESTS)
def test_after_bye_only_eof_may_follow(request_name: str) -> None:
    """Nothing is brought up again."""
    helper = Helper().configured(A)
    helper.send(Bye())
    helper.done()
    assert "order" == helper.violation(REQUESTS[request_name])
    assert [] == helper.done()


def test_bye_tries_every_step_and_says_what_failed() -> None:
    """A broken hosts file keeps no link alive."""
    helper = Helper().configured(A)

    def refuse(lines: Sequence[tuple[Address, str]]) -> HostsResult:
        raise OSError(errno.ENOSPC, "full")

    helper.hosts.write = refuse  # type: ignore[method-assign]
    assert Failed(Op.BYE, errno.ENOSPC) == helper.send(Bye())
    assert [("destroy", None), ("delete", None)] == helper.done()
    assert helper.monitor.ended


@pytest.mark.parametrize("number", [errno.ENOSPC, None])
def test_bye_says_of_several_failures_the_first(number: int | None) -> None:
    """Names, then tunnels, then the link; one may have no number."""
    helper = Helper().configured(A)
    helper.kernel.fail_in(0)  # the device and the link: EIO

    def refuse(lines: Sequence[tuple[Address, str]]) -> HostsResult:
        raise OSError(number, "full") if number else OSError("full")

    helper.hosts.write = refuse  # type: ignore[method-assign]
    assert Failed(Op.BYE, number or 0) == helper.send(Bye())
    assert [number, errno.EIO, errno.EIO] == [failure.errno for failure in helper.tunnels.failures]


def test_take_down_without_bye_does_the_same() -> None:
    """The agent is gone, or was thrown out."""
    helper = Helper().configured(A)
    helper.tunnels.take_down()
    assert [] == helper.tunnels.failures
    assert [("hosts", ()), ("destroy", None), ("delete", None)] == helper.done()
