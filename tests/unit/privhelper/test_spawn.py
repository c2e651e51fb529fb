"""A new process has the descriptors, the environment and the identity it was meant to have, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# Each script runs in a process of its own: to fork and to rearrange descriptors is not for a test's process.
PRELUDE = """
import json, os, sys
from privhelper.spawn import *
from privhelper import spawn as module
def shown():
    return {int(fd): os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
            if os.path.lexists(f"/proc/self/fd/{fd}")}
"""
CHILD = (
    "import json, os; fds = {fd: os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') "
    "if os.path.lexists(f'/proc/self/fd/{fd}')}; "
    "umask = os.umask(0); "
    "os.write(1, json.dumps([fds, dict(os.environ), umask, os.getcwd()]).encode())"
)


def run(script: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The script, with everything of this module's imported."""
    command = [sys.executable, "-c", PRELUDE + script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=os.getcwd(), **options)


SPAWN = """
secret = os.open("/proc/self/status", os.O_RDONLY)
os.set_inheritable(secret, True)
os.environ["SECRET"] = "x"
first, second = (os.open(path, os.O_RDWR) for path in sys.argv[2:4])
fds = [null(), os.dup(1), null(), second, first]
pid = spawn([sys.executable, "-I", "-S", "-c", sys.argv[1]], ENVIRONMENT | {"EXTRA": "1"}, fds, lambda: os.chdir("/"))
assert os.waitpid(pid, 0)[1] == 0
"""


def test_a_child_has_exactly_what_it_is_given(tmp_path: Path) -> None:
    """In the order given, although the numbers were taken the other way round; no inheritable one slips through."""
    files = [tmp_path / "first", tmp_path / "second"]
    for path in files:
        path.touch()
    done = run(SPAWN, CHILD, *map(str, files))
    assert "" == done.stderr
    fds, environment, umask, directory = json.loads(done.stdout)
    assert {"0": "/dev/null", "2": "/dev/null", "3": str(files[1]), "4": str(files[0])} == {
        fd: path for fd, path in fds.items() if fd != "1"
    }
    assert fds["1"].startswith("pipe:")
    assert {"PATH", "LANG", "EXTRA"} == set(environment) - {"LC_CTYPE"}  # which Python itself may set
    assert (0o077, "/") == (umask, directory)


FAILING = """
pid = spawn(["/nowhere/program"], {}, [null(), null(), os.dup(2)], %s)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print("parent", status, flush=True)
"""


def test_a_program_that_cannot_be_started_says_so_and_ends() -> None:
    """The child never runs its parent's code; whatever goes wrong before exec is the same."""
    for before, why in (("lambda: None", "No such file or directory"), ("lambda: 1 / 0", "division by zero")):
        done = run(FAILING % before)
        assert "parent 1\n" == done.stdout
        assert 1 == done.stderr.count("\n")
        assert done.stderr.startswith("wesher: error: /nowhere/program cannot be started: ")
        assert why in done.stderr


FILL = """
for number in map(int, sys.argv[1]):
    os.close(number)
fill_standard_descriptors()
next_one = os.open("/proc/self/status", os.O_RDONLY)
found = {n: (os.readlink(f"/proc/self/fd/{n}"), os.get_inheritable(n)) for n in (0, 1, 2)}
with open(sys.argv[2], "w") as file:
    json.dump([next_one, found], file)
"""


def test_closed_standard_descriptors_become_dev_null(tmp_path: Path) -> None:
    """Else the next file opened, say the hosts file, would become somebody's output."""
    for closed in ("0", "1", "2", "012", "02", ""):
        run(FILL, closed, str(tmp_path / "found"), stdin=subprocess.DEVNULL)
        next_one, found = json.loads((tmp_path / "found").read_text())
        assert next_one > 2
        assert {"/dev/null"} >= {found[number][0] for number in closed}
        assert [True] * 3 == [inheritable for _, inheritable in found.values()]


REOPEN = """
for _ in range(2):
    fd = reopened(1, os.O_NONBLOCK)
    os.write(fd, b"word\\n")
    assert fd != 1
    assert not os.get_blocking(fd)
    assert not os.get_inheritable(fd)
assert os.get_blocking(1)
"""


def test_a_file_opened_anew_is_appended_to(tmp_path: Path) -> None:
    """Several writers do not overwrite each other, and whether one of them blocks is its own affair."""
    path = tmp_path / "log"
    path.write_text("before\n")
    with path.open("r+") as log:
        done = subprocess.run([sys.executable, "-c", PRELUDE + REOPEN], stdout=log, timeout=30, check=False)
    assert 0 == done.returncode
    assert "before\nword\nword\n" == path.read_text()


def test_what_cannot_be_opened_anew_stays_as_it_is() -> None:
    """A journal's socket has no path."""
    done = run(
        """
import socket
ours, theirs = socket.socketpair()
assert reopened(ours.fileno()) == ours.fileno()
"""
    )
    assert (0, "") == (done.returncode, done.stderr)
