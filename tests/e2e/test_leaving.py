"""Out of the mesh and out of mind: `wesher leave`, and what the others then have of who is gone."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.layouts import Layout
from tests.e2e.mesh import (
    USERS,
    await_mesh,
    join_up,
    managed_names,
    overlay_routes,
    peer_keys,
    public_key,
    start,
    start_mesh,
    states,
    status,
)
from tests.e2e.split import start_agent, start_split
from tests.lab import Lab, Node, until

pytestmark = pytest.mark.root


def test_a_node_that_is_told_to_leaves_and_its_daemon_ends(layout: Layout, make_lab: Callable[[int], Lab]) -> None:
    """The command returns when nothing is left of it there; the others know that it has left."""
    first, second = nodes = make_lab(2).nodes
    running, _ = join_up(layout.start, nodes)

    done = first.wesher("leave")

    assert done.stdout.startswith("left the mesh")
    assert layout.leaves_no_trace(first)
    until(lambda: states(second) == {first.name: "left"}, 2, "the other node knows that it has left")
    until(lambda: not peer_keys(second), 2, "and has dropped it")
    if layout.name == "launched":
        assert running.wait(5) == 0
    again = first.wesher("leave", check=False)
    assert (again.returncode, again.stdout) == (3, "")


def members(node: Node) -> dict[str, dict[str, Any]]:
    """Name to entry, as `wesher members` has them."""
    return {entry["name"]: entry for entry in json.loads(node.wesher("members", "--json").stdout)["members"]}


def test_who_left_and_who_failed_are_told_apart_from_memory_too(make_lab: Callable[[int], Lab]) -> None:
    """A node that starts anew has heard of neither by gossip; its state file says when each was last alive."""
    first, second, third = nodes = make_lab(3).nodes
    running = start_mesh(nodes)
    first.wesher("leave")
    running[1].kill()
    for name, state in ((first.name, "left"), (second.name, "failed")):
        until(lambda n=name, s=state: members(third)[n]["state"] == s, 30, f"{name} has {state}")
    running[2].signal(signal.SIGTERM)
    assert running[2].wait(10) == 0
    start(third)
    until(lambda: status(third), 10, "it is up again, and alone")
    found = members(third)
    assert {first.name: "left", second.name: "failed", third.name: "alive"} == {
        name: entry["state"] for name, entry in found.items()
    }
    assert {third.name} == {name for name, entry in found.items() if entry["in_gossip"]}
    assert all(found[node.name]["last_seen_s"] is not None for node in nodes)
    assert {second.name: "failed"} == states(third)  # status: gossip, and whose tunnel is kept
    assert status(third)["cluster"]["left"] == 0


def test_who_has_failed_is_forgotten_by_all_and_by_who_was_away_and_comes_back(make_lab: Callable[[int], Lab]) -> None:
    """Its kept tunnels, routes and names go at once. Who is alive cannot be forgotten; who starts again is there."""
    first, second, away, lost = nodes = make_lab(4).nodes
    running = start_mesh(nodes)
    here = [first, second]
    key = public_key(lost)
    running[2].signal(signal.SIGTERM)
    assert running[2].wait(10) == 0
    refused = first.wesher("forget", lost.name, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"wesher: error: '{lost.name}' is alive; take it out first, there: wesher leave\n"
    assert first.wesher("forget", "nobody", check=False).returncode == 1
    running[3].kill()
    for node in here:
        until(lambda n=node: states(n)[lost.name] == "failed", 30, f"{node.name} knows that it has failed")
        assert key in peer_keys(node)

    first.wesher("forget", lost.name)

    for node in here:
        until(lambda n=node: lost.name not in members(n), 5, f"{node.name} has forgotten it")
        until(lambda n=node: set(managed_names(n)) == {o.name for o in here if o is not n}, 5, "no name of it is left")
        until(lambda n=node: key not in peer_keys(n) and len(overlay_routes(n)) == 1, 5, "nor a peer")
    assert first.wesher("forget", lost.name, check=False).returncode == 1  # nobody remembers it
    start(away)  # its state file says that it was alive
    await_mesh([first, second, away])
    until(lambda: lost.name not in members(away), 5, "who was away hears of it")
    lost.start("--user", USERS)
    await_mesh(nodes)


def test_the_helper_of_an_agent_that_has_left_serves_the_next(make_lab: Callable[[int], Lab]) -> None:
    """In the split layout a leave is no detaching, and the helper no part of it; what is remembered brings it back."""
    first, second = nodes = make_lab(2).nodes
    split, _ = join_up(start_split, nodes)

    first.wesher("leave")

    assert split.agent.wait(5) == 0
    assert split.helper.alive()
    split.agent = start_agent(first)
    await_mesh(nodes)
    assert states(second) == {first.name: "alive"}


def test_a_leave_that_the_helper_does_not_see_through_is_an_error(make_lab: Callable[[int], Lab]) -> None:
    """It is killed meanwhile: the command says that nobody can tell."""
    nodes = make_lab(2).nodes
    running, _ = start_mesh(nodes)
    running.signal(signal.SIGSTOP)
    leaving = nodes[0].start("leave")
    until(lambda: states(nodes[1]) == {nodes[0].name: "left"}, 10, "it has left")
    running.signal(signal.SIGKILL)
    assert leaving.wait(10) == 1
