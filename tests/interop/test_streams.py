"""One request and at most one answer: full exchanges in every form, pings, and an application's own messages.

What goes wrong in an exchange, and what it costs, is where we depart from Go: an entry that is bad costs itself.
"""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest

from tests.interop import old_encryption
from tests.interop.meeting import Meeting, at, join, told, until_told
from tests.interop.ours import OurNode, RawPeer
from tests.lab import until
from wesher.wire.codec import encode, encode_stream_user
from wesher.wire.compression import compress_message
from wesher.wire.messages import (
    Ack,
    Alive,
    ErrorReply,
    MessageType,
    NodeState,
    Ping,
    PushPull,
    UserMessage,
)
from wesher.wire.stream import seal_stream

pytestmark = pytest.mark.go

BOTH = ("go", "ours")


# --- row 1: forms of an exchange


def backwards(raw: RawPeer) -> bytes:
    """A push/pull with every map's keys in reverse, and the count in the form of newer Go encoders."""
    entry = {"Vsn": bytes([1, 5, 2, 0, 0, 0]), "State": 0, "Port": raw.at.port, "Name": raw.name}
    entry |= {"Meta": b"", "Incarnation": 1, "Addr": raw.at.ip.packed}
    header = {"UserStateLen": 0, "Join": True}
    count = msgpack.packb("Nodes") + b"\xd1\x00\x01"  # an int16, as they write 128 and more
    maps = bytes([0x83]) + count + msgpack.packb(header)[1:] + msgpack.packb(entry, use_bin_type=False)
    return bytes([MessageType.PUSH_PULL]) + maps


FORMS = {
    "plain": lambda raw: seal(raw, encode(PushPull(True, (raw.entry(),)))),
    "compressed": lambda raw: seal(raw, compress_message(encode(PushPull(True, (raw.entry(),))))),
    "compressed twice as long": lambda raw: seal(raw, compress_message(backwards(raw))),
    "keys in another order": lambda raw: seal(raw, backwards(raw)),
    "old encryption": lambda raw: old_encryption.stream(encode(PushPull(True, (raw.entry(),)))),
}


def seal(raw: RawPeer, plain: bytes) -> bytes:
    """The stream as `raw` sends it."""
    return seal_stream(plain, raw.ring, b"\x05" * 12, compress=False)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("asked", BOTH)
def test_a_join_in_every_form_is_answered(meeting: Meeting, asked: str, form: str) -> None:
    """The answer comes before the merge, so the first one tells nothing of the joiner, and the second does.

    We refuse the old encryption: its version byte is not authenticated, and no wesher sends it.
    """
    peer, raw = meeting.either(asked, "peer"), meeting.raw("raw")
    first = raw.ask_raw(at(peer), FORMS[form](raw))
    if (asked, form) == ("ours", "old encryption"):
        assert isinstance(first, ErrorReply)
        assert {"peer"} == meeting.view(peer).keys()
        return

    assert isinstance(first, PushPull)
    assert (True, ["peer"]) == (first.join, [entry.name for entry in first.nodes])
    until(lambda: told(peer, "raw") == ["join"], 5, "the joiner is known")
    second = raw.ask_raw(at(peer), FORMS[form](raw))
    assert isinstance(second, PushPull)
    assert {"peer", "raw"} == {entry.name for entry in second.nodes}


# --- row 7


@pytest.mark.parametrize("asked", BOTH)
def test_a_stream_ping_is_acked_only_for_the_right_name(meeting: Meeting, asked: str) -> None:
    peer, raw = meeting.either(asked, "peer"), meeting.raw("raw")
    meeting.peers.allow("Got ping for unexpected node")
    assert Ack(7) == raw.ask(at(peer), Ping(7, "peer"))
    assert Ack(8) == raw.ask(at(peer), Ping(8, ""))
    assert raw.ask(at(peer), Ping(9, "other")) is None


# --- rows 13, 14, 16, 17: what entries do


@pytest.mark.parametrize("asked", BOTH)
def test_the_state_in_an_entry_is_taken_as_hearsay(meeting: Meeting, asked: str) -> None:
    """Alive counts; dead is only a suspicion, and about an unknown nothing; left is the leaver's own word."""
    peer = meeting.either(asked, "peer")
    raws = [meeting.raw(name) for name in ("alive", "suspect", "dead", "left")]
    raws[0].exchange(at(peer), *(raw.entry() for raw in raws))
    meeting.until_they_know([peer], {"peer", "alive", "suspect", "dead", "left"})

    raws[0].exchange(at(peer), *(raw.entry(state=state) for raw, state in zip(raws, NodeState, strict=True)))
    meeting.until_state([peer], "left", NodeState.LEFT)
    view = meeting.view(peer)
    assert NodeState.ALIVE is view["alive"].state
    assert NodeState.SUSPECT is view["suspect"].state
    assert NodeState.SUSPECT is view["dead"].state
    for state in (NodeState.SUSPECT, NodeState.DEAD, NodeState.LEFT):
        raws[0].exchange(at(peer), replace(raws[0].entry(state=state), name="unknown"))
    assert "unknown" not in meeting.view(peer)


