"""Who sees whom, as stable JSON: a row for each member that was asked, a column for each, and for others they see.

What a member tells of others is its word: names, states and ages are taken as they come, and no more of them than so
many. Gossip's sight and WireGuard's handshake are separate facts, and stand beside each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from wesher.runtime.report import STATE_NAMES
from wesher.swim.event import Viewed
from wesher.swim.member import Member
from wesher.wire.messages import NodeState
from wesher.wire.words import Handshake

MOST_STRANGERS: Final = 256
"""Names that others see and this node does not: a cut makes some, a liar as many as he likes."""

_LONGEST_FAILURE: Final = 100
"""Characters of why there was no answer: who refuses may say anything."""


_LIVE: Final = (NodeState.ALIVE, NodeState.SUSPECT)


def graph(
    *,
    me: Member,
    members: Iterable[Member],
    own: Iterable[Handshake],
    views: Mapping[str, Viewed],
) -> dict[str, Any]:
    """The whole answer; `views` are by the name of who was asked. Handshakes are ages in seconds.

    {from, names[], observers[{name, failure, sees[], handshakes[]}], not_asked, names_left_out}: `sees` and
    `handshakes` go with `names`. A state is None where a member does not know of the other; an age where the tunnel has
    not shaken hands, or there is none. A whole row is None where nothing was told.
    """
    known = list(members)
    mine = Viewed(me.endpoint, "", tuple(member.as_entry() for member in known), tuple(own))
    rows = dict(views) | {me.name: mine}
    there = {member.name for member in known if member.state is not NodeState.LEFT}
    expected = there | rows.keys()
    seen = {entry.name for view in rows.values() for entry in view.nodes if entry.state in _LIVE}
    strangers = sorted(seen - expected)
    names = sorted({*expected, *strangers[:MOST_STRANGERS]})
    return {
        "from": me.name,
        "names": names,
        "observers": [_row(name, rows[name], names) for name in sorted(rows)],
        "not_asked": len(there - rows.keys()),
        "names_left_out": len(strangers[MOST_STRANGERS:]),
    }


def _row(name: str, view: Viewed, names: list[str]) -> dict[str, Any]:
    sees = {entry.name: STATE_NAMES[entry.state] for entry in view.nodes}
    ages = None if view.tunnels is None else {tunnel.peer: tunnel.age for tunnel in view.tunnels}
    return {
        "name": name,
        "failure": view.failure[:_LONGEST_FAILURE],
        "sees": None if view.failure else [sees.get(other) for other in names],
        "handshakes": None if ages is None else [ages.get(other) for other in names],
    }
