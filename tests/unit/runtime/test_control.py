"""The control socket: one GET or POST, one JSON answer; nothing a client does holds it up or brings it down."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from wesher import control_client
from wesher.control_client import NotRunning, Unusable, get, post
from wesher.runtime import control
from wesher.runtime.control import Command, ControlServer, Declined

ANSWER = {"name": "node-\udcff\n", "size": 3}


async def _status() -> object:
    return ANSWER


def serve(
    directory: Path,
    scene: Callable[[str], Awaitable[None]],
    commands: Mapping[str, Command] | None = None,
    **routes: Callable[[], Awaitable[object]],
) -> None:
    """Run a scene against a server at the path it is given. Whatever goes wrong inside the server fails the test."""

    async def run() -> None:
        path = str(directory / "wgoverlay.sock")
        server = ControlServer(
            path, {"/status": _status} | {f"/{name}": route for name, route in routes.items()}, commands
        )
        faults: list[dict] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        await server.start(server.listen())
        async with asyncio.timeout(20):
            await scene(path)
        server.stop()
        assert not os.path.lexists(path)
        assert faults == []

    asyncio.run(run())


async def answer(path: str, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of what comes back, until the server closes."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    data = await reader.read()
    writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


def request(method: str = "GET", path: str = "/status", more: str = "") -> bytes:
    """An HTTP request."""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


@pytest.mark.parametrize("path", ["/status", "/status?watch=1"])
def test_a_get_is_answered_in_json(tmp_path, path):
    """ASCII whatever the names hold, with its length, and the connection is closed."""

    async def scene(at: str) -> None:
        head, body = await answer(at, request(path=path))
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"content-type: application/json" in head.lower()
        assert f"content-length: {len(body)}".encode() in head.lower()
        assert json.loads(body.decode("ascii")) == ANSWER

    serve(tmp_path, scene)


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (request(path="/nothing"), b"404", {"error": "no such path"}),
        (request(path="/"), b"404", {"error": "no such path"}),
        (request(path="//status"), b"404", {"error": "no such path"}),
        (request("POST"), b"405", {"error": "only GET is answered here"}),
        (request("POST", more="Content-Length: 3\r\n") + b"abc", b"405", {"error": "only GET is answered here"}),
        (request("DELETE"), b"405", {"error": "only GET is answered here"}),
    ],
)
def test_anything_else_is_refused_in_json(tmp_path, sent, status, said):
    """With the status that says what was wrong."""

    async def scene(at: str) -> None:
        head, body = await answer(at, sent)
        assert head.split()[1] == status
        assert json.loads(body) == said

    serve(tmp_path, scene)


def test_a_head_request_is_answered_without_a_body(tmp_path):
    """`curl -I`."""

    async def scene(at: str) -> None:
        head, body = await answer(at, request("HEAD"))
        assert (head.split()[1], body) == (b"405", b"")

    serve(tmp_path, scene)


@pytest.mark.parametrize(
    "sent",
    [
        b"\0\1\2\3\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /status HTTP/1.1\r\n\r\n",  # no host
        request(more="X: " + "x" * 40000 + "\r\n"),
        b"GET /" + b"x" * 40000,
        request(more="Content-Length: x\r\n"),
    ],
)
def test_garbage_is_closed_without_an_answer(tmp_path, sent):
    """And the next client is served."""

    async def scene(at: str) -> None:
        with suppress(ConnectionResetError):  # closed with some of it unread, which is how a unix socket says so
            assert await answer(at, sent) == (b"", b"")
        head, _ = await answer(at, request())
        assert head.startswith(b"HTTP/1.1 200 ")

    serve(tmp_path, scene)


@pytest.mark.parametrize("sent", [b"", b"GET /sta", b"GET /status HTTP/1.1\r\nHost: x\r\n"])
def test_half_a_request_does_not_hold_the_connection(tmp_path, sent, monkeypatch):
    """Its time is bounded: five seconds, and here less."""
    monkeypatch.setattr(control, "_WITHIN", 0.05)

    async def scene(at: str) -> None:
        assert await answer(at, sent) == (b"", b"")

    serve(tmp_path, scene)


@pytest.mark.parametrize("sent", [b"", b"GET /sta"])
def test_a_client_that_goes_away_leaves_nothing_behind(tmp_path, sent):
    """At any point: the server waits for nobody."""

    async def scene(at: str) -> None:
        for _ in range(control.MAX_CONNECTIONS + 5):
            _, writer = await asyncio.open_unix_connection(at)
            writer.write(sent)
            writer.close()
            await writer.wait_closed()
        head, _ = await answer(at, request())
        assert head.startswith(b"HTTP/1.1 200 ")

    serve(tmp_path, scene)


def test_a_slow_handler_is_given_up(tmp_path, monkeypatch):
    """Its client gets no answer rather than waiting for ever."""
    monkeypatch.setattr(control, "_WITHIN", 0.05)

    async def slow() -> object:
        await asyncio.Event().wait()
        return {}

    async def scene(at: str) -> None:
        assert await answer(at, request(path="/slow")) == (b"", b"")

    serve(tmp_path, scene, slow=slow)


def test_connections_are_bounded(tmp_path):
    """The one too many is closed at once; when one ends there is room again."""

    async def scene(at: str) -> None:
        idle = [await asyncio.open_unix_connection(at) for _ in range(control.MAX_CONNECTIONS)]
        with suppress(ConnectionError):  # closed with the request unread
            assert await answer(at, request()) == (b"", b"")
        idle[0][1].close()
        head = b""
        while not head:  # until the server has seen that
            with suppress(ConnectionError):
                head, _ = await answer(at, request())
        assert head.startswith(b"HTTP/1.1 200 ")
        for _, writer in idle:
            writer.close()

    serve(tmp_path, scene)


def test_the_socket_is_for_its_owner_and_group(tmp_path):
    """Its mode is who may know the cluster key; whatever was there before is replaced."""
    path = tmp_path / "wgoverlay.sock"
    path.write_text("stale")

    async def scene(at: str) -> None:
        info = os.lstat(at)
        assert stat.S_ISSOCK(info.st_mode)
        assert stat.S_IMODE(info.st_mode) == 0o660

    serve(tmp_path, scene)


# --- the commands' end of it


def test_the_client_gets_what_the_handler_returned(tmp_path):
    """Through the real socket, both ends ours."""

    async def scene(at: str) -> None:
        assert await asyncio.to_thread(get, at, "/status") == ANSWER

    serve(tmp_path, scene)


def test_the_client_says_what_was_refused(tmp_path):
    """By its status: the server's own words are the agent's, which may no longer be itself."""

    async def scene(at: str) -> None:
        with pytest.raises(Unusable, match=r"answers 404 and not what was asked for$"):
            await asyncio.to_thread(get, at, "/nothing")

    serve(tmp_path, scene)


def test_no_socket_and_a_dead_socket_mean_that_no_daemon_runs(tmp_path):
    """A daemon that was killed leaves its socket behind."""
    path = str(tmp_path / "wgoverlay.sock")
    with pytest.raises(NotRunning, match=r"no daemon serves .*; start one with: wesher"):
        get(path, "/status")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with pytest.raises(NotRunning):
        get(path, "/status")


@pytest.mark.parametrize("said", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope"])
def test_an_answer_that_makes_no_sense_is_an_error(tmp_path, said):
    """Whoever serves the socket."""

    async def run() -> None:
        async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            writer.close()

        path = str(tmp_path / "wgoverlay.sock")
        server = await asyncio.start_unix_server(babble, path)
        async with asyncio.timeout(20):
            with pytest.raises(Unusable, match=r"gives no sensible answer|hangs up without an answer"):
                await asyncio.to_thread(get, path, "/status")
        server.close()

    asyncio.run(run())


def test_an_answer_that_is_not_read_does_not_hold_its_place(tmp_path, monkeypatch):
    """The one place there is is free again, though the first client is still connected and has read nothing."""
    monkeypatch.setattr(control, "_WITHIN", 0.1)
    monkeypatch.setattr(control, "MAX_CONNECTIONS", 1)

    async def large() -> object:
        return "x" * 4_000_000

    async def scene(at: str) -> None:
        with socket.socket(socket.AF_UNIX) as lazy:
            lazy.connect(at)
            lazy.sendall(request(path="/large"))
            head = b""
            while not head.startswith(b"HTTP/1.1 200 "):
                with suppress(ConnectionError):
                    head, _ = await answer(at, request())

    serve(tmp_path, scene, large=large)


def test_a_daemon_that_still_starts_says_so(tmp_path):
    """It may wait for its helper's turn: whoever asks need not wait with it."""

    async def run() -> None:
        path = str(tmp_path / "wgoverlay.sock")
        server = ControlServer(path, {})
        await server.start(server.listen())
        with pytest.raises(Unusable, match="is not ready: wesher is starting"):
            await asyncio.to_thread(get, path, "/status")
        server.routes["/status"] = _status
        assert await asyncio.to_thread(get, path, "/status") == ANSWER
        server.stop()

    asyncio.run(run())


