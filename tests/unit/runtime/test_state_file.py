"""The state file on disk: whole, old or new, whatever happens; nobody else's file is followed or overwritten."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from wesher.mesh.saved_state import SavedNode, SavedState, StateError, render
from wesher.runtime.state_file import StateFile

OLD = SavedState(b"\x01" * 32, (SavedNode("node-b", "192.0.2.1", None),), None)
NEW = SavedState(b"\x02" * 32, (), None)


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
    path.write_bytes(render(NEW))
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


def test_a_write_that_stops_half_way_leaves_the_old_file(path, monkeypatch):
    """The file's own write fails."""
    file = StateFile(str(path))
    file.save(OLD)
    original = os.fdopen

    def half(fd, mode):
        opened = original(fd, mode, buffering=0)

        class Half:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                opened.close()

            def write(self, content):
                opened.write(content[: len(content) // 2])
                raise OSError(28, "No space left on device")

        return Half()

    with monkeypatch.context() as patched:
        patched.setattr("wesher.runtime.state_file.os.fdopen", half)
        with pytest.raises(OSError, match="No space left"):
            file.save(NEW)
    assert StateFile(str(path)).load() == OLD
    assert os.listdir(path.parent) == [path.name]


def test_a_new_file_is_synced_before_it_takes_the_name_and_the_directory_after(path, monkeypatch):
    """Else a power cut can leave an empty file under the name."""
    done = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd):
        kind = "directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
        done.append((f"sync {kind}", path.exists()))
        fsync(fd)

    def noted_rename(source, target):
        done.append((f"rename to {os.path.basename(target)}", os.path.exists(target)))
        rename(source, target)

    monkeypatch.setattr("wesher.runtime.state_file.os.fsync", noted_fsync)
    monkeypatch.setattr("wesher.runtime.state_file.os.rename", noted_rename)
    StateFile(str(path)).save(OLD)
    assert done == [("sync file", False), (f"rename to {path.name}", False), ("sync directory", True)]


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


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_bytes(b""), "^empty$"),
        (lambda path: path.write_bytes(b'{"ClusterKey": "c2hvcnQ="}'), "^ClusterKey is not the base64 of 32 bytes$"),
        (lambda path: path.mkdir(), "^cannot be read: Is a directory$"),
        (os.mkfifo, "^empty$"),
    ],
)
def test_what_cannot_be_used_is_an_error_and_never_a_new_cluster(path, make, reason):
    """Nor does it make us wait, as a pipe would."""
    make(path)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StateError, match=reason):
        StateFile(str(path)).load()
    assert len(os.listdir("/proc/self/fd")) == descriptors


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
    assert not path.exists()


def test_setting_aside_nothing_is_nothing(path):
    """`--init` on a fresh machine."""
    assert StateFile(str(path)).set_aside() is None


def test_what_was_set_aside_can_be_saved_again(path):
    """The same content under the old name is a new file."""
    file = StateFile(str(path))
    file.save(OLD)
    file.set_aside()
    file.save(OLD)
    assert StateFile(str(path)).load() == OLD
