"""Who does not read what a stream brings him costs a few seconds of memory, not for ever."""

import asyncio
import os
import socket
from collections import Counter
from ipaddress import IPv4Address

from wesher.runtime import gossip
from wesher.swim.io import Action, CloseStream, SendStream, StreamAccepted, StreamInput

SIZE = 16_000_000


class Generous:
    """A node that answers whoever connects with more than any buffer holds."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._actions: list[Action] = []

    def actions(self) -> list[Action]:
        """What it wants done."""
        actions, self._actions = self._actions, []
        return actions

    def events(self) -> list[object]:
        """None."""
        return []

    def get_timer(self) -> float:
        """Never."""
        return 1e9

    def receive_stream(self, event: StreamInput, _now: float) -> None:
        """Answer and close."""
        if isinstance(event, StreamAccepted):
            self._actions += [SendStream(event.stream, bytes(SIZE)), CloseStream(event.stream)]


def test_a_closed_stream_that_nobody_reads_is_cut(monkeypatch):
    """Our end is closed, and most of what was for it is gone from our memory."""
    monkeypatch.setattr(gossip, "_LINGER", 0.1)

    async def scene() -> int:
        udp, tcp = gossip.bind(IPv4Address("127.0.0.1"), _free_port())
        driver = gossip.Gossip(Generous(), udp, tcp, on_event=lambda _: None)  # type: ignore[arg-type]
        await driver.start()
        loop, read = asyncio.get_running_loop(), 0
        with socket.socket() as lazy:
            lazy.setblocking(False)
            alone = _open_descriptors()
            await loop.sock_connect(lazy, tcp.getsockname())
            for expected in (alone + 1, alone):  # our end is accepted, and then closed
                while _open_descriptors() != expected:
                    await asyncio.sleep(0)
            while data := await loop.sock_recv(lazy, 1 << 20):
                read += len(data)
        driver.stop()
        return read

    async def bounded() -> int:
        async with asyncio.timeout(20):
            return await scene()

    assert asyncio.run(bounded()) < SIZE


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _free_port() -> int:
    """One that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
