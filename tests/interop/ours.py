"""Our side of the meetings with Go peers: real nodes on real sockets of 127.0.0.0/8, and a peer driven by hand.

`OurNode` is the node as the daemon runs it, with its adapter, on one event loop for all of them in a thread of its
own; tests stand outside and poll. Its UDP socket and its dialling go through a `Cable`, which can lose, cut and show
what passes: on loopback nothing but the node itself can. `RawPeer` says exactly what it is told to say and shows what
came back, so that one and the same question can be put to a Go peer and to a node of ours.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random
from typing import Any, Final, TypeVar

from tests.lab.until import until
from wesher.runtime.clock import monotonic, seconds_since_2020
from wesher.runtime.gossip import Gossip, bind
from wesher.swim.config import SwimConfig
from wesher.swim.event import Conflict, Event, Exchanged, Gone, Joined, LeaveFinished, Updated
from wesher.swim.io import Endpoint, StreamEnded, from_wire
from wesher.swim.member import Identity, Member
from wesher.swim.node import Node
from wesher.wire.codec import encode
from wesher.wire.errors import WireError
from wesher.wire.keyring import Keyring
from wesher.wire.limits import VSN
from wesher.wire.messages import (
    Ack,
    Alive,
    Message,
    NodeState,
    PacketMessage,
    Ping,
    PushNodeState,
    PushPull,
    StreamMessage,
)
from wesher.wire.packet import open_packet, seal_packet
from wesher.wire.stream import StreamReader, seal_stream

KEY: Final = bytes(range(32))
OTHER_KEY: Final = bytes(range(32, 64))

QUICK: Final = replace(
    SwimConfig.lan(),
    probe_interval=0.5,
    probe_timeout=0.2,
    suspicion_mult=4,
    gossip_interval=0.1,
    push_pull_interval=5.0,
    gossip_to_the_dead=30.0,
    stream_timeout=5.0,
)
"""Shortened timers for both sides: a death is known after about 3 s."""

_T = TypeVar("_T")


# --- the loop


class Loop:
    """An event loop in a thread; what is raised in it unseen is kept, for whoever closes up."""

    def __init__(self) -> None:
        self._faults: list[dict[str, Any]] = []
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: self._faults.append(context))
        threading.Thread(target=self._loop.run_forever, name="our nodes", daemon=True).start()

    def take_faults(self) -> list[dict[str, Any]]:
        """What was raised unseen since the last call."""
        faults = self.do(lambda: list(self._faults))
        self._faults.clear()
        return faults

    def do(self, action: Callable[[], _T]) -> _T:
        """What `action` returns or raises, run in the loop's thread."""

        async def run() -> _T:
            return action()

        return self.run(run())

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The same for a coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)


_loops: list[Loop] = []


def the_loop() -> Loop:
    """The one loop, made when first wanted."""
    if not _loops:
        _loops.append(Loop())
    return _loops[0]


# --- what passes


@dataclass(frozen=True, slots=True)
class Passed:
    """A datagram that the node sent or received: with whom, and the bytes."""

    sent: bool
    other: Endpoint
    data: bytes


class Cable:
    """A UDP socket with a fault: it loses by chance, or is cut towards some. Lost datagrams are not in `passed`."""

    def __init__(self, udp: socket.socket, seed: str) -> None:
        self.family = udp.family
        self.loss = 0.0
        self.cut: set[IPv4Address | IPv6Address] = set()
        """Addresses between which and the node no datagram passes."""
        self.no_streams: set[IPv4Address | IPv6Address] = set()
        """Addresses that the node cannot dial."""
        self.refuses = False
        """Whether who dials the node is hung up on: on loopback nothing tells who it is."""
        self.passed: deque[Passed] = deque(maxlen=20_000)
        self.lost = 0
        self._udp = udp
        self._rng = Random(seed)

    def fileno(self) -> int:
        return self._udp.fileno()

    def close(self) -> None:
        self._udp.close()

    def sendto(self, data: bytes, address: tuple[Any, ...]) -> None:
        if self._passes(True, data, address):
            self._udp.sendto(data, address)

    def recvfrom(self, size: int) -> tuple[bytes, tuple[Any, ...]]:
        while True:
            data, address = self._udp.recvfrom(size)
            if self._passes(False, data, address):
                return data, address

    def _passes(self, sent: bool, data: bytes, address: tuple[Any, ...]) -> bool:
        other = from_wire(ip_address(address[0]).packed, address[1])
        if other.ip in self.cut or self._rng.random() < self.loss:
            self.lost += 1
            return False
        self.passed.append(Passed(sent, other, data))
        return True


