"""A network of bare nodes: real Nodes exchange real bytes over the underlay, each driven as the runtime's adapter does.

    up         what arrives is handed to the node at once; its timer fires in time
    paused     the process does not run: datagrams wait in the socket's buffer as far as it reaches, timers wait too
    slow       each input takes so long, and everything behind it waits as for a paused one
    crashed    gone without a word

A host that wakes from a pause, or that is slow, goes on as `wesher/runtime/gossip.py` on asyncio's loop: a turn of
the loop reads at most so many datagrams, then takes what streams bring; a timer that is due fires in a turn with
nothing to read, and the socket is drained before it does. After a stop (SIGSTOP) the kernel may report that time is
up without a look at the sockets; then the timer comes first.

After each step it is checked that no datagram is larger than memberlist's budget, no compound has more parts than old
peers read, and no node asks to be woken in the past.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import count
from math import inf
from random import Random
from typing import Final

from tests.sim.underlay import START, TODAY, Pipe, Underlay, Weather
from wesher.swim.config import SwimConfig
from wesher.swim.event import Event
from wesher.swim.io import CloseStream, Connect, Endpoint, SendDatagram, SendStream, StreamInput
from wesher.swim.member import Member
from wesher.swim.node import Identity, Node
from wesher.wire.keyring import Keyring
from wesher.wire.limits import MAX_COMPOUND_PARTS, UDP_BUFFER_SIZE
from wesher.wire.messages import MessageType, NodeState
from wesher.wire.packet import open_packet

__all__ = ["KEY", "PORT", "START", "TODAY", "Host", "VirtualNetwork", "Weather", "endpoint", "make_node"]

KEY: Final = bytes(range(32))
PORT: Final = 7946

DRAIN: Final = 256
"""Datagrams read in one turn, as gossip.py does."""

BACKLOG: Final = 16
"""So many goes before a timer fires, as gossip.py does."""

SOCKET_BUFFER: Final = 2 * 212_992
"""Bytes: net.core.rmem_max as kernels have it by default, doubled, as a larger SO_RCVBUF is cut to."""

SKB: Final = 768
"""Bytes of that which the kernel charges for a small datagram; a large one is charged its length besides."""


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
    clock_ahead: int = 0,
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
        seconds_since_2020=calendar(now) + clock_ahead,
        rng=rng or Random(0),
        nonce=lambda: next(numbers).to_bytes(12, "big"),
    )


def calendar(now: float) -> int:
    """What a calendar that is right shows, in seconds since 2020."""
    return TODAY + int(now - START)


class SocketBuffer:
    """What waits to be read from one UDP socket; what finds no room is lost."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[bytes, Endpoint]] = deque()
        self._held = 0
        self.lost = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, data: bytes, source: Endpoint) -> None:
        """A datagram arrives."""
        if self._held + charge(data) > SOCKET_BUFFER:
            self.lost += 1
            return
        self._held += charge(data)
        self._waiting.append((data, source))

    def take(self) -> tuple[bytes, Endpoint]:
        """Read the first. IndexError where nothing waits."""
        data, source = self._waiting.popleft()
        self._held -= charge(data)
        return data, source

    def clear(self) -> None:
        """The socket is closed."""
        self._waiting.clear()
        self._held = 0


def charge(data: bytes) -> int:
    """What the kernel charges for a datagram."""
    return SKB if len(data) <= 256 else SKB + len(data)


