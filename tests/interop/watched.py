"""A program whose output is read line by line as it comes, on this machine or inside a node of the lab."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

from tests.lab import Node
from tests.lab.namespaces import ENV, direct_children


class Watched:
    """Running from the start. `log` is its standard error in lines; each line of its standard output goes to `on_line`.

    Its standard input stays open until `close`, so a program that ends on EOF goes when this process goes.
    """

    def __init__(self, argv: Sequence[str], node: Node | None, on_line: Callable[[str], None]) -> None:
        self.argv = tuple(argv)
        self.log: list[str] = []
        self._inside = node is not None
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            argv if node is None else node.inside.enter(*argv),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            errors="replace",
            env=ENV,
            cwd="/",
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdin: IO[str] = self._process.stdin
        self._streams = (self._process.stdout, self._process.stderr)
        self._readers = [
            threading.Thread(target=_read, args=(stream, to), daemon=True)
            for stream, to in zip(self._streams, (on_line, self.log.append), strict=True)
        ]
        for reader in self._readers:
            reader.start()

    def say(self, line: str) -> None:
        """Write a line to its standard input. Raises OSError when it has ended."""
        self._stdin.write(line + "\n")
        self._stdin.flush()

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait(self, timeout: float) -> int:
        """Its exit status, minus the signal's number if one ended it; all it wrote has been read on return."""
        status = self._process.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        return status

    def signal(self, number: int) -> None:
        """Send a signal to the program itself, not to the nsenter around it."""
        os.kill(self._pid(), number)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self.alive():
            self.signal(signal.SIGKILL)
        self.wait(10)

    def close(self) -> None:
        """End it if it still runs; afterwards only `log` is left."""
        try:
            self.kill()
        except (ProcessLookupError, LookupError):
            self.wait(10)  # it ended, or its whole node did, in the meantime
        for stream in (self._stdin, *self._streams):
            try:
                stream.close()
            except BrokenPipeError:  # a line that it no longer read
                continue

    def last_words(self, lines: int) -> str:
        """How it is, and the end of its log."""
        state = "running" if self.alive() else f"exit {self._process.returncode}"
        return f"{shlex.join(self.argv)} ({state}), end of its log:\n" + "\n".join(self.log[-lines:])

    def _pid(self) -> int:
        if not self._inside:
            return self._process.pid
        deadline = time.monotonic() + 5
        while self.alive() and time.monotonic() < deadline:  # nsenter forks to reach the PID namespace
            if found := direct_children(self._process.pid):
                return found[0]
            time.sleep(0.001)
        raise LookupError(f"{shlex.join(self.argv)} has ended")


def _read(stream: IO[str], to: Callable[[str], None]) -> None:
    for line in stream:
        to(line.rstrip("\n"))
