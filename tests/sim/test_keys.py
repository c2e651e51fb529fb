"""Cluster keys that change where chance seldom brings it together: much at once, and late in a mesh's life."""

from __future__ import annotations

from tests.sim.cluster import Cluster, Fault
from tests.sim.machine import Machine
from tests.sim.scenarios import start_mesh
from tests.sim.world import virtual_world

WHOLE = 120.0
"""Seconds in which a mesh is whole again; tests/sim/scenarios.py has the bounds, piece by piece."""


def seals_with(machine: Machine) -> bytes:
    """Its primary key."""
    assert machine.keys is not None
    return machine.keys.primary.key


def test_halves_that_each_changed_keys_twice_are_one_again() -> None:
    """Five keys are in use within one grace: who lacks the others' newest would not understand them any more."""
    with virtual_world():
        cluster = Cluster("halves change keys twice")
        machines = start_mesh(cluster, 4)
        cluster.cut(*machines[:2])
        cluster.run(40)
        for _ in range(2):
            for operator in (machines[0], machines[2]):
                operator.rotate(86_400)
            cluster.run(20)
        assert seals_with(machines[0]) == seals_with(machines[1])
        assert seals_with(machines[2]) == seals_with(machines[3])
        assert seals_with(machines[0]) != seals_with(machines[2])
        cluster.calm()
        cluster.converge(machines, within=WHOLE)
        cluster.end()


def test_who_was_cut_off_keeps_the_former_key_for_its_grace_however_long_it_ran() -> None:
    """Others may still be away that have no other key."""
    grace = 120
    with virtual_world():
        cluster = Cluster("a late change")
        machines = start_mesh(cluster, 3)
        before = seals_with(machines[0])
        cluster.cut(machines[2])
        cluster.run(2 * grace)
        machines[0].rotate(grace)
        cluster.until(lambda: all(seals_with(m) != before for m in machines[:2]), within=WHOLE, what="a key is changed")
        cluster.calm()
        cluster.until(lambda: seals_with(machines[2]) != before, within=WHOLE, what="who was cut off follows")
        cluster.run(grace / 2)
        assert machines[2].keys is not None
        if before not in machines[2].keys.ring:
            raise Fault("the former key has been dropped")
        cluster.end()
