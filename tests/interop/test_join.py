"""Joining, both ways, and coming back: whoever joins by whomever, all know all, with what they announce now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.interop.go import WesherMeta
from tests.interop.meeting import STILL, Meeting, Peer, at, join, meta
from tests.interop.ours import OTHER_KEY, QUICK
from tests.lab import until
from wesher.wire.messages import Alive, NodeState

pytestmark = pytest.mark.go

BOTH = ("go", "ours")


@pytest.mark.parametrize("joiner", BOTH)
def test_each_joins_through_the_other(meeting: Meeting, joiner: str) -> None:
    go, ours = meeting.go("go"), meeting.ours("ours")
    join(*((go, ours) if joiner == "go" else (ours, go)))

    meeting.until_all_know(go, ours)
    event = go.await_event("join", name="ours")
    assert (str(ours.at.ip), ours.at.port, meta(ours)) == (event["addr"], event["port"], bytes.fromhex(event["meta"]))
    assert (at(go), meta(go)) == (ours.members()["go"].endpoint, ours.members()["go"].meta)
    assert ["join"] == ours.told("go")


def test_gossip_alone_brings_the_news_in_all_the_layers_that_go_has(meeting: Meeting) -> None:
    """No full exchange comes between; who joined is told of itself too."""
    generous = {"gossip_nodes": 10, "retransmit_mult": 20, **STILL}
    go, ours = meeting.go("go", **generous), meeting.ours("ours", config=replace(QUICK, **STILL))
    join(ours, go)
    raws = [meeting.raw(f"raw{number}") for number in range(6)]
    raws[0].exchange(at(go), *(raw.entry(meta=b"m" * 100) for raw in raws))

    meeting.until_they_know([go, ours], {"go", "ours", *(raw.name for raw in raws)})
    until(lambda: "ours" in {news.node for news in ours.heard(Alive)}, 10, "we are told of ourselves")
    layers = {"encrypt", "hasCrc", "compress", "compound"}
    until(lambda: layers <= set().union(*(raw.layers for raw in raws)), 10, "all layers have been seen")


@pytest.mark.parametrize("joiner", BOTH)
def test_with_another_key_nobody_is_joined_and_nobody_is_known(meeting: Meeting, joiner: str) -> None:
    """A key that was mistyped is found out at once, on both sides, and costs the cluster nothing."""
    go, ours = meeting.go("go"), meeting.ours("ours", key=OTHER_KEY)
    meeting.peers.expect("failed to receive:|Failed to join")
    if joiner == "go":
        assert go.join(str(ours.at)) == 0
    else:
        assert "" != ours.join(at(go))

    assert {"go"} == go.members().keys()
    assert {"ours"} == ours.live()


def test_over_ipv6_alone_both_ways(meeting: Meeting) -> None:
    go, ours = meeting.go("go", meeting.place6()), meeting.ours("ours", meeting.place6())
    join(go, ours)
    later = meeting.go("later", meeting.place6())
    join(later, ours)
    last = meeting.ours("last", meeting.place6())
    join(last, go)

    meeting.until_all_know(go, ours, later, last)
    assert 16 == len(ours.members()["go"].addr)


@pytest.mark.parametrize("through", BOTH)
@pytest.mark.parametrize(("kind", "incarnation"), [("go", None), ("ours", None), ("ours", 1)])
def test_who_restarts_replaces_its_old_key_everywhere(
    meeting: Meeting, kind: str, incarnation: int | None, through: str
) -> None:
    """A Go node begins again at the bottom, and so does one of ours whose clock is not set; others remember more."""
    go, ours = meeting.go("go"), meeting.ours("ours")
    join(go, ours)
    place = meeting.place()

    def life(number: int) -> Peer:
        if kind == "go":
            return meeting.go("again", place, meta=WesherMeta.of("again"))
        return meeting.ours("again", place, meta=f"life {number}".encode(), incarnation=incarnation)

    if kind == "go":
        meeting.peers.expect("Refuting an alive message for '{name}'")  # its own, of the life before
    contact = go if through == "go" else ours
    for number in range(3):
        peer = life(number)
        join(peer, contact)
        meeting.until_all_know(go, ours, peer)
        peer.kill()


@pytest.mark.parametrize("kind", BOTH)
def test_who_was_dead_to_all_is_back_with_its_new_key(meeting: Meeting, kind: str) -> None:
    """Remembered as dead under a higher incarnation than the one it begins with, it outbids that."""
    go, ours = meeting.go("go"), meeting.ours("ours")
    join(ours, go)
    place = meeting.place()
    peer = meeting.either(kind, "again", place)
    join(peer, go)
    meeting.until_all_know(go, ours, peer)
    meeting.peers.allow("Failed fallback ping")
    peer.kill()
    meeting.until_state([go, ours], "again", NodeState.DEAD, within=30)

    meeting.peers.allow("Refuting a (suspect|dead) message")  # its own, of the life before
    peer = meeting.either(kind, "again", place)
    join(peer, ours)
    meeting.until_all_know(go, ours, peer)


def test_after_a_partition_longer_than_memory_one_join_heals_the_cluster(meeting: Meeting) -> None:
    """The Python half and the Go half forget each other; then any member of one joins any of the other."""
    brief = {"gossip_to_the_dead": 1.0, "suspicion_mult": 2}
    gos = [meeting.go(f"go{i}", **brief) for i in range(3)]
    ours = [meeting.ours(f"ours{i}", config=replace(QUICK, **brief)) for i in range(3)]
    for peer in (*gos[1:], *ours):
        join(peer, gos[0])
    meeting.until_all_know(*gos, *ours)

    for node in ours:
        node.isolate({at(go).ip for go in gos})
    meeting.peers.allow("Failed fallback ping|Push/Pull with ours. failed|other probes failed")
    meeting.until_they_know(gos, {go.name for go in gos}, within=40)
    meeting.until_they_know(ours, {node.name for node in ours}, within=40)

    for node in ours:
        node.isolate(set())
    join(ours[1], gos[2])
    meeting.until_all_know(*gos, *ours, within=20)
