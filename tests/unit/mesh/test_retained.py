"""Peers kept without a live member: the dead for a while, those of an earlier run until gossip has spoken."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privhelper.addressing import derive
from privhelper.protocol import Peer
from tests.unit.mesh.members import NET, POLICY, RIVALS, TINY, key, member, metadata
from wesher.mesh.desired import desired
from wesher.mesh.retained import CONFIRM_WITHIN, ELSEWHERE_WITHIN, Retained, saved_peers
from wesher.mesh.saved_state import LastSeen, SavedNode
from wesher.swim.member import Member
from wesher.swim.succession import PATIENCE
from wesher.wire.messages import NodeState

ALIVE, SUSPECT, DEAD, LEFT = NodeState.ALIVE, NodeState.SUSPECT, NodeState.DEAD, NodeState.LEFT
KEEP = 300.0
ME = member("me")


def peer(name: str) -> Peer:
    """The peer of an honest member."""
    (only,) = desired([member(name)], POLICY, {}).peers
    return only


A, B = peer("a"), peer("b")
IN_FORCE = {"a": A, "b": B}


def died(name: str = "a", at: float = 0.0) -> Member:
    """A member that died then."""
    return member(name, state=DEAD, since=at)


def nobody_moves(keep: float = KEEP) -> Retained:
    """Where nobody is announced elsewhere."""
    return Retained(keep, lambda name: False)


def failed_at_zero(keep: float = KEEP) -> Retained:
    """After a time 0 at which a, in force, died."""
    retained = nobody_moves(keep)
    retained.update([ME, died(), member("b")], IN_FORCE, 0.0)
    return retained


def adopting(*peers: Peer) -> Retained:
    """At the start of a run."""
    retained = nobody_moves()
    retained.adopt(peers)
    return retained


# --- members that leave, perhaps to come back elsewhere


def leaving(claimed: tuple[str, ...] = ()) -> tuple[Retained, Member]:
    """A member that left at 1.0, of those who are announced elsewhere or not; and how gossip has it."""
    retained, left = Retained(KEEP, claimed.__contains__), member("a", state=LEFT, since=1.0)
    assert retained.update([ME, left, member("b")], IN_FORCE, 1.0) == (A,)
    return retained, left


def test_a_member_that_has_left_keeps_its_peer_for_as_long_as_it_may_be_announced_elsewhere():
    """What says so may have been overtaken by the leave."""
    retained, left = leaving()
    assert retained.next_change() == 1.0 + ELSEWHERE_WITHIN
    assert retained.update([ME, left], IN_FORCE, 0.9 + ELSEWHERE_WITHIN) == (A,)
    assert retained.update([ME, left], IN_FORCE, 1.0 + ELSEWHERE_WITHIN) == ()
    assert retained.next_change() is None


def test_a_member_that_has_left_and_is_announced_elsewhere_keeps_its_peer_until_that_counts():
    """Or for as long as it may take, whether the announcement came with the leave or after it."""
    retained, left = leaving(claimed=("a",))
    assert retained.next_change() == 1.0 + PATIENCE
    assert retained.update([ME, left], IN_FORCE, 0.9 + PATIENCE) == (A,)
    assert retained.update([ME, left], IN_FORCE, 1.0 + PATIENCE) == ()
    assert retained.next_change() is None

    claimed: list[str] = []
    late = Retained(KEEP, claimed.__contains__)
    assert late.update([ME, left], IN_FORCE, 1.0) == (A,)
    claimed.append("a")
    assert late.update([ME, left], IN_FORCE, 1.0 + ELSEWHERE_WITHIN) == (A,)
    claimed.clear()  # it was another, and the one who has left does not answer
    assert late.update([ME, left], IN_FORCE, 2.0 + ELSEWHERE_WITHIN) == ()


@pytest.mark.parametrize("known", [[member("a")], [], [member("a", state=SUSPECT)]])
def test_who_is_back_or_no_longer_known_is_not_kept_for_having_left(known):
    """Its own record counts, or it is over."""
    retained, _ = leaving(claimed=("a",))
    assert retained.update([ME, *known], IN_FORCE, 1.1) == ()


def test_who_has_left_and_is_forgotten_or_no_longer_in_force_is_not_kept():
    """As it is with those who failed."""
    retained, left = leaving()
    assert retained.update([ME, left], {"b": B}, 1.1) == ()
    assert retained.update([ME, left], {"b": B}, 1.2) == ()
    retained, left = leaving()
    retained.forget("a")
    assert retained.update([ME, left], IN_FORCE, 1.1) == ()
    assert retained.update([ME, left], IN_FORCE, 1.2) == ()


# --- members that died


def test_a_member_that_died_is_kept_for_its_time_and_beyond_being_reaped():
    """Gossip forgets the dead after a minute; the peer stays as it was in force."""
    retained = failed_at_zero()
    assert retained.update([ME, died(), member("b")], IN_FORCE, 1.0) == (A,)
    for now in (61.0, KEEP - 1):
        assert retained.update([ME, member("b")], IN_FORCE, now) == (A,)
    assert (retained.failed, retained.next_change()) == ({"a"}, KEEP)
    assert retained.update([ME, member("b")], IN_FORCE, KEEP) == ()
    assert (retained.failed, retained.next_change()) == (frozenset(), None)


def test_time_counts_from_the_death():
    """Not from when the agent came to look at it."""
    retained = nobody_moves()
    assert retained.update([died(at=100.0)], IN_FORCE, 150.0) == (A,)
    assert retained.next_change() == 100.0 + KEEP


def test_a_slow_helper_gives_nobody_a_second_time():
    """What is over stays over while it is still in force, and its member still among the dead."""
    retained = failed_at_zero(keep=10.0)
    for now in (10.0, 11.0, 29.0):
        assert retained.update([died()], IN_FORCE, now) == ()


def test_nothing_is_kept_where_that_is_not_wanted():
    """--retain-failed 0."""
    assert nobody_moves(0.0).update([died()], IN_FORCE, 0.0) == ()


def test_who_was_never_in_force_is_not_kept():
    """There is no peer to keep."""
    assert nobody_moves().update([died("c")], IN_FORCE, 0.0) == ()


@pytest.mark.parametrize("state", [ALIVE, SUSPECT])
def test_a_member_that_returns_speaks_for_itself(state):
    """With whatever key it comes; and if it dies again, its time begins again."""
    retained = failed_at_zero()
    assert retained.update([member("a", state=state)], IN_FORCE, 50.0) == ()
    renewed = {"a": replace(A, public_key=key("new"))}
    assert retained.update([died(at=100.0)], renewed, 100.0) == (renewed["a"],)
    assert retained.next_change() == 100.0 + KEEP


@pytest.mark.parametrize("retained", [nobody_moves(), failed_at_zero()])
def test_who_leaves_goes_at_once(retained):
    """It said so itself."""
    assert retained.update([member("a", state=LEFT)], IN_FORCE, 1.0) == ()
    assert retained.update([], IN_FORCE, 2.0) == ()


def test_a_live_member_without_a_peer_is_not_kept_for_it():
    """Whoever is live and refused was not failed."""
    assert nobody_moves().update([member("a", meta=b"x")], IN_FORCE, 0.0) == ()
    assert nobody_moves().update([ME], IN_FORCE, 0.0) == ()


def test_who_has_lost_its_place_does_not_come_back():
    """A live member took its key, and has left again before the failed one's time was up."""
    retained = failed_at_zero()
    thief = replace(peer("thief"), public_key=A.public_key)
    assert retained.update([died()], {"thief": thief}, 10.0) == ()
    assert retained.update([died()], {}, 20.0) == ()


