"""Commands against real daemons: `members` and `status --check`, given twice at once, or by whom they are not for; and
the log as JSON."""

import json
import signal

import pytest

from tests.e2e.mesh import AGENT_UID, CLUSTER_KEY_TEXT, start, start_mesh
from tests.e2e.split import as_user
from tests.lab import Lab, Node, until
from tests.lab.lab import wesher_command

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


def test_a_state_file_that_cannot_be_written_is_degraded(lab: Lab) -> None:
    """Until it can be again: all goes on, and the next start would know nothing of what is new. No key is changed."""
    node, other, _ = lab.nodes
    start(node)
    until(lambda: check(node) == (0, []), 10, "up")
    file = "/var/lib/wesher/wgoverlay.json"
    node.run("sh", "-c", f"mv {file} /tmp/kept && install -d -o {AGENT_UID} {file}")
    start(other, "--join", node.address)
    until(lambda: check(node)[0] == 4, 15, "it says so")
    (finding,) = check(node)[1]
    assert finding.startswith(f"state file {file} cannot be written: ")
    assert finding.endswith("; make it writable, or the next start knows no newer keys and members")
    rotated = node.wesher("key", "rotate", check=False)
    assert (rotated.returncode, rotated.stderr) == (
        1,
        "wesher: error: the state file cannot be written, see the log; nothing has changed\n",
    )
    node.run("sh", "-c", f"rmdir {file} && mv /tmp/kept {file}")
    until(lambda: node.wesher("key", "rotate", check=False).returncode == 0, 30, "there is room for a key")
    assert check(node) == (0, [])


def test_who_may_not_use_the_socket_is_told_who_may(lab: Lab) -> None:
    """A user of no group of the agent's, for every command alike; one of its group is served."""
    node = lab.nodes[0]
    start(node)
    until(lambda: check(node) == (0, []), 10, "up")
    for command in (["status"], ["key", "show"], ["key", "rotate"], ["leave"], ["forget", "x"], ["graph"]):
        done = node.run(*as_user(61003), wesher_command(), *command, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            "wesher: error: /run/wesher/wgoverlay.sock may not be used by this user; use sudo, or join its group\n"
        )
    member = ("setpriv", "--reuid=61003", "--regid=61003", f"--groups={AGENT_UID}")
    assert node.run(*member, wesher_command(), "key", "show").stdout == f"{CLUSTER_KEY_TEXT}\n"


def test_whoever_gives_a_command_twice_at_once_is_answered_twice(lab: Lab) -> None:
    """Two who rotate make one key; of two who leave each is told that it is done, or that there is nobody any more."""
    start_mesh(lab.nodes)
    first, second, _ = lab.nodes
    rotating = [node.start("key", "rotate") for node in (first, first, second)]
    for each in rotating:
        each.wait(60)
    told = {each.stdout_text().splitlines()[-1] for each in rotating if each.wait(1) == 0}
    assert told == {"done: the former key still opens for 3d, and is dropped then"}
    refused = [each.stderr_text() for each in rotating if each.wait(1) != 0]
    assert all("gave way to another" in text for text in refused)
    assert len({node.wesher("key", "show").stdout for node in lab.nodes}) == 1

    leaving = [first.start("leave") for _ in range(2)]
    assert 0 in [each.wait(30) for each in leaving]
    for each in leaving:
        if each.wait(1) != 0:
            assert any(why in each.stderr_text() for why in ("no daemon serves", "hangs up without an answer"))
