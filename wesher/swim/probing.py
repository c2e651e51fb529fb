"""Who answers: probes of the others, one at a time in the ring's order, and help with theirs (protocol 5.7, 5.8, 1.10).

A probe is a ping; then relays are asked and a stream is tried; then there is a verdict, which is the caller's to use.
How much time others get depends on how well we see ourselves: each own probe that fails without a word from the
relays lowers that.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Final

from wesher.swim.awareness import Awareness
from wesher.swim.config import SwimConfig
from wesher.swim.io import Endpoint, from_wire
from wesher.swim.member import Identity, Member
from wesher.swim.members import Members
from wesher.swim.outbox import Outbox
from wesher.swim.probe import Answered, Probe, ProbeStep, Relay, Silent, StreamPing, Why
from wesher.wire.messages import Ack, IndirectPing, Nack, NodeState, Ping, Suspect

if TYPE_CHECKING:
    from random import Random

MAX_RELAYS: Final = 128
"""Pings under way on others' behalf."""

_WRAP: Final = 1 << 32


class Probing:
    """`round_trips` are the seconds a member's last direct ack took, by name. `missed_pings` are those in a row after
    which only others or a stream heard of it: the member lives, and UDP between it and us does not get through."""

    def __init__(
        self,
        config: SwimConfig,
        identity: Identity,
        members: Members,
        outbox: Outbox,
        counters: Counter[str],
        rng: Random,
    ) -> None:
        self.awareness = Awareness(config.awareness_max_multiplier)
        self.round_trips: dict[str, float] = {}
        self.missed_pings: Counter[str] = Counter()
        self._config = config
        self._identity = identity
        self._members = members
        self._outbox = outbox
        self._counters = counters
        self._probes: dict[int, Probe] = {}
        self._relays: dict[int, Relay] = {}
        # memberlist counts from 1 in every process; then a recording of any node's first acks would answer for
        # everybody that is dead.
        self._seq_no = rng.getrandbits(32)

    @property
    def deadline(self) -> float:
        """When `advance` or `expire_relays` has something to do."""
        return min(
            min((min(probe.relays_at, probe.deadline) for probe in self._probes.values()), default=inf),
            min((relay.deadline for relay in self._relays.values()), default=inf),
        )

    # --- probing others

    def start(self, now: float) -> list[Member]:
        """Probe the next of the ring, if there is room for it; returns the members forgotten as the ring came round."""
        in_turn = [probe for probe in self._probes.values() if probe.why is Why.TURN]
        if len(in_turn) >= self._config.probe_overlap:
            return []
        own = self._identity.name
        member, wrapped = self._members.next_probe(own)
        forgotten = self._members.reap(own, now - self._config.gossip_to_the_dead) if wrapped else []
        for gone in forgotten:
            self.drop(gone.name)
        if member is not None and all(probe.name != member.name for probe in in_turn):
            self._ping_in_turn(member, now)
        return forgotten

    def drop(self, name: str) -> None:
        """Keep nothing of a member that is forgotten."""
        self.round_trips.pop(name, None)
        self.missed_pings.pop(name, None)

    def check_vacancy(self, member: Member, now: float) -> None:
        """Probe a member that is said to have left or died, and tell it so: if it has not, it can refute at once."""
        probe = self._begin(Why.VACANCY, member, now)
        end = member.as_dead(self._identity.name)
        self._outbox.send_only(member.endpoint, self._ping(probe.seq_no, member.name), end)

    def advance(self, now: float) -> list[ProbeStep]:
        """What probes come to by the passing of time."""
        steps: list[ProbeStep] = []
        for probe in list(self._probes.values()):
            if now >= probe.deadline:  # first: after a long sleep it is too late for relays
                steps.append(self._give_up(probe))
            elif now >= probe.relays_at:
                probe.relays_at = inf
                steps += self._ask_relays(probe)
        return steps

    def take_ack(self, seq_no: int, source: Endpoint, now: float) -> list[ProbeStep]:
        """An ack over UDP, for us or for whom we relay."""
        relay = self._relays.pop(seq_no, None)
        if relay is not None and now < relay.deadline:
            self._outbox.send(relay.requester, Ack(relay.seq_no))
        probe = self._probes.pop(seq_no, None)
        if probe is None:
            return []
        in_time = probe.relays_at < inf
        if in_time:
            self.round_trips[probe.name] = now - probe.sent_at
        self._count_missed(probe.name, heard=in_time or self._is_at(probe.name, source))
        return [self._answered(probe)]

    def take_nack(self, seq_no: int) -> None:
        """A relay is there, and has not heard of the member."""
        probe = self._probes.get(seq_no)
        if probe is not None:
            probe.nacks += 1

    def _ping_in_turn(self, member: Member, now: float) -> None:
        probe = self._begin(Why.TURN, member, now)
        ping = self._ping(probe.seq_no, member.name)
        if member.state is NodeState.SUSPECT:
            # Both in one packet: the member learns that it is suspected even if it hears nothing else.
            suspicion = Suspect(member.incarnation, member.name, self._identity.name)
            self._outbox.send_only(member.endpoint, ping, suspicion)
        else:
            self._outbox.send(member.endpoint, ping)

    def _begin(self, why: Why, member: Member, now: float) -> Probe:
        seq_no = self._next_seq_no()
        deadline = now + self.awareness.scale(self._config.probe_interval * self._config.probe_overlap)
        relays_at = now + self._config.probe_timeout
        probe = self._probes[seq_no] = Probe(why, member.name, member.incarnation, seq_no, relays_at, deadline, now)
        return probe

    def _ask_relays(self, probe: Probe) -> list[ProbeStep]:
        target = self._members.get(probe.name)
        if target is None:
            return []
        relays = (
            m for m in self._members if m.state is NodeState.ALIVE and m.name not in (target.name, self._identity.name)
        )
        for relay in self._members.sample(self._config.indirect_checks, relays):
            nack = relay.vsn[1] >= 4  # PMax: older ones know no nack
            probe.expected_nacks += nack
            request = IndirectPing(probe.seq_no, target.addr, target.port, target.name, nack, *self._identity.source())
            self._outbox.send(relay.endpoint, request)
        return [StreamPing(probe, target.endpoint)] if target.vsn[1] >= 3 else []

    def _give_up(self, probe: Probe) -> ProbeStep:
        del self._probes[probe.seq_no]
        if probe.by_stream:
            self._counters["reached over TCP only"] += 1
            self._count_missed(probe.name, heard=False)
            return self._answered(probe)
        if probe.why is Why.TURN:
            self.awareness.apply(probe.failure_cost())
        return Silent(probe)

    def _answered(self, probe: Probe) -> ProbeStep:
        if probe.why is Why.TURN:
            self.awareness.apply(-1)
        return Answered(probe)

    def _count_missed(self, name: str, *, heard: bool) -> None:
        """A ping to a member that lives was heard by itself over UDP, or not."""
        if heard:
            self.missed_pings.pop(name, None)
        elif self._members.get(name) is not None:  # or it was forgotten meanwhile, and nobody would drop it again
            self.missed_pings[name] += 1

    def _is_at(self, name: str, source: Endpoint) -> bool:
        """Whether a packet came from that member; by its address alone, for who is behind a NAT."""
        member = self._members.get(name)
        return member is not None and member.endpoint.ip == source.ip

    # --- being probed, and asked to probe

    def answer(self, ping: Ping, source: Endpoint) -> None:
        """Ack a ping, unless it is meant for somebody else."""
        if ping.node and ping.node != self._identity.name:
            self._counters["ping for another"] += 1
            return
        self._outbox.send(self._requester(ping, source), Ack(ping.seq_no))

    def relay(self, request: IndirectPing, source: Endpoint, now: float) -> None:
        """Ping a member for another one; never a stranger, or we would send packets wherever an insider wants."""
        target = self._members.get(request.node)
        port = request.port or self._identity.port
        if target is None or from_wire(request.target, port) != target.endpoint or len(self._relays) >= MAX_RELAYS:
            self._counters["relay refused"] += 1
            return
        seq_no = self._next_seq_no()
        deadline = now + self._config.probe_timeout
        self._relays[seq_no] = Relay(self._requester(request, source), request.seq_no, request.nack, deadline)
        self._outbox.send(target.endpoint, self._ping(seq_no, target.name))

    def expire_relays(self, now: float) -> None:
        """Say to requesters that nothing was heard."""
        for seq_no in [seq_no for seq_no, relay in self._relays.items() if now >= relay.deadline]:
            relay = self._relays.pop(seq_no)
            if relay.nack:
                self._outbox.send(relay.requester, Nack(relay.seq_no))

    def _requester(self, request: Ping | IndirectPing, source: Endpoint) -> Endpoint:
        """Where an answer goes: the source fields, if they name a member or the sender; else back."""
        if not request.source_addr or not request.source_port:
            return source
        claimed = from_wire(request.source_addr, request.source_port)
        known = self._members.get(request.source_node)
        return claimed if claimed.ip == source.ip or (known is not None and known.endpoint == claimed) else source

    def _ping(self, seq_no: int, name: str) -> Ping:
        return Ping(seq_no, name, *self._identity.source())

    def _next_seq_no(self) -> int:
        self._seq_no = (self._seq_no + 1) % _WRAP
        return self._seq_no
