"""An operator's word that a failed member be forgotten, in a mesh with Go nodes: they mind none of it."""

from __future__ import annotations

import signal

import pytest

from tests.interop.meeting import Meeting, at, join
from tests.lab import until
from wesher.swim.event import Forgotten
from wesher.wire.messages import NodeState
from wesher.wire.words import decode_words

pytestmark = pytest.mark.go


def test_go_peers_hear_a_word_and_do_not_mind(meeting: Meeting) -> None:
    """As an application's message and state, which the Go wesher reads past. Ours obey it, who comes later too."""
    one, other, go, x = meeting.ours("a"), meeting.ours("b"), meeting.go("go"), meeting.ours("x")
    for peer in (other, go, x):
        join(peer, one)
    meeting.until_all_know(one, other, go, x)
    meeting.peers.allow("Failed fallback ping|Push/Pull with x failed")
    x.kill()
    meeting.until_state([one, other, go], "x", NodeState.DEAD, within=20)

    one.forget("x")
    until(lambda: Forgotten("x") in other.events, 10, "the other one of ours has forgotten it")
    assert one.state_of("x") is other.state_of("x") is None
    until(lambda: "user" in [event["event"] for event in list(go.events)], 5, "Go hears the word")
    heard = next(event for event in list(go.events) if event["event"] == "user")
    (word,) = decode_words(bytes.fromhex(heard["message"]))
    assert word.node == "x"

    assert go.join(str(at(other))) == 1
    go.await_event("state", state=heard["message"], join=True)
    late = meeting.ours("late")
    assert late.join(at(other)) == ""
    assert Forgotten("x") in late.events
    meeting.until_all_know(one, other, go, late)


def test_a_go_member_that_was_forgotten_alive_comes_back(meeting: Meeting) -> None:
    """It stood still and was forgotten for that; its next full exchange brings it back."""
    one, other, go = meeting.ours("a"), meeting.ours("b"), meeting.go("go")
    for peer in (other, go):
        join(peer, one)
    meeting.until_all_know(one, other, go)
    meeting.peers.allow("Refuting|Failed fallback ping|other probes failed|Push/Pull with|Was able to|Failed to send")
    go.signal(signal.SIGSTOP)
    meeting.until_state([one, other], "go", NodeState.DEAD, within=20)
    one.forget("go")
    until(lambda: one.state_of("go") is other.state_of("go") is None, 10, "both have forgotten it")
    go.signal(signal.SIGCONT)
    meeting.until_all_know(one, other, go, within=30)
