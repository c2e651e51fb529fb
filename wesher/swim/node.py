"""A node: datagrams, stream bytes and the passing of time go in; actions, events and the next deadline come out.

It holds no socket, clock or die: `now` is an argument (seconds, monotonic), `rng` chooses peers, `nonce` seals
packets. The same seed and the same input give the same bytes. Whoever drives it calls one of the verbs, then drains
`actions()` and `events()`, then waits until `get_timer()` or the next input.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Final

from wesher.swim.awareness import Awareness
from wesher.swim.broadcast import BroadcastQueue
from wesher.swim.config import SwimConfig, push_pull_interval, retransmit_limit
from wesher.swim.event import Ahead, Conflict, Event, Exchanged, Gone, Joined, LeaveFinished, Suspected, Updated
from wesher.swim.exchanges import Exchange, Exchanges, Purpose
from wesher.swim.io import (
    Action,
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
    from_wire,
)
from wesher.swim.member import Member
from wesher.swim.members import CLOCK_HEADROOM, Members, Ruling, is_ahead, rule_alive, rule_dead, rule_suspect
from wesher.swim.probe import Probe, Relay
from wesher.swim.push_pull import everything, news, speaks_our_protocol
from wesher.swim.suspicion import Suspicion
from wesher.wire.codec import encode
from wesher.wire.errors import WireError
from wesher.wire.keyring import Keyring
from wesher.wire.limits import COMPOUND_HEADER, COMPOUND_PART, SEAL_OVERHEAD, UDP_BUFFER_SIZE
from wesher.wire.messages import (
    Ack,
    Alive,
    Dead,
    ErrorReply,
    IndirectPing,
    Message,
    Nack,
    NodeState,
    Ping,
    PushPull,
    StreamMessage,
    Suspect,
    UserMessage,
)
from wesher.wire.packet import open_packet, seal_packet
from wesher.wire.stream import seal_stream

if TYPE_CHECKING:
    from random import Random

MAX_ASKED: Final = 4
"""Pings answered of one packet: each costs a packet and a look through the news, and nobody sends more than one."""

MAX_RELAYS: Final = 128
"""Pings under way on others' behalf."""

