"""Changing the cluster key of a mesh that runs: by `wesher key rotate`, by hand, and what becomes of who was away."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.e2e.layouts import Layout
from tests.e2e.mesh import (
    CLUSTER_KEY_TEXT,
    KEY_FILE,
    await_mesh,
    join_up,
    pings_by_name,
    start,
    start_mesh,
    states,
    status,
)
from tests.lab import Daemon, Lab, Node, until

pytestmark = pytest.mark.root

STATE = "/var/lib/wesher/wgoverlay.json"


def shown(node: Node) -> str:
    """The cluster key that the node seals with, as `wesher key show` has it."""
    return node.wesher("key", "show").stdout.strip()


def listed(node: Node) -> dict[str, Any]:
    """`wesher key list --json`."""
    return json.loads(node.wesher("key", "list", "--json").stdout)


def keys_of(node: Node) -> set[str]:
    """Every key in the node's state file."""
    file = json.loads(node.read(STATE))
    return {file["ClusterKey"], *(key["Key"] for key in file["Wesher"].get("Keys", []))}


def everybody_seals(node: Node) -> bool:
    """Whether the node knows that all have both keys of a rotation, and that all seal with the new one."""
    found = {key["part"]: key for key in listed(node)["keys"]}
    has_all = found.keys() == {"seals", "going"} and not any(key["without"] for key in found.values())
    return has_all and not found["seals"]["not_sealing"]


def test_a_new_key_is_everybodys_and_nobody_is_lost_by_it(layout: Layout, make_lab: Callable[[int], Lab]) -> None:
    """Both keys are held for the grace, the new one is in use everywhere, and no log has either."""
    nodes = make_lab(3).nodes
    running = join_up(layout.start, nodes)
    before = {node.name: {peer["name"]: peer["since_s"] for peer in status(node)["peers"]} for node in nodes}

    done = nodes[1].wesher("key", "rotate")

    lines = done.stdout.splitlines()
    assert lines[0].startswith("new key ")
    assert "[3/3] have it" in lines
    assert "[3/3] use it" in lines
    assert lines[-1] == "done: the former key still opens for 3d, and is dropped then"
    (new,) = {shown(node) for node in nodes}
    assert new != CLUSTER_KEY_TEXT
    for node in nodes:
        assert keys_of(node) == {new, CLUSTER_KEY_TEXT}
        until(lambda n=node: everybody_seals(n), 5, f"{node.name} has heard that all use it")
        since = {peer["name"]: peer["since_s"] for peer in status(node)["peers"]}
        assert all(since[name] >= before[node.name][name] for name in since), "somebody was thought dead"
    await_mesh(nodes)
    for one in running:
        said = one.stderr_text()
        assert new not in said
        assert CLUSTER_KEY_TEXT not in said


def test_the_list_says_who_has_which_key(make_lab: Callable[[int], Lab]) -> None:
    """As a table; a dry run changes nothing, and says what would be done."""
    first, second = nodes = make_lab(2).nodes
    start_mesh(nodes)
    dry = first.wesher("key", "rotate", "--dry-run")
    assert dry.stdout == "would give out a new key; the former opens for 3d\n"
    table = second.wesher("key", "list").stdout.splitlines()
    assert len(table) == 2
    assert table[1].split()[1:] == ["in", "use", "the", "beginning", "[2/2]", "[2/2]", "-"]
    assert shown(first) == shown(second) == CLUSTER_KEY_TEXT


def test_who_was_away_follows_when_it_is_back_though_its_options_have_the_former_key(
    make_lab: Callable[[int], Lab],
) -> None:
    """One had left, one was killed: both find the mesh with the key that they have; the next time by the new one."""
    first, second, third = nodes = make_lab(3).nodes
    running = start_mesh(nodes)
    running[1].signal(signal.SIGTERM)
    assert running[1].wait(10) == 0
    running[2].kill()
    until(lambda: states(first)[third.name] == "failed", 30, "the third is known to have failed")

    done = first.wesher("key", "rotate")

    assert f"not there now: {third.name}; who is back within 3d follows" in done.stdout
    new = shown(first)
    again = [start(second), start(third)]
    await_mesh(nodes)
    for node in (second, third):
        until(lambda n=node: shown(n) == new, 5, f"{node.name} has the new key")
    again[0].signal(signal.SIGTERM)
    assert again[0].wait(10) == 0
    again[0] = start(second)
    await_mesh(nodes)
    assert shown(second) == new
    assert "is being replaced by key rotation, and the newer is used" in again[0].stderr_text()


def test_what_was_broken_off_is_taken_up_by_another_node(make_lab: Callable[[int], Lab]) -> None:
    """A member stands still: the command ends and names it, nothing is used yet, and whoever repeats it goes on."""
    first, second, third = nodes = make_lab(3).nodes
    running = start_mesh(nodes)
    os.kill(running[2].agent_pid, signal.SIGSTOP)
    try:
        broken = first.wesher("key", "rotate", "--wait", "1", check=False)
    finally:
        os.kill(running[2].agent_pid, signal.SIGCONT)
    assert broken.returncode == 1
    assert broken.stderr == (
        f"wesher: error: not all have it within 1s: {third.name}; give the command again to go on, and --without NAME "
        "not to wait for one\n"
    )
    assert shown(first) == CLUSTER_KEY_TEXT
    await_mesh(nodes)

    done = second.wesher("key", "rotate")

    assert done.stdout.startswith("going on with key ")
    (new,) = {shown(node) for node in nodes}
    assert new != CLUSTER_KEY_TEXT
    assert all(len(listed(node)["keys"]) == 2 for node in nodes)


