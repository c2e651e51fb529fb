"""Who answers: pings in every form, relays in both roles, and streams where datagrams do not pass.

Where both sides are asked the same, the table is one; where ours answers otherwise, it has a column of its own.
"""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest

from tests.interop.meeting import Meeting, at, join, told
from tests.interop.ours import QUICK, OurNode, RawPeer
from tests.lab import until
from wesher.wire.messages import Ack, IndirectPing, Nack, NodeState, Ping

pytestmark = pytest.mark.go

BOTH = ("go", "ours")


PINGS = {  # what is sent; who gets Go's ack, who gets ours: the "sender", the "third", or nobody
    "for its name": (lambda number, *_: Ping(number, "peer"), "sender", "sender"),
    "for another name": (lambda number, *_: Ping(number, "other"), None, None),
    "for no name": (lambda number, *_: Ping(number, ""), "sender", "sender"),
    "with the sender as source": (lambda number, own, _: Ping(number, "peer", *source(own)), "sender", "sender"),
    "with another member as source": (lambda number, _, third: Ping(number, "peer", *source(third)), "third", "third"),
    "with a stranger as source": (
        # An ack that goes wherever somebody says is a packet sent for an attacker.
        lambda number, _, third: Ping(number, "peer", third.at.ip.packed, third.at.port, "stranger"),
        "third",
        "sender",
    ),
}


def source(peer: RawPeer) -> tuple[bytes, int, str]:
    """The source fields of a ping that is acked to `peer`."""
    return peer.at.ip.packed, peer.at.port, peer.name


@pytest.mark.parametrize("asked", BOTH)
def test_each_form_of_a_ping_is_answered_where_it_should_be(meeting: Meeting, asked: str) -> None:
    peer, sender, third = meeting.either(asked, "peer"), meeting.raw("sender"), meeting.raw("third")
    third.exchange(at(peer), third.entry())
    if asked == "go":
        meeting.peers.expect("Got ping for unexpected node")

    for number, (make, gos, ours) in enumerate(PINGS.values(), start=1000):
        sender.tell(at(peer), make(number, sender, third))
        expected = gos if asked == "go" else ours
        for who in (raw for raw in (sender, third) if raw.name == expected):
            until(lambda: Ack(number) in who.got(Ack), 5, f"{who.name} is acked")  # noqa: B023
    sender.tell_plain(at(peer), b"\x00" + msgpack.packb({"SeqNo": 2000}))  # not even the key of a name
    until(lambda: Ack(2000) in sender.got(Ack), 5, "what comes last is acked last")
    acked = {raw.name: {ack.seq_no for ack in raw.got(Ack)} for raw in (sender, third)}
    for number, (_, gos, ours) in enumerate(PINGS.values(), start=1000):
        expected = gos if asked == "go" else ours
        assert [expected] * (expected is not None) == [name for name, numbers in acked.items() if number in numbers]


@pytest.mark.parametrize("asked", BOTH)
def test_a_relay_passes_the_ack_on_and_says_if_there_was_none(meeting: Meeting, asked: str) -> None:
    """Row 6. Without `Nack` it says nothing of silence."""
    peer, sender = meeting.either(asked, "peer"), meeting.raw("sender")
    loud, silent = meeting.raw("loud"), meeting.raw("silent", acks=False)
    for raw in (sender, loud, silent):
        raw.exchange(at(peer), raw.entry())

    def indirect(number: int, target: RawPeer, nack: bool) -> IndirectPing:
        return IndirectPing(number, target.at.ip.packed, target.at.port, target.name, nack, *source(sender))

    sender.tell(at(peer), indirect(1, silent, nack=False), indirect(2, silent, nack=True), indirect(3, loud, nack=True))
    until(lambda: Ack(3) in sender.got(Ack) and Nack(2) in sender.got(Nack), 5, "both have an answer")
    assert not {1, 2} & {ack.seq_no for ack in sender.got(Ack)}
    assert not {1, 3} & {nack.seq_no for nack in sender.got(Nack)}


@pytest.mark.parametrize("asked", BOTH)
def test_we_relay_to_no_stranger(meeting: Meeting, asked: str) -> None:
    """Go sends a ping for anybody to anywhere; we ping members at the address that they announce."""
    peer, sender, stranger = meeting.either(asked, "peer"), meeting.raw("sender"), meeting.raw("stranger")
    member = meeting.raw("member")
    for raw in (sender, member):
        raw.exchange(at(peer), raw.entry())
    for number, (name, target) in enumerate((("stranger", stranger), ("member", stranger), ("member", member))):
        request = IndirectPing(number, target.at.ip.packed, target.at.port, name, True, *source(sender))
        sender.tell(at(peer), request)

    until(lambda: Ack(2) in sender.got(Ack), 5, "a member answers")
    if asked == "go":
        until(lambda: Ack(0) in sender.got(Ack), 5, "the stranger does")
    expected = {"stranger", "member"} if asked == "go" else set()
    until(
        lambda: expected == {ping.node for ping in stranger.got(Ping)}, 5, "the stranger has been asked by whom it may"
    )


