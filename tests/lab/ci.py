"""Where a machine lacks what a test needs, the test is skipped, and the end of the run shows it; under CI=true it fails
instead, because there nobody reads the end. What does not concern a machine, as another architecture's numbers, is no
lack.

Of a whole test, `pytest.mark.needs(there, what)` says so: `there` is whether the machine has it, `what` what it is.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def fail_in_ci(reason: str) -> None:
    """Whose machine has to be able to run everything."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must be able to run this: {reason}", pytrace=False)


def skip_but_in_ci(reason: str) -> NoReturn:
    """The end of a test that cannot go on."""
    fail_in_ci(reason)
    pytest.skip(reason)


def needs(there: bool, what: str) -> None:
    """Go on only where the machine has it."""
    if not there:
        skip_but_in_ci(f"this machine has no {what}")


def stop_without_its_needs(item: pytest.Item) -> None:
    """Go by a test's `needs` marks."""
    for mark in item.iter_markers("needs"):
        needs(*mark.args)
