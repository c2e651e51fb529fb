"""Who was ever seen is remembered, through deaths, leaves and restarts, until its time is up."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from tests.unit.mesh.members import member
from wesher.mesh.remembered import Remembered
from wesher.mesh.saved_state import LastSeen, SavedNode
from wesher.swim.member import Member
from wesher.wire.messages import NodeState

TODAY = 217_000_000
"""Seconds since 2020 in November 2026."""

HOUR = 3600
ALIVE, SUSPECT, DEAD, LEFT = NodeState.ALIVE, NodeState.SUSPECT, NodeState.DEAD, NodeState.LEFT
ME = member("me")


def remembering(*saved: SavedNode, forget_after: float = 72 * HOUR, most: int = 9, now: int = TODAY) -> Remembered:
    """At the start of a run."""
    return Remembered(saved, own_name="me", forget_after=forget_after, most=most, now=now)


def seen(remembered: Remembered) -> dict[str, tuple[LastSeen, int | None]]:
    """As what each was last seen, and when it was last alive."""
    return {node.name: (node.last, node.seen) for node in remembered.nodes}


def a(state: NodeState, **changes: object) -> Member:
    """The member a, and how it is held."""
    return replace(member("a", state=state), **changes)


@pytest.mark.parametrize(
    ("state", "last"),
    [(ALIVE, LastSeen.ALIVE), (SUSPECT, LastSeen.ALIVE), (DEAD, LastSeen.FAILED), (LEFT, LastSeen.LEFT)],
)
def test_how_a_member_was_last_seen_and_when_it_was_last_alive(state, last):
    """A suspect is alive until somebody knows better; who has gone was alive until then, however long nobody looked."""
    remembered = remembering()
    remembered.observe([ME, a(ALIVE)], TODAY)
    remembered.observe([ME, a(state)], TODAY + HOUR)
    assert seen(remembered) == {"a": (last, TODAY + HOUR)}
    remembered.observe([ME, a(state)], TODAY + HOUR + 10)
    assert seen(remembered) == {"a": (last, TODAY + HOUR + 10 * (last is LastSeen.ALIVE))}


def test_what_gossip_has_forgotten_is_remembered():
    """It forgets the dead after a minute."""
    remembered = remembering()
    remembered.observe([ME, a(DEAD), member("b")], TODAY)
    remembered.observe([ME, member("b")], TODAY + 100)
    assert seen(remembered)["a"] == (LastSeen.FAILED, TODAY)


def test_where_and_with_what_metadata_a_member_was_seen_last_counts():
    """It has moved."""
    remembered = remembering(SavedNode("a", "192.0.2.1", b"old", TODAY - 5))
    moved = a(ALIVE, addr=IPv4Address("192.0.2.9").packed, meta=b"new")
    remembered.observe([ME, moved], TODAY)
    assert remembered.nodes == (SavedNode("a", "192.0.2.9", b"new", TODAY),)


def test_this_node_itself_is_not_remembered():
    """Nor taken from a file of when it had another name."""
    remembered = remembering(SavedNode("me", "192.0.2.1", None))
    remembered.observe([ME], TODAY)
    assert remembered.nodes == ()


def test_a_member_not_seen_for_so_long_is_forgotten_while_there_is_company():
    """To the second."""
    remembered = remembering(forget_after=HOUR)
    remembered.observe([ME, member("a"), member("b")], TODAY)
    remembered.observe([ME, member("b")], TODAY + HOUR)
    assert "a" in seen(remembered)
    remembered.observe([ME, member("b")], TODAY + HOUR + 1)
    assert "a" not in seen(remembered)


@pytest.mark.parametrize("others", [[], [a(DEAD)], [member("b", state=LEFT)]])
def test_a_node_that_is_alone_forgets_nobody(others):
    """However long: it is its only way back."""
    remembered = remembering(SavedNode("a", "192.0.2.1", None, TODAY), SavedNode("b", "192.0.2.2", None, TODAY))
    remembered.observe([ME, *others], TODAY + 9999 * HOUR)
    assert set(seen(remembered)) == {"a", "b"}


def test_who_was_seen_at_a_time_not_known_counts_as_seen_now():
    """Go does not save it; and a clock may have been wrong then, or be now."""
    saved = [
        SavedNode("go", "192.0.2.1", None),
        SavedNode("unset", "192.0.2.2", None, 1000),
        SavedNode("later", "192.0.2.3", None, TODAY + 1),
    ]
    remembered = remembering(*saved, forget_after=HOUR)
    assert seen(remembered) == dict.fromkeys(("go", "unset", "later"), (LastSeen.ALIVE, TODAY))


def test_a_clock_that_is_set_after_the_start_costs_nobody_its_place():
    """Everything was seen in 2020 then; the time begins when the clock is right."""
    remembered = remembering(forget_after=HOUR, now=100)
    remembered.observe([ME, member("a"), member("b")], 200)
    remembered.observe([ME, member("b")], TODAY)
    assert seen(remembered)["a"] == (LastSeen.ALIVE, TODAY)
    remembered.observe([ME, member("b")], TODAY + HOUR + 1)
    assert "a" not in seen(remembered)


def test_where_there_is_no_room_who_came_first_stays():
    """A flood of made-up members takes nobody's place, in a run or through the file."""
    remembered = remembering(SavedNode("z", "192.0.2.1", None), most=3)
    flood = [member(f"x{number}") for number in range(20)]
    remembered.observe([ME, member("a"), *flood], TODAY)
    remembered.observe([ME, *flood], TODAY + 1)
    assert list(seen(remembered)) == ["z", "a", "x0"]
    assert [node.name for node in remembering(*remembered.nodes, most=2).nodes] == ["z", "a"]


@pytest.mark.parametrize("name", ["a b", "x" * 65, "b\udcff"])
def test_a_name_that_no_peer_can_have_is_not_remembered(name):
    """Neither from gossip nor from a file."""
    remembered = remembering(SavedNode(name, "192.0.2.1", None))
    remembered.observe([ME, member(name, meta=b"")], TODAY)
    assert remembered.nodes == ()


def test_who_is_forgotten_on_request_is_remembered_again_only_when_seen():
    """It is nobody's to look for."""
    remembered = remembering(SavedNode("a", "192.0.2.1", None))
    remembered.forget("a")
    remembered.forget("never seen")
    assert remembered.nodes == ()
    remembered.observe([ME, member("a")], TODAY)
    assert list(seen(remembered)) == ["a"]
