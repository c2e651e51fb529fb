"""Descriptors from a service manager, each case in a process that was really started with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LISTEN = """
import json, os, sys
from privhelper.inherited import passed
if sys.argv[1] != "-":
    os.environ["LISTEN_PID"] = {"own": str(os.getpid()), "other": "1"}[sys.argv[1]]
found = passed(os.environ, os.getpid())
file = lambda fd: os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
print(json.dumps([[name, fd, os.get_inheritable(fd), file(fd)] for name, fd in found]))
"""

HOSTS = """
import json, os, sys
from privhelper.inherited import hosts_on_standard_input
fd = hosts_on_standard_input(sys.argv[1])
places = [os.readlink(f"/proc/self/fd/{n}") for n in (0, 1, 2)]
answer = {"fd": fd, "places": places}
if fd is not None:
    answer["inheritable"] = os.get_inheritable(fd)
    answer["read"] = os.pread(fd, 100, 0).decode()
    os.pwrite(fd, b"#", 0)
os.write(int(sys.argv[2]), json.dumps(answer).encode())
print("a word on standard output", flush=True)
print("a word on standard error", file=sys.stderr, flush=True)
"""


def listen(files: list[Path], whose: str, **environment: str) -> list[list[Any]]:
    """What `passed` finds in a process that was given `files` as descriptors from 3 on."""
    opened = [os.open(path, os.O_RDWR) for path in files]

    def place() -> None:
        moved = [os.dup2(fd, 20 + i) for i, fd in enumerate(opened)]
        for i, fd in enumerate(moved):
            os.dup2(fd, 3 + i)

    try:
        done = subprocess.run(
            [sys.executable, "-c", LISTEN, whose],
            env={"PATH": "/usr/bin", **environment},
            cwd=os.getcwd(),
            close_fds=False,
            preexec_fn=place,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    finally:
        for fd in opened:
            os.close(fd)
    answer: list[list[Any]] = json.loads(done.stdout)
    return answer


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files that stand for a socket and the hosts file."""
    found = [tmp_path / name for name in ("one", "two")]
    for path in found:
        path.touch()
    return found


def test_descriptors_are_found_with_their_names(files: list[Path]) -> None:
    """In order from 3 on, and no program started later gets them."""
    expected = [["wesher.socket", 3, False, "one"], ["hosts", 4, False, "two"]]
    assert expected == listen(files, "own", LISTEN_FDS="2", LISTEN_FDNAMES="wesher.socket:hosts")


def test_descriptors_need_no_names(files: list[Path]) -> None:
    """Nor as many as there are descriptors."""
    assert [["", 3, False, "one"], ["", 4, False, "two"]] == listen(files, "own", LISTEN_FDS="2")
    found = listen(files, "own", LISTEN_FDS="2", LISTEN_FDNAMES="a")
    assert ["a", ""] == [name for name, *_ in found]


@pytest.mark.parametrize("whose", ["other", "-"])
def test_descriptors_for_another_process_are_left_alone(files: list[Path], whose: str) -> None:
    """The variables may have come down from a parent that was meant."""
    assert [] == listen(files, whose, LISTEN_FDS="2")


@pytest.mark.parametrize("count", ["", "x", "-1", "0"])
def test_no_number_is_no_descriptor(files: list[Path], count: str) -> None:
    """And nothing at all without the variable."""
    assert [] == listen(files, "own", LISTEN_FDS=count)
    assert [] == listen(files, "own")


# --- standard input ----------------------------------------------------------------------------------------------


def with_standard(hosts: Path, asked_for: Path, stdin: int, stdout: int, stderr: int) -> dict[str, Any]:
    """What `hosts_on_standard_input(asked_for)` does in a process started with these."""
    reader, writer = os.pipe()
    try:
        subprocess.run(
            [sys.executable, "-c", HOSTS, str(asked_for), str(writer)],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=[writer],
            timeout=30,
            check=True,
        )
        answer: dict[str, Any] = json.loads(os.read(reader, 65536))
    finally:
        os.close(reader)
        os.close(writer)
    return answer


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    """A hosts file."""
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost\n")
    return path


def test_a_hosts_file_as_standard_input_and_output_is_moved_away(hosts: Path, tmp_path: Path) -> None:
    """As systemd 252 opens it for StandardInput= and StandardOutput= of one path: once, for reading and writing."""
    fd = os.open(hosts, os.O_RDWR)
    with (tmp_path / "log").open("w") as log:
        found = with_standard(hosts, hosts, fd, fd, log.fileno())
    os.close(fd)
    assert found["fd"] > 2
    assert not found["inheritable"]
    assert ["/dev/null", "/dev/null", str(tmp_path / "log")] == found["places"]
    assert "127.0.0.1 localhost\n" == found["read"]
    assert "#27.0.0.1 localhost\n" == hosts.read_text()
    assert "a word on standard error\n" == (tmp_path / "log").read_text()


def test_a_hosts_file_as_standard_error_gets_no_log_lines(hosts: Path) -> None:
    """Without StandardError= systemd makes it what standard output is."""
    fd = os.open(hosts, os.O_RDWR)
    found = with_standard(hosts, hosts, fd, fd, fd)
    os.close(fd)
    assert ["/dev/null"] * 3 == found["places"]
    assert "#27.0.0.1 localhost\n" == hosts.read_text()


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY])
def test_a_hosts_file_that_cannot_be_read_and_written_is_none(hosts: Path, flags: int) -> None:
    """StandardOutput=append: leaves descriptor 0 for reading only."""
    fd, null = os.open(hosts, flags), os.open(os.devnull, os.O_RDWR)
    found = with_standard(hosts, hosts, fd, null, null)
    os.close(fd)
    os.close(null)
    assert found["fd"] is None
    assert str(hosts) == found["places"][0]


def test_another_file_as_standard_input_is_not_the_hosts_file(hosts: Path, tmp_path: Path) -> None:
    """Nor is /dev/null, nor anything where there is no hosts file."""
    other = tmp_path / "other"
    other.write_text("x")
    for path in (str(other), os.devnull):
        fd = os.open(path, os.O_RDWR)
        found = with_standard(hosts, hosts, fd, fd, fd)
        os.close(fd)
        assert found["fd"] is None
    fd = os.open(hosts, os.O_RDWR)
    assert with_standard(hosts, tmp_path / "nowhere", fd, fd, fd)["fd"] is None
    os.close(fd)
