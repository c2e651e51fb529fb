"""Whole meshes of nodes in virtual time: what they come to know of each other, by when, and in what order.

Where a test states a bound, the bound is derived in its docstring from the LAN profile: probe every 1 s, gossip every
0.2 s to 3 nodes, suspicion of at least 4 s. One-way latency is at most 20 ms.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from tests.unit.swim.virtual import START, Host, VirtualNetwork, Weather, endpoint
from wesher.swim.config import SwimConfig
from wesher.swim.event import Conflict, Exchanged, Gone, Joined, LeaveFinished, Suspected, Updated
from wesher.swim.io import Endpoint
from wesher.wire.messages import Ack, Alive, Dead, IndirectPing, Nack, NodeState, PushPull
from wesher.wire.packet import open_packet
from wesher.wire.stream import StreamReader

LAN = SwimConfig.lan()
ROUNDS = 10 * LAN.gossip_interval
"""Two seconds: news to three nodes a round reaches ten nodes in three rounds, with all its retransmits in seven."""
SOON = 2 * LAN.push_pull_interval
"""Whom gossip misses, by chance, learns the news from a full exchange: each node begins one at least so often."""


def messages(network: VirtualNetwork, *kinds: type) -> list[tuple[Endpoint, Endpoint, object]]:
    """The messages of these kinds that were put on the wire in datagrams: from whom, to whom, what."""
    ring = next(iter(network.hosts.values())).node.keyring
    return [
        (source, to, message)
        for _, kind, source, to, data in network.trace
        if kind == "udp"
        for message in open_packet(data, ring).messages
        if isinstance(message, kinds)
    ]


def isolate(*alone: Endpoint, kinds: tuple[str, ...] = ("udp", "tcp")):
    """Weather in which nothing of `kinds` passes between `alone` and the others."""
    return lambda kind, source, to: kind in kinds and (source in alone) != (to in alone)


def all_hold(hosts: list[Host], name: str, meta: bytes) -> bool:
    """Whether each of `hosts` holds that member for alive, with that metadata."""
    records = [host.member(name) for host in hosts]
    return all(m is not None and (m.state, m.meta) == (NodeState.ALIVE, meta) for m in records)


# --- joining


def test_two_nodes_know_each_other_after_one_exchange():
    """Both are told that the other is there, and the joiner that its exchange went well."""
    network = VirtualNetwork(1)
    first, second = network.start("n1", meta=b"one"), network.start("n2", meta=b"two")
    network.join(second, first)
    network.run(0.1)  # five one-way latencies at most: connect, accept, request, reply, close
    assert first.live() == second.live() == {"n1", "n2"}
    assert first.member("n2").meta == b"two"
    assert second.member("n1").meta == b"one"
    assert [event.member.name for event in first.events(Joined)] == ["n2"]
    assert [event.member.name for event in second.events(Joined)] == ["n1"]
    assert second.events(Exchanged) == [Exchanged(first.at, join=True)]


def test_three_nodes_know_each_other_and_each_is_told_once():
    """Gossip carries what the second exchange could not."""
    network = VirtualNetwork(2)
    hosts = network.start_mesh(3)
    network.run(10)
    for host in hosts:
        joined = Counter(event.member.name for event in host.events(Joined))
        assert joined == Counter({"n1", "n2", "n3"} - {host.node.identity.name})
        assert host.events(Suspected, Gone, Conflict) == []


def test_a_reply_is_sent_before_the_merge():
    """It lists whom the contact knew, and not the joiner; the second exchange lists both."""
    network = VirtualNetwork(3)
    first, second = network.start("n1"), network.start("n2")
    for expected in (["n1"], ["n1", "n2"]):
        network.trace.clear()
        network.join(second, first)
        network.run(0.1)
        (reply,) = (
            StreamReader(first.node.keyring).feed(data)
            for _, kind, source, _, data in network.trace
            if (kind, source) == ("tcp", first.at)
        )
        assert isinstance(reply, PushPull)
        assert reply.join
        assert [entry.name for entry in reply.nodes] == expected


def test_a_joiner_is_gossiped_to_everybody():
    """It talks to one; the others hear of it within a few rounds of gossip, or with the next full exchanges.

    Each of nine sends the news in four packets, so one of the seven others is missed with a probability of about
    exp(-4): one run in nine misses somebody. Of twenty runs at most six, then (seven or more: 5 in 1000).
    """
    took = []
    for seed in range(20):
        network = VirtualNetwork(seed)
        hosts = network.start_mesh(8)
        newcomer = network.start("new", meta=b"new")
        network.join(newcomer, hosts[0])
        took.append(network.until(partial(all_hold, hosts, "new", b"new"), within=SOON))
        assert newcomer.live() == {f"n{number}" for number in range(1, 9)} | {"new"}
    print(f"took {took}")
    assert sum(seconds > ROUNDS for seconds in took) <= 6


def test_joining_a_place_where_nobody_lives_fails():
    """Refused, or unanswered until the exchange's time is up."""
    network = VirtualNetwork(4)
    host = network.start("n1")
    network.join(host, endpoint(9))
    network.run(0.1)
    assert host.events(Exchanged) == [Exchanged(endpoint(9), join=True, failure="refused")]
    network.weather.cut = isolate(endpoint(9))
    network.join(host, endpoint(9))
    network.run(LAN.stream_timeout)
    assert host.events(Exchanged)[1:] == [Exchanged(endpoint(9), join=True, failure="no answer in time")]


