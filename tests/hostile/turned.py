"""An agent that is somebody else's from its first instruction after lockdown: run in the place of
`wesher.runtime.agent`, started by the real launcher, locked down by the real function.

What it does it is told line by line, in JSON, over one named pipe in its state directory, and answers over another:
opened when nothing is confined yet, so that they are two descriptors more and prove nothing.

    {"attempt": NAME, "worker": BOOL}       try something of `attempts.py`, in the main thread or in the worker
    {"send": HEX}                           to the helper; answers null, or the name of an error
    {"receive": SECONDS}                    from the helper; answers hex ("": EOF), or the name of an error
    {"close": null}                         the connection to the helper
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import traceback
from typing import Any, NoReturn

import attempts

import wesher.runtime.agent

STATE = "/var/lib/wesher"
MAX_MESSAGE = 1 << 20

orders, answers = open(f"{STATE}/orders"), open(f"{STATE}/answers", "w")  # noqa: SIM115 - to the end


def obey(connection: socket.socket, on_event: object) -> NoReturn:
    """In place of the first thing that the agent does after its lockdown: being the helper's client."""
    worker = asyncio.get_running_loop()._default_executor  # type: ignore[attr-defined]
    for line in orders:
        order = json.loads(line)
        answer = worker.submit(do, order, connection).result() if order.get("worker") else do(order, connection)
        print(json.dumps(answer), file=answers, flush=True)
    raise SystemExit(1)


def do(order: dict[str, Any], connection: socket.socket) -> str | None:
    """One order."""
    try:
        if "attempt" in order:
            return attempts.ATTEMPTS[order["attempt"]].make()
        if "send" in order:
            connection.send(bytes.fromhex(order["send"]))
        elif "receive" in order:
            connection.settimeout(order["receive"])
            return connection.recv(MAX_MESSAGE).hex()
        else:
            connection.close()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except BaseException:
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    wesher.runtime.agent.HelperClient = obey  # type: ignore[assignment,misc]
    wesher.runtime.agent.main()
