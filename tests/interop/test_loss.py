"""A tenth of all datagrams is lost, on both sides alike: nobody is taken for dead, and all learn of everything.

One cluster for all of it, since what is to be seen takes time.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.interop.meeting import Meeting, Peer, at, join, told
from tests.interop.ours import QUICK, OurNode
from tests.lab import until
from wesher.swim.event import Suspected
from wesher.wire.messages import Ack, NodeState, Ping

pytestmark = pytest.mark.go

LOSS = 0.1
TIMINGS = {"suspicion_mult": 6, "push_pull_interval": 2.0}


def pinged_by(ours: list[OurNode]) -> list[int]:
    """How many probes each of ours began."""
    return [len({ping.seq_no for ping in node.said(Ping)}) for node in ours]


def test_with_a_tenth_of_all_datagrams_lost(meeting: Meeting) -> None:
    """22 nodes join, change, are probed several hundred times, and leave or are killed; no false death, ever."""
    gos = [meeting.go(f"go{n}", loss=LOSS, loss_seed=n, disable_tcp_pings=True, **TIMINGS) for n in range(11)]
    ours = [meeting.ours(f"ours{n}", config=replace(QUICK, **TIMINGS)) for n in range(11)]
    for node in ours:
        node.cable.loss = LOSS / 2  # each way: what passes between two of ours is lost with LOSS too
    meeting.peers.allow("Refuting|other probes failed")
    everybody: list[Peer] = [*gos, *ours]
    for number, peer in enumerate(everybody[1:]):
        join(peer, everybody[number // 2])
    meeting.until_all_know(*everybody, within=40)

    for go, node in zip(gos, ours, strict=True):
        go.announce(f"{go.name} changed".encode())
        node.update_meta(f"{node.name} changed".encode())
    meeting.until_all_know(*everybody, within=40)

    until(lambda: min(pinged_by(ours)) >= 20, 60, "each of ours has probed twenty times")
    lost = sum(node.cable.lost for node in ours)
    acked = sum(len(node.heard(Ack)) for node in ours)
    suspected = sum(isinstance(event, Suspected) for node in ours for event in node.events)
    print(f"{lost} datagrams lost at ours, {acked} acks came, {suspected} suspicions")
    for peer in everybody:
        for other in everybody:
            assert "leave" not in told(peer, other.name), f"{peer.name} took {other.name} for dead"

    meeting.peers.allow("Failed fallback ping|Push/Pull with (go|ours)1 failed")
    gos[0].leave()
    ours[0].leave()
    gos[1].kill()
    ours[1].kill()
    rest = [*gos[2:], *ours[2:]]
    for name, state in (("go1", NodeState.DEAD), ("ours1", NodeState.DEAD)):
        meeting.until_state(rest, name, state, within=30)
    meeting.until_all_know(*rest, within=20)
    assert at(gos[2]) == ours[2].members()["go2"].endpoint