def test_clusters_with_different_keys_stay_apart():
    """The joiner learns that it was not understood; nobody learns of anybody."""
    network = VirtualNetwork(5)
    ours, theirs = network.start("n1"), network.start("n2", key=b"x" * 32)
    network.join(theirs, ours)
    network.run(5)
    assert [host.live() for host in (ours, theirs)] == [{"n1"}, {"n2"}]
    (exchanged,) = theirs.events(Exchanged)
    assert exchanged.failure != ""
    assert ours.node.counters == {"undecryptable": 1}


@pytest.mark.parametrize("seed", range(3))
def test_twenty_nodes_started_together_converge(seed):
    """All join the first at once. Each exchange reaches the first within 0.1 s, and gossip does the rest.

    A node may be missed by gossip with a small probability; then the next full exchange or probe's piggyback tells
    it. So: everybody within one push/pull interval's longest stagger, 60 s; in fact within seconds.
    """
    network = VirtualNetwork(seed)
    hosts = [network.start(f"n{number + 1}") for number in range(20)]
    for host in hosts[1:]:
        network.join(host, hosts[0])
    took = network.until(lambda: all(len(host.live()) == 20 for host in hosts), within=SOON)
    print(f"took {took:.2f} virtual seconds")
    network.run(30)
    for host in hosts:
        assert len(host.live()) == 20
        assert host.events(Suspected, Gone, Conflict) == []


# --- changing, leaving


def test_new_metadata_reaches_everybody():
    """As an update, once."""
    network = VirtualNetwork(6)
    hosts = network.start_mesh(6, meta=b"old")
    network.update_meta(hosts[2], b"new")
    network.until(lambda: all(host.member("n3").meta == b"new" for host in hosts), within=SOON)
    network.run(5)
    for host in hosts:
        updates = [event.member.meta for event in host.events(Updated, about="n3")]
        assert updates == ([] if host is hosts[2] else [b"new"])


def test_a_leave_is_known_to_all_and_the_leaver_told_when_it_is_over():
    """Four packets, three a round: it is over with the second round; then the others spread it. Nobody suspects it."""
    network = VirtualNetwork(7)
    hosts = network.start_mesh(6)
    leaver, others = hosts[3], [host for host in hosts if host is not hosts[3]]
    network.leave(leaver)
    took = network.until(lambda: leaver.events(LeaveFinished) != [], within=LAN.leave_timeout)
    assert took <= 2 * LAN.gossip_interval
    network.crash("n4")
    network.until(lambda: all(host.state_of("n4") is NodeState.LEFT for host in others), within=SOON)
    network.run(20)
    for host in others:
        assert [event.member.state for event in host.events(Gone, about="n4")] == [NodeState.LEFT]
        assert host.events(Suspected) == []


def test_a_leave_that_does_not_get_through_ends_in_time():
    """Gossip goes nowhere, but is sent: the leave is over when it has been told to its limit, or at the latest."""
    network = VirtualNetwork(8)
    hosts = network.start_mesh(2)
    network.weather.cut = isolate(hosts[0].at)
    network.leave(hosts[0])
    network.until(lambda: hosts[0].events(LeaveFinished) != [], within=LAN.leave_timeout)
    assert hosts[1].state_of("n1") is NodeState.ALIVE


