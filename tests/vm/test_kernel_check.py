"""`wesher check` where the kernel has WireGuard: whose a link of the name is, and that looking leaves all as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.mesh import INTERFACE, USERS, start, status
from tests.e2e.split import as_user
from tests.lab import Lab, Node, until

pytestmark = pytest.mark.vm

WESHER = "/usr/local/bin/wesher"
# The link-local address that the kernel gives eth0 comes when it comes; wg(8) would load the module.
EVERYTHING = f"""
{{ ip -o link; ip -o address; }} | grep -v fe80:
[ ! -e /sys/class/net/{INTERFACE} ] || wg show {INTERFACE}
cut -d ' ' -f 1 /proc/modules
"""


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """One machine."""
    monkeypatch.setenv("WESHER_BIN", WESHER)
    with Lab(1) as lab:
        yield lab.nodes[0]


def check(node: Node, *by: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit status, and of each thing the last that was said; links, devices and the kernel's modules stay."""
    return check_with(node, by=by)


def check_with(node: Node, *options: str, by: tuple[str, ...] = ()) -> tuple[int, dict[str, tuple[str, str]]]:
    """The same, of a start with these options."""
    before = node.run("sh", "-c", EVERYTHING).stdout
    done = node.run(*by, WESHER, "check", "--json", "--user", USERS, *options, check=False)
    assert node.run("sh", "-c", EVERYTHING).stdout == before
    return done.returncode, {f["what"]: (f["level"], f["text"]) for f in json.loads(done.stdout)["findings"]}


def test_a_check_tells_the_kernels_wireguard_and_whose_a_link_is(node: Node) -> None:
    """One that an earlier run left is no obstacle, nor is the port it has; one with somebody else's key is."""
    node.run("modprobe", "-r", "wireguard", check=False)  # it stays where an earlier test's link still does
    code, found = check(node)
    assert (code, found["wireguard"], found["interface"]) == (0, ("ok", "the kernel's"), ("ok", f"{INTERFACE} is free"))

    node.run("ip", "link", "add", INTERFACE, "type", "wireguard")
    node.run("wg", "set", INTERFACE, "listen-port", "51820")
    node.run("ip", "link", "set", INTERFACE, "up", "alias", "wesher")
    code, found = check(node)
    assert code == 0
    assert found["interface"] == ("ok", f"{INTERFACE} is left from an earlier run, and will be made anew")
    assert found["wireguard port"] == ("ok", "51820 is in use by the interface that will be made anew")

    node.write("/run/key", node.run("wg", "genkey").stdout.encode())
    node.run("wg", "set", INTERFACE, "private-key", "/run/key", "listen-port", "51999")
    node.run("ip", "link", "set", INTERFACE, "alias", "somebody")
    code, found = check(node)
    text = f"interface {INTERFACE} exists already; if nothing needs it: ip link del dev {INTERFACE}"
    assert (code, found["interface"]) == (1, ("error", text))
    code, found = check(node, *as_user(61003))
    assert (code, found["interface"][0]) == (0, "warning")
    assert found["interface"][1].startswith(f"interface {INTERFACE} exists already, and only root can see what it is; ")


def test_a_running_daemons_kernel_link_is_its_own(node: Node) -> None:
    """To root, who sees that it runs; whoever may not ask it is told that it may."""
    start(node)
    until(lambda: status(node), 20, "up")
    code, found = check(node)
    assert (code, found["interface"]) == (0, ("ok", f"{INTERFACE} is not looked at: wesher runs"))
    assert found["wireguard port"] == ("ok", "in use, and not looked at: wesher runs")
    code, found = check(node, *as_user(61003))
    assert (code, found["interface"][0], found["wireguard port"][0]) == (0, "warning", "warning")


def test_a_helper_of_its_own_is_checked_against_the_kernels_wireguard(node: Node) -> None:
    """Which needs no process beside it; what a helper has left of its own is no obstacle, somebody else's link is. The
    kernel's filter is not loaded for the sake of looking at it."""
    listen = ("--listen", "/run/helper.sock")
    code, found = check_with(node, *listen)
    assert (code, found["wireguard"], found["interface"]) == (0, ("ok", "the kernel's"), ("ok", f"{INTERFACE} is free"))
    assert found["ports"][0] == found["firewall"][0] == "ok"

    node.run("ip", "link", "add", INTERFACE, "type", "wireguard")
    node.run("wg", "set", INTERFACE, "listen-port", "51820")
    node.run("ip", "link", "set", INTERFACE, "up", "alias", "wesher")
    code, found = check_with(node, *listen)
    assert code == 0
    assert found["interface"] == (
        "ok",
        f"{INTERFACE} is a helper's, which runs, or has left it and will take it up again",
    )
    assert found["wireguard port"] == ("ok", f"in use, and not looked at: {INTERFACE} is there, a helper's")

    node.write("/run/key", node.run("wg", "genkey").stdout.encode())
    node.run("wg", "set", INTERFACE, "private-key", "/run/key", "listen-port", "51999")
    node.run("ip", "link", "set", INTERFACE, "alias", "somebody")
    code, found = check_with(node, *listen)
    text = f"interface {INTERFACE} exists already; if nothing needs it: ip link del dev {INTERFACE}"
    assert (code, found["interface"]) == (1, ("error", text))
