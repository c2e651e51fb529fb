"""This node's claim to its address, who has a better right to that, what is next, and where incarnations begin."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from itertools import count
from random import Random

import pytest

from privhelper.addressing import derive, is_edge
from tests.unit.mesh.members import NET, POLICY, TINY, key, member
from wesher.mesh.addresses import (
    CALM,
    FIRST_WAIT,
    LONGEST_WAIT,
    Moves,
    better_right,
    first_incarnation,
    next_attempts,
    own_claim,
)
from wesher.mesh.node_meta import Claim
from wesher.mesh.saved_state import OwnClaim, SavedState
from wesher.swim.members import CLOCK_IS_SET
from wesher.wire.messages import NodeState

TODAY = 200_000_000


def saved(own: OwnClaim | None) -> SavedState:
    """A state file with this claim."""
    return SavedState(cluster_key=None, nodes=(), own=own)


def test_a_first_start_claims_the_first_address_from_now():
    """Attempt 0 is the original's address."""
    assert own_claim(saved(None), "node-a", TODAY) == Claim(attempt=0, claim_time=TODAY)


def test_a_claim_keeps_its_age_over_restarts():
    """So that the older of two can keep its address."""
    own = OwnClaim("node-a", incarnation=5, attempt=3, claim_time=TODAY - 9_000_000)
    assert own_claim(saved(own), "node-a", TODAY) == Claim(attempt=3, claim_time=TODAY - 9_000_000)


@pytest.mark.parametrize("name", ["node-b", "NODE-A"])
def test_a_renamed_node_claims_anew(name):
    """Under another name the address is another, and its age says nothing."""
    own = OwnClaim("node-a", incarnation=TODAY + 500, attempt=3, claim_time=1234)
    assert own_claim(saved(own), name, TODAY) == Claim(attempt=0, claim_time=TODAY)
    assert first_incarnation(saved(own), name, TODAY) == TODAY


@pytest.mark.parametrize(
    ("claimed", "today", "dated"),
    [
        (CLOCK_IS_SET, TODAY, CLOCK_IS_SET),
        (CLOCK_IS_SET - 1, TODAY, TODAY),  # by a clock that had not been set; now it is
        (7, 99, 7),  # nor is it now
        (CLOCK_IS_SET - 1, CLOCK_IS_SET - 1, CLOCK_IS_SET - 1),
        (CLOCK_IS_SET - 1, CLOCK_IS_SET, CLOCK_IS_SET),
        (TODAY + 86_400, TODAY, TODAY + 86_400),
        (TODAY + 86_401, TODAY, TODAY),  # by one that was years ahead
    ],
)
def test_a_saved_claim_that_no_clock_explains_begins_today(claimed, today, dated):
    """Else it would lose to everybody for ever."""
    own = OwnClaim("node-a", 5, 3, claimed)
    assert own_claim(saved(own), "node-a", today) == Claim(3, dated)


@pytest.mark.parametrize(
    ("before", "pinned", "now"),
    [(3, True, Claim(255, TODAY)), (255, False, Claim(0, TODAY)), (255, True, Claim(255, TODAY - 9))],
)
def test_a_given_address_is_another_claim(before, pinned, now):
    """With --address and without it; restarting with it makes its claim no younger."""
    assert own_claim(saved(OwnClaim("node-a", 5, before, TODAY - 9)), "node-a", TODAY, pinned=pinned) == now


@pytest.mark.parametrize(
    ("used", "today", "first"),
    [
        (None, TODAY, TODAY),
        (None, 0, 1),  # a clock that is not set
        (TODAY - 9, TODAY, TODAY),
        (TODAY, TODAY, TODAY + 1),  # restarted within a second
        (TODAY + 86_401, TODAY, TODAY),  # no clock explains it: forced upon us, and nobody would hear what follows it
        (TODAY + 86_400, TODAY, TODAY + 86_401),
        (TODAY + 77, TODAY, TODAY + 78),  # the clock stepped back, or refutations ran ahead
    ],
)
def test_incarnations_begin_above_all_that_were_used(used, today, first):
    """Else what others remember of the former run would win."""
    own = None if used is None else OwnClaim("node-a", used, 0, 0)
    assert first_incarnation(saved(own), "node-a", today) == first


# --- who has a better right


RIVAL = next(name for number in count() if derive(TINY, (name := f"n{number}").encode(), 0) == derive(TINY, b"me", 0))
HOME = replace(POLICY, overlay_net=TINY, own_address=derive(TINY, b"me", 0))
OURS = Claim(0, TODAY)


