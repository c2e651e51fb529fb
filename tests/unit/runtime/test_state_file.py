"""The state file on disk: whole, old or new, whatever happens; nobody else's file is followed or overwritten."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import resource
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.ci import skip_but_in_ci
from wesher.mesh.rotation import Keys, elapse, fingerprint, install, use
from wesher.mesh.saved_state import MAX_SIZE, OwnClaim, SavedNode, SavedState, StateError, parse, render
from wesher.runtime.state_file import StateFile

KEY = b"\x01" * 32
OLD = SavedState(KEY, (SavedNode("node-b", "192.0.2.1", None),), None)
NEW = SavedState(KEY, (), OwnClaim("node-a", 1, 0, 1))
OTHER_KEY = b"\x02" * 32
OTHER = SavedState(OTHER_KEY, (), None)
NEWER = json.dumps(json.loads(render(OLD)) | {"Keys": ["what this version does not know"]}, indent=2).encode()
DAMAGED = render(OLD)[:-20]
LONGER = SavedState(KEY, OLD.nodes * 9, None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is; the directory is there."""
    return tmp_path / "wgoverlay.json"


def test_what_is_saved_is_loaded(path):
    """By another process, too."""
    StateFile(str(path)).save(OLD)
    assert StateFile(str(path)).load() == OLD


def test_nothing_saved_is_nothing(path):
    """Not an error: every node starts once for the first time."""
    assert StateFile(str(path)).load() is None


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_the_file_is_its_owners_alone(path, umask):
    """It holds the cluster key; neither the umask nor an older file's mode opens it, and none locks us out."""
    path.write_bytes(render(OTHER))
    path.chmod(0o644)
    before = os.umask(umask)
    try:
        StateFile(str(path)).save(OLD)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    if umask != 0o777:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("call", ["open", "fsync", "rename"])
def test_a_save_that_fails_leaves_the_old_file(path, monkeypatch, call):
    """A full disk or a dying one: the error is raised, the old state is whole, nothing is left beside it."""
    file = StateFile(str(path))
    file.save(OLD)
    original = getattr(os, call)

    def fail(*arguments, **options):
        if call == "open" and not arguments[1] & os.O_WRONLY:
            return original(*arguments, **options)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(f"wesher.runtime.state_file.os.{call}", fail)
        with pytest.raises(OSError, match="No space left"):
            file.save(NEW)
    assert StateFile(str(path)).load() == OLD
    assert os.listdir(path.parent) == [path.name]
    file.save(NEW)  # and the next one works
    assert StateFile(str(path)).load() == NEW


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """A disk that is full from a certain byte of every file on, for this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_stops_at_any_byte_leaves_the_old_file(path):
    """A disk that is full in the middle of it."""
    file = StateFile(str(path))
    file.save(OLD)
    for size in range(len(render(NEW))):
        with no_file_longer_than(size), pytest.raises(OSError, match="File too large"):
            file.save(NEW)
        assert path.read_bytes() == render(OLD)
        assert os.listdir(path.parent) == [path.name]
    with no_file_longer_than(len(render(NEW))):
        file.save(NEW)
    assert StateFile(str(path)).load() == NEW


@pytest.mark.parametrize("former", [NEWER, DAMAGED], ids=["newer", "damaged"])
def test_a_copy_that_stops_at_any_byte_leaves_the_file_that_is_to_be_kept(path, former):
    """It is not overwritten before it has been kept whole, and later saves go on trying."""
    path.write_bytes(former)
    file = StateFile(str(path))
    file.load()
    for size in range(len(former)):
        with no_file_longer_than(size), pytest.raises(OSError, match="File too large"):
            file.save(NEW)
        assert path.read_bytes() == former
        assert os.listdir(path.parent) == [path.name]
    assert file.save(NEW) == f"{path}.old-1"
    assert (path.read_bytes(), Path(f"{path}.old-1").read_bytes()) == (render(NEW), former)


def test_a_key_that_has_given_way_is_in_no_copy(path):
    """The new file has it until its grace is over, and then nobody shall; one that the new file has not is kept."""
    ring = install(Keys.of(KEY), OTHER_KEY, 200_000_000, 60)
    used = use(ring, fingerprint(OTHER_KEY))
    file = StateFile(str(path))
    file.save(SavedState(KEY, (), None))
    file.load()  # as after a restart, too
    for keys in (ring, used, elapse(used, 61)):
        assert file.save(SavedState(keys.primary.key, (), None, keys=keys)) is None
    assert os.listdir(path.parent) == [path.name]
    assert base64.b64encode(KEY) not in path.read_bytes()
    assert file.save(OLD) == f"{path}.old-1"


def in_another_process(work: Callable[[], object]) -> int:
    """Do `work` there; minus the signal that ended it, else its exit status, 1 after an exception."""
    if (pid := os.fork()) == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do `work` in another process that is killed at its `step`-th call into, or return from, the system; whether it
    came so far."""

    def count(_, event, function):
        nonlocal step
        if event.startswith("c_") and is_of_the_system(function):
            step -= 1
            if step < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def counted():
        sys.setprofile(count)
        work()
        sys.setprofile(None)

    status = in_another_process(counted)
    assert status in (0, -signal.SIGKILL)
    return status != 0


