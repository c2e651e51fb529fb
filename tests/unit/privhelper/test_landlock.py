"""Grants, tried in a process of its own: what is granted works, next to it nothing does."""

import os
import socket
from pathlib import Path

import pytest

from privhelper import landlock
from tests.unit.privhelper.confined import run_alone

pytestmark = pytest.mark.needs(landlock.abi() > 0, "landlock")

TRY = """
from pathlib import Path
def attempt(what):
    try:
        what()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
"""


def test_a_directory_that_may_be_read_is_read_and_not_written(tmp_path: Path) -> None:
    """Below it, at any depth; its list of names is not part of it."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/file").write_text("text")
    said = run_alone(
        TRY
        + """
top = Path(sys.argv[1])
landlock.restrict(Grants(read=[str(top)]))
print(attempt(lambda: (top / "deep/file").read_text()), attempt(lambda: (top / "deep/file").write_text("")),
      attempt(lambda: os.listdir(top)), attempt(lambda: (top / "new").touch()),
      attempt(lambda: os.unlink(top / "deep/file")))
""",
        str(tmp_path),
    )
    assert said == "done EACCES EACCES EACCES EACCES"


def test_a_file_is_replaced_where_that_is_granted_and_nothing_else_is_made(tmp_path: Path) -> None:
    """As the state file is: made beside, written, renamed over it, the directory synced."""
    said = run_alone(
        TRY
        + """
top = Path(sys.argv[1])
landlock.restrict(Grants(replace=[str(top)]))
def replace():
    (top / "new").write_text("text")
    os.rename(top / "new", top / "file")
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    assert (top / "file").read_text() == "text"
    os.unlink(top / "file")
print(attempt(replace), attempt(lambda: os.mkdir(top / "d")), attempt(lambda: os.symlink("x", top / "s")),
      attempt(lambda: os.mkfifo(top / "f")), attempt(lambda: socket.socket(socket.AF_UNIX).bind(str(top / "k"))),
      attempt(lambda: (top.parent / "beside").write_text("")))
""",
        str(tmp_path),
    )
    assert said == "done EACCES EACCES EACCES EACCES EACCES"


def test_a_directory_for_removal_is_for_nothing_else(tmp_path: Path) -> None:
    """The control socket's: it goes at the end."""
    (tmp_path / "file").write_text("text")
    said = run_alone(
        TRY
        + """
top = Path(sys.argv[1])
landlock.restrict(Grants(remove=[str(top)]))
print(attempt(lambda: (top / "file").read_text()), attempt(lambda: (top / "new").touch()),
      attempt(lambda: os.unlink(top / "file")))
""",
        str(tmp_path),
    )
    assert said == "EACCES EACCES done"


def test_a_path_that_is_not_there_costs_nothing(tmp_path: Path) -> None:
    """A host without /run/systemd/resolve has no file there to read."""
    assert "done" == run_alone(
        'landlock.restrict(Grants(read=[sys.argv[1] + "/none", sys.argv[1] + "/none/deep"])); print("done")',
        str(tmp_path),
    )


@pytest.mark.needs(landlock.abi() >= 4, "landlock for TCP (Linux 6.7)")
def test_tcp_goes_to_the_ports_that_are_granted() -> None:
    """And no port can be bound."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [server.getsockname()[1] for server in (one, other)]
        said = run_alone(
            TRY
            + """
"é".encode("idna")  # connecting loads it
landlock.restrict(Grants(connect=[int(sys.argv[1])]))
print(*(attempt(lambda: socket.create_connection(("127.0.0.1", int(port)))) for port in sys.argv[1:]),
      attempt(lambda: socket.socket().bind(("127.0.0.1", 0))),
      attempt(lambda: socket.create_server(("127.0.0.1", 65000))))
""",
            *map(str, ports),
        )
    assert said == "done EACCES EACCES EACCES"


@pytest.mark.needs(landlock.abi() >= 6, "landlock for signals (Linux 6.12)")
@pytest.mark.parametrize(("signals", "expected"), [(True, "done"), (False, "EPERM")])
def test_signals_leave_only_where_that_is_granted(signals: bool, expected: str) -> None:
    """The helper's grant, for PR_SET_PDEATHSIG, which asks whether the dying parent may."""
    said = run_alone(
        TRY + f"landlock.restrict(Grants(signals={signals}))\nprint(attempt(lambda: os.kill({os.getpid()}, 0)))"
    )
    assert said == expected


def test_a_thread_started_later_is_held_too() -> None:
    """As the agent's worker is; one started before would be free."""
    said = run_alone(
        TRY
        + """
import threading
landlock.restrict(Grants())
thread = threading.Thread(target=lambda: print(attempt(lambda: open("/etc/hostname"))))
thread.start()
thread.join()
"""
    )
    assert said == "EACCES"


def test_what_an_old_kernel_cannot_deny_is_said() -> None:
    """ABI 1 to 3; from 4 on there is nothing to say."""
    assert [[part.split(" (")[0] for part in landlock.lacking(version)] for version in (1, 3, 4)] == [
        ["landlock for truncate(2)", "landlock for TCP"],
        ["landlock for TCP"],
        [],
    ]
