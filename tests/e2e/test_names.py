"""Two nodes with one name: the later is told plainly why it is not let in, the earlier is untouched."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.e2e.layouts import LAUNCHED, Layout
from tests.e2e.mesh import await_mesh, peer_keys, pings_by_name, public_key, rename, states, status
from tests.lab import Lab, until

pytestmark = pytest.mark.root


def test_the_later_of_two_nodes_with_one_name_is_told_so(make_lab: Callable[[int], Lab], layout: Layout) -> None:
    """In its log and by `status --check`; nobody else's tunnels, names and states change, not when it stops either."""
    first, earlier, later = make_lab(3).nodes
    running = layout.start(first, "--log-level", "info")
    layout.start(earlier, "--join", first.address)
    await_mesh([first, earlier])
    own_name, name, key = later.name, earlier.name, public_key(earlier)
    rename(later, name)
    daemon = layout.start(later, "--join", first.address)

    what_then = "rename this host" if layout is LAUNCHED else "give wesher-privhelper another --node-name"
    problem = (
        f"not let in: the name {name} is taken, a member at {earlier.address} has it; {what_then} and restart, or, "
        "where that was this node's own address before, wait a minute"
    )
    until(lambda: status(later)["problems"] == [problem], 15, "it is told")
    until(lambda: daemon.stderr_text().count(problem) == 1, 5, "its log too")
    check = later.wesher("status", "--check", check=False)
    assert (check.returncode, problem in check.stdout) == (4, True)
    assert status(earlier)["problems"] == status(first)["problems"] == []

    daemon.signal(signal.SIGTERM)
    assert daemon.wait(20) == 0
    assert layout.leaves_no_trace(later)
    assert states(first) == {name: "alive"}
    assert peer_keys(first) == {key}
    assert f"member '{name}': gone" not in running.stderr_text()
    assert pings_by_name(first, earlier)
    assert pings_by_name(earlier, first)

    rename(later, own_name)
    layout.start(later, "--join", first.address)
    await_mesh([first, earlier, later])


def test_two_nodes_with_one_name_that_join_only_each_other_are_both_told_so(make_lab: Callable[[int], Lab]) -> None:
    """Started at once, and neither is the earlier: each has found somebody, who has its name. That nobody answers,
    which is what keeps most nodes alone, is not said."""
    nodes = make_lab(2).nodes
    for node in nodes:
        rename(node, "twin")
    one, other = nodes
    LAUNCHED.start(one, "--join", other.address)
    LAUNCHED.start(other, "--join", one.address)
    for node, namesake in ((one, other), (other, one)):
        taken = f"not let in: the name twin is taken, a member at {namesake.address} has it; "
        until(lambda n=node, t=taken: status(n)["problems"][0].startswith(t), 15, "it is told")
        until(lambda n=node: len(status(n)["problems"]) == 1, 15, "and nothing else")


def test_a_name_is_free_soon_after_its_node_has_died(make_lab: Callable[[int], Lab]) -> None:
    """A machine that was replaced: whoever waits for its name gets it, and is then as good as any."""
    first, dying, heir = make_lab(3).nodes
    LAUNCHED.start(first)
    daemon = LAUNCHED.start(dying, "--join", first.address)
    await_mesh([first, dying])
    rename(heir, dying.name)
    LAUNCHED.start(heir, "--join", first.address)
    until(lambda: status(heir)["problems"], 15, "the name is taken")
    daemon.kill()

    until(lambda: not status(heir)["problems"], 150, "the name is free")
    await_mesh([first, heir])
