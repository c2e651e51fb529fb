"""What the `root` marker means. Where it cannot be had, a test so marked is skipped and the end of the run says so
loudly; in CI it fails (ci.py). The hooks below belong in the conftest.py of every directory with such tests, or with
tests marked `needs`."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab.ci import fail_in_ci, stop_without_its_needs
from tests.lab.namespaces import ENV

TOOLS = ("unshare", "nsenter", "setpriv", "mount", "ip", "ping", "getent", "wireguard-go", "nft", "tc")
SKIPPED = pytest.StashKey[dict[str, list[str]]]()  # tier -> tests


@functools.cache
def missing() -> str | None:
    """The first thing that keeps a `root` test from running here, in a few words."""
    if os.geteuid() != 0:
        return "not root"
    absent = [tool for tool in TOOLS if shutil.which(tool, path=ENV["PATH"]) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    if not Path("/dev/net/tun").is_char_device():
        return "no /dev/net/tun"
    command = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "true"]
    tried = subprocess.run(command, env=ENV, capture_output=True, text=True, check=False)
    return f"namespaces are not permitted: {tried.stderr.strip()}" if tried.returncode != 0 else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop a test that cannot run here."""
    stop_without_its_needs(item)
    if item.get_closest_marker("root") is None or (reason := missing()) is None:
        return
    fail_in_ci(reason)
    tier = item.path.relative_to(item.config.rootpath).parts[1]
    item.config.stash.setdefault(SKIPPED, {}).setdefault(tier, []).append(item.nodeid)
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the tiers that were skipped, once."""
    skipped = config.stash.get(SKIPPED, {})
    if not skipped:
        return
    terminalreporter.write_sep("!", "NOT TESTED HERE", red=True, bold=True)
    for tier, tests in sorted(skipped.items()):
        terminalreporter.write_line(f"tier {tier}: {len(tests)} tests skipped: {missing()}", red=True, bold=True)
    terminalreporter.write_line("run them with: sudo dist/test.sh", red=True, bold=True)
    skipped.clear()
