"""Where we depart from memberlist, a Go node lives well with it: each departure that no other test here shows.

ARCHITECTURE.md has the list, with the reason and the test of each.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.interop.meeting import Meeting, at, join, live, told, until_told
from tests.interop.ours import QUICK
from tests.lab import until
from wesher.swim.config import SwimConfig
from wesher.swim.event import Ahead
from wesher.swim.io import Endpoint
from wesher.swim.members import CLOCK_HEADROOM
from wesher.wire.messages import Ack, Alive, Dead, IndirectPing, NodeState, Ping, Suspect

pytestmark = pytest.mark.go


def test_who_comes_back_below_what_we_remember_is_told_and_outbids_it(meeting: Meeting) -> None:
    """A Go node restarts by one that does not know it. We believe nothing lower, so we say what we hold against it."""
    ours, go, place = meeting.ours("ours"), meeting.go("go"), meeting.place()
    former = meeting.raw("x", place)
    former.exchange(at(ours), former.entry(incarnation=50, meta=b"former"))
    former.tell(at(ours), Dead(50, "x", "x"))
    former.close()
    meeting.until_state([ours], "x", NodeState.LEFT)

    meeting.peers.expect("Refuting a dead message \\(from: x\\)")
    again = meeting.go("x", place, push_pull_interval=600.0)
    join(again, go)
    until(lambda: {"go", "x"} <= live(meeting.view(go)).keys(), 10, "go, which knows no former x, takes this one")
    join(go, ours)
    meeting.until_all_know(ours, go, again)
    assert meeting.view(ours)["x"].incarnation > 50


def test_a_forged_leave_gives_no_name_away(meeting: Meeting) -> None:
    """Our probe of the old address carries the leave; the Go node that lives there refutes it at once."""
    ours, go, thief = meeting.ours("ours"), meeting.go("go"), meeting.raw("thief")
    join(go, ours)
    meeting.until_all_know(ours, go)
    meeting.peers.expect("Refuting a dead message \\(from: go\\)")
    incarnation = meeting.view(ours)["go"].incarnation

    thief.tell(at(ours), Dead(incarnation, "go", "go"), replace(thief.alive(incarnation + 5), node="go"))
    until(lambda: "leave" in ours.told("go"), 5, "the leave is believed for now")
    until(lambda: meeting.view(ours)["go"].incarnation > incarnation, 5, "it is refuted")
    meeting.until_all_know(ours, go)
    assert at(go) == ours.members()["go"].endpoint


def test_a_leave_without_an_accuser_is_a_leave(meeting: Meeting) -> None:
    """So leaves memberlist before 0.1.6. Here it is one; for Go it is a death, and both agree that it is gone."""
    ours, go, old = meeting.ours("ours"), meeting.go("go"), meeting.raw("old")
    join(go, ours)
    old.exchange(at(ours), old.entry())
    meeting.until_state([ours, go], "old", NodeState.ALIVE)
    old.tell(at(ours), Dead(1, "old", ""))
    meeting.until_state([ours], "old", NodeState.LEFT)
    meeting.until_state([go], "old", NodeState.DEAD)
    for peer in (go, ours):
        until_told(peer, "old", "join", "leave")


@pytest.mark.parametrize("first", [0xFFFF_FFFD, 0x8000_0000])
def test_ping_numbers_begin_anywhere_and_wrap(meeting: Meeting, first: int) -> None:
    """memberlist counts from 1; its acks and nacks come back with ours all the same, around the end of 32 bits too."""
    raw, go, relay = meeting.raw("raw"), meeting.go("go"), meeting.go("relay")
    join(relay, go)
    raw.exchange(at(relay), raw.entry())
    numbers = [(first + step) & 0xFFFF_FFFF for step in range(6)]
    for number in numbers[::2]:
        raw.tell(at(go), Ping(number, "go", raw.at.ip.packed, raw.at.port, "raw"))
    for number in numbers[1::2]:
        place = at(go)
        request = IndirectPing(number, place.ip.packed, place.port, "go", True, raw.at.ip.packed, raw.at.port, "raw")
        raw.tell(at(relay), request)
    until(lambda: set(numbers) <= {ack.seq_no for ack in raw.got(Ack)}, 5, "all are acked")


MESH = replace(SwimConfig.mesh(), probe_interval=0.2, push_pull_interval=1.0, suspicion_mult=15)
"""The profile with shorter intervals, and no shorter suspicion."""


def test_our_own_timings_in_a_go_cluster(meeting: Meeting) -> None:
    """Profile `mesh`: probes overlap, none is skipped, the first full exchange comes early; Go answers all of it."""
    gos = [meeting.go(f"go{number}") for number in range(3)]
    ours = meeting.ours("ours", config=MESH)
    silent = meeting.raw("silent", acks=False)
    for go in gos:
        join(go, ours)
    meeting.peers.allow("Failed fallback ping|other probes failed|Push/Pull with silent failed")
    for peer in (ours, *gos):  # each: whom gossip of the newcomer has missed ignores that it is dead
        silent.exchange(at(peer), silent.entry())

    def unanswered(go_at: Endpoint) -> set[int]:
        return {ping.seq_no for ping in ours.said(Ping, go_at)} - {ack.seq_no for ack in ours.heard(Ack, go_at)}

    for go in gos:
        until(lambda: len(ours.said(Ping, at(go))) >= 8, 20, f"we pinged {go.name} eight times")  # noqa: B023
        until(lambda: len(unanswered(at(go))) <= 1, 5, f"{go.name} acked all but perhaps the last")  # noqa: B023
    meeting.until_state([ours, *gos], "silent", NodeState.DEAD, within=20)
    assert all("leave" not in told(peer, go.name) for peer in (ours, *gos) for go in gos)


def test_joining_many_at_once(meeting: Meeting) -> None:
    """memberlist asks one contact after the other."""
    gos = [meeting.go(f"go{number}", push_pull_interval=1.0) for number in range(5)]
    ours = meeting.ours("ours")
    ours.begin_join(*(at(go) for go in gos))
    until(lambda: len(ours.exchanges) == 5, 10, "all have answered")
    assert [""] * 5 == [event.failure for event in ours.exchanges]
    meeting.until_all_know(*gos, ours)


def test_an_incarnation_that_no_clock_explains_is_not_believed(meeting: Meeting) -> None:
    """Slander drives a Go node up there, and it has no way back. We go on with what we knew, and it stays a member."""
    ours, go, driven = meeting.ours("ours"), meeting.go("go"), meeting.go("driven")
    join(go, ours)
    join(driven, ours)
    meeting.until_all_know(ours, go, driven)
    known = meeting.view(ours)["driven"]
    meeting.peers.allow("Refuting")
    beyond = ours.members()["ours"].incarnation + 2 * CLOCK_HEADROOM
    meeting.raw("slanderer").tell(at(driven), Suspect(beyond, "driven", "slanderer"))
    until(lambda: meeting.view(go)["driven"].incarnation == beyond + 1, 5, "Go believes it")
    until(lambda: Ahead("driven") in ours.events, 5, "we hear of it")
    assert known.incarnation == meeting.view(ours)["driven"].incarnation
    until(lambda: len(ours.heard(Ack, at(driven))) > 1, 10, "it goes on answering us")
    assert {"ours", "go", "driven"} == ours.live() == set(go.members()) == set(driven.members())


def test_news_about_the_forgotten_goes_no_further(meeting: Meeting) -> None:
    """A member that is forgotten is gone from our news too; memberlist would still pass them on."""
    ours = meeting.ours("ours", config=replace(QUICK, gossip_to_the_dead=0.5))
    go, x = meeting.go("go", gossip_to_the_dead=0.5), meeting.go("x")
    for peer in (go, x):
        join(peer, ours)
    meeting.until_all_know(ours, go, x)
    meeting.peers.allow("Failed fallback ping|Push/Pull with x failed")
    x.kill()
    meeting.until_they_know([ours, go], {"ours", "go"}, within=30)
    until(lambda: "x" not in ours.node._outbox.broadcasts, 5, "nothing about it waits to be told")
    said = len(about(meeting, "x"))
    later = meeting.go("later")
    join(later, ours)
    meeting.until_all_know(ours, go, later)
    assert said == len(about(meeting, "x"))
    assert [] == told(later, "x")


def about(meeting: Meeting, name: str) -> list[Alive | Suspect | Dead]:
    """What the first of ours has said about a member."""
    kinds: tuple[type[Alive] | type[Suspect] | type[Dead], ...] = (Alive, Suspect, Dead)
    return [news for kind in kinds for news in meeting.nodes[0].said(kind) if news.node == name]
