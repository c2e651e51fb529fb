"""Changing the cluster key where there are Go nodes, which cannot follow: refused as long as one may come back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.interop.go import GoPeers
from tests.interop.mixed import MixedCluster, states
from tests.lab import Lab, until

pytestmark = [pytest.mark.root, pytest.mark.go]


def test_no_key_is_changed_while_a_go_node_is_alive_or_remembered(
    make_lab: Callable[[int], Lab], peers: GoPeers
) -> None:
    """The refusal names it, also once it has left; when it is forgotten, and so replaced, the key can be changed."""
    cluster = MixedCluster(make_lab(3), peers)
    first, second, third = cluster.lab.nodes
    cluster.start_python(first, None)
    cluster.start_python(second, first)
    cluster.start_go(third, first)
    cluster.await_whole(20, "two of ours and a Go node are one cluster")
    before = first.wesher("key", "show").stdout
    refusal = (
        f"wesher: error: Go nodes cannot follow, and these are or may be some, alive or remembered: {third.name}; "
        "replace them, or where they are gone: wesher forget\n"
    )
    for dry in ([], ["--dry-run"]):
        refused = second.wesher("key", "rotate", *dry, check=False)
        assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", refusal)
    assert third.name in second.wesher("key", "list").stdout.splitlines()[-1]
    cluster.leave(third)
    until(lambda: states(first).get(third.name) != "alive", 10, "the Go node has left")
    assert second.wesher("key", "rotate", check=False).stderr == refusal
    assert first.wesher("key", "show").stdout == before

    first.wesher("forget", third.name)
    until(
        lambda: second.wesher("key", "rotate", check=False).returncode == 0, 10, "it is forgotten, and the key changed"
    )

    assert first.wesher("key", "show").stdout == second.wesher("key", "show").stdout != before
    cluster.assert_whole()
