"""A member that leaves one address for another, and says so in messages that may be late: its tunnels stay."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from tests.sim.cluster import Cluster
from tests.sim.machine import Machine
from tests.sim.network import KEY
from tests.sim.scenarios import start_mesh
from tests.sim.world import virtual_world
from wesher.mesh.retained import ELSEWHERE_WITHIN
from wesher.swim.member import Member
from wesher.wire.codec import encode
from wesher.wire.keyring import Keyring
from wesher.wire.messages import Message
from wesher.wire.packet import seal_packet

AFTER_ALL = 5.0
"""Seconds in which the old address has been found silent, and the new one counts."""


def tell(cluster: Cluster, to: Machine, *messages: Message) -> None:
    """As the member that moves says it, or others who have heard it."""
    parts = [encode(message) for message in messages]
    nonce = cluster.rng.randbytes(12)
    cluster.underlay.send_datagram(cluster.place(), to.at, seal_packet(parts, Keyring([KEY]), nonce))


def holds_tunnel(machine: Machine, name: str) -> bool:
    """Whether it has one to the member of that name."""
    assert machine.helper is not None
    return name in {peer.name for peer in machine.helper.tunnels.in_force}


def loses_tunnel(machine: Machine, name: str) -> list[str]:
    """Whether it does not, as a checker says it."""
    return [] if holds_tunnel(machine, name) else [f"{machine.name} has lost its tunnel"]


def mesh_whose_last_is_silent(cluster: Cluster) -> tuple[list[Machine], Member]:
    """Its machines without one that is gone from its address without a word, and that one as they have it."""
    *machines, moved = start_mesh(cluster, 3)
    cluster.forged = True
    moved.crash()
    assert machines[0].node is not None
    (member,) = (member for member in machines[0].node.members() if member.name == moved.name)
    return machines, member


@pytest.mark.parametrize("late", [0.1, 0.6, ELSEWHERE_WITHIN - 0.1])
def test_a_leave_that_overtakes_the_announcement_costs_no_tunnel(late: float) -> None:
    """A packet was lost, or others were quicker to tell half of it."""
    with virtual_world():
        cluster = Cluster("a leave that overtakes")
        machines, member = mesh_whose_last_is_silent(cluster)
        for machine in machines:
            cluster.promise(partial(loses_tunnel, machine, member.name))
        leave = member.as_dead(member.name)
        elsewhere = cluster.place()
        arrival = replace(member.as_alive(), addr=elsewhere.ip.packed, incarnation=member.incarnation + 1)
        for machine in machines:
            tell(cluster, machine, leave)
        cluster.run(late)
        for machine in machines:
            tell(cluster, machine, leave, arrival)
        cluster.run(AFTER_ALL)
        for machine in machines:
            assert machine.node is not None
            assert elsewhere in {known.endpoint for known in machine.node.members()}


def test_a_leave_that_leads_nowhere_ends_the_tunnel() -> None:
    """As soon as nothing more is to be expected."""
    with virtual_world():
        cluster = Cluster("a leave")
        machines, member = mesh_whose_last_is_silent(cluster)
        tell(cluster, machines[0], member.as_dead(member.name))
        cluster.until(lambda: not holds_tunnel(machines[0], member.name), within=ELSEWHERE_WITHIN + 1, what="no tunnel")
