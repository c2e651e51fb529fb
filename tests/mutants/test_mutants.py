"""The tests notice when a rule of the protocol core is wrong, or one of the privileged line: a sample of each here, all
with `python -m tests.mutants` and `python -m tests.mutants line`.

The sample is the same until the rules change, so that nobody's change fails for another's gap. MUTANTS_SEED draws
another one.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType

import pytest

from tests.mutants import tables
from tests.mutants.equivalent import EQUIVALENT
from tests.mutants.mutation import COMPARISONS, Mutant, mutants
from tests.mutants.rules import SETS
from tests.mutants.trial import ROOT, all_mutants, words

SAMPLES = {"gossip": 90, "keys": 20, "line": 90}
"""About a minute's worth on one core, together."""

WORDS = words(SETS["gossip"])

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
@pytest.mark.parametrize("name", SETS)
def test_each_rule_of_a_sample_is_missed_by_some_test(name: str) -> None:
    """When it is made wrong. Whatever survives is named with its file and line."""
    seed, many = os.environ.get("MUTANTS_SEED", "0"), SAMPLES[name]
    done = tried(name, "--sample", str(many), "--seed", seed, "--jobs", str(os.cpu_count() or 1))
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert f"{many} mutants: {many} noticed" in done.stdout


@pytest.mark.timeout(900)
def test_a_mutant_that_nobody_notices_is_a_failure() -> None:
    """Shown with one that nobody can notice, whose excuse is taken away, and with a few of the tests."""
    name = next(iter(EQUIVALENT["gossip"]))
    before = """
from dataclasses import replace
from tests.mutants import equivalent, rules
equivalent.EQUIVALENT["gossip"].clear()
rules.SETS["gossip"] = replace(rules.SETS["gossip"], tests=("tests/unit/swim/test_leaving.py",))
"""
    done = tried("--only", name, before=before)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"SURVIVED   {name}" in done.stdout


@pytest.mark.parametrize("name", SETS)
def test_every_excuse_is_for_a_mutant_that_there_is(name: str) -> None:
    """And every name is one mutant's only."""
    names = [mutant.name for mutant in all_mutants(SETS[name])]
    assert len(set(names)) == len(names)
    assert set(EQUIVALENT[name]) <= set(names)


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
    ("line", "after"),
    [
        ("raise ValueError(now)", ["pass"]),
        (
            "return now & 1 | 2",
            ["now & 1 & 2", "now | 1", "2", "0", "3", "1"],
        ),
        ("return now.lower()", ["now"]),
        ("return now[:4]", ["now", "5", "3"]),
    ],
)
def test_what_is_raised_reckoned_in_bits_folded_or_cut_can_be_wrong(line: str, after: list[str]) -> None:
    """Most of what the line between agent and helper is made of."""
    found = [mutant.after for mutant in mutants("toy", f"def late(now):\n    {line}\n", None, WORDS)]
    assert found == after


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
    """Each ruling for every other ruling, and none at all."""
    source = "def rule():\n    return Ruling.TELL\n"
    found = [mutant.after for mutant in mutants("toy", source, None, WORDS)]
    assert found == ["pass", *(f"Ruling.{name}" for name in WORDS["Ruling"].__members__ if name != "TELL")]


TABLES = """
import enum
from collections.abc import Mapping

class Phase(enum.Enum):
    NEW = 1
    OLD = 2

PERMITTED: Mapping[str, frozenset[Phase]] = {"hello": frozenset((Phase.NEW,))}
TAKEN = frozenset(("a", "b"))
NET = "10.0.0.0/8"
SMALL = 3
LARGE = 2 * SMALL
assert LARGE < 8
class Phases:
    LARGE = 2

def fits(number, most=LARGE):
    return number <= most and number <= 2 * SMALL
"""


@pytest.fixture
def table_mutants() -> Iterator[dict[str, Mutant]]:
    """Mutants of a module's tables, by name; the module is loaded, and another has taken names from it."""
    module, other = ModuleType("a_toy"), ModuleType("another_toy")
    module.__file__ = "a_toy.py"
    exec(TABLES, vars(module))
    vars(other).update(SMALL=module.SMALL, PERMITTED=module.PERMITTED)
    sys.modules |= {"a_toy": module, "another_toy": other}
    made = mutants("a_toy", TABLES, ("none",), {"Phase": module.Phase}, tables=True)
    yield {mutant.name.removeprefix("a_toy."): mutant for mutant in made}
    del sys.modules["a_toy"], sys.modules["another_toy"]


def test_a_table_is_made_wrong_in_each_of_these_ways(table_mutants: dict[str, Mutant]) -> None:
    """What a row permits, what a list has, and numbers."""
    row = "frozenset((Phase.NEW,))"
    assert list(table_mutants) == [
        f"PERMITTED: {row} -> {row} ^ {{Phase.NEW}}",
        f"PERMITTED: {row} -> {row} ^ {{Phase.OLD}}",
        "PERMITTED: Phase.NEW -> *()",
        "PERMITTED: Phase.NEW -> Phase.OLD",
        "TAKEN: 'a' -> *()",
        "TAKEN: 'b' -> *()",
        "NET: '10.0.0.0/8' -> '10.0.0.0/9'",
        "NET: '10.0.0.0/8' -> '10.0.0.0/7'",
        "SMALL: 3 -> 4",
        "SMALL: 3 -> 2",
        "LARGE: 2 * SMALL -> 2 / SMALL",
        "LARGE: 2 -> 3",
        "LARGE: 2 -> 1",
    ]


def test_a_table_that_is_made_anew_is_so_for_everybody(table_mutants: dict[str, Mutant]) -> None:
    """Who imported it, and what was made of it: constants and defaults."""
    toy, other = sys.modules["a_toy"], sys.modules["another_toy"]
    assert toy.fits(5)
    tables.make_anew(table_mutants["SMALL: 3 -> 2"])
    assert (toy.SMALL, toy.LARGE, other.SMALL) == (2, 4, 2)
    assert not toy.fits(5)
    tables.make_anew(table_mutants["PERMITTED: Phase.NEW -> *()"])
    assert toy.PERMITTED == other.PERMITTED == {"hello": frozenset()}


def test_a_table_with_which_the_module_would_not_load_says_so(table_mutants: dict[str, Mutant]) -> None:
    """What it asserts of itself is asserted again."""
    with pytest.raises(AssertionError):
        tables.make_anew(table_mutants["SMALL: 3 -> 4"])
