"""A name whose holder has left or died, claimed from another address: given away only when nobody answers there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.swim.alone import STRANGER, alive, answers, held, hush, knowing, packets, sealed, waiting
from tests.unit.swim.virtual import PORT, START, VirtualNetwork, endpoint
from wesher.swim.config import PROFILES, SwimConfig, suspicion_timeout
from wesher.swim.event import Conflict, Event, Gone, Joined, LeaveFinished
from wesher.swim.io import Endpoint
from wesher.swim.member import Member
from wesher.swim.node import Node
from wesher.swim.succession import MAX_CLAIMS, PATIENCE, WAITING, Succession
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
    node._members.reap("a", START + 1)
    node.receive_datagram(sealed(Ack(ping.seq_no)), endpoint(2), START)
    pass_time(node, START + LAN.probe_interval)
    assert held(node, "b").endpoint == endpoint(9)


def test_a_name_whose_leaver_is_forgotten_during_the_probe_is_free_too():
    """Silence is as good as nobody."""
    node, _ = left_and_claimed()
    node._members.reap("a", START + 1)
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


# --- after a death

LATER = alive("b", 9, 2, b"new")
"""Announces a later life of b from another address."""


def died_and_claimed(*others: str) -> tuple[Node, Ping]:
    """A node that knows b as dead and has heard the claim; and its ping for b's old address."""
    node = knowing("b", *others)
    node.receive_datagram(sealed(Dead(1, "b", "x"), LATER), STRANGER, START)
    waiting(node)
    node.events()
    node.handle_timer(START)
    ((to, (ping, death)),) = packets(node)
    assert to == endpoint(2)
    assert isinstance(ping, Ping)
    assert death == Dead(1, "b", "a")
    return node, ping


def test_a_dead_members_name_goes_to_its_later_life_when_nobody_answers():
    """After a whole probe; that life is then passed on."""
    node, _ = died_and_claimed("c")
    pass_time(node, START + LAN.probe_interval - 0.001)
    assert held(node, "b").state is NodeState.DEAD
    events = pass_time(node, START + LAN.probe_interval)
    assert [(type(event), event.member.name) for event in events] == [(Joined, "b")]
    assert (held(node, "b").endpoint, held(node, "b").incarnation) == (endpoint(9), 2)
    pass_time(node, START + LAN.probe_interval + 1)
    assert LATER in [message for _, message in answers(node, Alive)]


def test_a_forged_death_gives_nothing_away():
    """The member hears of it with the probe, and outbids it; the claim is a conflict then."""
    node, ping = died_and_claimed()
    node.receive_datagram(sealed(Ack(ping.seq_no)), endpoint(2), START + 0.1)
    node.receive_datagram(sealed(alive("b", 2, 2)), endpoint(2), START + 0.1)
    pass_time(node, START + PATIENCE)
    assert (held(node, "b").endpoint, held(node, "b").incarnation) == (endpoint(2), 2)
    node.events()
    node.receive_datagram(sealed(LATER), STRANGER, START + PATIENCE)
    assert [type(event) for event in node.events()] == [Conflict]


def test_who_answers_for_a_dead_name_keeps_it():
    """Even where it does not refute: somebody of that name lives there."""
    node, ping = died_and_claimed()
    now = START
    while now < START + 2 * PATIENCE:
        node.receive_datagram(sealed(Ack(ping.seq_no)), endpoint(2), now + 0.01)
        now = node.get_timer()
        node.handle_timer(now)
        for _, message in answers(node, Ping):
            ping = message
    assert held(node, "b").endpoint == endpoint(2)


def test_a_claim_on_a_live_members_name_waits_for_its_death():
    """Who has crashed and starts elsewhere may announce itself once only, before anybody has missed the old one."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(LATER), STRANGER, START)
    assert [type(event) for event in node.events()] == [Conflict]
    assert held(node, "b").endpoint == endpoint(2)
    node.receive_datagram(sealed(Dead(1, "b", "c")), STRANGER, START + 5)
    hush(node)
    node.handle_timer(START + 5)
    assert endpoint(2) in [to for to, message in answers(node, Ping) if message.node == "b"]
    pass_time(node, START + 5 + LAN.probe_interval)
    assert (held(node, "b").state, held(node, "b").endpoint) == (NodeState.ALIVE, endpoint(9))


def test_a_live_member_keeps_its_name_through_probes_that_fail():
    """However long somebody else claims it: only its death, agreed upon, and then another probe give it away."""
    node = knowing("b", "c", config=replace(LAN, suspicion_mult=1000))
    now = START
    while now < START + 30:
        node.receive_datagram(sealed(replace(LATER, incarnation=int(now))), STRANGER, now)
        now = max(now + 0.001, node.get_timer())
        node.handle_timer(now)
    assert (held(node, "b").state, held(node, "b").endpoint) == (NodeState.SUSPECT, endpoint(2))


def test_who_is_heard_of_alive_again_makes_an_end_of_claims():
    """It has refuted: the claim was another's, and is not kept for its next death."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(replace(LATER, incarnation=9)), STRANGER, START)
    node.receive_datagram(sealed(alive("b", 2, 3), Dead(3, "b", "c")), STRANGER, START + 1)
    pass_time(node, START + 20)
    assert (held(node, "b").state, held(node, "b").endpoint) == (NodeState.DEAD, endpoint(2))