def is_of_the_system(function: object) -> bool:
    """Of `os`, or of a file."""
    owner = getattr(function, "__self__", None)
    return isinstance(owner, io.IOBase) or getattr(owner, "__name__", None) in {"posix", "io", "_io"}


@pytest.mark.parametrize("former", [render(OLD), NEWER, DAMAGED, None], ids=["ours", "newer", "damaged", "none"])
def test_a_kill_at_any_step_of_a_start_leaves_a_whole_file_and_loses_nothing(path, former):
    """The file under the name is the old one or the new one, and once it is the new one, what had to be kept is."""

    def start():
        file = StateFile(str(path))
        file.load()
        file.save(NEW)

    seen, step = [], 0
    while True:
        for name in os.listdir(path.parent):
            os.unlink(path.parent / name)
        if former is not None:
            path.write_bytes(former)
        killed = killed_at(step, start)
        content = path.read_bytes() if path.exists() else None
        seen.append(content)
        assert content in (former, render(NEW))
        asides = [aside.read_bytes() for aside in path.parent.glob("*.old-*")]
        assert set(asides) <= {former, b""}  # a name that was taken before its content came
        if content == render(NEW) and former in (NEWER, DAMAGED):
            assert asides == [former]
        start()  # the next start works
        assert StateFile(str(path)).load() == NEW
        assert not os.path.lexists(f"{path}.new")
        if not killed:
            break
        step += 1
    print(f"killed at {step} steps, {seen.count(former)} of them before the new file had the name")
    assert seen[0] == former
    assert seen[-2:] == [render(NEW)] * 2  # the last kills came after the rename


ROUNDS = 150


