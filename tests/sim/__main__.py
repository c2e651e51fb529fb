"""`python -m tests.sim SCENARIO SEED` replays one run and tells its story; without these, many seeds of all of them."""

from __future__ import annotations

import argparse
import logging
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.sim.run import Result, run
from tests.sim.scenarios import SCENARIOS


def main() -> int:
    """The exit status: 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("scenario", nargs="?", choices=sorted(SCENARIOS))
    parser.add_argument("seed", nargs="?", type=int)
    parser.add_argument("--seeds", type=int, default=100, help="how many of each scenario")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--quiet", action="store_true", help="a replay without what the agents log")
    options = parser.parse_args()
    if options.seed is not None:
        return _replay(options.scenario, options.seed, logging.CRITICAL if options.quiet else logging.INFO)
    names = [options.scenario] if options.scenario is not None else list(SCENARIOS)
    failed = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for name in names:
            seeds = range(options.first_seed, options.first_seed + options.seeds)
            results = list(pool.map(partial(run, name), seeds, chunksize=4))
            failed += _report(name, results)
    return 1 if failed else 0


def _replay(scenario: str, seed: int, level: int) -> int:
    result = run(scenario, seed, tell=print, level=level)
    print(f"fault: {result.fault or 'none'}")
    print(f"digest {result.digest}, {result.virtual:.1f} virtual seconds in {result.cpu:.2f}")
    return 1 if result.fault else 0


def _report(name: str, results: list[Result]) -> int:
    bad = [result for result in results if result.fault]
    took, allowed = max((result.slowest for result in results), key=lambda pair: pair[0] / pair[1])
    cpu = sum(result.cpu for result in results) / len(results)
    print(
        f"{name:24} seeds {results[0].seed} to {results[-1].seed}: {len(bad)} failed; "
        f"slowest {took:.1f} of {allowed:.1f} s; {cpu:.2f} s of CPU each",
        flush=True,
    )
    for result in bad:
        print(f"  {result.replay}: {result.fault}", flush=True)
    return len(bad)


if __name__ == "__main__":
    sys.exit(main())
