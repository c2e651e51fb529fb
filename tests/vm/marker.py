"""What the `vm` marker means: the test runs in the guest, and its report is the one it gets there.

All the tests so marked that a run has selected go to one guest as one job, when the first of them is due. The guest
runs the same pytest on the same checkout, and writes each report, in the form pytest has for other processes, into the
job's output. A test that asks for the fixture `guest` runs here and has the guest to itself. Where no guest can be made
both are skipped and the end of the run says so loudly; in CI they fail. Every conftest.py of a directory with such
tests calls `register`.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.lab.ci import fail_in_ci
from tests.vm.guest import NO_RESULT, Guest, Result, missing

REPORTS_TO = 3
"""The descriptor; 1 and 2 are what pytest captures."""
INSIDE = "WESHER_INSIDE_GUEST"
"""Set in the guest, where a `vm` test is like any other."""
RECORD = "\x1e"
"""Comes before each report in the output; a newline ends it, as in RFC 7464."""
SECONDS, SECONDS_NIGHTLY = 900, 3600
"""For all the tests together; where one of them is `nightly`."""
SECONDS_A_TEST = 300

Reports = dict[str, list[pytest.TestReport]]
REPORTS = pytest.StashKey[Reports]()
SKIPPED = pytest.StashKey[int]()


def register(config: pytest.Config) -> None:
    """Make the hooks and the fixture below known, once."""
    if not config.pluginmanager.has_plugin(__name__):
        config.pluginmanager.register(sys.modules[__name__], __name__)


@pytest.fixture
def guest() -> Iterator[Guest]:
    """For jobs of the test's own."""
    with Guest() as made:
        yield made


def _is_for_guest(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    return INSIDE not in os.environ and item.get_closest_marker("vm") is not None and "guest" not in fixtures


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nothing is timed here: the job as a whole has a limit, and each test one in the guest."""
    for item in filter(_is_for_guest, items):
        item.add_marker(pytest.mark.timeout(0), append=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop a `vm` test for which there is no guest."""
    if INSIDE in os.environ or item.get_closest_marker("vm") is None or (reason := missing()) is None:
        return
    fail_in_ci(reason)
    item.config.stash[SKIPPED] = item.config.stash.get(SKIPPED, 0) + 1
    pytest.skip(reason)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """In place of running a `vm` test, report what became of it in the guest."""
    if not _is_for_guest(item) or missing() is not None:
        return None
    stash = item.config.stash
    if REPORTS not in stash:
        stash[REPORTS] = _run_in_guest(list(filter(_is_for_guest, item.session.items)))
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in stash[REPORTS][item.nodeid]:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outermost: what other hooks add to the report is in it by then
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In the guest, hand the report out as well."""
    report = yield
    if INSIDE in os.environ:
        written = item.config.hook.pytest_report_to_serializable(config=item.config, report=report)
        os.write(REPORTS_TO, f"\n{RECORD}{json.dumps(written)}\n".encode())
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the tier if it was skipped."""
    if count := config.stash.get(SKIPPED, 0):
        terminalreporter.write_sep("!", "NOT TESTED HERE", red=True, bold=True)
        terminalreporter.write_line(f"tier vm: {count} tests skipped: {missing()}", red=True, bold=True)
        terminalreporter.write_line("run them with: sudo dist/test.sh", red=True, bold=True)


def _run_in_guest(items: list[pytest.Item]) -> Reports:
    """Every item has reports afterwards, if only that it has none and what the guest said instead."""
    options = ["-v", "-p", "no:cacheprovider", "-o", f"timeout={SECONDS_A_TEST}"]
    command = shlex.join(["python3", "-B", "-m", "pytest", *options, *(item.nodeid for item in items)])
    seconds = SECONDS_NIGHTLY if any(item.get_closest_marker("nightly") for item in items) else SECONDS
    try:
        with Guest() as made:
            result = made.run(f"CI=true {INSIDE}=1 exec {command} {REPORTS_TO}>&1", seconds)
    except RuntimeError as error:
        result = Result(NO_RESULT, str(error))
    reports: Reports = {item.nodeid: [] for item in items}
    rest = []
    for line in result.output.split("\n"):  # splitlines() would split at RECORD as well
        if not line.startswith(RECORD):
            rest.append(line)
            continue
        report = _report(items[0].config, json.loads(line.removeprefix(RECORD)))
        reports[report.nodeid].append(report)
    said = "\n".join([*filter(None, rest[-200:]), f"the guest's exit status: {result.status}"])
    for item in items:
        if not reports[item.nodeid] or reports[item.nodeid][-1].when != "teardown":
            reports[item.nodeid].append(_unfinished(item, said))
    return reports


def _report(config: pytest.Config, written: dict[str, Any]) -> pytest.TestReport:
    for field in ("location", "longrepr"):  # tuples became lists on the way; a skip's reason is one
        if isinstance(written[field], list):
            written[field] = tuple(written[field])
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(config=config, data=written)
    return report


def _unfinished(item: pytest.Item, said: str) -> pytest.TestReport:
    return pytest.TestReport(
        item.nodeid,
        item.location,
        keywords={},
        outcome="failed",
        longrepr=f"it did not come to its end in the guest, which said:\n{said}",
        when="teardown",
    )
