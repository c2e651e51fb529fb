"""What this node believes of everybody, itself included.

News comes in, the rules judge it, and what counts changes the table, is told to whoever listens, and is passed on:
each node gossips only what it believes. News about ourselves that is wrong is outbid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from math import inf
from typing import Final

from wesher.swim.config import SwimConfig
from wesher.swim.event import Ahead, Conflict, Event, Forgotten, Gone, Joined, Suspected, Updated
from wesher.swim.forgetting import Answer, Forgetting, rule_forget
from wesher.swim.io import from_wire
from wesher.swim.member import Identity, Member
from wesher.swim.members import (
    Members,
    Ruling,
    is_ahead,
    may_move,
    rule_alive,
    rule_dead,
    rule_suspect,
)
from wesher.swim.outbox import Outbox
from wesher.swim.probe import Answered, Probe, ProbeStep, Silent, StreamPing, Why
from wesher.swim.probing import Probing
from wesher.swim.push_pull import speaks_our_protocol
from wesher.swim.relocation import Relocation
from wesher.swim.succession import Succession
from wesher.swim.suspicion import Suspicion
from wesher.wire.messages import Alive, Dead, NodeState, Suspect
from wesher.wire.words import Forget

AT_THE_EDGE: Final = 600
"""Seconds beyond what is believed at which a node stays where it is. A refutation of what is just believed is a second
ahead of its time, or a few minutes where clocks differ; begun again below it, it would not be heard until outbid."""

_WRAP: Final = 1 << 32


class Membership:
    """`events` is where it tells what has happened."""

    def __init__(
        self,
        config: SwimConfig,
        identity: Identity,
        members: Members,
        outbox: Outbox,
        probing: Probing,
        forgetting: Forgetting,
        counters: Counter[str],
        events: list[Event],
    ) -> None:
        self._config = config
        self._identity = identity
        self._members = members
        self._outbox = outbox
        self._probing = probing
        self._forgetting = forgetting
        self._counters = counters
        self._events = events
        self._suspicions: dict[str, Suspicion] = {}
        self._succession = Succession(config.probe_interval)
        self._relocation = Relocation()
        self._calendar = 0.0
        self._told: set[str] = set()
        self._told_at = 0.0

    @property
    def deadline(self) -> float:
        """When `expire` has something to do."""
        ends = min((suspicion.deadline for suspicion in self._suspicions.values()), default=inf)
        return min(ends, self._succession.deadline, self._relocation.deadline)

    @property
    def me(self) -> Member:
        """This node's own record."""
        member = self._members.get(self._identity.name)
        assert member is not None  # noqa: S101 - put there at birth and never reaped
        return member

    def is_claimed(self, name: str) -> bool:
        """Whether somebody who has gone is announced elsewhere, and whether that counts is being looked into."""
        return self._succession.is_claimed(name)

    # --- of our own will

    def enter(self, meta: bytes, incarnation: int, now: float) -> None:
        """Announce ourselves for the first time."""
        me = self._identity
        self._members.put(Member(me.name, me.addr, me.port, meta, incarnation, NodeState.ALIVE, now, me.vsn))
        self._announce(meta, incarnation)

    def update_meta(self, meta: bytes) -> None:
        """Announce new metadata, between two addresses only when it arrives."""
        if self._relocation.under_way:
            outbidding = self._next_incarnation()  # the confidants were told of the other metadata
            self._members.put(replace(self.me, meta=meta, incarnation=outbidding))
        else:
            self._announce(meta, self._next_incarnation())

    def set_calendar(self, seconds_since_2020: int, now: float) -> None:
        """What the calendar shows."""
        self._calendar = seconds_since_2020 - now

    def begin_again(self, now: float) -> None:
        """If our clock was ahead, or not set while we were driven up: where we are now, the others do not hear us."""
        today = self._seconds_since_2020(now)
        if is_ahead(self.me.incarnation - AT_THE_EDGE, today) and not self._leaving:
            self._announce(self.me.meta, today)

    def leave(self, now: float) -> None:
        """Take ourselves out; our own word needs no ruling."""
        self._relocation.end()
        self._bury(self.me, Dead(self.me.incarnation, self._identity.name, self._identity.name), now)

    def move(self, addr: bytes, confidants: Collection[str], now: float) -> None:
        """Leave where we were; we enter at `addr` when that is known. The `confidants` hear of both now."""
        if self._relocation.begin(now):
            self._bury(self.me, Dead(self.me.incarnation, self._identity.name, self._identity.name), now)
        else:  # what they were told before is to be outbid
            self._members.put(replace(self.me, incarnation=self._next_incarnation()))
        self._identity.move(addr)
        self._confide(confidants, now)

    def forget(self, name: str, now: float) -> None:
        """Have everybody forget `name` and every life of it until today; nothing comes of it where it is alive."""
        held = self._members.get(name)
        today = self._seconds_since_2020(now)
        self.hear_word(Forget(name, today if held is None else max(today, held.incarnation)), now)

    # --- news

    def hear_word(self, word: Forget, now: float) -> None:
        """An operator's word, by gossip or behind a full exchange."""
        held = self._members.get(word.node)
        is_self = word.node == self._identity.name
        today = self._seconds_since_2020(now)
        match rule_forget(held, word, is_self=is_self, leaving=self._leaving, seconds_since_2020=today):
            case Answer.REFUTE:
                self._refute(word.incarnation)
            case Answer.KEEP:
                self._pass_on(word, today)
            case Answer.OBEY if self._pass_on(word, today) or held is not None:
                self._forget(word.node)
            case _:
                pass

    def _pass_on(self, word: Forget, today: int) -> bool:
        """Whether it is news. What it takes the place of is told no more: of a flood only what is kept waits here."""
        before = self._forgetting.words()
        is_news = self._forgetting.take(word, today)
        if is_news:
            for gone in set(before).difference(self._forgetting.words()):
                self._outbox.drop_word(gone)
            self._outbox.spread_word(word)
        return is_news

    def _forget(self, name: str) -> None:
        """Drop a member that is not alive, if it is known; whoever remembers it longer is told."""
        if self._members.get(name) is not None:
            self._members.remove(name)
            self._probing.drop(name)
            self._outbox.broadcasts.drop(name)
        self._events.append(Forgotten(name))

    def hear(self, news: Alive | Suspect | Dead, now: float) -> None:
        """One piece of news, by gossip or by a full exchange."""
        match news:
            case Alive():
                self._take_alive(news, now)
            case Suspect():
                self._take_suspect(news, now)
            case Dead():
                self._take_dead(news, now)

    def take_step(self, step: ProbeStep, now: float) -> None:
        """What a probe came to; a stream ping is none of our business."""
        match step:
            case Silent(Probe(why=Why.TURN) as probe):
                self._take_suspect(Suspect(probe.incarnation, probe.name, self._identity.name), now)
            case Silent(probe):
                self._succeed(probe, now)
            case Answered(Probe(why=Why.VACANCY) as probe):
                self._find_inhabited(probe, now)
            case Answered() | StreamPing():
                pass

    def expire(self, now: float) -> None:
        """Bury the suspects whose time is up, and look after names that were left."""
        for name in [name for name, suspicion in self._suspicions.items() if now >= suspicion.deadline]:
            member = self._members.get(name)
            if member is not None:
                self._take_dead(Dead(member.incarnation, name, self._identity.name), now)
        for name in self._succession.due(now):
            self._look_after(name, now)
        if now >= self._relocation.arrival:
            self._relocation.end()
            self.enter(self.me.meta, self._next_incarnation(), now)
        elif now >= self._relocation.telling:
            self._confide(self._relocation.confidants, now)

    def _take_alive(self, news: Alive, now: float, *, vacant: bool = False) -> None:
        if not speaks_our_protocol(news.vsn, self._identity.vsn):
            self._counters["protocol version"] += 1
            return
        held = self._members.get(news.node)
        today = self._seconds_since_2020(now)
        if is_ahead(news.incarnation, today):
            self._counters["incarnation ahead of the clock"] += 1
            self._events.append(Ahead(news.node))
            return
        is_self = news.node == self._identity.name
        match rule_alive(held, news, is_self=is_self, leaving=self._leaving, seconds_since_2020=today, vacant=vacant):
            case Ruling.CONFLICT if is_self and from_wire(news.addr, news.port) in self._identity.former:
                pass  # an echo of where we were
            case Ruling.CONFLICT:
                assert held is not None  # noqa: S101 - nobody conflicts with an unknown name
                self._events.append(Conflict(held, from_wire(news.addr, news.port)))
                self._succession.wait(news, now)
            case Ruling.REFUTE:
                self._refute(news.incarnation)
            case Ruling.TELL:
                assert held is not None  # noqa: S101 - the table
                self._tell(held, now)
            case Ruling.IF_VACANT:
                assert held is not None  # noqa: S101 - the table
                at_home = from_wire(news.addr, news.port) == held.endpoint
                self._succession.claim(news, now, at_home=at_home)
            case Ruling.ACCEPT if held is None and len(self._members) >= self._config.max_members:
                self._counters["too many members"] += 1
            case Ruling.ACCEPT:
                self._accept(news, held, now)
            case _:
                pass

    def _accept(self, news: Alive, held: Member | None, now: float) -> None:
        self._suspicions.pop(news.node, None)
        self._succession.drop(news.node)
        if (over := self._forgetting.drop(news.node)) is not None:
            self._outbox.drop_word(over)
        since = held.since if held is not None and held.state is NodeState.ALIVE else now
        member = Member.from_alive(news, since)
        self._members.put(member)
        self._outbox.spread(news.node, news)
        if held is None or not held.is_live:
            self._events.append(Joined(member))
        elif (held.meta, held.state) != (member.meta, member.state):  # a live member's address never changes
            self._events.append(Updated(member))

    def _take_suspect(self, news: Suspect, now: float) -> None:
        held = self._members.get(news.node)
        is_self = news.node == self._identity.name
        match rule_suspect(held, news, is_self=is_self, seconds_since_2020=self._seconds_since_2020(now)):
            case Ruling.CONFIRM:
                if self._suspicions[news.node].confirm(news.accuser):
                    self._outbox.spread(news.node, news)
            case Ruling.REFUTE:
                self._refute(news.incarnation)
            case Ruling.ACCEPT:
                assert held is not None  # noqa: S101 - the table
                suspect = replace(held, incarnation=news.incarnation, state=NodeState.SUSPECT, since=now)
                self._members.put(suspect)
                self._suspicions[news.node] = Suspicion(self._config, len(self._members), news.accuser, now)
                self._outbox.spread(news.node, news)
                self._events.append(Suspected(suspect))
            case _:
                pass

    def _take_dead(self, news: Dead, now: float) -> None:
        held = self._members.get(news.node)
        is_self = news.node == self._identity.name
        today = self._seconds_since_2020(now)
        match rule_dead(held, news, is_self=is_self, leaving=self._leaving, seconds_since_2020=today):
            case Ruling.REFUTE:
                self._refute(news.incarnation)
            case Ruling.ACCEPT:
                assert held is not None  # noqa: S101 - the table
                gone = self._bury(held, news, now)
                self._events.append(Gone(gone))
                claim = self._succession.gone(news.node, now)
                if claim is not None and may_move(gone, claim):
                    self._take_alive(claim, now)
                if self._forgetting.covers(news.node, news.incarnation):
                    self._forget(news.node)
            case _:
                pass

    def _bury(self, held: Member, news: Dead, now: float) -> Member:
        self._suspicions.pop(news.node, None)
        # memberlist before 0.1.6 leaves without an accuser, and nobody else ever names none.
        state = NodeState.LEFT if news.accuser in (news.node, "") else NodeState.DEAD
        gone = replace(held, incarnation=news.incarnation, state=state, since=now)
        self._members.put(gone)
        self._outbox.spread(news.node, news)
        return gone

    # --- about ourselves

    @property
    def _leaving(self) -> bool:
        return self.me.state is NodeState.LEFT

    def _confide(self, confidants: Collection[str], now: float) -> None:
        """Tell the `confidants` among the living of our leave and our arrival in one packet."""
        leave = self.me.as_dead(self._identity.name)
        arrival = replace(self.me.as_alive(), addr=self._identity.addr, incarnation=self._next_incarnation())
        for member in self._members:
            if member.is_live and member.name in confidants:
                self._outbox.send_only(member.endpoint, leave, arrival)
        self._relocation.told(confidants, now)

    def _refute(self, accused: int) -> None:
        """Outbid whatever was said about us. Being accused hints that we are slow to answer."""
        self._probing.awareness.apply(1)
        self._announce(self.me.meta, max(self._next_incarnation(), (accused + 1) % _WRAP))

    def _announce(self, meta: bytes, incarnation: int) -> None:
        """Say who we are.

        Always under our name, where memberlist keeps its refutations beside other news about itself: there is never
        a reason to send the older of two.
        """
        me = replace(self.me, meta=meta, incarnation=incarnation)
        self._members.put(me)
        self._outbox.spread(me.name, me.as_alive())

    def _next_incarnation(self) -> int:
        return (self.me.incarnation + 1) % _WRAP

    def _seconds_since_2020(self, now: float) -> int:
        return int(self._calendar + now)

    # --- about who is gone

    def _tell(self, held: Member, now: float) -> None:
        """Let a member know, at its own address, what we hold against it; that is shorter than what prompted it.

        Once in a moment: one packet or exchange that prompts it a thousand times is not to make a thousand packets.
        """
        if now != self._told_at:
            self._told.clear()
            self._told_at = now
        if held.name in self._told:
            return
        self._told.add(held.name)
        self._outbox.send_only(held.endpoint, held.as_dead(self._identity.name))

    def _look_after(self, name: str, now: float) -> None:
        """See whether a name that was left, or whose holder has died, is vacant."""
        held = self._members.get(name)
        if held is not None:
            self._probing.check_vacancy(held, now)
        else:
            self._install(self._succession.silent(name), now)

    def _succeed(self, probe: Probe, now: float) -> None:
        """Nobody answers at the address of a member that has gone, unless it has come and gone again by now."""
        if self._is_about_this_life(probe):
            self._install(self._succession.silent(probe.name), now)

    def _find_inhabited(self, probe: Probe, now: float) -> None:
        """Somebody answers there, and has been told of the leave, or the death."""
        told = self._is_about_this_life(probe)
        self._install(self._succession.answered(probe.name, now, told=told), now)

    def _is_about_this_life(self, probe: Probe) -> bool:
        held = self._members.get(probe.name)
        return held is None or held.incarnation == probe.incarnation

    def _install(self, news: Alive | None, now: float) -> None:
        if news is not None:
            self._take_alive(news, now, vacant=True)
