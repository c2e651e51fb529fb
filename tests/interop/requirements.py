"""What the markers `go` and `serf` mean. Where the program cannot be had, a test so marked is skipped and the end of
the run says so loudly; in CI it fails."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from typing import Final

import pytest

from tests.interop import build
from tests.lab.ci import fail_in_ci

SKIPPED = pytest.StashKey[dict[str, int]]()  # marker -> tests


@functools.cache
def serf_missing() -> str | None:
    """What keeps Debian's serf from being run here."""
    return None if shutil.which("serf") else "not installed: serf"


MISSING: Final[dict[str, Callable[[], str | None]]] = {"go": build.missing, "serf": serf_missing}


def stop_what_cannot_run(item: pytest.Item) -> None:
    """Skip a test, or under CI fail it, whose program is missing."""
    for marker, missing in MISSING.items():
        if item.get_closest_marker(marker) is None or (reason := missing()) is None:
            continue
        fail_in_ci(reason)
        skipped = item.config.stash.setdefault(SKIPPED, {})
        skipped[marker] = skipped.get(marker, 0) + 1
        pytest.skip(reason)


def say_what_was_skipped(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was not tested, once."""
    skipped = terminalreporter.config.stash.get(SKIPPED, {})
    for marker, count in sorted(skipped.items()):
        terminalreporter.write_sep("!", "NOT TESTED HERE", red=True, bold=True)
        line = f"tier interop: {count} tests against live {marker} programs skipped: {MISSING[marker]()}"
        terminalreporter.write_line(line, red=True, bold=True)
        terminalreporter.write_line("run them with: sudo dist/test.sh", red=True, bold=True)
    skipped.clear()
