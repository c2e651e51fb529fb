"""Every input that fuzzing has found goes through its target again, without a fuzzer."""

import importlib
from pathlib import Path

import pytest

from security.fuzz.targets import TARGETS

CORPUS = Path(__file__).parents[2] / "security" / "fuzz" / "corpus"


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_of_the_corpus_keeps_the_targets_promises(target):
    """Empty input too, which libFuzzer always tries first."""
    check = importlib.import_module(TARGETS[target]).check
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    check(b"")
    for path in inputs:
        try:
            check(path.read_bytes())
        except Exception as error:
            error.add_note(f"replay: python -m security.fuzz {target} {path}")
            raise
