"""Who has told this process to stop, or to reload: the helper, a signal, or an operator who wants the node out."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from privhelper import signals
from privhelper.protocol import Event


def _nothing() -> None:
    """Until there is an agent, nothing is to be done anew."""


class Stop:
    """Takes the signals of the running loop's process, those held since before its exec included."""

    def __init__(self) -> None:
        self.by_helper = asyncio.Event()
        self.asked = asyncio.Event()
        self.for_good = False
        self.on_reload: Callable[[], None] = _nothing
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.asked.set)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        signals.release()

    def _reload(self) -> None:
        self.on_reload()

    def on_helper_event(self, event: Event) -> None:
        """Until there is an agent, nothing else that the helper says matters."""
        if event is Event.TERMINATE:
            self.by_helper.set()
            self.asked.set()

    def leave(self) -> None:
        """Whatever the layout, leave rather than detach."""
        self.for_good = True
        self.asked.set()
