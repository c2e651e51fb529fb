"""The agent's end of the privileged line, against a scripted helper."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address

import pytest

from privhelper.protocol import (
    MAX_MESSAGE,
    Bye,
    Event,
    Farewell,
    Hello,
    HostsResult,
    HostsWritten,
    OwnAddress,
    Peer,
    PeerStatus,
    Reply,
    Request,
    SetAddr,
    SetPeers,
    Staged,
    Status,
    StatusPart,
    Verdicts,
    WriteHosts,
    decode_request,
    encode_event,
    encode_reply,
)
from wesher.runtime.helper_client import HelperClient, HelperGone

ADDRESS = OwnAddress(IPv4Address("10.1.2.3"))
SILENCE = 20
"""Turns of the event loop in which nothing must happen: everything that is ready happens in two or three."""


class Helper:
    """The other end: reads requests, says what it is told to."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection

    async def hear(self) -> tuple[int, Request]:
        """The next request."""
        data = await asyncio.get_running_loop().sock_recv(self.connection, MAX_MESSAGE + 1)
        assert data, "the client has closed"
        return decode_request(data)

    def say(self, sequence: int, reply: Reply) -> None:
        """Reply."""
        self.connection.send(encode_reply(sequence, reply))

    async def heard_nothing(self) -> None:
        """No request comes, as long as one waits."""
        for _ in range(SILENCE):
            await asyncio.sleep(0)
        with pytest.raises(BlockingIOError):
            self.connection.recv(1)


def play(scene: Callable[[HelperClient, Helper, list[Event]], Awaitable[None]]) -> None:
    """Run a scene between a client and a helper."""

    async def run() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        events: list[Event] = []
        client = HelperClient(ours, events.append)
        with theirs:
            async with asyncio.timeout(10):
                await scene(client, Helper(theirs), events)
        client.close()

    asyncio.run(run())


def test_a_request_is_answered_by_its_reply():
    """Numbers count from 1."""

    async def scene(client: HelperClient, helper: Helper, _: list[Event]) -> None:
        for number in (1, 2, 3):
            asked = asyncio.create_task(client.ask(SetAddr(number)))
            assert await helper.hear() == (number, SetAddr(number))
            helper.say(number, ADDRESS)
            assert await asked == ADDRESS

    play(scene)


def test_at_most_one_request_is_outstanding():
    """The second waits for the first one's reply; both get their own."""

    async def scene(client: HelperClient, helper: Helper, _: list[Event]) -> None:
        first = asyncio.create_task(client.ask(SetAddr(1)))
        second = asyncio.create_task(client.ask(Status(0)))
        assert await helper.hear() == (1, SetAddr(1))
        await helper.heard_nothing()
        helper.say(1, ADDRESS)
        assert await helper.hear() == (2, Status(0))
        helper.say(2, StatusPart((), more=False))
        assert (await first, await second) == (ADDRESS, StatusPart((), more=False))

    play(scene)


def test_nothing_comes_between_the_parts_of_one_set():
    """A status that is asked for meanwhile waits: anything else between parts is a violation, and ends the helper."""

    async def scene(client: HelperClient, helper: Helper, _: list[Event]) -> None:
        peer = Peer(b"\x01" * 32, IPv4Address("192.0.2.1"), IPv4Address("10.0.0.1"), "node-b")
        parts = [SetPeers((peer,), more=True), SetPeers(()), WriteHosts()]
        applied = asyncio.create_task(client.ask_all(list(parts)))
        assert await helper.hear() == (1, parts[0])
        status = asyncio.create_task(client.ask(Status(0)))
        await helper.heard_nothing()
        replies: list[Reply] = [Staged(), Verdicts(((0, 0),)), HostsWritten(HostsResult.WRITTEN)]
        for number, reply in enumerate(replies, 1):
            helper.say(number, reply)
            expected = [*parts, Status(0)][number]
            assert await helper.hear() == (number + 1, expected)
        helper.say(4, StatusPart((), more=False))
        assert await applied == replies
        assert await status == StatusPart((), more=False)

    play(scene)


def test_who_is_cancelled_takes_nothing_back():
    """The set goes on to its end, then it is the farewell's turn: a graceful stop stays graceful."""

    async def scene(client: HelperClient, helper: Helper, _: list[Event]) -> None:
        applied = asyncio.create_task(client.ask_all([SetPeers((), more=False), WriteHosts()]))
        await helper.hear()
        applied.cancel()
        with pytest.raises(asyncio.CancelledError):
            await applied
        farewell = asyncio.create_task(client.ask(Bye()))
        await helper.heard_nothing()
        helper.say(1, Verdicts(()))
        assert await helper.hear() == (2, WriteHosts())
        helper.say(2, HostsWritten(HostsResult.WRITTEN))
        assert await helper.hear() == (3, Bye())
        helper.say(3, Farewell())
        assert await farewell == Farewell()
        assert not client.gone.done()

    play(scene)


