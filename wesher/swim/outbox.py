"""What this node says: messages become sealed packets, and news rides along as far as it fits (protocol 5.10, 5.11).

Also the one list of all that is to be done on the network, in order. No packet is longer than memberlist's budget.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from wesher.swim.broadcast import BroadcastQueue
from wesher.swim.config import SwimConfig, retransmit_limit
from wesher.swim.io import Action, Endpoint, SendDatagram, SendStream
from wesher.swim.members import Members
from wesher.wire.codec import encode
from wesher.wire.keyring import Keyring
from wesher.wire.limits import COMPOUND_HEADER, COMPOUND_PART, SEAL_OVERHEAD, UDP_BUFFER_SIZE
from wesher.wire.messages import Message, StreamMessage, UserMessage
from wesher.wire.packet import seal_packet
from wesher.wire.stream import seal_stream
from wesher.wire.words import Forget, KeyRecord, encode_words

_ROOM: Final = UDP_BUFFER_SIZE - SEAL_OVERHEAD - COMPOUND_HEADER


class Outbox:
    """Actions to be, and the news that waits to ride along. `members` only for their number."""

    def __init__(self, config: SwimConfig, keyring: Keyring, nonce: Callable[[], bytes], members: Members) -> None:
        self.broadcasts = BroadcastQueue()
        self._config = config
        self._keyring = keyring
        self._nonce = nonce
        self._members = members
        self._actions: list[Action] = []

    def drain(self) -> list[Action]:
        """What is to be done on the network, in order; empties the list."""
        actions, self._actions = self._actions, []
        return actions

    def do(self, action: Action) -> None:
        """Add something that is no message."""
        self._actions.append(action)

    def spread(self, about: str, news: Message) -> None:
        """Have news about a member gossiped."""
        self.broadcasts.queue(about, encode(news))

    def spread_word(self, word: Forget | KeyRecord) -> None:
        """Have a word of our own gossiped; beside the news about that member, not in its place.

        Of two keys made in one second one is told by gossip; full exchanges tell both.
        """
        self.broadcasts.queue(_about(word), encode(UserMessage(encode_words([word]))))

    def drop_word(self, word: Forget | KeyRecord) -> None:
        """It is true no more."""
        self.broadcasts.drop(_about(word))

    def gossip(self, to: Endpoint, *, counts: bool = True) -> bool:
        """Send a packet of news, which thereby counts as told once more; False where there is none."""
        parts = self.broadcasts.take(_ROOM, self._limit(), counts=counts)
        if parts:
            self._send_packet(to, parts)
        return bool(parts)

    def send(self, to: Endpoint, message: Message) -> None:
        """Send one message, and as much news as fits beside it."""
        data = encode(message)
        room = _ROOM - COMPOUND_PART - len(data)
        self._send_packet(to, [data, *self.broadcasts.take(room, self._limit())])

    def send_only(self, to: Endpoint, *messages: Message) -> None:
        """Send these messages in one packet, and nothing beside them."""
        self._send_packet(to, [encode(message) for message in messages])

    def send_stream(self, stream: int, message: StreamMessage, under: bytes | None = None) -> None:
        """Send one message on an open stream, sealed by the primary key or the one it is to go `under`."""
        # Never compressed: it is optional, and in Python a full exchange would take ten times as long to make.
        data = seal_stream(encode(message), self._keyring, self._nonce(), compress=False, under=under)
        self._actions.append(SendStream(stream, data))

    def _send_packet(self, to: Endpoint, parts: Sequence[bytes]) -> None:
        self._actions.append(SendDatagram(to, seal_packet(parts, self._keyring, self._nonce())))

    def _limit(self) -> int:
        return retransmit_limit(self._config.retransmit_mult, len(self._members))


def _about(word: Forget | KeyRecord) -> Hashable:
    return (Forget, word.node) if isinstance(word, Forget) else (KeyRecord, word.epoch)
