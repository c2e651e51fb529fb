"""What the `nightly` marker means: in the guest the test takes longer than CI has for it. Without `--nightly` it is
deselected, which the last line of the run counts; `dist/test-nightly.sh` runs it."""

from __future__ import annotations

import os

import pytest

from tests.vm.marker import INSIDE


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option; it is there when this directory is named on the command line."""
    parser.getgroup("guest").addoption("--nightly", action="store_true", help="run also what CI leaves out")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what nobody has asked for; in the guest all has been asked for that is named."""
    if INSIDE in os.environ or config.getoption("nightly", default=False):
        return
    left_out = [item for item in items if item.get_closest_marker("nightly") is not None]
    items[:] = [item for item in items if item not in left_out]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
