"""A control socket that gives prepared answers: the real server, in a thread, behind it nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wesher.runtime.control import Command, ControlServer, Declined, Handler


@contextmanager
def serving(
    directory: Path,
    answers: Mapping[str, Any],
    commands: Mapping[str, Callable[[Mapping[str, Any]], str]] | None = None,
    results: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """`answers` by path, looked up at each request, at <directory>/wgoverlay.sock while the block runs.

    Each of `commands` is handed its words and says why it declines, "" where it does not; then its answer is that in
    `results`.
    """
    ready, end = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        routes = {path: handler(path) for path in answers}
        orders = {path: command(path, decide) for path, decide in (commands or {}).items()}
        server = ControlServer(str(directory / "wgoverlay.sock"), routes, orders)
        await server.start(server.listen())
        loops.append(asyncio.get_running_loop())
        ready.set()
        await end.wait()
        server.stop()

    def handler(path: str) -> Handler:
        async def handle() -> object:
            return answers[path]

        return handle

    def command(path: str, decide: Callable[[Mapping[str, Any]], str]) -> Command:
        async def obey(words: Mapping[str, Any]) -> object:
            if why := decide(words):
                raise Declined(why)
            return (results or {}).get(path, {})

        return obey

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    try:
        yield
    finally:
        loops[0].call_soon_threadsafe(end.set)
        thread.join(20)
