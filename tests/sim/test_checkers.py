"""Each checker finds what it is there for: a world is broken on purpose, and the run has to end with that fault."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests.contract.fakes import FakeDevice, FakeLink
from tests.sim.checkers import unsettled
from tests.sim.cluster import Cluster, Fault
from tests.sim.run import run
from tests.sim.scenarios import start_mesh, stop
from tests.sim.world import virtual_world
from wesher.runtime import peers as runtime_peers
from wesher.swim.membership import Membership


def is_found(fault: str, scenario: str, seeds: Iterable[int] = range(10)) -> bool:
    """Whether one of these runs ends with that fault."""
    return any(fault in run(scenario, seed).fault for seed in seeds)


def keep_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent asks for whatever members claim, also what another one has."""
    monkeypatch.setattr("wesher.mesh.desired._without_doubles", lambda peers, *_: (list(peers), []))


def test_a_violation_by_an_honest_agent_is_a_fault(monkeypatch):
    """Without de-duplication a hostile member makes the agent send one key, address or name twice."""
    keep_doubles(monkeypatch)
    assert is_found("an honest agent committed a violation: duplicate", "one_is_hostile")


def test_two_peers_with_one_address_are_a_fault(monkeypatch):
    """If the helper looked away too, the view would be broken."""
    keep_doubles(monkeypatch)
    monkeypatch.setattr("privhelper.monitor._check_unique", lambda peers: None)
    assert is_found("two peers in force have the", "one_is_hostile")


def test_a_route_to_nobody_is_a_fault(monkeypatch):
    """Routes that stay when their peer goes."""
    route = FakeLink.route
    monkeypatch.setattr(FakeLink, "route", lambda self, wanted: route(self, {*wanted, *self._routes}))
    assert is_found("routes to nobody in force", "one_moves")


def test_what_is_left_after_the_end_is_a_fault(monkeypatch):
    """A device that keeps its peers when it is destroyed."""
    monkeypatch.setattr(FakeDevice, "destroy", lambda self: None)
    assert is_found("something is left of what was taken down", "one_moves", range(20))


def test_a_hosts_line_that_outlives_its_peer_is_a_fault(monkeypatch):
    """The agent forgets WRITE_HOSTS once it has written some lines, and the helper to take them away and look after
    them."""
    reconcile = runtime_peers.reconcile

    def forgetful(applied, wanted, *, write_hosts):
        return reconcile(applied, wanted, write_hosts=write_hosts and len(wanted) > 2)

    monkeypatch.setattr(runtime_peers, "reconcile", forgetful)
    monkeypatch.setattr("privhelper.tunnels.Tunnels._repair_lines", lambda self: [])
    monkeypatch.setattr("privhelper.tunnels.Tunnels._take_away_all_but", lambda self, lines: None)
    with virtual_world():
        cluster = Cluster(1)
        machines = start_mesh(cluster, 4)
        stop(cluster, machines[2])
        stop(cluster, machines[3])
        with pytest.raises(Fault, match="hosts lines for nobody in force: n3"):
            cluster.run(60)


def test_a_falling_incarnation_is_a_fault(monkeypatch):
    """A refutation below what was known."""

    def refute(self, accused):
        self._announce(self.me.meta, self.me.incarnation - 1)

    monkeypatch.setattr(Membership, "_refute", refute)
    assert is_found("its own incarnation fell from", "one_is_hostile")


def test_a_life_that_begins_where_the_last_one_was_is_a_fault(monkeypatch):
    """Whoever restarts with what it saved is taken for an echo of its last life."""
    monkeypatch.setattr(
        "wesher.runtime.composition.first_incarnation",
        lambda saved, name, now: own.incarnation if (own := saved.own_for(name)) is not None else now,
    )
    assert is_found("a new life begins at", "some_crash")


