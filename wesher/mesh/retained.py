"""Peers kept although no live member stands behind them: gossip's verdict is not the data plane's.

    failed     a member died: its peer stays as it is in force, for `retain_failed` seconds
    adopted    peers of an earlier run of this agent, until gossip has told what became of them
    leaving    a member has left, and may be on its way to another address: its peer stays for a second, since the leave
               may be heard before the announcement; and where it is announced elsewhere until that counts, for a
               quarter of a minute at most, and its connections with it

What gossip knows of the name decides:

                             failed                   adopted                leaving
    ALIVE, SUSPECT           over: its own record counts, for all alike
    DEAD                     until its time is up     becomes failed, if in force
    LEFT                     becomes leaving          the same               until its time is up
    nothing, or no longer    until its time is up     see below              over

An adopted peer that gossip does not mention stays until 30 s after the first exchange; without one, for ever.

What is claimed by a live member is that member's (see desired). Who has lost his place to one does not come back when
that one leaves: a failed or leaving peer that is no longer in force is over, and so is an adopted one whose key,
address or folded name is in force under another name. Thus nobody fills the memory either: what is in force is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Final

from privhelper.protocol import Peer
from wesher.mesh.desired import claims, is_printable
from wesher.mesh.node_meta import MetaError, decode
from wesher.mesh.saved_state import LastSeen, SavedNode
from wesher.swim.io import from_wire
from wesher.swim.member import Member
from wesher.swim.succession import PATIENCE
from wesher.wire.messages import NodeState

CONFIRM_WITHIN: Final = 30.0
"""Seconds from the first completed exchange in which gossip has to mention an adopted peer."""

ELSEWHERE_WITHIN: Final = 1.0
"""Seconds after a leave in which its member may be announced elsewhere: one packet may be lost, or overtaken by what
others tell of the leave."""


class Retained:
    """`retain_failed` is in seconds, 0 for not at all. `is_claimed` says whether a name that was left is announced
    elsewhere. All times are on the clock of `Member.since`."""

    def __init__(self, retain_failed: float, is_claimed: Callable[[str], bool]) -> None:
        self._retain_failed = retain_failed
        self._is_claimed = is_claimed
        self._failed: dict[str, float] = {}
        self._adopted: dict[str, Peer] = {}
        self._leaving: dict[str, float] = {}
        self._forgotten: set[str] = set()
        self._confirm_until: float | None = None

    @property
    def failed(self) -> frozenset[str]:
        """The names of members that died and are kept for a while."""
        return frozenset(self._failed)

    @property
    def adopted(self) -> frozenset[str]:
        """The names of peers of an earlier run that gossip has not mentioned yet."""
        return frozenset(self._adopted)

    def adopt(self, peers: Iterable[Peer]) -> None:
        """Take over peers of an earlier run; later ones replace earlier ones of the same name."""
        self._adopted.update((peer.name, peer) for peer in peers)

    def exchanged(self, now: float) -> None:
        """A push/pull has succeeded: from the first on, who is not mentioned is not there."""
        if self._confirm_until is None:
            self._confirm_until = now + CONFIRM_WITHIN

    def forget(self, name: str) -> None:
        """`name` is forgotten: it goes at once, and does not stay for having failed or left."""
        self._failed.pop(name, None)
        self._adopted.pop(name, None)
        self._leaving.pop(name, None)
        self._forgotten.add(name)

    def update(self, members: Iterable[Member], in_force: Mapping[str, Peer], now: float) -> tuple[Peer, ...]:
        """The peers to keep beside those of live members, now that gossip has `members`.

        `in_force` are the peers last accepted, by name: adopted ones from the helper included, from the start.
        """
        known = {member.name: member for member in members}
        self._forgotten &= {name for name, member in known.items() if not member.is_live}
        self._update_failed(known, in_force, now)
        self._update_adopted(known, in_force, now)
        self._update_leaving(known, in_force, now)
        return (*(in_force[name] for name in (*self._failed, *self._leaving)), *self._adopted.values())

    def next_change(self) -> float | None:
        """When `update` will keep fewer, if nothing happens before."""
        times = [*self._failed.values(), *self._leaving.values()]
        if self._adopted and self._confirm_until is not None:
            times.append(self._confirm_until)
        return min(times, default=None)

    def _update_failed(self, known: Mapping[str, Member], in_force: Mapping[str, Peer], now: float) -> None:
        dead = {name: member.since for name, member in known.items() if member.state is NodeState.DEAD}
        # Counted from the death, not from when we look: while the helper is slow to let go, nobody begins anew.
        ends = self._failed | {name: since + self._retain_failed for name, since in dead.items()}
        self._failed = {
            name: end
            for name, end in ends.items()
            if now < end
            and name in in_force
            and name not in self._forgotten
            and (name in dead or name not in known)  # known otherwise: it lives, or has left
        }

    def _update_leaving(self, known: Mapping[str, Member], in_force: Mapping[str, Peer], now: float) -> None:
        ends = {
            name: member.since + (PATIENCE if self._is_claimed(name) else ELSEWHERE_WITHIN)
            for name, member in known.items()
            if member.state is NodeState.LEFT and name in in_force and name not in self._forgotten
        }
        self._leaving = {name: end for name, end in ends.items() if now < end}

    def _update_adopted(self, known: Mapping[str, Member], in_force: Mapping[str, Peer], now: float) -> None:
        if not self._adopted:
            return
        if self._confirm_until is not None and self._confirm_until <= now:
            self._adopted.clear()
            return
        holders = {claim: name for name, peer in in_force.items() for claim in claims(peer)}
        self._adopted = {
            name: peer
            for name, peer in self._adopted.items()
            if name not in known and all(holders.get(claim, name) == name for claim in claims(peer))
        }


def saved_peers(nodes: Iterable[SavedNode], *, alive_since: float) -> tuple[Peer, ...]:
    """The peers that a state file's nodes were, to be adopted: who was alive, or had failed after `alive_since`, in
    seconds since 2020. A node whose metadata makes no peer is left out."""
    stood = [
        node
        for node in nodes
        if node.last is LastSeen.ALIVE
        or (node.last is LastSeen.FAILED and node.seen is not None and node.seen > alive_since)
    ]
    return tuple(peer for node in stood if (peer := _saved_peer(node)) is not None)


def _saved_peer(node: SavedNode) -> Peer | None:
    if node.meta is None or not is_printable(node.name):
        return None
    try:
        meta = decode(node.meta)
    except MetaError:
        return None
    return Peer(meta.public_key, from_wire(ip_address(node.addr).packed, 0).ip, meta.overlay_addr, node.name)
