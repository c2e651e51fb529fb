"""Bombs against a whole node: what it holds, what it sends, and that it goes on answering.

The bounds of one packet and one stream are wire's (tests/unit/wire/test_wire_bounds.py); here is what they come to
together, with everything that may be under way at once.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import pytest

from tests.unit.swim.alone import RING, STRANGER, alive, answers, hush, knowing, sealed, stream
from tests.unit.swim.virtual import PORT, START, endpoint
from tests.unit.wire.bombs import PACKETS, STREAMS, compound, push_pull, struct
from tests.unit.wire.cost import memory_of
from wesher.swim.event import Exchanged
from wesher.swim.exchanges import ENTRY, MAX_BUFFERED, MAX_STREAMS, MIN_STREAM
from wesher.swim.io import CloseStream, Connect, SendDatagram, StreamAccepted, StreamConnected, StreamData
from wesher.swim.node import MAX_ASKED, Node
from wesher.wire.codec import encode
from wesher.wire.compression import compress_message
from wesher.wire.limits import MAX_PUSH_PULL_NODES, VSN
from wesher.wire.messages import Ack, Dead, Ping

MIB = 1 << 20
PIECE = bytes(64 * 1024)


def longest(node: Node) -> int:
    """The longest stream the node reads, in bytes."""
    return MIN_STREAM + ENTRY * node.config.max_members


def header(size: int) -> bytes:
    """Announces a blob, and begins it."""
    return b"\x0a" + size.to_bytes(4, "big") + b"\x01"


def still_answers(node: Node) -> bool:
    """Whether a ping is acked."""
    node.receive_datagram(sealed(Ping(77, "a")), STRANGER, START)
    return (STRANGER, Ack(77)) in answers(node, Ack)


def closed(node: Node) -> set[int]:
    """The streams that the node closes."""
    return {action.stream for action in node.actions() if isinstance(action, CloseStream)}


def dribbled(node: Node, numbers: range, pieces: int) -> Iterator[int]:
    """Send pieces into streams in turn, as long as the node keeps them; what it closes."""
    for _ in range(pieces):
        for number in numbers:
            node.receive_stream(StreamData(number, PIECE), START)
            yield from closed(node)


@pytest.mark.parametrize("bomb", PACKETS)
def test_a_node_survives_every_datagram(bomb):
    """It sends a few packets for one at most, and answers the next ping."""
    node = knowing("b", "c")
    node.receive_datagram(RING.seal(PACKETS[bomb], b"", bytes(12)), STRANGER, START)
    assert len(node.actions()) <= MAX_ASKED
    assert still_answers(node)


@pytest.mark.parametrize("bomb", STREAMS)
def test_a_node_survives_every_stream(bomb):
    """The stream is answered or not, and closed; the node answers the next ping."""
    node = knowing("b", "c")
    plain = STREAMS[bomb](256 * 1024)
    head = b"\x0a" + (len(plain) + 29).to_bytes(4, "big")
    node.receive_stream(StreamAccepted(1), START)
    node.receive_stream(StreamData(1, head + RING.seal(plain, head, bytes(12))), START)
    assert closed(node) == {1}
    assert still_answers(node)


def test_the_largest_stream_of_bad_entries_costs_seven_times_its_size():
    """As wire's bound says, the node's own share included."""
    node = knowing()
    plain = STREAMS["entries that lack something"](longest(node))
    head = b"\x0a" + (len(plain) + 29).to_bytes(4, "big")
    data = head + RING.seal(plain, head, bytes(12))
    node.receive_stream(StreamAccepted(1), START)
    memory = memory_of(lambda: node.receive_stream(StreamData(1, data), START))
    print(f"{len(data)} bytes cost {memory / MIB:.1f} MiB")
    assert node.counters["bad_address"] == MAX_PUSH_PULL_NODES
    assert memory <= 7 * longest(node) + 4 * MIB


def test_half_open_streams_hold_no_more_than_their_bound():
    """Hundreds of strangers announce the longest stream there is and send most of it, and nobody's is ever whole."""
    node = knowing()
    gc.collect()
    tracemalloc.start()
    for number in range(1, 800, 2):
        node.receive_stream(StreamAccepted(number), START)
        node.receive_stream(StreamData(number, header(longest(node))), START)
    gone = closed(node)
    assert gone == set(range(1, 800 - 2 * MAX_STREAMS, 2))  # the oldest
    gone |= set(dribbled(node, range(801 - 2 * MAX_STREAMS, 800, 2), 20))
    held, peak = tracemalloc.get_traced_memory()
    print(f"{400 - len(gone)} streams left, {held / MIB:.1f} MiB held, {peak / MIB:.1f} MiB at most")
    assert peak <= 9 / 8 * MAX_BUFFERED + 4 * MIB
    assert node.counters["too much buffered"] > 50
    assert still_answers(node)
    node.handle_timer(START + node.config.stream_timeout)
    node.actions()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after <= MIB


