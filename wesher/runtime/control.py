"""The control socket: HTTP with JSON over a unix socket; `curl --unix-socket` works as well as our own commands.

Who may connect is the file's mode (0660, the agent's group), and whoever may ask may also command. h11 is the
protocol; one connection is one request. A GET tells and changes nothing; a POST is a command, with a JSON object for
its words, and is answered when it has been carried out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import h11

_WITHIN: Final = 5.0
"""Seconds for one request and its answer: nothing here may hold a connection open."""

_COMMAND_WITHIN: Final = 60.0
"""Seconds for a command: leaving tells the mesh for five, and then the helper takes down thousands of peers."""

_LAST_ANSWERS: Final = 0.5
"""Seconds that the end of the daemon waits for the answer to the command that ended it: the helper waits one."""

_LONGEST_WORDS: Final = 4096
"""Bytes of a command's JSON: the longest name, each byte spelt as an escape, is half of that."""

MAX_CONNECTIONS: Final = 32
"""At once; further ones are closed. The socket's group is trusted, its programs may be broken."""

_QUEUE: Final = 100
"""Connections that wait to be accepted. It cannot be changed after lockdown."""

Handler = Callable[[], Awaitable[object]]
Command = Callable[[Mapping[str, Any]], Awaitable[object]]


class Declined(Exception):
    """Why a command has not been carried out, in one line for who gave it."""


class ControlServer:
    """Serves GET for each path of `routes`, and POST for each of `commands`; neither has any while the daemon starts.

    A handler returns what JSON can say; a command is handed its words, and raises Declined.
    """

    def __init__(self, path: str, routes: Mapping[str, Handler], commands: Mapping[str, Command] | None = None) -> None:
        self._path = path
        self.routes = dict(routes)
        self.commands = dict(commands or {})
        self._commanding: set[asyncio.Task[Any]] = set()
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

    async def finish(self) -> None:
        """Wait for the answers to commands that have been carried out to go out, but not for long."""
        if self._commanding:
            await asyncio.wait(self._commanding, timeout=_LAST_ANSWERS)

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
                async with asyncio.timeout(_WITHIN) as deadline:
                    await self._exchange(reader, writer, deadline)
        except (OSError, TimeoutError, h11.RemoteProtocolError):
            pass  # the other end's fault and loss
        finally:
            await _close(writer)
            self._open -= 1

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, deadline: asyncio.Timeout
    ) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=16384)
        request = await _next_request(connection, reader)
        if request is None:
            return
        path = request.target.decode("ascii", "replace").partition("?")[0]
        if request.method == b"POST" and path in self.commands:
            words = await _words(connection, reader)
            deadline.reschedule(asyncio.get_running_loop().time() + _COMMAND_WITHIN)
            status, answer = await self._obey(path, words)
        else:
            status, answer = await self._answer(request, path)
        body = json.dumps(answer).encode("ascii") + b"\n"
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
        data = b"" if request.method == b"HEAD" else body
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=data), h11.EndOfMessage()):
            writer.write(connection.send(event) or b"")
        await writer.drain()

    async def _answer(self, request: h11.Request, path: str) -> tuple[int, object]:
        if not self.routes:
            return 503, {"error": "wesher is starting, and waits for its helper; ask again"}
        if path in self.commands:
            return 405, {"error": "only POST is answered here: it is a command"}
        handler = self.routes.get(path)
        if handler is None:
            return 404, {"error": "no such path"}
        if request.method != b"GET":
            return 405, {"error": "only GET is answered here"}
        return 200, await handler()

    async def _obey(self, path: str, words: Mapping[str, Any] | None) -> tuple[int, object]:
        if words is None:
            return 400, {"error": "a command's words are a short JSON object"}
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._commanding.add(task)
        task.add_done_callback(self._commanding.discard)
        try:
            return 200, await self.commands[path](words)
        except Declined as why:
            return 409, {"error": str(why)}


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


async def _words(connection: h11.Connection, reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The JSON object behind a request, none at all being an empty one; None if it is no such thing, or long."""
    body = bytearray()
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(4096))
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _LONGEST_WORDS:
                return None
        else:
            return None
    try:
        words = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return None
    return words if isinstance(words, dict) else None
