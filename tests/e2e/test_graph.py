"""`wesher graph` against real daemons: who sees whom, whose tunnels shook hands, and who does not answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.e2e.layouts import Layout
from tests.e2e.mesh import await_mesh, join_up, pings_by_name, start, start_mesh, states
from tests.lab import Lab, Node, until

pytestmark = pytest.mark.root


def graph(node: Node) -> dict[str, Any]:
    """`wesher graph --json`."""
    answer = json.loads(node.wesher("graph", "--json").stdout)
    assert isinstance(answer, dict)
    return answer


def text(node: Node) -> list[str]:
    """`wesher graph`."""
    return node.wesher("graph").stdout.splitlines()


def rows(node: Node) -> dict[str, list[str | None] | None]:
    """What each member has told of the others, in the order of the names."""
    return {row["name"]: row["sees"] for row in graph(node)["observers"]}


def test_in_a_whole_mesh_all_see_each_other_and_have_shaken_hands(
    layout: Layout, make_lab: Callable[[int], Lab]
) -> None:
    """Whichever node is asked, and in each form."""
    nodes = make_lab(3).nodes
    join_up(layout.start, nodes)
    await_mesh(nodes)
    for node in nodes:
        answer = graph(node)
        assert answer["from"] == node.name
        assert answer["names"] == ["node1", "node2", "node3"]
        assert rows(node) == dict.fromkeys(answer["names"], ["alive"] * 3)
        for number, row in enumerate(answer["observers"]):
            ages = row["handshakes"]
            assert ages.pop(number) is None
            assert all(age is not None and age < 60 for age in ages)
    assert text(nodes[0]) == [
        "3 members, of whom 3 have told whom they see; 3 of their 3 pairs see each other",
        "          1  2  3",
        "1  node1  .  *  *",
        "2  node2  *  .  *",
        "3  node3  *  *  .",
        "a row sees a column:  . itself   * sees it, handshake within 3m",
    ]
    drawn = ElementTree.fromstring(nodes[0].wesher("graph", "--format", "svg").stdout)
    assert len(drawn.findall("{*}line")) == 3
    assert nodes[0].wesher("graph", "--format", "dot").stdout.count("dir=none, style=solid") == 3


def test_a_cut_shows_who_does_not_see_whom(make_lab: Callable[[int], Lab]) -> None:
    """From either side; who is behind the cut cannot answer, and nobody waits for it for long. Looking heals nothing
    that is not healed, and afterwards all is as before."""
    lab = make_lab(3)
    one, two, three = lab.nodes
    start_mesh(lab.nodes)
    lab.partition([one, two], [three])
    until(lambda: states(one)["node3"] == "failed", 30, "failed to one side")
    until(lambda: set(states(three).values()) == {"failed"}, 60, "failed to the other")
    until(lambda: states(two)["node3"] == "failed", 10, "to both of them")
    assert rows(two) == {"node1": ["alive", "alive", "failed"], "node2": ["alive", "alive", "failed"], "node3": None}
    told = text(one)
    assert any(line.startswith("node3 has not answered: ") for line in told)
    for name in ("node1", "node2"):
        assert any(line.startswith(f"{name} does not see (and these have not told): node3 (failed") for line in told)
    assert rows(three) == {"node1": None, "node2": None, "node3": ["failed", "failed", "alive"]}
    lab.heal()
    until(lambda: rows(one) == dict.fromkeys(("node1", "node2", "node3"), ["alive"] * 3), 30, "whole again")


def test_a_link_that_is_cut_one_way_shows_in_the_handshakes(make_lab: Callable[[int], Lab]) -> None:
    """What one node sends does not reach another. Gossip goes round that, so both are seen; WireGuard cannot."""
    one, two, three = nodes = make_lab(3).nodes
    three.run("ip", "neighbour", "add", one.address, "lladdr", "02:00:00:00:00:01", "dev", "eth0", "nud", "permanent")
    start(two)
    for node in (one, three):
        start(node, "--join", two.address)
    for node in nodes:
        until(lambda n=node: list(states(n).values()) == ["alive"] * 2, 20, f"{node.name} has both")
    for node in (one, three):
        until(lambda n=node: pings_by_name(two, n), 10, f"node2 pings {node.name}")
    assert not pings_by_name(one, three)
    until(lambda: "node1 has had no handshake yet with: node3" in text(two), 10, "the middle is told by both ends")
    assert "3 members, of whom 3 have told whom they see; 3 of their 3 pairs see each other" == text(two)[0]
    told = text(one)
    assert "node3 has not answered: no answer in 4 s" in told
    assert "node1 has had no handshake yet with: node3" in told


def test_a_sight_that_is_one_way_is_told(make_lab: Callable[[int], Lab]) -> None:
    """A node that takes few members does not know the latest, which knows it."""
    nodes = make_lab(4).nodes
    small, *others = nodes
    start(small, "--max-peers", "1")
    for number, node in enumerate(others, 2):
        start(node, "--join", others[0].address if number > 3 else small.address)
        until(lambda n=node, m=number: len(graph(n)["names"]) == m, 20, f"{node.name} knows {number}")
    until(lambda: rows(others[0]).get("node1") == ["alive", "alive", "alive", None], 20, "node1 does not know node4")
    until(lambda: rows(others[0])["node4"] == ["alive"] * 4, 20, "which knows it")
    assert "node1 does not see, and is seen by: node4 (not known)" in text(others[0])
    assert "node4" in graph(small)["names"]


def test_a_node_alone_sees_nobody(make_lab: Callable[[int], Lab]) -> None:
    """And says so."""
    (node,) = make_lab(1).nodes
    start(node)
    until(lambda: text(node) == ["nobody but this node is known"], 10, "it is up")
