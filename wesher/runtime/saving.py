"""Keeping the state file true to what this node knows: soon after a change, never in a row, and now and then anyway.

It is written in the worker thread: a slow disk must not delay an ack. A disk that takes nothing is said once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from wesher.mesh.rotation import Keys
from wesher.mesh.saved_state import SavedState
from wesher.runtime.state_file import StateFile

AT_MOST_EVERY: Final = 1.0
"""Seconds between two writes while membership changes quickly."""

AT_LEAST_EVERY: Final = 3600.0
"""Seconds: when everybody was last seen is worth knowing, if only roughly."""

log = logging.getLogger("agent")


class Saving:
    """`compose` makes the state to be written, with the cluster keys that are about to be held where they are given.

    `latest` is what was composed last, or found at the start.
    """

    def __init__(self, file: StateFile, found: SavedState, compose: Callable[[Keys | None], SavedState]) -> None:
        self.latest = found
        self._file = file
        self._compose = compose
        self._changed = asyncio.Event()

    @property
    def problem(self) -> str:
        """What is wrong with the file; empty where nothing is."""
        if self._file.unwritable is None:
            return ""
        return (
            f"state file {self._file.path} cannot be written: {self._file.unwritable}; make it writable, or the next "
            "start knows no newer keys and members"
        )

    def changed(self) -> None:
        """There is something new to be kept."""
        self._changed.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(AT_LEAST_EVERY):
                    await self._changed.wait()
            self._changed.clear()
            await self.save()
            await asyncio.sleep(AT_MOST_EVERY)

    async def save(self, keys: Keys | None = None) -> bool:
        """Write it now; whether it could be."""
        self.latest = self._compose(keys)
        path, before = self._file.path, self._file.unwritable
        try:
            aside = await asyncio.get_running_loop().run_in_executor(None, self._file.save, self.latest)
        except OSError as error:
            if error.strerror != before:
                log.error("state file %s: cannot be written: %s; trying again with every change", path, error.strerror)
            return False
        if before is not None and self._file.unwritable is None:
            log.warning("state file %s: written again", path)
        if aside is not None:
            log.warning("state file %s: the former file is kept as %s", path, aside)
        return True
