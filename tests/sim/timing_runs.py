"""The runs that timing profiles are measured by; see timing.py for what they are and what they show.

Each takes a seed and a profile, makes a cluster that is whole, gives it time on the bad line, and then lets happen
what it is about. Who crashes and who is starved is drawn apart from the network's chances, so that every profile has
the same victims.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from random import Random
from statistics import median
from typing import Final

from tests.sim.network import Host, VirtualNetwork
from tests.sim.underlay import FIRST_REPEAT, Party, Pipe
from wesher.swim.config import SwimConfig
from wesher.swim.event import Gone, Suspected
from wesher.swim.io import Endpoint, StreamInput
from wesher.wire import packet

SIZE: Final = 100
ROUND_TRIP: Final = 0.3
JITTER: Final = 0.1
"""Of the round trip, either way."""
LOSS: Final = 0.05

SETTLE: Final = 15.0
"""Seconds on the bad line before anything is measured: how well a node thinks of itself depends on it."""

PATIENCE: Final = 60.0
"""Seconds within which a death must be known to all; twice the slowest seen is less."""

STARVED_SHARE: Final = 0.1
STARVED_FOR: Final = 120.0

MENDING: Final = 60.0
"""Seconds after which all starved nodes should be held alive again: a full exchange, at 100 members under `lan`."""

Span = tuple[float, float]

STOPS: Final[dict[str, tuple[Span, Span]]] = {
    #            does not run   runs
    "stopped": ((2.0, 16.0), (0.05, 1.0)),
    "halting": ((0.25, 2.0), (0.05, 1.0)),
}
"""Seconds; each stop and each run is drawn anew."""

LATE: Final[Span] = (0.5, 2.5)
"""Seconds; drawn anew every second."""


@dataclass(frozen=True, slots=True)
class Death:
    """Seconds from a crash until the first, half, and all of the others hold the node dead."""

    first: float
    median: float
    all: float
    false_deaths: int


@dataclass(frozen=True, slots=True)
class Quiet:
    """An idle cluster; packets and bytes are each node's in a second, without UDP's and TCP's headers."""

    node_seconds: float
    suspicions: int
    false_deaths: int
    packets: float
    datagram_bytes: float
    stream_bytes: float


@dataclass(frozen=True, slots=True)
class Starved:
    """A cluster with starved nodes. `detected` is the crash of a node that was well, as those who are well know it."""

    false_deaths: int
    by_starved: int
    """So many of them begun by a starved node."""
    members_buried: int
    """Different members among the false deaths."""
    false_suspicions: int
    starved_deaths: int
    first: float
    median: float
    all: float
    packets: float
    datagram_bytes: float
    mended: bool
    """Whether all who run hold each other alive again once nobody is starved."""


class LateDoor:
    """What stands for a host that reads everything late: a party of the underlay that passes on, in order."""

    def __init__(self, network: VirtualNetwork, host: Host, chance: Random, until: float) -> None:
        self.at = host.at
        self._network = network
        self._host = host
        self._chance = chance
        self._until = until
        self._draw_at = self._late = self._not_before = 0.0

    @property
    def streams(self) -> dict[int, Pipe | None]:
        """The host's."""
        return self._host.streams

    @property
    def last_accepted(self) -> int:
        """The host's."""
        return self._host.last_accepted

    @last_accepted.setter
    def last_accepted(self, number: int) -> None:
        self._host.last_accepted = number

    def take_datagram(self, data: bytes, source: Endpoint) -> None:
        """A datagram has arrived."""
        self._pass_on(partial(self._host.take_datagram, data, source))

    def take_stream(self, event: StreamInput) -> None:
        """Something about a stream."""
        self._pass_on(partial(self._host.take_stream, event))

    def _pass_on(self, action: Callable[[], None]) -> None:
        now = self._network.now
        if now >= self._draw_at:
            self._draw_at = now + 1.0
            self._late = self._chance.uniform(*LATE) if now < self._until else 0.0
        self._not_before = max(self._not_before, now + self._late)
        self._network.at(self._not_before, action)


class Metered(VirtualNetwork):
    """The virtual network of `tests.sim`, counting bytes, and with hosts that hear everything late."""

    def __init__(self, seed: int | str, config: SwimConfig) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # the seed is in the result
            super().__init__(seed, config=config, checked=False, keep_trace=False)
        self.packets = self.datagram_bytes = self.stream_bytes = 0
        self.doors: dict[Endpoint, LateDoor] = {}

    def reset(self) -> None:
        """Forget what was counted and seen."""
        self.packets = self.datagram_bytes = self.stream_bytes = 0
        for host in self.hosts.values():
            host.seen.clear()

    def send_datagram(self, source: Endpoint, to: Endpoint, data: bytes, *, delay: float = 0.0) -> None:
        """As the underlay does, and count."""
        self.packets += 1
        self.datagram_bytes += len(data)
        super().send_datagram(source, to, data, delay=delay)

    def dial(self, party: Party, stream: int, to: Endpoint, *, repeat: float = FIRST_REPEAT) -> None:
        """As the underlay does, with the answers for the door, if there is one."""
        super().dial(self.doors.get(party.at, party), stream, to, repeat=repeat)

    def send_stream(self, party: Party, stream: int, data: bytes) -> None:
        """As the underlay does, and count."""
        self.stream_bytes += len(data)
        super().send_stream(party, stream, data)


def bad_line(seed: int, config: SwimConfig, size: int = SIZE, settle: float = SETTLE) -> Metered:
    """A cluster that is whole, after some time on the line that is measured."""
    remember_decoding()
    network = Metered(seed, config)
    network.start_mesh(size)
    network.weather.latency = ((1 - JITTER) * ROUND_TRIP / 2, (1 + JITTER) * ROUND_TRIP / 2)
    network.weather.loss = LOSS
    network.run(settle)
    network.reset()
    return network


