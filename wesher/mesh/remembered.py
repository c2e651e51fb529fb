"""Every member that was ever seen, and how it was last: whom to look for when it is not there.

Gossip forgets who has died or left after a minute. Two halves of a mesh that was cut for longer know nothing of each
other any more, and a node that lost everybody is alone; only what is remembered here brings them together again. It
is what the state file has of members, and so outlives restarts too.

    remembered   from when gossip first has a member, in the order of that: who came first is tried first, so that
                 members that somebody made up wait behind the real ones, and where there is no more room find none
    forgotten    on request; or when not seen alive for `forget_after`, as long as there is company: who is alone, for
                 however long, keeps all it has

A name that cannot be a peer's has no place: a flood of long ones would outgrow what can be read again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from privhelper.addressing import Address
from wesher.mesh.desired import is_printable
from wesher.mesh.node_meta import overlay_addr
from wesher.mesh.saved_state import LastSeen, SavedNode
from wesher.swim.member import Member
from wesher.swim.members import CLOCK_IS_SET
from wesher.wire.messages import NodeState

_AS: dict[NodeState, LastSeen] = {
    NodeState.ALIVE: LastSeen.ALIVE,
    NodeState.SUSPECT: LastSeen.ALIVE,
    NodeState.DEAD: LastSeen.FAILED,
    NodeState.LEFT: LastSeen.LEFT,
}


class Remembered:
    """At most `most` nodes, beginning with those that were saved. `now` is in seconds since 2020, by the calendar."""

    def __init__(self, saved: Iterable[SavedNode], *, own_name: str, forget_after: float, most: int, now: int) -> None:
        self._own_name = own_name
        self._forget_after = forget_after
        self._most = most
        known = {node.name: node for node in list(saved)[:most] if node.name != own_name and is_printable(node.name)}
        # Go does not save when; nor can be told where a clock had not been set.
        self._nodes = {name: replace(node, seen=_believable(node.seen, now)) for name, node in known.items()}

    @property
    def nodes(self) -> tuple[SavedNode, ...]:
        """All of them, first come first."""
        return tuple(self._nodes.values())

    def addresses(self) -> set[Address]:
        """The overlay addresses that they claimed last."""
        return {address for node in self._nodes.values() if (address := overlay_addr(node.meta)) is not None}

    def observe(self, members: Iterable[Member], now: int) -> None:
        """Gossip has `members` now: note how each is seen, and forget whose time is up."""
        others = [member for member in members if member.name != self._own_name and is_printable(member.name)]
        for member in others:
            known = self._nodes.get(member.name)
            if known is not None or len(self._nodes) < self._most:
                self._nodes[member.name] = _as_seen(member, known, now)
        if any(member.is_live for member in others):
            self._forget_the_old({member.name for member in others}, now)

    def forget(self, name: str) -> None:
        """As if it had never been."""
        self._nodes.pop(name, None)

    def _forget_the_old(self, in_gossip: set[str], now: int) -> None:
        for name, node in list(self._nodes.items()):
            if name not in in_gossip:
                # Seen before the clock was set, or after today: its time begins now.
                seen = _believable(node.seen, now)
                self._nodes[name] = replace(node, seen=seen)
                if now - seen > self._forget_after:
                    del self._nodes[name]


def _as_seen(member: Member, known: SavedNode | None, now: int) -> SavedNode:
    # Between two looks nothing happens: who was alive at the last one was so until just now.
    seen = now if member.is_live or known is None or known.last is LastSeen.ALIVE else known.seen
    return SavedNode(member.name, str(member.endpoint.ip), member.meta or None, seen, _AS[member.state])


def _believable(seen: int | None, now: int) -> int:
    return now if seen is None or seen > now or seen < CLOCK_IS_SET <= now else seen
