"""Time, weather and wires: what lies between addresses, in virtual time, and nothing ever waits.

    heap of (time, number, what to do)     the number makes equal times deterministic
    weather                                asked for every datagram and every piece of a stream
    digest, trace                          everything that was put on the wire, in order: the run's fingerprint

Who lives at an address is a `Party`; it is handed what arrives, and does not hear of what is lost. Chance comes from
one seed: the same seed and the same calls give the same bytes.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random
from typing import Final, Protocol

from wesher.swim.io import (
    Endpoint,
    StreamAccepted,
    StreamConnected,
    StreamData,
    StreamEnded,
    StreamInput,
)

START: Final = 1000.0
"""The virtual clock's first reading: not 0, which hides forgotten clocks."""

TODAY: Final = 200_000_000
"""The virtual calendar at START, in seconds since 2020."""

FIRST_REPEAT: Final = 0.2
"""Seconds until TCP sends again what was lost; doubled each time."""


def nothing_is_cut(kind: str, source: Endpoint, to: Endpoint) -> bool:
    """The weather in which everything passes."""
    return False


@dataclass(slots=True)
class Weather:
    """What the network does to what is sent.

    Latency is drawn anew for every packet, so its spread is the jitter, and reorders. `cut` says whether `kind` ("udp"
    or "tcp") is lost on its way from one address to another, in that direction.
    """

    latency: tuple[float, float] = (0.001, 0.02)
    """Seconds, the least and the most."""
    loss: float = 0.0
    """The share of datagrams lost by chance; streams repeat theirs, as TCP does."""
    duplicate: float = 0.0
    """The share of datagrams that arrive twice."""
    stray: float = 0.0
    """The share of datagrams that take a long way round, up to `detour` seconds more, and arrive behind later ones."""
    detour: float = 1.0
    cut: Callable[[str, Endpoint, Endpoint], bool] = nothing_is_cut


class Party(Protocol):
    """Whoever lives at an address. `streams` are those in use by number; None while one is dialled."""

    at: Endpoint
    streams: dict[int, Pipe | None]
    last_accepted: int

    def take_datagram(self, data: bytes, source: Endpoint) -> None:
        """A datagram has arrived."""

    def take_stream(self, event: StreamInput) -> None:
        """Something about a stream: dialled by this party, or accepted."""


@dataclass(slots=True)
class Pipe:
    """One direction of a stream: where its bytes go, and not before when, since streams keep their order."""

    to: Party
    number: int
    not_before: float = 0.0
    held_up: deque[Callable[[], None]] = field(default_factory=deque)
    """What is sent again until the way is free."""


