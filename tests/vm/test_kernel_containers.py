"""Sidecars on the kernel's WireGuard, which images on a host that may have none cannot show: podman and crun in the
guest, and for images its own root, as read-only as one of dist/container."""

from __future__ import annotations

import json
from functools import partial

import pytest

from tests.deploy.containers import Machine
from tests.e2e.mesh import (
    AGENT_UID,
    CLUSTER_KEY_TEXT,
    HELPER_UID,
    INTERFACE,
    has_nothing_left,
    managed_names,
    peer_keys,
    public_key,
    start,
)
from tests.lab import Lab, Node, until

pytestmark = [pytest.mark.vm, pytest.mark.nightly]

NET_ADMIN = 1 << 12
KEY = "/run/cluster.key"
SOCKET = "/run/wesher-priv/wgoverlay.sock"
ROOT = ("--rootfs", "--volume=/srv/job/checkout:/srv/job/checkout:ro")
DELETE = """
from pyroute2 import IPRoute
with IPRoute() as netlink:
    netlink.link("del", index=netlink.link_lookup(ifname="wgoverlay")[0])
"""


def start_helper(machine: Machine) -> None:
    """Not as root, which podman can."""
    machine.node.run("chown", str(HELPER_UID), "/etc/hosts")
    machine.node.run("install", "-d", "-m", "1777", "/run/line")
    volumes = ("--volume=/run/line:/run/wesher-priv", "--volume=/etc/hosts:/etc/hosts")
    who = (f"--user={HELPER_UID}:{HELPER_UID}", "--cap-add=NET_ADMIN", f"--env=WESHER_USER={AGENT_UID}:{HELPER_UID}")
    command = ("/usr/local/bin/wesher-privhelper", "--listen", SOCKET)
    machine.start("helper", "/:O", *ROOT, *who, *volumes, command=command)
    until(lambda: INTERFACE in machine.node.links(), 20, "the helper has made its link")


def start_agent(machine: Machine) -> None:
    """Without a capability."""
    for directory in ("/run/wesher", "/var/lib/wesher"):
        machine.node.run("install", "-d", "-o", str(AGENT_UID), "-m", "700", directory)
    machine.node.write(KEY, CLUSTER_KEY_TEXT.encode())
    machine.node.run("chown", str(AGENT_UID), KEY)
    places = [f"--volume={path}:{path}" for path in ("/run/wesher", "/var/lib/wesher", KEY)]
    volumes = ("--volume=/run/line:/run/wesher-priv:ro", *places)
    command = ("/usr/local/bin/wesher", "--helper-socket", SOCKET, "--cluster-key-file", KEY)
    machine.start("agent", "/:O", *ROOT, f"--user={AGENT_UID}:{AGENT_UID}", *volumes, command=command)


def pings(node: Node, other: Node) -> bool:
    """Through the tunnel, by its address in the hosts file."""
    return node.ping(managed_names(node)[other.name], timeout=5)


def test_sidecars_make_a_mesh_on_the_kernels_wireguard(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a node without containers. The agent has nothing and can do nothing to the link; a new one finds all as it
    was; a stop of both is a leave."""
    monkeypatch.setenv("WESHER_BIN", "/usr/local/bin/wesher")
    with Lab(2) as lab:
        machine, other = Machine(lab.nodes[0]), lab.nodes[1]
        node = machine.node
        start_helper(machine)
        start_agent(machine)
        start(other, "--join", node.address)
        until(partial(pings, node, other), 30, "one way")
        until(partial(pings, other, node), 30, "and the other")
        assert "kernel" == json.loads(node.wesher("status", "--json").stdout)["node"]["backend"]

        agent, helper = machine.proc_status("agent"), machine.proc_status("helper")
        assert ([str(AGENT_UID)] * 4, [str(HELPER_UID)] * 4) == (agent["Uid"].split(), helper["Uid"].split())
        assert {0} == {int(agent[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        assert [NET_ADMIN] * 3 == [int(helper[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")]
        assert [("1", "2")] * 2 == [(found["NoNewPrivs"], found["Seccomp"]) for found in (agent, helper)]
        refused = machine.inside("agent", "python3", "-I", "-c", DELETE)
        assert "Operation not permitted" in refused.stderr
        assert INTERFACE in node.links()

        before = public_key(node), peer_keys(node), node.hosts()
        machine.podman("kill", "--signal=KILL", "agent")
        until(lambda: machine.state("agent").startswith("exited"), 5, "the agent is gone")
        assert pings(node, other)
        machine.podman("rm", "agent")
        start_agent(machine)
        until(lambda: node.wesher("status", "--json").returncode == 0, 20, "the next is there")
        assert before == (public_key(node), peer_keys(node), node.hosts())

        machine.podman("stop", "--time=120", "agent", "helper", timeout=30)
        until(lambda: not managed_names(other), 5, "the other has dropped it")
        assert has_nothing_left(node)
