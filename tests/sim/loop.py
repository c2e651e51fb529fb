"""An asyncio loop in virtual time: one process of the cluster, running the real code of `wesher/runtime`.

It makes the turns that asyncio's own loop makes, in the same order: what was called soon, then who reads a socket that
has something, then timers that are due; what these call soon waits for the next turn. Turns follow each other at once
until there is nothing to do; then the underlay wakes the process at its next timer, or when something arrives.

    paused   no turn is made; what arrives waits. On waking the kernel may say that time is up without a look at the
             sockets (a stop interrupts epoll), so that timers come first
    slow     each input and each turn takes so long; within a turn the process sees its clock run on
    killed   no turn is ever made again, and what its objects still try has no effect
"""

from __future__ import annotations

import asyncio
import heapq
import signal
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import count
from math import inf
from random import Random
from typing import Any, Final, Protocol

from tests.sim.underlay import Underlay

RESTLESS: Final = 10_000
"""So many turns without a pause are a busy loop."""


class Readable(Protocol):
    """A socket, as far as the loop is concerned."""

    is_readable: bool


class Network(Protocol):
    """What the process can reach through its ports."""

    def serve(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """From now on accepted streams are the factory's."""

    async def connect(self, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int) -> None:
        """Open a stream. Raises OSError."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """What a process said, and when."""

    at: float
    level: int
    text: str


class VirtualLoop(asyncio.AbstractEventLoop):
    """One process: `calendar` gives seconds since 2020 as its clock shows them, `rng` is its source of secrets.

    `after_turns` is called whenever it has done something, `on_exit` with its exit status or what it failed with.
    """

    def __init__(
        self,
        underlay: Underlay,
        name: str,
        *,
        rng: Random,
        calendar: Callable[[], float],
        after_turns: Callable[[], None],
        on_exit: Callable[[int | BaseException], None],
    ) -> None:
        self.name = name
        self.rng = rng
        self.calendar = calendar
        self.network: Network | None = None
        self.names: dict[str, list[str]] = {}
        """What host names resolve to."""
        self.disk_delay: Callable[[], float] = lambda: 0.0
        """Seconds that what is handed to the worker thread takes."""
        self.effort = 0.0
        self.said: list[LogLine] = []
        self.errors: list[dict[str, Any]] = []
        self.is_dead = False
        self.lag = 0.0
        """Seconds by which this turn has used up time that has not passed for the others yet."""
        self._underlay = underlay
        self._after_turns = after_turns
        self._on_exit = on_exit
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = count()
        self._readers: dict[Readable, asyncio.Handle] = {}
        self._signals: dict[int, Callable[[], Any]] = {}
        self._tasks: list[asyncio.Task[Any]] = []
        self._is_running = False
        self._stopped_until = 0.0
        self._busy_until = 0.0
        self._alarm_at = inf

    # --- the process

    def start(self, main: Coroutine[Any, Any, int]) -> None:
        """Run `main` until it returns the exit status, or raises."""
        self.create_task(main).add_done_callback(self._exited)
        self.wake()

    def _exited(self, main: asyncio.Task[int]) -> None:
        self.kill()
        self._on_exit(main.exception() or main.result())

    def kill(self) -> None:
        """End the process, as SIGKILL does."""
        if self.is_dead:
            return
        self.is_dead = True
        self._ready.clear()
        self._timers.clear()
        self._readers.clear()
        with self._as_running():
            for task in self._tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    task.get_coro().close()  # now, and not when the garbage collector comes by

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; without a handler it ends the process."""
        handler = self._signals.get(number)
        if handler is None:
            self.kill()
            self._on_exit(-number)
            return
        self.call_soon(handler)
        self.wake()

    def pause(self, until: float) -> None:
        """Stop the process until then."""
        self._stopped_until = max(self._stopped_until, until)
        self._underlay.at(self._stopped_until, lambda: self.wake(blind=self.rng.random() < 0.5))

    def unhandled(self) -> list[dict[str, Any]]:
        """The errors since the last call that nobody handled."""
        errors, self.errors = self.errors, []
        return errors

    def failed_tasks(self) -> list[dict[str, Any]]:
        """Tasks that failed and at whose result nobody has looked; asyncio would say so when they are forgotten."""
        failed = (task for task in self._tasks if task.done() and task._log_traceback)  # type: ignore[attr-defined]
        return [{"exception": task.exception()} for task in failed]

    # --- turns

    def wake(self, *, blind: bool = False) -> None:
        """There may be something to do."""
        now = self._underlay.now
        if self._is_running or self.is_dead or now < self._stopped_until or now < self._busy_until:
            return
        with self._as_running():
            for turns in count():
                if self.is_dead or not self._has_something():
                    break
                if turns > RESTLESS:
                    self.errors.append({"exception": AssertionError("the process never rests")})
                    self.kill()
                    break
                self._turn(blind=blind)
                blind = False
                if self.lag:
                    self._busy_until = now + self.lag
                    self.lag = 0.0
                    self._underlay.at(self._busy_until, self.wake)
                    break
        self._set_alarm()
        self._after_turns()

    @contextmanager
    def _as_running(self) -> Any:
        self._is_running, outer = True, asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            self._is_running = False
            asyncio._set_running_loop(outer)

    def _has_something(self) -> bool:
        return bool(self._ready) or self._next_timer() <= self.time() or any(s.is_readable for s in self._readers)

    def _turn(self, *, blind: bool) -> None:
        ready = self._ready
        if not blind:
            ready.extend(handle for source, handle in self._readers.items() if source.is_readable)
        now = self.time()
        while self._next_timer() <= now:
            ready.append(heapq.heappop(self._timers)[2])
        if self.effort:
            self.lag += self.effort
        for _ in range(len(ready)):
            if ready:  # else the process has ended meanwhile
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()

    def _next_timer(self) -> float:
        while self._timers and self._timers[0][2]._cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else inf

    def _set_alarm(self) -> None:
        at = self._next_timer()
        if at < self._alarm_at and not self.is_dead:
            self._alarm_at = at
            self._underlay.at(at, lambda: self._on_alarm(at))

    def _on_alarm(self, at: float) -> None:
        if self._alarm_at != at:
            return
        self._alarm_at = inf
        if self._next_timer() <= self._underlay.now:
            self.wake()  # or, where it is paused or busy, whoever ends that
        else:
            self._set_alarm()

    # --- what asyncio asks of a loop

    def time(self) -> float:
        """The monotonic clock."""
        return self._underlay.now + self.lag

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Whether a turn is being made."""
        return self._is_running

    def is_closed(self) -> bool:
        """Whether the process has ended."""
        return self.is_dead

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:
        """In the next turn."""
        handle = asyncio.Handle(callback, args, self, context)
        if not self.is_dead:
            self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """After so many seconds."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """At that time."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.is_dead:
            heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is dropped when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        """A task of this loop."""
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        if len(self._tasks) > 64:
            self.errors += self.failed_tasks()
            self._tasks = [known for known in self._tasks if not known.done()]
        self._tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Something went wrong that nobody waits for: it is an error of the program."""
        if not self.is_dead:
            self.errors.append(context)

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        """Call back in every turn in which `fd` has something."""
        self._readers[fd] = asyncio.Handle(callback, args, self)

    def remove_reader(self, fd: Any) -> bool:
        """Not any more."""
        return self._readers.pop(fd, None) is not None

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:
        """Instead of ending."""
        self._signals[sig] = lambda: callback(*args)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """In the worker thread, which a process that is killed takes along: it is done whole or not at all."""
        done = self.create_future()
        self.call_later(self.disk_delay(), self._work, done, func, args)
        return done

    def _work(self, done: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            result = func(*args)
        except OSError as error:
            if not done.cancelled():
                done.set_exception(error)
        else:
            if not done.cancelled():
                done.set_result(result)

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        """Literals, and the names that are known."""
        try:
            found = [str(ip_address(host))]
        except ValueError:
            found = self.names.get(host, [])
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    async def create_server(self, protocol_factory: Any, *_: Any, **__: Any) -> Any:
        """On this process's one port."""
        assert self.network is not None
        self.network.serve(protocol_factory)
        return _Server()

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        """Through the underlay."""
        assert self.network is not None
        await self.network.connect(protocol_factory, host, port)


class _Server:
    """A listening socket, which ends with its process."""

    def close(self) -> None:
        """Nothing more is accepted."""
