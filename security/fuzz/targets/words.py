"""Words of our own: a user message, or the state behind a full exchange.

Promises: only WireError; what is accepted is what we would have written, byte for byte, and no more than the limit.
"""

from wesher.wire.errors import WireError
from wesher.wire.limits import MAX_HANDSHAKES, MAX_NAME, MAX_WORDS
from wesher.wire.words import Forget, Handshakes, are_words, decode_words, encode_words


def check(data: bytes) -> None:
    """One message's."""
    try:
        words = decode_words(data)
    except WireError as error:
        assert error.code in {"empty", "truncated", "unsupported_type", "bad_name", "malformed", "too_many"}
        return
    assert are_words(data)
    assert 1 <= len(words) <= MAX_WORDS
    told = [word.tunnels for word in words if isinstance(word, Handshakes)]
    assert all(len(tunnels) <= MAX_HANDSHAKES for tunnels in told)
    names = [word.node for word in words if isinstance(word, Forget)]
    names += [tunnel.peer for tunnels in told for tunnel in tunnels]
    assert all(0 < len(name.encode("utf-8", "surrogateescape")) <= MAX_NAME for name in names)
    assert encode_words(words) == data
