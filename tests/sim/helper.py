"""The helper of one machine in virtual time: the real Monitor and Tunnels over fakes that pass the devices' contract.

What stands around them is `privhelper/server.py` with its sockets and its clock replaced: the same table of what an
agent's EOF, BYE, violation and a signal mean in either layout. Each request takes a while, now and then a long one.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from privhelper.monitor import Monitor
from privhelper.options import Pinned
from privhelper.protocol import Event, PeerStatus, Violation, encode_event
from privhelper.server import CHECK_EVERY, FIRST_PAUSE, LONGEST_PAUSE, TERMINATE_WITHIN
from privhelper.tunnels import Tunnels
from tests.contract.fakes import FakeDevice, FakeHosts, FakeLink, Kernel
from tests.sim.sockets import LineEnd
from tests.sim.underlay import Underlay
from wesher.runtime.clock import EPOCH_2020

LINGER: Final = 300.0
"""Seconds that a listening helper keeps everything for an agent that went without a word: the default."""

SLOW_SHARE: Final = 0.02
"""Of the requests so many take up to SLOWEST seconds: a kernel that is busy."""
SLOWEST: Final = 1.5


@dataclass
class _Device(FakeDevice):
    """A fake device whose keys are nobody else's."""

    owner: str = ""
    shakes: Callable[[bytes], bool] = lambda _: False
    """Whether a handshake with the peer of that key would succeed now."""
    calendar: Callable[[], float] = lambda: 0.0
    """In seconds since 2020."""
    _shaken: dict[bytes, int] = field(default_factory=dict)

    def status(self) -> list[PeerStatus]:
        """As if there were always traffic: whoever can shake hands has just done so."""
        now = EPOCH_2020 + int(self.calendar())
        self._shaken |= {key: now for key in self.peers if self.shakes(key)}
        return [replace(found, last_handshake=self._shaken.get(found.public_key, 0)) for found in super().status()]

    def create(self, port: int, keepalive: int = 0) -> bytes:
        """A new key; no peer."""
        super().create(port, keepalive)
        self._shaken.clear()
        self.key = hashlib.sha256(f"{self.owner} {self._keys_made}".encode()).digest()[:31] + b"\x01"
        self._given = (self.key, port)
        return self.key


