"""Every scenario, with as many seeds as there is time for. `python -m tests.sim SCENARIO SEED` replays one."""

from __future__ import annotations

import time
from itertools import count

import pytest

from tests.sim.conftest import SAID
from tests.sim.run import run
from tests.sim.scenarios import SCENARIOS

AT_LEAST = 2
"""Seeds of each scenario, however slow the machine."""

AT_MOST = 40
"""However fast: a gate is to ask the same of everybody. `--seeds` explores."""


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_mesh_is_safe_throughout_and_whole_within_its_bound(scenario, pytestconfig):
    """From the first seed on; without `--seeds` each scenario gets an equal share of the time box."""
    first = pytestconfig.getoption("first_seed", default=0)
    wanted = pytestconfig.getoption("seeds", default=None)
    box = pytestconfig.getoption("sim_seconds", default=150.0) / len(SCENARIOS)
    begin = time.monotonic()
    results = []
    for seed in count(first) if wanted is None else range(first, first + wanted):
        late = time.monotonic() - begin > box
        if wanted is None and (len(results) >= AT_MOST or (late and len(results) >= AT_LEAST)):
            break
        result = run(scenario, seed)
        assert not result.fault, f"{result.fault}\nreplay: {result.replay}"
        results.append(result)
    took, allowed = max((result.slowest for result in results), key=lambda pair: pair[0] / pair[1])
    line = f"{scenario}: seeds {first} to {results[-1].seed}; slowest {took:.1f} of {allowed:.1f} virtual seconds"
    pytestconfig.stash.setdefault(SAID, []).append(line)
    print(line)
