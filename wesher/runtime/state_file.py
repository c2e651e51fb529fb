"""The state file on disk: read whole, written atomically. It belongs to the agent's user, mode 0600.

A new version is written beside it, synced and renamed over it: whatever happens meanwhile, a kill or a full disk, there
is a whole file under the name, old or new.
"""

from __future__ import annotations

import os
from contextlib import suppress

from wesher.mesh.saved_state import MAX_SIZE, SavedState, StateError, parse, render


class StateFile:
    """The file at `path`; its directory exists."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._written: bytes | None = None

    def load(self) -> SavedState | None:
        """What was saved; None if nothing ever was. Raises StateError where there is a file that cannot be used."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"cannot be opened: {error.strerror}") from None
        try:
            with open(fd, "rb", closefd=False) as file:
                return parse(file.read(MAX_SIZE + 1))
        except OSError as error:
            raise StateError(f"cannot be read: {error.strerror}") from None
        finally:
            os.close(fd)

    def save(self, state: SavedState) -> None:
        """Replace the file's content, if it changed. Raises OSError; the old file then stays."""
        content = render(state)
        if content == self._written:
            return
        beside = f"{self.path}.new"
        with suppress(FileNotFoundError):
            os.unlink(beside)
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.rename(beside, self.path)
        except OSError:
            with suppress(FileNotFoundError):
                os.unlink(beside)
            raise
        self._sync_directory()
        self._written = content

    def set_aside(self) -> str | None:
        """Move the file out of the way for `--init`; its new path, or None if there was none."""
        number = 1
        while os.path.lexists(aside := f"{self.path}.old-{number}"):
            number += 1
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return None
        self._sync_directory()
        self._written = None
        return aside

    def _sync_directory(self) -> None:
        fd = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
