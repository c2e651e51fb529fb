"""Names that meet on one overlay address: every node ends with one of its own, and is reached by name."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from ipaddress import ip_network
from itertools import count

import pytest

from privhelper.addressing import Network, derive, is_edge
from tests.e2e.layouts import Layout
from tests.e2e.mesh import INTERFACE, await_mesh, managed_names, overlay_addresses, rename, start, status
from tests.lab import Lab, Node, until

pytestmark = pytest.mark.root

FILE = "/var/lib/wesher/wgoverlay.json"
IPV4, IPV6 = ip_network("10.20.30.0/28"), ip_network("fd00:77::/124")


def meet(nodes: list[Node], net: Network) -> None:
    """Name the nodes so that the first choice of all is one address of the net, and not its first or last."""
    by_address: dict[object, list[str]] = {}
    for number in count():
        name = f"meet{number}"
        address = derive(net, name.encode(), 0)
        found = by_address.setdefault(address, [])
        found.append(name)
        if len(found) == len(nodes) and not is_edge(net, address):
            for node, chosen in zip(nodes, found, strict=True):
                rename(node, chosen)
            return


def saved_attempt(node: Node) -> int:
    """Which of its addresses the node claims, by its state file."""
    attempt = json.loads(node.read(FILE))["Wesher"]["Own"]["Attempt"]
    assert isinstance(attempt, int)
    return attempt


@pytest.mark.parametrize("net", [IPV4, IPV6], ids=["ipv4", "ipv6"])
def test_two_names_with_one_address_end_with_two_and_keep_them(
    make_lab: Callable[[int], Lab], layout: Layout, net: Network
) -> None:
    """The later moves, saves that, and comes back to its new address after a crash of the machine."""
    first, second = nodes = make_lab(2).nodes
    meet(nodes, net)
    options = ("--overlay-net", str(net))
    layout.start(first, *options)
    until(lambda: status(first)["node"]["uptime_s"] > 1.5, 10, "a claim is dated by the second")
    later = layout.start(second, "--join", first.address, *options)

    await_mesh(nodes)
    address = managed_names(first)[second.name]
    assert managed_names(second)[first.name] == str(derive(net, first.name.encode(), 0)) != address
    assert address == str(derive(net, second.name.encode(), saved_attempt(second)))
    until(lambda: f"is {first.name}'s by right: now {address}" in later.stderr_text(), 5, "it says why")
    for node in nodes:
        until(lambda n=node: n.wesher("status", "--check", check=False).returncode == 0, 10, f"{node.name} is well")

    later.kill()
    again = layout.start(second, *options)
    await_mesh(nodes)
    assert managed_names(first)[second.name] == address
    assert overlay_addresses(second) == {address}
    assert "by right" not in again.stderr_text()


def test_two_that_start_alone_and_meet_later_settle_too(make_lab: Callable[[int], Lab]) -> None:
    """Both hold the address when they meet: the older claim keeps it, whichever joins the other."""
    older, younger, third = nodes = make_lab(3).nodes
    meet([older, younger], IPV4)
    options = ("--overlay-net", str(IPV4))
    start(older, *options)
    until(lambda: status(older)["node"]["uptime_s"] > 1.5, 10, "a claim is dated by the second")
    alone = start(younger, *options)
    until(lambda: overlay_addresses(younger) == overlay_addresses(older), 10, "both have the address")
    start(third, "--join", younger.address, *options)
    until(lambda: third.name in managed_names(younger), 10, "the younger has a peer already")
    alone.signal(signal.SIGKILL)
    alone.wait(5)
    start(younger, "--join", f"{older.address},{third.address}", *options)

    await_mesh(nodes)
    assert overlay_addresses(older) == {str(derive(IPV4, older.name.encode(), 0))}


def test_who_finds_no_free_address_says_so_and_keeps_what_it_has(make_lab: Callable[[int], Lab]) -> None:
    """A net of two addresses and three nodes: the third is no peer of anybody, and knows what to do about it."""
    first, second, third = make_lab(3).nodes
    net = ip_network("10.20.30.0/30")
    options = ("--overlay-net", str(net))
    start(first, *options)
    start(second, "--join", first.address, *options)
    await_mesh([first, second])
    daemon = start(third, "--join", first.address, *options)

    until(lambda: "none is free" in "".join(status(third)["problems"]), 15, "it says so")
    (problem,) = status(third)["problems"]
    (address,) = overlay_addresses(third)
    holder = next(node for node in (first, second) if overlay_addresses(node) == {address})
    assert problem == (
        f"overlay address {address} is {holder.name}'s by right, and of this node's others none is free; "
        "use a larger --overlay-net, or rename one of the two"
    )
    check = third.wesher("status", "--check", check=False)
    assert (check.returncode, problem in check.stdout) == (4, True)
    assert daemon.stderr_text().count("none is free") == 1
    await_mesh([first, second])


# --- given ones


STATIC = ("--overlay-net", str(IPV4), "--static-addresses")


def test_a_given_address_is_the_nodes_own(make_lab: Callable[[int], Lab], layout: Layout) -> None:
    """With --static-addresses everywhere; whoever is given none has the one that its name derives, or moves aside."""
    given, other, derived = nodes = make_lab(3).nodes
    meet([derived, other], IPV4)
    wanted = derive(IPV4, derived.name.encode(), 0)
    second = next(a for a in IPV4.hosts() if a not in [derive(IPV4, derived.name.encode(), k) for k in range(16)][:2])
    layout.start(derived, *STATIC)
    until(lambda: overlay_addresses(derived) == {str(wanted)}, 10, "it has its first")
    layout.start(given, *STATIC, "--address", str(wanted), "--join", derived.address)
    layout.start(other, *STATIC, "--address", str(second), "--join", derived.address)

    await_mesh(nodes)
    assert overlay_addresses(given) == {str(wanted)}
    assert overlay_addresses(other) == {str(second)}
    assert overlay_addresses(derived) == {str(derive(IPV4, derived.name.encode(), saved_attempt(derived)))}
    assert (saved_attempt(given), saved_attempt(other)) == (255, 255)
    assert [status(node)["refused"] for node in nodes] == [[], [], []]


def test_of_two_that_were_given_one_address_the_later_says_so(make_lab: Callable[[int], Lab]) -> None:
    """Neither moves: it is for the operator to decide."""
    first, second = make_lab(2).nodes
    options = (*STATIC, "--address", "10.20.30.5")
    start(first, *options)
    until(lambda: status(first)["node"]["uptime_s"] > 1.5, 10, "a claim is dated by the second")
    start(second, *options, "--join", first.address)

    problem = (
        f"overlay address 10.20.30.5 is {first.name}'s by right, and was given to this node; give one of the two "
        "another --address, or rename it"
    )
    until(lambda: status(second)["problems"] == [problem], 15, "the later says so")
    assert overlay_addresses(first) == overlay_addresses(second) == {"10.20.30.5"}
    assert status(first)["problems"] == []


def test_without_static_addresses_a_given_one_is_refused_and_named(make_lab: Callable[[int], Lab]) -> None:
    """By every node that has not been told to take any; it keeps its own mesh."""
    plain, given = make_lab(2).nodes
    start(plain, "--overlay-net", str(IPV4))
    taken = {derive(IPV4, given.name.encode(), attempt) for attempt in range(16)}
    start(given, *STATIC, "--address", str(next(a for a in IPV4.hosts() if a not in taken)), "--join", plain.address)

    until(lambda: status(plain)["refused"], 15, "it is refused")
    (refused,) = status(plain)["refused"]
    assert (refused["name"], refused["peer_reason"]) == (given.name, "overlay address is not derived from the name")
    assert "--static-addresses" in plain.wesher("status", "--check", check=False).stdout


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--address", "10.0.0.5"), "--address 10.0.0.5 follows from no name"),
        (("--static-addresses", "--address", "192.0.2.1"), "lies outside the overlay net 10.0.0.0/8; give one inside"),
        (("--static-addresses", "--address", "10.0.0.0"), "is the first or last of 10.0.0.0/8"),
        (("--static-addresses", "--address", "10.0.0.5/8"), "is no IP address; give one inside the overlay net"),
        (
            ("--static-addresses", "--overlay-net", "192.168.0.0/16", "--address", "192.168.77.200"),
            "lies in this host's network 192.168.77.0/24; give another --address",
        ),
        (
            ("--static-addresses", "--address", "10.0.0.5", "--helper-socket", "/run/x.sock"),
            "--address is the helper's affair under --helper-socket; give it to wesher-privhelper",
        ),
    ],
)
def test_an_address_that_cannot_be_is_refused_in_one_line(
    make_lab: Callable[[int], Lab], options: tuple[str, ...], error: str
) -> None:
    """Before anything is made."""
    (node,) = make_lab(1).nodes
    daemon = start(node, *options) if "--helper-socket" not in options else node.start(*options)
    assert daemon.wait(20) in (1, 2)
    (line,) = daemon.stderr_text().splitlines()
    assert error in line
    assert INTERFACE not in node.links()
