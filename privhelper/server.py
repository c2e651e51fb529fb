"""One agent after the other, and what happens between them.

                        started by the launcher                 listening
    agent's EOF         all down, exit 1                        tunnels stay for `linger`, then all down; listen on
    BYE, then EOF       exit 0                                  listen on; the next HELLO gets a new link and key
    SIGTERM, SIGINT     EVENT terminate; BYE within 10 s and exit 0, else exit 1; no agent there: exit 0
    while terminating   EOF means down at once
    violation           all down, exit 1                        the same: whoever forged it has this uid's agent
    no WireGuard left   all down, exit 1                        the same

A second agent waits in the backlog. Whoever asks for more than its allowance is read later. Changes that others make to
our link, address, routes and peers are put right as soon as the kernel tells of them, and every 30 s in any case; the
pause between two repairs grows while they recur.
"""

from __future__ import annotations

import logging
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from privhelper import GENERATION, signals
from privhelper.allowance import Allowance
from privhelper.door import take_no_descriptors
from privhelper.monitor import Monitor
from privhelper.notify import Notify
from privhelper.protocol import (
    MAX_MESSAGE,
    Event,
    Failed,
    Op,
    Violation,
    ViolationCode,
    encode_event,
    encode_reply,
)
from privhelper.tunnels import Tunnels
from privhelper.watch import Watch

TERMINATE_WITHIN: Final = 10.0
"""Seconds an agent has, once told to terminate, to leave the mesh and say BYE, and then to hang up."""

CHECK_EVERY: Final = 30.0
"""Seconds between two looks at what is really there; WireGuard tells nobody of changed peers."""

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds between two repairs: doubled as long as they find something, since somebody else may be as persistent."""

WAITING: Final = "waiting for the agent"
"""What a service manager shows of a helper that listens."""

LOAD: Final = 10
"""After a look that took t seconds none follows for ten times t: a router's table may be long and restless."""

_PROTOCOL_NOT_SUPPORTED: Final = 93  # EPROTONOSUPPORT
_PEERCRED: Final = struct.Struct("3i")  # pid, uid, gid

_EVENTS: Final = {
    signal.SIGTERM: Event.TERMINATE,
    signal.SIGINT: Event.TERMINATE,
    signal.SIGHUP: Event.RELOAD,
}

log = logging.getLogger("helper")


class Signals:
    """Signals as readable bytes, so that one loop waits for everything. Make it before lockdown."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        for number in _EVENTS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        signals.release()

    def fileno(self) -> int:
        """Readable when a signal has come."""
        return self._receiver.fileno()

    def pending(self) -> list[Event]:
        """The events that stand for the signals that have come, each once."""
        numbers = set(self._receiver.recv(4096))
        return sorted({_EVENTS[signal.Signals(number)] for number in numbers if number in _EVENTS})


@dataclass(frozen=True, slots=True)
class Doors:
    """Where agents come from: the one socket of the launcher's, or those that connect and have the right uid."""

    agent: socket.socket | None = None
    listener: socket.socket | None = None
    agent_uid: int = -1
    linger: float = 0.0