def test_a_datagram_beyond_the_budget_is_a_fault(monkeypatch):
    """News is packed as if there were room."""
    monkeypatch.setattr("wesher.swim.outbox._ROOM", 5000)
    assert is_found("a datagram of", "all_crash_at_once")


def test_news_that_is_never_forgotten_is_a_fault(monkeypatch):
    """With nobody to tell, news about somebody long forgotten would stay for ever."""
    monkeypatch.setattr("wesher.swim.broadcast.BroadcastQueue.drop", lambda self, about: None)
    with virtual_world():
        cluster = Cluster(1)
        _, other = start_mesh(cluster, 2)
        stop(cluster, other)
        with pytest.raises(Fault, match="news about strangers"):
            cluster.run(120)


def test_a_timer_in_the_past_is_a_fault(monkeypatch):
    """A tick that is not moved on; the process would also never rest."""
    monkeypatch.setattr("wesher.swim.node.Node.handle_timer", lambda self, now: None)
    assert is_found("asks to be woken in the past", "start_together")


def test_an_error_that_nobody_handles_is_a_fault(monkeypatch):
    """It would be one line in the log of one machine."""

    def broken(self):
        raise KeyError("nobody handles this")

    monkeypatch.setattr("wesher.runtime.announcing.Announcing._choose", broken)
    assert is_found("an error that nobody handles", "start_together")


def test_a_restart_that_loses_tunnels_is_a_fault(monkeypatch):
    """An agent that does not take over what its helper has in force."""
    monkeypatch.setattr("wesher.mesh.retained.Retained.adopt", lambda self, peers: None)
    assert is_found("has lost the tunnels to", "agents_are_restarted")


@pytest.mark.parametrize(
    ("broken", "scenario", "problem"),
    [
        ("wesher.runtime.peers.Peers.change", "some_crash", "does not have"),
        ("wesher.swim.membership.Membership._refute", "some_are_paused", "for alive"),
        ("wesher.runtime.moving.better_right", "names_collide", "in force as it is"),
        ("wesher.mesh.remembered.Remembered.forget", "some_are_forgotten", "still remembers"),
    ],
)
def test_a_mesh_that_does_not_become_whole_is_a_fault(monkeypatch, broken, scenario, problem):
    """Sets that are not sent, accusations that are not refuted, addresses that nobody gives up, names that are kept."""
    monkeypatch.setattr(broken, lambda *args, **kwargs: None)
    assert is_found(problem, scenario, range(30))


@pytest.mark.parametrize("scenario", ["half_is_cut_off", "some_are_paused"])
def test_a_mesh_that_nothing_but_chance_brings_together_is_a_fault(monkeypatch, scenario):
    """Nobody is remembered, nobody named is looked for again, and no member exchanges everything now and then."""

    async def forget_it(self):
        pass

    monkeypatch.setattr("wesher.mesh.remembered.Remembered.observe", lambda self, members, now: None)
    monkeypatch.setattr("wesher.runtime.joining.Joining.keep", forget_it)
    monkeypatch.setattr("wesher.swim.node.Node._sync", lambda self, now: None)
    assert is_found("for alive", scenario, range(30))


def test_old_news_is_no_whole_mesh():
    """A record that is alive, and not as its owner says."""
    with virtual_world():
        cluster = Cluster(1)
        machines = start_mesh(cluster, 3)
        node = machines[0].node
        assert node is not None
        node._members.put(replace(node.me, incarnation=node.me.incarnation + 1))
        assert unsettled(machines) == ["n2: has old news of n1", "n3: has old news of n1"]


def test_a_name_that_left_leaves_nothing_behind():
    """A tunnel that is kept for who failed is none for who left."""
    with virtual_world():
        cluster = Cluster(1)
        machines = start_mesh(cluster, 3)
        machines[2].crash()
        cluster.run(20)
        assert unsettled(machines[:2]) == []
        assert unsettled(machines[:2], gone=["n3"]) == [
            "n1: still has ['n3'], who left",
            "n2: still has ['n3'], who left",
        ]
