"""The node on real sockets: aioquic's three steps after every input - events, actions, the timer.

One UDP socket sends and receives, since old peers answer to a packet's source. Before a timer fires the socket is
drained: a busy process must not suspect peers whose acks lie unread in the kernel.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

from wesher.runtime.clock import monotonic, seconds_since_2020
from wesher.swim.event import Event
from wesher.swim.io import (
    Action,
    CloseStream,
    Connect,
    Endpoint,
    SendDatagram,
    SendStream,
    StreamAccepted,
    StreamConnected,
    StreamData,
    StreamEnded,
    StreamInput,
    from_wire,
)
from wesher.swim.node import Node
from wesher.wire.limits import MAX_DATAGRAM

_DRAIN: Final = 256
"""Datagrams read in one go; then the loop gets its turn."""

_BACKLOG: Final = 16
"""So many goes before a timer fires, which is more than the kernel keeps for us by default."""

_LINGER: Final = 10.0
"""Seconds a closed stream has to send what is buffered."""

_RECEIVE_BUFFER: Final = 2 * 1024 * 1024
"""SO_RCVBUF as memberlist asks for; the kernel gives what it allows."""


def bind(address: IPv4Address | IPv6Address, port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP and a listening TCP socket on one port; the IPv4 wildcard takes IPv6 too where there is any.

    Raises OSError.
    """
    if address == IPv4Address(0) and socket.has_dualstack_ipv6():
        address = IPv6Address(0)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    tcp = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for opened in (udp, tcp):
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address.is_unspecified else 1)
            opened.bind((str(address), port))
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        tcp.listen(128)
    except OSError:
        udp.close()
        tcp.close()
        raise
    return udp, tcp


class Gossip:
    """Drives `node`; `on_event` is called for each of its events."""

    def __init__(self, node: Node, udp: socket.socket, tcp: socket.socket, on_event: Callable[[Event], None]) -> None:
        self._node = node
        self._udp = udp
        self._tcp = tcp
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._streams: dict[int, asyncio.Transport] = {}
        self._last_accepted = -1
        self._timer: asyncio.TimerHandle | None = None
        self._dials: dict[int, asyncio.Task[None]] = {}
        self._is_running = False
        self.ticked_at = monotonic()
        """When the node's timer last ran: while it lives, several times a second."""

    async def start(self) -> None:
        """Begin to receive, and to send what the node already has to say."""
        self._loop.add_reader(self._udp, self._on_readable)
        self._server = await self._loop.create_server(self._accepted, sock=self._tcp)
        self._is_running = True
        self.settle()

    def stop(self) -> None:
        """Close everything; the node hears of nothing more."""
        self._is_running = False
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._udp)
        self._udp.close()
        if self._server is not None:
            self._server.close()
        else:
            self._tcp.close()
        for task in self._dials.values():
            task.cancel()
        for transport in self._streams.values():
            transport.abort()
        self._streams.clear()

    def unbind(self) -> None:
        """Send datagrams from whatever address this host has, since the bound one is gone; and receive none."""
        self._loop.remove_reader(self._udp)
        family = self._udp.family
        self._udp.close()
        self._udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def settle(self) -> None:
        """What follows every input to the node: act, tell, and wait for the next deadline; nothing before `start`."""
        if not self._is_running:
            return
        try:
            self._act_and_tell()
        finally:  # whatever a bug raises, time must go on: a node without a timer is deaf and looks well
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(max(0.0, self._node.get_timer() - monotonic()), self._on_timer)

    def _act_and_tell(self) -> None:
        actions, events = self._node.actions(), self._node.events()
        while actions or events:
            for action in actions:
                self._act(action)
            for event in events:
                self._on_event(event)
            actions, events = self._node.actions(), self._node.events()

    # --- input

    def _on_timer(self) -> None:
        self.ticked_at = monotonic()
        try:
            self._node.set_calendar(seconds_since_2020(), monotonic())
            for _ in range(_BACKLOG):  # whatever has come while we were away: an ack may lie behind a crowd
                if not self._drain():
                    break
            self._node.handle_timer(monotonic())
        finally:
            self.settle()

    def _on_readable(self) -> None:
        try:
            self._drain()
        finally:
            self.settle()

    def _drain(self) -> bool:
        """Read what is there, up to a number; whether there may be more."""
        for _ in range(_DRAIN):
            try:
                data, source = self._udp.recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                return False
            except OSError:
                # An ICMP error for something sent earlier; nothing to read, and SWIM will notice by itself.
                self._node.counters["receive error"] += 1
                continue
            self._node.receive_datagram(data, _endpoint(source), monotonic())
        return True

    def _accepted(self) -> asyncio.Protocol:
        self._last_accepted += 2
        return _Stream(self, self._last_accepted, accepted=True)

    def stream_input(self, event: StreamInput) -> None:
        """From a stream's protocol."""
        if self._is_running:
            self._node.receive_stream(event, monotonic())
            self.settle()

    def stream_opened(self, stream: int, transport: asyncio.Transport) -> None:
        """From a stream's protocol: from now on it can be written to."""
        self._streams[stream] = transport

    def stream_lost(self, stream: int) -> None:
        """From a stream's protocol."""
        self._streams.pop(stream, None)

    # --- output

    def _act(self, action: Action) -> None:
        match action:
            case SendDatagram(to, data):
                self._send(to, data)
            case Connect(stream, to):
                task = self._dials[stream] = self._loop.create_task(self._dial(stream, to))
                task.add_done_callback(lambda _: self._dials.pop(stream, None))
            case SendStream(stream, data):
                if stream in self._streams:
                    self._streams[stream].write(data)
            case CloseStream(stream):
                transport = self._streams.pop(stream, None)
                if transport is not None:
                    transport.close()
                    # What is still unsent goes out, but not for ever: who does not read must not fill our memory.
                    self._loop.call_later(_LINGER, transport.abort)
                elif stream in self._dials:  # the kernel would try for two minutes, one descriptor each
                    self._dials[stream].cancel()

    def _send(self, to: Endpoint, data: bytes) -> None:
        mapped = self._udp.family == socket.AF_INET6 and to.ip.version == 4
        host = f"::ffff:{to.ip}" if mapped else str(to.ip)
        try:
            self._udp.sendto(data, (host, to.port))
        except OSError:
            self._node.counters["send error"] += 1  # UDP may be lost anyway; a route that is missing looks the same

    async def _dial(self, stream: int, to: Endpoint) -> None:
        try:
            await self._loop.create_connection(lambda: _Stream(self, stream, accepted=False), str(to.ip), to.port)
        except OSError as error:
            self.stream_input(StreamEnded(stream, error.strerror or str(error)))


class _Stream(asyncio.Protocol):
    """One TCP connection, reported to the node under its number."""

    def __init__(self, gossip: Gossip, number: int, *, accepted: bool) -> None:
        self._gossip = gossip
        self._number = number
        self._accepted = accepted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP transports are
        self._gossip.stream_opened(self._number, transport)
        self._gossip.stream_input(StreamAccepted(self._number) if self._accepted else StreamConnected(self._number))

    def data_received(self, data: bytes) -> None:
        self._gossip.stream_input(StreamData(self._number, data))

    def connection_lost(self, exc: Exception | None) -> None:
        self._gossip.stream_lost(self._number)
        self._gossip.stream_input(StreamEnded(self._number, str(exc) if exc else ""))


def _endpoint(source: tuple[Any, ...]) -> Endpoint:
    return from_wire(ip_address(str(source[0]).partition("%")[0]).packed, source[1])
