"""Fixtures of the interop tests: live peers that are gone after the test, and whose logs hold no complaint about us."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.e2e.conftest import LABS, make_lab
from tests.interop import build
from tests.interop.go import GoPeers
from tests.interop.loopback import Loopback
from tests.interop.meeting import Meeting
from tests.interop.requirements import say_what_was_skipped, stop_what_cannot_run
from tests.interop.serf import Serfs
from tests.interop.watched import Strangers
from tests.lab import requirements

__all__ = ["make_lab"]

PEERS = pytest.StashKey[list[Strangers[Any]]]()


@pytest.fixture(scope="session")
def loopback() -> Iterator[Loopback]:
    """Addresses that nobody else has."""
    with Loopback() as network:
        yield network


@pytest.fixture
def peers(request: pytest.FixtureRequest) -> Iterator[GoPeers]:
    """The test's Go peers; it fails if one of them complained."""
    with GoPeers() as made:
        request.node.stash.setdefault(PEERS, []).append(made)
        yield made


@pytest.fixture
def serfs(request: pytest.FixtureRequest) -> Iterator[Serfs]:
    """The test's serf agents; it fails if one of them complained."""
    with Serfs() as made:
        request.node.stash.setdefault(PEERS, []).append(made)
        yield made


@pytest.fixture
def meeting(peers: GoPeers, loopback: Loopback) -> Iterator[Meeting]:
    """Go peers, nodes of ours and peers driven by hand, all gone after the test."""
    with Meeting(peers, loopback) as held:
        yield held


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build before the first test, whose time limit is its own. What goes wrong is said by each test that needs it."""
    wanted = any(item.get_closest_marker("go") for item in session.items)
    if wanted and build.missing() is None and not session.config.option.collectonly:
        with contextlib.suppress(RuntimeError):
            build.gopeer()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop a test that cannot run here."""
    requirements.pytest_runtest_setup(item)
    stop_what_cannot_run(item)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was not tested."""
    requirements.pytest_terminal_summary(terminalreporter, config)
    say_what_was_skipped(terminalreporter)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, None]:
    """A failed test shows the ends of all logs, while the programs still run."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        report.sections += [("Go programs", made.report()) for made in item.stash.get(PEERS, [])]
        report.sections += [("programs in the lab", lab.report()) for lab in item.stash.get(LABS, [])]
