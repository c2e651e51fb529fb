"""A network in virtual time: real Nodes exchange real bytes, over datagrams and streams, and nothing ever waits.

    heap of (time, number, what to do)     the number makes equal times deterministic
    weather                                latency, loss and cuts, asked for every datagram and every piece of a stream
    trace                                  everything that was put on the wire, in order: the run's fingerprint

Chance comes from one seed: the same seed and the same calls give the same bytes. After each step it is checked that
no datagram is larger than memberlist's budget, no compound has more parts than old peers read, and no node asks to
be woken in the past.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import count
from random import Random
from typing import Final

from wesher.swim.config import SwimConfig
from wesher.swim.event import Event
from wesher.swim.io import (
    CloseStream,
    Connect,
    Endpoint,
    SendDatagram,
    SendStream,
    StreamAccepted,
    StreamConnected,
    StreamData,
    StreamEnded,
    StreamInput,
)
from wesher.swim.member import Member
from wesher.swim.node import Identity, Node
from wesher.wire.keyring import Keyring
from wesher.wire.limits import MAX_COMPOUND_PARTS, UDP_BUFFER_SIZE
from wesher.wire.messages import MessageType, NodeState
from wesher.wire.packet import open_packet

KEY: Final = bytes(range(32))
PORT: Final = 7946
START: Final = 1000.0
"""The virtual clock's first reading: not 0, which hides forgotten clocks."""
TODAY: Final = 200_000_000
"""The virtual calendar at START, in seconds since 2020."""


def endpoint(number: int, port: int = PORT) -> Endpoint:
    """Where the `number`-th node lives."""
    return Endpoint(IPv4Address((10 << 24) + number), port)


def make_node(
    name: str,
    at: Endpoint,
    *,
    now: float = START,
    config: SwimConfig | None = None,
    key: bytes = KEY,
    meta: bytes = b"",
    incarnation: int = 1,
    rng: Random | None = None,
    nonces: Iterable[int] | None = None,
) -> Node:
    """A node without a network."""
    numbers = iter(count() if nonces is None else nonces)
    return Node(
        config or SwimConfig.lan(),
        Keyring([key]),
        Identity(name, at.ip.packed, at.port),
        meta=meta,
        incarnation=incarnation,
        now=now,
        seconds_since_2020=TODAY + int(now - START),
        rng=rng or Random(0),
        nonce=lambda: next(numbers).to_bytes(12, "big"),
    )


@dataclass(slots=True)
class Weather:
    """What the network does to what is sent. `cut` says whether `kind` ("udp" or "tcp") is lost from one to another."""

    latency: tuple[float, float] = (0.001, 0.02)
    loss: float = 0.0
    """The share of datagrams lost by chance; streams repeat theirs, as TCP does."""
    cut: Callable[[str, Endpoint, Endpoint], bool] = lambda _kind, _source, _to: False


@dataclass(slots=True)
class Host:
    """A node at its place. `seen` are its events with their times."""

    node: Node
    at: Endpoint
    up: bool = True
    seen: list[tuple[float, Event]] = field(default_factory=list)
    streams: dict[int, _Pipe | None] = field(default_factory=dict)
    """Streams in use; None while one is dialled."""
    wake_at: float = float("inf")
    last_accepted: int = -1

    def events(self, *kinds: type[Event], about: str | None = None) -> list[Event]:
        """What has happened, by kind and by the member that it is about."""
        return [
            event
            for _, event in self.seen
            if isinstance(event, kinds or object)
            and (about is None or (hasattr(event, "member") and event.member.name == about))
        ]

    def member(self, name: str) -> Member | None:
        """What the node knows of the member called `name`."""
        return next((member for member in self.node.members() if member.name == name), None)

    def live(self) -> set[str]:
        """The names that the node holds for alive or suspect, its own included."""
        return {member.name for member in self.node.members() if member.is_live}

    def state_of(self, name: str) -> NodeState | None:
        """The state in which the node holds the member called `name`."""
        member = self.member(name)
        return None if member is None else member.state


@dataclass(slots=True)
class _Pipe:
    """One direction of a stream: where its bytes go, and not before when, since streams keep their order."""

    to: Host
    number: int
    not_before: float = 0.0


