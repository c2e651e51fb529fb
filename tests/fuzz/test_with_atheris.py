"""Each target under atheris for its share of a minute, beginning with its corpus."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from security.fuzz.targets import TARGETS
from tests.lab.ci import skip_but_in_ci

ROOT = Path(__file__).parents[2]
SECONDS = 60 // len(TARGETS)
SEED = 20261123
SHORT = "-max_len=2048"
"""Long inputs take long, and few seconds are better spent on many."""


def fuzz(target: str, found: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a target; new inputs go into `found`, and so does one that fails."""
    command = [sys.executable, "-m", "security.fuzz", target, *options, f"-artifact_prefix={found}/failed-"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)


@pytest.fixture(autouse=True)
def _atheris() -> None:
    """Skip where there is none, which the end of the run shows; CI must have it."""
    if importlib.util.find_spec("atheris") is None:
        why = f"NOT FUZZED: atheris is not installed for Python {sys.version_info.major}.{sys.version_info.minor}"
        skip_but_in_ci(why)


@pytest.mark.parametrize("target", TARGETS)
def test_a_few_seconds_of_fuzzing_find_nothing(target: str, tmp_path: Path):
    """What they find is a file, named in the output with the command that replays it."""
    corpus = ROOT / "security" / "fuzz" / "corpus" / target
    done = fuzz(target, tmp_path, str(tmp_path), str(corpus), f"-max_total_time={SECONDS}", f"-seed={SEED}", SHORT)
    assert done.returncode == 0, done.stderr[-4000:]
    runs = re.search(r"Done (\d+) runs", done.stderr)
    assert runs is not None, done.stderr[-4000:]
    print(f"{target}: {runs[1]} runs in {SECONDS} s with seed {SEED}")


def test_a_target_that_fails_says_how_to_replay_it(tmp_path: Path):
    """An input of another target's, made to fail by a check that nothing passes."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "broken.py").write_text(
        "import sys\nimport security.fuzz.targets.codec as target\n"
        "def check(data):\n    raise AssertionError('broken')\n"
        "target.check = check\n"
        "import security.fuzz.__main__ as fuzz\nfuzz.main()\n"
    )
    command = [sys.executable, tmp_path / "broken.py", "codec", f"-artifact_prefix={tmp_path}/failed-", "-seed=1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode != 0
    assert "replay: python -m security.fuzz codec FILE" in done.stderr
    (failed,) = tmp_path.glob("failed-*")
    assert str(failed) in done.stderr
