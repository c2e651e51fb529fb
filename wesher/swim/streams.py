"""What is said over streams: full exchanges, looks, pings where UDP fails, a fixed word for who cannot speak to us.

A stream carries one request and at most one answer (protocol 4). What is to be merged, and what became of the
exchanges that we began, is returned: using it is the caller's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from wesher.swim.config import SwimConfig
from wesher.swim.event import Exchanged, TunnelsWanted, Viewed
from wesher.swim.exchanges import Exchange, Exchanges, Purpose
from wesher.swim.forgetting import Forgetting
from wesher.swim.io import (
    CloseStream,
    Connect,
    Endpoint,
    StreamAccepted,
    StreamConnected,
    StreamData,
    StreamEnded,
    StreamInput,
    from_wire,
)
from wesher.swim.looking import REQUEST, TUNNELS_WITHIN, asks, telling, told
from wesher.swim.member import Identity
from wesher.swim.members import Members
from wesher.swim.outbox import Outbox
from wesher.swim.probe import StreamPing
from wesher.swim.push_pull import everything
from wesher.wire.errors import WireError
from wesher.wire.messages import Ack, ErrorReply, NodeState, Ping, PushPull, StreamMessage, UserMessage
from wesher.wire.words import Handshake, KeyRecord, encode_words

StreamResult = PushPull | Exchanged | Viewed | TunnelsWanted
"""Something to merge, an exchange or a look of ours that is over, or what somebody's answer waits for."""


