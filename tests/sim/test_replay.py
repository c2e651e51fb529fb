"""A seed is a run, byte for byte: on the network, on the privileged line, and in what is done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.run import run
from tests.sim.scenarios import SCENARIOS

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_seed_is_the_same_run(scenario):
    """And another seed another one."""
    first, second, other = run(scenario, 1), run(scenario, 1), run(scenario, 2)
    assert first.digest == second.digest != other.digest
    assert first.recoveries == second.recoveries


@pytest.mark.parametrize("scenario", ["chaos", "kernels_refuse", "one_is_hostile"])
def test_the_order_of_sets_is_never_chance(scenario):
    """Two processes that hash text differently make the same run."""
    digests = {_digest_in_another_process(scenario, hash_seed) for hash_seed in ("1", "2")}
    assert digests == {run(scenario, 1).digest}


def _digest_in_another_process(scenario: str, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", scenario, "1", "--quiet"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("digest "))
    return line.split()[1].rstrip(",")


def test_a_replay_tells_its_story(capsys):
    """What was done, when, and what the agents say of it."""
    story: list[str] = []
    run("one_is_cut_off", 3, tell=story.append, level=20)
    assert any("cut off" in line for line in story)
    assert any("n1: info: member 'n2': joined" in line for line in story)
