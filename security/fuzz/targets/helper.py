"""The protocol between agent and helper, both directions: whoever took one half writes to the other.

Promises: only Violation; every meaning has one form, so what is read is written as the very bytes that were read.
"""

from privhelper.protocol import (
    MAX_MESSAGE,
    Event,
    Violation,
    decode_reply,
    decode_request,
    encode_event,
    encode_reply,
    encode_request,
)


def check(data: bytes) -> None:
    """As a request and as a reply."""
    try:
        sequence, request = decode_request(data)
    except Violation:
        pass
    else:
        assert len(data) <= MAX_MESSAGE
        assert encode_request(sequence, request) == data
    try:
        sequence, reply = decode_reply(data)
    except Violation:
        return
    assert (encode_event(reply) if isinstance(reply, Event) else encode_reply(sequence, reply)) == data
