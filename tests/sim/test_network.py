"""The simulator itself: what its weather does to packets, and what becomes of hosts that stand still."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.sim import network as sim
from tests.sim.network import SKB, SOCKET_BUFFER, START, Host, VirtualNetwork, endpoint
from tests.sim.underlay import Pipe, Underlay
from wesher.swim.config import SwimConfig
from wesher.swim.event import Gone, Suspected
from wesher.swim.io import Endpoint, StreamAccepted, StreamConnected, StreamData, StreamEnded, StreamInput
from wesher.wire.messages import NodeState


class Listener:
    """A party that notes what arrives, and when."""

    def __init__(self, underlay: Underlay, number: int) -> None:
        self.at = endpoint(number)
        self.streams: dict[int, Pipe | None] = {}
        self.last_accepted = -1
        self.heard: list[tuple[float, bytes]] = []
        self.events: list[StreamInput] = []
        self._underlay = underlay
        underlay.settle_at(self)

    def take_datagram(self, data: bytes, source: Endpoint) -> None:
        """Note it."""
        self.heard.append((self._underlay.now, data))

    def take_stream(self, event: StreamInput) -> None:
        """Note it."""
        self.events.append(event)


def two(seed: int = 1) -> tuple[Underlay, Listener, Listener]:
    """An underlay with two parties."""
    underlay = Underlay(seed)
    return underlay, Listener(underlay, 1), Listener(underlay, 2)


def shower(underlay: Underlay, here: Listener, there: Listener, drops: int = 1000) -> list[int]:
    """The numbers of the datagrams that arrive, in order, of so many sent a millisecond apart."""
    for number in range(drops):
        underlay.send_datagram(here.at, there.at, number.to_bytes(2, "big"))
        underlay.run(0.001)
    underlay.run(5)
    return [int.from_bytes(data, "big") for _, data in there.heard]


# --- weather


def test_good_weather_delivers_everything_once_within_its_latency():
    """In another order, since each takes its own time."""
    arrived = shower(*two())
    assert sorted(arrived) == list(range(1000))
    assert arrived != sorted(arrived)


def test_loss_and_doubles_have_their_share():
    """A thousand datagrams: five standard deviations around the mean."""
    underlay, here, there = two()
    underlay.weather.loss, underlay.weather.duplicate = 0.2, 0.3
    arrived = shower(underlay, here, there)
    assert 735 <= len(set(arrived)) <= 865
    assert 0.2 * len(set(arrived)) <= len(arrived) - len(set(arrived)) <= 0.4 * len(set(arrived))


def test_strays_arrive_behind_what_was_sent_long_after_them():
    """Farther than jitter alone would put them."""
    underlay, here, there = two()
    underlay.weather.stray, underlay.weather.detour = 0.1, 0.5
    arrived = shower(underlay, here, there)
    assert sorted(arrived) == list(range(1000))
    assert max(place - number for place, number in enumerate(arrived)) > 100


def test_a_cut_may_be_one_way_and_of_one_kind():
    """What goes the other way, or otherwise, passes."""
    underlay, here, there = two()
    underlay.weather.cut = lambda kind, source, to: (kind, source) == ("udp", here.at)
    underlay.send_datagram(here.at, there.at, b"lost")
    underlay.send_datagram(there.at, here.at, b"heard")
    underlay.dial(here, 2, there.at)
    underlay.run(1)
    assert (there.heard, [data for _, data in here.heard]) == ([], [b"heard"])
    assert here.events == [StreamConnected(2)]


def test_a_stream_outlives_a_cut_whole_and_in_order():
    """What was sent meanwhile is repeated when the way is free, as TCP does."""
    underlay, here, there = two()
    underlay.dial(here, 2, there.at)
    underlay.run(1)
    underlay.weather.cut = lambda kind, source, to: True
    underlay.send_stream(here, 2, b"one, ")
    underlay.run(3)
    underlay.send_stream(here, 2, b"two")
    underlay.close_stream(here, 2)
    underlay.run(3)
    assert there.events == [StreamAccepted(1)]
    underlay.weather.cut = sim.Weather().cut
    underlay.run(10)
    assert b"".join(event.data for event in there.events if isinstance(event, StreamData)) == b"one, two"
    assert there.events[-1] == StreamEnded(1, "")


def test_a_stream_dialled_into_a_cut_opens_after_it():
    """The kernel goes on knocking."""
    underlay, here, there = two()
    underlay.weather.cut = lambda kind, source, to: True
    underlay.dial(here, 2, there.at)
    underlay.run(2)
    assert here.events == []
    underlay.weather.cut = sim.Weather().cut
    underlay.run(5)
    assert here.events == [StreamConnected(2)]


# --- hosts that stand still


def mesh(size: int, seed: int = 1) -> tuple[VirtualNetwork, list[Host]]:
    """A mesh at rest."""
    network = VirtualNetwork(seed, config=SwimConfig.mesh())
    hosts = network.start_mesh(size)
    network.run(5)
    return network, hosts


def test_a_paused_host_neither_hears_nor_speaks():
    """And what has come meanwhile it hears when it goes on."""
    network, hosts = mesh(3)
    network.pause(hosts[0], 3.0)
    network.trace.clear()
    network.run(2.999)
    assert not [sent for sent in network.trace if sent[2] == hosts[0].at]
    assert len(hosts[0].buffer) > 0
    network.run(0.5)
    assert [sent for sent in network.trace if sent[2] == hosts[0].at]
    assert len(hosts[0].buffer) == 0


def test_what_finds_no_room_in_the_buffer_is_lost():
    """As much as the kernel keeps for a socket that nobody reads."""
    network, hosts = mesh(2)
    network.pause(hosts[0], 1.0)
    for _ in range(1000):
        network.deliver(hosts[0], b"x" * 100, hosts[1].at)
    assert len(hosts[0].buffer) == SOCKET_BUFFER // SKB
    assert hosts[0].buffer.lost == 1000 - SOCKET_BUFFER // SKB
    network.run(2)
    assert hosts[0].node.counters["too short to be sealed"] == 0
    assert sum(hosts[0].node.counters.values()) == SOCKET_BUFFER // SKB


def suspects_after_waking(seeds: range) -> int:
    """How often a host that stands still just as it has sent a ping suspects somebody when it goes on."""
    found = 0
    for seed in seeds:
        network, hosts = mesh(4, seed)
        network.until(lambda host=hosts[0]: host.node._probing._probes, within=2)
        network.pause(hosts[0], 1.6)
        network.run(1.7)
        found += len(hosts[0].events(Suspected))
    return found


def test_a_host_that_wakes_reads_before_it_judges(monkeypatch):
    """The acks of its probes lie in the buffer. Without that look it would suspect whoever it had just asked."""
    assert suspects_after_waking(range(20)) == 0
    monkeypatch.setattr(sim, "BACKLOG", 0)
    assert suspects_after_waking(range(20)) > 0


def test_a_long_pause_is_a_death_that_is_taken_back():
    """Whoever sleeps too long is buried, and refutes it when it hears of it: with its first full exchange, 15 s."""
    network, hosts = mesh(4)
    network.pause(hosts[0], 20)
    network.run(19)
    assert all(host.state_of("n1") is NodeState.DEAD for host in hosts[1:])
    network.run(1 + SwimConfig.mesh().push_pull_interval + 5)
    assert all(host.live() == {"n1", "n2", "n3", "n4"} for host in hosts)


def test_pauses_of_one_host_may_overlap_and_follow_each_other():
    """It goes on at the end of the last."""
    network, hosts = mesh(3)
    begin = network.now
    network.pause(hosts[0], 1.0)
    network.pause(hosts[0], 0.5)
    network.run(0.8)
    network.pause(hosts[0], 1.0)
    network.trace.clear()
    network.run(0.99)
    assert not [sent for sent in network.trace if sent[2] == hosts[0].at]
    network.run(1)
    assert min(at for at, _, source, _, _ in network.trace if source == hosts[0].at) >= begin + 1.8


def test_a_slow_host_takes_its_time_for_each_input():
    """Ten pings at once, 50 ms each: the acks leave when all are read, as the adapter reads before it sends."""
    network, hosts = mesh(2)
    network.slow(hosts[0], 0.05)
    network.crash("n2")
    network.run(1)
    begin, heard = network.now, []
    hosts[0].node.receive_datagram = lambda data, source, now: heard.append(now)
    for _ in range(10):
        network.deliver(hosts[0], b"", endpoint(9))
    network.run(3)
    gaps = [later - earlier for earlier, later in pairwise(heard)]
    assert heard[0] - begin <= 0.15
    assert gaps == pytest.approx([0.05] * 9)


def test_a_host_that_is_slower_than_its_inputs_is_not_buried_by_itself():
    """It falls behind, and once it is quick again reads what waits; it never asks to be woken in the past."""
    network, hosts = mesh(5)
    network.slow(hosts[0], 0.2)
    network.run(30)
    assert len(hosts[0].buffer) > 20
    network.slow(hosts[0], 0.0)
    network.run(60)
    assert all(len(host.live()) == 5 for host in hosts)


def test_a_clock_that_is_set_moves_no_deadline():
    """Nobody is suspected for it; what is believed of incarnations changes with the next timer."""
    network, hosts = mesh(3)
    network.step_clock(hosts[0], -86_400 * 365 * 20)
    network.step_clock(hosts[1], 3600)
    network.run(30)
    assert all(host.events(Suspected, Gone) == [] for host in hosts)
    assert hosts[1].node._membership._seconds_since_2020(network.now) == pytest.approx(
        sim.TODAY + (network.now - START) + 3600, abs=1.5
    )


def test_a_large_run_may_go_without_trace_and_look_and_is_the_same_run():
    """Neither changes a byte."""
    digests = set()
    for options in ({}, {"checked": False, "keep_trace": False}):
        network = VirtualNetwork(7, **options)
        network.start_mesh(4)
        network.run(20)
        digests.add(network.digest)
    assert len(digests) == 1
    assert network.trace == []
    assert network.sent > 100