class VirtualNetwork:
    """Hosts by name, the weather between them, and the time."""

    def __init__(self, seed: int | str, *, config: SwimConfig | None = None) -> None:
        print(f"seed {seed}")
        self.now = START
        self.weather = Weather()
        self.hosts: dict[str, Host] = {}
        self.trace: list[tuple[float, str, Endpoint, Endpoint, bytes]] = []
        self._seed = seed
        self._config = config or SwimConfig.lan()
        self._rng = Random(f"weather of {seed}")
        self._by_endpoint: dict[Endpoint, Host] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._nonces = count()
        self._started = 0

    # --- who is there

    def start(
        self,
        name: str,
        number: int | None = None,
        *,
        at: Endpoint | None = None,
        meta: bytes = b"",
        incarnation: int = 1,
        key: bytes = KEY,
        config: SwimConfig | None = None,
        label: str | None = None,
    ) -> Host:
        """Start a node, kept in `hosts` by its name or `label`; who had that, or its place, is gone without a word."""
        self._started += 1
        label = label or name
        place = at or endpoint(self._started if number is None else number)
        for known, former in list(self.hosts.items()):
            if known == label or former.at == place:
                self.crash(known)
                del self.hosts[known]
        node = make_node(
            name,
            place,
            now=self.now,
            config=config or self._config,
            key=key,
            meta=meta,
            incarnation=incarnation,
            rng=Random(f"{self._seed} {name} {self._started}"),
            nonces=self._nonces,
        )
        host = self.hosts[label] = self._by_endpoint[place] = Host(node, place)
        self._settle(host)
        return host

    def start_mesh(self, size: int, **settings: bytes) -> list[Host]:
        """Nodes called n1, n2 … that have all joined n1 and know each other."""
        hosts = [self.start(f"n{number + 1}", **settings) for number in range(size)]
        for host in hosts[1:]:
            self.join(host, hosts[0])
        self.until(lambda: all(len(host.live()) == size for host in hosts), within=2 * self._config.push_pull_interval)
        return hosts

    def crash(self, name: str) -> None:
        """The node is gone without a word."""
        host = self.hosts[name]
        host.up = False
        host.streams.clear()
        if self._by_endpoint.get(host.at) is host:
            del self._by_endpoint[host.at]

    # --- what nodes are told to do

    def join(self, host: Host, *contacts: Host | Endpoint) -> None:
        """Join whoever is there."""
        host.node.join([c.at if isinstance(c, Host) else c for c in contacts], self.now)
        self._settle(host)

    def update_meta(self, host: Host, meta: bytes) -> None:
        """Announce new metadata."""
        host.node.update_meta(meta, self.now)
        self._settle(host)

    def leave(self, host: Host) -> None:
        """Begin to leave."""
        host.node.leave(self.now)
        self._settle(host)

    def deliver(self, host: Host, data: bytes, source: Endpoint) -> None:
        """A datagram out of nowhere."""
        host.node.receive_datagram(data, source, self.now)
        self._settle(host)

    # --- time

    def run(self, seconds: float) -> None:
        """Let `seconds` pass."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self._step()
        self.now = end

    def until(self, reached: Callable[[], bool], *, within: float) -> float:
        """Run until `reached`; returns the seconds that took, and fails if it takes longer than `within`."""
        begin = self.now
        while not reached():
            if not self._heap or self._heap[0][0] > begin + within:
                raise AssertionError(f"not reached within {within} virtual seconds (seed {self._seed})")
            self._step()
        return self.now - begin

    def _step(self) -> None:
        at, _, action = heapq.heappop(self._heap)
        self.now = max(self.now, at)
        action()

    def _at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._numbers), action))

    # --- driving one node, as the runtime's adapter does

    def _input(self, host: Host, event: StreamInput) -> None:
        if host.up:
            host.node.receive_stream(event, self.now)
            self._settle(host)

    def _settle(self, host: Host) -> None:
        actions, events = host.node.actions(), host.node.events()
        while actions or events:
            host.seen += ((self.now, event) for event in events)
            for action in actions:
                self._act(host, action)
            actions, events = host.node.actions(), host.node.events()
        deadline = host.node.get_timer()
        if deadline != host.wake_at:
            host.wake_at = deadline
            self._at(deadline, lambda: self._wake(host, deadline))

    def _wake(self, host: Host, deadline: float) -> None:
        if not host.up or host.wake_at != deadline:
            return
        host.wake_at = float("inf")
        host.node.handle_timer(self.now)
        assert host.node.get_timer() > self.now, f"asks to be woken in the past (seed {self._seed})"
        self._settle(host)

    def _act(self, host: Host, action: SendDatagram | Connect | SendStream | CloseStream) -> None:
        match action:
            case SendDatagram(to, data):
                self._send_datagram(host, to, data)
            case Connect(stream, to):
                self._connect(host, stream, to)
            case SendStream(stream, data):
                self._send_stream(host, stream, data)
            case CloseStream(stream):
                self._close(host, stream)

    # --- datagrams

    def _send_datagram(self, host: Host, to: Endpoint, data: bytes) -> None:
        assert len(data) <= UDP_BUFFER_SIZE, f"a datagram of {len(data)} bytes (seed {self._seed})"
        plain = host.node.keyring.open(data, b"")
        assert plain[0] != MessageType.COMPOUND or plain[1] <= MAX_COMPOUND_PARTS
        assert not open_packet(data, host.node.keyring).damage
        self.trace.append((self.now, "udp", host.at, to, data))
        lost = self._rng.random() < self.weather.loss
        delay = self._delay()
        if lost or self.weather.cut("udp", host.at, to):
            return
        self._at(self.now + delay, lambda: self._arrive(host.at, to, data))

    def _arrive(self, source: Endpoint, to: Endpoint, data: bytes) -> None:
        host = self._by_endpoint.get(to)
        if host is not None:
            self.deliver(host, data, source)

    # --- streams

    def _connect(self, host: Host, stream: int, to: Endpoint) -> None:
        host.streams[stream] = None
        if not self.weather.cut("tcp", host.at, to):
            self._at(self.now + self._delay(), lambda: self._meet(host, stream, to))

    def _meet(self, host: Host, stream: int, to: Endpoint) -> None:
        """The dialled side answers, or nobody does."""
        if stream not in host.streams:
            return  # the dialling was given up
        other = self._by_endpoint.get(to)
        if other is None:
            host.streams.pop(stream)
            self._at(self.now + self._delay(), lambda: self._input(host, StreamEnded(stream, "refused")))
            return
        other.last_accepted += 2
        number = other.last_accepted
        other.streams[number] = _Pipe(host, stream)
        host.streams[stream] = _Pipe(other, number)
        self._input(other, StreamAccepted(number))
        self._at(self.now + self._delay(), lambda: self._connected(host, stream))

    def _connected(self, host: Host, stream: int) -> None:
        if stream in host.streams:
            self._input(host, StreamConnected(stream))

    def _send_stream(self, host: Host, stream: int, data: bytes) -> None:
        pipe = host.streams.get(stream)
        if pipe is None:
            return
        self.trace.append((self.now, "tcp", host.at, pipe.to.at, data))
        middle = self._rng.randint(0, len(data))  # it arrives in two pieces, as it may
        for piece in (data[:middle], data[middle:]):
            if piece:
                self._pour(host, pipe, lambda piece=piece: self._stream_data(pipe, piece))

    def _close(self, host: Host, stream: int) -> None:
        pipe = host.streams.pop(stream, None)
        if pipe is not None:
            self._pour(host, pipe, lambda: self._stream_ended(pipe))

    def _pour(self, host: Host, pipe: _Pipe, action: Callable[[], None]) -> None:
        pipe.not_before = max(pipe.not_before, self.now + self._delay())
        if not self.weather.cut("tcp", host.at, pipe.to.at):
            self._at(pipe.not_before, action)

    def _stream_data(self, pipe: _Pipe, data: bytes) -> None:
        if pipe.number in pipe.to.streams:
            self._input(pipe.to, StreamData(pipe.number, data))

    def _stream_ended(self, pipe: _Pipe) -> None:
        if pipe.to.streams.pop(pipe.number, None) is not None:
            self._input(pipe.to, StreamEnded(pipe.number, ""))

    def _delay(self) -> float:
        return self._rng.uniform(*self.weather.latency)
