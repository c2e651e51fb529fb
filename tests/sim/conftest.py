"""How many seeds: by default as many as fit into the time box, with `--seeds N` exactly so many of each scenario."""

from __future__ import annotations

from typing import Final

import pytest

SAID: Final = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options; they are there when this directory is named on the command line."""
    group = parser.getgroup("simulation")
    group.addoption("--seeds", type=int, default=None, help="run exactly so many seeds of each scenario")
    group.addoption("--first-seed", type=int, default=0, help="the first of them")
    group.addoption(
        "--sim-seconds", type=float, default=150.0, help="the time box without --seeds, all scenarios together"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Who asks for many seeds has time."""
    if config.getoption("seeds", default=None) is not None:
        for item in items:
            item.add_marker(pytest.mark.timeout(0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which seeds have been run."""
    if lines := config.stash.get(SAID, []):
        terminalreporter.section("simulation")
        for line in lines:
            terminalreporter.line(line)
