"""A member that lies about its claim: what it can do to a node's overlay address, and how often."""

from __future__ import annotations

from functools import partial

import pytest

from privhelper.addressing import Address
from tests.sim.cluster import Cluster, Fault
from tests.sim.hostile import Attacker, colliding_name
from tests.sim.machine import Machine
from tests.sim.scenarios import start_mesh
from tests.sim.world import virtual_world
from wesher.mesh.node_meta import Claim, MetaForm, NodeMeta, encode
from wesher.swim.members import CLOCK_IS_SET
from wesher.wire.messages import Alive, Dead

KEY = b"\x05" * 31 + b"\x01"


class Liar(Attacker):
    """Answers for the members it makes up, and does nothing by itself."""

    def __init__(self, cluster: Cluster, victims: list[Machine]) -> None:
        super().__init__(cluster, victims)
        for stranger in self._strangers:
            self.underlay.settle_at(stranger)

    def claim(self, address: Address, claim: Claim | None) -> Alive:
        """Tell everybody of a member with the best right there is to `address`."""
        meta = encode(NodeMeta(address, KEY, MetaForm.V03, claim))
        fake = self._remember(self._alive(colliding_name(address), meta=meta))
        for machine in self.victims:
            self._send(machine, [fake])
        return fake

    def withdraw(self, fake: Alive) -> None:
        """It has left."""
        for machine in self.victims:
            self._send(machine, [Dead(self._fakes.pop(fake.node, fake).incarnation, fake.node, fake.node)])


def address_of(machine: Machine) -> Address:
    """The machine's own."""
    assert machine.overlay_addr is not None
    return machine.overlay_addr


def loses_the_victim(machine: Machine, victim: Machine) -> list[str]:
    """Whether `machine` has no tunnel to `victim`, or one to another key."""
    assert machine.helper is not None
    assert victim.helper is not None
    keys = {peer.name: peer.public_key for peer in machine.helper.tunnels.in_force}
    return [] if keys.get(victim.name) == victim.helper.tunnels.public_key else [f"{machine.name} has lost the victim"]


@pytest.mark.parametrize("claim", [Claim(0, CLOCK_IS_SET), Claim(255, 0), None], ids=["older", "pinned", "go"])
@pytest.mark.parametrize("proven", [True, False])
def test_a_liar_takes_no_working_tunnel_away(monkeypatch, claim, proven):
    """Who believes it is the victim, which moves; the others wait for that, where there is a tunnel to wait for."""
    if not proven:
        monkeypatch.setattr(Cluster, "_shakes", lambda *_: False)
    with virtual_world():
        cluster = Cluster(3)
        victim, *others = machines = start_mesh(cluster, 4)
        before = address_of(victim)
        for other in others:
            cluster.promise(partial(loses_the_victim, other, victim))
        Liar(cluster, machines).claim(before, claim)
        if not proven:
            with pytest.raises(Fault, match="has lost the victim"):
                cluster.run(10)
            return
        cluster.run(10)
        assert address_of(victim) != before
        for other in others:
            assert other.helper is not None
            owners = {peer.overlay_addr: peer.name for peer in other.helper.tunnels.in_force}
            assert (owners[address_of(victim)], owners[before]) == (victim.name, colliding_name(before))


def test_a_node_that_is_driven_moves_ever_more_seldom():
    """Each time it has moved, somebody else has the older claim to where it is: a dozen moves in half an hour, not
    thousands. With jitter the waits before them are at least 0.2, 0.4 … 205 s long."""
    with virtual_world():
        cluster = Cluster(1)
        victim, *_ = machines = start_mesh(cluster, 3)
        liar = Liar(cluster, machines)
        moves, fake = 0, liar.claim(address_of(victim), Claim(0, CLOCK_IS_SET))
        end = cluster.now + 1800
        while cluster.now < end:
            at = address_of(victim)
            cluster.run(1)
            if address_of(victim) != at:
                moves += 1
                liar.withdraw(fake)
                fake = liar.claim(address_of(victim), Claim(0, CLOCK_IS_SET))
        assert 8 <= moves <= 13
