"""Bombs over real sockets of this host: a node on which strangers lean, and which an insider floods, still answers."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import count
from random import Random

from tests.unit.wire.bombs import PACKETS, STREAMS
from wesher.runtime.clock import monotonic
from wesher.runtime.gossip import Gossip, bind
from wesher.swim.config import SwimConfig
from wesher.swim.exchanges import ENTRY, MAX_BUFFERED, MAX_STREAMS, MIN_STREAM
from wesher.swim.io import Endpoint
from wesher.swim.node import Identity, Node
from wesher.wire.codec import encode
from wesher.wire.keyring import Keyring
from wesher.wire.limits import MAX_PUSH_PULL_NODES, SEAL_OVERHEAD
from wesher.wire.messages import Ack, Ping
from wesher.wire.packet import open_packet, seal_packet

LOOPBACK = IPv4Address("127.0.0.1")
RING = Keyring([bytes(32)])
CONFIG = replace(SwimConfig.lan(), stream_timeout=4.0)
LONGEST = MIN_STREAM + ENTRY * CONFIG.max_members
STRANGERS = 200
"""Connections at once: more than the node serves, fewer than this process may have descriptors."""

UDP_ROOM = 65507 - SEAL_OVERHEAD
"""What IPv4 lets a datagram carry."""

_nonces = count(1)


def nonce() -> bytes:
    """Never the same twice."""
    return next(_nonces).to_bytes(12, "big")


class Victim:
    """A node on a free port of the loopback."""

    def __init__(self) -> None:
        udp, tcp = bind(LOOPBACK, 0)
        udp.close()  # the kernel gave the two different ports
        self.at = Endpoint(LOOPBACK, tcp.getsockname()[1])
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        udp.bind((str(LOOPBACK), self.at.port))
        self.node = Node(
            CONFIG,
            RING,
            Identity("a", LOOPBACK.packed, self.at.port),
            meta=b"",
            incarnation=1,
            now=monotonic(),
            seconds_since_2020=200_000_000,
            rng=Random(0),
            nonce=nonce,
        )
        self.gossip = Gossip(self.node, udp, tcp, lambda event: None)

    @property
    def held(self) -> int:
        """Bytes that wait in streams."""
        return sum(exchange.reader.buffered for exchange in self.node._exchanges._by_stream.values())


class Insider:
    """Pings and datagrams from one socket; `slowest` is the longest an ack took, in seconds."""

    def __init__(self, victim: Victim) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.connect((str(victim.at.ip), victim.at.port))
        self.acked = 0
        self.slowest = 0.0

    def send(self, plain: bytes) -> None:
        """A datagram of any plaintext."""
        self._socket.send(RING.seal(plain, b"", nonce()))

    async def ping(self, number: int) -> None:
        """One ping, repeated until it is acked: a full socket buffer loses some."""
        loop, begun = asyncio.get_running_loop(), time.monotonic()
        while True:
            self._socket.send(seal_packet([encode(Ping(number, "a"))], RING, nonce()))
            try:
                async with asyncio.timeout(2):
                    while Ack(number) not in open_packet(await loop.sock_recv(self._socket, 65536), RING).messages:
                        pass
            except TimeoutError:
                continue
            self.acked += 1
            self.slowest = max(self.slowest, time.monotonic() - begun)
            return

    def close(self) -> None:
        """Done."""
        self._socket.close()


async def connected(victim: Victim, data: bytes) -> socket.socket:
    """A connection into which `data` has gone, as far as the node takes it."""
    loop = asyncio.get_running_loop()
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    await loop.sock_connect(connection, (str(victim.at.ip), victim.at.port))
    with suppress(OSError):  # the node may close it
        await loop.sock_sendall(connection, data)
    return connection


async def until(reached: Callable[[], bool]) -> None:
    """Poll; the test's own limit ends what never comes."""
    while not reached():
        await asyncio.sleep(0.01)


def play(scene: Callable[[Victim, Insider], Awaitable[None]]) -> None:
    """A victim, an insider, and nothing raised unseen."""

    async def run() -> None:
        faults: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        victim = Victim()
        insider = Insider(victim)
        await victim.gossip.start()
        try:
            async with asyncio.timeout(60):
                await scene(victim, insider)
        finally:
            victim.gossip.stop()
            insider.close()
        assert faults == []

    asyncio.run(run())


def test_half_open_streams_of_many_strangers_cost_a_bounded_share_and_no_answer():
    """Each announces the longest stream and sends half; pings are answered meanwhile, and time frees everything."""

    async def scene(victim: Victim, insider: Insider) -> None:
        half = b"\x0a" + LONGEST.to_bytes(4, "big") + b"\x01" + bytes(LONGEST // 2)
        descriptors = len(os.listdir("/proc/self/fd"))
        tasks = [asyncio.create_task(connected(victim, half)) for _ in range(STRANGERS)]
        most = 0
        for number in range(100):
            await insider.ping(number)
            most = max(most, victim.held)
            assert len(victim.node._exchanges) <= MAX_STREAMS
        connections = await asyncio.gather(*tasks)
        print(f"{most / 2**20:.0f} MiB held at most; slowest of {insider.acked} acks {insider.slowest * 1000:.0f} ms")
        assert most <= MAX_BUFFERED + 256 * 1024  # what one read may bring before the fullest is closed
        await until(lambda: len(victim.node._exchanges) == 0)
        assert victim.held == 0
        for connection in connections:
            connection.close()
        await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 1)
        closed = victim.node.counters["too many streams"] + victim.node.counters["too much buffered"]
        assert closed >= STRANGERS - MAX_STREAMS

    play(scene)


def test_a_node_answers_between_an_insiders_worst_streams_and_datagrams():
    """Streams that cost the most, as large as they may be, and every bomb of a datagram, time and again."""

    async def scene(victim: Victim, insider: Insider) -> None:
        tasks = []
        for name in ("codes of nine bits", "codes that never pay", "good entries", "a bomb of good news"):
            plain = STREAMS[name](LONGEST)
            header = b"\x0a" + (len(plain) + 29).to_bytes(4, "big")
            tasks.append(asyncio.create_task(connected(victim, header + RING.seal(plain, header, nonce()))))
        for number, plain in enumerate(plain for plain in PACKETS.values() if len(plain) <= UDP_ROOM):
            insider.send(plain)
            await insider.ping(number)
        connections = await asyncio.gather(*tasks)
        await until(lambda: len(victim.node._exchanges) == 0)
        await insider.ping(1000)
        for connection in connections:
            connection.close()
        print(f"slowest of {insider.acked} acks {insider.slowest * 1000:.0f} ms; {dict(victim.node.counters)}")
        assert len(victim.node.members()) <= CONFIG.max_members
        # both exchanges of good entries were read to their end
        assert victim.node.counters["too many members"] >= 2 * (MAX_PUSH_PULL_NODES - CONFIG.max_members)

    play(scene)
