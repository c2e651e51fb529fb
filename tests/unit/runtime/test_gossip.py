"""Real nodes on real sockets of this host: the adapter carries what the virtual network carries in other tests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import count
from random import Random

import pytest

from tests.lab.ci import needs
from wesher.runtime.clock import monotonic
from wesher.runtime.gossip import Gossip, bind
from wesher.swim.config import SwimConfig
from wesher.swim.event import Event, Exchanged, Gone, Joined, LeaveFinished
from wesher.swim.io import Connect, Endpoint
from wesher.swim.node import Identity, Node
from wesher.wire.codec import encode
from wesher.wire.keyring import Keyring
from wesher.wire.messages import Ack, Ping
from wesher.wire.packet import open_packet, seal_packet

LOOPBACK = IPv4Address("127.0.0.1")
RING = Keyring([bytes(32)])
QUICK = replace(
    SwimConfig.lan(),
    probe_interval=0.1,
    probe_timeout=0.05,
    gossip_interval=0.02,
    push_pull_interval=0.5,
    stream_timeout=0.3,
    suspicion_mult=2,
)
"""The LAN profile, ten times as fast."""

_nonces = count(1)


def nonce() -> bytes:
    """One that no other node of these tests uses."""
    return next(_nonces).to_bytes(12, "big")


def bound(address: IPv4Address | IPv6Address = LOOPBACK) -> tuple[socket.socket, socket.socket, int]:
    """UDP and TCP sockets on one free port."""
    for _ in range(50):
        with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET) as probe:
            probe.bind((str(address), 0))
            port = probe.getsockname()[1]
        try:
            return *bind(address, port), port
        except OSError:
            continue  # somebody else has its UDP side
    raise AssertionError("no port is free for both UDP and TCP")


class Place:
    """A node with its adapter and what it has told."""

    def __init__(self, name: str, address: IPv4Address | IPv6Address = LOOPBACK, announced: bytes = b"") -> None:
        udp, tcp, port = bound(address)
        self.events: list[Event] = []
        self.at = Endpoint(LOOPBACK if address.is_unspecified else address, port)
        self.node = Node(
            QUICK,
            RING,
            Identity(name, announced or self.at.ip.packed, port),
            meta=name.encode(),
            incarnation=1,
            now=monotonic(),
            seconds_since_2020=200_000_000,
            rng=Random(name),
            nonce=nonce,
        )
        self.gossip = Gossip(self.node, udp, tcp, self.events.append)

    def join(self, other: Endpoint) -> None:
        """Join somebody."""
        self.node.join([other], monotonic())
        self.gossip.settle()

    def live(self) -> set[str]:
        """Names of the living, as this node sees them."""
        return {member.name for member in self.node.members() if member.is_live}


async def until(reached: Callable[[], bool]) -> None:
    """Poll; the test's own limit ends what never comes."""
    while not reached():
        await asyncio.sleep(0.005)


def play(scene: Callable[..., Awaitable[None]], *names: str, **settings: object) -> None:
    """Run a scene with nodes of these names; afterwards nothing is left running, and nothing was raised unseen."""

    async def run() -> None:
        faults: list[dict] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        places = [Place(name, **settings) for name in names]
        async with asyncio.timeout(20):
            for place in places:
                await place.gossip.start()
            await scene(*places)
            for place in places:
                place.gossip.stop()
            await until(lambda: len(asyncio.all_tasks()) == 1)
        assert faults == []

    asyncio.run(run())


def test_two_nodes_join_each_other_over_loopback():
    """By a real stream; pings and acks then go over UDP, and a leave is heard."""

    async def scene(a: Place, b: Place) -> None:
        b.join(a.at)
        await until(lambda: a.live() == b.live() == {"a", "b"})
        assert [event for event in b.events if isinstance(event, Exchanged)] == [Exchanged(a.at, join=True)]
        assert [event.member.meta for event in a.events if isinstance(event, Joined)] == [b"b"]
        await until(lambda: bool(a.node.round_trips) and bool(b.node.round_trips))
        b.node.leave(monotonic())
        b.gossip.settle()
        await until(lambda: LeaveFinished() in b.events and any(isinstance(event, Gone) for event in a.events))
        assert a.live() == {"a"}

    play(scene, "a", "b")


def test_two_nodes_join_over_dual_stack_sockets():
    """Bound to every address, announced as IPv4 in sixteen bytes: acks come back to where Go nodes expect them."""
    needs(socket.has_dualstack_ipv6(), "IPv6 beside IPv4 on one socket")
    mapped = bytes(10) + b"\xff\xff" + LOOPBACK.packed

    async def scene(a: Place, b: Place) -> None:
        b.join(a.at)
        await until(lambda: bool(a.node.round_trips) and bool(b.node.round_trips))
        assert a.live() == b.live() == {"a", "b"}
        assert {member.addr for member in a.node.members()} == {mapped}

    play(scene, "a", "b", address=IPv4Address(0), announced=mapped)


