"""What comes to this host after its peers: a network, a route, an address. What it covers is withdrawn, though in
force, and refused for as long as it is there."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import pytest

from privhelper.policy import HostsVerdict, PeerVerdict
from privhelper.protocol import Event, Failed, SetAddr
from tests.hostile.case import is_failure
from tests.hostile.cast import BETA, at, member
from tests.hostile.liar import At
from tests.hostile.policy import ACCEPTED
from tests.hostile.stage import Stage, peers_in_force
from tests.lab import until

pytestmark = pytest.mark.root

VICTIM = at("10.77.2.20", endpoint="192.0.2.20")


@dataclass(frozen=True)
class Change:
    """What an operator does, and undoes; and what is then said of VICTIM."""

    name: str
    comes: str
    goes: str
    verdict: PeerVerdict = PeerVerdict.LOCAL_NETWORK
    spares_others: bool = True


CHANGES = (
    Change("an address with its network", "address add 10.77.2.1/24 dev desk", "address del 10.77.2.1/24 dev desk"),
    Change("a single address", "address add 10.77.2.20/32 dev desk", "address del 10.77.2.20/32 dev desk"),
    Change("a route", "route add 10.77.2.0/27 via 10.77.8.7", "route del 10.77.2.0/27"),
    Change(
        "a route to it alone", "route add 10.77.2.20/32 via 10.77.8.7 metric 77", "route del 10.77.2.20/32 metric 77"
    ),
    Change(
        "a route as wide as the overlay",
        "route add 10.77.0.0/20 via 10.77.8.7",
        "route del 10.77.0.0/20",
        spares_others=False,
    ),
    Change("a black hole", "route add blackhole 10.77.2.16/28", "route del 10.77.2.16/28"),
    Change("a prohibition", "route add prohibit 10.77.2.20/32 metric 9", "route del prohibit 10.77.2.20/32 metric 9"),
    Change("a gateway", "route add 192.0.2.128/25 via 10.77.2.20 dev desk onlink", "route del 192.0.2.128/25"),
    Change(
        "a second gateway",
        "route add 192.0.2.128/25 nexthop via 10.77.8.7 nexthop via 10.77.2.20 dev desk onlink",
        "route del 192.0.2.128/25",
    ),
    Change(
        "the other end of a point-to-point link",
        "address add 172.16.5.9 peer 10.77.2.20 dev desk",
        "address del 172.16.5.9 peer 10.77.2.20 dev desk",
    ),
    Change("a route in the local table", "route add local 10.77.2.0/26 dev lo", "route del local 10.77.2.0/26 dev lo"),
    Change(
        "its endpoint becomes this host's",
        "address add 192.0.2.20/32 dev desk",
        "address del 192.0.2.20/32 dev desk",
        PeerVerdict.ENDPOINT_LOCAL,
    ),
    Change(
        "its endpoint becomes a broadcast address",
        "address add 192.0.2.1/24 brd 192.0.2.20 dev desk",
        "address del 192.0.2.1/24 dev desk",
        PeerVerdict.ENDPOINT_LOCAL,
    ),
)


@pytest.mark.parametrize("change", CHANGES, ids=[change.name for change in CHANGES])
def test_what_comes_later_counts_as_if_it_had_been_there(stage: Stage, change: Change) -> None:
    """Without a word of the agent's; and the agent, told to ask again, is refused until it has gone."""
    stage.stop()  # the pause between two repairs grows: each begins with the shortest
    stage.serve()
    with closing(stage.connect(At.ADDRESSED)) as liar:
        liar.set([VICTIM, BETA])
        liar.write()
        assert len(stage.ours().peers) == 2
        stage.node.inside.ip(change.comes)
        try:
            until(lambda: not stage.has_peer(VICTIM), 10, "its tunnel is gone")
            assert Event.REPAIRED == liar.hear_event()
            until(lambda: VICTIM.name.encode() not in stage.node.hosts(), 10, "and its name")
            refused, other = liar.set([VICTIM, BETA])
            assert (change.verdict, HostsVerdict.NO_PEER) == refused
            assert change.spares_others == (other == (ACCEPTED, HostsVerdict.ACCEPTED))
            assert [BETA] * change.spares_others == liar.in_force()
        finally:
            stage.node.inside.ip(change.goes)
        assert [(ACCEPTED, HostsVerdict.ACCEPTED)] * 2 == liar.set([VICTIM, BETA])
        liar.write()
        assert peers_in_force(stage.ours()) == sorted(str(peer.overlay_addr) for peer in (VICTIM, BETA))
    stage.said()


