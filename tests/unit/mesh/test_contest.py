"""Who has the better right to an address: the table, each line against the next, and that it orders everybody."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wesher.mesh.contest import Claimant
from wesher.mesh.node_meta import PINNED_ATTEMPT, Claim
from wesher.swim.members import CLOCK_IS_SET, HIGHEST

TODAY = 200_000_000

IN_ORDER = (
    Claimant("z", Claim(0, HIGHEST + 9), proven=True),
    Claimant("y", None),
    Claimant("z", None),
    Claimant("x", Claim(PINNED_ATTEMPT, TODAY)),
    Claimant("a", Claim(PINNED_ATTEMPT, TODAY + 1)),
    Claimant("w", Claim(15, CLOCK_IS_SET)),
    Claimant("w", Claim(0, CLOCK_IS_SET + 1)),
    Claimant("v", Claim(3, TODAY)),
    Claimant("w", Claim(0, TODAY)),
    Claimant("u", Claim(0, HIGHEST)),
    Claimant("b", Claim(0, 0)),
    Claimant("a", Claim(0, CLOCK_IS_SET - 1)),
    Claimant("a", Claim(0, HIGHEST + 1)),
)
"""Each has a better right than all that follow it."""


@pytest.mark.parametrize(("better", "worse"), list(combinations(IN_ORDER, 2)))
def test_the_table_decides(better, worse):
    """Proven, fixed, pinned, older, lower; a claim time that no clock explains is younger than any."""
    assert better.rank() < worse.rank()


claimants = st.builds(
    Claimant,
    st.sampled_from("abc"),
    st.none()
    | st.builds(Claim, st.sampled_from([0, 7, PINNED_ATTEMPT]), st.sampled_from([0, TODAY, TODAY + 1, 2**32 - 1])),
)


@given(claimants, claimants)
def test_of_two_names_one_has_the_better_right(one, other):
    """Whatever they claim: else two nodes could each think that it is the other's to move."""
    assume(one.name != other.name)
    assert one.rank() != other.rank()
