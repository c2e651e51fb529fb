"""Our daemon at home among Go nodes: five machines run wesher, five a Go peer with the Go wesher's settings, and the
cluster is whole again whatever happens to one of them. No Go node has a word to say against us.

The tests share one cluster, which each leaves as whole as it found it; Go peers keep WAN timings throughout, so what
happens in less than half a minute on a Go node happens at our pace.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.conftest import LABS
from tests.e2e.mesh import move
from tests.e2e.split import Split, start_agent, start_split
from tests.interop.conftest import PEERS
from tests.interop.go import GoPeers
from tests.interop.mixed import MixedCluster, device, states
from tests.lab import Lab, until

pytestmark = [pytest.mark.root, pytest.mark.go]

WHOLE_WITHIN = 10
"""Seconds after which a change must be right everywhere, Go nodes at WAN pace included."""

PYTHON, GO = (1, 3, 5, 7, 9), (2, 4, 6, 8, 10)
WIDE = (1, 2, 5, 6, 10)
"""Machines that announce 16 bytes, as they do without --bind-addr on a private network."""
SPLIT = 9
"""The machine with the split layout."""


class Shared:
    """The cluster of this module: made at first use, and anew when a test has left it broken."""

    def __init__(self) -> None:
        self._cluster: MixedCluster | None = None

    def whole(self) -> MixedCluster:
        """A cluster of ten that know each other."""
        if self._cluster is not None:
            try:
                self._cluster.await_whole(WHOLE_WITHIN, "the cluster is whole")
            except AssertionError:
                self.close()
        if self._cluster is None:
            self._cluster = MixedCluster(Lab(10).__enter__(), GoPeers())
            start_all(self._cluster)
        return self._cluster

    def close(self) -> None:
        """Everything ends."""
        if self._cluster is not None:
            self._cluster.go_peers.close()
            self._cluster.lab.close()
            self._cluster = None


def start_all(cluster: MixedCluster) -> None:
    """Each machine joins through the one before it, which is of the other kind: joins both ways, time and again."""
    before = None
    for number, node in enumerate(cluster.lab.nodes, start=1):
        if number in GO:
            cluster.start_go(node, before, wide=number in WIDE)
        elif number == SPLIT:
            cluster.start_python(node, before, wide=number in WIDE, begin=start_split)
        else:
            cluster.start_python(node, before, wide=number in WIDE)
        before = node
    cluster.await_whole(20, "five Python and five Go nodes are one cluster")


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    made = Shared()
    yield made
    made.close()


@pytest.fixture
def cluster(shared: Shared, request: pytest.FixtureRequest) -> Iterator[MixedCluster]:
    """Whole before the test; afterwards no Go node may have complained."""
    found = shared.whole()
    request.node.stash[LABS], request.node.stash[PEERS] = [found.lab], [found.go_peers]
    yield found
    found.go_peers.check()


def wide(number: int) -> bool:
    return number in WIDE


# --- together


def test_five_python_and_five_go_nodes_are_one_cluster(cluster: MixedCluster) -> None:
    """Nine right peers at each Python node, ten members at each Go node whose metadata Go's gob can read."""
    cluster.assert_whole()
    assert (len(cluster.python), len(cluster.go)) == (5, 5)
    for node in cluster.python:
        assert set(states(node).values()) == {"alive"}
    forms = {len(bytes.fromhex(member["bytes"])) for member in cluster.go[0].members().values()}
    assert forms == {4, 16}  # both forms of announced addresses live side by side


def test_go_0_2_6_reads_our_metadata_as_soon_as_it_is_there(make_lab: Callable[[int], Lab], peers: GoPeers) -> None:
    """We begin with the form of 0.3, which 0.2.6 cannot read, and change to its form for its sake."""
    cluster = MixedCluster(make_lab(2), peers, shape="v026")
    ours, theirs = cluster.lab.nodes
    cluster.start_python(ours, None)
    cluster.start_go(theirs, ours)

    cluster.await_whole(WHOLE_WITHIN, "ours and 0.2.6's")


# --- restarts


KINDS = pytest.mark.parametrize(
    ("number", "forget"), [(4, False), (3, False), (5, True)], ids=["go", "python", "python-without-its-state-file"]
)


def come_back(cluster: MixedCluster, number: int, forget: bool) -> None:
    """What ran there runs again with a new key, and soon everybody knows that one and not the old."""
    node = cluster.lab.nodes[number - 1]
    if number in GO:
        cluster.start_go(node, cluster.other(node), wide=wide(number), again=True)
    else:
        join = cluster.other(node) if forget else None  # else it finds the others by its state file alone
        cluster.start_python(node, join, wide=wide(number), forget=forget)
    cluster.await_whole(WHOLE_WITHIN, f"{node.name} is back with a new key")


@KINDS
def test_a_node_killed_and_started_at_once_has_its_new_key_everywhere(
    cluster: MixedCluster, number: int, forget: bool
) -> None:
    cluster.kill(cluster.lab.nodes[number - 1])
    come_back(cluster, number, forget)


@KINDS
def test_a_killed_node_is_known_dead_everywhere_at_our_pace_and_may_come_back(
    cluster: MixedCluster, number: int, forget: bool
) -> None:
    """Within 10 s, on Go nodes too, whose own timings would take them at least 35 s."""
    node = cluster.lab.nodes[number - 1]
    marks, start = cluster.mark_all(), time.monotonic()
    cluster.kill(node)

    cluster.await_dead([node.name], start, marks, 10)

    come_back(cluster, number, forget)


