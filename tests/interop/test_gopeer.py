"""The Go peer is what the other tests take it for: a Go wesher's gossip half, and a witness who does not keep quiet."""

from __future__ import annotations

import base64
from ipaddress import ip_address

import pytest

from tests.e2e.mesh import CLUSTER_KEY
from tests.interop.go import QUICK, GoPeer, GoPeers, WesherMeta, decode
from tests.interop.loopback import Loopback
from tests.lab import until
from wesher.mesh.node_meta import Claim, MetaForm, NodeMeta, encode

pytestmark = pytest.mark.go

FORMS = {"master": MetaForm.V03, "v026": MetaForm.V02}


@pytest.mark.parametrize("shape", FORMS)
def test_gos_own_gob_makes_the_metadata_we_make_byte_for_byte(peers: GoPeers, loopback: Loopback, shape: str) -> None:
    meta = WesherMeta.of("node-a", shape)
    peer = peers.start("node-a", loopback.address(), loopback.port, meta=meta)

    ours = NodeMeta(ip_address(meta.overlay), peer_key(meta), FORMS[shape], None)
    assert bytes.fromhex(peer.local()["meta"]) == encode(ours)


@pytest.mark.parametrize("shape", FORMS)
@pytest.mark.parametrize("overlay", ["10.221.153.165", "fd00::1:2"])
def test_go_reads_our_metadata_in_its_own_shape_and_refuses_it_in_the_other(shape: str, overlay: str) -> None:
    meta = WesherMeta(overlay, WesherMeta.of("x").public_key, shape)

    read = decode(encode(NodeMeta(ip_address(overlay), peer_key(meta), FORMS[shape], Claim(3, 123456))))

    prefix = {"master": "", "v026": "/32" if "." in overlay else "/128"}[shape]
    (other,) = FORMS.keys() - {shape}
    assert read[shape] == {"overlay": overlay + prefix, "key": meta.public_key}
    assert "wrong type" in read[other]["error"]


def test_two_go_peers_see_each_other_come_change_and_go(peers: GoPeers, loopback: Loopback) -> None:
    first = peers.start("a", loopback.address(), loopback.port, **QUICK)
    other = peers.start("b", loopback.address(), loopback.port, join=[first.endpoint], **QUICK)
    first.await_event("join", name="b", addr=other.address)
    until(lambda: first.members().keys() == other.members().keys() == {"a", "b"}, 5, "each has both")

    changed = WesherMeta.of("b")
    other.announce(changed)
    first.await_event("update", name="b")
    assert first.members()["b"]["read"]["master"] == changed.read

    other.leave()
    first.await_event("leave", name="b")
    until(lambda: first.members().keys() == {"a"}, 5, "b is no member")


def test_a_peer_that_complains_fails_the_test_unless_that_was_expected(loopback: Loopback) -> None:
    def meet_a_stranger(expected: list[str]) -> None:
        with GoPeers() as made:
            for pattern in expected:
                made.expect(pattern)
            peer = made.start("a", loopback.address(), loopback.port)
            stranger = GoPeer("b", loopback.address(), loopback.port, key=bytes(32))
            try:
                assert stranger.join(peer.endpoint) == 0
                until(peer.complaints, 5, "the stranger is noticed")
            finally:
                stranger.close()

    with pytest.raises(AssertionError, match=r"Go complains:\na: .*failed to receive"):
        meet_a_stranger([])
    meet_a_stranger(["failed to receive: No installed keys could decrypt the message"])
    with pytest.raises(AssertionError, match="Go never wrote what was expected: never"):
        meet_a_stranger(["failed to receive", "never"])


def test_a_peer_that_cannot_start_says_why(loopback: Loopback) -> None:
    with pytest.raises(AssertionError, match=r"memberlist keys must be 16, 24 or 32 bytes|key size"):
        GoPeer("a", loopback.address(), loopback.port, key=CLUSTER_KEY[:5])


def peer_key(meta: WesherMeta) -> bytes:
    """The raw key of metadata."""
    return base64.b64decode(meta.public_key)