def test_after_a_leave_another_address_takes_the_name():
    """Known to everybody, under whatever incarnation it begins with."""
    network = VirtualNetwork(9)
    hosts = network.start_mesh(4, incarnation=50)
    network.leave(hosts[3])
    network.until(lambda: hosts[3].events(LeaveFinished) != [], within=LAN.leave_timeout)
    network.run(ROUNDS)
    moved = network.start("n4", 40, meta=b"moved", incarnation=1)
    network.join(moved, hosts[0])
    network.until(partial(all_hold, hosts[:3], "n4", b"moved"), within=SOON)
    for host in hosts[:3]:
        assert (host.state_of("n4"), host.member("n4").endpoint) == (NodeState.ALIVE, moved.at)
        assert host.events(Conflict) == []


def test_a_living_name_cannot_be_taken_from_another_address():
    """The claimant is told of by a Conflict and changes nothing, at any incarnation."""
    network = VirtualNetwork(10)
    hosts = network.start_mesh(3, meta=b"holder")
    thief = network.start("n3", 40, label="thief", meta=b"thief", incarnation=1000)
    network.join(thief, hosts[0])
    network.run(ROUNDS)
    assert hosts[0].member("n3").meta == hosts[1].member("n3").meta == b"holder"
    assert {event.claimant for event in hosts[0].events(Conflict)} == {thief.at}


# --- dying


@pytest.mark.parametrize("seed", range(10))
def test_a_silent_node_is_suspected_then_dead_in_the_derived_bound(seed):
    """Three nodes, one falls silent at T.

    A ring of n members is shuffled each round, so two probes of one member by one node lie at most 2(n-1) - 1 = 3
    ticks of 1 s apart: a probe that fails begins by T + 3. It fails after 1 s: suspected by T + 4. With n - 2 < 2
    others nobody can confirm, so the suspicion takes 4 s: dead by T + 8, on each node by its own probes alone.
    """
    network = VirtualNetwork(seed)
    hosts = network.start_mesh(3)
    network.run(5)
    silent, others = hosts[1], (hosts[0], hosts[2])
    network.crash("n2")
    begin = network.now
    network.until(lambda: all(host.state_of("n2") is NodeState.SUSPECT for host in others), within=4.0)
    network.until(lambda: all(host.state_of("n2") is NodeState.DEAD for host in others), within=begin + 8 - network.now)
    assert not silent.up
    for host in others:
        story = [(at, type(event)) for at, event in host.seen if at >= begin]
        assert [kind for _, kind in story] == [Suspected, Gone]
    times = {type(event): at for host in others for at, event in reversed(host.seen) if at >= begin}
    assert times[Gone] - times[Suspected] == pytest.approx(4.0, abs=0.3)  # not before its time is up


def test_the_dead_are_forgotten_in_time():
    """They are told of their death for 30 s, then reaped when the ring next comes round."""
    network = VirtualNetwork(11)
    hosts = network.start_mesh(3)
    network.crash("n2")
    network.until(lambda: hosts[0].state_of("n2") is NodeState.DEAD, within=10)
    died = network.now
    network.run(LAN.gossip_to_the_dead - 1)
    assert hosts[0].state_of("n2") is NodeState.DEAD
    # The other may have buried it later by 4 s, and a full exchange with it revives nobody.
    network.until(lambda: all(host.member("n2") is None for host in (hosts[0], hosts[2])), within=10)
    assert network.now - died > LAN.gossip_to_the_dead
    network.run(60)
    assert all(host.member("n2") is None for host in (hosts[0], hosts[2]))


def test_with_enough_members_confirmations_make_it_quick():
    """Ten members: a lone accuser would wait 24 s after its failed probe, and did not need to."""
    network = VirtualNetwork(12)
    hosts = network.start_mesh(10)
    network.crash("n5")
    others = [host for host in hosts if host.up]
    took = network.until(lambda: all(host.state_of("n5") is NodeState.DEAD for host in others), within=42)
    print(f"took {took:.2f} virtual seconds")
    assert took < 24


