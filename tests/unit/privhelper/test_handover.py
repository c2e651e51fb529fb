"""What is handed to the agent, and what is not given away whatever the command line says."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from privhelper.handover import check_reachable, hand_over_runtime, hand_over_state
from privhelper.sandbox import Identity
from privhelper.spawn import LaunchError

AGENT = Identity(61001, 61001)
HELPER = Identity(61002, 61002)
ME = Identity(os.getuid(), os.getgid())


def owned(path: Path) -> tuple[int, int, int]:
    """Owner, group and permissions."""
    info = path.lstat()
    return info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)


def hand_over(directory: Path, agent: Identity = AGENT) -> None:
    """The state directory, with the state file of the default interface."""
    hand_over_state(str(directory), str(directory / "wgoverlay.json"), agent)


def refusal(call: Callable[[], None]) -> str:
    """Why, in one line."""
    with pytest.raises(LaunchError) as raised:
        call()
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- by root -----------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_directories_that_are_not_there_are_made_and_given(tmp_path: Path) -> None:
    """What is above them stays root's."""
    hand_over(tmp_path / "lib" / "wesher")
    hand_over_runtime(str(tmp_path / "run" / "wesher"), AGENT)
    assert (61001, 61001, 0o700) == owned(tmp_path / "lib" / "wesher")
    assert (61001, 61001, 0o755) == owned(tmp_path / "run" / "wesher")
    assert [0, 0] == [owned(tmp_path / name)[0] for name in ("lib", "run")]


@pytest.mark.root
def test_the_originals_state_is_taken_over_with_its_directory(tmp_path: Path) -> None:
    """It ran as root, and its key is now the agent's to read and nobody else's."""
    state = tmp_path / "wesher"
    state.mkdir()
    for name in ("wgoverlay.json", "wgoverlay.json.old-1", "other.json"):
        (state / name).write_text("{}")
    hand_over(state)
    assert (61001, 61001, 0o600) == owned(state / "wgoverlay.json")
    assert (61001, 61001, 0o700) == owned(state)
    assert 0 == owned(state / "other.json")[0]  # another interface's, taken over when that is started


@pytest.mark.root
@pytest.mark.parametrize(("names", "given"), [(["state.json"], {"state.json"}),
                                              (["state.json", "wgoverlay.json"], {"wgoverlay.json"})])  # fmt: skip
def test_the_state_of_0_2_6_is_taken_over_where_there_is_no_newer(
    tmp_path: Path, names: list[str], given: set[str]
) -> None:
    """It had one file for all interfaces."""
    state = tmp_path / "wesher"
    state.mkdir()
    for name in names:
        (state / name).write_text("{}")
    hand_over(state)
    assert given == {name for name in names if (61001, 61001, 0o600) == owned(state / name)}


@pytest.mark.root
def test_handing_over_again_changes_nothing(tmp_path: Path) -> None:
    """Each start does it."""
    for _ in range(2):
        hand_over(tmp_path / "wesher")
        (tmp_path / "wesher" / "wgoverlay.json").touch()
        os.chown(tmp_path / "wesher" / "wgoverlay.json", *(AGENT.uid, AGENT.gid))
    assert (61001, 61001, 0o600) == owned(tmp_path / "wesher" / "wgoverlay.json")


@pytest.mark.root
@pytest.mark.parametrize("name", ["passwd", ".ssh", "wgoverlay.sock"])
def test_a_directory_of_roots_with_other_things_in_it_is_not_given_away(tmp_path: Path, name: str) -> None:
    """Such as a mistyped `--state-dir /etc`."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / name).touch()
    why = refusal(lambda: hand_over(tmp_path / "etc"))
    assert f"directory {tmp_path}/etc belongs to uid 0 and holds other things; name another, or" in why
    assert 0 == owned(tmp_path / "etc")[0]


@pytest.mark.root
def test_a_runtime_directory_may_hold_sockets_and_nothing_else(tmp_path: Path) -> None:
    """Of root's; /run itself is none."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "wgoverlay.sock").touch()
    hand_over_runtime(str(tmp_path / "run"), AGENT)
    assert 61001 == owned(tmp_path / "run")[0]
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "utmp").touch()
    assert "holds other things" in refusal(lambda: hand_over_runtime(str(tmp_path / "system"), AGENT))


