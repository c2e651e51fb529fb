"""A machine that boots: its units are started by nobody, before it has an address and before names resolve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import Layers
from tests.deploy.machine import Machine, Workshop
from tests.deploy.mesh import AGENT, HELPER, public_key, status
from tests.deploy.releases import SCRIPT
from tests.e2e.mesh import CLUSTER_KEY_TEXT, managed_names, start, states
from tests.lab import Lab, Node, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

ADDRESS = "192.168.77.100"


@pytest.fixture
def lan() -> Iterator[Lab]:
    """The Ethernet that the machine is plugged into. The machine is called like the first of its nodes."""
    with Lab(2) as lab:
        yield lab


@pytest.fixture
def company(lan: Lab) -> Node:
    """The rest of the mesh."""
    node = lan.nodes[1]
    start(node)
    return node


def plug_in(machine: Machine, lan: Lab, port: str) -> None:
    """The cable, and the machine's address."""
    lan.lan.ip(f"link add name {port} type veth peer name host0 netns {machine.pid}", f"link set {port} master lan up")
    machine.good("ip", "address", "add", f"{ADDRESS}/24", "dev", "host0")
    machine.good("ip", "link", "set", "host0", "up")


def await_mesh(machine: Machine, company: Node, what: str) -> None:
    """Until it is a member, and each pings the other by its name."""
    until(lambda: [peer["state"] for peer in status(machine)["peers"]] == ["alive"], 30, f"{what}: a member")
    until(lambda: machine.run("ping", "-n", "-c1", "-W1", company.name).status == 0, 10, f"{what}: it pings")
    until(lambda: company.ping(managed_names(company)["node1"]), 10, f"{what}: it is pinged")


def test_a_boot_ends_in_the_mesh_whatever_comes_up_when(
    workshop: Workshop, releases: Path, layers: Callable[..., Layers], lan: Lab, company: Node
) -> None:
    """First without address and name, which come later; then after its power was cut; the last time it is switched off
    in order, which is a leave."""
    with workshop.machine(releases, layers(SCRIPT)) as machine:
        machine.write("/etc/default/wesher", "WESHER_JOIN=company.example\n")
        machine.write("/etc/credstore/wesher.cluster-key", CLUSTER_KEY_TEXT, "600")
        machine.good("systemctl", "enable", "wesher-wireguard-go", "wesher")
        there = machine.layer()

    with workshop.machine(releases, there) as machine:
        until(lambda: "no private or public address" in machine.journal(), 10, "it has no address, and says so")
        plug_in(machine, lan, "port100")
        until(lambda: "could not resolve" in machine.journal() or "could not join" in machine.journal(), 20, "nor name")
        machine.good("sh", "-c", f"echo '{company.address} company.example' >> /etc/hosts")
        await_mesh(machine, company, "the first boot")
        key = public_key(machine)
        there = machine.layer()
        lan.lan.ip("link set port100 nomaster")

    with workshop.machine(releases, there) as machine:
        plug_in(machine, lan, "port101")
        await_mesh(machine, company, "after a power cut")
        assert public_key(machine) != key
        assert machine.good("sh", "-c", "grep -c 'managed automatically' /etc/hosts").strip() == "1"
        machine.run("systemctl", "stop", AGENT, HELPER)
        until(lambda: states(company)["node1"] == "left", 10, "what is switched off in order has left")
