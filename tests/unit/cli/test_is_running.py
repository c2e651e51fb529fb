"""Whether a daemon runs, which is asked by root of a socket in the agent's directory: at once, and of nobody else."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.ci import skip_but_in_ci
from tests.unit.cli.test_control_client import full, listening
from wesher.plan import is_running


@pytest.fixture
def path(directory: Path) -> Iterator[str]:
    """Where the socket is."""
    return str(directory / "wgoverlay.sock")


def test_who_listens_runs(path):
    """Whether it answers is not waited for."""
    with listening(path, 5):
        assert is_running(path) is True


def test_who_accepts_nobody_runs_too(path):
    """A start would wait for ever, or take the interface of a daemon that is only stopped."""
    with full(path):
        assert is_running(path) is True


def test_nothing_or_a_dead_socket_does_not_run(path):
    """As a daemon that was killed leaves it."""
    assert is_running(path) is False
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    assert is_running(path) is False


def test_a_link_to_somebody_elses_socket_does_not_run(directory, path):
    """It is not asked either; the next agent removes it."""
    with listening(str(directory / "roots.sock"), 5) as another:
        os.symlink(directory / "roots.sock", path)
        assert is_running(path) is False
        another.setblocking(False)
        with pytest.raises(BlockingIOError):
            another.accept()


def test_who_may_not_ask_does_not_know(path):
    """Another user than root and the agent."""
    if os.geteuid() != 0:
        skip_but_in_ci("it takes root to make what this user may not use")
    with listening(path, 5):
        os.chmod(path, 0o600)
        if (pid := os.fork()) == 0:
            try:
                os.setresuid(64009, 64009, 64009)
                os._exit(0 if is_running(path) is None else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