_WRAP: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is: `addr` is announced byte for byte (4 or 16 bytes), for its whole life."""

    name: str
    addr: bytes
    port: int


class Node:
    """One member of the cluster, seen from inside."""

    def __init__(
        self,
        config: SwimConfig,
        keyring: Keyring,
        identity: Identity,
        *,
        meta: bytes,
        incarnation: int,
        now: float,
        seconds_since_2020: int,
        rng: Random,
        nonce: Callable[[], bytes],
    ) -> None:
        self.config = config
        self.keyring = keyring
        self.identity = identity
        self.counters: Counter[str] = Counter()
        """What was dropped, by reason."""
        self.round_trips: dict[str, float] = {}
        """Seconds a member's last direct ack took, by name."""
        self._nonce = nonce
        self._calendar = seconds_since_2020 - now
        self._members = Members(rng)
        self._awareness = Awareness(config.awareness_max_multiplier)
        self._broadcasts = BroadcastQueue()
        self._suspicions: dict[str, Suspicion] = {}
        self._probe: Probe | None = None
        self._relays: dict[int, Relay] = {}
        self._exchanges = Exchanges(config, keyring)
        self._actions: list[Action] = []
        self._events: list[Event] = []
        self._seq_no = 0
        self._leaving_until: float | None = None
        self._has_left = False
        # memberlist staggers its tickers so that nodes started together do not act together.
        self._gossip_at = now + rng.uniform(0, config.gossip_interval)
        self._probe_at = now + rng.uniform(0, config.probe_interval)
        self._push_pull_at = now + rng.uniform(config.push_pull_interval, 2 * config.push_pull_interval)
        self._announce(Alive(incarnation, identity.name, identity.addr, identity.port, meta), now)

    # --- what comes out

    def actions(self) -> list[Action]:
        """What is to be done on the network, in order; empties the list."""
        actions, self._actions = self._actions, []
        return actions

    def events(self) -> list[Event]:
        """What has happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def get_timer(self) -> float:
        """When `handle_timer` wants to be called next."""
        probe = self._probe
        return min(
            self._gossip_at,
            self._probe_at,
            self._push_pull_at,
            inf if probe is None else min(probe.relays_at, probe.deadline),
            inf if self._leaving_until is None or self._has_left else self._leaving_until,
            *(suspicion.deadline for suspicion in self._suspicions.values()),
            *(relay.deadline for relay in self._relays.values()),
            self._exchanges.deadline,
        )

    def members(self) -> list[Member]:
        """Everybody known, this node included."""
        return list(self._members)

    @property
    def me(self) -> Member:
        """This node's own record."""
        member = self._members.get(self.identity.name)
        assert member is not None  # noqa: S101 - put there at birth and never reaped
        return member

    @property
    def health_score(self) -> int:
        """0 is well; see awareness."""
        return self._awareness.score

    # --- commands

    def join(self, contacts: Iterable[Endpoint], now: float) -> None:
        """Exchange everything with each of `contacts`; each answers with an Exchanged event."""
        for contact in contacts:
            self._dial(Purpose.JOIN, contact, now)

    def update_meta(self, meta: bytes, now: float) -> None:
        """Announce new metadata; no longer while leaving, since an alive would take the leave back."""
        if self._leaving_until is not None:
            return
        self._announce(replace(self.me, meta=meta, incarnation=self._next_incarnation()).as_alive(), now)

    def set_calendar(self, seconds_since_2020: int, now: float) -> None:
        """What the calendar shows; say it again whenever it may have been set."""
        self._calendar = seconds_since_2020 - now
        # A day more than what is believed: a refutation at the very edge is only a second ahead of its time.
        if is_ahead(self.me.incarnation - CLOCK_HEADROOM, seconds_since_2020) and self._leaving_until is None:
            # Driven up while our clock was not set, to where those whose clock is do not hear us: begin again.
            self._announce(replace(self.me, incarnation=seconds_since_2020).as_alive(), now)

    def leave(self, now: float) -> None:
        """Tell everybody that we leave; LeaveFinished follows. There is no way back for this instance."""
        if self._leaving_until is not None:
            return
        self._leaving_until = now + self.config.leave_timeout
        self._take_dead(Dead(self.me.incarnation, self.identity.name, self.identity.name), now)
        self._gossip_at = now
        self._check_leave(now)

    # --- what comes in

    def receive_datagram(self, data: bytes, source: Endpoint, now: float) -> None:
        """One packet. What is wrong with it is counted, never raised."""
        try:
            packet = open_packet(data, self.keyring)
        except WireError as error:
            self.counters[error.code] += 1
            return
        self.counters.update(error.code for error in packet.damage)
        asked = 0
        for message in packet.messages:
            asked += isinstance(message, (Ping, IndirectPing))
            if asked <= MAX_ASKED or not isinstance(message, (Ping, IndirectPing)):
                self._receive(message, source, now)
            else:
                self.counters["too many pings"] += 1

    def receive_stream(self, event: StreamInput, now: float) -> None:
        """Something about a stream: of ours, or newly accepted."""
        match event:
            case StreamAccepted(stream):
                self._accept(stream, now)
            case StreamConnected(stream) if stream in self._exchanges:
                self._begin(stream, self._exchanges[stream], now)
            case StreamData(stream, data) if stream in self._exchanges:
                self._receive_stream_data(stream, data, now)
            case StreamEnded(stream, reason) if stream in self._exchanges:
                self._finish(stream, reason or "closed before the exchange was over")
            case StreamConnected(stream):
                self._actions.append(CloseStream(stream))  # it came too late
            case _:
                pass  # of a stream that is over on our side

    def handle_timer(self, now: float) -> None:
        """Do what is due. Calling it early does no harm."""
        self._expire_streams(now)
        self._expire_relays(now)
        self._continue_probe(now)
        self._expire_suspicions(now)  # after the probe, whose verdict may be the confirmation that ends one
        if now >= self._gossip_at:
            self._gossip_at = now + self.config.gossip_interval
            self._gossip(now)
        if now >= self._probe_at:
            self._probe_at = now + self.config.probe_interval
            self._start_probe(now)
        if now >= self._push_pull_at:
            self._push_pull_at = now + push_pull_interval(self.config.push_pull_interval, len(self._members))
            self._sync(now)
        self._check_leave(now)

    # --- news

    def _receive(self, message: Message, source: Endpoint, now: float) -> None:
        match message:
            case Alive():
                self._take_alive(replace(message, port=message.port or self.identity.port), now)
            case Suspect():
                self._take_suspect(message, now)
            case Dead():
                self._take_dead(message, now)
            case Ping():
                self._answer_ping(message, source)
            case IndirectPing():
                self._relay_ping(message, source, now)
            case Ack(seq_no):
                self._take_ack(seq_no, now)
            case Nack(seq_no):
                if self._probe is not None and self._probe.seq_no == seq_no:
                    self._probe.nacks += 1
            case _:
                self.counters["user message"] += 1

    def _take_alive(self, message: Alive, now: float) -> None:
        name = message.node
        if not speaks_our_protocol(message.vsn):
            self.counters["protocol version"] += 1
            return
        held = self._members.get(name)
        is_self = name == self.identity.name
        leaving = self._leaving_until is not None
        today = self._seconds_since_2020(now)
        if is_ahead(message.incarnation, today):
            self.counters["incarnation ahead of the clock"] += 1
            self._events.append(Ahead(name))
            return
        match rule_alive(held, message, is_self=is_self, leaving=leaving, seconds_since_2020=today):
            case Ruling.CONFLICT:
                assert held is not None  # noqa: S101 - nobody conflicts with an unknown name
                self._events.append(Conflict(held, from_wire(message.addr, message.port)))
            case Ruling.REFUTE:
                self._refute(message.incarnation, now)
            case Ruling.ACCEPT if held is None and len(self._members) >= self.config.max_members:
                self.counters["too many members"] += 1
            case Ruling.ACCEPT:
                self._accept_alive(message, held, now)
            case _:
                pass

    def _accept_alive(self, message: Alive, held: Member | None, now: float) -> None:
        self._suspicions.pop(message.node, None)
        since = held.since if held is not None and held.state is NodeState.ALIVE else now
        member = Member.from_alive(message, since)
        self._members.put(member)
        self._broadcasts.queue(message.node, encode(message))
        if held is None or not held.is_live:
            self._events.append(Joined(member))
        elif (held.meta, held.addr, held.port, held.state) != (member.meta, member.addr, member.port, member.state):
            self._events.append(Updated(member))

    def _take_suspect(self, message: Suspect, now: float) -> None:
        held = self._members.get(message.node)
        is_self = message.node == self.identity.name
        match rule_suspect(held, message, is_self=is_self, seconds_since_2020=self._seconds_since_2020(now)):
            case Ruling.CONFIRM:
                if self._suspicions[message.node].confirm(message.accuser):
                    self._broadcasts.queue(message.node, encode(message))
            case Ruling.REFUTE:
                self._refute(message.incarnation, now)
            case Ruling.ACCEPT:
                assert held is not None  # noqa: S101 - the table
                suspect = replace(held, incarnation=message.incarnation, state=NodeState.SUSPECT, since=now)
                self._members.put(suspect)
                self._suspicions[message.node] = Suspicion(self.config, len(self._members), message.accuser, now)
                self._broadcasts.queue(message.node, encode(message))
                self._events.append(Suspected(suspect))
            case _:
                pass

    def _take_dead(self, message: Dead, now: float) -> None:
        held = self._members.get(message.node)
        is_self = message.node == self.identity.name
        leaving = self._leaving_until is not None
        today = self._seconds_since_2020(now)
        match rule_dead(held, message, is_self=is_self, leaving=leaving, seconds_since_2020=today):
            case Ruling.REFUTE:
                self._refute(message.incarnation, now)
            case Ruling.ACCEPT:
                assert held is not None  # noqa: S101 - the table
                self._suspicions.pop(message.node, None)
                state = NodeState.LEFT if message.node == message.accuser else NodeState.DEAD
                gone = replace(held, incarnation=message.incarnation, state=state, since=now)
                self._members.put(gone)
                self._broadcasts.queue(message.node, encode(message))
                if not is_self:
                    self._events.append(Gone(gone))
            case _:
                pass

    def _refute(self, accused: int, now: float) -> None:
        """Outbid whatever was said about us. Being accused hints that we are slow to answer."""
        self._awareness.apply(1)
        incarnation = max(self._next_incarnation(), (accused + 1) % _WRAP)
        self._announce(replace(self.me, incarnation=incarnation).as_alive(), now)

    def _announce(self, message: Alive, now: float) -> None:
        self._members.put(Member.from_alive(message, now))
        self._broadcasts.queue(message.node, encode(message))

    def _next_incarnation(self) -> int:
        return (self.me.incarnation + 1) % _WRAP

    def _seconds_since_2020(self, now: float) -> int:
        return int(self._calendar + now)

    # --- gossip

    def _gossip(self, now: float) -> None:
        recently = now - self.config.gossip_to_the_dead
        listeners = (
            member
            for member in self._others()
            if member.is_live or (member.state is NodeState.DEAD and member.since >= recently)
        )
        for member in self._members.sample(self.config.gossip_nodes, listeners):
            parts = self._broadcasts.take(UDP_BUFFER_SIZE - SEAL_OVERHEAD - COMPOUND_HEADER, self._retransmit_limit())
            if not parts:
                return
            self._send_packet(member.endpoint, parts)

    def _others(self) -> Iterator[Member]:
        return (member for member in self._members if member.name != self.identity.name)

    def _retransmit_limit(self) -> int:
        return retransmit_limit(self.config.retransmit_mult, len(self._members))

    def _send(self, to: Endpoint, message: Message) -> None:
        """Send one message, and as much news as fits beside it."""
        data = encode(message)
        room = UDP_BUFFER_SIZE - SEAL_OVERHEAD - COMPOUND_HEADER - COMPOUND_PART - len(data)
        self._send_packet(to, [data, *self._broadcasts.take(room, self._retransmit_limit())])

    def _send_packet(self, to: Endpoint, parts: Sequence[bytes]) -> None:
        self._actions.append(SendDatagram(to, seal_packet(parts, self.keyring, self._nonce())))

    def _check_leave(self, now: float) -> None:
        """A leave is over when it has been told to its limit, when nobody is left to tell, or when its time is up."""
        if self._leaving_until is None or self._has_left:
            return
        told = self.identity.name not in self._broadcasts
        if told or now >= self._leaving_until or not any(member.is_live for member in self._others()):
            self._has_left = True
            self._events.append(LeaveFinished())

    # --- probing others

    def _start_probe(self, now: float) -> None:
        if self._probe is not None or self._has_left:
            return
        member, wrapped = self._members.next_probe(self.identity.name)
        if wrapped:
            for forgotten in self._members.reap(now - self.config.gossip_to_the_dead):
                self.round_trips.pop(forgotten.name, None)
                self._broadcasts.drop(forgotten.name)
        if member is None:
            return
        deadline = now + self._awareness.scale(self.config.probe_interval)
        seq_no = self._next_seq_no()
        self._probe = Probe(member.name, member.incarnation, seq_no, now + self.config.probe_timeout, deadline, now)
        ping = self._ping(seq_no, member.name)
        if member.state is NodeState.SUSPECT:
            # Both in one packet: the member learns that it is suspected even if it hears nothing else.
            suspicion = Suspect(member.incarnation, member.name, self.identity.name)
            self._send_packet(member.endpoint, [encode(ping), encode(suspicion)])
        else:
            self._send(member.endpoint, ping)

    def _continue_probe(self, now: float) -> None:
        probe = self._probe
        if probe is None:
            return
        if now >= probe.deadline:  # first: after a long sleep it is too late for relays
            self._probe = None
            self._awareness.apply(probe.failure_cost())
            self._take_suspect(Suspect(probe.incarnation, probe.name, self.identity.name), now)
        elif now >= probe.relays_at:
            probe.relays_at = inf
            self._ask_relays(probe, now)

    def _ask_relays(self, probe: Probe, now: float) -> None:
        target = self._members.get(probe.name)
        if target is None:
            return
        relays = (m for m in self._others() if m.state is NodeState.ALIVE and m.name != probe.name)
        for relay in self._members.sample(self.config.indirect_checks, relays):
            nack = relay.vsn[1] >= 4  # PMax: older ones know no nack
            probe.expected_nacks += nack
            request = IndirectPing(probe.seq_no, target.addr, target.port, target.name, nack, *self._source())
            self._send(relay.endpoint, request)
        if target.vsn[1] >= 3:
            self._dial(Purpose.PING, target.endpoint, now, probe)

    def _take_ack(self, seq_no: int, now: float) -> None:
        probe = self._probe
        if probe is not None and probe.seq_no == seq_no:
            if probe.relays_at < inf:
                self.round_trips[probe.name] = now - probe.sent_at
            self._probe = None
            self._awareness.apply(-1)
        relay = self._relays.pop(seq_no, None)
        if relay is not None and now < relay.deadline:
            self._send(relay.requester, Ack(relay.seq_no))

    def _expire_suspicions(self, now: float) -> None:
        due = [name for name, suspicion in self._suspicions.items() if now >= suspicion.deadline]
        for name in due:
            member = self._members.get(name)
            if member is not None:
                self._take_dead(Dead(member.incarnation, name, self.identity.name), now)

    # --- being probed

    def _answer_ping(self, ping: Ping, source: Endpoint) -> None:
        if ping.node and ping.node != self.identity.name:
            self.counters["ping for another"] += 1
            return
        self._send(self._requester(ping, source), Ack(ping.seq_no))

    def _relay_ping(self, request: IndirectPing, source: Endpoint, now: float) -> None:
        """Ping a member for another one; never a stranger, or we would send packets wherever an insider wants."""
        target = self._members.get(request.node)
        port = request.port or self.identity.port
        if target is None or from_wire(request.target, port) != target.endpoint or len(self._relays) >= MAX_RELAYS:
            self.counters["relay refused"] += 1
            return
        seq_no = self._next_seq_no()
        deadline = now + self.config.probe_timeout
        self._relays[seq_no] = Relay(self._requester(request, source), request.seq_no, request.nack, deadline)
        self._send(target.endpoint, self._ping(seq_no, target.name))

    def _requester(self, request: Ping | IndirectPing, source: Endpoint) -> Endpoint:
        """Where an answer goes: the source fields, if they name a member or the sender; else back."""
        if not request.source_addr or not request.source_port:
            return source
        claimed = from_wire(request.source_addr, request.source_port)
        known = self._members.get(request.source_node)
        return claimed if claimed.ip == source.ip or (known is not None and known.endpoint == claimed) else source

    def _expire_relays(self, now: float) -> None:
        for seq_no in [seq_no for seq_no, relay in self._relays.items() if now >= relay.deadline]:
            relay = self._relays.pop(seq_no)
            if relay.nack:
                self._send(relay.requester, Nack(relay.seq_no))

    def _ping(self, seq_no: int, name: str) -> Ping:
        return Ping(seq_no, name, *self._source())

    def _source(self) -> tuple[bytes, int, str]:
        return self.identity.addr, self.identity.port, self.identity.name

    def _next_seq_no(self) -> int:
        self._seq_no = (self._seq_no + 1) % _WRAP
        return self._seq_no

    # --- streams

    def _sync(self, now: float) -> None:
        alive = (member for member in self._others() if member.state is NodeState.ALIVE)
        for member in self._members.sample(1, alive):
            self._dial(Purpose.SYNC, member.endpoint, now)

    def _dial(self, purpose: Purpose, to: Endpoint, now: float, probe: Probe | None = None) -> None:
        stream = self._exchanges.dial(purpose, to, now, probe)
        if stream is not None:
            self._actions.append(Connect(stream, to))
            return
        self.counters["too many streams"] += 1
        if purpose is not Purpose.PING:
            self._events.append(Exchanged(to, purpose is Purpose.JOIN, "too many streams"))

    def _accept(self, stream: int, now: float) -> None:
        displaced = self._exchanges.accept(stream, now)
        if displaced is not None:
            self.counters["too many streams"] += 1
            self._finish(displaced, "")

    def _begin(self, stream: int, exchange: Exchange, now: float) -> None:
        if exchange.probe is not None:
            self._send_stream(stream, self._ping(exchange.probe.seq_no, exchange.probe.name))
        else:
            exchange.deadline = now + self.config.stream_timeout
            self._send_stream(stream, everything(self._members, join=exchange.purpose is Purpose.JOIN))

    def _receive_stream_data(self, stream: int, data: bytes, now: float) -> None:
        exchange = self._exchanges[stream]
        try:
            message = exchange.reader.feed(data)
        except WireError as error:
            self.counters[error.code] += 1
            if exchange.purpose is Purpose.SERVE:
                # A fixed text: what exactly was wrong is nobody's business who cannot speak to us.
                self._send_stream(stream, ErrorReply("message could not be read"))
            self._finish(stream, f"answer could not be read: {error}")
            return
        if message is None:
            largest = self._exchanges.overfull()
            if largest is not None:
                self.counters["too much buffered"] += 1
                self._finish(largest, "")
            return
        if exchange.purpose is Purpose.SERVE:
            self._serve(stream, message, now)
            self._finish(stream, "")
        else:
            self._finish(stream, self._take_answer(exchange, message, now))

    def _serve(self, stream: int, message: StreamMessage, now: float) -> None:
        match message:
            case Ping(seq_no, node):
                if node in ("", self.identity.name):
                    self._send_stream(stream, Ack(seq_no))
            case PushPull():
                # The reply comes before the merge, as memberlist's does: it tells what we knew, not what we just heard.
                self._send_stream(stream, everything(self._members, join=message.join))
                self._merge(message, now)
            case UserMessage() | ErrorReply() | Ack():
                self.counters["unexpected stream message"] += 1

    def _take_answer(self, exchange: Exchange, message: StreamMessage, now: float) -> str:
        """Use the answer to what we dialled for; returns what was wrong with it."""
        match exchange.purpose, message:
            case Purpose.PING, Ack(seq_no):
                if exchange.probe is not None and seq_no == exchange.probe.seq_no:
                    self.counters["reached over TCP only"] += 1
                    self._take_ack(seq_no, now)
                return ""
            case ((Purpose.JOIN | Purpose.SYNC), PushPull()):
                self._merge(message, now)
                return ""
            case _, ErrorReply(error):
                return f"refused by the other side: {error!a}"
            case _:
                return "an unexpected message came back"

    def _merge(self, exchange: PushPull, now: float) -> None:
        self.counters.update(error.code for error in exchange.rejected)
        for message in news(exchange, self.identity.name, self.identity.port):
            match message:
                case Alive():
                    self._take_alive(message, now)
                case Suspect():
                    self._take_suspect(message, now)
                case Dead():
                    self._take_dead(message, now)

    def _send_stream(self, stream: int, message: StreamMessage) -> None:
        # Never compressed: it is optional, and in Python a full exchange would take ten times as long to make.
        data = seal_stream(encode(message), self.keyring, self._nonce(), compress=False)
        self._actions.append(SendStream(stream, data))

    def _finish(self, stream: int, failure: str) -> None:
        exchange = self._exchanges.pop(stream)
        self._actions.append(CloseStream(stream))
        if exchange.with_whom is not None and exchange.purpose is not Purpose.PING:
            self._events.append(Exchanged(exchange.with_whom, exchange.purpose is Purpose.JOIN, failure))

    def _expire_streams(self, now: float) -> None:
        for stream in self._exchanges.expired(now):
            self._finish(stream, "no answer in time")
