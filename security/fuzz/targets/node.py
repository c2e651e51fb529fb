"""A whole node: a tape of datagrams, streams and waits, from strangers and from insiders.

Bytes alone rarely make a message that means anything to the node, so some choices make one: news of a few names, and
answers to what the node has asked.

Promises: nothing is raised; time moves on; the table, the queues and the packets stay within their bounds; the node
remains itself, and its own incarnation never falls; what it sends, another node reads without damage.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import count
from random import Random
from typing import Final

from security.fuzz.tape import Tape
from security.fuzz.targets.packet import RING
from wesher.swim.config import PROFILES, SwimConfig
from wesher.swim.io import (
    Connect,
    Endpoint,
    SendDatagram,
    SendStream,
    StreamAccepted,
    StreamConnected,
    StreamData,
    StreamEnded,
)
from wesher.swim.member import Identity
from wesher.swim.node import Node
from wesher.wire.codec import encode
from wesher.wire.limits import UDP_BUFFER_SIZE
from wesher.wire.messages import (
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Message,
    Nack,
    NodeState,
    Ping,
    PushNodeState,
    PushPull,
    Suspect,
)
from wesher.wire.packet import open_packet
from wesher.wire.stream import StreamReader
from wesher.wire.words import Handshake

HERE: Final = Endpoint(IPv4Address("10.0.0.1"), 7946)
STRANGER: Final = Endpoint(IPv4Address("192.0.2.9"), 5555)
NAMES: Final = ("a", "b", "c", "d", "e")
"""The node is `a`, at place 1."""

_START: Final = 1000.0
_TODAY: Final = 200_000_000
_STEPS: Final = 200
_MEMBERS: Final = 4
_COUNTERS: Final = 64
_NONCE: Final = bytes(12)


def check(data: bytes) -> None:
    """One life."""
    tape = Tape(data)
    life = Life(tape.number())
    for _ in range(_STEPS):
        if not tape:
            break
        life.step(tape)
        life.look()
    life.wait(0.0)


class Life:
    """The node, its clock, and what it has asked."""

    def __init__(self, seed: int) -> None:
        numbers = count()
        self.node = Node(
            replace(SwimConfig.profile(PROFILES[seed % 3]), max_members=_MEMBERS),
            RING,
            Identity("a", HERE.ip.packed, HERE.port),
            meta=b"meta",
            incarnation=1,
            now=_START,
            seconds_since_2020=_TODAY,
            rng=Random(seed),
            nonce=lambda: next(numbers).to_bytes(12, "big"),
        )
        self.now = _START
        self._incarnation = 1
        self._asked: deque[int] = deque([0], maxlen=16)
        self._dialled: deque[int] = deque([2], maxlen=16)

    def step(self, tape: Tape) -> None:
        """One choice."""
        match tape.number() % 14:
            case 0:
                self.node.receive_datagram(tape.text(), STRANGER, self.now)
            case 1 | 2:
                self._insider(tape.text(), _place(tape))
            case 3 | 4 | 5:
                self._insider(encode(self._message(tape)), _place(tape))
            case 6:
                self.wait(tape.number() / 50)
            case 7:
                self.node.receive_stream(StreamAccepted(tape.number() | 1), self.now)
            case 8:
                self.node.receive_stream(StreamData(self._stream(tape), tape.text()), self.now)
            case 9:
                self._say(self._stream(tape), tape.text())
            case 10:
                self._say(self._stream(tape), encode(_exchange(tape)))
            case 11:
                self.node.receive_stream(StreamEnded(self._stream(tape), "broke"), self.now)
            case 12:
                self.node.receive_stream(StreamConnected(self._stream(tape)), self.now)
            case 13:
                self._command(tape)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.node.handle_timer(self.now)
        assert self.node.get_timer() > self.now

    def look(self) -> None:
        """At what the node is and says."""
        members = self.node.members()
        assert len({member.name for member in members}) == len(members) <= _MEMBERS
        assert self.node.me.endpoint == HERE
        assert self.node.me.state in {NodeState.ALIVE, NodeState.LEFT}
        assert self.node.me.incarnation >= self._incarnation, "its own incarnation fell"
        self._incarnation = self.node.me.incarnation
        assert 0 <= self.node.health_score < 8
        assert {*self.node.round_trips, *self.node.missed_pings} <= {member.name for member in members}
        assert len(self.node.counters) < _COUNTERS, "counters that strangers name"
        self.node.events()
        for action in self.node.actions():
            match action:
                case SendDatagram(_, data):
                    self._hear(data)
                case SendStream(_, data):
                    assert StreamReader(RING).feed(data) is not None
                case Connect(stream, _):
                    self._dialled.append(stream)

    def _hear(self, datagram: bytes) -> None:
        assert len(datagram) <= UDP_BUFFER_SIZE
        opened = open_packet(datagram, RING)
        assert not opened.damage
        self._asked += [message.seq_no for message in opened.messages if isinstance(message, Ping | IndirectPing)]

    def _insider(self, plain: bytes, source: Endpoint) -> None:
        self.node.receive_datagram(RING.seal(plain, b"", _NONCE), source, self.now)

    def _say(self, stream: int, plain: bytes) -> None:
        header = b"\x0a" + (len(plain) + 29).to_bytes(4, "big")
        self.node.receive_stream(StreamData(stream, header + RING.seal(plain, header, _NONCE)), self.now)

    def _stream(self, tape: Tape) -> int:
        """One that strangers may have opened, or one that the node has dialled."""
        number = tape.number()
        return number if number % 2 else self._dialled[number // 2 % len(self._dialled)]

    def _message(self, tape: Tape) -> Message:
        kind, name, incarnation, number = tape.number() % 8, _name(tape), tape.number(), tape.number()
        match kind:
            case 0 | 1:
                return Alive(incarnation, name, _place(tape).ip.packed, HERE.port, bytes([number % 4]))
            case 2:
                return Suspect(incarnation, name, NAMES[number % 5])
            case 3:
                return Dead(incarnation, name, NAMES[number % 5])
            case 4:
                return Ping(number, name)
            case 5:
                return IndirectPing(number, _place(tape).ip.packed, HERE.port, name, number % 2 == 0)
            case 6:
                return Ack(self._asked[number % len(self._asked)])
            case _:
                return Nack(self._asked[number % len(self._asked)])

    def _command(self, tape: Tape) -> None:
        match tape.number() % 5:
            case 0:
                self.node.update_meta(tape.text()[:512], self.now)
            case 1:
                self.node.leave(self.now)
            case 2:
                self.node.set_calendar(_TODAY + tape.number(2) * 100, self.now)
            case 3:
                self.node.join([_place(tape)], self.now)
            case _ if tape.number() % 2:
                self.node.look(_place(tape), self.now)
            case _:
                self.node.tell_tunnels([Handshake(_name(tape), tape.number())])


def _name(tape: Tape) -> str:
    return NAMES[tape.number() % len(NAMES)]


def _place(tape: Tape) -> Endpoint:
    return Endpoint(IPv4Address((10 << 24) + 1 + tape.number() % 5), HERE.port)


def _exchange(tape: Tape) -> PushPull:
    nodes = [
        PushNodeState(
            _name(tape), _place(tape).ip.packed, HERE.port, tape.take(1), tape.number(), NodeState(tape.number() % 4)
        )
        for _ in range(tape.number() % 4)
    ]
    return PushPull(tape.number() % 2 == 0, tuple(nodes))
