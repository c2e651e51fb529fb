"""A Go node and ours whose names meet on one overlay address: the Go node, which cannot move, has it, and ours another.
Go reads where ours has gone, and has nothing to say against it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from itertools import count

import pytest

from privhelper.addressing import derive
from tests.e2e.mesh import managed_names, overlay_addresses, rename, start
from tests.interop.go import GoPeer, GoPeers, WesherMeta
from tests.interop.mixed import Peer, device, status
from tests.lab import Lab, Node, until

pytestmark = [pytest.mark.root, pytest.mark.go]

NET = ip_network("10.20.30.0/24")
OPTIONS = ("--overlay-net", str(NET))


def meeting(node: Node) -> tuple[str, WesherMeta]:
    """Another name with the node's first address, and what a Go node of that name announces."""
    address = derive(NET, node.name.encode(), 0)
    name = next(name for number in count() if derive(NET, (name := f"meet-{number}").encode(), 0) == address)
    return name, WesherMeta(str(address), WesherMeta.of(name).public_key)


def have_settled(ours: Node, theirs: Node, peer: GoPeer, meta: WesherMeta) -> bool:
    """Whether the Go node has the address on ours, and ours another on the Go node; nobody is refused."""
    (address,) = overlay_addresses(ours)
    read = peer.members()[ours.name]["read"]["master"]
    return (
        address != meta.overlay
        and read == WesherMeta(address, device(ours).public_key).read
        and device(ours).peers == {Peer(meta.public_key, f"{theirs.address}:51820", f"{meta.overlay}/32")}
        and managed_names(ours) == {peer.name: meta.overlay}
        and not status(ours)["refused"]
    )


@pytest.mark.parametrize("go_is_first", [True, False], ids=["go-first", "ours-first"])
def test_a_go_node_keeps_its_address_and_ours_takes_another_and_keeps_that(
    make_lab: Callable[[int], Lab], peers: GoPeers, go_is_first: bool
) -> None:
    ours, theirs = make_lab(2).nodes
    rename(ours, "ours")
    name, meta = meeting(ours)

    def start_go(*join: str) -> GoPeer:
        return peers.start(name, theirs.address, node=theirs, meta=meta, join=join)

    if go_is_first:
        peer = start_go()
        running = start(ours, *OPTIONS, "--join", theirs.address)
    else:
        running = start(ours, *OPTIONS)
        until(lambda: overlay_addresses(ours) == {meta.overlay}, 10, "ours has the address")
        peer = start_go(ours.address)

    until(lambda: have_settled(ours, theirs, peer, meta), 15, "each has an address")
    moved = overlay_addresses(ours)
    peers.allow(rf"(Push/Pull with {ours.name} failed|Failed fallback ping): .*(connection refused|reset by peer|EOF)")
    peers.allow(r"[Ff]ailed to .*(connection refused|reset by peer|EOF)")
    running.kill()
    running = start(ours, *OPTIONS)
    until(lambda: have_settled(ours, theirs, peer, meta), 15, "and again after a crash of ours")
    assert overlay_addresses(ours) == moved
    assert "by right" not in running.stderr_text()


def test_a_go_node_takes_an_address_that_was_given(make_lab: Callable[[int], Lab], peers: GoPeers) -> None:
    """And has its own with us, who take any from it too: --static-addresses is for our nodes alone."""
    ours, theirs = make_lab(2).nodes
    derived = {derive(NET, ours.name.encode(), attempt) for attempt in range(16)}
    given = str(next(address for address in NET.hosts() if address not in derived))
    meta = WesherMeta(str(derive(NET, theirs.name.encode(), 0)), WesherMeta.of(theirs.name).public_key)
    start(ours, *OPTIONS, "--static-addresses", "--address", given)
    until(lambda: overlay_addresses(ours) == {given}, 10, "ours has it")
    peer = peers.start(theirs.name, theirs.address, node=theirs, meta=meta, join=[ours.address])

    def have_each_other() -> bool:
        read = peer.members()[ours.name]["read"]["master"]
        return (
            read == WesherMeta(given, device(ours).public_key).read
            and device(ours).peers == {Peer(meta.public_key, f"{theirs.address}:51820", f"{meta.overlay}/32")}
            and status(ours)["refused"] == status(ours)["problems"] == []
        )

    until(have_each_other, 15, "each has the other where it is")
