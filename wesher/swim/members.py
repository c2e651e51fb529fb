"""Who is known, and which news about them counts.

The rules are memberlist's (protocol 5.2 to 5.4), as a table; `i` is the incarnation in the message, `j` the one held:

                 unknown   ALIVE      SUSPECT                 DEAD, LEFT    self
    alive(i)     i > 0     i > j      i > j                   i > j, (1)    i > j, or i = j and other data: refute
    suspect(i)   ignore    i >= j     i >= j: a confirmation  ignore        i >= j: refute
    dead(i)      ignore    i >= j     i >= j                  ignore        i >= j: refute, unless leaving

    (1) i <= j, but other metadata: tell

An alive from another address than the known one is a conflict, whatever its incarnation. Where the known one has left,
or is dead and i > j, it is accepted if vacant: a leave and a death are easily forged, and must not give a live member's
name away (see succession). Who restarts elsewhere begins above what it was; a recording of an earlier life does not.

*Tell* is for a member that restarts below what is remembered of it, as Go nodes do, and meets who remembers at a
second or third remove. Its new key shows that it is no echo of the life that ended, but that is no proof: whoever
recorded an announcement of an earlier life still, can play it back. So nothing is believed at an incarnation lower
than the one held. Rather the member is told, at its address, what is held against it; if it lives, it outbids that,
as it does when a full exchange tells it.

An incarnation more than a day ahead of the clock is ignored, by everybody alike: what others believe of a member it
can refute, and what it says in refuting they believe, if only a second later. Any way to go beyond, however slowly,
would let one message after the other drive a member to where nobody hears it. A clock that stands before this program
was written knows nothing; then half of the range is let through.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from wesher.swim.member import Member
from wesher.wire.messages import Alive, Dead, NodeState, Suspect

if TYPE_CHECKING:
    from random import Random

CLOCK_HEADROOM: Final = 86_400
"""Seconds by which another node's clock may run ahead: incarnations begin as seconds since 2020."""

CLOCK_IS_SET: Final = 189_000_000
"""Seconds since 2020 in December 2025: a clock that shows less has not been set since power-on."""

HIGHEST: Final = 1 << 31
"""No incarnation above this counts; the clock gets there in 2088."""


def highest_sane(seconds_since_2020: int) -> int:
    """The highest incarnation that a node could have by its clock alone."""
    return seconds_since_2020 + CLOCK_HEADROOM if seconds_since_2020 >= CLOCK_IS_SET else HIGHEST


class Ruling(Enum):
    """What to do with a piece of news."""

    IGNORE = auto()
    ACCEPT = auto()
    CONFIRM = auto()
    REFUTE = auto()
    CONFLICT = auto()
    TELL = auto()
    """Ignore it, but let the member know what we hold against it."""
    IF_VACANT = auto()
    """Accept it once nobody of that name answers at the address we hold."""


def rule_alive(
    held: Member | None,
    news: Alive,
    *,
    is_self: bool,
    leaving: bool,
    seconds_since_2020: int,
    vacant: bool = False,
) -> Ruling:
    """The ruling on an alive message; `vacant`: at the address held, nobody of that name answers."""
    if (is_self and leaving) or is_ahead(news.incarnation, seconds_since_2020):
        return Ruling.IGNORE
    if held is None:
        return Ruling.ACCEPT if news.incarnation > 0 else Ruling.IGNORE
    if (news.addr, news.port) != (held.addr, held.port):
        if is_self or not may_move(held, news):
            return Ruling.CONFLICT
        return Ruling.ACCEPT if vacant else Ruling.IF_VACANT
    if is_self:
        same = news.incarnation == held.incarnation and (news.meta, news.vsn) == (held.meta, held.vsn)
        return Ruling.IGNORE if news.incarnation < held.incarnation or same else Ruling.REFUTE
    if news.incarnation > held.incarnation:
        return Ruling.ACCEPT
    return Ruling.IGNORE if held.is_live or news.meta == held.meta else Ruling.TELL