# --- commands


class Orders:
    """A command that notes its words, and can decline."""

    def __init__(self, why: str = "") -> None:
        self.given: list[Mapping[str, Any]] = []
        self._why = why

    async def __call__(self, words: Mapping[str, Any]) -> object:
        self.given.append(words)
        if self._why:
            raise Declined(self._why)
        return {"done": True}


def order(body: bytes, method: str = "POST", path: str = "/order") -> bytes:
    """A request with a body."""
    return request(method, path, f"Content-Length: {len(body)}\r\n") + body


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_only_a_post_commands(tmp_path, method):
    """A GET changes nothing, whoever fetches whatever address."""
    orders = Orders()

    async def scene(at: str) -> None:
        head, body = await answer(at, request(method, "/order"))
        assert head.split()[1] == b"405"
        assert method == "HEAD" or json.loads(body) == {"error": "only POST is answered here: it is a command"}

    serve(tmp_path, scene, {"/order": orders})
    assert orders.given == []


def test_a_command_is_answered_when_it_is_carried_out(tmp_path):
    """With its words, any bytes of a name among them; without a body it has none."""
    orders = Orders()

    async def scene(at: str) -> None:
        assert await asyncio.to_thread(post, at, "/order", {"name": "x\udcff"}) == {"done": True}
        head, body = await answer(at, request("POST", "/order"))
        assert (head.split()[1], json.loads(body)) == (b"200", {"done": True})

    serve(tmp_path, scene, {"/order": orders})
    assert orders.given == [{"name": "x\udcff"}, {}]


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b"nan", b"\xff", b"[" * 4000, b'{"name": "' + b"x" * 4096 + b'"}', b"{}" * 5000]
)
def test_words_that_are_none_command_nothing(tmp_path, body):
    """And who sends them is told so, in bounded memory."""
    orders = Orders()

    async def scene(at: str) -> None:
        with suppress(ConnectionResetError):  # answered and closed with some of it unread
            head, said = await answer(at, order(body))
            assert (head.split()[1], json.loads(said)["error"]) == (b"400", "a command's words are a short JSON object")

    serve(tmp_path, scene, {"/order": orders})
    assert orders.given == []