def test_a_key_is_dropped_when_its_grace_is_over(make_lab: Callable[[int], Lab]) -> None:
    """Also by a node that was killed in between; nothing else happens. Who was away for longer is told what is wrong
    and what to do, and does it."""
    first, second, away = nodes = make_lab(3).nodes
    there = [first, second]
    running = start_mesh(nodes)
    running[2].kill()
    until(lambda: states(first)[away.name] == "failed", 30, "the third is known to have failed")
    assert first.wesher("key", "rotate", "--grace", "59", check=False).returncode == 1
    first.wesher("key", "rotate", "--grace", "60")
    new = shown(first)
    running[1].kill()
    running[1] = start(second)
    until(lambda: len(listed(first)["keys"]) == 1, 75, "the former key is dropped")
    until(lambda: len(listed(second)["keys"]) == 1, 75, "and by the one that was killed")
    for node in there:
        until(lambda n=node: keys_of(n) == {new}, 5, "the state file has it no more")
        assert CLUSTER_KEY_TEXT not in node.run("sh", "-c", "cat /var/lib/wesher/*").stdout, "nor has another file"
    for node, other in ((first, second), (second, first)):
        until(lambda n=node, o=other: states(n)[o.name] == "alive", 10, "they have each other")
        until(lambda n=node, o=other: pings_by_name(n, o), 5, "and their tunnels")
    assert "is dropped" in running[1].stderr_text()

    start(away, "--join", first.address)
    problem = (
        f"not joined: who is there of {first.address} has another cluster key; with the one that wesher key show has "
        "there in a file, here: wesher key rotate --key-file FILE"
    )
    until(lambda: status(away)["problems"] == [problem], 15, "it is told")
    away.write("/run/new.key", new.encode())
    away.wesher("key", "rotate", "--key-file", "/run/new.key")
    until(lambda: states(away).get(first.name) == "alive", 30, "it is back")
    await_mesh(nodes)
    assert status(away)["problems"] == []


def test_a_leaked_key_is_replaced_by_hand_on_every_node_at_once(make_lab: Callable[[int], Lab]) -> None:
    """No grace: a node that has it hears only who has it too, and tunnels go on meanwhile."""
    first, second = nodes = make_lab(2).nodes
    running = start_mesh(nodes)
    text = base64.b64encode(os.urandom(32)).decode()
    for node in nodes:
        node.write("/run/new.key", text.encode())

    told = first.wesher("key", "rotate", "--key-file", "/run/new.key")

    assert told.stdout.endswith("and no other: it hears nobody who does not have it too\n")
    assert keys_of(first) == {text}
    until(lambda: states(first)[second.name] == "failed", 30, "the first hears the second no more")
    until(lambda: first.ping(second.name), 5, "the tunnel carries")
    second.wesher("key", "rotate", "--key-file", "/run/new.key")
    await_mesh(nodes)
    for node in nodes:
        until(lambda n=node, o=nodes: set(states(n).values()) == {"alive"}, 30, "they have found each other")
        assert keys_of(node) == {text}
    restarted(running[0], first, nodes)
    assert shown(first) == text  # its options still have the former one


def restarted(daemon: Daemon, node: Node, nodes: Sequence[Node]) -> None:
    """Stop it and start it with the options of before."""
    daemon.signal(signal.SIGTERM)
    assert daemon.wait(10) == 0
    start(node)
    await_mesh(nodes)


def test_a_reload_takes_the_key_that_stands_in_the_state_file(make_lab: Callable[[int], Lab]) -> None:
    """An operator has put it there, on one node; the others hear of it, and the former opens for its grace."""
    first, _ = nodes = make_lab(2).nodes
    running = start_mesh(nodes)
    text = base64.b64encode(os.urandom(32)).decode()
    file = json.loads(first.read(STATE))
    file["ClusterKey"] = text
    overwrite(first, STATE, json.dumps(file, indent=2).encode())

    running[0].signal(signal.SIGHUP)

    for node in nodes:
        until(lambda n=node: shown(n) == text, 5, f"{node.name} has the key")
        until(lambda n=node: keys_of(n) == {text, CLUSTER_KEY_TEXT}, 5, f"{node.name} has both on its disk")
    await_mesh(nodes)


def overwrite(node: Node, path: str, content: bytes) -> None:
    """In place, so that the file stays whose it is."""
    with open(node.inside.root / path.lstrip("/"), "r+b") as file:
        file.truncate(0)
        file.write(content)


def test_a_key_file_that_is_none_is_refused(make_lab: Callable[[int], Lab]) -> None:
    """In one line, and nothing changes."""
    (node,) = make_lab(1).nodes
    start(node)
    until(lambda: status(node), 10, "it is up")
    node.write("/run/bad.key", b"no key\n")
    for arguments in (
        ["--key-file", "/run/bad.key"],
        ["--key-file", "/run/none"],
        ["--key-file", KEY_FILE, "--dry-run"],
    ):
        refused = node.wesher("key", "rotate", *arguments, check=False)
        assert refused.returncode in (1, 2)
        assert len(refused.stderr.splitlines()) == 1 or refused.returncode == 2
    assert shown(node) == CLUSTER_KEY_TEXT
