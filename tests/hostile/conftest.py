"""A stage for the whole run, and whose uids it needs."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from itertools import cycle

import pytest

pytest.register_assert_rewrite("tests.hostile.case", "tests.hostile.stage")

from tests.hostile.stage import Stage  # noqa: E402 - its assertions are to say what they found
from tests.lab.requirements import pytest_runtest_setup, pytest_terminal_summary  # noqa: E402

__all__ = ["pytest_runtest_setup", "pytest_terminal_summary"]


@pytest.fixture(scope="session")
def machines() -> Iterator[Iterator[Stage]]:
    """Two machines for all attacks, each of which leaves its one as it was: while a new helper starts on one, there is
    one on the other."""
    with ExitStack() as stack:
        made = [stack.enter_context(Stage()) for _ in range(2)]
        yield cycle(made)
        for stage in made:
            stage.serve()
            stage.stop()
            assert stage.ours().is_nothing


@pytest.fixture
def stage(machines: Iterator[Stage]) -> Iterator[Stage]:
    """One of them, with nobody connected to its helper."""
    chosen = next(machines)
    yield chosen
    chosen.hang_up()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the programs said, and the next one begins with a new helper."""
    report = yield
    stage = getattr(item, "funcargs", {}).get("stage")
    if report.failed and report.when == "call" and stage is not None:
        report.sections.append(("the helper", stage.report()))
        stage.start_afresh()
    return report