@KINDS
def test_a_node_that_left_is_gone_everywhere_and_may_come_back(
    cluster: MixedCluster, number: int, forget: bool
) -> None:
    cluster.leave(cluster.lab.nodes[number - 1])
    cluster.await_whole(WHOLE_WITHIN, "the other nine without it")

    come_back(cluster, number, forget)


def test_an_agent_restarted_in_the_split_layout_costs_no_tunnel(cluster: MixedCluster) -> None:
    """The helper keeps key and peers; the others, Go nodes too, hear of no leave and of no other key."""
    node = cluster.lab.nodes[SPLIT - 1]
    split = cluster.running[node.name]
    assert isinstance(split, Split)
    before, marks = device(node), cluster.mark_all()

    for number in (signal.SIGKILL, signal.SIGTERM):
        split.agent.signal(number)
        split.agent.wait(10)
        assert device(node) == before
        split.agent = start_agent(node, "--bind-addr", node.address)
        until(lambda: set(states(node).values()) == {"alive"}, 10, f"the new agent has all nine after {number}")
        assert device(node) == before

    cluster.await_whole(WHOLE_WITHIN, "as before")
    for peer in cluster.go:
        assert not peer.seen("leave", since=marks[peer.name], name=node.name)
        for event in peer.seen("update", since=marks[peer.name], name=node.name):
            assert event["read"]["master"]["key"] == before.public_key


# --- another address


def test_an_address_that_changes_under_a_running_node_is_followed_by_go_nodes_too(cluster: MixedCluster) -> None:
    """There and back, with the key it has: they hear a leave and then an announcement, and no conflict."""
    node, key = cluster.lab.nodes[4], device(cluster.lab.nodes[4]).public_key
    marks = cluster.mark_all()
    for address in ("192.168.77.55", node.address):
        cluster.lose_touch(node)
        move(node, address)
        cluster.await_whole(WHOLE_WITHIN, f"{node.name} is at {address}")
    assert device(node).public_key == key
    assert not [event for peer in cluster.go for event in peer.seen("conflict", since=marks[peer.name])]


# --- cuts


def test_a_half_of_go_nodes_and_a_half_of_ours_find_each_other_again(
    make_lab: Callable[[int], Lab], peers: GoPeers
) -> None:
    """Each holds the other for dead; Go nodes look for nobody, but are found, and told of the rest."""
    cluster = MixedCluster(make_lab(4), peers)
    ours, theirs = cluster.lab.nodes[:2], cluster.lab.nodes[2:]
    quick = {"probe_interval": 0.5, "probe_timeout": 0.2, "suspicion_mult": 3, "gossip_to_the_dead": 1.0}
    cluster.start_python(ours[0], None)
    cluster.start_python(ours[1], ours[0])
    for node in theirs:
        cluster.start_go(node, ours[0], **quick)
    cluster.await_whole(WHOLE_WITHIN, "two of each kind")
    for node in ours:
        cluster.lose_touch(node)
    names = {node.name for node in theirs}

    cluster.lab.partition(ours, theirs)
    until(lambda: all(peer.members().keys() == names for peer in cluster.go), 60, "the Go half has buried ours")
    for node in ours:
        until(lambda n=node: all(states(n)[name] == "failed" for name in names), 30, f"{node.name} has buried it")
    cluster.lab.heal()

    cluster.await_whole(30, "two of each kind again")


# --- taking over


@pytest.mark.parametrize("number", [8, 10], ids=["4-bytes", "16-bytes"])
@pytest.mark.parametrize("end", ["leave", "kill"])
def test_a_go_nodes_machine_is_taken_over_by_us_and_given_back(cluster: MixedCluster, number: int, end: str) -> None:
    """Same name, same options, hence the same announced bytes: nobody sees a conflict, whichever way the other went."""
    node = cluster.lab.nodes[number - 1]
    stop = {"leave": cluster.leave, "kill": cluster.kill}[end]
    marks = cluster.mark_all()

    stop(node)
    cluster.start_python(node, cluster.other(node), wide=wide(number), forget=True)
    cluster.await_whole(WHOLE_WITHIN, f"{node.name} is ours")

    stop(node)
    cluster.start_go(node, cluster.other(node), wide=wide(number), again=True)
    cluster.await_whole(WHOLE_WITHIN, f"{node.name} is Go's again")

    assert not [event for peer in cluster.go for event in peer.seen("conflict", since=marks.get(peer.name, 0))]


def test_a_go_node_that_left_is_taken_over_in_the_other_form_too(cluster: MixedCluster) -> None:
    """4 and 16 bytes are different addresses to Go, which lets go of one only after a leave."""
    node = cluster.lab.nodes[7]
    cluster.leave(node)
    cluster.start_python(node, cluster.other(node), wide=True, forget=True)
    cluster.await_whole(WHOLE_WITHIN, f"{node.name} is ours, in 16 bytes")

    cluster.leave(node)
    cluster.start_go(node, cluster.other(node), again=True)
    cluster.await_whole(WHOLE_WITHIN, f"{node.name} is Go's again, in 4")