def test_the_forgotten_go_at_once_and_not_for_having_died():
    """While gossip still lists them as dead, and after."""
    retained = failed_at_zero()
    retained.forget("a")
    assert retained.failed == frozenset()
    assert retained.update([died()], IN_FORCE, 1.0) == ()
    assert retained.update([died()], IN_FORCE, 2.0) == ()
    assert retained.update([], IN_FORCE, 3.0) == ()


def test_a_forgotten_member_that_returns_is_a_member_like_others():
    """Its next death is kept."""
    retained = failed_at_zero()
    retained.forget("a")
    retained.update([member("a")], IN_FORCE, 10.0)
    assert retained.update([died(at=20.0)], IN_FORCE, 20.0) == (A,)


# --- peers of an earlier run


def test_adopted_peers_stay_while_nobody_can_be_asked():
    """A restart without a network first empties no working mesh."""
    retained = adopting(A, B)
    assert retained.update([ME], IN_FORCE, 1e6) == (A, B)
    assert (retained.adopted, retained.next_change()) == ({"a", "b"}, None)


def test_adopted_peers_that_nobody_confirms_go_half_a_minute_after_the_first_exchange():
    """Only the first counts."""
    retained = adopting(A)
    retained.exchanged(100.0)
    retained.exchanged(120.0)
    assert retained.next_change() == 100.0 + CONFIRM_WITHIN
    assert retained.update([ME], IN_FORCE, 129.0) == (A,)
    assert retained.update([ME], IN_FORCE, 130.0) == ()
    assert (retained.adopted, retained.next_change()) == (frozenset(), None)


