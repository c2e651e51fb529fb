"""Two nodes with one name, of which the earlier is a Go node: it stays who it is, and ours is told why it is alone."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.e2e.mesh import rename, start
from tests.interop.go import GoPeers
from tests.interop.mixed import MixedCluster, status
from tests.lab import Lab, until

pytestmark = [pytest.mark.root, pytest.mark.go]


@pytest.mark.parametrize("contact", ["ours", "itself"])
def test_who_has_a_go_nodes_name_is_told_so_and_changes_nothing(
    contact: str, make_lab: Callable[[int], Lab], peers: GoPeers
) -> None:
    """Whether it joins another member or the Go node; also when it stops: its leave would be taken for the other's."""
    cluster = MixedCluster(make_lab(3), peers)
    first, theirs, later = cluster.lab.nodes
    cluster.start_python(first, None)
    go = cluster.start_go(theirs, first)
    cluster.await_whole(20, "one of ours and a Go node are one cluster")
    peers.allow(rf"Conflicting address for {theirs.name}\.")
    peers.allow(rf"Refuting an alive message for '{theirs.name}'")
    mark = go.mark()

    rename(later, theirs.name)
    daemon = start(later, "--bind-addr", later.address, "--join", (first if contact == "ours" else theirs).address)

    taken = f"not let in: the name {theirs.name} is taken, a member at {theirs.address} has it; rename this host"
    until(lambda: [problem.startswith(taken) for problem in status(later)["problems"]] == [True], 20, "it is told")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait(20) == 0
    cluster.assert_whole()
    assert not go.seen("leave", since=mark)
