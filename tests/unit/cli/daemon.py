"""A control socket that gives prepared answers: the real server, in a thread, behind it nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wesher.runtime.control import ControlServer, Handler


@contextmanager
def serving(directory: Path, answers: Mapping[str, Any]) -> Iterator[None]:
    """`answers` by path, looked up at each request, at <directory>/wgoverlay.sock while the block runs."""
    ready, end = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        server = ControlServer(str(directory / "wgoverlay.sock"), {path: handler(path) for path in answers})
        await server.start(server.listen())
        loops.append(asyncio.get_running_loop())
        ready.set()
        await end.wait()
        server.stop()

    def handler(path: str) -> Handler:
        async def handle() -> object:
            return answers[path]

        return handle

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    try:
        yield
    finally:
        loops[0].call_soon_threadsafe(end.set)
        thread.join(20)