@dataclass(slots=True, eq=False)
class Host:
    """A node at its place. `seen` are its events with their times."""

    network: VirtualNetwork = field(repr=False)
    node: Node
    at: Endpoint
    up: bool = True
    seen: list[tuple[float, Event]] = field(default_factory=list)
    streams: dict[int, Pipe | None] = field(default_factory=dict)
    last_accepted: int = -1
    wake_at: float = inf
    """When the node wants its timer."""
    alarm_at: float = inf
    """When the underlay will look whether it is time."""
    clock_ahead: int = 0
    """Seconds by which its calendar is wrong."""
    effort: float = 0.0
    """Seconds that each input takes."""
    stopped_until: float = 0.0
    busy_until: float = 0.0
    buffer: SocketBuffer = field(default_factory=SocketBuffer)
    pending: deque[StreamInput] = field(default_factory=deque)
    turns: Iterator[float] | None = None
    """What a host that cannot keep up is at."""

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

    # --- what the underlay brings

    def take_datagram(self, data: bytes, source: Endpoint) -> None:
        """To the node, or to wait for it."""
        network = self.network
        if self.turns is None and not self.effort and network.now >= self.stopped_until:
            self.node.receive_datagram(data, source, network.now)
            network.settle(self)
        else:
            self.buffer.put(data, source)
            network.go_on(self)

    def take_stream(self, event: StreamInput) -> None:
        """To the node, or to wait for it."""
        network = self.network
        if not self.up:
            return
        if self.turns is None and not self.effort and network.now >= self.stopped_until:
            self.node.receive_stream(event, network.now)
            network.settle(self)
        else:
            self.pending.append(event)
            network.go_on(self)