def test_a_writer_killed_at_random_moments_always_leaves_a_whole_file_with_the_key(path):
    """Kill -9 of a process that does nothing but write, states long and short; each round begins with what is left."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    states = [SavedState(KEY, (SavedNode("node-b", "192.0.2.1", b"m" * n),), None) for n in (1, 300, 20_000)]
    StateFile(str(path)).save(states[0])
    leftovers = 0
    for _ in range(ROUNDS):
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            try:
                while True:
                    for state in states:
                        StateFile(str(path)).save(state)
                        os.write(writer, b".")
            finally:
                os._exit(1)
        os.close(writer)
        for _ in range(rng.randrange(1, 6)):
            assert os.read(reader, 1) == b"."
        for _ in range(rng.randrange(30_000)):
            pass
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
        leftovers += os.path.lexists(f"{path}.new")
        assert parse(path.read_bytes()) in states
        assert StateFile(str(path)).load().remark is None
    print(f"{leftovers} of {ROUNDS} kills came in the middle of a write")


def test_a_new_file_is_synced_before_it_takes_the_name_and_the_directory_after(path, monkeypatch):
    """Else a power cut can leave an empty file under the name. A copy is there before the original goes."""
    path.write_bytes(NEWER)
    file = StateFile(str(path))
    file.load()
    done = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd):
        kind = "directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
        done.append(f"sync {kind}")
        fsync(fd)

    def noted_rename(source, target):
        done.append(f"rename to {os.path.basename(target)}")
        rename(source, target)

    monkeypatch.setattr("wesher.runtime.state_file.os.fsync", noted_fsync)
    monkeypatch.setattr("wesher.runtime.state_file.os.rename", noted_rename)
    file.save(OLD)
    copied = ["sync file", f"rename to {path.name}.old-1", "sync directory"]
    assert done == [*copied, "sync file", f"rename to {path.name}", "sync directory"]


def test_the_same_state_is_written_once(path):
    """Membership that comes and goes back wears out no flash."""
    file = StateFile(str(path))
    file.save(OLD)
    first = path.stat().st_ino
    file.save(OLD)
    assert path.stat().st_ino == first
    file.save(NEW)
    assert StateFile(str(path)).load() == NEW


def test_leftovers_of_a_killed_save_are_no_obstacle(path):
    """Neither a file nor a link beside ours; a link's target stays untouched."""
    victim = path.parent / "victim"
    victim.write_text("untouched")
    beside = path.parent / f"{path.name}.new"
    for leave in (lambda: beside.write_text("half"), lambda: beside.symlink_to(victim)):
        leave()
        StateFile(str(path)).save(OLD)
        assert StateFile(str(path)).load() == OLD
        assert not os.path.lexists(beside)
    assert victim.read_text() == "untouched"


def test_a_link_is_not_read(path):
    """The directory is the agent's, but what it names may not be."""
    target = path.parent / "target"
    target.write_bytes(render(OLD))
    path.symlink_to(target)
    with pytest.raises(StateError, match=r"^cannot be opened: Too many levels of symbolic links$"):
        StateFile(str(path)).load()
    StateFile(str(path)).save(NEW)
    assert not path.is_symlink()
    assert target.read_bytes() == render(OLD)


def test_what_an_earlier_user_left_is_no_obstacle(path):
    """The directory is ours, so another uid's half-written file in it goes like one of our own."""
    if os.geteuid() != 0:
        skip_but_in_ci("another user's file takes root to make")
    beside = path.parent / f"{path.name}.new"
    beside.write_text("half")
    beside.chmod(0)
    os.chown(beside, 61001, 61001)
    os.chown(path.parent, 61002, 61002)

    def save_as_another():
        os.chdir(path.parent)  # the way there is root's
        os.setgroups([])
        os.setresgid(61002, 61002, 61002)
        os.setresuid(61002, 61002, 61002)
        StateFile(f"./{path.name}").save(OLD)

    assert in_another_process(save_as_another) == 0
    assert path.stat().st_uid == 61002
    assert StateFile(str(path)).load() == OLD


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_bytes(b""), "^empty$"),
        (lambda path: path.write_bytes(b'{"ClusterKey": "c2hvcnQ="}'), "^ClusterKey is not the base64 of 32 bytes$"),
        (lambda path: path.mkdir(), "^cannot be opened: not a regular file$"),
        (os.mkfifo, "^cannot be opened: not a regular file$"),
    ],
)
def test_what_cannot_be_used_is_an_error_and_never_a_new_cluster(path, make, reason):
    """Nor does it make us wait, as a pipe would."""
    make(path)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StateError, match=reason):
        StateFile(str(path)).load()
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("elsewhere")])
def test_what_cannot_be_copied_is_not_overwritten(path, make):
    """With a key given the node runs without a state file rather than at the cost of something unknown."""
    make(path)
    before = path.lstat()
    file = StateFile(str(path))
    with pytest.raises(StateError):
        file.load()
    for _ in range(2):
        with pytest.raises(OSError, match=r"not a regular file|symbolic links"):
            file.save(NEW)
    assert path.lstat() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    "former", [NEWER, DAMAGED, render(OTHER), b"rubbish"], ids=["newer", "damaged", "other key", "rubbish"]
)
def test_a_file_that_holds_more_than_the_state_is_kept_once(path, former):
    """The copy is told once, and is whole; the next start finds a file of ours and makes none."""
    path.write_bytes(former)
    for kept in (f"{path}.old-1", None):
        file = StateFile(str(path))
        try:
            file.load()
        except StateError:
            assert former == b"rubbish"
        assert file.save(OLD) == kept
        assert file.save(NEW) is None
    assert Path(f"{path}.old-1").read_bytes() == former
    assert stat.S_IMODE(os.stat(f"{path}.old-1").st_mode) == 0o600
    assert sorted(os.listdir(path.parent)) == [path.name, f"{path.name}.old-1"]


