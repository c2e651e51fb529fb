"""Who has not the key, or speaks for another cluster: nobody listens, on either side, and nobody is harmed.

A table of what comes in, and what comes of it: a stream's refusal in words, or nothing.
"""

from __future__ import annotations

import os

import pytest

from tests.interop import old_encryption
from tests.interop.meeting import Meeting, at
from tests.interop.ours import OTHER_KEY, RawPeer
from tests.lab import until
from wesher.wire.codec import encode
from wesher.wire.keyring import Keyring
from wesher.wire.messages import Ack, ErrorReply, Ping, PushPull
from wesher.wire.packet import seal_packet
from wesher.wire.stream import seal_stream

pytestmark = pytest.mark.go

BOTH = ("go", "ours")
LABEL = b"\xf4\x04blue"

PING = Ping(4242, "peer")


def sealed(plain: bytes, key: bytes = OTHER_KEY, label: bytes = b"") -> bytes:
    """A packet; with a label, as memberlist since 0.3 sends it, its bytes are part of what is authenticated."""
    return label + Keyring([key]).seal(plain, label[2:], os.urandom(12))


PACKETS = {  # what is sent as a ping; who acks it
    "in clear": (lambda raw: encode(PING), ()),
    "under another key": (lambda raw: sealed(encode(PING)), ()),
    "with a label": (lambda raw: sealed(encode(PING), raw.ring.keys()[0], LABEL), ()),
    "with a label in clear": (lambda raw: LABEL + encode(PING), ()),
    "changed on the way": (lambda raw: changed(seal_packet([encode(PING)], raw.ring, os.urandom(12))), ()),
    "with a wrong CRC": (lambda raw: raw.ring.seal(b"\x0c\x00\x00\x00\x00" + encode(PING), b"", os.urandom(12)), ()),
    "cut off": (lambda raw: seal_packet([encode(PING)], raw.ring, os.urandom(12))[:20], ()),
    "nothing": (lambda raw: b"", ()),
    # Its version byte is not authenticated; we refuse it, since no wesher sends it.
    "in the old encryption": (lambda raw: old_encryption.packet(encode(PING)), ("go",)),
}


def changed(packet: bytes) -> bytes:
    """The packet with one bit of it turned."""
    return packet[:-20] + bytes([packet[-20] ^ 1]) + packet[-19:]


@pytest.mark.parametrize("asked", BOTH)
def test_who_answers_which_packet(meeting: Meeting, asked: str) -> None:
    peer, raw = meeting.either(asked, "peer"), meeting.raw("raw")
    # What a Go node writes about packets that nobody in the cluster sent.
    meeting.peers.allow("Decrypt packet failed|Got invalid checksum|UDP packet too short|Failed to decode ping")
    for sent, (make, answering) in PACKETS.items():
        raw.heard.clear()
        raw.send(at(peer), make(raw))
        raw.tell(at(peer), Ping(1, "peer"))
        until(lambda: Ack(1) in raw.got(Ack), 5, f"what comes after a packet {sent} is answered")
        assert (asked in answering) is (Ack(4242) in raw.got(Ack)), sent


STREAMS = {  # what a stream begins with; who refuses it in words
    "in clear": (lambda raw: encode(PushPull(True, (raw.entry(),))), ("go", "ours")),
    "under another key": (lambda raw: joining(raw, Keyring([OTHER_KEY])), ("go", "ours")),
    "with a label": (lambda raw: LABEL + joining(raw, raw.ring), ("go", "ours")),
    "longer than anything": (lambda raw: b"\x0a\xff\xff\xff\xff" + bytes(100), ("go", "ours")),
    "of an unknown type": (lambda raw: b"\x63" + bytes(100), ("go", "ours")),
}


def joining(raw: RawPeer, ring: Keyring) -> bytes:
    """A join's bytes under the keys of `ring`."""
    return seal_stream(encode(PushPull(True, (raw.entry(),))), ring, os.urandom(12))


@pytest.mark.parametrize("asked", BOTH)
def test_who_answers_which_stream(meeting: Meeting, asked: str) -> None:
    """The refusal is sealed, so it tells an outsider nothing; ours says the same words to all."""
    peer, raw = meeting.either(asked, "peer"), meeting.raw("raw")
    meeting.peers.allow("failed to receive")
    for begin, (make, refusing) in STREAMS.items():
        answer = raw.ask_raw(at(peer), make(raw))
        assert (asked in refusing) is isinstance(answer, ErrorReply), (begin, answer)
        if asked == "ours" and answer is not None:
            assert ErrorReply("message could not be read") == answer
    assert raw.ask(at(peer), Ping(5, "peer")) == Ack(5)
    assert {"peer"} == meeting.view(peer).keys()


def test_two_clusters_on_one_network_stay_two(meeting: Meeting) -> None:
    """Each has a Go node and one of ours; members of one are told of those of the other again and again."""
    one = [meeting.go("go1"), meeting.ours("ours1")]
    two = [meeting.go("go2", key=OTHER_KEY), meeting.ours("ours2", key=OTHER_KEY)]
    for go, ours in (one, two):
        assert ours.join(at(go)) == ""
    meeting.peers.allow("failed to receive|Decrypt packet failed|Failed to join|failed to push/pull")
    for first, second in zip(one, reversed(two), strict=True):
        assert "" != one[1].join(at(second))
        assert 1 == one[0].join(str(at(first)), str(at(second)))
    for cluster in (one, two):
        names = {peer.name for peer in cluster}
        assert names == set(cluster[0].members()) == cluster[1].live()