class Server:
    """Serves agents until told to terminate, or until there is nothing left to serve them with.

    `device` is readable when WireGuard, where it is a process, is gone; `own_port` is the netlink port of our changes.
    """

    def __init__(
        self,
        tunnels: Tunnels,
        doors: Doors,
        notify: Notify,
        told: Signals,
        watch: Watch,
        own_port: int,
        device: Any = None,
    ) -> None:
        self._tunnels = tunnels
        self._doors = doors
        self._notify = notify
        self._watch = watch
        self._own_port = own_port
        self._device = device
        self._signals = told
        self._selector = selectors.PollSelector()
        self._agent: socket.socket | None = None
        self._monitor = Monitor(tunnels)
        self._allowance = Allowance(time.monotonic())
        self._read_at: float | None = None
        self._terminating = False
        self._hang_up_at: float | None = None
        self._linger_until: float | None = None
        self._check_at = time.monotonic() + CHECK_EVERY
        self._not_before = 0.0
        self._pause = FIRST_PAUSE
        self._found_at = 0.0
        self._feed_at: float | None = None
        self._strangers: set[int] = set()
        self._is_ready = False
        self._status: int | None = None

    def run(self) -> int:
        """Serve; the exit status. Raises Violation. What is in force stays so: taking it down is the caller's."""
        self._wait_for(self._watch, self._on_change)
        self._wait_for(self._signals, self._on_signal)
        if self._device is not None:
            self._wait_for(self._device, self._on_device)
        if self._doors.agent is not None:
            self._meet(self._doors.agent)
        else:
            self._listen()
            self._notify.ready(_for_people(WAITING))
            self._feed_at = time.monotonic()
        while self._status is None:
            for key, _ in self._selector.select(self._until_next()):
                if key.fd in self._selector.get_map():  # what came before it may have closed it
                    key.data()
                if self._status is not None:
                    return self._status
            self._pass_time(time.monotonic())
        return self._status

    # --- time

    def _until_next(self) -> float:
        check_at = max(self._check_at, self._not_before)
        due = (self._hang_up_at, self._linger_until, check_at, self._feed_at, self._read_at)
        return max(0.0, min(at for at in due if at is not None) - time.monotonic())

    def _pass_time(self, now: float) -> None:
        if self._read_at is not None and now >= self._read_at:
            self._read_again()
        if self._hang_up_at is not None and now >= self._hang_up_at:
            if not self._monitor.ended:
                log.error("the agent did not say goodbye within %.0f s", TERMINATE_WITHIN)
            self._lose_agent()
        if self._linger_until is not None and now >= self._linger_until:
            log.warning("no agent came back within %.0f s: taking everything down", self._doors.linger)
            self._linger_until = None
            self._take_down()
        if now >= max(self._check_at, self._not_before):
            self._check()
        if self._feed_at is not None and now >= self._feed_at:
            self._notify.alive()
            self._feed_at = None if self._notify.interval is None else now + self._notify.interval / 3

    # --- agents

    def _listen(self) -> None:
        assert self._doors.listener is not None  # noqa: S101 - there is no agent without either
        self._wait_for(self._doors.listener, self._on_connection)

    def _on_connection(self) -> None:
        assert self._doors.listener is not None  # noqa: S101 - it was just readable
        try:
            agent, _ = self._doors.listener.accept()
        except OSError:  # it hung up while it waited
            return
        _, uid, _ = _PEERCRED.unpack(agent.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
        if uid != self._doors.agent_uid:
            agent.close()
            if uid not in self._strangers:
                log.warning("uid %d is not the agent's: refused", uid)
                self._strangers.add(uid)
            return
        self._selector.unregister(self._doors.listener)
        self._linger_until = None
        self._meet(agent)

    def _meet(self, agent: socket.socket) -> None:
        agent.setblocking(False)
        take_no_descriptors(agent)
        self._agent = agent
        if self._doors.listener is not None:
            self._notify.status(_for_people("serving the agent"))
        self._monitor = Monitor(self._tunnels)
        self._wait_for(agent, self._on_agent)

    def _on_agent(self) -> None:
        assert self._agent is not None  # noqa: S101 - it was just readable
        # recv, not recvmsg: descriptors an agent sends along are dropped by the kernel. A longer message would be
        # cut to one byte more than is legal, hence told apart. An empty packet looks like EOF and means the same.
        try:
            data = self._agent.recv(MAX_MESSAGE + 1)
        except ConnectionResetError:  # it ended with a reply unread
            data = b""
        if not data:
            if not self._monitor.ended:
                # Alone with the launcher it has said itself why; in between agents somebody should know.
                log.log(logging.INFO if self._doors.listener is None else logging.WARNING, "the agent is gone")
            self._lose_agent()
            return
        began = time.process_time()
        try:
            reply = self._monitor.receive(data)
        except Violation as violation:
            if violation.code is not ViolationCode.VERSION or not self._monitor.is_new or self._doors.listener is None:
                raise
            # An upgraded agent met a helper that has yet to be: no violation. It is told, in our own version's words.
            log.error("an agent of another protocol version came; restart the helper after an upgrade that says so")
            self._send(encode_reply(0, Failed(Op.HELLO, _PROTOCOL_NOT_SUPPORTED)))
            if self._agent is not None:
                self._lose_agent()
            return
        self._send(reply)
        now = time.monotonic()
        rest = self._allowance.rest(time.process_time() - began, now)
        if self._agent is not None:
            self._after_reply()
            if rest and not self._terminating:  # its goodbye is worth more than our rest
                self._selector.unregister(self._agent)
                self._read_at = now + rest

    def _read_again(self) -> None:
        assert self._agent is not None  # noqa: S101 - who is gone is waited for no longer
        self._read_at = None
        self._wait_for(self._agent, self._on_agent)

    def _after_reply(self) -> None:
        """Whoever asks is alive: in the launcher's layout that feeds the watchdog, so it needs both halves."""
        if self._monitor.ended and self._hang_up_at is None:
            self._hang_up_at = time.monotonic() + TERMINATE_WITHIN
        if self._doors.listener is None:
            self._notify.alive()
            if self._monitor.is_configured and not self._is_ready:
                self._notify.ready(_for_people("in the mesh"))
                self._is_ready = True

    def _lose_agent(self) -> None:
        assert self._agent is not None  # noqa: S101 - somebody was there to lose
        if self._read_at is None:
            self._selector.unregister(self._agent)
        self._read_at = None
        self._agent.close()
        self._agent = self._hang_up_at = None
        if self._doors.listener is None or self._terminating:
            self._status = 0 if self._monitor.ended else 1
            return
        self._notify.status(_for_people(WAITING))
        if self._monitor.ended:
            self._status = 1 if self._tunnels.failures else None  # a new start clears what could not be taken down
            self._listen()
        else:
            self._listen()
            if self._tunnels.public_key is not None:
                self._linger_until = time.monotonic() + self._doors.linger

    def _send(self, data: bytes) -> None:
        """Never wait for the agent: who does not read its one reply is none of ours."""
        assert self._agent is not None  # noqa: S101 - every caller has one
        try:
            self._agent.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):  # the latter where it left something unread
            self._lose_agent()
        except BlockingIOError:
            log.error("the agent does not read its replies")
            self._lose_agent()

    # --- everything else

    def _on_signal(self) -> None:
        for event in self._signals.pending():
            if event is Event.TERMINATE:
                self._terminate()
            if self._agent is not None:
                log.info("telling the agent: %s", event.name.lower())
                self._send(encode_event(event))
            if event is Event.RELOAD and not self._terminating:
                self._notify.reloaded()  # what is reloaded is the agent's, and goes on by itself

    def _terminate(self) -> None:
        if self._terminating:
            return
        self._terminating = True
        self._notify.stopping()
        if self._read_at is not None:
            self._read_again()
        if self._agent is None:
            self._status = 0
        elif self._hang_up_at is None:
            self._hang_up_at = time.monotonic() + TERMINATE_WITHIN

    def _on_device(self) -> None:
        if self._doors.listener is None and self._tunnels.public_key is None:  # we have just deleted its link
            self._selector.unregister(self._device)
            return
        if self._device.has_ended():
            log.error("wireguard-go is gone")
            self._status = 1

    def _on_change(self) -> None:
        if self._watch.changed(self._own_port):
            self._check_at = min(self._check_at, time.monotonic() + 0.1)  # changes come in swarms

    def _check(self) -> None:
        """Look at what is there, and put right what is not as it should be."""
        began = time.monotonic()
        try:
            found = self._tunnels.repair()
        except OSError as error:
            log.error("repair: %s", error.strerror)
            found = ["failed"]
        else:
            if found:
                log.warning("repaired: %s", ", ".join(found))
        ended = time.monotonic()
        if found:
            self._pause, self._found_at = min(LONGEST_PAUSE, 2 * self._pause), ended
        elif ended - self._found_at > 2 * LONGEST_PAUSE:  # once clean is not over: who undoes it may be slower than we
            self._pause = FIRST_PAUSE
        self._check_at = ended + CHECK_EVERY
        self._not_before = ended + max(self._pause, LOAD * (ended - began))
        if found:
            self._check_at = self._not_before  # look again whether it holds
            if self._agent is not None and not self._monitor.is_new and not self._monitor.ended:
                self._send(encode_event(Event.REPAIRED))

    def _take_down(self) -> None:
        self._tunnels.take_down()
        for error in self._tunnels.failures:
            log.error("taking down: %s", error.strerror)
        if self._tunnels.failures:
            self._status = 1

    def _wait_for(self, source: Any, act: Callable[[], None]) -> None:
        self._selector.register(source, selectors.EVENT_READ, act)


def _for_people(text: str) -> str:
    """A status line. An installer reads the number before the colon (dist/services.sh): the files that a running helper
    was started from may be gone."""
    return f"generation {GENERATION}: {text}"
