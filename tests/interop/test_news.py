"""News about members, both ways: what they announce, that they leave, that they are gone, and what they say to slander.

Where both sides are asked the same, the table is one: `asked` is a Go peer, then a node of ours.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.interop.meeting import STILL, Meeting, Peer, at, join, told, until_told
from tests.interop.ours import QUICK, RawPeer
from tests.lab import until
from wesher.wire.messages import Alive, Dead, Message, NodeState, PushNodeState, Suspect

pytestmark = pytest.mark.go

BOTH = ("go", "ours")


def test_metadata_changes_are_known_to_all_from_whichever_side(meeting: Meeting) -> None:
    gos, ours = [meeting.go("go1"), meeting.go("go2")], [meeting.ours("ours1"), meeting.ours("ours2")]
    for peer in (gos[1], *ours):
        join(peer, gos[0])
    meeting.until_all_know(*gos, *ours)

    for change in (b"first", b"", b"m" * 512):
        for go, node in zip(gos, ours, strict=True):
            go.announce(change)
            node.update_meta(change)
        meeting.until_all_know(*gos, *ours)
    until_told(gos[0], "ours1", "join", "update", "update", "update")


def test_a_leave_is_known_to_all_within_two_seconds_from_whichever_side(meeting: Meeting) -> None:
    """As a leave, not as a death: the name is free from then on. Gossip alone misses somebody now and then, by
    memberlist's design; then a full exchange tells him."""
    gos = [meeting.go(f"go{i}", push_pull_interval=0.5) for i in range(3)]
    ours = [meeting.ours(f"ours{i}") for i in range(3)]
    for peer in (*gos[1:], *ours):
        join(peer, gos[0])
    meeting.until_all_know(*gos, *ours)

    leaving = gos[2].begin("leave", "10")
    meeting.until_state([*gos[:2], *ours], "go2", NodeState.LEFT, within=2)
    assert gos[2].answer(leaving)["error"] is None
    gos[2].quit()
    ours[2].leave()
    meeting.until_state([*gos[:2], *ours[:2]], "ours2", NodeState.LEFT, within=2)
    until_told(gos[0], "ours2", "join", "leave")
    until_told(ours[0], "go2", "join", "leave")


def test_a_kill_is_known_to_all_from_whichever_side(meeting: Meeting) -> None:
    """Two at once, and it takes the word of several to bury them this soon (Lifeguard)."""
    gos = [meeting.go(f"go{i}") for i in range(4)]
    ours = [meeting.ours(f"ours{i}") for i in range(4)]
    for peer in (*gos[1:], *ours):
        join(peer, gos[0])
    meeting.until_all_know(*gos, *ours)

    meeting.peers.allow("Failed fallback ping|Push/Pull with (go3|ours3) failed")
    gos[3].kill()
    ours[3].kill()
    # Without the others' confirmations it would take 12 s from the first suspicion.
    for name in ("go3", "ours3"):
        meeting.until_state([*gos[:3], *ours[:3]], name, NodeState.DEAD, within=20)
        news = [one for node in ours for one in (*node.said(Suspect), *node.heard(Suspect))]
        assert len({one.accuser for one in news if one.node == name}) > 1
    meeting.until_all_know(*gos[:3], *ours[:3])


@pytest.mark.parametrize("asked", BOTH)
def test_only_other_accusers_shorten_a_suspicion(meeting: Meeting, asked: str) -> None:
    """Three say it of one, and one says it three times of the other; both answer pings, and neither refutes."""
    peer = meeting.either(asked, "peer")
    raws = {name: meeting.raw(name) for name in ("a", "b", "c", "agreed", "alleged")}
    meeting.peers.allow("Failed fallback ping")  # who answers late is asked by TCP too, which a raw peer does not speak
    for raw in raws.values():
        raw.exchange(at(peer), raw.entry(incarnation=5))
    meeting.until_they_know([peer], {"peer", *raws})

    for accuser in ("a", "b", "c"):
        raws["a"].tell(at(peer), Suspect(5, "agreed", accuser), Suspect(5, "alleged", "a"))
    meeting.until_state([peer], "agreed", NodeState.DEAD)
    assert NodeState.SUSPECT is meeting.state(peer, "alleged")


# --- slander

SLANDER = {
    "suspect": lambda name, _: (Suspect(7, name, "raw"), 8),
    "dead": lambda name, _: (Dead(100, name, "raw"), 101),
    "left": lambda name, _: (Dead(200, name, name), 201),
    "another's metadata": lambda _, now: (replace(now, meta=b"not mine"), now.incarnation + 1),
    "another's metadata, later": lambda _, now: (replace(now, meta=b"not mine", incarnation=300), 301),
}
"""What is said about a member to itself, and the incarnation with which it refutes; `now`: what it announces."""