def test_whom_we_cannot_reach_a_go_relay_reaches_for_us(meeting: Meeting) -> None:
    """Neither by datagram nor by stream do we reach it; it stays alive. When it is dead, the relay says so."""
    ours, relay, far = meeting.ours("ours"), meeting.go("relay"), meeting.go("far")
    join(relay, ours)
    join(far, ours)
    meeting.until_all_know(ours, relay, far)
    meeting.peers.allow("Failed fallback ping|Push/Pull with|other probes failed")
    ours.isolate({at(far).ip})

    def relayed(kind: type[Ack] | type[Nack]) -> int:
        asked = {request.seq_no for request in ours.said(IndirectPing, at(relay)) if request.node == "far"}
        return len(asked & {answer.seq_no for answer in ours.heard(kind, at(relay))})

    until(lambda: relayed(Ack) >= 2, 20, "the relay acked twice")
    assert "leave" not in ours.told("far")
    far.kill()
    until(lambda: relayed(Nack) >= 1, 10, "the relay has not heard of it either")
    meeting.until_state([ours, relay], "far", NodeState.DEAD)


def test_whom_go_cannot_reach_we_reach_for_it(meeting: Meeting) -> None:
    """The same with the roles exchanged: we are the relay between a Go node and one that it has no way to."""
    go = meeting.go("go", loss=0.0, disable_tcp_pings=True)
    relay, far = meeting.ours("relay"), meeting.ours("far")
    join(go, relay)
    join(far, relay)
    meeting.until_all_know(go, relay, far)
    assert go.ask("cut", str(far.at))["error"] is None

    def relayed(kind: type[Ack] | type[Nack]) -> int:
        asked = {request.seq_no for request in relay.heard(IndirectPing, at(go)) if request.node == "far"}
        return len(asked & {answer.seq_no for answer in relay.said(kind, at(go))})

    until(lambda: relayed(Ack) >= 2, 20, "we acked twice")
    assert "leave" not in told(go, "far")
    meeting.peers.allow("Push/Pull with far failed")
    far.kill()
    until(lambda: relayed(Nack) >= 1, 10, "we have not heard of it either")
    meeting.until_state([go, relay], "far", NodeState.DEAD)


def test_where_no_datagram_passes_streams_keep_both_alive(meeting: Meeting) -> None:
    """Go warns of that, in words that name us, and is right: UDP is broken between the two."""
    timings = {"suspicion_mult": 8, "push_pull_interval": 0.5}  # a suspicion is refuted in a full exchange
    go, ours = meeting.go("go", **timings), meeting.ours("ours", config=replace(QUICK, **timings))
    join(go, ours)
    meeting.until_all_know(go, ours)
    meeting.peers.expect("Was able to connect to ours but other probes failed, network may be misconfigured")
    ours.cable.cut = {at(go).ip}

    until(lambda: ours.counted("reached over TCP only") >= 3, 20, "we reached it three times by stream")
    until(lambda: sum("other probes failed" in line for line in go.log) >= 3, 20, "and it us")
    assert {"go", "ours"} == ours.live() == set(go.members())
    assert "leave" not in told(go, "ours") + told(ours, "go")


@pytest.mark.parametrize("asked", BOTH)
def test_nacks_that_come_too_late_cost_health(meeting: Meeting, asked: str) -> None:
    """Row 20. As with memberlist's WAN timings, a relay's nack takes longer than the probe has."""
    late = {"probe_interval": 0.5, "probe_timeout": 0.3}
    peer = meeting.either(asked, "peer", **late)
    relays = [meeting.either(kind, f"relay of {kind}", **late) for kind in BOTH]
    for relay in relays:
        join(relay, peer)
    silent = meeting.raw("silent", acks=False)
    meeting.peers.allow("Failed fallback ping|other probes failed")
    silent.exchange(at(peer), silent.entry())
    until(lambda: (peer.node.health_score if isinstance(peer, OurNode) else peer.health()) > 0, 10, "it costs health")


@pytest.mark.parametrize("asked", BOTH)
def test_many_pings_in_one_packet(meeting: Meeting, asked: str) -> None:
    """Go answers all of them, with a packet each; we answer four. Nobody sends more than one."""
    peer, raw = meeting.either(asked, "peer"), meeting.raw("raw")
    raw.tell(at(peer), *(Ping(number, "peer") for number in range(20)))
    raw.tell(at(peer), Ping(99, "peer"))
    until(lambda: Ack(99) in raw.got(Ack), 5, "the last is acked")
    numbers = {ack.seq_no for ack in raw.got(Ack)} - {99}
    assert (set(range(20)) if asked == "go" else {0, 1, 2, 3}) == numbers
