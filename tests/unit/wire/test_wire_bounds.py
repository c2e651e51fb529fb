"""What reading costs at most, whatever is read: the bounds that limits.py states, against bombs."""

from __future__ import annotations

import pytest

from tests.unit.wire.bombs import ARRAY, PACKETS, STREAMS, compound, compressed
from tests.unit.wire.cost import memory_of, report, work_of
from wesher.wire import lzw
from wesher.wire.codec import decode_stream_message, encode
from wesher.wire.compression import compress_message
from wesher.wire.errors import WireError
from wesher.wire.keyring import Keyring
from wesher.wire.limits import MAX_DECOMPRESSED_PACKET, MAX_PACKET_PARTS, MAX_PUSH_PULL_NODES
from wesher.wire.messages import UserMessage
from wesher.wire.packet import Opened, open_packet
from wesher.wire.stream import StreamReader

RING = Keyring([bytes(range(32))])
NONCE = bytes(12)
MIB = 1 << 20
LINES_A_BYTE, LINES_A_PART = 8, 128
LIMIT = 64 * 1024


def open_or_refuse(datagram: bytes) -> object:
    """What the datagram says, or the error."""
    try:
        return open_packet(datagram, RING)
    except WireError as error:
        return error.as_value()


def read_or_refuse(stream: bytes, limit: int = LIMIT) -> object:
    """What the stream says, or the error."""
    try:
        return StreamReader(RING, limit=limit).feed(stream)
    except WireError as error:
        return error.as_value()


def sealed(plain: bytes) -> bytes:
    """A stream from somebody with the key."""
    header = b"\x0a" + (len(plain) + 29).to_bytes(4, "big")
    return header + RING.seal(plain, header, NONCE)


@pytest.mark.parametrize("bomb", PACKETS)
def test_a_datagram_costs_no_more_than_its_bound(bomb):
    """Bytes, those that come out of compress layers too, and parts: each costs so many lines; together 6 MiB."""
    datagram = RING.seal(PACKETS[bomb], b"", NONCE)
    memory, work = memory_of(lambda: open_or_refuse(datagram)), work_of(lambda: open_or_refuse(datagram))
    report(bomb, len(datagram), lambda: open_or_refuse(datagram), memory, work)
    assert memory <= 6 * MIB
    assert work <= LINES_A_BYTE * (len(datagram) + MAX_DECOMPRESSED_PACKET) + LINES_A_PART * MAX_PACKET_PARTS


@pytest.mark.parametrize("bomb", STREAMS)
def test_a_stream_costs_no_more_than_its_bound(bomb):
    """In memory by its limit; in work by its bytes and its entries."""
    stream = sealed(STREAMS[bomb](LIMIT))
    assert len(stream) <= 5 + LIMIT
    memory, work = memory_of(lambda: read_or_refuse(stream)), work_of(lambda: read_or_refuse(stream))
    report(bomb, len(stream), lambda: read_or_refuse(stream), memory, work)
    assert memory <= 7 * LIMIT + 4 * MIB
    assert work <= LINES_A_BYTE * (len(stream) + LIMIT) + LINES_A_PART * MAX_PUSH_PULL_NODES


@pytest.mark.parametrize("bomb", ["a user message", "metadata of 32 KiB"])
def test_a_stream_as_long_as_peers_accept_costs_seven_times_that(bomb):
    """20 MiB, which swim never lets a stream have."""
    limit = 20 * MIB
    stream = sealed(STREAMS[bomb](limit))
    memory = memory_of(lambda: read_or_refuse(stream, limit))
    report(bomb, len(stream), lambda: read_or_refuse(stream, limit), memory, 0)
    assert memory <= 7 * limit + 4 * MIB


def test_reasons_hold_on_to_nothing_that_was_read():
    """A part that does not decode leaves behind what it is counted under, not the arrays it had begun to fill.

    Before, an error kept the one it replaced, and that its frames: 62 thousand bytes held 90 MiB.
    """
    opened = open_packet(RING.seal(compound([b"\x04\x81\xa4Addr" + ARRAY * 80] * 250), b"", NONCE), RING)
    exchange = decode_stream_message(b"\x06\x81\xa5Nodes\x02" + b"\x81\xa4Port\xa1x" * 2)
    for error in (*opened.damage, *exchange.rejected):
        assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)
    assert (len(opened.damage), len(exchange.rejected)) == (250, 2)


def test_a_code_stream_is_refused_unread_where_it_is_longer_than_half_of_what_may_come_out():
    """Codes cost more than any other bytes; honest ones are far fewer."""
    longest = MAX_DECOMPRESSED_PACKET // 2
    codes = lzw.compress(encode(UserMessage(b"hello")))

    def opened(length: int) -> Opened:
        return open_packet(RING.seal(compressed(codes.ljust(length, b"\0")), b"", NONCE), RING)

    assert opened(longest).messages == (UserMessage(b"hello"),)
    (error,) = opened(longest + 1).damage
    assert error.code == "too_large"


def test_what_a_stream_expands_to_is_limited_like_what_it_holds():
    """A compress layer says no more than the same reader would take uncompressed."""
    message = b"\x08\x81\xaaUserMsgLen\xcd\x10\x00" + bytes(4096)
    assert read_or_refuse(sealed(compress_message(message)), limit=len(message)) == read_or_refuse(sealed(message))
    error = read_or_refuse(sealed(compress_message(message)), limit=len(message) - 1)
    assert isinstance(error, WireError)
    assert error.code == "too_large"
