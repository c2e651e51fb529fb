"""Debian's serf: an application on memberlist that nobody made for these tests.

With its own version in the Vsn, a node of ours lives in its cluster. With wesher's, each side refuses the other, says
so, and goes on.
"""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tests.interop.meeting import Meeting
from tests.interop.ours import KEY, OurNode
from tests.interop.serf import VSN, Serf, Serfs
from tests.lab import until
from wesher.swim.io import Endpoint
from wesher.wire.messages import NodeState, UserMessage

pytestmark = pytest.mark.serf

TAGS = b"\xff\x81\xa4role\xa6wesher"
"""Metadata as serf reads it: 255, then tags in msgpack."""


def start(serfs: Serfs, meeting: Meeting, name: str) -> Serf:
    """An agent at a place of its own."""
    place = meeting.place()
    return serfs.start(name, str(place.ip), place.port, key=KEY)


def place_of(agent: Serf) -> Endpoint:
    """Where it is."""
    return Endpoint(ip_address(agent.address), agent.port)


def status(agent: Serf, node: OurNode) -> str | None:
    """What the agent holds of a node of ours."""
    member = agent.members().get(node.name)
    return None if member is None else str(member["status"])


def hears_serf(node: OurNode, agent: Serf) -> bool:
    """Whether a message that the agent has its cluster gossip has come; it is told to some, and often enough to all."""
    agent.command("event", "greeting")
    return bool(node.heard(UserMessage))


def test_a_node_with_serfs_versions_lives_in_a_serf_cluster(meeting: Meeting, serfs: Serfs) -> None:
    """Joins both ways, metadata both ways, an agent's leave and a death of ours."""
    first, second = start(serfs, meeting, "serf1"), start(serfs, meeting, "serf2")
    assert second.join(first.endpoint)
    joins = meeting.ours("joins", vsn=VSN, meta=TAGS)
    assert "" == joins.join(place_of(first))
    joined = meeting.ours("joined", vsn=VSN, meta=TAGS)
    assert second.join(str(joined.at))

    for node in (joins, joined):
        for agent in (first, second):
            until(lambda: status(agent, node) == "alive", 10, f"{agent.name} knows {node.name}")  # noqa: B023
            assert {"role": "wesher"} == agent.members()[node.name]["tags"]
        until(lambda: {"serf1", "serf2", "joins", "joined"} == node.live(), 10, f"{node.name} knows all")  # noqa: B023
    until(lambda: hears_serf(joins, first), 10, "serf's own messages reach us; we have no use for them")
    until(lambda: joins.node.round_trips.keys() >= {"serf1", "serf2"}, 10, "they ack, with serf's payload")

    joined.update_meta(TAGS.replace(b"wesher", b"helper"))
    until(lambda: first.members()["joined"]["tags"] == {"role": "helper"}, 10, "a change is seen")
    serfs.allow("Failed fallback ping|Push/Pull with joins failed|Failed to send")
    joins.kill()
    until(lambda: status(first, joins) == "failed", 20, "our death is seen")
    second.leave()
    gone = (NodeState.LEFT, NodeState.DEAD)  # in this profile serf tells its leave twice, to whomever
    until(lambda: joined.state_of("serf2") in gone, 30, "serf's leave is seen")
    joined.leave()
    until(lambda: status(first, joined) in ("left", "failed"), 10, "our leave is seen")


def test_with_weshers_versions_both_refuse_and_nobody_is_harmed(meeting: Meeting, serfs: Serfs) -> None:
    """Whichever joins: serf says that the versions do not fit, and its cluster stays whole; so does ours."""
    first, second = start(serfs, meeting, "serf1"), start(serfs, meeting, "serf2")
    ours, other = meeting.ours("ours"), meeting.ours("other")
    assert second.join(first.endpoint)
    assert "" == ours.join(other.at)
    serfs.expect("Failed push/pull merge: .* (protocol|delegate) version .* incompatible")
    serfs.allow("error joining")

    assert not first.join(str(ours.at))
    ours.join(place_of(first))
    until(lambda: sum("push/pull merge" in line for line in first.log) >= 1, 5, "serf says why")
    until(lambda: ours.counted("protocol version") >= 2, 5, "so do we")
    assert second.join(first.endpoint)
    assert {"serf1", "serf2"} == first.members().keys() == second.members().keys()
    assert {"ours", "other"} == ours.live() == other.live()
