"""Fixtures of the command line, in this process: `wesher check` on a host whose name and addresses are known, and
commands that ask a daemon."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.lab.requirements import pytest_runtest_setup, pytest_terminal_summary
from wesher import cli, plan
from wesher.runtime.bind_addr import InterfaceAddress

__all__ = ["pytest_runtest_setup", "pytest_terminal_summary"]

Run = Callable[..., tuple[int, str, str]]
Found = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that every user may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture
def run(directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `wesher check` on a host called node-a with one private address: exit status, stdout, stderr."""
    monkeypatch.setattr(plan.socket, "gethostname", lambda: "node-a")
    address = InterfaceAddress("eth0", IPv4Address("192.168.1.10"), 24)
    monkeypatch.setattr(plan, "interface_addresses", lambda leave_out: [address])
    (directory / "hosts").write_text("127.0.0.1 localhost\n192.0.2.9 printer\n")

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        for name in [name for name in os.environ if name.startswith("WESHER_")]:
            monkeypatch.delenv(name)
        ours = {"STATE_DIR": "state", "RUNTIME_DIR": "run", "HOSTS_FILE": "hosts"}
        ours = {f"WESHER_{name}": str(directory / file) for name, file in ours.items()}
        if os.geteuid() == 0:
            ours["WESHER_USER"] = "64001:64002"
        for name, value in (ours | dict(env or {})).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["wesher", "check", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        code = caught.value.code
        out, err = capsys.readouterr()
        return (code if isinstance(code, int) else 0), out, err

    return run


@pytest.fixture
def found(run: Run) -> Found:
    """What a check has to say of one thing: levels and texts."""

    def found(what: str, *arguments: str, env: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
        code, out, err = run("--json", *arguments, env=env)
        findings = json.loads(out)["findings"]
        assert err == ""
        assert code == (1 if any(finding["level"] == "error" for finding in findings) else 0)
        return [(finding["level"], finding["text"]) for finding in findings if finding["what"] == what]

    return found


@pytest.fixture
def helper(directory: Path) -> Iterator[socket.socket]:
    """A helper's socket, for everybody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as listener:
        listener.bind(str(directory / "helper.sock"))
        os.chmod(directory / "helper.sock", 0o666)
        listener.listen()
        yield listener


@pytest.fixture
def ask_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `wesher` in this process, to ask the daemon in tmp_path: exit status, stdout, stderr."""
    for name in [name for name in os.environ if name.startswith("WESHER_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("WESHER_RUNTIME_DIR", str(tmp_path))
        monkeypatch.setattr(sys, "argv", ["wesher", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        code = caught.value.code
        out, err = capsys.readouterr()
        return (code if isinstance(code, int) else 0), out, err

    return run