@pytest.mark.parametrize("size", [MAX_SIZE + 1, 1 << 40])
def test_what_is_larger_than_any_state_is_neither_copied_nor_overwritten(path, size):
    """One byte and a hole of a TiB behind it are a TiB of copy: with it the next start would fill the disk."""
    make_hole(path, size)
    file = StateFile(str(path))
    with pytest.raises(StateError, match=r"^larger than 16 MiB$"):
        file.load()
    before, words = path.stat(), "^.Errno 27. too large to keep beside a new one; move it away$"
    with no_file_longer_than(MAX_SIZE):
        for keep in (file.set_aside, lambda: file.save(NEW), lambda: file.save(NEW)):
            with pytest.raises(OSError, match=words):
                keep()
    assert (path.stat().st_ino, path.stat().st_size, path.stat().st_blocks) == (before.st_ino, size, before.st_blocks)
    assert os.listdir(path.parent) == [path.name]
    path.unlink()
    assert file.save(NEW) is None
    assert StateFile(str(path)).load() == NEW


def test_the_largest_state_is_copied(path):
    """One byte more is not."""
    make_hole(path, MAX_SIZE)
    assert StateFile(str(path)).set_aside() == f"{path}.old-1"
    assert os.path.getsize(f"{path}.old-1") == MAX_SIZE


def make_hole(path: Path, size: int) -> None:
    """A file of this size that takes a block of the disk."""
    path.write_bytes(b"x")
    try:
        os.truncate(path, size)
    except OSError:
        skip_but_in_ci("files on this disk cannot be so large")


def test_a_copy_is_told_also_when_the_write_after_it_fails_at_first(path):
    """And not made again."""
    path.write_bytes(DAMAGED)
    file = StateFile(str(path))
    file.load()
    with no_file_longer_than(len(DAMAGED)), pytest.raises(OSError, match="File too large"):
        file.save(LONGER)
    assert path.read_bytes() == DAMAGED
    assert file.save(LONGER) == f"{path}.old-1"
    assert sorted(os.listdir(path.parent)) == [path.name, f"{path.name}.old-1"]


def test_a_damaged_file_that_somebody_removed_is_not_looked_for_again(path):
    """The files that follow are our own, and nothing is lost with them."""
    path.write_bytes(b"rubbish")
    file = StateFile(str(path))
    with pytest.raises(StateError):
        file.load()
    path.unlink()
    assert [file.save(OLD), file.save(NEW)] == [None, None]
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("former", [render(OLD), render(NEW), b'{"ClusterKey": null}'])
def test_a_file_of_which_nothing_is_lost_is_not_kept(path, former):
    """Every start writes once."""
    path.write_bytes(former)
    file = StateFile(str(path))
    file.load()
    assert file.save(OLD) is None
    assert os.listdir(path.parent) == [path.name]


