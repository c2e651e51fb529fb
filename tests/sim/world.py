"""What the agent's code takes from the operating system by name, replaced by what its virtual process has.

Inside `virtual_world` the clocks and the secrets of `wesher/runtime` are those of whichever loop is running, and its
log goes there too. Nothing else of it is replaced.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from tests.sim.loop import LogLine, VirtualLoop
from tests.sim.underlay import START
from wesher.runtime.clock import EPOCH_2020


def _process() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


class _Time:
    """In the place of the module `time`."""

    @staticmethod
    def monotonic() -> float:
        """The process's clock."""
        return _process().time()

    @staticmethod
    def time() -> float:
        """The machine's calendar."""
        return EPOCH_2020 + _process().calendar()


class _Secrets:
    """In the place of the module `secrets`."""

    @staticmethod
    def randbits(bits: int) -> int:
        """From the process's seed."""
        return _process().rng.getrandbits(bits)

    @staticmethod
    def token_bytes(size: int) -> bytes:
        """From the process's seed."""
        return _process().rng.randbytes(size)


class _Socket:
    """In the place of the module `socket`, of which greeting the helper needs one function."""

    @staticmethod
    def gethostname() -> str:
        """The machine's name."""
        return _process().name


class _ToProcess(logging.Handler):
    """Into the log of the process that speaks."""

    def __init__(self, tell: Callable[[str], None] | None) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        process = _process()
        process.said.append(LogLine(process.time(), record.levelno, record.getMessage()))
        if self._tell is not None:
            level, text = record.levelname.lower(), record.getMessage()
            self._tell(f"{process.time() - START:9.3f}      {process.name}: {level}: {text}")


@contextmanager
def virtual_world(*, level: int = logging.WARNING, tell: Callable[[str], None] | None = None) -> Iterator[None]:
    """Agents run in virtual time; what they log from `level` on is kept, and told."""
    log = logging.getLogger("agent")
    handler, before, propagates = _ToProcess(tell), log.level, log.propagate
    with ExitStack() as replaced:
        for name, what in (
            ("clock.time", _Time),
            ("served.time", _Time),
            ("composition.secrets", _Secrets),
            ("state_at_start.secrets", _Secrets),
            ("rotating.secrets", _Secrets),
            ("standing.VERSION", "0"),
            ("standing.socket", _Socket),
            ("served.VERSION", "0"),
        ):
            replaced.enter_context(patch(f"wesher.runtime.{name}", what))
        log.addHandler(handler)
        log.setLevel(level)
        log.propagate = False
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(before)
            log.propagate = propagates
