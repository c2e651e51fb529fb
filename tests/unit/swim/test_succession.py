"""A name that was left, claimed from another address: it is given away only when nobody answers at the old one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.swim.alone import STRANGER, alive, answers, held, knowing, packets, sealed, waiting
from tests.unit.swim.virtual import PORT, START, VirtualNetwork, endpoint
from wesher.swim.config import PROFILES, SwimConfig
from wesher.swim.event import Conflict, Event, Gone, Joined, LeaveFinished
from wesher.swim.io import Endpoint
from wesher.swim.member import Member
from wesher.swim.node import Node
from wesher.swim.succession import MAX_CLAIMS, PATIENCE, Succession
from wesher.wire.codec import encode
from wesher.wire.messages import Ack, Alive, Dead, NodeState, Ping

LAN = SwimConfig.lan()
CLAIM = alive("b", 9, 1, b"new")
"""Announces b from another address, under no higher incarnation."""


def left_and_claimed(*others: str) -> tuple[Node, Ping]:
    """A node that knows b as gone and has heard the claim; and its ping for b's old address."""
    node = knowing("b", *others)
    node.receive_datagram(sealed(Dead(1, "b", "b"), CLAIM), STRANGER, START)
    waiting(node)
    node.events()
    assert node.get_timer() == START
    node.handle_timer(START)
    ((to, (ping, leave)),) = packets(node)
    assert to == endpoint(2)
    assert isinstance(ping, Ping)
    assert leave == Dead(1, "b", "b")
    return node, ping


def pass_time(node: Node, until: float) -> list[Event]:
    """Let time pass; what happens meanwhile."""
    while node.get_timer() <= until:
        node.handle_timer(node.get_timer())
    return node.events()


def test_a_left_name_goes_to_who_claims_it_when_nobody_answers():
    """After a whole probe, relays and all; the old address hears of its leave with the ping."""
    node, ping = left_and_claimed("c")
    pass_time(node, START + LAN.probe_interval - 0.001)
    assert held(node, "b").state is NodeState.LEFT
    assert not any(message == CLAIM for _, message in answers(node, Alive))
    events = pass_time(node, START + LAN.probe_interval)
    assert ping.node == "b"
    assert [(type(event), event.member.name) for event in events] == [(Joined, "b")]
    since = START + LAN.probe_interval
    assert held(node, "b") == Member("b", endpoint(9).ip.packed, PORT, b"new", 1, NodeState.ALIVE, since)
    pass_time(node, since + 1)
    assert CLAIM in [message for _, message in answers(node, Alive)]


def test_a_vacant_address_says_nothing_about_our_own_health():
    """Silence is what was expected."""
    node, _ = left_and_claimed()
    pass_time(node, START + LAN.probe_interval)
    assert node.health_score == 0


def test_a_forged_leave_gives_nothing_away():
    """The member answers, and learns of the forgery with the ping: it outbids it, and the claim is a conflict."""
    node, ping = left_and_claimed()
    node.receive_datagram(sealed(Ack(ping.seq_no)), endpoint(2), START + 0.1)
    node.receive_datagram(sealed(alive("b", 2, 2)), endpoint(2), START + 0.1)
    pass_time(node, START + PATIENCE)
    assert (held(node, "b").endpoint, held(node, "b").incarnation) == (endpoint(2), 2)
    node.events()
    node.receive_datagram(sealed(CLAIM), STRANGER, START + PATIENCE)
    assert [type(event) for event in node.events()] == [Conflict]


def test_who_refutes_its_leave_during_the_probe_keeps_its_name():
    """Even if its ack is lost."""
    node, _ = left_and_claimed()
    node.receive_datagram(sealed(alive("b", 2, 2)), endpoint(2), START + 0.1)
    pass_time(node, START + LAN.probe_interval)
    assert held(node, "b").endpoint == endpoint(2)


def test_who_is_still_on_its_way_out_is_asked_again():
    """A leaving node answers pings; whoever moved that quickly announces itself only once, and is not forgotten."""
    node, ping = left_and_claimed()
    node.receive_datagram(sealed(Ack(ping.seq_no)), endpoint(2), START + 0.1)
    again = START + 0.1 + LAN.probe_interval
    pass_time(node, again + LAN.probe_interval - 0.001)
    assert held(node, "b").state is NodeState.LEFT
    pass_time(node, again + LAN.probe_interval)
    assert (held(node, "b").state, held(node, "b").endpoint) == (NodeState.ALIVE, endpoint(9))


