"""The first columns of the partition matrix, which is in ARCHITECTURE.md: `python -m tests.sim.healing` redoes it."""

from __future__ import annotations

import pytest

from tests.sim.healing import LENGTHS, SHAPES, WITHIN, heals_after


@pytest.mark.parametrize("length", ["10 s", "60 s", "200 s"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_mesh_that_was_cut_is_whole_within_half_a_minute(shape: str, length: str) -> None:
    """From the end of the cut until everybody has everybody as a peer again. Longer cuts take minutes of CPU."""
    assert heals_after(shape, LENGTHS[length], 0) <= WITHIN