def test_a_suspect_that_lives_refutes():
    """A false word spreads, the accused hears it, and its higher incarnation spreads after it. Nobody dies."""
    network = VirtualNetwork(13)
    hosts = network.start_mesh(5)
    network.weather.cut = isolate(hosts[0].at)
    network.until(lambda: any(host.events(Suspected, about="n1") for host in hosts), within=20)
    network.weather.cut = Weather().cut
    network.until(lambda: all(host.member("n1").incarnation >= 2 for host in hosts[1:]), within=SOON)
    assert all(host.state_of("n1") is NodeState.ALIVE for host in hosts[1:])
    network.run(30)
    for host in hosts:
        assert host.events(Gone) == []
    for host in hosts[1:]:
        if host.events(Suspected, about="n1"):
            assert [type(event) for event in host.events(Suspected, Updated, about="n1")][-1] is Updated


# --- restarting


@pytest.mark.parametrize("incarnation", [1, 2, 5, 100])
@pytest.mark.parametrize("silence", [0.0, 20.0])
def test_a_restarted_node_replaces_its_old_record(incarnation, silence):
    """The others hold incarnation 5 and old metadata, be it alive or dead by now; the new run wins in any case.

    A lower or equal one learns of the old run from the exchange and outbids it (protocol 5.3). Mostly peers have the
    new key after some rounds of gossip; whom those miss, after a full exchange or two.
    """
    network = VirtualNetwork(f"{incarnation} {silence}")
    hosts = network.start_mesh(4, meta=b"old key", incarnation=5)
    network.crash("n4")
    network.run(silence)
    restarted = network.start("n4", 4, meta=b"new key", incarnation=incarnation)
    network.join(restarted, hosts[0])

    network.until(partial(all_hold, hosts[:3], "n4", b"new key"), within=SOON)
    network.run(20)
    assert all_hold(hosts[:3], "n4", b"new key")
    assert restarted.node.me.incarnation > 5
    assert restarted.live() == {"n1", "n2", "n3", "n4"}


def test_an_equal_incarnation_with_other_metadata_is_outbid_by_one():
    """Not by more: that is how Go nodes, which all begin at the same incarnation, restart."""
    network = VirtualNetwork(14)
    hosts = network.start_mesh(2, meta=b"old key", incarnation=2)
    network.crash("n2")
    restarted = network.start("n2", 2, meta=b"new key", incarnation=2)
    network.join(restarted, hosts[0])
    network.run(ROUNDS)
    assert restarted.node.me.incarnation == 3
    assert (hosts[0].member("n2").incarnation, hosts[0].member("n2").meta) == (3, b"new key")


# --- broken paths


def between(one: Endpoint, other: Endpoint, *kinds: str):
    """Weather in which nothing of `kinds` passes between two."""
    return lambda kind, source, to: kind in kinds and {source, to} == {one, other}


def test_relays_save_a_node_whose_direct_path_is_cut():
    """Both of its transports are cut towards one other; that one asks the rest, and never suspects it."""
    network = VirtualNetwork(15)
    hosts = network.start_mesh(4)
    network.weather.cut = between(hosts[0].at, hosts[2].at, "udp", "tcp")
    network.trace.clear()
    network.run(60)
    asked = {(source, message.node) for source, _, message in messages(network, IndirectPing)}
    assert asked == {(hosts[0].at, "n3"), (hosts[2].at, "n1")}
    assert all(host.events(Suspected, Gone) == [] for host in hosts)
    assert all(host.node.health_score == 0 for host in hosts)


def test_without_relays_such_a_node_is_suspected():
    """The same cut with nobody else there: what the test above shows is the relays' work."""
    network = VirtualNetwork(15)
    hosts = network.start_mesh(2)
    network.weather.cut = between(hosts[0].at, hosts[1].at, "udp", "tcp")
    network.run(60)
    assert [type(event) for event in hosts[0].events(Suspected, Gone)] == [Suspected, Gone]


def test_a_stream_ping_saves_a_node_whose_udp_is_cut():
    """A firewall that lets only TCP through: alive to everybody, and counted for the operator to see."""
    network = VirtualNetwork(16)
    hosts = network.start_mesh(3)
    network.weather.cut = isolate(hosts[2].at, kinds=("udp",))
    network.run(60)
    assert all(host.events(Suspected, Gone) == [] for host in hosts)
    for host in hosts:
        assert host.node.counters["reached over TCP only"] > 0


def test_relays_nack_for_the_dead():
    """They say that they are there, under the requester's number, and that the dead is not."""
    network = VirtualNetwork(17)
    hosts = network.start_mesh(4)
    network.crash("n2")
    network.trace.clear()
    network.run(5)
    asked = {(to, source, m.seq_no) for source, to, m in messages(network, IndirectPing)}
    nacked = {(source, to, m.seq_no) for source, to, m in messages(network, Nack)}
    assert nacked
    assert nacked <= asked
    assert not any(source == hosts[1].at for source, _, _ in messages(network, Ack))


