"""A machine whose clock is wrong by days until it is set: one that was off, without a clock of its own, goes on from
where it was."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.cluster import Cluster
from tests.sim.machine import Machine
from tests.sim.scenarios import start_mesh
from tests.sim.world import virtual_world

WHOLE = 120.0
"""Seconds in which a mesh is whole again; tests/sim/scenarios.py has the bounds, piece by piece."""

DAY = 86_400


def problems(cluster: Cluster, machine: Machine) -> list[str]:
    """What `wesher status` of the machine says is wrong."""
    told: list[Any] = []

    async def ask() -> None:
        assert machine.agent is not None
        told.append(await machine.agent.served.status())

    assert machine.life is not None
    machine.life.loop.create_task(ask())
    machine.life.loop.wake()
    cluster.until(lambda: bool(told), within=10, what="an answer")
    found = told[0]["problems"]
    assert isinstance(found, list)
    return found


def started_with_its_clock_off(cluster: Cluster, seconds: int) -> list[Machine]:
    """A mesh of three, the last of which was off, and has run for a while since with its clock so far ahead."""
    machines = start_mesh(cluster, 3)
    machines[2].crash()
    machines[2].step_clock(seconds)
    cluster.run(5)
    machines[2].start(machines[0])
    cluster.run(100)
    return machines


@pytest.mark.parametrize("days", [2, 30])
def test_a_clock_that_is_days_behind_is_named_and_when_it_is_set_all_is_well(days: int) -> None:
    """The members answer, and none is believed: that they did not answer would send an operator to the firewall."""
    with virtual_world():
        cluster = Cluster("a clock behind")
        machines = started_with_its_clock_off(cluster, -days * DAY)
        behind = machines[2]
        (problem,) = problems(cluster, behind)
        assert problem.startswith("not believed: ")
        assert problem.endswith(", more than a day ahead of this node's clock; set it, or theirs")
        assert problems(cluster, machines[0]) == []

        behind.step_clock(days * DAY)
        cluster.converge(machines, within=WHOLE)
        cluster.run(60)
        assert problems(cluster, behind) == []
        cluster.end()


@pytest.mark.parametrize("hours", [23, 30, 47, 7200])
def test_a_clock_that_was_ahead_and_is_put_right_makes_nobody_invisible(hours: int) -> None:
    """It began by its clock where the others' do not reach; as long as it stays there, they hear nothing of it."""
    with virtual_world():
        cluster = Cluster("a clock ahead")
        machines = started_with_its_clock_off(cluster, hours * 3600)
        machines[2].step_clock(-hours * 3600)
        cluster.converge(machines, within=WHOLE)
        cluster.end()