VSNS = {  # Vsn; whether Go merges the exchange with such an entry in it, whether we take that entry
    "current version beyond ours": (bytes([1, 9, 9, 0, 0, 0]), False, False),
    "an application's own version": (bytes([1, 5, 2, 2, 5, 4]), False, False),
    "no longer our version": (bytes([3, 9, 3, 0, 0, 0]), False, False),
    "short, from before nacks": (bytes([1, 2, 2, 0, 0, 0]), True, True),
    "room for more": (bytes([1, 9, 2, 0, 0, 0]), True, True),
}


@pytest.mark.parametrize("vsn", VSNS)
@pytest.mark.parametrize("asked", BOTH)
def test_an_entry_of_another_protocol(meeting: Meeting, asked: str, vsn: str) -> None:
    """Go drops the whole exchange for it, we drop the entry: one bad member would keep all others from joining."""
    peer, raw, good = meeting.either(asked, "peer"), meeting.raw("raw"), meeting.raw("good")
    given, merged_by_go, taken_by_us = VSNS[vsn]
    if asked == "go" and not merged_by_go:
        meeting.peers.expect("Failed push/pull merge: .* is incompatible")
    raw.exchange(at(peer), raw.entry(vsn=given), good.entry(), join=True)
    if asked == "go" and not merged_by_go:
        until(lambda: any("Failed push/pull merge" in line for line in peer.log), 5, "Go says so")
    else:
        until(lambda: told(peer, "good") == ["join"], 5, "the rest is merged")
    good.exchange(at(peer), good.entry(meta=b"afterwards", incarnation=2))

    until(lambda: meeting.view(peer)["good"].meta == b"afterwards", 5, "what comes next is merged")
    assert (merged_by_go if asked == "go" else taken_by_us) is ("raw" in meeting.view(peer))
    until_told(peer, "good", "join", *(["update"] if asked == "ours" or merged_by_go else []))


def without_vsn(raw: RawPeer) -> bytes:
    """A push/pull with an entry that has no Vsn, and a good one."""
    bad = encode(PushPull(True, (raw.entry(),)))
    return bad.replace(b"\xa3Vsn\xa6\x01\x05\x02\x00\x00\x00", b"\xa3Vsn\xa0")


@pytest.mark.parametrize("asked", BOTH)
def test_an_entry_without_any_version(meeting: Meeting, asked: str) -> None:
    peer, raw, good = meeting.either(asked, "peer"), meeting.raw("raw"), meeting.raw("good")
    if asked == "go":
        meeting.peers.expect("Failed push/pull merge")
    assert isinstance(raw.ask(at(peer), without_vsn(raw)), PushPull)
    good.exchange(at(peer), good.entry())
    until(lambda: told(peer, "good") == ["join"], 5, "what comes next is merged")
    assert {"peer", "good"} == meeting.view(peer).keys()


def test_we_keep_no_announcement_without_a_version_and_pass_none_on(meeting: Meeting) -> None:
    """A Go node would keep it, and from then on no full exchange with anybody would work there (8.1, row 10)."""
    ours, go, raw = meeting.ours("ours"), meeting.go("go"), meeting.raw("raw")
    join(go, ours)
    plain = encode(raw.alive()).replace(b"\xa3Vsn\xa6\x01\x05\x02\x00\x00\x00", b"\xa3Vsn\xa0")
    raw.tell_plain(at(ours), plain)
    until(lambda: ours.counted("bad_vsn") == 1, 5, "it is dropped")
    assert {"ours", "go"} == meeting.view(ours).keys()
    assert go.join(str(ours.at)) == 1
    assert {"ours", "go"} == meeting.view(go).keys()
    assert "raw" not in {news.node for news in ours.said(Alive)}


# --- row 18


@pytest.mark.parametrize("asked", BOTH)
def test_an_applications_own_state_and_messages(meeting: Meeting, asked: str) -> None:
    """Go delivers them; we have no application, so they are read to the end and dropped, and cost nothing."""
    peer, raw = meeting.either(asked, "peer"), meeting.raw("raw")
    raw.exchange(at(peer), raw.entry(), user_state=b"\x06state", join=True)
    raw.tell(at(peer), UserMessage(b"in a packet"))
    raw.say(at(peer), encode_stream_user(UserMessage(b"over a stream")))
    until(lambda: told(peer, "raw") == ["join"], 5, "the entries before the state count")
    if isinstance(peer, OurNode):
        until(lambda: peer.counted("user message") == peer.counted("unexpected stream message") == 1, 5, "dropped")
        return
    peer.await_event("state", state=b"\x06state".hex(), join=True)
    for message in (b"in a packet", b"over a stream"):
        peer.await_event("user", message=message.hex())


def test_a_go_application_with_state_and_messages_lives_with_us(meeting: Meeting) -> None:
    go, ours = meeting.go("go", user_state=b"state".hex() * 100), meeting.ours("ours")
    join(go, ours)
    assert ours.join(at(go)) == ""
    meeting.until_all_know(go, ours)
    for command in ("send", "send-reliable"):
        assert go.ask(command, "ours", b"hello".hex())["error"] is None
    until(lambda: ours.counted("user message") == ours.counted("unexpected stream message") == 1, 5, "both came")
    assert go.join(str(ours.at)) == 1
