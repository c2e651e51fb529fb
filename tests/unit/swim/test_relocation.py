"""A node whose host has another address: it leaves at the old one, and is alive at the new one once that is known."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from tests.unit.swim.alone import HERE, LAN, STRANGER, alive, answers, held, hush, knowing, packets, sealed, waiting
from tests.unit.swim.test_succession import pass_time
from tests.unit.swim.virtual import PORT, START, TODAY, VirtualNetwork, endpoint, make_node
from wesher.swim.config import PROFILES, SwimConfig
from wesher.swim.event import Conflict, Gone, Joined, LeaveFinished
from wesher.swim.io import Endpoint
from wesher.swim.member import Identity
from wesher.swim.node import Node
from wesher.swim.relocation import SPREADING, TELL_EVERY, Relocation
from wesher.wire.codec import encode
from wesher.wire.messages import Alive, Dead, Message, NodeState, Ping, Suspect

THERE = endpoint(50)


def moving() -> Node:
    """Node a, alone with b, that has just been told of its new address."""
    node = knowing("b", incarnation=TODAY, meta=b"mine")
    node.move(THERE.ip.packed, START)
    return node


def arrived(at: float = START + SPREADING) -> Node:
    """The same when the time is up."""
    node = moving()
    hush(node)
    node.handle_timer(at)
    return node


def test_it_first_says_that_it_has_left_and_nothing_else():
    """A Go node that heard of the new address first would call it a conflict."""
    node = moving()
    assert waiting(node) == [encode(Dead(TODAY, "a", "a"))]
    assert node.me.state is NodeState.LEFT
    assert node.get_timer() <= START + SPREADING
    node.handle_timer(START + SPREADING - 0.001)
    assert waiting(node) == []


def test_then_it_is_alive_at_the_new_address_in_a_later_life():
    """With all else as it was."""
    node = arrived()
    assert encode(Alive(TODAY + 1, "a", THERE.ip.packed, PORT, b"mine")) in waiting(node)
    assert (node.me.state, node.me.endpoint, node.me.since) == (NodeState.ALIVE, THERE, START + SPREADING)
    assert node.get_timer() > START + SPREADING


def test_its_pings_ask_for_acks_at_the_new_address_at_once():
    """Go nodes send them where they are told to, and whoever gets none would call everybody dead."""
    node = moving()
    while not (pings := answers(node, Ping)):
        node.handle_timer(node.get_timer())
    assert [ping.source_addr for _, ping in pings] == [THERE.ip.packed]


def test_between_the_two_nothing_makes_it_announce_itself():
    """New metadata waits, accusations are not refuted, and a clock that is set begins no new life."""
    node = moving()
    hush(node)
    node.update_meta(b"newer", START + 1)
    node.receive_datagram(sealed(Suspect(TODAY, "a", "b"), Dead(TODAY, "a", "b")), STRANGER, START + 1)
    node.set_calendar(TODAY - 3 * 86_400, START + 1)
    assert waiting(node) == []
    node.set_calendar(TODAY, START + 1)
    node.handle_timer(START + SPREADING)
    assert encode(Alive(TODAY + 2, "a", THERE.ip.packed, PORT, b"newer")) in waiting(node)


def test_a_second_change_meanwhile_only_changes_where_it_arrives():
    """And brings no second leave; nor does it take longer."""
    node = moving()
    hush(node)
    node.move(HERE.ip.packed, START + 1)
    assert waiting(node) == []
    node.handle_timer(START + SPREADING)
    assert (node.me.state, node.me.endpoint, node.me.incarnation) == (NodeState.ALIVE, HERE, TODAY + 2)


def test_the_address_it_has_is_no_change():
    """Not a word."""
    node = knowing("b")
    node.move(HERE.ip.packed, START)
    assert (waiting(node), node.me.state) == ([], NodeState.ALIVE)


def test_who_leaves_for_good_does_not_arrive():
    """Begun before or meanwhile."""
    node = moving()
    node.leave(START + 1)
    node.handle_timer(START + SPREADING)
    node.handle_timer(START + 10)
    assert node.me.state is NodeState.LEFT
    assert LeaveFinished() in node.events()

    node = knowing("b")
    node.leave(START)
    hush(node)
    node.move(THERE.ip.packed, START + 1)
    node.handle_timer(START + 10)
    assert (node.me.state, node.identity.endpoint) == (NodeState.LEFT, HERE)


def test_an_echo_of_where_it_was_is_no_conflict_but_anybody_elses_claim_is():
    """Others go on saying it for a while."""
    node = arrived()
    hush(node)
    node.receive_datagram(sealed(replace(alive("a", 1), incarnation=TODAY + 5)), STRANGER, START + 3)
    assert node.events() == []
    node.receive_datagram(sealed(replace(alive("a", 60), incarnation=TODAY + 5)), STRANGER, START + 3)
    assert [type(event) for event in node.events()] == [Conflict]


def test_who_claims_a_members_name_where_we_lived_conflicts_with_that_member():
    """Only our own echo comes from there innocently."""
    node = arrived()
    hush(node)
    node.receive_datagram(sealed(alive("b", 1, 5)), endpoint(2), START + SPREADING)
    b = held(node, "b")
    assert b is not None
    assert node.events() == [Conflict(b, HERE)]


def test_an_identity_knows_where_it_lived_and_no_longer_does():
    """Back at an address, that is none of the former."""
    me = Identity("a", HERE.ip.packed, PORT)
    me.move(THERE.ip.packed)
    assert (me.endpoint, me.former) == (THERE, {HERE})
    me.move(HERE.ip.packed)
    assert (me.endpoint, me.former) == (HERE, {THERE})


def test_a_relocation_is_begun_once():
    """Until it has ended."""
    relocation = Relocation()
    assert not relocation.under_way
    assert relocation.begin(START)
    assert not relocation.begin(START + 1)
    assert (relocation.under_way, relocation.deadline) == (True, START + SPREADING)
    relocation.told({"b"}, START)
    assert relocation.deadline == START + TELL_EVERY
    relocation.told((), START)
    assert relocation.deadline == START + SPREADING
    relocation.end()
    assert (relocation.under_way, relocation.deadline) == (False, inf)
    assert relocation.begin(START + 5)


def told(node: Node) -> list[tuple[Endpoint, tuple[Message, ...]]]:
    """What the node sends to whom, of leaves and announcements only."""
    found = [(to, tuple(m for m in messages if isinstance(m, Dead | Alive))) for to, messages in packets(node)]
    return [(to, messages) for to, messages in found if messages]


def test_who_reads_a_packet_in_order_is_told_both_at_once():
    """Those who are alive, and nobody else. They believe it as they would a restart elsewhere."""
    node = knowing("b", "c", "d", incarnation=TODAY, meta=b"mine")
    node.receive_datagram(sealed(Dead(1, "d", "d")), STRANGER, START)
    node.actions()
    node.move(THERE.ip.packed, START, confidants={"a", "b", "d"})
    leave, arrival = Dead(TODAY, "a", "a"), Alive(TODAY + 1, "a", THERE.ip.packed, PORT, b"mine")
    assert told(node) == [(endpoint(2), (leave, arrival))]

    other = make_node("z", endpoint(9))
    other.receive_datagram(sealed(alive("a", 1, TODAY), leave, arrival), HERE, START)
    assert [type(event) for event in other.events()] == [Joined, Gone]
    assert held(other, "a").state is NodeState.LEFT
    assert other.is_claimed("a")
    assert not other.is_claimed("z")
    pass_time(other, START + LAN.probe_interval)
    assert (held(other, "a").state, held(other, "a").endpoint) == (NodeState.ALIVE, THERE)
    assert not other.is_claimed("a")


def test_they_are_told_again_and_again_until_it_arrives():
    """The first packet may be lost, and who hears of the leave alone lets go of the tunnel. Nothing is new in it."""
    node = knowing("b", incarnation=TODAY, meta=b"mine")
    node.move(THERE.ip.packed, START, confidants={"b"})
    pair = [(endpoint(2), (Dead(TODAY, "a", "a"), Alive(TODAY + 1, "a", THERE.ip.packed, PORT, b"mine")))]
    assert told(node) == pair
    hush(node)
    for again in range(1, 4):
        node.handle_timer(START + again * TELL_EVERY - 0.001)
        assert told(node) == []
        node.handle_timer(START + again * TELL_EVERY)
        assert told(node) == pair
    node.handle_timer(START + SPREADING)
    node.actions()
    hush(node)
    node.handle_timer(START + SPREADING + 2 * TELL_EVERY)
    assert told(node) == []


def test_who_is_told_again_after_it_follows_stays_where_it_is():
    """The leave is that of the life before."""
    node = make_node("z", endpoint(9))
    leave, arrival = Dead(TODAY, "a", "a"), Alive(TODAY + 1, "a", THERE.ip.packed, PORT, b"mine")
    node.receive_datagram(sealed(alive("a", 1, TODAY), leave, arrival), HERE, START)
    pass_time(node, START + LAN.probe_interval)
    follows = held(node, "a")
    assert (follows.state, follows.endpoint) == (NodeState.ALIVE, THERE)
    node.events()
    node.receive_datagram(sealed(leave, arrival), HERE, START + LAN.probe_interval)
    assert (held(node, "a"), node.events()) == (follows, [])


@pytest.mark.parametrize("where", [THERE, HERE], ids=["metadata", "address"])
def test_what_was_told_is_outbid_when_it_changes_once_more(where):
    """Who follows to the first of the two places follows to the second, and who has the former metadata is told."""
    node = knowing("b", incarnation=TODAY, meta=b"mine")
    node.move(THERE.ip.packed, START, confidants={"b"})
    node.actions()
    hush(node)
    if where == HERE:
        node.move(HERE.ip.packed, START + 1, confidants={"b"})
    else:
        node.update_meta(b"newer", START + 1)
        node.handle_timer(START + 1 + TELL_EVERY)
    arrival = Alive(TODAY + 2, "a", where.ip.packed, PORT, b"mine" if where == HERE else b"newer")
    assert [messages for _, messages in told(node)] == [(Dead(TODAY + 1, "a", "a"), arrival)]
    hush(node)
    node.handle_timer(START + SPREADING)
    assert encode(arrival) in waiting(node)

    other = make_node("z", endpoint(9))
    first = Alive(TODAY + 1, "a", THERE.ip.packed, PORT, b"mine")
    other.receive_datagram(sealed(alive("a", 1, TODAY), Dead(TODAY, "a", "a"), first), HERE, START)
    pass_time(other, START + LAN.probe_interval)
    assert held(other, "a").endpoint == THERE
    other.receive_datagram(sealed(Dead(TODAY + 1, "a", "a"), arrival), HERE, START + LAN.probe_interval)
    pass_time(other, START + 3 * LAN.probe_interval)
    assert (held(other, "a").endpoint, held(other, "a").meta) == (where, arrival.meta)


@pytest.mark.parametrize("confidants", [(), ("n2", "n3", "n5")])
@pytest.mark.parametrize("profile", PROFILES)
def test_who_moves_alive_is_followed_by_all(profile, confidants):
    """By gossip alone, with a probe of the old address; nobody finds a conflict, and the moved one loses nobody."""
    config = replace(SwimConfig.profile(profile), push_pull_interval=1000.0)
    network = VirtualNetwork(32, config=config)
    hosts = [network.start(f"n{number}", meta=b"m", incarnation=50) for number in range(1, 7)]
    for host in hosts[1:]:
        network.join(host, hosts[0])
    network.run(5)
    moved, others = hosts[5], hosts[:5]
    network.move(moved, THERE, confidants=confidants)
    step = config.probe_interval * config.probe_overlap + config.gossip_interval + 1
    network.until(lambda: all(host.member("n6").endpoint == THERE for host in others), within=SPREADING + 3 * step)
    network.until(lambda: all("n6" in host.live() for host in others), within=step)
    assert moved.live() == {host.node.identity.name for host in hosts}
    assert all(host.events(Conflict) == [] for host in hosts)


def test_who_has_missed_the_leave_follows_when_it_holds_the_old_address_for_dead():
    """What it hears of the new one waits for that."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(alive("b", 50, 2)), STRANGER, START)
    assert held(node, "b").endpoint == endpoint(2)
    now = START
    while held(node, "b").endpoint != THERE:
        now = max(now + 0.001, node.get_timer())
        assert now < START + 60
        node.handle_timer(now)