def test_a_ping_is_answered_from_the_bound_port():
    """Old peers take an ack from nowhere else; garbage before it does no harm."""

    async def scene(a: Place) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.setblocking(False)
            stranger.bind((str(LOOPBACK), 0))
            for data in (b"", b"garbage", seal_packet([encode(Ping(7, "a"))], RING, nonce())):
                stranger.sendto(data, (str(a.at.ip), a.at.port))
            data, source = await asyncio.get_running_loop().sock_recvfrom(stranger, 65536)
        assert source == (str(a.at.ip), a.at.port)
        assert Ack(7) in open_packet(data, RING).messages
        assert a.node.counters["empty"] == 1

    play(scene, "a")


def test_joining_a_closed_port_fails_with_the_systems_word():
    """At once."""

    async def scene(a: Place) -> None:
        udp, tcp, port = bound()
        udp.close()
        tcp.close()
        a.join(Endpoint(LOOPBACK, port))
        await until(lambda: bool(a.events))
        (event,) = a.events
        assert isinstance(event, Exchanged)
        assert "refused" in event.failure.lower() or "connect call failed" in event.failure.lower()

    play(scene, "a")


def test_a_dial_that_is_given_up_is_not_left_to_the_kernel():
    """It would try for two minutes, each time a descriptor; a mesh of dead peers would use them up."""

    async def scene(a: Place) -> None:
        with socket.socket() as full, socket.socket() as first, socket.socket() as second:
            full.bind((str(LOOPBACK), 0))
            full.listen(0)  # room for one; then connections hang, as to a host that is off
            for filler in (first, second):
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            a.join(Endpoint(LOOPBACK, full.getsockname()[1]))
            await until(lambda: bool(a.events))
            assert a.events == [Exchanged(Endpoint(LOOPBACK, full.getsockname()[1]), True, "no answer in time")]
            await until(lambda: not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()])

    play(scene, "a")


def test_a_silent_stranger_is_closed_in_time():
    """The node's deadline reaches the real stream."""

    async def scene(a: Place) -> None:
        reader, writer = await asyncio.open_connection(str(a.at.ip), a.at.port)
        writer.write(b"\x0a\0")
        assert await reader.read() == b""
        writer.close()

    play(scene, "a")


def test_before_the_start_nothing_goes_out():
    """What others hear of is in the state file first; whoever commands something earlier does not hurry that."""

    async def run() -> None:
        a = Place("a")
        a.join(Endpoint(LOOPBACK, 1))
        assert [type(action) for action in a.node.actions()] == [Connect]  # nobody has carried it out
        a.gossip.stop()

    asyncio.run(run())


def test_after_stop_nothing_happens():
    """Streams that were open tell the node nothing, and no timer is left to wake it."""

    async def run() -> None:
        a = Place("a")
        await a.gossip.start()
        _, writer = await asyncio.open_connection(str(a.at.ip), a.at.port)
        writer.write(b"\x0a\0")
        await until(lambda: bool(a.node._exchanges))
        told = []
        a.node.handle_timer = a.node.receive_stream = lambda *what: told.append(what)
        a.gossip.stop()
        a.gossip.settle()  # whoever joins or leaves may not know yet
        due = asyncio.Event()  # a timer that is left would be due before this one
        asyncio.get_running_loop().call_later(max(0.0, a.node.get_timer() - monotonic()) + 0.02, due.set)
        await due.wait()
        assert told == []
        writer.close()

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await run()

    asyncio.run(bounded())


def test_a_bug_in_a_listener_does_not_stop_time():
    """Whatever is raised while telling events: the node is woken again."""

    async def run() -> None:
        faults: list[dict] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        a, b = Place("a"), Place("b")

        def broken(event: Event) -> None:
            a.events.append(event)
            raise RuntimeError("a bug")

        a.gossip._on_event = broken
        async with asyncio.timeout(20):
            for place in (a, b):
                await place.gossip.start()
            b.join(a.at)
            await until(lambda: bool(a.events))
            await until(lambda: bool(a.node.round_trips))
            assert a.live() == {"a", "b"}
        assert faults
        for place in (a, b):
            place.gossip.stop()

    asyncio.run(run())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_udp_and_tcp_share_one_port(address):
    """The IPv4 wildcard takes IPv6 too where there is any."""
    wanted = ip_address(address)
    needs(wanted.version == 4 or socket.has_ipv6, "IPv6")
    udp, tcp, port = bound(wanted)
    try:
        assert udp.getsockname()[1] == tcp.getsockname()[1] == port
        family = socket.AF_INET6 if wanted.version == 6 or address == "0.0.0.0" else socket.AF_INET
        if socket.has_dualstack_ipv6():
            assert udp.family == tcp.family == family
    finally:
        udp.close()
        tcp.close()


def test_a_port_in_use_is_an_error_and_leaves_no_socket():
    """Either half of it: the other is closed again."""
    udp, tcp, port = bound()
    try:
        for kept, given_up in ((udp, tcp), (None, None)):
            with pytest.raises(OSError, match="in use"):
                bind(LOOPBACK, port)
            if given_up is not None:
                given_up.close()
                assert kept is not None
    finally:
        udp.close()
        tcp.close()
    for again in bind(LOOPBACK, port):
        again.close()