class Underlay:
    """Parties by their address, the weather between them, and the time."""

    def __init__(self, seed: int | str, *, keep_trace: bool = True) -> None:
        self.now = START
        self.weather = Weather()
        self.trace: list[tuple[float, str, Endpoint, Endpoint, bytes]] = []
        self.sent = 0
        """Datagrams and pieces of streams put on the wire."""
        self.seed = seed
        self._keep_trace = keep_trace
        self._digest = hashlib.blake2b(digest_size=16)
        self._rng = Random(f"weather of {seed}")
        self._parties: dict[Endpoint, Party] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    @property
    def digest(self) -> str:
        """The fingerprint of everything put on the wire so far, and of what was noted beside it."""
        return self._digest.hexdigest()

    # --- who is where

    def settle_at(self, party: Party) -> None:
        """From now on what is sent to its address is for `party`."""
        self._parties[party.at] = party

    def vacate(self, party: Party) -> None:
        """Nobody lives at its address any more, and its streams are gone without a word."""
        party.streams.clear()
        if self._parties.get(party.at) is party:
            del self._parties[party.at]

    # --- time

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Let something happen then."""
        heapq.heappush(self._heap, (when, next(self._numbers), action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Let something happen so many seconds from now."""
        heapq.heappush(self._heap, (self.now + seconds, next(self._numbers), action))

    def run(self, seconds: float) -> None:
        """Let `seconds` pass."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.step()
        self.now = end

    def until(self, reached: Callable[[], bool], *, within: float, every: float = 0.0) -> float:
        """Run until `reached`; returns the seconds that took, and fails if it takes longer than `within`.

        It is asked after each step, or at most every so many seconds.
        """
        begin = self.now
        ask_at = begin
        while self.now < ask_at or not reached():
            if self.now >= ask_at:
                ask_at = self.now + every
            if not self._heap or self._heap[0][0] > begin + within:
                if self.now < ask_at and reached():
                    break
                raise AssertionError(f"not reached within {within} virtual seconds (seed {self.seed})")
            self.step()
        return self.now - begin

    def next_step(self) -> float | None:
        """When the next thing will happen."""
        return self._heap[0][0] if self._heap else None

    def step(self) -> None:
        """Let it happen."""
        at, _, action = heapq.heappop(self._heap)
        self.now = max(self.now, at)
        action()

    # --- datagrams

    def send_datagram(self, source: Endpoint, to: Endpoint, data: bytes, *, delay: float = 0.0) -> None:
        """Send a datagram, `delay` seconds from now."""
        self._note("udp", source, to, data)
        weather = self.weather
        lost = self._rng.random() < weather.loss
        delay += self._latency()
        if weather.stray and self._rng.random() < weather.stray:
            delay += self._rng.uniform(0, weather.detour)
        if lost or weather.cut("udp", source, to):
            return
        self.after(delay, partial(self._arrive, source, to, data))
        if weather.duplicate and self._rng.random() < weather.duplicate:
            self.after(delay + self._latency(), partial(self._arrive, source, to, data))

    def _arrive(self, source: Endpoint, to: Endpoint, data: bytes) -> None:
        party = self._parties.get(to)
        if party is not None:
            party.take_datagram(data, source)

    # --- streams

    def dial(self, party: Party, stream: int, to: Endpoint, *, repeat: float = FIRST_REPEAT) -> None:
        """Open a stream, called `stream` by `party`; it hears StreamConnected or StreamEnded, or nothing."""
        party.streams[stream] = None
        if self.weather.cut("tcp", party.at, to):
            self.after(repeat, partial(self._dial_again, party, stream, to, 2 * repeat))
        else:
            self.after(self._latency(), partial(self._meet, party, stream, to))

    def _dial_again(self, party: Party, stream: int, to: Endpoint, repeat: float) -> None:
        if stream in party.streams:  # else the dialling was given up
            self.dial(party, stream, to, repeat=repeat)

    def _meet(self, party: Party, stream: int, to: Endpoint) -> None:
        """The dialled side answers, or nobody does."""
        if stream not in party.streams:
            return
        other = self._parties.get(to)
        if other is None:
            party.streams.pop(stream)
            self.after(self._latency(), partial(party.take_stream, StreamEnded(stream, "refused")))
            return
        other.last_accepted += 2
        number = other.last_accepted
        other.streams[number] = Pipe(party, stream)
        party.streams[stream] = Pipe(other, number)
        other.take_stream(StreamAccepted(number))
        self.after(self._latency(), partial(self._connected, party, stream))

    def _connected(self, party: Party, stream: int) -> None:
        if stream in party.streams:
            party.take_stream(StreamConnected(stream))

    def send_stream(self, party: Party, stream: int, data: bytes) -> None:
        """Send on an open stream; on any other it is lost."""
        pipe = party.streams.get(stream)
        if pipe is None:
            return
        self._note("tcp", party.at, pipe.to.at, data)
        middle = self._rng.randint(0, len(data))  # it arrives in two pieces, as it may
        for piece in (data[:middle], data[middle:]):
            if piece:
                self._pour(party, pipe, partial(self._stream_data, pipe, piece))

    def close_stream(self, party: Party, stream: int, reason: str = "") -> None:
        """Close a stream once everything before it has arrived."""
        pipe = party.streams.pop(stream, None)
        if pipe is not None:
            self._pour(party, pipe, partial(self._stream_ended, pipe, reason))

    def _pour(self, party: Party, pipe: Pipe, action: Callable[[], None]) -> None:
        pipe.not_before = max(pipe.not_before, self.now + self._latency())
        if pipe.held_up:
            pipe.held_up.append(action)
        elif self.weather.cut("tcp", party.at, pipe.to.at):
            pipe.held_up.append(action)
            self.after(FIRST_REPEAT, partial(self._repeat, party, pipe, 2 * FIRST_REPEAT))
        else:
            self.at(pipe.not_before, action)

    def _repeat(self, party: Party, pipe: Pipe, repeat: float) -> None:
        if self._parties.get(party.at) is not party or pipe.number not in pipe.to.streams:
            return  # one of the two is gone: nobody sends, or nobody listens
        if self.weather.cut("tcp", party.at, pipe.to.at):
            self.after(repeat, partial(self._repeat, party, pipe, 2 * repeat))
            return
        pipe.not_before = max(pipe.not_before, self.now + self._latency())
        for action in pipe.held_up:
            self.at(pipe.not_before, action)
        pipe.held_up.clear()

    def _stream_data(self, pipe: Pipe, data: bytes) -> None:
        if pipe.number in pipe.to.streams:
            pipe.to.take_stream(StreamData(pipe.number, data))

    def _stream_ended(self, pipe: Pipe, reason: str) -> None:
        if pipe.to.streams.pop(pipe.number, None) is not None:
            pipe.to.take_stream(StreamEnded(pipe.number, reason))

    # --- below

    def _latency(self) -> float:
        return self._rng.uniform(*self.weather.latency)

    def _note(self, kind: str, source: Endpoint, to: Endpoint, data: bytes) -> None:
        self.sent += 1
        self._digest.update(b"%.9f %d %d " % (self.now, int(source.ip), int(to.ip)))
        self._digest.update(data)
        if self._keep_trace:
            self.trace.append((self.now, kind, source, to, data))

    def note(self, what: bytes) -> None:
        """Let something else that happened be part of the fingerprint."""
        self._digest.update(b"%.9f " % self.now)
        self._digest.update(what)
