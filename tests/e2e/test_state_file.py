"""The state file under a real daemon: the original's are taken over and go back, and no file, disk or directory,
however broken, makes it forget the cluster key or start a new cluster in silence."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.mesh import AGENT_UID, CLUSTER_KEY_TEXT, INTERFACE, USERS, start, status
from tests.lab import Daemon, Lab, Node, until
from tests.lab.ci import skip_but_in_ci

pytestmark = pytest.mark.root

GOLDEN = Path(__file__).parents[1] / "golden" / "mesh"
GO_026 = (GOLDEN / "state_go_0.2.6.json").read_bytes()
GO_MASTER = (GOLDEN / "state_go_master.json").read_bytes()
KEY_TEXT = json.loads(GO_MASTER)["ClusterKey"]
NODES = [("test3", "10.99.0.4"), ("test2", "10.99.0.3")]

DIRECTORY = "/var/lib/wesher"
FILE = f"{DIRECTORY}/wgoverlay.json"
OF_026 = f"{DIRECTORY}/state.json"


@pytest.fixture
def node(make_lab: Callable[[int], Lab]) -> Node:
    """One machine, with a state directory as root's wesher leaves it."""
    node = make_lab(1).nodes[0]
    node.run("mkdir", "-m", "700", DIRECTORY)
    return node


def run(node: Node, *arguments: str) -> Daemon:
    """A daemon that is up, without a key given."""
    daemon = node.start("--user", USERS, *arguments)
    until(lambda: status(node), 10, "up")
    return daemon


def stop(daemon: Daemon) -> None:
    """Told to stop, it leaves and writes its state."""
    daemon.signal(signal.SIGTERM)
    assert daemon.wait(15) == 0


def said(daemon: Daemon, node: Node) -> list[str]:
    """What the daemon logged of its state file, with that path shortened."""
    lines = [line for line in daemon.stderr_text().splitlines() if "state" in line]
    return [line.partition("agent: ")[2].replace(DIRECTORY, "…") for line in lines]


def cluster_key(node: Node, interface: str = INTERFACE) -> str:
    """The key that the running daemon uses."""
    return node.wesher("key", "show", "--interface", interface).stdout.strip()


def names(node: Node) -> list[str]:
    """What is in the state directory."""
    return sorted(node.run("ls", "-A", DIRECTORY).stdout.split())


def owner_and_mode(node: Node, path: str) -> tuple[int, int]:
    """The uid of a file, and its permission bits."""
    info = (node.inside.root / path.lstrip("/")).stat()
    return info.st_uid, info.st_mode & 0o7777


def saved_nodes(node: Node) -> list[tuple[str, str]]:
    """Name and address of each member in the state file."""
    return [(entry["Name"], entry["Addr"]) for entry in json.loads(node.read(FILE))["Nodes"]]


# --- take-over, and the way back


def test_the_state_of_master_is_taken_over_with_owner_and_mode(node: Node) -> None:
    """Root's file in root's directory: key, members and their metadata stay, and there is nothing to say."""
    node.write(FILE, GO_MASTER, mode=0o644)

    daemon = run(node)

    assert cluster_key(node) == KEY_TEXT
    assert owner_and_mode(node, DIRECTORY) == (AGENT_UID, 0o700)
    assert owner_and_mode(node, FILE) == (AGENT_UID, 0o600)
    stop(daemon)
    assert saved_nodes(node) == NODES
    before = [entry["Meta"] for entry in json.loads(GO_MASTER)["Nodes"]]
    assert [entry["Meta"] for entry in json.loads(node.read(FILE))["Nodes"]] == before
    assert (names(node), said(daemon, node)) == (["wgoverlay.json"], [])


