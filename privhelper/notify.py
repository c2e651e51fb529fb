"""sd_notify(3): what a service manager is told, over a datagram socket that is connected before lockdown.

Without NOTIFY_SOCKET in the environment nothing is sent. A watchdog is fed by whoever can tell that the service
works; `interval` says how often.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import ClassVar


class Notify:
    """The service manager's ear, if there is one."""

    VARIABLES: ClassVar = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
    """What a service manager puts into the environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket: socket.socket | None = None
        self.interval: float | None = None
        """Seconds within which the watchdog must be fed; None without one."""
        self._readiness: str | None = None
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            opened.connect("\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            opened.close()
            return
        self._socket = opened
        self.interval = _interval(environment)

    def ready(self, text: str) -> None:
        """The service works from now on; `text` is for people."""
        self._readiness = f"READY=1\nSTATUS={text}"
        self._say(self._readiness)

    def reloaded(self) -> None:
        """What was told to reload has done so; who has not been ready yet is not made so by that.

        Type=notify-reload waits for both words, and takes the time of the first for its answer to the signal.
        """
        if self._readiness is not None:
            self._say(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            self._say(self._readiness)

    def status(self, text: str) -> None:
        """A line for people."""
        self._say(f"STATUS={text}")

    def stopping(self) -> None:
        """The service ends."""
        self._say("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog."""
        if self.interval is not None:
            self._say("WATCHDOG=1")

    def _say(self, text: str) -> None:
        if self._socket is not None:
            with suppress(OSError):  # a service manager that does not listen costs nothing but its own knowledge
                self._socket.send(text.encode("ascii", "replace"))


def _interval(environment: Mapping[str, str]) -> float | None:
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(os.getpid()))
    if not usec.isdigit() or int(usec) == 0 or pid != str(os.getpid()):
        return None
    return int(usec) / 1_000_000
