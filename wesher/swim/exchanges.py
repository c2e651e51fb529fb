"""The streams in use: how many, what for, how much they may hold, until when.

A stream carries one request and at most one answer. Strangers can open streams and send into them, and only a whole
blob's tag tells them from members, so what may wait here is bounded in number, bytes and time. What comes over a
stream is not this file's to understand.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from typing import Final

from wesher.swim.config import SwimConfig
from wesher.swim.io import Endpoint
from wesher.swim.probe import Probe
from wesher.wire.keyring import Keyring
from wesher.wire.stream import StreamReader

MAX_STREAMS: Final = 128
"""Streams at once, accepted and dialled each (memberlist serves 127 push/pulls)."""

MIN_STREAM: Final = 256 * 1024
ENTRY: Final = 1024
"""Bytes of a stream we read: so many, and so many a member. An entry with the longest metadata and name takes 900, an
honest one 250: whoever takes few peers can still join a cluster of a thousand."""

MAX_BUFFERED: Final = 64 * 1024 * 1024
"""Bytes buffered on accepted streams together, and as many on dialled ones: strangers must not keep us from joining."""


class Purpose(Enum):
    """What a stream is for."""

    SERVE = auto()
    JOIN = auto()
    SYNC = auto()
    LOOK = auto()
    PING = auto()


@dataclass(slots=True)
class Exchange:
    """A stream in use. `with_whom` only for those we dialled, as `under`, the key to seal with where it is not to be
    the primary; `probe` is what a ping is for. `sent`: our request has gone out. `asked`: theirs is answered later."""

    purpose: Purpose
    reader: StreamReader
    deadline: float
    with_whom: Endpoint | None = None
    probe: Probe | None = None
    under: bytes | None = None
    sent: bool = False
    asked: bool = False


class Exchanges:
    """Exchanges by the number of their stream."""

    def __init__(self, config: SwimConfig, keyring: Keyring) -> None:
        self._config = config
        self._keyring = keyring
        self._by_stream: dict[int, Exchange] = {}
        self._last_dialled = 0

    def __len__(self) -> int:
        return len(self._by_stream)

    def __contains__(self, stream: int) -> bool:
        return stream in self._by_stream

    def __getitem__(self, stream: int) -> Exchange:
        return self._by_stream[stream]

    @property
    def deadline(self) -> float:
        """When the next one has taken too long."""
        return min((exchange.deadline for exchange in self._by_stream.values()), default=inf)

    def dial(
        self,
        purpose: Purpose,
        to: Endpoint,
        now: float,
        probe: Probe | None = None,
        under: bytes | None = None,
    ) -> int | None:
        """Begin one of ours, for a ping until its probe's deadline; None if there are too many."""
        if len(self._by_stream) - len(self._served()) >= MAX_STREAMS:
            return None
        self._last_dialled += 2
        until = now + self._config.stream_timeout if probe is None else probe.deadline
        self._by_stream[self._last_dialled] = Exchange(purpose, self._reader(), until, to, probe, under)
        return self._last_dialled

    def accept(self, stream: int, now: float) -> int | None:
        """Begin a stranger's; returns the stream that has to go for it, if there are too many.

        The oldest goes: a member's exchange takes milliseconds, so who idles longest is most likely no member.
        """
        served = self._served()
        self._by_stream[stream] = Exchange(Purpose.SERVE, self._reader(), now + self._config.stream_timeout)
        return served[0] if len(served) >= MAX_STREAMS else None

    def overfull(self) -> int | None:
        """The stream that holds most, of all accepted or all dialled ones, where these hold too much."""
        accepted = self._served()
        for streams in (accepted, self._by_stream.keys() - set(accepted)):
            held = {stream: self._by_stream[stream].reader.buffered for stream in streams}
            if sum(held.values()) > MAX_BUFFERED:
                return max(held, key=lambda stream: held[stream])
        return None

    def pop(self, stream: int) -> Exchange:
        """End one."""
        return self._by_stream.pop(stream)

    def expired(self, now: float) -> list[int]:
        """Streams that have taken too long."""
        return [stream for stream, exchange in self._by_stream.items() if now >= exchange.deadline]

    def waiting(self) -> list[int]:
        """Streams whose request is answered later."""
        return [stream for stream, exchange in self._by_stream.items() if exchange.asked]

    def _served(self) -> list[int]:
        """Accepted streams, oldest first."""
        return [stream for stream, exchange in self._by_stream.items() if exchange.purpose is Purpose.SERVE]

    def _reader(self) -> StreamReader:
        """For one stream. An exchange as large as our own may be fits; more would only keep us from answering pings."""
        return StreamReader(self._keyring, limit=MIN_STREAM + ENTRY * self._config.max_members)
