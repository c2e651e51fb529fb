"""The command line's end of the control socket: one GET or POST, one JSON answer.

Who asks may be root, and who answers an agent that is no longer itself. So the socket is looked at before it is asked,
one deadline holds for the whole exchange, and an answer is bounded in its bytes, then in its values, before it is
parsed. It is asked for as HTTP/1.0: the answer ends where the connection does.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import stat
import time
from collections.abc import Mapping
from typing import Any, Final

from wesher.bounded_json import parse

_WITHIN: Final = 10.0
"""Seconds for all of it."""

_COMMAND_WITHIN: Final = 75.0
"""Seconds until a command has been carried out: the daemon gives it a minute."""

_RETRY: Final = 0.05
"""Seconds until the next attempt at a socket whose queue is full: a unix socket's connect waits for ever or not at
all."""

_LARGEST: Final = 32 << 20
"""Bytes of an answer. 8000 members (--max-peers 4000 and as many that have left) take 5 MiB, and 28 MiB where all have
the longest names, in the longest spelling: who has the cluster key shall not blind `wesher status` with them."""

_LONGEST_REASON: Final = 200
"""Characters that are quoted of what the daemon calls an error."""

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})\b")


class NotRunning(Exception):
    """Nobody serves the socket."""


class Declined(Exception):
    """The daemon has not done what it was told to: why, in one line."""


class Unusable(Exception):
    """Somebody does, but we may not ask, or the answer makes no sense: why, in one line."""


def connect(path: str) -> socket.socket:
    """A connection to the control socket `path`, made at once. Raises OSError; BlockingIOError where its queue is full.

    The directory is the agent's, so `path` may be a link to anybody's socket; root's GET must not reach that. What is
    looked at is what is then connected to, by its descriptor: in between, the name may come to mean another.
    """
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(f"/proc/self/fd/{fd}")
        except OSError:
            connection.close()
            raise
        return connection
    finally:
        os.close(fd)


def get(socket_path: str, path: str) -> dict[str, Any]:
    """The answer to GET `path`. Raises NotRunning, Unusable."""
    status, answer = _ask(socket_path, f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode("ascii"), _WITHIN)
    if status == 503 and (reason := _reason(answer)):
        raise Unusable(f"{socket_path} is not ready: {reason}")
    if status != 200 or not isinstance(answer, dict):
        raise Unusable(f"{socket_path} answers {status} and not what was asked for")
    return answer


def post(socket_path: str, path: str, words: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to the command `path`, once it has been carried out. Raises NotRunning, Unusable, Declined."""
    body = json.dumps(words).encode("ascii")
    head = f"POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode("ascii")
    status, answer = _ask(socket_path, head + body, _COMMAND_WITHIN)
    if status == 409 and (reason := _reason(answer)):
        raise Declined(reason)
    if status in (404, 405):
        raise Unusable(f"the daemon at {socket_path} does not know this command; restart it")
    if status == 503 and (reason := _reason(answer)):
        raise Unusable(f"{socket_path} is not ready: {reason}")
    if status != 200 or not isinstance(answer, dict):
        raise Unusable(f"{socket_path} answers {status} and not what was asked for")
    return answer


def _reason(answer: Any) -> str:
    """What the daemon calls the error, cut to a line's length."""
    said = answer.get("error") if isinstance(answer, dict) else None
    return said[:_LONGEST_REASON] if isinstance(said, str) else ""


def _ask(socket_path: str, request: bytes, within: float) -> tuple[int, Any]:
    """Status and value of the answer. Raises NotRunning, Unusable."""
    try:
        head, _, body = _exchange(socket_path, request, within).partition(b"\r\n\r\n")
        answer, status = parse(body), _status(head)
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning(f"no daemon serves {socket_path}; start one with: wesher") from None
    except PermissionError:
        raise Unusable(f"{socket_path} may not be used by this user; use sudo, or join its group") from None
    except (TimeoutError, BlockingIOError):
        raise Unusable(f"{socket_path} does not answer in {within:g} s; see the daemon's log, or restart it") from None
    except (BrokenPipeError, ConnectionResetError):
        raise Unusable(f"{socket_path} hangs up without an answer; the daemon ends, or is busy: ask again") from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOTSOCK:
            raise Unusable(f"{socket_path} is no socket of wesher's; remove it and restart the daemon") from None
        raise Unusable(f"{socket_path} gives no sensible answer: {error}") from None
    return status, answer


def _exchange(socket_path: str, request: bytes, within: float) -> bytearray:
    """All that comes back. Raises OSError, TimeoutError; ValueError where it is more than an answer."""
    deadline = time.monotonic() + within
    with _connect_by(socket_path, deadline) as connection:
        connection.settimeout(_left(deadline))
        connection.sendall(request)
        answer = bytearray()
        while True:
            connection.settimeout(_left(deadline))
            piece = connection.recv(1 << 16)
            if not piece:
                if not answer:
                    raise ConnectionResetError
                return answer
            answer += piece
            if len(answer) > _LARGEST:
                raise ValueError(f"more than {_LARGEST >> 20} MiB")


def _connect_by(path: str, deadline: float) -> socket.socket:
    while True:
        try:
            return connect(path)
        except BlockingIOError:
            time.sleep(min(_RETRY, _left(deadline)))


def _left(deadline: float) -> float:
    """Seconds, never none: those would mean not to wait at all."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _status(head: bytes | bytearray) -> int:
    match = _STATUS.match(head)
    if match is None:
        raise ValueError("not HTTP")
    return int(match[1])