def rival(claim=Claim(0, TODAY - 1), **changes):  # noqa: B008 - immutable
    """A member that claims our address, by default for longer."""
    return member(RIVAL, net=TINY, claim=claim, **changes)


@pytest.mark.parametrize(
    ("found", "wins"),
    [
        (rival(), True),
        (rival(state=NodeState.SUSPECT), True),
        (rival(state=NodeState.DEAD), False),
        (rival(state=NodeState.LEFT), False),
        (rival(None), True),  # a Go node
        (rival(Claim(0, TODAY + 1)), False),
        (rival(public_key=bytes(32)), False),  # no peer of anybody's
        (rival(public_key=key("other")), True),
        (replace(rival(), addr=b"\x7f\0\0\x01"), False),
        (replace(rival(), name="me"), False),  # our own record
        (member("elsewhere", net=TINY, claim=Claim(0, TODAY - 1)), False),
        (member(RIVAL, address=derive(TINY, b"me", 1), claim=Claim(0, TODAY - 1)), False),
    ],
)
def test_only_a_live_member_that_could_be_a_peer_can_have_a_better_right(found, wins):
    """With a claim to the very address."""
    assert better_right([member("me", net=TINY), found], HOME, OURS) == (RIVAL if wins else None)


def test_the_best_of_several_rivals_is_named():
    """It is who will have the address."""
    second = next(n for i in count(1000) if derive(TINY, (n := f"n{i}").encode(), 0) == derive(TINY, b"me", 0))
    members = [rival(), member(second, net=TINY, claim=Claim(0, TODAY - 2))]
    assert better_right(members, HOME, OURS) == second
    assert better_right(reversed(members), HOME, OURS) == second


def test_an_address_under_a_name_that_does_not_derive_it_is_no_rivals():
    """Else anybody could drive anybody away."""
    stranger = next(n for i in count() if derive(NET, b"me", 0) != derive(NET, (n := f"x{i}").encode(), 0))
    assert better_right([member(stranger, address=derive(NET, b"me", 0), claim=Claim(0, 0))], POLICY, OURS) is None


# --- what is next


SMALL = ip_network("10.9.8.0/24")
WAYS = [derive(SMALL, b"me", attempt) for attempt in range(16)]


def test_the_attempts_after_the_present_one_come_first_and_then_those_before():
    """All fifteen, where nobody has any."""
    assert len(set(WAYS)) == 16
    assert next_attempts(SMALL, "me", 13, (), ()) == [14, 15, *range(13)]


def test_taken_addresses_are_left_out_and_those_of_the_absent_come_last():
    """A member that is not there may come back with a better right."""
    assert next_attempts(SMALL, "me", 0, WAYS[:14], ()) == [14, 15]
    assert next_attempts(SMALL, "me", 0, WAYS[3:], {WAYS[1]}) == [2, 1]
    assert next_attempts(SMALL, "me", 0, WAYS, ()) == []


@pytest.mark.parametrize("net", ["10.9.8.0/29", "10.9.8.0/30", "fd00::/125"])
def test_the_first_and_the_last_address_of_a_net_are_nobodys(net):
    """Nor is the present one tried again under another number."""
    net = ip_network(net)
    for current in range(16):
        own = derive(net, b"me", current)
        found = [derive(net, b"me", attempt) for attempt in next_attempts(net, "me", current, (), ())]
        assert not any(is_edge(net, address) or address == own for address in found)


# --- how often


def test_each_move_doubles_the_wait_until_the_longest():
    """With jitter, so that two who lose at once do not take the same one next."""
    moves = Moves(Random(1))
    for step in range(20):
        waits = [moves.wait(0.0) for _ in range(200)]
        base = min(LONGEST_WAIT, FIRST_WAIT * 2**step)
        assert 0.5 * base <= min(waits) < 0.6 * base
        assert 1.4 * base < max(waits) <= 1.5 * base
        moves.moved(0.0)


@pytest.mark.parametrize(("calm", "quick"), [(CALM, False), (CALM + 1, True)])
def test_after_an_hour_of_calm_a_move_is_quick_again(calm, quick):
    """Counted from the last."""
    moves = Moves(Random(1))
    for _ in range(10):
        moves.moved(100.0)
    assert (moves.wait(100.0 + calm) <= 1.5 * FIRST_WAIT) is quick
