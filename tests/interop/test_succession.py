"""A name passes from a Go node to ours and back: the same machine, upgraded or not, with the same name.

memberlist knows a member by name, address and port, compares addresses byte for byte, and keeps a dead member's name
for its address until it is forgotten; a name that was left is free at once. Witnesses from both sides hold them to it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.interop.meeting import Meeting, Peer, join, told
from tests.interop.ours import QUICK
from tests.lab import until
from wesher.swim.io import Endpoint
from wesher.wire.messages import NodeState

pytestmark = pytest.mark.go

BRIEF = {"gossip_to_the_dead": 1.0, "push_pull_interval": 1.0}
"""A dead member is forgotten soon."""
LONG = {"gossip_to_the_dead": 600.0, "push_pull_interval": 1.0}


class Town:
    """A Go witness and one of ours, and a name that passes from one owner to the next."""

    def __init__(self, meeting: Meeting, timings: dict[str, float] = LONG) -> None:
        self.meeting = meeting
        self.timings = timings
        self.witnesses = [meeting.either(kind, kind, **timings) for kind in ("go", "ours")]
        join(*self.witnesses)
        self.lives = 0

    def settle(self, kind: str, place: Endpoint, *, mapped: bool = False, name: str = "x") -> Peer:
        """A new owner of the name, who joins; not yet known to all."""
        self.lives += 1
        meta = b"life %d" % self.lives
        owner: Peer
        if kind == "go":
            owner = self.meeting.go(name, place, meta=meta, mapped=mapped, **self.timings)
        else:
            announced = bytes(10) + b"\xff\xff" + place.ip.packed if mapped else place.ip.packed
            config = replace(QUICK, **self.timings)
            owner = self.meeting.ours(name, place, meta=meta, announced=announced, config=config)
        join(owner, self.witnesses[self.lives % 2])
        return owner

    def until_known(self, *owners: Peer, within: float = 10) -> None:
        """All know the owners with what they announce."""
        self.meeting.until_all_know(*self.witnesses, *owners, within=within)


def gone(owner: Peer, how: str) -> None:
    """The owner goes, with a leave or without a word."""
    if how == "leaves":
        owner.leave()
    else:
        owner.kill()


@pytest.mark.parametrize("how", ["leaves", "is killed"])
def test_the_same_machine_passes_from_go_to_us_and_back(meeting: Meeting, how: str) -> None:
    """At the same address; who was killed is replaced before anybody has noticed."""
    town, place = Town(meeting), meeting.place()
    meeting.peers.allow("Refuting")  # the new owner: what is remembered of the former
    meeting.peers.allow("Failed fallback ping|Push/Pull with x failed")
    for kind in ("go", "ours", "go", "ours", "ours", "go"):
        owner = town.settle(kind, place)
        town.until_known(owner)
        gone(owner, how)
        if how == "leaves":
            meeting.until_state(town.witnesses, "x", NodeState.LEFT)


def test_after_a_death_was_noticed(meeting: Meeting) -> None:
    """The name waits at its address for whoever announces himself there."""
    town, place = Town(meeting), meeting.place()
    meeting.peers.allow("Refuting|Failed fallback ping|Push/Pull with x failed")
    owner = town.settle("go", place)
    for kind in ("ours", "go"):
        town.until_known(owner)
        gone(owner, "is killed")
        meeting.until_state(town.witnesses, "x", NodeState.DEAD, within=20)
        owner = town.settle(kind, place)
    town.until_known(owner)


def test_after_a_leave_the_name_may_move_at_once(meeting: Meeting) -> None:
    """Whatever incarnation the new owner begins with. We first look whether the old address is vacant."""
    town = Town(meeting)
    meeting.peers.allow("Refuting")
    for kind in ("go", "ours", "go", "ours"):
        owner = town.settle(kind, meeting.place())
        town.until_known(owner)
        gone(owner, "leaves")
        meeting.until_state(town.witnesses, "x", NodeState.LEFT)


@pytest.mark.parametrize("kinds", [("go", "ours"), ("ours", "go")])
def test_after_a_death_the_name_moves_once_the_dead_is_forgotten(meeting: Meeting, kinds: tuple[str, str]) -> None:
    """Until then everybody says that two claim the name, Go in its log."""
    town = Town(meeting, BRIEF)
    meeting.peers.expect("Conflicting address for x")
    meeting.peers.allow("Refuting|Failed fallback ping|Push/Pull with x failed")
    owner = town.settle(kinds[0], meeting.place())
    town.until_known(owner)
    gone(owner, "is killed")
    town.until_known(town.settle(kinds[1], meeting.place()), within=30)


FORMS = [
    ("go", True, "ours", False),
    ("ours", False, "go", True),
    ("go", False, "ours", True),
    ("go", True, "ours", True),
]
"""Former owner and whether it announces 16 bytes, as Go does where it listens everywhere; new owner likewise."""


@pytest.mark.parametrize(("former", "wide", "new", "new_wide"), FORMS)
def test_after_a_leave_any_form_of_the_address_will_do(
    meeting: Meeting, former: str, wide: bool, new: str, new_wide: bool
) -> None:
    town, place = Town(meeting), meeting.place()
    meeting.peers.allow("Refuting")
    owner = town.settle(former, place, mapped=wide)
    town.until_known(owner)
    gone(owner, "leaves")
    meeting.until_state(town.witnesses, "x", NodeState.LEFT)
    town.until_known(town.settle(new, place, mapped=new_wide))


@pytest.mark.parametrize("kinds", [("go", "ours"), ("ours", "go")])
def test_after_a_kill_the_same_form_is_the_same_member(meeting: Meeting, kinds: tuple[str, str]) -> None:
    town, place = Town(meeting), meeting.place()
    meeting.peers.allow("Refuting|Failed fallback ping|Push/Pull with x failed")
    for kind in kinds:
        owner = town.settle(kind, place, mapped=True)
        town.until_known(owner)
        gone(owner, "is killed")


def test_after_a_kill_another_form_is_another_member_until_it_has_left_once(meeting: Meeting) -> None:
    """Who takes over answers pings for the name, so what was known of the former stays in force. A leave clears it."""
    town, place = Town(meeting), meeting.place()
    meeting.peers.expect("Conflicting address for x")
    meeting.peers.allow("Refuting|Failed fallback ping|Push/Pull with x failed")
    owner = town.settle("go", place, mapped=True)
    town.until_known(owner)
    gone(owner, "is killed")
    owner = town.settle("ours", place, mapped=False)
    for witness in town.witnesses:
        until(lambda: "conflict" in told(witness, "x"), 10, f"{witness.name} tells of a conflict")  # noqa: B023
        assert b"life 1" == meeting.view(witness)["x"].meta

    gone(owner, "leaves")
    meeting.until_state(town.witnesses, "x", NodeState.LEFT)
    town.until_known(town.settle("ours", place, mapped=False))
