"""`members` and `status --check` against real daemons, and the log as JSON."""

import json
import signal

import pytest

from tests.e2e.mesh import start, start_mesh
from tests.lab import Lab, Node, until

pytestmark = pytest.mark.root


def check(node: Node) -> tuple[int, list[str]]:
    """Exit status and findings of `wesher status --check`."""
    done = node.wesher("status", "--check", check=False)
    return done.returncode, done.stdout.splitlines()


def states(node: Node) -> dict[str, str]:
    """Name to state, as `wesher members` has them."""
    members = json.loads(node.wesher("members", "--json").stdout)["members"]
    return {member["name"]: member["state"] for member in members}


def test_a_check_follows_the_mesh(lab: Lab) -> None:
    """Good while all are there, degraded with a failure, good again after a leave, 3 without a daemon."""
    first = lab.nodes[0]
    daemons = start_mesh(lab.nodes)
    assert (0, []) == check(first)
    assert {"node1": "alive", "node2": "alive", "node3": "alive"} == states(first)
    assert len(first.wesher("members").stdout.splitlines()) == 4

    daemons[2].signal(signal.SIGTERM)
    assert daemons[2].wait(10) == 0
    until(lambda: states(first)["node3"] == "left", 5, "node3 has left")
    assert (0, []) == check(first)

    daemons[1].signal(signal.SIGKILL)
    until(lambda: check(first)[0] == 4, 20, "the check says that something is degraded")
    until(lambda: [f for f in check(first)[1] if f.startswith("node2 has failed")], 20, "and what")

    daemons[0].signal(signal.SIGTERM)
    assert daemons[0].wait(10) == 0
    assert (3, []) == check(first)


def test_a_node_that_finds_nobody_is_degraded(lab: Lab) -> None:
    """Alone, though it was told whom to join; good as soon as one answers."""
    first, second, _ = lab.nodes
    start(first, "--join", second.address)
    until(lambda: check(first)[0] in (0, 4), 10, "node1 is up")
    status, findings = check(first)
    assert (4, 1) == (status, len(findings))
    assert findings[0].startswith(f"not joined: no answer yet from {second.address}; ")
    start(second)
    until(lambda: check(first) == (0, []), 30, "joined")


def test_the_log_is_json_where_asked(lab: Lab) -> None:
    """Every line of both processes."""
    node = lab.nodes[0]
    daemon = start(node, "--log-level", "info", "--log-format", "json")
    until(lambda: check(node)[0] == 0, 10, "up")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait(10) == 0
    # wireguard-go has a log of its own making
    lines = [json.loads(line) for line in daemon.stderr_text().splitlines() if line.startswith("{")]
    assert {"agent", "helper"} <= {line["logger"] for line in lines}
    assert all({"time", "level", "logger", "message"} == set(line) for line in lines)
