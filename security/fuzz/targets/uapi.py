"""wireguard-go's answers: it is a network-facing process, and whoever took it over writes them.

The input is a tape of answers to what the helper asks. Promises: only OSError, in fixed words; what is read fits the
reply that carries it; and no byte of the private key, which an answer to `get` may repeat, is in what is raised.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from privhelper.protocol import MAX_PART, Peer, StatusPart, decode_reply, encode_reply
from privhelper.userspace import UserspaceDevice
from security.fuzz.tape import Tape

SECRET: Final = "5ec7e7" * 11
"""What an answer may hold and an exception must not. `KEY` in an input stands for it."""
MARK: Final = b"KEY"
WORDS: Final = {
    "wireguard-go does not answer as it should",
    "wireguard-go has not answered yet",
    "wireguard-go reports a device that does not parse",
    "wireguard-go reports peers that do not parse",
}
_PEER: Final = Peer(bytes(range(32)), IPv4Address("192.0.2.1"), IPv4Address("10.1.2.3"), "node-b")
_STEPS: Final = 12


class Connection:
    """A socket whose other end says what is on the tape, in pieces of its choice, and then nothing any more."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def settimeout(self, seconds: float) -> None:
        """There is no time here."""

    def sendall(self, data: bytes) -> None:
        """What the helper asks is for nobody; it does not hang up."""

    def recv(self, size: int) -> bytes:
        """The next piece; silence where the tape says so, and the end where it ends."""
        if not self._tape:
            return b""
        length = self._tape.number()
        if length == 0:
            raise TimeoutError
        return self._tape.take(4 * length).replace(MARK, SECRET.encode())[:size]

    def shutdown(self, how: int) -> None:
        """It is over."""


def check(data: bytes) -> None:
    """One connection, on which everything is asked."""
    tape = Tape(data)
    device = UserspaceDevice(Connection(tape))  # type: ignore[arg-type]
    asked: tuple[Callable[[], object], ...] = (
        lambda: _status(device),
        lambda: _holding(device),
        lambda: device.apply([bytes(32)], [_PEER]),
        lambda: device.create(51820),
        device.restore,
        device.destroy,
        device.has_ended,
    )
    for _ in range(_STEPS):
        if not tape:
            break
        try:
            asked[tape.number() % len(asked)]()
        except OSError as error:
            assert error.strerror in WORDS or error.strerror == os.strerror(error.errno or 0), repr(error)
            said = "".join(traceback.format_exception(error)) + repr(error.args)
            assert SECRET[:16] not in said, "the private key is told"


def _status(device: UserspaceDevice) -> None:
    reading = tuple(device.status())[:MAX_PART]
    assert decode_reply(encode_reply(1, StatusPart(reading, False))) == (1, StatusPart(reading, False))


def _holding(device: UserspaceDevice) -> None:
    held = device.holding()
    assert held.public_key is None or len(held.public_key) == 32
    assert all(len(key) == 32 for key in held.allowed_ips)
