"""Full exchanges over a stream: both sides send all they know, then merge what they got (protocol 4.2, 4.3).

Both directions are the same message; this is what goes into it, and what comes out of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wesher.swim.member import Member
from wesher.wire.limits import VSN
from wesher.wire.messages import Alive, Dead, NodeState, PushNodeState, PushPull, Suspect


def everything(members: Iterable[Member], *, join: bool) -> PushPull:
    """All that this node knows."""
    return PushPull(join, tuple(member.as_entry() for member in members))


def news(exchange: PushPull, own_name: str, own_port: int) -> Iterator[Alive | Suspect | Dead]:
    """What an exchange tells, as the messages that would tell it by gossip.

    A remote verdict of death is only a suspicion here, which the member can refute; a leave was its own word. An
    entry of another protocol costs itself, where memberlist drops the whole exchange for it.
    """
    for entry in exchange.nodes:
        if not speaks_our_protocol(entry.vsn):
            continue
        match entry.state:
            case NodeState.ALIVE:
                yield _alive(entry, own_port)
            case NodeState.SUSPECT | NodeState.DEAD:
                yield Suspect(entry.incarnation, entry.name, own_name)
            case NodeState.LEFT:
                yield Dead(entry.incarnation, entry.name, entry.name)


def speaks_our_protocol(vsn: bytes) -> bool:
    """Whether our current versions lie within what `vsn` (PMin PMax PCur DMin DMax DCur) offers, and vice versa."""
    p_min, p_max, p_cur, d_min, d_max, d_cur = vsn
    ours_fit = p_min <= VSN[2] <= p_max and d_min <= VSN[5] <= d_max
    return ours_fit and VSN[0] <= p_cur <= VSN[1] and VSN[3] <= d_cur <= VSN[4]


def _alive(entry: PushNodeState, own_port: int) -> Alive:
    return Alive(entry.incarnation, entry.name, entry.addr, entry.port or own_port, entry.meta, entry.vsn)
