"""The commands' end of the control socket, where whoever serves it is not to be trusted: they may be root's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from wesher import control_client
from wesher.control_client import Unusable, get


@contextmanager
def babbling(path: str, head: bytes, body: bytes, times: int) -> Iterator[None]:
    """Somebody who answers one request with `head` and `times` over `body`."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, suppress(BrokenPipeError, ConnectionResetError):
                connection.recv(4096)
                connection.sendall(head)
                for _ in range(times):
                    connection.sendall(body)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            thread.join(20)


def test_an_endless_answer_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it costs us is bounded, whatever length it claims."""
    monkeypatch.setattr(control_client, "_LARGEST", 100_000)
    path = str(tmp_path / "wgoverlay.sock")
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    with babbling(path, head, b"[" * 50_000, times=1_000_000), pytest.raises(Unusable, match="no sensible answer"):
        get(path, "/status")


def test_an_answer_nested_deeper_than_sense_is_an_error(tmp_path: Path) -> None:
    """Not a traceback."""
    path = str(tmp_path / "wgoverlay.sock")
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    with babbling(path, head, b"[" * 100_000, times=1), pytest.raises(Unusable, match="no sensible answer"):
        get(path, "/status")
