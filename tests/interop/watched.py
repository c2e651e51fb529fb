"""A program whose output is read line by line as it comes, on this machine or inside a node of the lab; and all the
live peers of a test, whose complaints about us fail it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO, Any, Generic, Protocol, Self, TypeVar

from tests.interop.complaints import has_written
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


class Stranger(Protocol):
    """A program of others that gossips with us. It runs from the start; `log` is what it has written, in lines."""

    name: str

    @property
    def log(self) -> list[str]: ...

    def complaints(self, *allowed: str) -> list[str]: ...

    def close(self) -> None: ...

    def last_words(self) -> str: ...


S = TypeVar("S", bound=Stranger)


class Strangers(Generic[S]):
    """All programs of one kind in a test. They are gone after the block, and it fails if one complained about us.

    A test that provokes complaints names them before: `expect` what must then be found in some log, `allow` what may.
    kind: as a failure calls them. make: starts one.
    """

    def __init__(self, kind: str, make: Callable[..., S]) -> None:
        self.all: list[S] = []
        self._kind = kind
        self._make = make
        self._expected: list[str] = []
        self._allowed: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is None:
            self.check()

    def close(self) -> None:
        """No process is left; what they saw and wrote is."""
        for stranger in self.all:
            stranger.close()

    def start(self, name: str, address: str, *arguments: Any, **keywords: Any) -> S:
        """One more, made with these arguments."""
        stranger = self._make(name, address, *arguments, **keywords)
        self.all.append(stranger)
        return stranger

    def expect(self, pattern: str) -> None:
        """Somebody has to write a line like this (regular expression; `{name}` is the writer); it is no complaint."""
        self._expected.append(pattern)

    def allow(self, pattern: str) -> None:
        """A line like this is no complaint."""
        self._allowed.append(pattern)

    def check(self) -> None:
        """Raise AssertionError for complaints that nobody named, and for expected ones that never came."""
        found = [f"{one.name}: {line}" for one in self.all for line in one.complaints(*self._expected, *self._allowed)]
        assert not found, f"{self._kind} complains:\n" + "\n".join(found)
        for pattern in self._expected:
            assert any(has_written(one.name, one.log, pattern) for one in self.all), (
                f"{self._kind} never wrote what was expected: {pattern}"
            )

    def report(self) -> str:
        """The ends of their logs."""
        return "\n".join(f"--- {one.name}: {one.last_words()}" for one in self.all)


def _read(stream: IO[str], to: Callable[[str], None]) -> None:
    for line in stream:
        to(line.rstrip("\n"))
