"""The control socket: HTTP with JSON over a unix socket; `curl --unix-socket` works as well as our own commands.

Who may connect is the file's mode (0660, the agent's group). h11 is the protocol; one connection is one request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import h11

_WITHIN: Final = 5.0
"""Seconds for one request and its answer: nothing here may hold a connection open."""

MAX_CONNECTIONS: Final = 32
"""At once; further ones are closed. The socket's group is trusted, its programs may be broken."""

_QUEUE: Final = 100
"""Connections that wait to be accepted. It cannot be changed after lockdown."""

Handler = Callable[[], Awaitable[object]]


class ControlServer:
    """Serves GET for each path of `routes`, none of which is there while the daemon starts; a handler returns what JSON
    can say."""

    def __init__(self, path: str, routes: Mapping[str, Handler]) -> None:
        self._path = path
        self.routes = dict(routes)
        self._server: asyncio.Server | None = None
        self._open = 0

    def listen(self) -> socket.socket:
        """Make the socket, in place of a dead one of the same name. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        listener.bind(self._path)
        os.chmod(self._path, 0o660)
        listener.listen(_QUEUE)
        return listener

    async def start(self, listener: socket.socket) -> None:
        """Answer from now on."""
        self._server = await asyncio.start_unix_server(self._serve, sock=listener)

    def stop(self) -> None:
        """Take the socket away."""
        if self._server is not None:
            self._server.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MAX_CONNECTIONS:
                async with asyncio.timeout(_WITHIN):
                    await self._exchange(reader, writer)
        except (OSError, TimeoutError, h11.RemoteProtocolError):
            pass  # the other end's fault and loss
        finally:
            await _close(writer)
            self._open -= 1

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=16384)
        request = await _next_request(connection, reader)
        if request is None:
            return
        status, answer = await self._answer(request)
        body = json.dumps(answer).encode("ascii") + b"\n"
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
        data = b"" if request.method == b"HEAD" else body
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=data), h11.EndOfMessage()):
            writer.write(connection.send(event) or b"")
        await writer.drain()

    async def _answer(self, request: h11.Request) -> tuple[int, object]:
        handler = self.routes.get(request.target.decode("ascii", "replace").partition("?")[0])
        if not self.routes:
            return 503, {"error": "wesher is starting, and waits for its helper; ask again"}
        if handler is None:
            return 404, {"error": "no such path"}
        if request.method != b"GET":
            return 405, {"error": "only GET is answered here"}
        return 200, await handler()


async def _close(writer: asyncio.StreamWriter) -> None:
    """Let the answer go out, but not for ever to one who does not read it."""
    writer.close()
    try:
        async with asyncio.timeout(_WITHIN):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()


async def _next_request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(4096))
        elif isinstance(event, h11.Request):
            return event
        else:
            return None
