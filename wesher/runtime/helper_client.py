"""The agent's end of the privileged line: one request at a time, its reply, and events that come unasked.

What the helper answers is checked like anything else; what is no reply to what was asked means that the other half is
not ours, and ends the process. EOF on this socket is the helper's death.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from privhelper.protocol import (
    MAX_MESSAGE,
    Event,
    PeerStatus,
    Reply,
    Request,
    Status,
    StatusPart,
    Violation,
    ViolationCode,
    decode_reply,
    encode_request,
)


class HelperGone(Exception):
    """The socket has ended, or what came over it was not the helper's."""


class HelperClient:
    """Requests over `connection`, a SEQPACKET socket; `on_event`, which may be changed, is called for each event."""

    def __init__(self, connection: socket.socket, on_event: Callable[[Event], None]) -> None:
        connection.setblocking(False)
        self._connection = connection
        self.on_event = on_event
        self._turn = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._sequence = 0
        self._waiting: asyncio.Future[Reply] | None = None
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(connection, self._on_readable)

    async def ask(self, request: Request) -> Reply:
        """Send `request` when it is its turn, and wait for the reply. Raises HelperGone."""
        (reply,) = await self.ask_all([request])
        return reply

    async def ask_all(self, requests: list[Request]) -> list[Reply]:
        """Several requests in order, and nobody else's between them, which would break a set sent in parts.

        Whoever is cancelled while waiting takes nothing back: the rest is sent, and the next one's turn comes after.
        """
        exchange = asyncio.ensure_future(self._exchange_all(requests))
        exchange.add_done_callback(_seen)
        return await asyncio.shield(exchange)

    async def _exchange_all(self, requests: list[Request]) -> list[Reply]:
        async with self._turn:
            return [await self._exchange(request) for request in requests]

    async def _exchange(self, request: Request) -> Reply:
        if self.gone.done():
            raise HelperGone(self.gone.result())
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            self._connection.send(encode_request(self._sequence, request))
        except OSError as error:
            self._end(error.strerror or "send failed")
        return await self._waiting

    async def status(self) -> list[PeerStatus]:
        """Every peer's status, all parts of one reading; other requests may come between them, but no other reading."""
        found: list[PeerStatus] = []
        part, more = 0, True
        async with self._reading:
            while more:
                reply = await self.ask(Status(part))
                if not isinstance(reply, StatusPart):
                    return found
                found += reply.peers
                part, more = part + 1, reply.more
        return found

    def close(self) -> None:
        """EOF for the helper: after BYE, the end of a graceful stop."""
        asyncio.get_running_loop().remove_reader(self._connection)
        self._connection.close()

    def _on_readable(self) -> None:
        try:
            data = self._connection.recv(MAX_MESSAGE + 1)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error.strerror or "receive failed")
            return
        if not data:
            self._end("the helper has ended")
            return
        try:
            self._take(*decode_reply(data))
        except Violation as violation:
            self._end(f"the helper broke the protocol: {violation.code.value}")

    def _take(self, sequence: int, reply: Reply | Event) -> None:
        if isinstance(reply, Event):
            self.on_event(reply)
            return
        if self._waiting is None or self._waiting.done() or sequence != self._sequence:
            raise Violation(ViolationCode.SEQUENCE)
        self._waiting.set_result(reply)

    def _end(self, reason: str) -> None:
        asyncio.get_running_loop().remove_reader(self._connection)
        if not self.gone.done():
            self.gone.set_result(reason)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(HelperGone(reason))


def _seen(exchange: asyncio.Future[list[Reply]]) -> None:
    """Its failure is told through `gone` too; nobody may be left who awaits it."""
    if not exchange.cancelled():
        exchange.exception()
