"""This node's claim to its address, and where its incarnations begin."""

from __future__ import annotations

import pytest

from wesher.mesh.addresses import first_incarnation, own_claim
from wesher.mesh.node_meta import Claim
from wesher.mesh.saved_state import OwnClaim, SavedState

TODAY = 200_000_000


def saved(own: OwnClaim | None) -> SavedState:
    """A state file with this claim."""
    return SavedState(cluster_key=None, nodes=(), own=own)


def test_a_first_start_claims_the_first_address_from_now():
    """Attempt 0 is the original's address."""
    assert own_claim(saved(None), "node-a", TODAY) == Claim(attempt=0, claim_time=TODAY)


def test_a_claim_keeps_its_age_over_restarts():
    """So that the older of two can keep its address."""
    own = OwnClaim("node-a", incarnation=5, attempt=3, claim_time=1234)
    assert own_claim(saved(own), "node-a", TODAY) == Claim(attempt=3, claim_time=1234)


@pytest.mark.parametrize("name", ["node-b", "NODE-A"])
def test_a_renamed_node_claims_anew(name):
    """Under another name the address is another, and its age says nothing."""
    own = OwnClaim("node-a", incarnation=TODAY + 500, attempt=3, claim_time=1234)
    assert own_claim(saved(own), name, TODAY) == Claim(attempt=0, claim_time=TODAY)
    assert first_incarnation(saved(own), name, TODAY) == TODAY


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