GO_0_2_6 = f"""{{
  "ClusterKey": "{base64.b64encode(KEY).decode()}",
  "Nodes": [
    {{
      "Name": "node-b",
      "Addr": "192.0.2.1",
      "OverlayAddr": {{
        "IP": "10.221.153.165",
        "Mask": "/////w=="
      }},
      "PubKey": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    }}
  ]
}}""".encode()


@pytest.mark.parametrize("interface", ["wgoverlay", "wg7"])
def test_the_file_of_0_2_6_is_read_where_there_is_none_of_the_interface(tmp_path, interface):
    """Whatever the interface, as master does; it stays as it is, for the way back, and is read only once."""
    former = tmp_path / "state.json"
    former.write_bytes(GO_0_2_6)
    file = StateFile(str(tmp_path / f"{interface}.json"))

    state = file.load()

    assert (state, state.remark) == (OLD, f"taken over from {former}, which stays as it is")
    assert file.save(NEW) is None
    assert former.read_bytes() == GO_0_2_6
    assert StateFile(file.path).load() == NEW
    assert StateFile(file.path).load().remark is None


def test_a_damaged_file_of_0_2_6_still_gives_its_key(tmp_path):
    """Both things are said."""
    former = tmp_path / "state.json"
    former.write_bytes(GO_0_2_6[:-5])

    state = StateFile(str(tmp_path / "wgoverlay.json")).load()

    assert state == SavedState(KEY, (), None)
    assert state.remark.startswith(f"taken over from {former}, which stays as it is; not JSON: ")
    assert state.remark.endswith("; only its cluster key can be used")


def test_an_unusable_file_of_0_2_6_is_an_error_that_names_it(tmp_path):
    """Not a new cluster. With a key given there is nothing to copy: it stays where it is anyway."""
    former = tmp_path / "state.json"
    former.write_bytes(GO_0_2_6[:50])
    file = StateFile(str(tmp_path / "wgoverlay.json"))

    with pytest.raises(StateError, match=f"^missing, and {former}, read in its place: not JSON: "):
        file.load()

    assert file.save(NEW) is None
    assert sorted(os.listdir(tmp_path)) == ["state.json", "wgoverlay.json"]


def test_a_damaged_file_of_the_interface_is_not_replaced_by_the_older_one(tmp_path):
    """That may be of another cluster."""
    (tmp_path / "state.json").write_bytes(GO_0_2_6)
    (tmp_path / "wgoverlay.json").write_bytes(b"")

    with pytest.raises(StateError, match=r"^empty$"):
        StateFile(str(tmp_path / "wgoverlay.json")).load()


def test_an_interface_called_state_has_a_file_like_any_other(tmp_path):
    """0.2.6's and its own are one."""
    file = StateFile(str(tmp_path / "state.json"))
    assert file.load() is None
    file.save(OLD)
    assert (file.load(), file.load().remark) == (OLD, None)


def test_setting_aside_never_overwrites(path):
    """Each former state keeps its own name, and a dangling link counts as one."""
    (path.parent / f"{path.name}.old-2").symlink_to("nowhere")
    kept = []
    for state in (OLD, NEW, OLD):
        file = StateFile(str(path))
        file.save(state)
        kept.append(file.set_aside())
    assert kept == [f"{path}.old-1", f"{path}.old-3", f"{path}.old-4"]
    assert [StateFile(name).load() for name in kept] == [OLD, NEW, OLD]
    assert StateFile(str(path)).load() == OLD  # the file itself stays until another takes its name


def test_setting_aside_nothing_is_nothing(path):
    """`--init` on a fresh machine."""
    assert StateFile(str(path)).set_aside() is None


def test_what_was_set_aside_can_be_saved_again(path):
    """Also under another key, and without a second copy."""
    file = StateFile(str(path))
    file.save(OLD)
    assert file.set_aside() == f"{path}.old-1"
    assert file.save(OTHER) is None
    assert StateFile(str(path)).load() == OTHER
    assert sorted(os.listdir(path.parent)) == [path.name, f"{path.name}.old-1"]
