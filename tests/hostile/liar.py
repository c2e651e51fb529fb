"""The agent's end of a connection, in the hands of somebody who sends what he likes."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from enum import Enum

from privhelper.protocol import (
    MAX_MESSAGE,
    MAX_PART,
    Bye,
    Event,
    Hello,
    InForce,
    Peer,
    PeersInForce,
    Reply,
    Request,
    SetAddr,
    SetPeers,
    Verdicts,
    WriteHosts,
    decode_reply,
    encode_request,
)
from tests.hostile.cast import ALPHA, BETA, GAMMA
from tests.hostile.forged import Forged
from tests.lab.until import bound

Message = bytes | Forged | Request

PATIENCE = 10.0
"""Seconds within which a helper that lives has answered."""


class At(Enum):
    """How far an agent has come when it begins to lie. With STAGING a set is half sent."""

    NEW = "new"
    GREETED = "greeted"
    ADDRESSED = "addressed"
    STAGING = "staging"
    CONFIGURED = "configured"
    ENDED = "ended"


WAY: dict[At, Sequence[Request]] = {
    At.NEW: (),
    At.GREETED: (Hello("liar"),),
    At.ADDRESSED: (Hello("liar"), SetAddr(0)),
    At.CONFIGURED: (Hello("liar"), SetAddr(0), SetPeers((ALPHA, BETA)), WriteHosts()),
    At.STAGING: (Hello("liar"), SetAddr(0), SetPeers((ALPHA, BETA)), WriteHosts(), SetPeers((GAMMA,), more=True)),
    At.ENDED: (Hello("liar"), SetAddr(0), SetPeers((ALPHA, BETA)), WriteHosts(), Bye()),
}
"""What an honest agent says until then."""


class HungUp(Exception):
    """The helper has closed the connection."""


class Liar:
    """One connection. `due` is the number that the helper expects next."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(bound(PATIENCE))
        self.due = 1
        self.events: list[Event] = []

    def go_to(self, at: At) -> Reply | None:
        """Be honest until then; the last answer."""
        reply = None
        for request in WAY[at]:
            reply = self.ask(request)
        return reply

    def tell(self, message: Message) -> None:
        """Send it, and do not wait for an answer. HungUp where nobody is there to read it."""
        data = message if isinstance(message, bytes) else self._encode(message)
        self.due = (self.due + 1) & 0xFFFFFFFF
        try:
            self.socket.send(data)
        except (BrokenPipeError, ConnectionResetError):
            raise HungUp from None

    def ask(self, message: Message) -> Reply:
        """Send it; the answer to it, events left aside."""
        self.tell(message)
        return self.hear()

    def hear(self) -> Reply:
        """The next answer."""
        while True:
            try:
                data = self.socket.recv(MAX_MESSAGE + 1)
            except ConnectionResetError:  # it went with something unread
                raise HungUp from None
            if not data:
                raise HungUp
            _, said = decode_reply(data)
            if not isinstance(said, Event):
                return said
            self.events.append(said)

    def hear_event(self) -> Event:
        """The next event, answers left aside."""
        while not self.events:
            _, said = decode_reply(self.socket.recv(MAX_MESSAGE + 1))
            if isinstance(said, Event):
                self.events.append(said)
        return self.events.pop(0)

    def set(self, wanted: Sequence[Peer]) -> list[tuple[int, int]]:
        """The whole set, in as few parts as there can be; the verdicts."""
        starts = range(0, max(1, len(wanted)), MAX_PART)
        for start in starts:
            reply = self.ask(SetPeers(tuple(wanted[start : start + MAX_PART]), more=start != starts[-1]))
        assert isinstance(reply, Verdicts), reply
        return list(reply.verdicts)

    def write(self) -> Reply:
        """The hosts lines of the last set."""
        return self.ask(WriteHosts())

    def in_force(self) -> list[Peer]:
        """The peers that the helper says it has."""
        found: list[Peer] = []
        for part in range(8):
            reply = self.ask(InForce(part))
            assert isinstance(reply, PeersInForce)
            found += reply.peers
            if not reply.more:
                break
        return found

    def tell_all(self, messages: Iterable[Message]) -> None:
        """Send them one after the other, without a look at any answer."""
        for message in messages:
            self.tell(message)

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self.socket.close()

    def _encode(self, message: Forged | Request) -> bytes:
        return message.encode(self.due) if isinstance(message, Forged) else encode_request(self.due, message)