@pytest.mark.parametrize("interface", ["wgoverlay", "wg7"])
def test_the_state_of_0_2_6_is_taken_over_once_whatever_the_interface(node: Node, interface: str) -> None:
    """Its file has another name; it stays as it is, for the way back, and the next start reads our own."""
    node.write(OF_026, GO_026)

    daemon = node.start("--user", USERS, "--interface", interface)
    until(lambda: cluster_key(node, interface) == KEY_TEXT, 10, "up")
    stop(daemon)

    ours = json.loads(node.read(f"{DIRECTORY}/{interface}.json"))
    assert (ours["ClusterKey"], [(entry["Name"], entry["Addr"]) for entry in ours["Nodes"]]) == (KEY_TEXT, NODES)
    assert node.read(OF_026) == GO_026
    assert owner_and_mode(node, OF_026) == (AGENT_UID, 0o600)
    assert said(daemon, node) == [
        f"state file …/{interface}.json: taken over from …/state.json, which stays as it is",
    ]
    again = node.start("--user", USERS, "--interface", interface)
    until(lambda: cluster_key(node, interface) == KEY_TEXT, 10, "up again")
    assert said(again, node) == []


def test_a_file_of_0_2_6_that_is_no_file_of_its_own_is_refused_before_anything_is_given_away(node: Node) -> None:
    """Root would otherwise hand whatever it links to to the agent."""
    node.write("/var/lib/precious", b"root's")
    node.run("ln", "/var/lib/precious", OF_026)

    daemon = node.start("--user", USERS)

    assert daemon.wait(15) == 1
    (line,) = daemon.stderr_text().splitlines()
    assert line == f"wesher: error: state file {OF_026} is no plain file of its own; move it aside"
    assert owner_and_mode(node, "/var/lib/precious") == (0, 0o600)


def test_a_file_of_0_2_6_beside_our_own_is_left_alone(node: Node) -> None:
    """Neither read nor given to the agent."""
    node.write(FILE, GO_MASTER)
    node.write(OF_026, b"rubbish")

    daemon = run(node)

    assert cluster_key(node) == KEY_TEXT
    assert owner_and_mode(node, OF_026) == (0, 0o600)
    assert said(daemon, node) == []


SHAPE = f"""{{
  "ClusterKey": "{KEY_TEXT}",
  "Nodes": [
    {{
      "Name": "test3",
      "Addr": "10.99.0.4",
      "Wesher": {{
        "Seen": SEEN,
        "Last": "alive"
      }}
    }},
    {{
      "Name": "test2",
      "Addr": "10.99.0.3",
      "Wesher": {{
        "Seen": SEEN,
        "Last": "alive"
      }}
    }}
  ],
  "Wesher": {{
    "Version": 1,
    "Own": {{
      "NodeName": "node1",
      "Incarnation": INCARNATION,
      "Attempt": 0,
      "ClaimTime": CLAIM_TIME
    }},
    "MetaForm": "0.3"
  }}
}}"""

GO_READER = """
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
)

type node026 struct {
	Name        string
	Addr        net.IP
	OverlayAddr net.IPNet
	PubKey      string
}

type nodeMaster struct {
	Name        string
	Addr        net.IP
	Meta        []byte
	OverlayAddr netip.Addr
	PubKey      string
}

func read(version string, file any) {
	text, err := os.ReadFile(os.Args[1])
	if err == nil {
		err = json.Unmarshal(text, file)
	}
	if err != nil {
		fmt.Println(version, "discards it")
		return
	}
	again, _ := json.Marshal(file)
	fmt.Println(string(again))
}

func main() {
	read("0.2.6", &struct{ ClusterKey []byte; Nodes []node026 }{})
	read("master", &struct{ ClusterKey []byte; Nodes []nodeMaster }{})
}
"""


def test_the_file_left_behind_has_the_shape_that_every_wesher_reads(node: Node) -> None:
    """Byte for byte: two spaces, the key alone on its line, no OverlayAddr, our own apart, no final newline."""
    node.write(OF_026, GO_026)

    stop(run(node))

    text = node.read(FILE).decode()
    own, seen = json.loads(text)["Wesher"]["Own"], json.loads(text)["Nodes"][0]["Wesher"]["Seen"]
    expected = SHAPE.replace("INCARNATION", str(own["Incarnation"])).replace("CLAIM_TIME", str(own["ClaimTime"]))
    assert text == expected.replace("SEEN", str(seen))