@pytest.mark.root
def test_a_directory_of_somebody_elses_is_not_given_away(tmp_path: Path) -> None:
    """Also an empty one."""
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", 61003, 61003)
    assert "belongs to uid 61003" in refusal(lambda: hand_over(tmp_path / "home"))
    assert 61003 == owned(tmp_path / "home")[0]


@pytest.mark.root
@pytest.mark.parametrize("kind", ["symlink", "file"])
def test_what_is_no_directory_is_refused(tmp_path: Path, kind: str) -> None:
    """A symbolic link would be followed to anywhere."""
    (tmp_path / "there").mkdir()
    if kind == "symlink":
        (tmp_path / "wesher").symlink_to(tmp_path / "there")
    else:
        (tmp_path / "wesher").touch()
    assert f"directory {tmp_path}/wesher cannot be used" in refusal(lambda: hand_over(tmp_path / "wesher"))
    assert 0 == owned(tmp_path / "there")[0]


@pytest.mark.root
@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory", "hard link"])
def test_a_state_file_that_is_no_plain_file_is_refused(tmp_path: Path, kind: str) -> None:
    """And what it leads to stays whose it was."""
    state, elsewhere = tmp_path / "wesher", tmp_path / "shadow"
    state.mkdir()
    elsewhere.touch()
    match kind:
        case "symlink":
            (state / "wgoverlay.json").symlink_to(elsewhere)
        case "fifo":
            os.mkfifo(state / "wgoverlay.json")
        case "directory":
            (state / "wgoverlay.json").mkdir()
        case _:
            os.link(elsewhere, state / "wgoverlay.json")
    assert f"state file {state}/wgoverlay.json" in refusal(lambda: hand_over(state))
    assert 0 == owned(elsewhere)[0]
    assert 0 == owned(state)[0]


@pytest.mark.root
def test_a_file_of_roots_in_the_agents_own_directory_stays_roots(tmp_path: Path) -> None:
    """An earlier agent may have linked any file there; a hard link whose other name is gone looks like a plain file."""
    hand_over(tmp_path / "wesher")
    (tmp_path / "wesher" / "wgoverlay.json").touch()
    assert "belongs to uid 0; move it aside" in refusal(lambda: hand_over(tmp_path / "wesher"))
    assert 0 == owned(tmp_path / "wesher" / "wgoverlay.json")[0]


# As a unit starts the launcher: uid 0 with what it needs for its own, and without power over modes.
AS_A_UNITS_ROOT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from privhelper import sandbox
from privhelper.handover import hand_over_state
sandbox._set_capabilities((sandbox.CHOWN, sandbox.SETUID, 6), inheritable=())
for _ in range(2):
    hand_over_state(sys.argv[2], f"{sys.argv[2]}/wgoverlay.json", sandbox.Identity(61001, 61001))
assert (os.geteuid(), os.getegid()) == (0, 0)
"""


def as_a_units_root(state: Path) -> str:
    """What it says where it fails."""
    script = [sys.executable, "-c", AS_A_UNITS_ROOT, os.getcwd(), str(state)]
    return subprocess.run(script, capture_output=True, text=True, timeout=30, check=False).stderr


@pytest.mark.root
def test_root_without_power_over_modes_gives_what_is_the_agents_already(home: Path) -> None:
    """So a unit needs no StateDirectory=, by which systemd would make all that an agent left there root's first."""
    home.chmod(0o755)
    os.chown(home, 0, 0)
    state = home / "wesher"
    assert as_a_units_root(state) == ""
    assert (61001, 61001, 0o700) == owned(state)
    (state / "wgoverlay.json").touch()
    os.chown(state / "wgoverlay.json", 61001, 61001)
    state.chmod(0o755)
    assert as_a_units_root(state) == ""
    assert (61001, 61001, 0o700) == owned(state)
    assert (61001, 61001, 0o600) == owned(state / "wgoverlay.json")


