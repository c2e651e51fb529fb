"""What others see: a full exchange in which the asker says nothing of what it knows, and merges nothing of the answer.

Every member answers one, Go nodes too, and the entries of its answer are whom it holds for what. Since nothing is told
and nothing taken over, looking changes nobody's view: a cut that is looked at stays as it is, until gossip heals it.

Behind the request a word asks for handshakes. A member of ours looks at its tunnels before it answers, which takes
another process's word; so its answer waits for that, but not for long, and tells of no tunnels where none came. Who
reads past the word, as Go nodes do, answers at once, and tells of none either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from wesher.wire.errors import WireError
from wesher.wire.limits import MAX_HANDSHAKES
from wesher.wire.messages import PushPull
from wesher.wire.words import AskHandshakes, Handshake, Handshakes, Word, are_words, decode_words, encode_words

REQUEST: Final = PushPull(False, (), encode_words([AskHandshakes()]))

TUNNELS_WITHIN: Final = 1.0
"""Seconds that an answer waits for what our tunnels are like: the helper tells within some hundredths."""


def asks(request: PushPull) -> bool:
    """Whether whoever sent it wants to hear of our tunnels."""
    return any(isinstance(word, AskHandshakes) for word in _words(request.user_state))


def telling(tunnels: Sequence[Handshake]) -> bytes:
    """The words that tell of our tunnels, for the state behind an answer."""
    begins = range(0, len(tunnels), MAX_HANDSHAKES)
    words = [Handshakes(tuple(tunnels[begin : begin + MAX_HANDSHAKES])) for begin in begins]
    return encode_words(words or [Handshakes(())])  # to have none is to tell something


def told(answer: PushPull) -> tuple[Handshake, ...] | None:
    """What the answer tells of its sender's tunnels; None where it tells nothing."""
    words = [word for word in _words(answer.user_state) if isinstance(word, Handshakes)]
    return tuple(tunnel for word in words for tunnel in word.tunnels) if words else None


def _words(state: bytes) -> tuple[Word, ...]:
    """Those behind an exchange; none where they are not ours, or cannot be read."""
    try:
        return decode_words(state) if are_words(state) else ()
    except WireError:
        return ()
