"""Sizes: many parts in a packet, many members in an exchange, many nodes in a cluster."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import msgpack
import pytest

from tests.interop.meeting import STILL, Meeting, Peer, at, join
from tests.interop.ours import QUICK, OurNode
from tests.lab import until
from wesher.swim.event import Exchanged
from wesher.swim.io import Endpoint
from wesher.wire.codec import encode
from wesher.wire.limits import UDP_BUFFER_SIZE
from wesher.wire.messages import Ack, MessageType, NodeState, Ping, PushNodeState, PushPull, UserMessage

pytestmark = pytest.mark.go

BOTH = ("go", "ours")


def compound(parts: list[bytes]) -> bytes:
    """A compound of any number of parts, as memberlist up to 0.2.3 makes it, and we never do."""
    lengths = b"".join(len(part).to_bytes(2, "big") for part in parts)
    return bytes([MessageType.COMPOUND, len(parts)]) + lengths + b"".join(parts)


def delivered(peer: Peer) -> int:
    """User messages that arrived, and say what was sent."""
    if isinstance(peer, OurNode):
        return peer.counted("user message")
    return sum(bytes.fromhex(event["message"]).startswith(b"part ") for event in peer.seen("user"))


@pytest.mark.parametrize("parts", [127, 130, 255])
@pytest.mark.parametrize("asked", BOTH)
def test_of_more_than_127_parts_go_understands_nearly_nothing(meeting: Meeting, asked: str, parts: int) -> None:
    """Row 19: memberlist before 0.2.4 counts twice the parts in eight bits. So we never send more; we read them."""
    peer, raw = meeting.either(asked, "peer"), meeting.raw("raw")
    whole = asked == "ours" or parts <= 127
    if not whole:
        meeting.peers.expect(f"from={raw.at}")  # about whatever it took for a message
    raw.tell_plain(at(peer), compound([encode(UserMessage(b"part %03d" % number)) for number in range(parts)]))
    raw.tell(at(peer), Ping(1, "peer"))
    until(lambda: Ack(1) in raw.got(Ack), 5, "what comes next is answered")
    if whole:
        until(lambda: delivered(peer) == parts, 5, "all are delivered")
    else:
        until(lambda: sum("from=" in line for line in peer.log) > 10, 5, "Go says what it made of it")
        assert delivered(peer) < 10


# --- 128 entries and more


def crowd(size: int) -> list[PushNodeState]:
    """So many members, at addresses where nobody is."""
    return [
        PushNodeState(
            f"m{number:03}", bytes([127, 255, number >> 8, number & 255]), 7946, b"m" * 100, 1, NodeState.ALIVE
        )
        for number in range(size)
    ]


def newer_form(exchange: PushPull) -> bytes:
    """The exchange with its count as newer Go encoders write it: an int16, where older ones have a uint8 or uint16."""
    data = encode(exchange)
    count = msgpack.packb(len(exchange.nodes))
    old = b"\xa5Nodes" + count
    assert data.count(old) == 1
    return data.replace(old, b"\xa5Nodes\xd1" + len(exchange.nodes).to_bytes(2, "big"))


@pytest.mark.parametrize("size", [127, 128, 255, 300])
@pytest.mark.parametrize("form", [encode, newer_form])
@pytest.mark.parametrize("asked", BOTH)
def test_exchanges_of_more_than_127_members_in_both_forms_of_the_count(
    meeting: Meeting, asked: str, form: object, size: int
) -> None:
    peer, raw = meeting.either(asked, "peer", **STILL), meeting.raw("raw")
    answer = raw.ask(at(peer), (newer_form if form is newer_form else encode)(PushPull(True, tuple(crowd(size)))))
    assert isinstance(answer, PushPull)
    until(lambda: len(meeting.view(peer)) == size + 1, 10, "all are members")


def test_a_large_cluster_is_joined_from_either_side(meeting: Meeting) -> None:
    """Each knows 200 that the other does not; afterwards both know all, and so do who joins by them."""
    go, ours = meeting.go("go", **STILL), meeting.ours("ours", config=replace(QUICK, **STILL))
    raw = meeting.raw("raw")
    many = crowd(400)
    raw.exchange(at(go), *many[:200])
    raw.exchange(at(ours), *many[200:])
    for peer in (go, ours):
        until(lambda: len(meeting.view(peer)) == 201, 10, f"{peer.name} knows its 200")  # noqa: B023 - Go answers, then merges
    join(ours, go)
    names = {entry.name for entry in many} | {"go", "ours"}
    meeting.until_they_know([go, ours], names)
    third, fourth = meeting.go("third", **STILL), meeting.ours("fourth", config=replace(QUICK, **STILL))
    join(third, ours)
    join(fourth, go)
    for peer in (third, fourth):
        until(lambda: names < set(meeting.view(peer)), 10, f"{peer.name} knows all of them")  # noqa: B023


def test_no_packet_of_ours_is_longer_than_memberlists_budget(meeting: Meeting) -> None:
    """However much there is to say: 60 members' news to pass on, and pings and acks beside it."""
    gos, ours, raw = [meeting.go(f"go{number}") for number in range(5)], meeting.ours("ours"), meeting.raw("raw")
    for go in gos:
        join(go, ours)
    meeting.peers.allow("Failed fallback ping|other probes failed|Push/Pull with m")
    raw.exchange(at(ours), *crowd(60))

    def sent() -> list[tuple[int, Endpoint]]:
        return [(len(passed.data), passed.other) for passed in list(ours.cable.passed) if passed.sent]

    full = UDP_BUFFER_SIZE - 200
    until(lambda: any(size > full and to in map(at, gos) for size, to in sent()), 20, "a full packet goes to Go")
    until(lambda: any(len(go.members()) > 10 for go in gos), 20, "Go reads it")
    assert max(size for size, _ in sent()) <= UDP_BUFFER_SIZE


def test_a_mixed_cluster_of_more_than_32(meeting: Meeting) -> None:
    """All know all, a change and a leave reach all, and full exchanges come at twice their interval, as in Go."""
    config = replace(QUICK, push_pull_interval=2.0)
    gos = [meeting.go(f"go{number}", push_pull_interval=2.0) for number in range(16)]
    ours = [meeting.ours(f"ours{number}", config=config) for number in range(20)]
    for peer in (*gos[1:], *ours):
        join(peer, gos[0])
    meeting.until_all_know(*gos, *ours, within=30)
    full = len(ours[0].events)

    gos[7].announce(b"changed")
    ours[7].update_meta(b"changed too")
    meeting.until_all_know(*gos, *ours, within=30)
    ours[3].leave()
    gos[3].leave()
    rest = [peer for peer in (*gos, *ours) if peer not in (ours[3], gos[3])]
    meeting.until_all_know(*rest, within=30)

    def times() -> list[float]:
        return [when for when, event in ours[0].history[full:] if isinstance(event, Exchanged)]

    until(lambda: len(times()) >= 2, 30, "two full exchanges")
    assert all(later - earlier > 1.25 * config.push_pull_interval for earlier, later in pairwise(times()))
