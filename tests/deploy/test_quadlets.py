"""dist/container/quadlet on a real systemd with a podman that reads it: Debian 13's. The machine itself is in the mesh,
as wesher.pod has it for that, and a node of the lab's is its company."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.containers import CHECKOUT, STORE, images
from tests.deploy.machine import Machine, Workshop
from tests.e2e.mesh import CLUSTER_KEY_TEXT, managed_names, start, states
from tests.lab import Lab, Node, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

ADDRESS = "192.168.77.100"
UNITS = ("wesher-pod", "wesher-helper", "wesher-agent")
SYSTEM_CALLS = "@keyring bpf landlock_create_ruleset landlock_add_rule landlock_restrict_self"
ENGINES = ("--capability=all", f"--system-call-filter={SYSTEM_CALLS}", f"--bind-ro={STORE}:/images")
"""What an engine in a machine needs, and the images."""

# Where this host's cgroups are of both kinds, a machine has none that limit.
PREPARE = """
mkdir -p /etc/containers/systemd /etc/wesher
printf '[storage]\\ndriver = "overlay"\\nrunroot = "/run/containers/storage"\\n' >/etc/containers/storage.conf
printf 'graphroot = "/run/containers/graph"\\n' >>/etc/containers/storage.conf
printf '[storage.options]\\nadditionalimagestores = ["/images"]\\n' >>/etc/containers/storage.conf
printf '[containers]\\npids_limit = 0\\n' >/etc/containers/containers.conf
mount -t tmpfs tmpfs /var/lib/containers
cp /srv/dist/container/quadlet/* /etc/containers/systemd/
cd /etc/containers/systemd
sed -i -e '/^PublishPort=/d' -e 's/^\\[Pod\\]$/&\\nNetwork=host/' -e 's:/etc/wesher/hosts:/etc/hosts:' wesher.pod
sed -i -e 's/^User=.*/User=0/' -e 's/^Group=.*/Group=0/' wesher-helper.container
sed -i 's:^\\[Container\\]$:&\\nVolume=wesher-wireguard\\:/run/wireguard:' wesher-helper.container
systemctl daemon-reload
podman run -d --name wesher-wireguard-go --network host --restart always --read-only --cap-drop all \\
  --cap-add NET_ADMIN --security-opt no-new-privileges --device /dev/net/tun \\
  --volume wesher-wireguard:/run/wireguard wesher-wireguard-go
"""


@pytest.fixture
def company(makes_machines: None) -> Iterator[tuple[Lab, Node]]:
    """The Ethernet, whose first node's name the machine has, and the rest of the mesh."""
    with Lab(2) as lab:
        start(lab.nodes[1])
        yield lab, lab.nodes[1]


@pytest.fixture
def machine(company: tuple[Lab, Node]) -> Iterator[Machine]:
    """A Debian 13 with podman, the quadlets, the key, and an address."""
    lab, node = company
    with images(), Workshop("trixie") as workshop, workshop.machine(CHECKOUT, options=ENGINES) as made:
        lab.lan.ip(
            f"link add name port300 type veth peer name host0 netns {made.pid}", "link set port300 master lan up"
        )
        made.good("ip", "address", "add", f"{ADDRESS}/24", "dev", "host0")
        made.good("ip", "link", "set", "host0", "up")
        made.good("sh", "-exc", PREPARE)
        made.good("podman", "secret", "create", "wesher-cluster-key", "-", stdin=CLUSTER_KEY_TEXT)
        made.write("/etc/wesher/environment", f"WESHER_JOIN={node.address}\nWESHER_LOG_LEVEL=info\n")
        yield made


def status(machine: Machine) -> dict[str, Any]:
    """`wesher status --json`; nothing where the agent does not answer."""
    said = machine.run("podman", "exec", "wesher-agent", "wesher", "status", "--json").out
    found: dict[str, Any] = json.loads(said or "{}")
    return found


def own_key(machine: Machine) -> str:
    """This run's of the helper."""
    return str(status(machine)["node"]["public_key"])


def pid(machine: Machine, container: str) -> str:
    """Its first process, as the machine has it."""
    return machine.good("podman", "inspect", "--format={{.State.Pid}}", container).strip()


def await_mesh(machine: Machine, company: Node, what: str) -> None:
    """Until each pings the other by its name."""
    until(lambda: [peer["state"] for peer in status(machine).get("peers", ())] == ["alive"], 30, f"{what}: a member")
    until(lambda: machine.run("ping", "-n", "-c1", "-W1", company.name).status == 0, 10, f"{what}: it pings")
    until(lambda: company.ping(managed_names(company)["node1"]), 10, f"{what}: it is pinged")


def test_the_quadlets_are_services_that_come_back_and_whose_end_is_a_leave(
    company: tuple[Lab, Node], machine: Machine
) -> None:
    """A new agent keeps the helper and its tunnels; whoever is killed is back; stopping the pod tells the members."""
    node = company[1]
    machine.good("systemctl", "start", "wesher-pod")
    await_mesh(machine, node, "a start")
    texts = [machine.good("systemctl", "show", "-P", "StatusText", unit).strip() for unit in UNITS[1:]]
    assert re.fullmatch(r"generation \d+: serving the agent", texts[0])
    assert texts[1] == "in the mesh"

    helper, key = pid(machine, "wesher-helper"), own_key(machine)
    machine.good("systemctl", "restart", "wesher-agent")
    await_mesh(machine, node, "another agent")
    machine.good("kill", "-KILL", pid(machine, "wesher-agent"))
    await_mesh(machine, node, "a killed agent")
    assert (helper, key) == (pid(machine, "wesher-helper"), own_key(machine))

    machine.good("kill", "-KILL", helper)
    until(lambda: status(machine).get("node", {}).get("public_key", key) != key, 30, "a killed helper is back")
    await_mesh(machine, node, "a killed helper")

    for number in range(1, 5):  # which half's stop gets podman's lock first is chance
        machine.good("systemctl", "stop", "wesher-pod")
        until(lambda: states(node)["node1"] == "left", 10, f"stop {number} is a leave")
        assert [machine.run("systemctl", "is-active", unit).out.strip() for unit in UNITS] == ["inactive"] * 3
        assert "managed automatically" not in machine.good("cat", "/etc/hosts")
        machine.good("systemctl", "start", "wesher-pod")
        await_mesh(machine, node, f"start {number} after it")