@pytest.mark.parametrize("in_force", [{}, IN_FORCE])
@pytest.mark.parametrize("state", [ALIVE, SUSPECT, LEFT])
def test_gossip_about_an_adopted_peer_ends_the_adoption(state, in_force):
    """The member's own record counts, or it has left; either way for good."""
    retained = adopting(A)
    assert retained.update([member("a", state=state)], in_force, 1.0) == ()
    assert retained.update([ME], in_force, 2.0) == ()


def test_an_adopted_peer_that_gossip_knows_as_dead_is_a_failed_one():
    """It is there for its time, whether or not anybody confirms it."""
    retained = adopting(A)
    retained.exchanged(1.0)
    assert retained.update([died(at=5.0)], IN_FORCE, 5.0) == (A,)
    assert (retained.failed, retained.adopted, retained.next_change()) == ({"a"}, frozenset(), 5.0 + KEEP)
    assert retained.update([ME], IN_FORCE, 100.0) == (A,)


def test_what_the_helper_has_replaces_what_the_file_says():
    """The one adopted later counts."""
    older = replace(A, public_key=key("older"))
    retained = adopting(older)
    retained.adopt([A])
    assert retained.update([ME], {"a": A}, 0.0) == (A,)


@pytest.mark.parametrize(
    "rival",
    [
        replace(peer("rival"), public_key=A.public_key),
        replace(peer("rival"), overlay_addr=A.overlay_addr),
        replace(A, public_key=key("rival"), overlay_addr=derive(NET, b"A", 0), name="A"),
    ],
)
def test_an_adopted_peer_whose_place_is_taken_does_not_come_back(rival):
    """Though the one who took it has left."""
    retained = adopting(A)
    assert retained.update([ME], {rival.name: rival}, 1.0) == ()
    assert retained.update([ME], {}, 2.0) == ()


def test_a_forgotten_peer_is_not_adopted():
    """Forgotten is forgotten."""
    retained = adopting(A, B)
    retained.forget("a")
    assert retained.update([ME], IN_FORCE, 1.0) == (B,)


# --- what the state file remembers


@pytest.mark.parametrize("addr", ["192.0.2.7", "::ffff:192.0.2.7"])
def test_a_saved_node_is_the_peer_it_was(addr):
    """Key and overlay address from its metadata; a mapped address is IPv4."""
    (found,) = saved_peers([SavedNode("a", addr, metadata("a"))], alive_since=0)
    assert found == Peer(key("a"), IPv4Address("192.0.2.7"), derive(NET, b"a", 0), "a")


