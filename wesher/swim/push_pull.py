"""Full exchanges over a stream: both sides send all they know, then merge what they got (protocol 4.2, 4.3).

Both directions are the same message; this is what goes into it, and what comes out of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from wesher.swim.member import Identity, Member
from wesher.wire.messages import Alive, Dead, NodeState, PushNodeState, PushPull, Suspect


def everything(members: Iterable[Member], *, join: bool, words: bytes = b"") -> PushPull:
    """All that this node knows, and the `words` it keeps."""
    return PushPull(join, tuple(member.as_entry() for member in members), words)


def news(entry: PushNodeState, me: Identity) -> Alive | Suspect | Dead | None:
    """What an entry tells, as the message that would tell it by gossip; None if it is of another protocol.

    A remote verdict of death is only a suspicion here, which the member can refute; a leave was its own word. An
    entry of another protocol costs itself, where memberlist drops the whole exchange for it.
    """
    if not speaks_our_protocol(entry.vsn, me.vsn):
        return None
    match entry.state:
        case NodeState.ALIVE:
            return _alive(entry, me.port)
        case NodeState.SUSPECT | NodeState.DEAD:
            return Suspect(entry.incarnation, entry.name, me.name)
        case NodeState.LEFT:
            return Dead(entry.incarnation, entry.name, entry.name)


def speaks_our_protocol(vsn: bytes, ours: bytes) -> bool:
    """Whether the current versions of each lie within what the other's Vsn (PMin PMax PCur DMin DMax DCur) offers."""
    return _offers(vsn, ours) and _offers(ours, vsn)


def _offers(vsn: bytes, other: bytes) -> bool:
    p_min, p_max, _, d_min, d_max, _ = vsn
    _, _, p_cur, _, _, d_cur = other
    return p_min <= p_cur <= p_max and d_min <= d_cur <= d_max


def _alive(entry: PushNodeState, own_port: int) -> Alive:
    return Alive(entry.incarnation, entry.name, entry.addr, entry.port or own_port, entry.meta, entry.vsn)
