"""The state file on disk: read whole, written atomically. It belongs to the agent's user, mode 0600.

A new version is written beside it, synced and renamed over it: whatever happens meanwhile, a kill or a full disk, there
is a whole file under the name, old or new. At no moment is there none, for a start that finds none makes a new cluster.
What is about to be lost with the old one (what only a newer version or a human can read, or a cluster key that the new
one has not) is therefore copied aside, never moved, and before the first byte of the new one. A key that has given way
to another is in the new one until its grace is over, and then nowhere. What is larger than any state file is not
copied, so it stays, and no new one takes its place.

wesher 0.2.6 had one file for all interfaces, `state.json`. As with the original's master it is read in place of a file
that is missing, whatever the interface, and stays as it is.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import replace
from errno import EFBIG, EINVAL
from itertools import count
from typing import BinaryIO, Final

from wesher.mesh.saved_state import MAX_SIZE, SavedState, StateError, parse, render

_OF_0_2_6: Final = "state.json"  # privhelper/handover.py hands it over in the same case


class StateFile:
    """The file at `path`; its directory exists."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.unwritable: str | None = None
        """Why the last save failed; None if it did not."""
        self._key: bytes | None = None  # what the file holds, as far as it was read or written
        self._holds_more = False
        self._written: bytes | None = None
        self._aside: str | None = None  # not told yet

    def load(self) -> SavedState | None:
        """What was saved; None if nothing ever was. Raises StateError where there is a file that cannot be used."""
        try:
            state = _read(self.path)
        except StateError:
            self._holds_more = True
            raise
        if state is None:
            return self._read_0_2_6()
        self._key, self._holds_more = state.cluster_key, state.remark is not None
        return state

    def _read_0_2_6(self) -> SavedState | None:
        path = os.path.join(os.path.dirname(self.path), _OF_0_2_6)
        try:
            state = _read(path)
        except StateError as error:
            raise StateError(f"missing, and {path}, read in its place: {error}") from None
        if state is None:
            return None
        taken_over = f"taken over from {path}, which stays as it is"
        return replace(state, remark=f"{taken_over}; {state.remark}" if state.remark else taken_over)

    def save(self, state: SavedState) -> str | None:
        """Replace the file's content, if it changed. Raises OSError; the old file then stays.

        Where the old file has a key that the new one has not, or holds more than load understood, it is kept: returned,
        once, is its copy.
        """
        content = render(state)
        if content == self._written:
            return None
        try:
            if self._holds_more or self._key not in (None, *_keys(state)):
                self._aside = self.set_aside()
            self._put(content, self.path)
        except OSError as error:
            self.unwritable = error.strerror
            raise
        self._key, self._holds_more, self._written, self.unwritable = state.cluster_key, False, content, None
        aside, self._aside = self._aside, None
        return aside

    def set_aside(self) -> str | None:
        """Copy the file, so that it may be overwritten; the copy's path, None if there is no file. Raises OSError."""
        try:
            former = _open(self.path)
        except FileNotFoundError:
            return None
        with former:
            content = former.read(MAX_SIZE + 1)
        if len(content) > MAX_SIZE:  # perhaps a few blocks that claim to be more than this disk has room for
            raise OSError(EFBIG, "too large to keep beside a new one; move it away")
        aside = self._take_name()
        try:
            self._put(content, aside)
        except OSError:
            with suppress(FileNotFoundError):
                os.unlink(aside)
            raise
        self._key, self._holds_more, self._written = None, False, None
        return aside

    def _take_name(self) -> str:
        """A name that was free, and now is an empty file's: to test first and take later could overwrite."""
        for number in count(1):
            aside = f"{self.path}.old-{number}"
            with suppress(FileExistsError):
                os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
                return aside
        raise AssertionError("unreachable")

    def _put(self, content: bytes, path: str) -> None:
        """Give `path` this content: all of it or, if this raises OSError or never returns, what it had."""
        beside = f"{self.path}.new"
        with suppress(FileNotFoundError):
            os.unlink(beside)  # left by one who was killed, and perhaps another user's
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.rename(beside, path)
        except OSError:
            with suppress(FileNotFoundError):
                os.unlink(beside)
            raise
        self._sync_directory()

    def _sync_directory(self) -> None:
        fd = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _keys(state: SavedState) -> tuple[bytes | None, ...]:
    """All that are in it."""
    return (state.cluster_key,) if state.keys is None else tuple(key.key for key in state.keys.held)


def _read(path: str) -> SavedState | None:
    """The state in the file at `path`; None if there is none. Raises StateError."""
    try:
        file = _open(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"cannot be opened: {error.strerror}") from None
    with file:
        try:
            return parse(file.read(MAX_SIZE + 1))
        except OSError as error:
            raise StateError(f"cannot be read: {error.strerror}") from None


def _open(path: str) -> BinaryIO:
    """Open for reading. Raises OSError, also where opening or reading would wait, never end or follow a link."""
    return open(path, "rb", opener=_open_regular)


def _open_regular(path: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(EINVAL, "not a regular file")
    return fd
