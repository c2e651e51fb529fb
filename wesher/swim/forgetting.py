"""Who is to be forgotten: an operator's word, which every node of ours obeys, keeps for a day, and passes on once.

A word is about every life of a member up to an incarnation, which is the time when it was said (incarnations begin as
seconds since 2020). So it needs no number of its own: said twice it is one word, said later it is another, and a
recording of it does nothing to who has begun anew since. What is held of the member decides; `i` is the word's
incarnation, `j` the member's:

                 unknown   ALIVE    SUSPECT                    DEAD, LEFT     self
    forget(i)    obey      ignore   i >= j: keep, until dead   i >= j: obey   i >= j: refute, unless leaving

Nothing here takes a member away that is alive: who is announced again is there again, and the word over. Who was
forgotten behind a cut finds us by what it remembers, not we it.

Words travel as gossip and, since Go nodes pass none on and who was away hears none, behind every full exchange. All of
it is bounded: so many words are kept, the latest; one that finds no room is obeyed, and not passed on.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from wesher.swim.member import Member
from wesher.swim.members import CLOCK_IS_SET, is_ahead
from wesher.wire.limits import MAX_FORGOTTEN
from wesher.wire.messages import NodeState
from wesher.wire.words import Forget

KEPT: Final = 86_400
"""Seconds since it was said in which a word counts: who was away for longer does not hear of it."""


class Answer(Enum):
    """What to do about a word."""

    IGNORE = auto()
    KEEP = auto()
    """It may be dead any moment: then it is forgotten."""
    OBEY = auto()
    REFUTE = auto()


def rule_forget(held: Member | None, word: Forget, *, is_self: bool, leaving: bool, seconds_since_2020: int) -> Answer:
    """The answer to a word."""
    if is_ahead(word.incarnation, seconds_since_2020) or is_over(word, seconds_since_2020):
        return Answer.IGNORE
    if held is None:
        return Answer.OBEY
    if word.incarnation < held.incarnation:
        return Answer.IGNORE
    if is_self:
        return Answer.IGNORE if leaving else Answer.REFUTE
    return _TO_A_MEMBER[held.state]


_TO_A_MEMBER: Final = {
    NodeState.ALIVE: Answer.IGNORE,
    NodeState.SUSPECT: Answer.KEEP,
    NodeState.DEAD: Answer.OBEY,
    NodeState.LEFT: Answer.OBEY,
}


def is_over(word: Forget, seconds_since_2020: int) -> bool:
    """Whether it was said too long ago. A clock that is not set cannot tell."""
    return seconds_since_2020 >= CLOCK_IS_SET and word.incarnation < seconds_since_2020 - KEPT


class Forgetting:
    """The words that are kept: the latest for each name, and the latest of all names."""

    def __init__(self) -> None:
        self._words: dict[str, Forget] = {}

    def take(self, word: Forget, seconds_since_2020: int) -> bool:
        """Keep a word; False if it is no news, or there is no room."""
        known = self._words.get(word.node)
        if known is not None and known.incarnation >= word.incarnation:
            return False
        self._words = {name: kept for name, kept in self._words.items() if not is_over(kept, seconds_since_2020)}
        if known is None and len(self._words) >= MAX_FORGOTTEN:
            oldest = min(self._words.values(), key=lambda kept: kept.incarnation)
            if oldest.incarnation >= word.incarnation:
                return False
            del self._words[oldest.node]
        self._words[word.node] = word
        return True

    def covers(self, name: str, incarnation: int) -> bool:
        """Whether a member that has just gone is to be forgotten at once."""
        word = self._words.get(name)
        return word is not None and word.incarnation >= incarnation

    def drop(self, name: str) -> Forget | None:
        """It is alive again; the word about it, which is over."""
        return self._words.pop(name, None)

    def words(self) -> tuple[Forget, ...]:
        """All of them, for the state behind a full exchange."""
        return tuple(self._words.values())
