"""The answer to /graph: rows and columns that go together, and no more of what members tell than so much."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.cli import graphs
from tests.unit.swim.virtual import PORT, START, endpoint
from wesher.graph.sights import read
from wesher.runtime.views import MOST_STRANGERS, graph
from wesher.swim.event import Viewed
from wesher.swim.member import Member
from wesher.wire.messages import NodeState, PushNodeState
from wesher.wire.words import Handshake


def member(name: str, number: int, state: NodeState = NodeState.ALIVE) -> Member:
    """A member at `endpoint(number)`."""
    return Member(name, endpoint(number).ip.packed, PORT, b"", 1, state, START)


def entry(name: str, state: NodeState = NodeState.ALIVE) -> PushNodeState:
    """What somebody tells of a member."""
    return PushNodeState(name, endpoint(9).ip.packed, PORT, b"", 1, state)


def answer(*others: Member, own: tuple[Handshake, ...] = (), **views: Viewed) -> dict[str, Any]:
    """Of the node `a`, which knows `others`; as a client reads it."""
    me = member("a", 1)
    found = json.loads(json.dumps(graph(me=me, members=[me, *others], own=own, views=views)))
    assert isinstance(found, dict)
    read(found)
    return found


def test_rows_and_columns_go_together():
    """The node's own row is what it knows itself. Who was not asked has none, and who told nothing an empty one."""
    told = (entry("a"), entry("b"), entry("c", NodeState.SUSPECT), entry("d", NodeState.LEFT))
    found = answer(
        member("b", 2),
        member("c", 3, NodeState.DEAD),
        member("d", 4),
        own=(Handshake("b", 12), Handshake("d", None)),
        b=Viewed(endpoint(2), "", told, (Handshake("a", 11),)),
        c=Viewed(endpoint(3), "no answer"),
    )
    assert found == graphs.graph(
        ["a", "b", "c", "d"],
        graphs.row("a", ["alive", "alive", "failed", "alive"], [None, 12, None, None]),
        graphs.row("b", ["alive", "alive", "suspect", "left"], [11, None, None, None]),
        graphs.row("c", None, None, "no answer"),
        not_asked=1,
    )


def test_who_has_left_is_nobody_unless_others_see_it():
    """Nobody expects it to be seen. One that lives to somebody is of interest, as is one that is unknown here."""
    assert answer(member("b", 2, NodeState.LEFT))["names"] == ["a"]
    told = (
        entry("a"),
        entry("b"),
        entry("x", NodeState.SUSPECT),
        entry("y", NodeState.DEAD),
        entry("z", NodeState.LEFT),
    )
    found = answer(member("b", 2, NodeState.LEFT), member("c", 3), c=Viewed(endpoint(3), "", told))
    assert found["names"] == ["a", "b", "c", "x"]
    assert found["observers"][0]["sees"] == ["alive", "left", "alive", None]
    assert found["observers"][1]["sees"] == ["alive", "alive", None, "suspect"]
    assert found["observers"][1]["handshakes"] is None


def test_who_has_left_after_it_was_asked_keeps_its_row():
    """A row without a column would be nobody's."""
    found = answer(member("b", 2, NodeState.LEFT), b=Viewed(endpoint(2), "", (entry("b"),)))
    assert found["names"] == ["a", "b"]
    assert len(found["observers"]) == 2


def test_names_that_only_others_know_are_so_many_and_no_more():
    """A liar can tell of thousands."""
    told = tuple(entry(f"x{number:04}") for number in range(MOST_STRANGERS + 2))
    found = answer(member("b", 2), b=Viewed(endpoint(2), "", told))
    assert len(found["names"]) == 2 + MOST_STRANGERS
    assert found["names_left_out"] == 2
    assert "x0256" not in found["names"]
    found = answer(member("b", 2), b=Viewed(endpoint(2), "", told[:-2]))
    assert (len(found["names"]), found["names_left_out"]) == (2 + MOST_STRANGERS, 0)


def test_why_there_is_no_answer_is_not_longer_than_a_line():
    """Who refuses may say anything."""
    assert answer(member("b", 2), b=Viewed(endpoint(2), "n" * 5000))["observers"][1]["failure"] == "n" * 100
