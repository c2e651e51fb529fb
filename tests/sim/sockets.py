"""A process's sockets in virtual time: one UDP and one TCP port on the underlay, and its line to the other half.

They are what `wesher/runtime` is handed in place of the kernel's. When their process is dead, they do nothing.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from tests.sim.loop import VirtualLoop
from tests.sim.network import SocketBuffer
from tests.sim.underlay import Pipe, Underlay
from wesher.swim.io import Endpoint, StreamAccepted, StreamConnected, StreamData, StreamEnded, StreamInput


class Ports:
    """What one process has bound at `at`: a party of the underlay, and the loop's network.

    `look_at` sees every datagram before it is sent.
    """

    def __init__(self, underlay: Underlay, loop: VirtualLoop, at: Endpoint, look_at: Callable[[bytes], None]) -> None:
        self.at = at
        self.streams: dict[int, Pipe | None] = {}
        self.last_accepted = -1
        self.udp = UdpSocket(self)
        self.underlay = underlay
        self.loop = loop
        self.look_at = look_at
        self._last_dialled = 0
        self._factory: Callable[[], asyncio.BaseProtocol] | None = None
        self._backlog: list[StreamInput] = []
        self._transports: dict[int, _Transport] = {}
        self._dials: dict[int, asyncio.Future[None]] = {}
        underlay.settle_at(self)

    def close(self, *, silently: bool) -> None:
        """Unbind; whoever has a stream open hears of it, unless the whole machine is gone."""
        if not silently:
            for number in list(self.streams):
                self.underlay.close_stream(self, number, "reset")
        self.underlay.vacate(self)

    # --- the underlay's side

    def take_datagram(self, data: bytes, source: Endpoint) -> None:
        """It waits in the buffer, as far as that reaches."""
        self.udp.buffer.put(data, source)
        self.loop.wake()

    def take_stream(self, event: StreamInput) -> None:
        """The kernel has it; the process sees it in its next turn."""
        self.loop.call_soon(self._input, event)
        self.loop.wake()

    def _input(self, event: StreamInput) -> None:
        if self._factory is None:  # bound and not served yet: the kernel accepts what comes, and keeps it
            self._backlog.append(event)
            return
        match event:
            case StreamAccepted(number):
                self._open(number, self._factory)
            case StreamConnected(number):
                if (dial := self._dials.get(number)) is not None and not dial.done():
                    dial.set_result(None)
            case StreamData(number, data):
                if (transport := self._transports.get(number)) is not None:
                    transport.protocol.data_received(data)
            case StreamEnded(number, reason):
                if (dial := self._dials.get(number)) is not None and not dial.done():
                    dial.set_exception(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"))
                elif (transport := self._transports.pop(number, None)) is not None:
                    transport.lose(ConnectionResetError(errno.ECONNRESET, reason) if reason else None)

    def _open(self, number: int, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        protocol = factory()
        assert isinstance(protocol, asyncio.Protocol)
        self._transports[number] = transport = _Transport(self, number, protocol)
        protocol.connection_made(transport)

    # --- the process's side

    def serve(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """Accepted streams are the factory's."""
        self._factory = factory
        for event in self._backlog:
            self.loop.call_soon(self._input, event)
        self._backlog.clear()

    async def connect(self, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int) -> None:
        """Open a stream. Raises OSError."""
        self._last_dialled += 2
        number = self._last_dialled
        dial = self._dials[number] = self.loop.create_future()
        self.underlay.dial(self, number, Endpoint(address(host), port))
        try:
            await dial
        finally:
            del self._dials[number]
            if dial.cancelled():
                self.hang_up(number)
        if not self.loop.is_dead and number in self.streams:
            self._open(number, factory)

    def write(self, number: int, data: bytes) -> None:
        """Send on a stream."""
        if not self.loop.is_dead:
            self.underlay.send_stream(self, number, data)

    def hang_up(self, number: int) -> None:
        """Close a stream."""
        if not self.loop.is_dead:
            self._transports.pop(number, None)
            if self.streams.get(number) is None:
                self.streams.pop(number, None)  # while it was dialled
            else:
                self.underlay.close_stream(self, number)


class UdpSocket:
    """A bound UDP socket with the kernel's buffer behind it."""

    family = socket.AF_INET

    def __init__(self, ports: Ports) -> None:
        self.buffer = SocketBuffer()
        self._ports = ports

    @property
    def is_readable(self) -> bool:
        """Whether a datagram waits."""
        return len(self.buffer) > 0

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        """The first that waits."""
        if not self.buffer:
            raise BlockingIOError
        data, source = self.buffer.take()
        self._ports.loop.lag += self._ports.loop.effort
        return data, (_text(source.ip), source.port)

    def sendto(self, data: bytes, to: tuple[str, int]) -> None:
        """Onto the underlay."""
        ports = self._ports
        if not ports.loop.is_dead:
            ports.look_at(data)
            ports.underlay.send_datagram(ports.at, Endpoint(address(to[0]), to[1]), data, delay=ports.loop.lag)

    def close(self) -> None:
        """Its process ends, or is about to."""


class _Transport(asyncio.Transport):
    """One stream of a process."""

    def __init__(self, ports: Ports, number: int, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self._ports = ports
        self._number = number
        self._is_lost = False

    def write(self, data: Any) -> None:
        """Send."""
        self._ports.write(self._number, bytes(data))

    def close(self) -> None:
        """Send what is there, and close."""
        if not self._is_lost:
            self._ports.hang_up(self._number)
            self.lose(None)

    def abort(self) -> None:
        """Close at once."""
        self.close()

    def lose(self, error: Exception | None) -> None:
        """It is over; the protocol hears of it in the next turn."""
        self._is_lost = True
        self._ports.loop.call_soon(self.protocol.connection_lost, error)


class LineEnd:
    """The agent's end of the line to its helper: whole messages, in order.

    `send_on` takes what the agent sends, `hung_up` is called when it closes.
    """

    def __init__(self, loop: VirtualLoop, send_on: Callable[[bytes], None], hung_up: Callable[[], None]) -> None:
        self._loop = loop
        self._send_on = send_on
        self._hung_up = hung_up
        self._waiting: deque[bytes] = deque()
        self._is_open = True
        self._has_ended = False

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""

    @property
    def is_readable(self) -> bool:
        """Whether a message, or the end, waits."""
        return bool(self._waiting) or self._has_ended

    def send(self, data: bytes) -> int:
        """To the helper."""
        if self._has_ended:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        if not self._loop.is_dead:
            self._send_on(data)
        return len(data)

    def recv(self, size: int) -> bytes:
        """The next message; empty at the end."""
        if self._waiting:
            return self._waiting.popleft()
        if self._has_ended:
            return b""
        raise BlockingIOError

    def close(self) -> None:
        """The agent hangs up."""
        if self._is_open and not self._loop.is_dead:
            self._is_open = False
            self._hung_up()

    # --- the helper's side

    def bring(self, data: bytes) -> None:
        """From the helper."""
        self._waiting.append(data)
        self._loop.wake()

    def end(self) -> None:
        """The helper is gone."""
        self._has_ended = True
        self._loop.wake()


@lru_cache(maxsize=1024)
def address(text: str) -> IPv4Address | IPv6Address:
    """As the kernel reads it."""
    return ip_address(text)


@lru_cache(maxsize=1024)
def _text(ip: IPv4Address | IPv6Address) -> str:
    return str(ip)