def test_events_come_at_any_time():
    """Before, between and after request and reply; each is told once, in order."""

    async def scene(client: HelperClient, helper: Helper, events: list[Event]) -> None:
        helper.connection.send(encode_event(Event.REPAIRED))
        asked = asyncio.create_task(client.ask(SetAddr(1)))
        await helper.hear()
        helper.connection.send(encode_event(Event.RELOAD))
        helper.say(1, ADDRESS)
        helper.connection.send(encode_event(Event.TERMINATE))
        assert await asked == ADDRESS
        while len(events) < 3:
            await asyncio.sleep(0)
        assert events == [Event.REPAIRED, Event.RELOAD, Event.TERMINATE]

    play(scene)


def test_events_go_to_whoever_is_set():
    """The listener may be changed once there is somebody to listen."""

    async def scene(client: HelperClient, helper: Helper, events: list[Event]) -> None:
        later: list[Event] = []
        client.on_event = later.append
        helper.connection.send(encode_event(Event.TERMINATE))
        while not later:
            await asyncio.sleep(0)
        assert (events, later) == ([], [Event.TERMINATE])

    play(scene)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"garbage", "length"),
        (b"\xff" * 10, "version"),
        (encode_reply(1, ADDRESS)[:-1], "length"),
        (encode_reply(2, ADDRESS), "sequence"),  # of another request
        (encode_reply(0, ADDRESS), "sequence"),
        (encode_event(Event.RELOAD)[:-1] + b"\x63", "operation"),  # an event that does not exist
        (bytes(MAX_MESSAGE + 1), "length"),
    ],
)
def test_what_is_no_reply_ends_it(sent, reason):
    """The other half is not ours: who waits is told, and so is who asks later."""

    async def scene(client: HelperClient, helper: Helper, _: list[Event]) -> None:
        asked = asyncio.create_task(client.ask(SetAddr(1)))
        await helper.hear()
        helper.connection.send(sent)
        for waiting in (asked, client.ask(Status(0))):
            with pytest.raises(HelperGone, match=f"^the helper broke the protocol: {reason}$"):
                await waiting
        assert await client.gone == f"the helper broke the protocol: {reason}"

    play(scene)


def test_a_reply_that_nobody_asked_for_ends_it():
    """Also a second reply to one request."""

    async def scene(client: HelperClient, helper: Helper, _: list[Event]) -> None:
        asked = asyncio.create_task(client.ask(SetAddr(1)))
        await helper.hear()
        helper.say(1, ADDRESS)
        assert await asked == ADDRESS
        helper.say(1, ADDRESS)
        assert await client.gone == "the helper broke the protocol: sequence"

    play(scene)


@pytest.mark.parametrize("when", ["idle", "asked", "before asking"])
def test_eof_is_the_helpers_death(when):
    """Noticed at once, whether anything was asked or not."""

    async def scene(client: HelperClient, helper: Helper, _: list[Event]) -> None:
        if when == "before asking":
            helper.connection.close()
        asked = asyncio.create_task(client.ask(Hello("build"))) if when != "idle" else None
        if when == "asked":
            await helper.hear()
        helper.connection.close()
        gone = await client.gone
        assert gone in ("the helper has ended", "Broken pipe", "Connection reset by peer")
        if asked is not None:
            with pytest.raises(HelperGone, match=gone):
                await asked

    play(scene)


def test_status_is_read_in_all_its_parts():
    """As many as the helper has."""
    tunnels = [PeerStatus(bytes([n]) * 32, None, n, 0, 0) for n in range(1, 4)]

    async def scene(client: HelperClient, helper: Helper, _: list[Event]) -> None:
        asked = asyncio.create_task(client.status())
        for part, tunnel in enumerate(tunnels):
            sequence, heard = await helper.hear()
            assert heard == Status(part)
            helper.say(sequence, StatusPart((tunnel,), tunnel is not tunnels[-1]))
        assert await asked == tunnels

    play(scene)


def test_two_readings_do_not_mix():
    """Part 0 takes a new reading: a second one waits until the first has all its parts."""
    tunnels = [PeerStatus(bytes([n]) * 32, None, n, 0, 0) for n in range(1, 3)]

    async def scene(client: HelperClient, helper: Helper, _: list[Event]) -> None:
        both = [asyncio.create_task(client.status()) for _ in range(2)]
        for part in (0, 1, 0, 1):
            sequence, heard = await helper.hear()
            assert heard == Status(part)
            helper.say(sequence, StatusPart((tunnels[part],), part == 0))
        assert await asyncio.gather(*both) == [tunnels, tunnels]

    play(scene)


def test_closing_is_eof_for_the_helper():
    """The end of a graceful stop."""

    async def scene(client: HelperClient, helper: Helper, _: list[Event]) -> None:
        client.close()
        assert await asyncio.get_running_loop().sock_recv(helper.connection, 1) == b""

    async def run() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            async with asyncio.timeout(10):
                await scene(HelperClient(ours, lambda _: None), Helper(theirs), [])

    asyncio.run(run())