@pytest.mark.parametrize("asked", BOTH)
def test_slander_is_refuted_with_the_next_incarnation(meeting: Meeting, asked: str) -> None:
    """Each time a witness from the other side comes to believe the refutation, by gossip alone."""
    peer, witness = _pair(meeting, asked)
    raw = meeting.raw("raw")
    raw.exchange(at(peer), raw.entry())
    meeting.until_state([witness], "raw", NodeState.ALIVE)
    meeting.peers.allow("Refuting")  # that Go refutes is what is asked of it

    for slander in SLANDER.values():
        now = _entry(meeting, peer, peer.name)
        message, refuted = slander(peer.name, Alive(now.incarnation, now.name, now.addr, now.port, now.meta))
        raw.tell(at(peer), message)
        _until_incarnation(meeting, peer, peer.name, refuted)
        _until_incarnation(meeting, witness, peer.name, refuted)
        assert now.meta == _entry(meeting, witness, peer.name).meta
        until(lambda: refuted in {news.incarnation for news in raw.got(Alive)}, 5, "the slanderer hears it")  # noqa: B023


@pytest.mark.parametrize("asked", BOTH)
def test_slander_in_a_full_exchange_is_refuted_too(meeting: Meeting, asked: str) -> None:
    peer, witness = _pair(meeting, asked)
    raw = meeting.raw("raw")
    meeting.peers.allow("Refuting")
    for incarnation, state in ((400, NodeState.SUSPECT), (500, NodeState.DEAD), (600, NodeState.LEFT)):
        own = _entry(meeting, peer, peer.name)
        raw.exchange(at(peer), replace(own, incarnation=incarnation, state=state))
        _until_incarnation(meeting, witness, peer.name, incarnation + 1)


# --- about a third


@pytest.mark.parametrize("asked", BOTH)
def test_what_counts_of_news_about_a_third(meeting: Meeting, asked: str) -> None:
    """Rows 9 to 12 of the reference. Conflict is the word for a name at two addresses: the first one keeps it."""
    peer = meeting.either(asked, "peer")
    third, elsewhere = meeting.raw("third"), meeting.place()
    tell = _Teller(meeting, third, peer)
    meeting.peers.allow("Conflicting address for third")
    home = third.at.ip.packed

    assert (5, b"") == tell(third.alive(5), "join")
    assert (6, b"new") == tell(third.alive(6, b"new"), "update")
    assert (6, b"new") == tell(third.alive(6, b"older"), None)
    assert (6, b"new") == tell(third.alive(7, addr=bytes(10) + b"\xff\xff" + home), "conflict")  # the same, 16 bytes
    assert (6, b"new") == tell(third.alive(7, port=elsewhere.port + 1), "conflict")
    assert (7, b"new") == tell(Dead(7, "third", "somebody"), "leave")
    assert (7, b"new") == tell(third.alive(7, b"new"), None)
    moved = third.alive(9, port=elsewhere.port + 1)
    assert (7, b"new") == tell(
        moved, "conflict" if asked == "go" else None
    )  # dead is not gone; we look, and it is there
    assert (10, b"back") == tell(third.alive(10, b"back"), "join")
    assert (10, b"back") == tell(Dead(10, "third", "third"), "leave")
    meeting.raw("third", elsewhere)
    third.acks = False  # we see whether the old address is vacant; Go does not look
    assert (3, b"moved") == tell(third.alive(3, b"moved", addr=elsewhere.ip.packed), "join")  # whatever incarnation


class _Teller:
    """Tells a peer news about a member, and says what the peer then holds of it: incarnation and metadata."""

    def __init__(self, meeting: Meeting, raw: RawPeer, peer: Peer) -> None:
        self._meeting = meeting
        self._raw = raw
        self._peer = peer
        self._told: list[str] = []

    def __call__(self, news: Message, told_of: str | None) -> tuple[int, bytes]:
        """`told_of` is what the peer is to tell its application, None for nothing."""
        self._raw.tell(at(self._peer), news)
        if told_of is not None:
            self._told.append(told_of)
            until(lambda: told(self._peer, "third") == self._told, 10, f"{self._peer.name} tells of {told_of}")
        entry = _entry(self._meeting, self._peer, "third")
        return entry.incarnation, entry.meta


def _pair(meeting: Meeting, asked: str) -> tuple[Peer, Peer]:
    """One to ask, and a witness from the other side; both begin far down."""
    go, ours = meeting.go("go", **STILL), meeting.ours("ours", incarnation=2, config=replace(QUICK, **STILL))
    join(go, ours)
    meeting.until_all_know(go, ours)
    return (go, ours) if asked == "go" else (ours, go)


def _entry(meeting: Meeting, peer: Peer, name: str) -> PushNodeState:
    return meeting.view(peer)[name]


def _until_incarnation(meeting: Meeting, peer: Peer, name: str, incarnation: int) -> None:
    what = f"{peer.name} holds {name} at incarnation {incarnation}"
    until(lambda: _entry(meeting, peer, name).incarnation == incarnation, 10, what)