def test_a_name_that_the_operator_takes_is_no_longer_the_meshs(stage: Stage) -> None:
    """Its line goes with the next look, whether or not the agent asks; its tunnel stays."""
    stage.stop()
    stage.serve()
    with closing(stage.connect(At.ADDRESSED)) as liar:
        liar.set([VICTIM, BETA])
        liar.write()
        before = stage.node.hosts()
        lines = [line for line in before.splitlines(keepends=True) if VICTIM.name.encode() not in line]
        (ours,) = set(before.splitlines(keepends=True)) - set(lines)
        operators = f"192.0.2.77 {VICTIM.name}\n".encode()
        stage.node.write_hosts(operators + before)
        try:
            stage.node.inside.ip("route add 203.0.113.64/26 via 10.77.8.7")  # something to look for
            until(lambda: ours not in stage.node.hosts(), 10, "its line is gone")
            assert Event.REPAIRED == liar.hear_event()
            assert [(ACCEPTED, HostsVerdict.TAKEN), (ACCEPTED, HostsVerdict.ACCEPTED)] == liar.set([VICTIM, BETA])
            assert stage.has_peer(VICTIM)
        finally:
            stage.node.inside.ip("route del 203.0.113.64/26")
            stage.node.write_hosts(stage.node.hosts().replace(operators, b"", 1))
    stage.said()


def test_an_address_of_ours_that_becomes_somebody_elses_is_not_taken_again(stage: Stage) -> None:
    """SET_ADDR on a network that came later: the kernel's own word, and the address stays what it was."""
    stage.serve()
    with closing(stage.connect(At.GREETED)) as liar:
        liar.ask(SetAddr(0))
        (own,) = stage.ours().addresses
        taken = own.replace("/32", "/28")
        net = taken.rpartition(".")[0] + ".63/28"
        stage.node.inside.ip(f"address add {net} dev desk")
        try:
            refused = [attempt for attempt in range(16) if isinstance(liar.ask(SetAddr(attempt)), Failed)]
            assert 0 in refused
            assert is_failure(liar.ask(SetAddr(0)), 99)  # EADDRNOTAVAIL
        finally:
            stage.node.inside.ip(f"address del {net} dev desk")
        liar.ask(SetAddr(0))
        assert {own} == stage.ours().addresses
    stage.assert_at_rest()
    stage.said()


def test_a_route_of_the_operators_is_never_replaced_nor_taken_away(stage: Stage) -> None:
    """It stands where one of ours would have stood; asked for, refused and withdrawn, it is there all the while."""
    stage.stop()
    stage.serve()
    peer = member("late")
    stage.node.inside.ip(f"route add {peer.overlay_addr}/32 dev desk")
    try:
        with closing(stage.connect(At.ADDRESSED)) as liar:
            for _ in range(3):
                assert [(PeerVerdict.LOCAL_NETWORK, HostsVerdict.NO_PEER)] == liar.set([peer])
                assert [] == liar.set([])
            liar.write()
        shown = stage.node.run("ip", "route", "show", str(peer.overlay_addr)).stdout
        assert shown.split()[:3] == [str(peer.overlay_addr), "dev", "desk"]
    finally:
        stage.node.inside.ip(f"route del {peer.overlay_addr}/32 dev desk")
    stage.ours()
    stage.said()
