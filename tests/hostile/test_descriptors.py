"""Descriptors and credentials that come along with a message: nobody asked for them, and the helper keeps none."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from privhelper.protocol import InForce, PeersInForce, Reply, ViolationCode, encode_request
from tests.hostile.case import Act, Case, Refused, put, table
from tests.hostile.liar import At, Liar
from tests.hostile.stage import Stage
from tests.lab.kernel import can_refuse_descriptors

pytestmark = pytest.mark.root

MOST = 253  # SCM_MAX_FD


NOT_TAKEN = Refused("EPERM") if can_refuse_descriptors() else PeersInForce
"""What comes of descriptors: the sender's kernel says no, or they are closed unseen and the message is one like any."""


def with_control(level: int, kind: int, data: bytes) -> Act:
    """An honest request, and that control message with it."""

    def act(liar: Liar) -> Reply:
        message = encode_request(liar.due, InForce(0))
        liar.socket.sendmsg([message], [(level, kind, data)])
        liar.due += 1
        return liar.hear()

    return act


@contextmanager
def opened(make: Callable[[ExitStack], int], number: int) -> Iterator[list[int]]:
    """So many descriptors."""
    with ExitStack() as stack:
        yield [make(stack) for _ in range(number)]


def null(stack: ExitStack) -> int:
    """Of /dev/null."""
    return stack.enter_context(open("/dev/null", "rb")).fileno()


def directory(stack: ExitStack) -> int:
    """Of a directory, from which other paths would follow."""
    fd = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY)
    stack.callback(os.close, fd)
    return fd


def pipe(stack: ExitStack) -> int:
    """Of a pipe that nobody reads."""
    for fd in (ends := os.pipe()):
        stack.callback(os.close, fd)
    return ends[1]


def temporary(stack: ExitStack) -> int:
    """Of a file."""
    return stack.enter_context(tempfile.TemporaryFile()).fileno()


def lingering(stack: ExitStack) -> int:
    """Of a TCP socket whose close would wait, full and unread."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    client = stack.enter_context(socket.create_connection(listener.getsockname()))
    stack.enter_context(listener.accept()[0])
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30))
    client.setblocking(False)
    try:
        while True:
            client.send(bytes(65536))
    except BlockingIOError:
        return client.fileno()


def another_connection(stack: ExitStack) -> int:
    """Of the listening end of a conversation with itself."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        stack.enter_context(end)
    return ends[0].fileno()


def stuffed(make: Callable[[ExitStack], int], number: int, message: bytes | None = None) -> Act:
    """An honest request, and so many descriptors with it."""

    def act(liar: Liar) -> Reply:
        data = encode_request(liar.due, InForce(0)) if message is None else message
        with opened(make, number) as fds:
            socket.send_fds(liar.socket, [data], fds)
        liar.due += 1
        return liar.hear()

    return act


def its_own_end(liar: Liar) -> Reply:
    """The connection, through itself."""
    socket.send_fds(liar.socket, [encode_request(liar.due, InForce(0))], [liar.socket.fileno()])
    liar.due += 1
    return liar.hear()


def again_and_again(liar: Liar) -> Reply | None:
    """A hundred times as many as one message holds, whatever becomes of each."""
    reply = None
    with opened(null, MOST) as fds:
        for _ in range(100):
            try:
                socket.send_fds(liar.socket, [encode_request(liar.due, InForce(0))], fds)
            except PermissionError:
                continue
            liar.due += 1
            reply = liar.hear()
    return reply or liar.ask(InForce(0))


CREDENTIALS = struct.pack("3i", os.getpid(), 0, 0)


@table(
    *(Case(f"{number} of /dev/null", At.GREETED, stuffed(null, number), NOT_TAKEN) for number in (1, 2, 16, 64, MOST)),
    Case("a directory", At.GREETED, stuffed(directory, 1), NOT_TAKEN),
    Case("pipes", At.GREETED, stuffed(pipe, 8), NOT_TAKEN),
    Case("files", At.CONFIGURED, stuffed(temporary, 8), NOT_TAKEN),
    Case("a socket whose close waits", At.CONFIGURED, stuffed(lingering, 1), NOT_TAKEN),
    Case("a socket like the one it listens to", At.GREETED, stuffed(another_connection, 1), NOT_TAKEN),
    Case("the connection itself", At.GREETED, its_own_end, NOT_TAKEN),
    Case(
        "before the first word",
        At.NEW,
        stuffed(null, 1, b"\1\1"),
        NOT_TAKEN if isinstance(NOT_TAKEN, Refused) else ViolationCode.LENGTH,
    ),
    Case("25,300 of them", At.GREETED, again_and_again, PeersInForce),
    Case(
        "credentials of root's",
        At.GREETED,
        with_control(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, CREDENTIALS),
        PeersInForce,
    ),
    Case(
        "one descriptor more than a message holds",
        At.GREETED,
        with_control(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", 0) * (MOST + 1)),
        Refused("EINVAL"),
    ),
    Case(
        "a descriptor that is none",
        At.GREETED,
        with_control(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", 9999)),
        Refused("EBADF"),
    ),
    Case("a control message of no kind", At.GREETED, with_control(socket.SOL_SOCKET, 99, b"1234"), Refused("EINVAL")),
)
def test_what_comes_along(stage: Stage, case: Case) -> None:
    """The helper has as many descriptors as before, and has answered the message, or never seen it."""
    put(stage, case)