class Streams:
    """The node's side of every stream. `key_records` go behind every full exchange."""

    def __init__(
        self,
        config: SwimConfig,
        identity: Identity,
        members: Members,
        outbox: Outbox,
        exchanges: Exchanges,
        forgetting: Forgetting,
        counters: Counter[str],
    ) -> None:
        self._config = config
        self._identity = identity
        self._members = members
        self._outbox = outbox
        self._exchanges = exchanges
        self._forgetting = forgetting
        self._counters = counters
        self.key_records: tuple[KeyRecord, ...] = ()

    @property
    def deadline(self) -> float:
        """When `expire` has something to do."""
        return self._exchanges.deadline

    # --- ours

    def exchange(self, to: Endpoint, now: float, *, join: bool, under: bytes | None = None) -> list[StreamResult]:
        """Begin a push/pull, sealed by the primary key or the one it is to go `under`."""
        stream = self._exchanges.dial(Purpose.JOIN if join else Purpose.SYNC, to, now, under=under)
        if stream is None:
            self._counters["too many streams"] += 1
            return [Exchanged(to, join, "too many streams")]
        self._outbox.do(Connect(stream, to))
        return []

    def look(self, to: Endpoint, now: float) -> list[StreamResult]:
        """Begin to ask what is seen there."""
        stream = self._exchanges.dial(Purpose.LOOK, to, now)
        if stream is None:
            self._counters["too many streams"] += 1
            return [Viewed(to, "too many streams")]
        self._outbox.do(Connect(stream, to))
        return []

    def ping(self, wanted: StreamPing, now: float) -> None:
        """Begin a ping over a stream; an answer is noted in the probe."""
        stream = self._exchanges.dial(Purpose.PING, wanted.to, now, wanted.probe)
        if stream is None:
            self._counters["too many streams"] += 1
        else:
            self._outbox.do(Connect(stream, wanted.to))

    # --- what comes in

    def receive(self, event: StreamInput, now: float) -> list[StreamResult]:
        """Something about a stream: of ours, or newly accepted."""
        match event:
            case StreamAccepted(stream):
                return self._accept(stream, now)
            case StreamConnected(stream) if stream in self._exchanges:
                self._begin(stream, self._exchanges[stream], now)
            case StreamData(stream, data) if stream in self._exchanges:
                return self._take(stream, data, now)
            case StreamEnded(stream, reason) if stream in self._exchanges:
                return self._finish(stream, reason or "closed before the exchange was over")
            case StreamConnected(stream):
                self._outbox.do(CloseStream(stream))  # it came too late
            case _:
                pass  # of a stream that is over on our side
        return []

    def expire(self, now: float) -> list[StreamResult]:
        """End what has taken too long, and answer what has waited for our tunnels in vain."""
        self._answer(self._exchanges.expired(now), b"")
        return [
            result for stream in self._exchanges.expired(now) for result in self._finish(stream, "no answer in time")
        ]

    def tell_tunnels(self, tunnels: Sequence[Handshake]) -> None:
        """Answer all who wait for what our tunnels are like."""
        self._answer(self._exchanges.waiting(), telling(tunnels))

    def _answer(self, streams: list[int], words: bytes) -> None:
        for stream in streams:
            exchange = self._exchanges[stream]
            if exchange.asked:
                answer = everything(self._members, join=False, words=words)
                self._outbox.send_stream(stream, answer, exchange.reader.key)
                self._finish(stream, "")

    def _accept(self, stream: int, now: float) -> list[StreamResult]:
        displaced = self._exchanges.accept(stream, now)
        if displaced is None:
            return []
        self._counters["too many streams"] += 1
        return self._finish(displaced, "")

    def _begin(self, stream: int, exchange: Exchange, now: float) -> None:
        if exchange.probe is not None:
            ping = Ping(exchange.probe.seq_no, exchange.probe.name, *self._identity.source())
            self._outbox.send_stream(stream, ping)
        else:
            exchange.deadline = now + self._config.stream_timeout
            exchange.sent = True
            is_look = exchange.purpose is Purpose.LOOK
            request = REQUEST if is_look else self._everything(join=exchange.purpose is Purpose.JOIN)
            self._outbox.send_stream(stream, request, exchange.under)

    def _take(self, stream: int, data: bytes, now: float) -> list[StreamResult]:
        exchange = self._exchanges[stream]
        try:
            message = exchange.reader.feed(data)
        except WireError as error:
            self._counters[error.code] += 1
            if exchange.purpose is Purpose.SERVE:
                # A fixed text: what exactly was wrong is nobody's business who cannot speak to us.
                self._outbox.send_stream(stream, ErrorReply("message could not be read"))
            return self._finish(stream, f"answer could not be read: {error}")
        if message is None:
            return self._make_room()
        if exchange.purpose is Purpose.SERVE:
            if isinstance(message, PushPull) and asks(message):
                exchange.asked, exchange.deadline = True, now + TUNNELS_WITHIN
                return [message, TunnelsWanted()]
            self._serve(stream, message, exchange.reader.key)
            failure = ""
        else:
            failure = _take_answer(exchange, message)
        if failure or not isinstance(message, PushPull):
            return self._finish(stream, failure)
        if exchange.purpose is Purpose.LOOK:
            return self._finish(stream, "", message)
        return [message, *self._finish(stream, "", message)]

    def _make_room(self) -> list[StreamResult]:
        largest = self._exchanges.overfull()
        if largest is None:
            return []
        self._counters["too much buffered"] += 1
        return self._finish(largest, "too much is buffered")

    def _serve(self, stream: int, message: StreamMessage, under: bytes | None) -> None:
        """The answer goes under the key of the question: who was away while keys changed has no other."""
        match message:
            case Ping(seq_no, node):
                if node in ("", self._identity.name):
                    self._outbox.send_stream(stream, Ack(seq_no), under)
            case PushPull():
                # The reply comes before the merge, as memberlist's does: it tells what we knew, not what we just heard.
                self._outbox.send_stream(stream, self._everything(join=message.join), under)
            case UserMessage() | ErrorReply() | Ack():
                self._counters["unexpected stream message"] += 1

    def _everything(self, *, join: bool) -> PushPull:
        words = encode_words([*self.key_records, *self._forgetting.words()])
        return everything(self._members, join=join, words=words)

    def _namesake(self, answer: PushPull) -> Endpoint | None:
        """Where others have somebody else under our name: there is one place for it, until he has left or is forgotten
        for dead."""
        for entry in answer.nodes:
            if entry.name == self._identity.name and entry.state is not NodeState.LEFT:
                there = from_wire(entry.addr, entry.port or self._identity.port)
                return None if there == self._identity.endpoint or there in self._identity.former else there
        return None

    def _finish(self, stream: int, failure: str, answer: PushPull | None = None) -> list[StreamResult]:
        exchange = self._exchanges.pop(stream)
        self._outbox.do(CloseStream(stream))
        if exchange.with_whom is None or exchange.purpose is Purpose.PING:
            return []
        if exchange.purpose is Purpose.LOOK:
            seen = ((), None) if answer is None else (answer.nodes, told(answer))
            return [Viewed(exchange.with_whom, failure, *seen)]
        namesake = None if answer is None else self._namesake(answer)
        unread = bool(failure) and exchange.sent
        return [Exchanged(exchange.with_whom, exchange.purpose is Purpose.JOIN, failure, unread, namesake)]


def _take_answer(exchange: Exchange, message: StreamMessage) -> str:
    """Use the answer to what we dialled for; returns what was wrong with it."""
    match exchange.purpose, message:
        case Purpose.PING, Ack(seq_no):
            if exchange.probe is not None and seq_no == exchange.probe.seq_no:
                exchange.probe.by_stream = True
            return ""
        case ((Purpose.JOIN | Purpose.SYNC | Purpose.LOOK), PushPull()):
            return ""
        case _, ErrorReply(error):
            return f"refused by the other side: {error!a}"
        case _:
            return "an unexpected message came back"
