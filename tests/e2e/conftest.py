"""Fixtures of the end-to-end tests: labs that are gone after the test, and what their daemons said when it failed."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.layouts import LAYOUTS, Layout
from tests.lab import Lab
from tests.lab.requirements import pytest_runtest_setup, pytest_terminal_summary

__all__ = ["pytest_runtest_setup", "pytest_terminal_summary"]

LABS = pytest.StashKey[list[Lab]]()


@pytest.fixture
def make_lab(request: pytest.FixtureRequest) -> Iterator[Callable[[int], Lab]]:
    """Makes labs of so many nodes, and takes them down after the test."""
    labs = request.node.stash.setdefault(LABS, [])
    with ExitStack() as stack:

        def make(size: int) -> Lab:
            made = stack.enter_context(Lab(size))
            labs.append(made)
            return made

        yield make
    labs.clear()


@pytest.fixture
def lab(make_lab: Callable[[int], Lab]) -> Lab:
    """Three nodes."""
    return make_lab(3)


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Layout:
    """Each layout in turn."""
    return LAYOUTS[request.param]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, None]:
    """A failed test shows the end of each daemon's stderr, while the lab still stands."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        report.sections += [("programs in the lab", lab.report()) for lab in item.stash.get(LABS, [])]
