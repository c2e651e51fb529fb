"""The tests of the protocol core notice when a rule is wrong: a sample of it here, all with `python -m tests.mutants`.

The sample is the same until the rules change, so that nobody's change fails for another's gap. MUTANTS_SEED draws
another one.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from types import FunctionType

import pytest

from tests.mutants.equivalent import EQUIVALENT
from tests.mutants.mutation import COMPARISONS, Mutant, mutants
from tests.mutants.trial import ROOT, WORDS, all_mutants

SAMPLE = 120
"""About a minute's worth on one core."""

TOY = """
def late(now, until, told):
    if now >= until and not told:
        return min(now, 3) in (now, until)
    assert told is not None
    return told
"""


def tried(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """What `python -m tests.mutants` says to these arguments, in an interpreter that has run `before`."""
    program = f"import sys\n{before}\nfrom tests.mutants.__main__ import main\nsys.exit(main())"
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.timeout(900)
def test_each_rule_of_a_sample_is_missed_by_some_test() -> None:
    """When it is made wrong. Whatever survives is named with its file and line."""
    seed = os.environ.get("MUTANTS_SEED", "0")
    done = tried("--sample", str(SAMPLE), "--seed", seed, "--jobs", str(os.cpu_count() or 1))
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert f"{SAMPLE} mutants: {SAMPLE} noticed" in done.stdout


@pytest.mark.timeout(900)
def test_a_mutant_that_nobody_notices_is_a_failure() -> None:
    """Shown with one that nobody can notice, whose excuse is taken away, and with a few of the tests."""
    name = next(iter(EQUIVALENT))
    before = """
from tests.mutants import equivalent, rules
equivalent.EQUIVALENT.clear()
rules.TESTS = ("tests/unit/swim/test_leaving.py",)
"""
    done = tried("--only", name, before=before)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"SURVIVED   {name}" in done.stdout


def test_every_excuse_is_for_a_mutant_that_there_is() -> None:
    """And every name is one mutant's only."""
    names = [mutant.name for mutant in all_mutants()]
    assert len(set(names)) == len(names)
    assert set(EQUIVALENT) <= set(names)


def test_every_comparison_can_be_wrong() -> None:
    """No operator of the language is left out."""
    assert set(COMPARISONS) == set(ast.cmpop.__subclasses__())


def toy() -> dict[str, Mutant]:
    """Mutants of the toy, by what they change."""
    return {f"{mutant.before} -> {mutant.after}": mutant for mutant in mutants("toy", TOY, None, WORDS)}


def test_a_function_is_made_wrong_in_each_of_these_ways() -> None:
    """But for what is asserted."""
    whole = "now >= until and (not told)"
    assert list(toy()) == [
        f"{whole} -> now >= until or not told",
        f"{whole} -> not told",
        f"{whole} -> now >= until",
        "now >= until -> now > until",
        "now >= until -> now < until",
        "not told -> told",
        "min(now, 3) in (now, until) -> min(now, 3) not in (now, until)",
        "min(now, 3) in (now, until) -> min(now, 3) in (until,)",
        "min(now, 3) in (now, until) -> min(now, 3) in (now,)",
        "min(now, 3) -> max(now, 3)",
        "3 -> 4",
        "3 -> 2",
    ]


@pytest.mark.parametrize(
    ("change", "now", "until", "right"),
    [
        ("now >= until -> now > until", 2, 2, True),
        ("now >= until -> now < until", 3, 2, True),
        ("min(now, 3) -> max(now, 3)", 2, 1, True),
        ("3 -> 4", 4, 1, False),
    ],
)
def test_a_mutants_code_does_what_its_name_says(change: str, now: float, until: float, right: object) -> None:
    """And one leaves no trace in the next."""
    codes = {name: mutant.code("toy.py") for name, mutant in toy().items()}
    space: dict[str, FunctionType] = {}
    exec(TOY, space)
    assert space["late"](now, until, False) is right
    assert FunctionType(codes[change], space)(now, until, False) is not right


def test_words_of_the_rules_are_exchanged_for_each_other() -> None:
    """Each ruling for every other ruling."""
    source = "def rule():\n    return Ruling.TELL\n"
    found = [mutant.after for mutant in mutants("toy", source, None, WORDS)]
    assert found == [f"Ruling.{name}" for name in WORDS["Ruling"].__members__ if name != "TELL"]