def test_hundreds_of_streams_with_half_a_header_hold_next_to_nothing():
    """Three bytes each; no more of them than streams there may be."""
    node = knowing()

    def come() -> None:
        for number in range(1, 1000, 2):
            node.receive_stream(StreamAccepted(number), START)
            node.receive_stream(StreamData(number, b"\x0a\0\0"), START)

    assert memory_of(come) <= MIB
    assert len(closed(node)) == 500 - MAX_STREAMS
    assert still_answers(node)


def test_whom_we_dialled_cannot_fill_our_memory_either():
    """Contacts that answer with the longest stream and never end it: the fullest fails, by name."""
    node = knowing()
    node.join([endpoint(number) for number in range(2, 102)], START)
    numbers = [action.stream for action in node.actions() if isinstance(action, Connect)]
    assert len(numbers) == 100
    for number in numbers:
        node.receive_stream(StreamConnected(number), START)
        node.receive_stream(StreamData(number, header(longest(node))), START)
    node.actions()
    gone = set(dribbled(node, range(numbers[0], numbers[-1] + 1, 2), 20))
    failed = [event.failure for event in node.events() if isinstance(event, Exchanged)]
    assert len(failed) == len(gone) > 30
    assert set(failed) == {"too much is buffered"}
    assert sum(node._exchanges[number].reader.buffered for number in set(numbers) - gone) <= MAX_BUFFERED


def test_a_byte_now_and_then_does_not_keep_a_stream_open():
    """Its time is for the whole exchange, whatever still comes."""
    node = knowing()
    node.receive_stream(StreamAccepted(1), START)
    node.receive_stream(StreamData(1, header(1000)), START)
    seconds = int(node.config.stream_timeout)
    for second in range(seconds):
        node.receive_stream(StreamData(1, b"\0"), START + second)
        node.handle_timer(START + second)
        assert 1 not in closed(node)
    node.handle_timer(START + seconds)
    assert 1 in closed(node)


def test_a_push_pull_of_two_milliard_nodes_costs_nothing():
    """A count is a claim like others."""
    node = knowing()
    node.receive_stream(StreamAccepted(1), START)
    data = stream(push_pull([], count=1 << 31))
    assert memory_of(lambda: node.receive_stream(StreamData(1, data), START)) <= MIB // 2
    assert node.counters == {"too_many": 1}


@pytest.mark.parametrize("over", ["packet", "stream"])
def test_one_message_does_not_make_us_tell_a_member_a_hundred_times(over):
    """What prompts it repeats in a compress layer for next to nothing: before, 3 KB made 450 packets, a stream more."""
    node = knowing("b")
    node.receive_datagram(sealed(Dead(1, "b", "b")), endpoint(2), START)
    hush(node)
    if over == "packet":
        parts = [encode(alive("b", 2, 1, b"%d" % number)) for number in range(200)]
        plain = compress_message(compound(parts))
        node.receive_datagram(RING.seal(plain, b"", bytes(12)), endpoint(9), START)
    else:
        fields = {"Name": b"b", "Addr": endpoint(2).ip.packed, "Port": PORT, "Incarnation": 1, "State": 0, "Vsn": VSN}
        node.receive_stream(StreamAccepted(1), START)
        entries = [struct(fields | {"Meta": b"%d" % number}) for number in range(2000)]
        node.receive_stream(StreamData(1, stream(push_pull(entries))), START)
    sent = [action for action in node.actions() if isinstance(action, SendDatagram)]
    assert [action.to for action in sent] == [endpoint(2)]
    node.receive_datagram(sealed(alive("b", 2, 1, b"new")), endpoint(9), START + 1)
    assert answers(node, Dead) == [(endpoint(2), Dead(1, "b", "b"))]