def test_saved_nodes_that_make_no_peer_are_left_out():
    """Written by another version, or by hand; their neighbours are read."""
    nodes = [
        SavedNode("a", "192.0.2.1", metadata("a")),
        SavedNode("unknown", "192.0.2.2", None),
        SavedNode("empty", "192.0.2.3", b""),
        SavedNode("bad", "192.0.2.4", b"x" * 40),
        SavedNode("a b", "192.0.2.5", metadata("a b")),
        SavedNode("b\udcff", "192.0.2.6", metadata("a")),
        SavedNode("x" * 65, "192.0.2.7", metadata("a")),
        SavedNode("b", "2001:db8::1", metadata("b")),
    ]
    assert [p.name for p in saved_peers(nodes, alive_since=0)] == ["a", "b"]


def test_of_saved_nodes_those_are_peers_that_were_there_when_it_was_saved():
    """Who had left is none, who had failed only if that is no longer ago than tunnels are kept."""
    nodes = [
        SavedNode("a", "192.0.2.1", metadata("a"), 1000, LastSeen.ALIVE),
        SavedNode("b", "192.0.2.2", metadata("b"), 1000, LastSeen.LEFT),
        SavedNode("c", "192.0.2.3", metadata("c"), 1000, LastSeen.FAILED),
        SavedNode("d", "192.0.2.4", metadata("d"), 1001, LastSeen.FAILED),
    ]
    assert [p.name for p in saved_peers(nodes, alive_since=1000)] == ["a", "d"]


# --- whatever comes

TINY_POLICY = replace(POLICY, overlay_net=TINY, own_address=IPv4Address("10.9.8.100"), max_peers=4)


@st.composite
def a_rival_record(draw: st.DrawFn) -> Member:
    """A member of the tiny net in any state, often at odds with another over its address or key."""
    name = draw(st.sampled_from(RIVALS))
    whose = draw(st.sampled_from([key("a"), key(name)]))
    return member(name, state=draw(st.sampled_from(NodeState)), net=TINY, public_key=whose)


a_step = st.tuples(
    st.floats(0.0, 100.0),
    st.lists(a_rival_record(), max_size=5, unique_by=lambda m: m.name),
    st.booleans(),
    st.none() | st.sampled_from(RIVALS),
)


@settings(deadline=None)
@given(st.lists(a_rival_record(), max_size=5, unique_by=lambda m: m.name), st.lists(a_step, max_size=15))
def test_nobody_is_kept_against_what_gossip_says_and_nobody_for_ever(before, steps):
    """Through any history: no live name is kept, none longer than its time, and in the end none at all."""
    retained, now, members = nobody_moves(), 0.0, []
    in_force = {p.name: p for p in desired([replace(m, state=ALIVE) for m in before], TINY_POLICY, {}).peers}
    retained.adopt(in_force.values())
    last_seen = dict.fromkeys(RIVALS, 0.0)
    for wait, heard, exchanged, forgotten in steps:
        now += wait
        members = [replace(m, since=now) for m in heard]
        if exchanged:
            retained.exchanged(now)
        if forgotten is not None:
            retained.forget(forgotten)
        kept = retained.update(members, in_force, now)
        names = {p.name for p in kept}
        assert len(names) == len(kept)
        left = names - retained.failed - retained.adopted
        assert left <= {m.name for m in members if m.state is LEFT}
        assert names <= in_force.keys() - {forgotten}
        assert not (names - left) & {m.name for m in members if m.state is not DEAD}
        last_seen |= {m.name: now for m in members}
        assert all(now < last_seen[name] + KEEP for name in retained.failed)
        in_force = {p.name: p for p in desired(members, TINY_POLICY, in_force, kept).peers[: TINY_POLICY.max_peers]}
    retained.exchanged(now)
    retained.update(members, in_force, now)
    for _ in RIVALS:
        due = retained.next_change()
        if due is not None:
            assert due > now
            now = due
            retained.update(members, in_force, now)
    assert (retained.failed, retained.adopted, retained.next_change()) == (frozenset(), frozenset(), None)
