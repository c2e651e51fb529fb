"""The command line's end of the control socket: one GET, one JSON answer."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, Final

_WITHIN: Final = 10.0
_LARGEST: Final = 1 << 26
"""Bytes of an answer that are read: many times what a whole mesh takes. An agent that is no longer itself could go on
for ever, and who asks may be root."""


class NotRunning(Exception):
    """Nobody serves the socket."""


class Unusable(Exception):
    """Somebody does, but we may not ask, or the answer makes no sense: why, in one line."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_WITHIN)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_WITHIN)
        self.sock.connect(self._path)


def get(socket_path: str, path: str) -> dict[str, Any]:
    """The answer to GET `path`. Raises NotRunning, Unusable."""
    connection = _UnixConnection(socket_path)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        answer = json.loads(response.read(_LARGEST))
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning(f"no daemon serves {socket_path}; start one with: wesher") from None
    except PermissionError:
        raise Unusable(f"{socket_path} may not be used by this user; use sudo, or join its group") from None
    except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
        raise Unusable(f"{socket_path} gives no sensible answer: {error}") from None
    finally:
        connection.close()
    if response.status == 503 and isinstance(answer, dict) and isinstance(answer.get("error"), str):
        raise Unusable(f"{socket_path} is not ready: {answer['error']}")
    if response.status != 200 or not isinstance(answer, dict):
        raise Unusable(f"{socket_path} answers {response.status} and not what was asked for")
    return answer