@pytest.mark.parametrize("former", [GO_026, GO_MASTER], ids=["0.2.6", "master"])
def test_go_reads_the_file_again(node: Node, tmp_path: Path, former: bytes) -> None:
    """In both versions' types, by Go's own decoder; each of which discards the other version's file."""
    go = shutil.which("go")
    if go is None:
        skip_but_in_ci("NOT TESTED: Go is not installed, so nothing but the file's shape says that Go can read it")
    (tmp_path / "main.go").write_text(GO_READER)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GOCACHE": str(tmp_path / "cache")}
    environment |= {"GO111MODULE": "off", "GOFLAGS": "", "CGO_ENABLED": "0"} | (
        {"GOROOT": os.environ["GOROOT"]} if "GOROOT" in os.environ else {}
    )
    subprocess.run([go, "build", "-o", "reader", "main.go"], cwd=tmp_path, env=environment, check=True, timeout=100)

    def read_by_go(content: bytes) -> list[Any]:
        (tmp_path / "state.json").write_bytes(content)
        done = subprocess.run([tmp_path / "reader", tmp_path / "state.json"], capture_output=True, check=True)
        return [json.loads(line) if line[0] == "{" else line for line in done.stdout.decode().splitlines()]

    node.write(OF_026 if former is GO_026 else FILE, former)
    stop(run(node))

    for seen in read_by_go(node.read(FILE)):
        assert seen["ClusterKey"] == KEY_TEXT
        assert [(entry["Name"], entry["Addr"]) for entry in seen["Nodes"]] == NODES
    metas = [entry.get("Meta") for entry in json.loads(former)["Nodes"]]
    assert [entry["Meta"] for entry in read_by_go(node.read(FILE))[1]["Nodes"]] == metas
    assert "master discards it" in read_by_go(GO_026)
    assert "0.2.6 discards it" in read_by_go(GO_MASTER)


# --- damage


def test_a_file_cut_off_behind_the_key_costs_only_the_members(node: Node) -> None:
    """The node goes on in its cluster, says what it did, and keeps the damaged file."""
    node.write(FILE, GO_MASTER[:200])

    daemon = run(node)

    assert cluster_key(node) == KEY_TEXT
    (line,) = said(daemon, node)
    assert line.startswith("state file …/wgoverlay.json: not JSON: ")
    assert line.endswith("; only its cluster key can be used; the former file is kept as …/wgoverlay.json.old-1")
    assert node.read(f"{FILE}.old-1") == GO_MASTER[:200]
    assert json.loads(node.read(FILE))["ClusterKey"] == KEY_TEXT
    assert owner_and_mode(node, f"{FILE}.old-1") == (AGENT_UID, 0o600)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (GO_MASTER[: GO_MASTER.index(b'",')], "not JSON: "),
        (b"", "empty"),
        (b'{"Nodes": []}', "it holds no cluster key"),
        (b"\0" * 4096, "not JSON: "),
    ],
    ids=["cut off in the key", "empty", "no key", "zeros"],
)
def test_without_a_whole_key_it_does_not_start_and_touches_nothing(node: Node, content: bytes, reason: str) -> None:
    """A new cluster is what nobody asked for. With the key given it starts, and keeps what was there."""
    node.write(FILE, content)

    daemon = node.start("--user", USERS)

    assert daemon.wait(15) == 1
    (line,) = daemon.stderr_text().splitlines()
    assert line.startswith(f"wesher: error: state file {FILE}: {reason}")
    assert line.endswith("; give --cluster-key, or --init for a new cluster")
    assert (node.read(FILE), names(node)) == (content, ["wgoverlay.json"])

    daemon = start(node)
    until(lambda: status(node), 10, "up with a key given")
    assert json.loads(node.read(FILE))["ClusterKey"] == CLUSTER_KEY_TEXT
    assert len(said(daemon, node)) == (reason != "it holds no cluster key")