class Helper:
    """Serves agents one after the other; `split`: listening, so that it outlives them.

    `on_violation` is told what no honest agent does, `on_change` that what is in force may have changed, `on_end` that
    the process has ended. `life` makes its keys others than those of a helper before it.
    """

    def __init__(
        self,
        underlay: Underlay,
        pinned: Pinned,
        *,
        split: bool,
        life: str,
        rng: Random,
        on_violation: Callable[[Violation], None],
        on_change: Callable[[], None],
        on_end: Callable[[int], None],
    ) -> None:
        self.kernel = Kernel()
        self.device = _Device(self.kernel, owner=life)
        self.link = FakeLink(self.kernel)
        self.hosts = FakeHosts(self.kernel)
        self.tunnels = Tunnels(pinned, self.device, self.link, self.hosts)
        self.is_up = True
        self.stale_since: float | None = None
        """Since when a hosts line stands for somebody who is not in force (see checkers)."""
        self._underlay = underlay
        self._split = split
        self._rng = rng
        self._on_violation = on_violation
        self._on_change = on_change
        self._on_end = on_end
        self._agent: LineEnd | None = None
        self._monitor = Monitor(self.tunnels)
        self._backlog: deque[LineEnd] = deque()
        self._received: dict[LineEnd, deque[bytes]] = {}
        self._is_serving = False
        self._terminating = False
        self._stopped_until = 0.0
        self._linger_number = 0
        self._hang_up_number = 0
        self._pause = FIRST_PAUSE
        self._found_at = 0.0
        self._trouble_until = 0.0
        self._look_number = 0
        self._not_before = 0.0
        self._check_at = underlay.now + CHECK_EVERY
        self.tunnels.set_up()
        self._look_at(self._check_at)

    @property
    def is_configured(self) -> bool:
        """Whether the agent that is served has sent a whole set."""
        return self._monitor.is_configured

    @property
    def is_half_applied(self) -> bool:
        """Whether the kernel refused the last change half way, so that what is there may be neither old nor new."""
        return self.tunnels._unfinished is not None

    @property
    def is_in_trouble(self) -> bool:
        """Whether the kernel refuses, or did until a moment ago."""
        return self._underlay.now < self._trouble_until

    def refuse(self, steps: int, seconds: float) -> None:
        """Let the kernel do so many steps more, and then nothing until so many seconds are over."""
        self.kernel.fail_in(steps)
        self._trouble_until = self._underlay.now + seconds + LONGEST_PAUSE
        self._underlay.after(seconds, self.kernel.recover)

    def meddle(self) -> str:
        """Somebody else who may changes something; says what. The kernel tells of it, but not of peers."""
        what = self._rng.choice(("takes the link away", "removes routes", "takes the address", "removes peers"))
        match what:
            case "takes the link away":
                self.link.lose()
            case "removes routes":
                self.link.routes.clear()
            case "takes the address":
                self.link.address = None
            case _:
                for key in list(self.device.peers):
                    self.device.take_addresses(key)
                self.device.peers.clear()
        if what != "removes peers":
            self._underlay.after(0.1, self._check_soon)
        return what

    # --- what the world does to it

    def meet(self, line: LineEnd) -> None:
        """An agent connects; a second one waits."""
        if self._agent is None:
            self._begin(line)
        else:
            self._backlog.append(line)

    def receive(self, line: LineEnd, data: bytes) -> None:
        """The agent has sent a message."""
        self._received.setdefault(line, deque()).append(data)
        self._serve_next()

    def hung_up(self, line: LineEnd) -> None:
        """The agent's end is closed, by itself or by its death."""
        if line in self._backlog:
            self._backlog.remove(line)
        else:
            self.receive(line, b"")

    def terminate(self) -> None:
        """SIGTERM."""
        if self._terminating or not self.is_up:
            return
        self._terminating = True
        if self._agent is None:
            self._end(0)
            return
        self._agent.bring(encode_event(Event.TERMINATE))
        self._hang_up_later()

    def kill(self) -> None:
        """The machine, or this process, is gone; in the launcher layout that is the end of the agent too."""
        self.is_up = False
        self._on_change()

    def pause(self, until: float) -> None:
        """Stop until then."""
        self._stopped_until = max(self._stopped_until, until)

    # --- serving

    def _begin(self, line: LineEnd) -> None:
        self._agent = line
        self._linger_number += 1
        self._monitor = Monitor(self.tunnels)
        self._serve_next()

    def _serve_next(self) -> None:
        if not self._is_serving and self._agent is not None and self._received.get(self._agent):
            self._is_serving = True
            slow = self._rng.random() < SLOW_SHARE
            seconds = self._rng.uniform(0.2, SLOWEST) if slow else self._rng.uniform(0.0002, 0.01)
            self._underlay.after(seconds, self._serve)

    def _serve(self) -> None:
        if self._underlay.now < self._stopped_until:
            self._underlay.at(self._stopped_until, self._serve)
            return
        self._is_serving = False
        if not self.is_up or self._agent is None or not self._received.get(self._agent):
            return
        if data := self._received[self._agent].popleft():
            self._answer(data)
        else:
            self._lose_agent()
        self._serve_next()

    def _answer(self, data: bytes) -> None:
        assert self._agent is not None
        self._underlay.note(data)
        try:
            reply = self._monitor.receive(data)
        except Violation as violation:
            self._on_violation(violation)
            self._end(1)
            return
        self._on_change()
        self._underlay.note(reply)
        if self._monitor.ended:
            self._hang_up_later()
        self._agent.bring(reply)

    def _hang_up_later(self) -> None:
        number = self._hang_up_number
        self._underlay.after(TERMINATE_WITHIN, lambda: self._hang_up(number))

    def _hang_up(self, number: int) -> None:
        if self.is_up and number == self._hang_up_number and self._agent is not None:
            self._lose_agent()

    def _lose_agent(self) -> None:
        assert self._agent is not None
        line, self._agent = self._agent, None
        self._received.pop(line, None)
        line.end()
        self._hang_up_number += 1
        if not self._split or self._terminating:
            self._end(0 if self._monitor.ended else 1)
            return
        if self._monitor.ended and self.tunnels.failures:
            self._end(1)  # a new start clears what could not be taken down
            return
        if not self._monitor.ended and self.tunnels.public_key is not None:
            number = self._linger_number
            self._underlay.after(LINGER, lambda: self._give_up(number))
        if self._backlog:
            self._begin(self._backlog.popleft())

    def _give_up(self, number: int) -> None:
        if self.is_up and number == self._linger_number and self._agent is None:
            self.tunnels.take_down()
            self._on_change()
            if self.tunnels.failures:
                self._end(1)

    def _end(self, status: int) -> None:
        """All down, and the process with it."""
        self.tunnels.take_down()
        self.is_up = False
        for line in (*self._backlog, *((self._agent,) if self._agent is not None else ())):
            line.end()
        self._on_change()
        self._on_end(status)

    # --- what others change behind its back

    def _check_soon(self) -> None:
        self._check_at = min(self._check_at, self._underlay.now)
        self._look_at(max(self._check_at, self._not_before))

    def _look_at(self, when: float) -> None:
        self._look_number += 1
        number = self._look_number
        self._underlay.at(max(when, self._stopped_until), lambda: self._check(number))

    def _check(self, number: int) -> None:
        if not self.is_up or number != self._look_number:
            return
        now = self._underlay.now
        if now < self._stopped_until:
            self._look_at(self._stopped_until)
            return
        try:
            found = self.tunnels.repair()
        except OSError:
            found = ["failed"]
        if found:
            self._pause, self._found_at = min(LONGEST_PAUSE, 2 * self._pause), now
        elif now - self._found_at > 2 * LONGEST_PAUSE:
            self._pause = FIRST_PAUSE
        self._not_before = now + self._pause
        self._check_at = self._not_before if found else now + CHECK_EVERY
        self._look_at(max(self._check_at, self._not_before))
        self._on_change()
        if found and self._agent is not None and not self._monitor.is_new and not self._monitor.ended:
            self._agent.bring(encode_event(Event.REPAIRED))