def test_an_earlier_life_that_waits_gets_nothing_by_a_death():
    """A recording of where the member once lived; it is no second conflict either."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(alive("b", 2, 5), replace(LATER, incarnation=5)), STRANGER, START)
    hush(node)
    node.receive_datagram(sealed(Dead(5, "b", "c")), STRANGER, START + 1)
    assert [type(event) for event in node.events()] == [Gone]
    pass_time(node, START + 20)
    assert (held(node, "b").state, held(node, "b").endpoint) == (NodeState.DEAD, endpoint(2))


def test_claims_wait_for_so_long_and_are_so_many():
    """The last for each name, since a later life announces itself later."""
    succession = Succession(1.0)
    for number in range(MAX_CLAIMS + 5):
        succession.wait(alive(f"n{number}", 9, 1), START)
    succession.wait(alive("n1", 9, 2), START + 1)
    assert succession.gone("n0", START + WAITING - 0.001) == alive("n0", 9, 1)
    assert succession.gone("n0", START) is None
    assert succession.gone("n1", START + WAITING) == alive("n1", 9, 2)
    assert succession.gone("n2", START + WAITING) is None
    assert succession.gone(f"n{MAX_CLAIMS}", START) is None


def test_claims_that_have_waited_for_long_make_room():
    """Or a flood of them would be in the way for ever."""
    succession = Succession(1.0)
    for number in range(MAX_CLAIMS):
        succession.wait(alive(f"n{number}", 9, 1), START)
    succession.wait(alive("early", 9, 1), START + WAITING - 0.001)
    assert succession.gone("early", START + WAITING) is None
    succession.wait(alive("later", 9, 1), START + WAITING)
    assert succession.gone("later", START + WAITING) == alive("later", 9, 1)


@pytest.mark.parametrize("after", [0.0, 3.0, 20.0])
@pytest.mark.parametrize("profile", ["mesh", "lan"])
def test_who_crashes_and_starts_elsewhere_is_found_by_all(profile, after):
    """By gossip alone, whether it is back before anybody has missed it or long after."""
    config = replace(SwimConfig.profile(profile), push_pull_interval=1000.0)
    network = VirtualNetwork(32, config=config)
    hosts = [network.start(f"n{number}", meta=b"old", incarnation=50) for number in range(1, 7)]
    for host in hosts[1:]:
        network.join(host, hosts[0])
    network.run(5)
    network.crash("n6")
    crashed = network.now
    network.run(after)
    moved = network.start("n6", 40, meta=b"new", incarnation=51)
    network.join(moved, hosts[0])
    known = [host for host in hosts if host is not hosts[5]]
    death = suspicion_timeout(config.suspicion_mult, 6, config.probe_interval) * config.suspicion_max_timeout_mult
    probe = config.probe_interval * config.probe_overlap
    within = 6 * config.probe_interval + 2 * probe + death + 2
    network.until(lambda: all(host.member("n6").endpoint == moved.at for host in known), within=within)
    print(f"{profile}, back after {after:g} s: all know {network.now - crashed - after:.1f} s later")
    assert all(host.state_of("n6") is NodeState.ALIVE for host in known)


def test_a_thief_with_a_forged_death_gets_nothing():
    """An insider says to all that n4 is dead, and lives with him: n4 answers every one of them."""
    network = VirtualNetwork(33)
    hosts = network.start_mesh(6, meta=b"holder")
    thief = endpoint(66)
    claim = Alive(9, "n4", thief.ip.packed, PORT, b"thief")
    for order in (lambda death: (death, claim), lambda death: (claim, death)):
        for host in hosts:
            if host.node.identity.name != "n4":
                dead = Dead(host.member("n4").incarnation, "n4", "thief")
                network.deliver(host, sealed(*order(dead)), thief)
        network.run(20)
        for host in hosts:
            assert host.member("n4").endpoint == hosts[3].at
            assert host.member("n4").meta == b"holder"
            assert host.state_of("n4") is NodeState.ALIVE
    assert any(host.events(Gone, about="n4") for host in hosts)