def test_the_file_of_a_newer_version_is_used_and_kept_once(node: Node) -> None:
    """Going back a version loses nothing; the next start has nothing to say."""
    newer = json.loads(GO_MASTER) | {"Wesher": {"Version": 2, "Retired": ["x"]}}
    newer_text = json.dumps(newer, indent=2).encode()
    node.write(FILE, newer_text)

    daemon = run(node)

    assert cluster_key(node) == KEY_TEXT
    assert said(daemon, node) == [
        "state file …/wgoverlay.json: part of it is not known to this version (a newer one wrote it?) and is left out; "
        "the former file is kept as …/wgoverlay.json.old-1"
    ]
    assert node.read(f"{FILE}.old-1") == newer_text
    stop(daemon)
    assert saved_nodes(node) == NODES
    again = run(node)
    assert (said(again, node), names(node)) == ([], ["wgoverlay.json", "wgoverlay.json.old-1"])


def test_another_key_does_not_destroy_the_saved_one(node: Node) -> None:
    """A mistyped --cluster-key-file is a mistake that can be taken back."""
    node.write(FILE, GO_MASTER)

    daemon = start(node)
    until(lambda: status(node), 10, "up")

    assert said(daemon, node) == [
        "state file …/wgoverlay.json: its cluster key is not the one given; "
        "the former file is kept as …/wgoverlay.json.old-1"
    ]
    assert node.read(f"{FILE}.old-1") == GO_MASTER
    assert json.loads(node.read(FILE))["ClusterKey"] == CLUSTER_KEY_TEXT


# --- directories and disks that take nothing


def read_only(node: Node) -> None:
    """From here on the state directory is mounted read-only."""
    node.run("mount", "--bind", DIRECTORY, DIRECTORY)
    node.run("mount", "-o", "remount,bind,ro", DIRECTORY)


def full(node: Node, content: bytes | None) -> None:
    """The state directory is a disk of two pages, and full: the state file and rubbish, or rubbish only."""
    node.run("mount", "-t", "tmpfs", "-o", "size=8k,mode=0700", "tmpfs", DIRECTORY)
    if content is not None:
        node.write(FILE, content)
    rubbish = f"{DIRECTORY}/rubbish.json.old-1"
    done = node.run("dd", "if=/dev/zero", f"of={rubbish}", "bs=4096", check=False)
    assert "No space left" in done.stderr
    node.run("chown", "-R", f"{AGENT_UID}:{AGENT_UID}", DIRECTORY)


READ_ONLY, FULL = "Read-only file system", "No space left on device"


def make_unwritable(node: Node, why: str, content: bytes | None) -> None:
    """A state directory with or without a state file, in which nothing can be written."""
    if why == FULL:
        full(node, content)
        return
    if content is not None:
        node.write(FILE, content)
    node.run("chown", "-R", f"{AGENT_UID}:{AGENT_UID}", DIRECTORY)
    read_only(node)


def make_writable(node: Node, why: str) -> None:
    """Somebody has made room, or mounted it read-write."""
    if why == FULL:
        node.run("rm", f"{DIRECTORY}/rubbish.json.old-1")
    else:
        node.run("mount", "-o", "remount,bind,rw", DIRECTORY)


@pytest.mark.parametrize("why", [READ_ONLY, FULL])
def test_where_nothing_can_be_written_a_key_that_is_in_the_file_suffices(node: Node, why: str) -> None:
    """It runs, says so once, leaves the file as it is, and writes when it can."""
    make_unwritable(node, why, GO_MASTER)

    daemon = run(node)

    assert cluster_key(node) == KEY_TEXT
    line = f"state file …/wgoverlay.json: cannot be written: {why}; trying again with every change"
    assert said(daemon, node) == [line]
    stop(daemon)
    assert said(daemon, node) == [line]
    assert node.read(FILE) == GO_MASTER

    daemon = run(node)
    make_writable(node, why)
    stop(daemon)
    assert said(daemon, node) == [line, "state file …/wgoverlay.json: written again"]
    assert (json.loads(node.read(FILE))["ClusterKey"], saved_nodes(node)) == (KEY_TEXT, NODES)
    assert "Own" in json.loads(node.read(FILE))["Wesher"]


