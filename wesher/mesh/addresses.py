"""This node's own overlay address: which of its sixteen it claims, since when, who has a better right to it, and then
which is next.

A claim belongs to a node name. It is kept over restarts, so that its age can decide when two nodes meet on one
address; under another name it says nothing.

Whoever says that he claimed an address first is believed, and a member can say so to drive a node from one of its
addresses to the next. Each move costs the node its connections; so it moves at once when it has not moved for long,
and ever more seldom when it is driven.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from privhelper.addressing import MAX_ATTEMPT, Address, Network, derive, is_edge
from privhelper.policy import Policy
from wesher.mesh.contest import Claimant
from wesher.mesh.desired import as_peer
from wesher.mesh.node_meta import PINNED_ATTEMPT, Claim, overlay_addr
from wesher.mesh.saved_state import SavedState
from wesher.swim.member import Member
from wesher.swim.members import CLOCK_IS_SET, highest_sane

if TYPE_CHECKING:
    from random import Random

FIRST_WAIT: Final = 0.4
"""Seconds before a move, give or take half: two who lose at once are not to take the same one next."""

LONGEST_WAIT: Final = 600.0
"""Seconds, give or take half: who is driven from address to address for long moves about so often."""

CALM: Final = 3600.0
"""Seconds without a move, after which the next is as quick as the first."""


def own_claim(saved: SavedState, node_name: str, seconds_since_2020: int, *, pinned: bool = False) -> Claim:
    """The saved claim of `node_name`, or a new one to its first address; `pinned`: to the one that it was given.

    A saved claim time that no clock explains, or of a clock that had not been set, is a new one's too: its owner would
    be the youngest for ever.
    """
    own = saved.own_for(node_name)
    if own is None or (own.attempt == PINNED_ATTEMPT) is not pinned:
        return Claim(PINNED_ATTEMPT if pinned else 0, seconds_since_2020)
    is_explained = own.claim_time <= highest_sane(seconds_since_2020)
    is_dated = own.claim_time >= CLOCK_IS_SET or seconds_since_2020 < CLOCK_IS_SET
    return Claim(own.attempt, own.claim_time if is_explained and is_dated else seconds_since_2020)


def first_incarnation(saved: SavedState, node_name: str, seconds_since_2020: int) -> int:
    """Where incarnations begin: above all that this name ever used, also on the other side of a clock step.

    A saved one that no clock explains was forced upon us by a member; others would ignore what comes after it.
    """
    own = saved.own_for(node_name)
    if own is None or own.incarnation > highest_sane(seconds_since_2020):
        return max(seconds_since_2020, 1)
    return max(seconds_since_2020, own.incarnation + 1)


def better_right(members: Iterable[Member], policy: Policy, claim: Claim) -> str | None:
    """The live member with the best right to this node's own address, if it is better than this node's `claim`.

    Only who could be a peer counts, and only what every node knows: a tunnel that stands, stands with others.
    """
    elsewhere = replace(policy, own_address=None)
    rivals = [
        Claimant(member.name, found[1])
        for member in members
        if member.is_live and member.name != policy.node_name and overlay_addr(member.meta) == policy.own_address
        if isinstance(found := as_peer(member, elsewhere), tuple)
    ]
    ours = Claimant(policy.node_name, claim)
    best = min((ours, *rivals), key=Claimant.rank)
    return None if best is ours else best.name


def next_attempts(
    net: Network, name: str, current: int, taken: Collection[Address], absent: Collection[Address]
) -> list[int]:
    """The attempts after `current`, and round again, whose address is free; last those of members who are `absent`.

    Empty where every other one is `taken`, or the net's first or last.
    """
    order = [(current + step) % (MAX_ATTEMPT + 1) for step in range(1, MAX_ATTEMPT + 1)]
    addresses = {attempt: derive(net, name.encode("ascii"), attempt) for attempt in (current, *order)}
    own = addresses[current]
    free = [a for a in order if addresses[a] not in taken and addresses[a] != own and not is_edge(net, addresses[a])]
    return sorted(free, key=lambda attempt: addresses[attempt] in absent)


class Moves:
    """How long to wait before each move. Times are in seconds on a clock of the caller's."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._base = FIRST_WAIT
        self._moved_at: float | None = None

    def wait(self, now: float) -> float:
        """Before the next move, if this is when it is seen to be needed."""
        if self._moved_at is not None and now - self._moved_at > CALM:
            self._base = FIRST_WAIT
        return self._base * self._rng.uniform(0.5, 1.5)

    def moved(self, now: float) -> None:
        """It has been made."""
        self._moved_at = now
        self._base = min(LONGEST_WAIT, 2 * self._base)