def may_move(held: Member, news: Alive) -> bool:
    """Whether a name may go to another address: its holder has left, or died in an earlier life."""
    return held.state is NodeState.LEFT or (held.state is NodeState.DEAD and news.incarnation > held.incarnation)


def rule_suspect(held: Member | None, news: Suspect, *, is_self: bool, seconds_since_2020: int) -> Ruling:
    """The ruling on a suspect message."""
    if held is None or news.incarnation < held.incarnation:
        return Ruling.IGNORE
    if _drives_up(held, news.incarnation, is_self, seconds_since_2020):
        return Ruling.IGNORE
    if held.state is NodeState.SUSPECT:
        return Ruling.CONFIRM
    if held.state is not NodeState.ALIVE:
        return Ruling.IGNORE
    return Ruling.REFUTE if is_self else Ruling.ACCEPT


def rule_dead(held: Member | None, news: Dead, *, is_self: bool, leaving: bool, seconds_since_2020: int) -> Ruling:
    """The ruling on a dead message; where node and accuser are the same it is a leave."""
    if held is None or news.incarnation < held.incarnation:
        return Ruling.IGNORE
    if _drives_up(held, news.incarnation, is_self, seconds_since_2020):
        return Ruling.IGNORE
    if not held.is_live:
        return Ruling.IGNORE
    return Ruling.REFUTE if is_self and not leaving else Ruling.ACCEPT


def _drives_up(held: Member, incarnation: int, is_self: bool, seconds_since_2020: int) -> bool:
    """Whether believing an accusation would bring a member, or us in refuting it, to where no clock explains it.

    Another's that stands there already, since our clock has been put back meanwhile, can still die.
    """
    return is_ahead(incarnation, seconds_since_2020) and (is_self or incarnation > held.incarnation)


def is_ahead(incarnation: int, seconds_since_2020: int) -> bool:
    """Whether no clock explains `incarnation`."""
    return incarnation > highest_sane(seconds_since_2020)


class Members:
    """The table of members, and the ring in which they are probed. Order in the ring is chance."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._by_name: dict[str, Member] = {}
        self._ring: list[str] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Member | None:
        """The member called `name`."""
        return self._by_name.get(name)

    def put(self, member: Member) -> None:
        """Add or replace; a new one enters the ring at a random place, so that nodes do not probe in step."""
        if member.name not in self._by_name:
            self._ring.append(member.name)
            other = self._rng.randrange(len(self._ring))
            self._ring[-1], self._ring[other] = self._ring[other], self._ring[-1]
        self._by_name[member.name] = member

    def sample(self, count: int, eligible: Iterator[Member]) -> list[Member]:
        """At most `count` of `eligible`, by chance and each once."""
        candidates = list(eligible)
        return self._rng.sample(candidates, min(count, len(candidates)))

    def next_probe(self, own_name: str) -> tuple[Member | None, bool]:
        """The next live member of the ring other than ourselves; and whether the ring has come round meanwhile."""
        wrapped = False
        for _ in range(len(self._ring) + 1):
            if self._next >= len(self._ring):
                self._next, wrapped = 0, True
                self._rng.shuffle(self._ring)
            member = self._by_name[self._ring[self._next]]
            self._next += 1
            if member.name != own_name and member.is_live:
                return member, wrapped
        return None, wrapped

    def reap(self, own_name: str, before: float) -> list[Member]:
        """Forget members other than ourselves dead or gone since earlier than `before`; returns them."""
        others = (member for member in self if member.name != own_name)
        gone = [member for member in others if not member.is_live and member.since < before]
        for member in gone:
            self.remove(member.name)
        return gone

    def remove(self, name: str) -> None:
        """Forget one that is there."""
        del self._by_name[name]
        at = self._ring.index(name)
        del self._ring[at]
        self._next -= at < self._next
