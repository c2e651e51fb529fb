"""A Server on real sockets in a thread of its own, over fakes; an agent that speaks to it; what it told its manager."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from privhelper.notify import Notify
from privhelper.protocol import (
    MAX_MESSAGE,
    Event,
    Hello,
    Peer,
    PinnedPolicy,
    Reply,
    Request,
    SetAddr,
    SetPeers,
    Violation,
    decode_reply,
    encode_request,
)
from privhelper.server import Doors, Server, Signals
from privhelper.userspace import UserspaceDevice
from tests.lab.until import bound, until
from tests.unit.privhelper.over_fakes import Helper

SOON = 5.0
"""Seconds within which whatever is to happen at once has happened."""


class News:
    """A Watch whose news the test makes. While `gate` is clear, who reads them waits."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self.gate = threading.Event()
        self.gate.set()
        self.is_foreign = True

    def fileno(self) -> int:
        """Readable when there are some."""
        return self._reader.fileno()

    def come(self) -> None:
        """Something has changed."""
        self._writer.send(b"!")

    def changed(self, own_port: int) -> bool:
        """Whether it was somebody else's doing."""
        self._reader.recv(4096)
        assert self.gate.wait(bound(SOON))
        return self.is_foreign

    def close(self) -> None:
        """No more."""
        self._reader.close()
        self._writer.close()


class Manager:
    """A service manager's socket."""

    def __init__(self, watchdog_usec: int | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("")  # the kernel chooses an abstract name
        self._socket.setblocking(False)
        self.heard: list[str] = []
        self.for_people: list[str] = []
        self.environment = {"NOTIFY_SOCKET": "@" + self._socket.getsockname()[1:].decode()}
        if watchdog_usec is not None:
            self.environment |= {"WATCHDOG_USEC": str(watchdog_usec), "WATCHDOG_PID": str(os.getpid())}

    def words(self) -> list[str]:
        """All that was said, without the lines for people."""
        with suppress(BlockingIOError):
            while True:
                lines = self._socket.recv(4096).decode().split("\n")
                self.heard.append(lines[0])
                self.for_people += [line for line in lines if line.startswith("STATUS=")]
        return self.heard

    def close(self) -> None:
        """Nobody listens any more."""
        self._socket.close()


class Agent:
    """One end of a connection to the helper."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(bound(SOON))
        self._sequence = 0

    def tell(self, request: Request) -> None:
        """A request whose reply is not waited for."""
        self._sequence += 1
        self.socket.send(encode_request(self._sequence, request))

    def read(self) -> Reply | Event | None:
        """The next message of the helper's; None for its EOF."""
        data = self.socket.recv(MAX_MESSAGE + 1)
        return decode_reply(data)[1] if data else None

    def ask(self, request: Request) -> Reply:
        """A request and its reply, events in between passed over."""
        self.tell(request)
        while isinstance(message := self.read(), Event):
            pass
        assert message is not None, "the helper has hung up"
        return message

    def greet(self) -> PinnedPolicy:
        """HELLO."""
        policy = self.ask(Hello("test"))
        assert isinstance(policy, PinnedPolicy)
        return policy

    def configure(self, *peers: Peer) -> Agent:
        """HELLO, SET_ADDR, SET_PEERS."""
        self.greet()
        self.ask(SetAddr(0))
        self.ask(SetPeers(peers))
        return self

    def has_heard_nothing(self) -> bool:
        """Whether nothing is there to be read, EOF neither."""
        return not select.select([self.socket], [], [], 0)[0]

    def hang_up(self) -> None:
        """EOF."""
        self.socket.close()


class Serving:
    """A server that runs until it ends by itself or the test does. `linger` None is the launcher's layout."""

    def __init__(
        self,
        linger: float | None = None,
        *,
        manager: Manager | None = None,
        agent_uid: int | None = None,
        with_device: bool = False,
    ) -> None:
        self._restore = [
            (number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        ]
        self.helper = Helper()
        self.tunnels = self.helper.tunnels
        self.news = News()
        self._open: list[Any] = [self.news]
        self._notify = Notify(manager.environment if manager is not None else {})
        if self._notify._socket is not None:
            self._open.append(self._notify._socket)
        device: UserspaceDevice | None = None
        if with_device:
            connection, self.wireguard = self._pair(socket.SOCK_STREAM)
            device = UserspaceDevice(connection)
        if linger is None:
            ours, theirs = self._pair(socket.SOCK_SEQPACKET)
            self.agent = Agent(theirs)
            doors = Doors(agent=ours)
        else:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listener.bind("")
            listener.listen(4)
            self.address = listener.getsockname()
            self._open.append(listener)
            uid = os.getuid() if agent_uid is None else agent_uid
            doors = Doors(listener=listener, agent_uid=uid, linger=linger)
        self.server = Server(self.tunnels, doors, self._notify, Signals(), self.news, 7, device)  # type: ignore[arg-type]
        self.status: int | None = None
        self.violation: str | None = None
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _pair(self, kind: int) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair(socket.AF_UNIX, kind)
        self._open += pair
        return pair

    def start(self) -> Serving:
        """Serve from now on."""
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self.status = self.server.run()
        except Violation as violation:
            self.violation = violation.code.value
        except BaseException as failure:  # for the test to see
            self.failure = failure

    def connect(self) -> Agent:
        """Another agent."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._open.append(connection)
        connection.connect(self.address)
        return Agent(connection)

    def kill(self, number: int) -> None:
        """A signal to this process, for which the server waits."""
        os.kill(os.getpid(), number)

    def ended(self) -> int | str:
        """The exit status, or the code of the violation, once it has ended."""
        self._thread.join(bound(SOON))
        assert not self._thread.is_alive(), "it has not ended"
        if self.failure is not None:
            raise self.failure
        ended = self.violation if self.status is None else self.status
        assert ended is not None
        return ended

    def is_running(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def soon(self, condition: Callable[[], object], what: str) -> None:
        """Wait for it."""
        until(condition, SOON, what)

    def close(self) -> None:
        """End it, whatever it does, and put everything back."""
        self.news.gate.set()
        while self._thread.is_alive():
            self.server._status = 0
            self.news.is_foreign = False
            self.news.come()
            self._thread.join(0.05)
        signal.set_wakeup_fd(-1)
        for number, handler in self._restore:
            signal.signal(number, handler)
        self._open += [self.server._signals._receiver, self.server._signals._sender, self.server._selector]
        if self.server._agent is not None:
            self._open.append(self.server._agent)
        for source in self._open:
            source.close()


Start = Callable[..., Serving]
"""As Serving is made; it serves at once, and is closed after the test."""