@pytest.mark.parametrize("sent", [order(b"")[:-4], order(b"{}")[:-1], order(b"{}", "/order")[:9]])
def test_half_a_command_is_none(tmp_path, sent):
    """Whoever goes away in the middle of one has not given it."""
    orders = Orders()

    async def scene(at: str) -> None:
        _, writer = await asyncio.open_unix_connection(at)
        writer.write(sent)
        writer.close()
        await writer.wait_closed()
        head, _ = await answer(at, request())
        assert head.startswith(b"HTTP/1.1 200 ")

    serve(tmp_path, scene, {"/order": orders})
    assert orders.given == []


def test_a_command_that_is_declined_says_why(tmp_path):
    """To the client in its own exception."""

    async def scene(at: str) -> None:
        with pytest.raises(control_client.Declined, match=r"^not today$"):
            await asyncio.to_thread(post, at, "/order", {})

    serve(tmp_path, scene, {"/order": Orders("not today")})


def test_a_command_may_take_longer_than_a_question(tmp_path, monkeypatch):
    """Leaving takes seconds; a question that does is given up."""
    monkeypatch.setattr(control, "_WITHIN", 1.0)
    let_go = asyncio.Event()

    async def slow(_: Mapping[str, Any]) -> object:
        await let_go.wait()
        return {"done": True}

    async def never() -> object:
        await asyncio.Event().wait()
        return {}

    async def scene(at: str) -> None:
        commanded = asyncio.create_task(answer(at, request("POST", "/order")))
        assert await answer(at, request(path="/never")) == (b"", b"")  # by then its time would be up
        let_go.set()
        assert (await commanded)[0].startswith(b"HTTP/1.1 200 ")

    serve(tmp_path, scene, {"/order": slow}, never=never)


def test_the_end_waits_for_the_answer_to_the_command_that_brought_it(tmp_path):
    """The process exits right after: what is not written by then is never read."""

    async def run() -> None:
        path = str(tmp_path / "wgoverlay.sock")
        ended = asyncio.Event()

        async def end(_: Mapping[str, Any]) -> object:
            ended.set()
            await asyncio.sleep(0)
            return {"done": True}

        server = ControlServer(path, {"/status": _status}, {"/end": end})
        await server.start(server.listen())
        asked = asyncio.create_task(answer(path, request("POST", "/end")))
        await ended.wait()
        assert not asked.done()
        await server.finish()
        server.stop()
        assert (await asked)[0].startswith(b"HTTP/1.1 200 ")
        assert server._commanding == set()

    asyncio.run(run())


@pytest.mark.parametrize(("path", "said"), [("/nothing", "does not know this command"), ("/status", "does not know")])
def test_a_daemon_that_does_not_know_a_command_is_too_old(tmp_path, path, said):
    """Or too new: it was started from another version."""

    async def scene(at: str) -> None:
        with pytest.raises(Unusable, match=said):
            await asyncio.to_thread(post, at, path, {})

    serve(tmp_path, scene)