def death(seed: int, config: SwimConfig, size: int = SIZE) -> Death:
    """One of the nodes crashes, at any point of its neighbours' rounds."""
    network = bad_line(seed, config, size)
    chance = Random(f"death of {seed}")
    network.run(chance.uniform(0, 1))
    victim = chance.choice(list(network.hosts))
    begin = network.now
    network.crash(victim)
    others = [host for host in network.hosts.values() if host.up]
    network.until(lambda: all(host.events(Gone, about=victim) for host in others), within=PATIENCE, every=0.5)
    took = sorted(at - begin for at, name, _, _ in funerals(network) if name == victim)
    return Death(took[0], median(took), took[-1], len({name for _, name, _, _ in funerals(network)} - {victim}))


def quiet(seed: int, config: SwimConfig, size: int = SIZE, seconds: float = 300.0, *, streams: bool = True) -> Quiet:
    """Nothing happens; without `streams`, TCP does not get through, so that a probe has datagrams alone."""
    network = bad_line(seed, config, size)
    if not streams:
        network.weather.cut = no_streams
    network.run(seconds)
    total = size * seconds
    return Quiet(
        total,
        suspicions=len(accused(network)),
        false_deaths=len({(name, incarnation) for _, name, incarnation, _ in funerals(network)}),
        packets=network.packets / total,
        datagram_bytes=network.datagram_bytes / total,
        stream_bytes=network.stream_bytes / total,
    )


def starved(
    seed: int,
    config: SwimConfig,
    how: str,
    *,
    size: int = SIZE,
    share: float = STARVED_SHARE,
    seconds: float = STARVED_FOR,
) -> Starved:
    """Some nodes are starved, `how` as timing.py has it; half-way one of the others crashes."""
    network = bad_line(seed, config, size)
    chance = Random(f"starved of {seed}")
    hungry = set(chance.sample(list(network.hosts), max(1, round(size * share))))
    victim = chance.choice([name for name in network.hosts if name not in hungry])
    begin = network.now
    for name in sorted(hungry):
        starve(network, network.hosts[name], how, begin + seconds, chance)
    network.run(seconds / 2)
    crashed_at = network.now
    network.crash(victim)
    network.run(seconds / 2)
    packets, octets = network.packets, network.datagram_bytes
    well = {name for name in network.hosts if name not in hungry and name != victim}
    mended = mends(network, victim)

    first: dict[tuple[str, int], str] = {}
    detected: dict[str, float] = {}
    for at, name, incarnation, observer in funerals(network):
        if name != victim or at < crashed_at:
            first.setdefault((name, incarnation), observer)
        elif observer in well:
            detected.setdefault(observer, at - crashed_at)
    false = {key: observer for key, observer in first.items() if key[0] not in hungry}
    took = sorted(detected.values())
    missing = len(well) - len(took)  # none, unless somebody had buried the victim before it died
    return Starved(
        false_deaths=len(false),
        by_starved=sum(observer in hungry for observer in false.values()),
        members_buried=len({name for name, _ in false}),
        false_suspicions=len({key for key in accused(network, until=crashed_at) if key[0] not in hungry}),
        starved_deaths=len(first) - len(false),
        first=took[0],
        median=median(took + [PATIENCE] * missing),
        all=PATIENCE if missing else took[-1],
        packets=packets / size / seconds,
        datagram_bytes=octets / size / seconds,
        mended=mended,
    )


def starve(network: Metered, host: Host, how: str, end: float, chance: Random) -> None:
    """Let a host have no CPU to speak of until `end`, `how` as timing.py has it."""
    if how == "late":
        door = network.doors[host.at] = LateDoor(network, host, Random(chance.random()), end)
        network.settle_at(door)
        return
    stop, run = STOPS[how]
    at = network.now + chance.uniform(0, stop[1])
    while at < end:
        length = min(chance.uniform(*stop), end - at)
        network.at(at, partial(network.pause, host, length))
        at += length + chance.uniform(*run)


def mends(network: Metered, victim: str) -> bool:
    """Let the starved recover; whether everybody that runs holds everybody that runs for alive."""
    up = [host for host in network.hosts.values() if host.up]
    everybody = set(network.hosts) - {victim}
    try:
        network.until(lambda: all(host.live() == everybody for host in up), within=MENDING, every=1.0)
    except AssertionError:
        return False
    return True


def funerals(network: VirtualNetwork) -> Iterator[tuple[float, str, int, str]]:
    """When, who at which incarnation, by whom: everything that was held dead, in order."""
    yield from sorted(
        (at, event.member.name, event.member.incarnation, observer)
        for observer, host in network.hosts.items()
        for at, event in host.seen
        if isinstance(event, Gone)
    )


def accused(network: VirtualNetwork, until: float = float("inf")) -> set[tuple[str, int]]:
    """Who was suspected at which incarnation, by anybody."""
    return {
        (event.member.name, event.member.incarnation)
        for host in network.hosts.values()
        for at, event in host.seen
        if isinstance(event, Suspected) and at <= until
    }


def no_streams(kind: str, source: Endpoint, to: Endpoint) -> bool:
    """The weather that lets datagrams through alone."""
    return kind == "tcp"


def remember_decoding() -> None:
    """Decode equal messages once: gossip brings each to everybody, several times, and decoding has no memory."""
    if not hasattr(packet.decode_packet_message, "cache_info"):
        packet.decode_packet_message = lru_cache(maxsize=1 << 16)(packet.decode_packet_message)