def test_a_claim_that_is_contradicted_for_long_is_dropped():
    """Until it is made again."""
    node, ping = left_and_claimed()
    now, asked = START, 0
    while now < START + 2 * PATIENCE:
        node.receive_datagram(sealed(Ack(ping.seq_no)), endpoint(2), now + 0.01)
        now = node.get_timer()
        node.handle_timer(now)
        for _, message in answers(node, Ping):
            ping, asked = message, asked + 1
    assert 5 < asked < PATIENCE / LAN.probe_interval
    assert held(node, "b").state is NodeState.LEFT


def test_a_name_whose_leaver_is_forgotten_is_free():
    """Nobody is left to ask."""
    node, ping = left_and_claimed()
    node._members.reap(START + 1)
    node.receive_datagram(sealed(Ack(ping.seq_no)), endpoint(2), START)
    pass_time(node, START + LAN.probe_interval)
    assert held(node, "b").endpoint == endpoint(9)


def test_a_name_whose_leaver_is_forgotten_during_the_probe_is_free_too():
    """Silence is as good as nobody."""
    node, _ = left_and_claimed()
    node._members.reap(START + 1)
    assert held(node, "b") is None
    pass_time(node, START + LAN.probe_interval)
    assert held(node, "b").endpoint == endpoint(9)


def test_an_earlier_probe_does_not_settle_a_later_leave():
    """The member has come back and left again meanwhile: silence at the first time says nothing about the second."""
    node, _ = left_and_claimed()
    node.receive_datagram(sealed(alive("b", 2, 2), Dead(2, "b", "b"), CLAIM), STRANGER, START + 0.5)
    pass_time(node, START + LAN.probe_interval)
    assert held(node, "b").state is NodeState.LEFT
    pass_time(node, START + 0.5 + LAN.probe_interval)
    assert held(node, "b").endpoint == endpoint(9)


def test_the_first_claim_counts_and_all_claims_are_bounded():
    """A flood of them makes no flood of probes."""
    succession = Succession(1.0)
    for number in range(MAX_CLAIMS + 5):
        succession.claim(alive(f"n{number}", 9), START)
        succession.claim(alive(f"n{number}", 10), START)
    assert len(succession.due(START)) == MAX_CLAIMS
    assert succession.due(START) == []
    assert succession.silent("n0") == alive("n0", 9)
    assert succession.silent("n0") is None
    assert succession.silent(f"n{MAX_CLAIMS}") is None


@pytest.mark.parametrize("profile", PROFILES)
def test_who_moves_after_leaving_is_found_by_all(profile):
    """Each asks the old address for itself; that costs a probe at each step of the news, and no more."""
    config = replace(SwimConfig.profile(profile), push_pull_interval=1000.0)  # by gossip alone
    network = VirtualNetwork(30, config=config)
    hosts = [network.start(f"n{number}", meta=b"old", incarnation=50) for number in range(1, 6)]
    for host in hosts[1:]:
        network.join(host, hosts[0])
    network.run(5)
    network.leave(hosts[4])
    network.until(lambda: hosts[4].events(LeaveFinished) != [], within=config.leave_timeout)
    network.crash("n5")
    network.run(3)
    moved = network.start("n5", 40, meta=b"new", incarnation=1)
    network.join(moved, hosts[0])
    step = config.probe_interval * config.probe_overlap + config.gossip_interval + 1
    network.until(lambda: all(host.live() >= {"n5"} for host in hosts[:4]), within=4 * step)
    for host in hosts[:4]:
        assert host.member("n5").endpoint == moved.at
        assert host.events(Conflict) == []


def test_a_thief_with_a_forged_leave_gets_nothing():
    """An insider says to all that n4 has left, and that it lives with him: n4 answers every one of them."""
    network = VirtualNetwork(31)
    hosts = network.start_mesh(6, meta=b"holder")
    thief = endpoint(66)
    claim = Alive(1, "n4", thief.ip.packed, PORT, b"thief")
    for host in hosts:
        if host.node.identity.name != "n4":
            network.deliver(host, sealed(Dead(1, "n4", "n4"), claim), thief)
    network.run(20)
    for host in hosts:
        assert host.member("n4").endpoint == hosts[3].at
        assert host.member("n4").meta == b"holder"
        assert host.state_of("n4") is NodeState.ALIVE
    assert any(host.events(Gone, about="n4") for host in hosts)  # the leave itself is believed for a moment


def test_claims_are_not_passed_on_before_they_are_proven():
    """Or one node that asks nobody would decide for all."""
    node, _ = left_and_claimed("c")
    node.handle_timer(START + LAN.gossip_interval)
    assert encode(CLAIM) not in waiting(node)
    assert Endpoint(endpoint(9).ip, PORT) not in [to for to, _ in packets(node)]
