"""A node: datagrams, stream bytes and the passing of time go in; actions, events and the next deadline come out.

It holds no socket, clock or die: `now` is an argument (seconds, monotonic), `rng` chooses peers, `nonce` seals
packets. The same seed and the same input give the same bytes. Whoever drives it calls one of the verbs, then drains
`actions()` and `events()`, then waits until `get_timer()` or the next input.

    membership   what is believed of everybody: news in, rulings, events
    probing      who answers: our probes, and help with others'
    streams      full exchanges and stream pings
    outbox       what is said: packets with the news that rides along

Here is what ties them together: which input goes where, and what is due when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from wesher.swim.config import SwimConfig, push_pull_interval
from wesher.swim.event import Event, KeyHeard, LeaveFinished
from wesher.swim.exchanges import Exchanges
from wesher.swim.forgetting import Forgetting
from wesher.swim.io import Action, Endpoint, StreamInput
from wesher.swim.leaving import Leaving
from wesher.swim.member import Identity, Member
from wesher.swim.members import Members
from wesher.swim.membership import Membership
from wesher.swim.outbox import Outbox
from wesher.swim.probe import ProbeStep, StreamPing
from wesher.swim.probing import Probing
from wesher.swim.push_pull import news
from wesher.swim.streams import StreamResult, Streams
from wesher.wire.errors import WireError
from wesher.wire.keyring import Keyring
from wesher.wire.limits import MAX_WORDS
from wesher.wire.messages import (
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Message,
    Nack,
    NodeState,
    Ping,
    PushPull,
    Suspect,
    UserMessage,
)
from wesher.wire.packet import open_packet
from wesher.wire.words import AskHandshakes, Forget, Handshake, Handshakes, KeyRecord, Unknown, are_words, decode_words

if TYPE_CHECKING:
    from random import Random

__all__ = ["Identity", "Node"]

MAX_ASKED: Final = 4
"""Pings answered of one packet: each costs a packet and a look through the news, and nobody sends more than one."""


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
        self._events: list[Event] = []
        self._members = Members(rng)
        self._outbox = Outbox(config, keyring, nonce, self._members)
        self._probing = Probing(config, identity, self._members, self._outbox, self.counters, rng)
        self._exchanges = Exchanges(config, keyring)
        forgetting = Forgetting()
        self._streams = Streams(
            config, identity, self._members, self._outbox, self._exchanges, forgetting, self.counters
        )
        self._membership = Membership(
            config, identity, self._members, self._outbox, self._probing, forgetting, self.counters, self._events
        )
        self._leaving = Leaving(config.leave_timeout)
        # memberlist staggers its tickers so that nodes started together do not act together.
        self._gossip_at = now + rng.uniform(0, config.gossip_interval)
        self._probe_at = now + rng.uniform(0, config.probe_interval)
        self._push_pull_at = now + rng.uniform(config.push_pull_interval, 2 * config.push_pull_interval)
        self._membership.set_calendar(seconds_since_2020, now)
        self._membership.enter(meta, incarnation, now)

    # --- what comes out

    def actions(self) -> list[Action]:
        """What is to be done on the network, in order; empties the list."""
        return self._outbox.drain()

    def events(self) -> list[Event]:
        """What has happened since the last call, in order."""
        events = list(self._events)
        self._events.clear()
        return events

    def get_timer(self) -> float:
        """When `handle_timer` wants to be called next."""
        return min(
            self._gossip_at,
            self._probe_at,
            self._push_pull_at,
            self._probing.deadline,
            self._membership.deadline,
            self._streams.deadline,
            self._leaving.deadline,
        )

    def members(self) -> list[Member]:
        """Everybody known, this node included."""
        return list(self._members)

    @property
    def me(self) -> Member:
        """This node's own record."""
        return self._membership.me

    def is_claimed(self, name: str) -> bool:
        """Whether somebody who has gone is announced elsewhere, and whether that counts is being looked into."""
        return self._membership.is_claimed(name)

    @property
    def health_score(self) -> int:
        """0 is well; see awareness."""
        return self._probing.awareness.score

    @property
    def round_trips(self) -> dict[str, float]:
        """Seconds a member's last direct ack took, by name."""
        return self._probing.round_trips

    @property
    def missed_pings(self) -> Counter[str]:
        """Pings in a row that a member who lives has not answered itself over UDP, by name."""
        return self._probing.missed_pings

    # --- commands

    def join(self, contacts: Iterable[Endpoint], now: float, under: bytes | None = None) -> None:
        """Exchange everything with each of `contacts`; each answers with an Exchanged event.

        It goes under the primary key, or `under` another for who may have been away while keys changed.
        """
        for contact in contacts:
            self._use(self._streams.exchange(contact, now, join=True, under=under), now)

    def hold_keys(self, keys: Sequence[bytes], records: Iterable[KeyRecord]) -> None:
        """Seal with the first of `keys`, open with all of them, and tell everybody of `records`."""
        self.keyring.hold(keys)
        known, self._streams.key_records = set(self._streams.key_records), tuple(records)
        told = set(self._streams.key_records)
        for record in known - told:
            self._outbox.drop_word(record)
        for record in self._streams.key_records:
            if record not in known:
                self._outbox.spread_word(record)

    def look(self, at: Endpoint, now: float) -> None:
        """Ask what is seen there, and tell and take over nothing; a Viewed event answers."""
        self._use(self._streams.look(at, now), now)

    def tell_tunnels(self, tunnels: Sequence[Handshake]) -> None:
        """What was wanted by a TunnelsWanted event: our tunnels, for whoever waits to hear of them."""
        self._streams.tell_tunnels(tunnels)

    def update_meta(self, meta: bytes, now: float) -> None:  # noqa: ARG002 - a verb like the others
        """Announce new metadata; no longer while leaving, since an alive would take the leave back."""
        if not self._leaving.has_begun:
            self._membership.update_meta(meta)

    def set_calendar(self, seconds_since_2020: int, now: float) -> None:
        """What the calendar shows; say it again whenever it may have been set."""
        self._membership.set_calendar(seconds_since_2020, now)
        if not self._leaving.has_begun:
            self._membership.begin_again(now)

    def leave(self, now: float) -> None:
        """Tell everybody that we leave; LeaveFinished follows. There is no way back for this instance."""
        if self._leaving.begin(now):
            self._membership.leave(now)
            self._gossip_at = now
            self._check_leave(now)

    def move(self, addr: bytes, now: float, *, confidants: Collection[str] = ()) -> None:
        """This host has another address instead of the announced one: 4 or 16 bytes. No longer while leaving.

        `confidants` are the names of those who are not Go nodes (see relocation).
        """
        if not self._leaving.has_begun and addr != self.identity.addr:
            self._membership.move(addr, confidants, now)

    def forget(self, name: str, now: float) -> None:
        """Have every node drop a member that is not alive; Forgotten follows. One that lives comes back by itself."""
        self._membership.forget(name, now)

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
        self._use(self._streams.receive(event, now), now)

    def handle_timer(self, now: float) -> None:
        """Do what is due, once: ticks that were missed are not made up for. Calling it early does no harm."""
        self._use(self._streams.expire(now), now)
        self._probing.expire_relays(now)
        self._follow(self._probing.advance(now), now)
        self._membership.expire(now)  # after the probes, whose verdict may be the confirmation that ends a suspicion
        if now >= self._gossip_at:
            self._gossip_at = now + self.config.gossip_interval
            self._gossip(now)
        if now >= self._probe_at:
            self._probe_at = now + self.config.probe_interval
            self._probe(now)
        if now >= self._push_pull_at:
            self._push_pull_at = now + push_pull_interval(self.config.push_pull_interval, len(self._members))
            self._sync(now)
        self._check_leave(now)

    # --- where it goes

    def _receive(self, message: Message, source: Endpoint, now: float) -> None:
        match message:
            case Alive():
                self._membership.hear(replace(message, port=message.port or self.identity.port), now)
            case Suspect() | Dead():
                self._membership.hear(message, now)
            case Ping():
                self._probing.answer(message, source)
            case IndirectPing():
                self._probing.relay(message, source, now)
            case Ack(seq_no):
                self._follow(self._probing.take_ack(seq_no, source, now), now)
            case Nack(seq_no):
                self._probing.take_nack(seq_no)
            case UserMessage(payload) if are_words(payload):
                self._hear_words(payload, now, most=1)
            case _:
                self.counters["user message"] += 1

    def _hear_words(self, data: bytes, now: float, most: int = MAX_WORDS) -> None:
        try:
            words = decode_words(data)
        except WireError as error:
            self.counters[error.code] += 1
            return
        if len(words) > most:
            self.counters["too many words"] += 1
            return
        for word in words:
            match word:
                case Forget():
                    self._membership.hear_word(word, now)
                case KeyRecord():
                    self._events.append(KeyHeard(word))
                case AskHandshakes() | Handshakes():
                    pass  # said over streams, which have seen to it; anywhere else it means nothing
                case Unknown():
                    self.counters["word of a newer version"] += 1

    def _follow(self, steps: Iterable[ProbeStep], now: float) -> None:
        for step in steps:
            if isinstance(step, StreamPing):
                self._streams.ping(step, now)
            else:
                self._membership.take_step(step, now)

    def _use(self, results: Iterable[StreamResult], now: float) -> None:
        for result in results:
            if isinstance(result, PushPull):
                self._merge(result, now)
            else:
                self._events.append(result)

    def _merge(self, exchange: PushPull, now: float) -> None:
        self.counters.update(error.code for error in exchange.rejected)
        for entry in exchange.nodes:
            message = news(entry, self.identity)
            if message is None:
                self.counters["protocol version"] += 1
            else:
                self._membership.hear(message, now)
        if are_words(exchange.user_state):  # after the entries: who is told to be alive is not forgotten
            self._hear_words(exchange.user_state, now)

    # --- what is due

    def _gossip(self, now: float) -> None:
        """Tell some; the dead for a while too, who may only have been thought dead.

        memberlist never tells who has left. But leaves are easily forged: where everybody believes them of everybody,
        nobody is left to hear a refutation. So one who left lately hears it too; news counts as told by the others.
        """
        recently = now - self.config.gossip_to_the_dead
        left = (m for m in self._others() if m.state is NodeState.LEFT and m.since >= recently)
        for member in self._members.sample(1, left):
            self._outbox.gossip(member.endpoint, counts=False)
        listeners = (m for m in self._others() if m.is_live or (m.state is NodeState.DEAD and m.since >= recently))
        for member in self._members.sample(self.config.gossip_nodes, listeners):
            if not self._outbox.gossip(member.endpoint):
                return

    def _probe(self, now: float) -> None:
        if self._leaving.is_over:
            return
        for forgotten in self._probing.start(now):
            self._outbox.broadcasts.drop(forgotten.name)

    def _sync(self, now: float) -> None:
        alive = (member for member in self._others() if member.state is NodeState.ALIVE)
        for member in self._members.sample(1, alive):
            self._use(self._streams.exchange(member.endpoint, now, join=False), now)

    def _check_leave(self, now: float) -> None:
        told = self.identity.name not in self._outbox.broadcasts
        anybody = any(member.is_live for member in self._others())
        if self._leaving.check(now, told=told, anybody=anybody):
            self._events.append(LeaveFinished())

    def _others(self) -> Iterable[Member]:
        return (member for member in self._members if member.name != self.identity.name)