class _Driver(Gossip):
    """The daemon's adapter, except that where the cable is cut for streams too, none comes about."""

    def __init__(self, node: Node, cable: Cable, tcp: socket.socket, on_event: Callable[[Event], None]) -> None:
        super().__init__(node, cable, tcp, on_event)  # type: ignore[arg-type]  # what it uses of a socket, Cable has
        self._cable = cable

    def _accepted(self) -> asyncio.Protocol:
        return _HangUp() if self._cable.refuses else super()._accepted()

    async def _dial(self, stream: int, to: Endpoint) -> None:
        if to.ip in self._cable.no_streams:
            self.stream_input(StreamEnded(stream, "cut"))
        else:
            await super()._dial(stream, to)


class _HangUp(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


# --- a node of ours


class OurNode:
    """A node of ours at `at`. `announced` is what it says its address is, byte for byte; default four bytes."""

    def __init__(
        self,
        name: str,
        at: Endpoint,
        *,
        meta: bytes = b"",
        key: bytes = KEY,
        config: SwimConfig = QUICK,
        incarnation: int | None = None,
        vsn: bytes = VSN,
        announced: bytes | None = None,
        bind_to: IPv4Address | IPv6Address | None = None,
    ) -> None:
        self.name = name
        self.at = at
        self.history: list[tuple[float, Event]] = []
        """What it told, and when."""
        self._ring = Keyring([key])
        self._loop = the_loop()
        udp, tcp = bind(bind_to or self.at.ip, self.at.port)
        self.cable = Cable(udp, name)
        self.node = Node(
            config,
            self._ring,
            Identity(name, announced or self.at.ip.packed, self.at.port, vsn),
            meta=meta,
            incarnation=seconds_since_2020() if incarnation is None else incarnation,
            now=monotonic(),
            seconds_since_2020=seconds_since_2020(),
            rng=Random(name),
            nonce=lambda: os.urandom(12),
        )
        self._gossip = self._loop.do(lambda: _Driver(self.node, self.cable, tcp, self._on_event))
        self._loop.run(self._gossip.start())
        self._runs = True

    # --- what it does

    def begin_join(self, *contacts: Endpoint) -> None:
        """Join, without waiting for what comes of it."""
        self._do(lambda: self.node.join(contacts, monotonic()))

    def join(self, contact: Endpoint, within: float = 10) -> str:
        """Join by one contact; returns what went wrong, "" where nothing did."""
        before = len(self.exchanges)
        self.begin_join(contact)
        until(lambda: len(self.exchanges) > before, within, f"{self.name} has an answer from {contact}")
        return self.exchanges[before].failure

    def update_meta(self, meta: bytes) -> None:
        """Announce other metadata."""
        self._do(lambda: self.node.update_meta(meta, monotonic()))

    def forget(self, name: str) -> None:
        """Have every node of ours forget `name`."""
        self._do(lambda: self.node.forget(name, monotonic()))

    def leave(self, within: float = 10) -> None:
        """Leave gracefully, then stop."""
        self._do(lambda: self.node.leave(monotonic()))
        until(lambda: any(isinstance(event, LeaveFinished) for event in self.events), within, f"{self.name} has left")
        self.kill()

    def kill(self) -> None:
        """Stop without a word; nothing of it is left on the network."""
        if self._runs:
            self._runs = False
            self._loop.do(self._gossip.stop)

    def isolate(self, others: Iterable[IPv4Address | IPv6Address]) -> None:
        """Cut it off from these addresses, for datagrams and streams both; where there are none, from nobody."""
        cut = set(others)

        def act() -> None:
            self.cable.cut, self.cable.no_streams, self.cable.refuses = cut, cut, bool(cut)

        self._loop.do(act)

    def _do(self, command: Callable[[], None]) -> None:
        def act() -> None:
            command()
            self._gossip.settle()

        self._loop.do(act)

    def _on_event(self, event: Event) -> None:
        self.history.append((monotonic(), event))

    # --- what it sees

    @property
    def events(self) -> list[Event]:
        """What it told."""
        return [event for _, event in list(self.history)]

    @property
    def exchanges(self) -> list[Exchanged]:
        """The push/pulls for joining that it began and that are over."""
        return [event for event in self.events if isinstance(event, Exchanged) and event.join]

    def members(self) -> dict[str, Member]:
        """Everybody it knows, by name."""
        return {member.name: member for member in self._loop.do(self.node.members)}

    def live(self) -> set[str]:
        """Names of the living, itself included."""
        return {member.name for member in self.members().values() if member.is_live}

    def state_of(self, name: str) -> NodeState | None:
        """What it believes of a member; None where it knows of none."""
        member = self.members().get(name)
        return None if member is None else member.state

    def told(self, name: str) -> list[str]:
        """What it told about a member, in the words of the Go peers' events."""
        words = {Joined: "join", Updated: "update", Gone: "leave", Conflict: "conflict"}
        known = [(words.get(type(event)), getattr(event, "member", None)) for event in self.events]
        return [word for word, member in known if word is not None and member is not None and member.name == name]

    def said(self, kind: type[_T], to: Endpoint | None = None) -> list[_T]:
        """Messages of a kind that it sent in datagrams, to all or one."""
        return list(self._messages(kind, to, sent=True))

    def heard(self, kind: type[_T], source: Endpoint | None = None) -> list[_T]:
        """Messages of a kind that it got in datagrams, from all or one."""
        return list(self._messages(kind, source, sent=False))

    def counted(self, what: str) -> int:
        """How often the node dropped something for this reason."""
        return self.node.counters[what]

    def _messages(self, kind: type[_T], other: Endpoint | None, *, sent: bool) -> Iterator[_T]:
        for passed in self._loop.do(lambda: list(self.cable.passed)):
            if passed.sent is not sent or other not in (None, passed.other):
                continue
            try:
                yield from (m for m in open_packet(passed.data, self._ring).messages if isinstance(m, kind))
            except WireError:
                continue


# --- a peer driven by hand


class RawPeer:
    """A name, an address, sockets, and no will: it says what it is told to, and keeps what it hears.

    It seals with `key`, and reads `also` another. While `acks` it answers pings for its name (and for none), so that
    nobody takes it for dead; `answer` is what its TCP side says to whoever opens a stream with a push/pull, None for
    closing without a word.
    """

    def __init__(self, name: str, at: Endpoint, *, key: bytes = KEY, also: bytes = KEY, acks: bool = True) -> None:
        self.name = name
        self.at = at
        self.ring = Keyring([key, also])
        self.acks = acks
        self.answer: PushPull | None = PushPull(False, ())
        self.heard: list[tuple[Endpoint, PacketMessage]] = []
        self.layers: set[str] = set()
        """Those around what it heard."""
        self.exchanges: list[StreamMessage] = []
        """What came over streams that others opened."""
        self._udp, self._tcp = bind(self.at.ip, self.at.port)
        self._udp.settimeout(0.02)
        self._tcp.settimeout(0.02)
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._listen, self._serve)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Close its sockets."""
        self._closed.set()
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    # --- over UDP

    def alive(self, incarnation: int = 1, meta: bytes = b"", **other: Any) -> Alive:
        """Its own announcement; `other` fields as given."""
        return replace(Alive(incarnation, self.name, self.at.ip.packed, self.at.port, meta), **other)

    def tell(self, to: Endpoint, *messages: Message) -> None:
        """Send messages in one packet."""
        self.send(to, seal_packet([encode(message) for message in messages], self.ring, os.urandom(12)))

    def tell_plain(self, to: Endpoint, plain: bytes) -> None:
        """Send one sealed packet with exactly this inside."""
        self.send(to, self.ring.seal(plain, b"", os.urandom(12)) if plain else b"")

    def send(self, to: Endpoint, data: bytes) -> None:
        """Send a datagram as it is."""
        self._udp.sendto(data, (str(to.ip), to.port))

    def got(self, kind: type[_T], source: Endpoint | None = None) -> list[_T]:
        """Messages of a kind that came in datagrams."""
        return [m for at, m in list(self.heard) if isinstance(m, kind) and source in (None, at)]

    # --- over TCP

    def say(self, to: Endpoint, plain: bytes) -> None:
        """Open a stream, say this encoded message, and do not wait for an answer."""
        with socket.create_connection((str(to.ip), to.port), timeout=20) as stream:
            stream.sendall(seal_stream(plain, self.ring, os.urandom(12), compress=False))

    def ask(
        self, to: Endpoint, message: StreamMessage | bytes, *, compress: bool | None = None
    ) -> StreamMessage | None:
        """Open a stream, say this (bytes: an encoded message); the answer, None where it was closed silently."""
        plain = message if isinstance(message, bytes) else encode(message)
        return self.ask_raw(to, seal_stream(plain, self.ring, os.urandom(12), compress=compress))

    def ask_raw(self, to: Endpoint, data: bytes) -> StreamMessage | None:
        """The same with the bytes of the stream as they are."""
        reader = StreamReader(self.ring)
        with socket.create_connection((str(to.ip), to.port), timeout=20) as stream:
            stream.sendall(data)
            while True:
                try:
                    received = stream.recv(1 << 16)
                except ConnectionResetError:
                    return None
                if not received:
                    return None
                answer = reader.feed(received)
                if answer is not None:
                    return answer

    def exchange(
        self, to: Endpoint, *entries: PushNodeState, join: bool = False, **more: Any
    ) -> dict[str, PushNodeState]:
        """One push/pull; returns what the other side knows, by name."""
        answer = self.ask(to, PushPull(join, entries, **more))
        assert isinstance(answer, PushPull), f"{to} answered a push/pull with {answer!r}"
        return {entry.name: entry for entry in answer.nodes}

    def view(self, of: Endpoint) -> dict[str, PushNodeState]:
        """What a peer knows, told nothing in turn."""
        return self.exchange(of)

    def entry(
        self, incarnation: int = 1, state: NodeState = NodeState.ALIVE, meta: bytes = b"", **other: Any
    ) -> PushNodeState:
        """Its own entry in a push/pull; `other` fields as given."""
        made = PushNodeState(self.name, self.at.ip.packed, self.at.port, meta, incarnation, state)
        return replace(made, **other)

    # --- its threads

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                data, (host, port) = self._udp.recvfrom(65536)[:2]
                opened = open_packet(data, self.ring)
            except (TimeoutError, ConnectionRefusedError, WireError):
                continue
            source = Endpoint(ip_address(host), port)
            self.layers.update(opened.layers)
            for message in opened.messages:
                self.heard.append((source, message))
                if isinstance(message, Ping) and self.acks and message.node in ("", self.name):
                    self.tell(source, Ack(message.seq_no))

    def _serve(self) -> None:
        while not self._closed.is_set():
            try:
                stream, _ = self._tcp.accept()
            except TimeoutError:
                continue
            with stream:
                stream.settimeout(5)
                try:
                    self._serve_one(stream)
                except (OSError, WireError):
                    continue

    def _serve_one(self, stream: socket.socket) -> None:
        reader = StreamReader(self.ring)
        message: StreamMessage | None = None
        while message is None:
            received = stream.recv(1 << 16)
            if not received:
                return
            message = reader.feed(received)
        self.exchanges.append(message)
        if isinstance(message, PushPull) and self.answer is not None:
            stream.sendall(seal_stream(encode(self.answer), self.ring, os.urandom(12), compress=False))