@pytest.mark.parametrize("seed", range(5))
def test_both_sides_of_a_cut_bury_each_other_and_a_join_heals_it(seed):
    """Each side learns that it is held for dead, refutes, and is alive again to the other.

    Mostly in a second; whom gossip misses learns it from the next full exchange, or the one after: 60 s.
    """
    network = VirtualNetwork(seed)
    hosts = network.start_mesh(6)
    left, right = hosts[:3], hosts[3:]
    network.weather.cut = isolate(*(host.at for host in left))
    network.until(lambda: all(len(host.live()) == 3 for host in hosts), within=60)
    assert all(host.live() == {"n1", "n2", "n3"} for host in left)
    network.weather.cut = Weather().cut
    network.join(left[0], right[0])
    network.until(lambda: all(len(host.live()) == 6 for host in hosts), within=SOON)
    network.run(20)
    assert all(len(host.live()) == 6 for host in hosts)


# --- chance and time


def history(seed: int) -> list[tuple[float, str, Endpoint, Endpoint, bytes]]:
    """Everything on the wire in a minute of joining, loss, a crash and a leave."""
    network = VirtualNetwork(seed)
    network.weather.loss = 0.05
    hosts = [network.start(f"n{number + 1}") for number in range(5)]
    for host in hosts[1:]:
        network.join(host, hosts[0])
    network.run(20)
    network.crash("n2")
    network.run(20)
    network.leave(hosts[4])
    network.run(20)
    return network.trace


def test_the_same_seed_gives_the_same_bytes():
    """Every datagram and stream, at the same time, to the last byte; another seed gives others."""
    first, second, other = history(1), history(1), history(2)
    assert len(first) > 500
    assert first == second
    assert first != other


@pytest.mark.parametrize("streams", ["with stream pings", "without"])
def test_loss_kills_nobody(streams):
    """Ten nodes, every tenth datagram lost, two minutes: the living stay alive to everybody.

    Without streams about 0.19 * 0.34**3, or 7 in 1000, of the 1200 probes fail: suspicions come, and are refuted.
    """
    network = VirtualNetwork(19)
    hosts = network.start_mesh(10)
    network.weather.loss = 0.10
    if streams == "without":
        network.weather.cut = lambda kind, _source, _to: kind == "tcp"
    network.run(120)
    suspicions = sum(len(host.events(Suspected)) for host in hosts)
    print(f"{suspicions} suspicions")
    assert (suspicions > 0) is (streams == "without")
    assert all(host.events(Gone) == [] for host in hosts)
    assert all(len(host.live()) == 10 for host in hosts)


def test_idle_members_say_little():
    """Ten nodes at rest for a minute: a ping and an ack a second each, an exchange in 30 s each, and no more."""
    network = VirtualNetwork(20)
    hosts = network.start_mesh(10)
    network.run(10)
    network.trace.clear()
    network.run(60)
    kinds = Counter(kind for _, kind, _, _, _ in network.trace)
    assert messages(network, Alive, Dead) == []
    assert 1180 <= kinds["udp"] <= 1210
    assert kinds["tcp"] <= 2 * 2 * len(hosts) + 10


def test_each_node_is_woken_only_when_something_is_due():
    """No busy loop: about six wakings a second for gossip and probes, and two a probe at most besides."""
    network = VirtualNetwork(21)
    hosts = network.start_mesh(3)
    wakings = Counter()
    for host in hosts:
        original = host.node.handle_timer

        def counted(now: float, name: str = host.node.identity.name, original=original) -> None:
            wakings[name] += 1
            original(now)

        host.node.handle_timer = counted
    network.run(60)
    assert all(300 <= count <= 60 * (5 + 1 + 2) for count in wakings.values())


def test_the_wan_profile_works_too():
    """What the Go wesher uses: slower by five, and as sure."""
    network = VirtualNetwork(22, config=SwimConfig.wan())
    hosts = network.start_mesh(4)
    network.crash("n4")
    # Probed within 2*3 - 1 = 5 ticks of 5 s, judged after 5 s, dead 30 s later: 60 s at the longest.
    network.until(lambda: all(host.state_of("n4") is NodeState.DEAD for host in hosts[:3]), within=60)
    assert network.now > START + 30