class VirtualNetwork(Underlay):
    """Hosts by name, on an underlay.

    `checked` opens every datagram again to look at it, `keep_trace` keeps all of them; large runs do without.
    """

    def __init__(
        self, seed: int | str, *, config: SwimConfig | None = None, checked: bool = True, keep_trace: bool = True
    ) -> None:
        print(f"seed {seed}")
        super().__init__(seed, keep_trace=keep_trace)
        self.hosts: dict[str, Host] = {}
        self._config = config or SwimConfig.lan()
        self._checked = checked
        self._nonces = count()
        self._started = 0
        self._stops = Random(f"stops of {seed}")

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
        clock_ahead: int = 0,
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
            rng=Random(f"{self.seed} {name} {self._started}"),
            nonces=self._nonces,
            clock_ahead=clock_ahead,
        )
        host = self.hosts[label] = Host(self, node, place, clock_ahead=clock_ahead)
        self.settle_at(host)
        self.settle(host)
        return host

    def start_mesh(self, size: int, **settings: bytes) -> list[Host]:
        """Nodes called n1, n2 … that have all joined n1 and know each other."""
        hosts = [self.start(f"n{number + 1}", **settings) for number in range(size)]
        for host in hosts[1:]:
            self.join(host, hosts[0])
        self.until(
            lambda: all(len(host.live()) == size for host in hosts),
            within=2 * self._config.push_pull_interval,
            every=0.1 if size > 20 else 0.0,
        )
        return hosts

    def crash(self, name: str) -> None:
        """The node is gone without a word."""
        host = self.hosts[name]
        host.up = False
        host.turns = None
        self.vacate(host)

    # --- what happens to a host

    def pause(self, host: Host, seconds: float) -> None:
        """Stop the process for so long, as SIGSTOP does, or a hypervisor."""
        host.stopped_until = max(host.stopped_until, self.now + seconds)
        self.at(host.stopped_until, lambda: self._wake_up(host))

    def move(self, host: Host, to: Endpoint, *, confidants: Collection[str] = ()) -> None:
        """The host has another address from now on, and its node is told."""
        self.vacate(host)
        host.at = to
        self.settle_at(host)
        host.node.move(to.ip.packed, self.now, confidants=confidants)
        self.settle(host)

    def slow(self, host: Host, seconds: float) -> None:
        """From now on each input takes the process so long; 0 is as quick as can be."""
        host.effort = seconds
        if not seconds:
            self.go_on(host)

    def step_clock(self, host: Host, seconds: int) -> None:
        """Set the host's calendar forward, or back. No deadline depends on it."""
        host.clock_ahead += seconds

    # --- what nodes are told to do

    def join(self, host: Host, *contacts: Host | Endpoint) -> None:
        """Join whoever is there."""
        host.node.join([c.at if isinstance(c, Host) else c for c in contacts], self.now)
        self.settle(host)

    def update_meta(self, host: Host, meta: bytes) -> None:
        """Announce new metadata."""
        host.node.update_meta(meta, self.now)
        self.settle(host)

    def leave(self, host: Host) -> None:
        """Begin to leave."""
        host.node.leave(self.now)
        self.settle(host)

    def forget(self, host: Host, name: str) -> None:
        """Have every node forget `name`."""
        host.node.forget(name, self.now)
        self.settle(host)

    def deliver(self, host: Host, data: bytes, source: Endpoint) -> None:
        """A datagram out of nowhere."""
        host.take_datagram(data, source)

    # --- driving one node, as the runtime's adapter does

    def settle(self, host: Host) -> None:
        """What follows every input to a node: act, tell, and wait for the next deadline."""
        node = host.node
        actions, events = node.actions(), node.events()
        while actions or events:
            if events:
                now = self.now
                host.seen += [(now, event) for event in events]
            for action in actions:
                self._act(host, action)
            actions, events = node.actions(), node.events()
        host.wake_at = node.get_timer()
        if host.wake_at < host.alarm_at:
            self._set_alarm(host)

    def _set_alarm(self, host: Host) -> None:
        """One look ahead a host is enough: what is due later is looked for then."""
        at = host.alarm_at = host.wake_at
        self.at(at, lambda: self._on_alarm(host, at))

    def _on_alarm(self, host: Host, at: float) -> None:
        if not host.up or host.alarm_at != at:
            return
        host.alarm_at = inf
        if self.now < host.wake_at:
            self._set_alarm(host)
        elif host.turns is not None or self.now < host.stopped_until:
            pass  # it will see for itself
        elif host.effort:
            self.go_on(host)
        else:
            self._fire(host)

    def _fire(self, host: Host) -> None:
        host.node.set_calendar(calendar(self.now) + host.clock_ahead, self.now)
        host.node.handle_timer(self.now)
        assert host.node.get_timer() > self.now, f"asks to be woken in the past (seed {self.seed})"
        self.settle(host)

    def _act(self, host: Host, action: SendDatagram | Connect | SendStream | CloseStream) -> None:
        match action:
            case SendDatagram(to, data):
                assert len(data) <= UDP_BUFFER_SIZE, f"a datagram of {len(data)} bytes (seed {self.seed})"
                if self._checked:
                    self._look_at(host, data)
                self.send_datagram(host.at, to, data)
            case Connect(stream, to):
                self.dial(host, stream, to)
            case SendStream(stream, data):
                self.send_stream(host, stream, data)
            case CloseStream(stream):
                self.close_stream(host, stream)

    def _look_at(self, host: Host, data: bytes) -> None:
        plain = host.node.keyring.open(data, b"")
        assert plain[0] != MessageType.COMPOUND or plain[1] <= MAX_COMPOUND_PARTS
        assert not open_packet(data, host.node.keyring).damage

    # --- a host that cannot keep up

    def _wake_up(self, host: Host) -> None:
        if host.up and self.now >= host.stopped_until:
            if host.turns is None:
                host.turns = self._turns(host, blind=self._stops.random() < 0.5)
            self._go(host)

    def go_on(self, host: Host) -> None:
        """There is something to do for a host that does not run, is busy, or is slow."""
        if host.up and host.turns is None and self.now >= host.stopped_until:
            host.turns = self._turns(host, blind=False)
            self._go(host)

    def _go(self, host: Host) -> None:
        while host.up and host.turns is not None and self.now >= max(host.stopped_until, host.busy_until):
            seconds = next(host.turns, None)
            if seconds is None:
                host.turns = None
                if host.alarm_at == inf:
                    self._set_alarm(host)
            elif seconds > 0:
                host.busy_until = self.now + seconds
                self.at(host.busy_until, lambda: self._go(host))

    def _turns(self, host: Host, *, blind: bool) -> Iterator[float]:
        """Turns of the loop until there is nothing left to do; yields the seconds that each input takes."""
        while True:
            due = host.wake_at <= self.now
            if (host.buffer or host.pending) and not (blind and due):
                if host.buffer:
                    yield from self._drain(host, DRAIN)
                    self.settle(host)
                for _ in range(len(host.pending)):
                    host.node.receive_stream(host.pending.popleft(), self.now)
                    yield host.effort
                    self.settle(host)
            elif due:
                yield from self._drain(host, DRAIN * BACKLOG)
                yield host.effort
                self._fire(host)
            else:
                return
            blind = False

    def _drain(self, host: Host, most: int) -> Iterator[float]:
        for _ in range(most):
            if not host.buffer:
                return
            data, source = host.buffer.take()
            host.node.receive_datagram(data, source, self.now)
            yield host.effort
