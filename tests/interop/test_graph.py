"""`wesher graph` with a Go node: it tells whom it sees, nothing of its tunnels, and has nothing against being asked."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.e2e.mesh import await_mesh, start
from tests.interop.go import GoPeers, WesherMeta
from tests.lab import Lab, until
from wesher.wire.words import AskHandshakes, encode_words

pytestmark = [pytest.mark.root, pytest.mark.go]


def test_a_go_node_tells_whom_it_sees_and_nothing_of_tunnels(make_lab: Callable[[int], Lab], peers: GoPeers) -> None:
    """The question is an application's state to it, behind a full exchange of nobody."""
    one, two, theirs = make_lab(3).nodes
    start(one)
    start(two, "--join", one.address)
    await_mesh([one, two])
    go = peers.start("go", theirs.address, node=theirs, meta=WesherMeta.of("go"), join=[one.address])

    def rows() -> dict[str, list[object]]:
        answer = json.loads(one.wesher("graph", "--json").stdout)
        assert answer["names"] == ["go", "node1", "node2"]
        return {row["name"]: [row["sees"], row["handshakes"] is None] for row in answer["observers"]}

    whole = ["alive"] * 3
    until(lambda: rows() == {"go": [whole, True], "node1": [whole, False], "node2": [whole, False]}, 20, "all are seen")
    told = one.wesher("graph").stdout.splitlines()
    assert told[0].startswith("3 members, of whom 3 have told whom they see; 3 of their 3 pairs")
    assert "tell of no handshakes (Go nodes, or older versions): go" in told
    assert (told[2].split()[2], told[3].split()[4]) == (".", "*")
    go.await_event("state", join=False, state=encode_words([AskHandshakes()]).hex())
    assert set(go.members()) == {"go", "node1", "node2"}