@pytest.mark.root
def test_a_program_in_a_closed_directory_is_said_before_anything_is_started(home: Path) -> None:
    """Say, a virtual environment below /root."""
    inner = home / "closed" / "bin"
    inner.mkdir(parents=True)
    (inner / "python").symlink_to("/bin/sh")
    home.chmod(0o755)
    check_reachable(str(inner / "python"), (AGENT, HELPER))
    (home / "closed").chmod(0o750)
    why = refusal(lambda: check_reachable(str(inner / "python"), (AGENT, HELPER)))
    assert f"uid 61001 and 61002 cannot reach {inner}/python: {home}/closed is closed to them; install" in why
    os.chown(home / "closed", 61001, 61002)
    check_reachable(str(inner / "python"), (AGENT, HELPER))  # one owns it, the other is of its group
    (home / "closed").chmod(0o700)
    assert f"{home}/closed is closed" in refusal(lambda: check_reachable(str(inner / "python"), (AGENT, HELPER)))


def test_a_program_that_everybody_may_run_is_reachable() -> None:
    """So is the package itself, or no test of the daemon could pass; who starts it reaches it at any rate."""
    if ME.uid != 0:
        check_reachable(sys.executable, (ME, ME))
    else:
        check_reachable("/bin/sh", (AGENT, HELPER))


# --- by an ordinary user -----------------------------------------------------------------------------------------

AS_A_USER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from privhelper.handover import hand_over_runtime, hand_over_state
from privhelper.sandbox import Identity
from privhelper.spawn import LaunchError
me = Identity(os.getuid(), os.getgid())
try:
    hand_over_state(sys.argv[2], sys.argv[2] + "/wgoverlay.json", me)
    hand_over_runtime(sys.argv[3], me)
except LaunchError as error:
    print(error)
"""


def as_a_user(state: Path, runtime: Path) -> str:
    """What uid 61001 is told when it hands over to itself; nothing if it works."""
    done = subprocess.run(
        [sys.executable, "-c", AS_A_USER, os.getcwd(), str(state), str(runtime)],
        user=61001,
        group=61001,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "" == done.stderr
    return done.stdout


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that uid 61001 can reach, and that is its own; the one above it is root's."""
    with TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        made = Path(directory) / "home"
        made.mkdir()
        os.chown(made, 61001, 61001)
        yield made


@pytest.mark.root
def test_a_user_keeps_what_is_his(home: Path) -> None:
    """Made if need be, and closed to others."""
    for _ in range(2):
        assert "" == as_a_user(home / "state", home / "run")
        (home / "state" / "wgoverlay.json").touch()
        os.chown(home / "state" / "wgoverlay.json", 61001, 61001)
    assert (61001, 61001, 0o700) == owned(home / "state")
    assert (61001, 61001, 0o600) == owned(home / "state" / "wgoverlay.json")
    assert (61001, 61001, 0o755) == owned(home / "run")


@pytest.mark.root
def test_a_user_is_told_which_command_makes_the_directory_his(home: Path) -> None:
    """Where he may make none, and where there is one of root's."""
    above = home.parent
    expected = f"as root: install -d -o 61001 -m 700 {above}/state\n"
    assert as_a_user(above / "state", home / "run").endswith(expected)
    (above / "state").mkdir()
    (above / "state").chmod(0o755)
    why = as_a_user(above / "state", home / "run")
    assert f"{above}/state cannot be given to uid 61001: Operation not permitted; make it so: chown 61001" in why
    (above / "run").mkdir()
    (above / "run").chmod(0o755)
    assert f"chown 61001:61001 {above}/run" in as_a_user(home / "state", above / "run")
