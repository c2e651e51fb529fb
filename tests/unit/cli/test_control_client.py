"""The commands' end of the control socket, where whoever serves it is not to be trusted: they may be root's."""

from __future__ import annotations

import os
import re
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from wesher import control_client
from wesher.control_client import NotRunning, Unusable, connect, get

OK = b"HTTP/1.1 200 OK\r\n\r\n"
Answer = Callable[[socket.socket], None]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the socket is."""
    return str(tmp_path / "wgoverlay.sock")


@contextmanager
def listening(path: str, backlog: int) -> Iterator[socket.socket]:
    """A socket that somebody listens on."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(backlog)
        yield listener


@contextmanager
def answering(path: str, answer: Answer) -> Iterator[None]:
    """Somebody who does `answer` to one request."""
    with listening(path, 1) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(BrokenPipeError, ConnectionResetError):
                connection.recv(4096)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join(20)
            assert not thread.is_alive()


def said(head: bytes, body: bytes, times: int = 1) -> Answer:
    """`head`, and `times` over `body`."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(times):
            connection.sendall(body)

    return answer


def is_gone(connection: socket.socket, within: float) -> bool:
    """Whether the other end closes it in this time."""
    return bool(select.select([connection], [], [], within)[0])


def trickled(byte: bytes) -> Answer:
    """`byte` again and again, as long as anybody is there."""

    def answer(connection: socket.socket) -> None:
        while not is_gone(connection, 0.01):
            connection.send(byte)

    return answer


@contextmanager
def full(path: str) -> Iterator[socket.socket]:
    """A socket whose queue is full, and from which nobody accepts."""
    with listening(path, 0) as listener, socket.socket(socket.AF_UNIX) as first:
        first.connect(path)
        with pytest.raises(BlockingIOError):
            connect(path)
        yield listener


# --- time


def test_who_never_accepts_is_not_waited_for(path, monkeypatch):
    """connect() of a unix socket knows no deadline of its own."""
    monkeypatch.setattr(control_client, "_WITHIN", 0.2)
    with full(path), pytest.raises(Unusable, match=r"does not answer in 0.2 s; see the daemon's log, or restart it$"):
        get(path, "/status")


@pytest.mark.parametrize(
    "answer",
    [
        lambda connection: is_gone(connection, 20),
        trickled(b"H"),
        lambda connection: (connection.sendall(OK), trickled(b" ")(connection)),
        trickled(b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["silence", "trickled head", "trickled body", "continued"],
)
def test_one_deadline_holds_for_the_whole_exchange(path, monkeypatch, answer):
    """Not one for each byte: of those there may be any number."""
    monkeypatch.setattr(control_client, "_WITHIN", 0.3)
    with answering(path, answer), pytest.raises(Unusable, match=r"does not answer in 0.3 s"):
        get(path, "/status")


def test_a_place_in_the_queue_is_waited_for(path, monkeypatch):
    """A daemon that is busy for a moment is not unusable."""
    was_full = threading.Event()

    def noted(path: str) -> socket.socket:
        try:
            return connect(path)
        except BlockingIOError:
            was_full.set()
            raise

    monkeypatch.setattr(control_client, "connect", noted)
    with full(path) as listener:

        def serve() -> None:
            was_full.wait(20)
            listener.accept()[0].close()
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(OK + b"{}")

        thread = threading.Thread(target=serve)
        thread.start()
        assert get(path, "/status") == {}
        thread.join(20)
    assert was_full.is_set()


# --- size


def test_an_endless_answer_is_not_read_to_its_end(path, monkeypatch):
    """What it costs us is bounded, whatever it is made of."""
    monkeypatch.setattr(control_client, "_LARGEST", 1 << 20)
    for head in (b"", OK, b"HTTP/1.1 100 Continue\r\n\r\n"):
        with (
            answering(path, said(head, head or b"[" * 50_000, times=1_000_000)),
            pytest.raises(Unusable, match=r"gives no sensible answer: more than 1 MiB$"),
        ):
            get(path, "/status")
        os.unlink(path)


def test_an_answer_of_nothing_but_brackets_is_not_parsed(path):
    """64 MiB of them were 1.7 GB in the memory of who asked."""
    with (
        answering(path, said(OK + b"[", b"[]," * 20_000, times=500)),
        pytest.raises(Unusable, match="gives no sensible answer: more than"),
    ):
        get(path, "/status")


def test_an_answer_nested_deeper_than_sense_is_an_error(path):
    """Not a traceback."""
    with (
        answering(path, said(OK, b"[" * 100_000)),
        pytest.raises(Unusable, match=r"gives no sensible answer: nested too deeply$"),
    ):
        get(path, "/status")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "hangs up without an answer; the daemon ends, or is busy: ask again$"),
        (OK, "no sensible answer: "),
        (b"{}", "no sensible answer: "),
        (b"SSH-2.0\r\n\r\n{}", "no sensible answer: not HTTP$"),
        (b"HTTP/1.1 2000 OK\r\n\r\n{}", "no sensible answer: not HTTP$"),
        (OK + b'{"peers": [', "no sensible answer: "),
        (OK + b'{"a": 1' + b"0" * 5000 + b"}", "no sensible answer: "),
        (OK + '{"a": "ü"}'.encode(), "no sensible answer: "),
        (OK + b"[]", "answers 200 and not what was asked for$"),
        (b"HTTP/1.1 404 No\r\n\r\n{}", "answers 404 and not what was asked for$"),
        (b'HTTP/1.1 503 No\r\n\r\n{"error": 7}', "answers 503 and not what was asked for$"),
        (b'HTTP/1.1 503 No\r\n\r\n{"error": "' + b"no" * 9999 + b'"}', "is not ready: (no){100}$"),
    ],
)
def test_any_other_answer_is_one_short_line(path, answer, reason):
    """And no traceback."""
    with answering(path, said(b"", answer)), pytest.raises(Unusable, match=reason) as caught:
        get(path, "/status")
    assert len(str(caught.value)) < len(path) + 300


# --- what is asked at all


def test_a_link_to_another_socket_is_not_followed(tmp_path, path):
    """The directory is the agent's, and who asks may be root: nobody else's daemon shall hear of it."""
    with listening(str(tmp_path / "roots.sock"), 5) as another:
        os.symlink(tmp_path / "roots.sock", path)
        with pytest.raises(Unusable, match=r"is no socket of wesher's; remove it and restart the daemon$"):
            get(path, "/status")
        another.setblocking(False)
        with pytest.raises(BlockingIOError):
            another.accept()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_socket_is_not_asked(path, make):
    """Nor waited for, as a pipe would make us."""
    make(Path(path))
    with pytest.raises(Unusable, match=r"is no socket of wesher's; remove it and restart the daemon$"):
        get(path, "/status")


def test_what_was_looked_at_is_what_is_asked(tmp_path, path, monkeypatch):
    """Not what takes its name afterwards."""
    looked = os.fstat

    def replaced(fd: int) -> os.stat_result:
        os.rename(tmp_path / "other", path)
        return looked(fd)

    with listening(path, 1) as ours, listening(str(tmp_path / "roots.sock"), 1) as another:
        os.symlink(tmp_path / "roots.sock", tmp_path / "other")
        with monkeypatch.context() as patched:
            patched.setattr(control_client.os, "fstat", replaced)
            connection = connect(path)
        with connection:
            ours.accept()[0].close()
            another.setblocking(False)
            with pytest.raises(BlockingIOError):
                another.accept()


def test_asking_in_vain_leaves_no_descriptor_open(path):
    """`wesher status --watch` asks for days."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(NotRunning):
        get(path, "/status")
    with full(path):
        pass
    with pytest.raises(NotRunning, match=re.escape(path)):
        get(path, "/status")
    os.unlink(path)
    os.mkdir(path)
    with pytest.raises(Unusable):
        get(path, "/status")
    assert len(os.listdir("/proc/self/fd")) == len(before)