@pytest.mark.parametrize("why", [READ_ONLY, FULL])
def test_where_nothing_can_be_written_no_key_is_generated(node: Node, why: str) -> None:
    """It would be lost with the process, and those who joined with it."""
    make_unwritable(node, why, None)
    before = names(node)

    daemon = node.start("--user", USERS)

    assert daemon.wait(15) == 1
    (line,) = daemon.stderr_text().splitlines()
    assert line == (
        f"wesher: error: state file {FILE} cannot be written: {why}; "
        "the cluster key would be lost: make it writable, or give one"
    )
    assert "key generated" not in daemon.stdout_text()
    assert names(node) == before


@pytest.mark.parametrize("why", [READ_ONLY, FULL])
def test_where_nothing_can_be_written_a_given_key_suffices(node: Node, why: str) -> None:
    """Whoever gave it still has it."""
    make_unwritable(node, why, None)

    daemon = start(node)
    until(lambda: status(node), 10, "up")

    assert cluster_key(node) == CLUSTER_KEY_TEXT
    assert said(daemon, node) == [
        f"state file …/wgoverlay.json: cannot be written: {why}; trying again with every change"
    ]
    make_writable(node, why)
    stop(daemon)
    assert json.loads(node.read(FILE))["ClusterKey"] == CLUSTER_KEY_TEXT


@pytest.mark.parametrize("why", [READ_ONLY, FULL])
def test_what_must_be_kept_is_not_overwritten_where_it_cannot_be(node: Node, why: str) -> None:
    """A damaged file on a disk that takes no copy: its key is used, the file stays, and is kept as soon as may be."""
    damaged = GO_MASTER[:200]
    make_unwritable(node, why, damaged)

    daemon = run(node)

    assert cluster_key(node) == KEY_TEXT
    (line,) = said(daemon, node)
    assert line.endswith(
        f"; only its cluster key can be used; cannot be written: {why}; trying again with every change"
    )
    assert node.read(FILE) == damaged
    if why == FULL:
        node.run("mount", "-o", "remount,size=64k", DIRECTORY)
    make_writable(node, why)
    stop(daemon)
    assert said(daemon, node)[-1] == "state file …/wgoverlay.json: the former file is kept as …/wgoverlay.json.old-1"
    assert node.read(f"{FILE}.old-1") == damaged
    assert json.loads(node.read(FILE))["ClusterKey"] == KEY_TEXT


@pytest.mark.parametrize("why", [READ_ONLY, FULL])
def test_init_does_nothing_where_the_former_state_cannot_be_kept(node: Node, why: str) -> None:
    """The cluster that is to be left is still there."""
    make_unwritable(node, why, GO_MASTER)

    daemon = node.start("--user", USERS, "--init")

    assert daemon.wait(15) == 1
    (line,) = daemon.stderr_text().splitlines()
    assert line == f"wesher: error: --init: state file {FILE} cannot be kept aside: {why}"
    assert node.read(FILE) == GO_MASTER


def test_a_directory_that_is_roots_and_read_only_is_refused_in_one_line(node: Node) -> None:
    """The agent could not even read it."""
    node.write(FILE, GO_MASTER)
    read_only(node)

    daemon = node.start("--user", USERS)

    assert daemon.wait(15) == 1
    (line,) = daemon.stderr_text().splitlines()
    assert line.startswith(f"wesher: error: {FILE} cannot be given to uid {AGENT_UID}: {READ_ONLY}; make it so: chown ")


def test_a_daemon_killed_at_any_time_comes_back_with_its_key_and_members(node: Node) -> None:
    """All of it at once, as the kernel's out-of-memory killer or a power switch would; again and again."""
    node.write(FILE, GO_MASTER)
    for _ in range(4):
        daemon = run(node)
        os.kill(daemon.agent_pid, signal.SIGKILL)
        with suppress(ProcessLookupError):  # it ends with its agent, if there is the time
            daemon.signal(signal.SIGKILL)
        daemon.wait(15)
        assert json.loads(node.read(FILE))["ClusterKey"] == KEY_TEXT
        assert saved_nodes(node) == NODES
        until(lambda: INTERFACE not in node.links(), 10, "the link is gone")
