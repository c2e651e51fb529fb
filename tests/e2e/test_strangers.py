"""A bad member costs only itself: the others keep their tunnels, and `status` names it with the reason."""

import base64
import json
import sys
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, ip_address, ip_network
from itertools import count
from pathlib import Path

import pytest

from privhelper.addressing import derive
from tests.e2e.mesh import (
    CLUSTER_KEY,
    managed_names,
    overlay_addresses,
    peer_keys,
    pings_by_name,
    start_mesh,
    status,
)
from tests.lab import Lab, Node, until
from wesher.mesh.node_meta import Claim, MetaForm, NodeMeta, encode
from wesher.swim.members import HIGHEST

pytestmark = pytest.mark.root

SOURCE = (Path(__file__).parent / "stranger.py").read_text()
YOUNG = Claim(0, HIGHEST)
NET = ip_network("10.20.30.0/24")  # small, so that a name for a chosen address is quickly found


def meta(name: str, key: bytes, address: IPv4Address | None = None, claim: Claim | None = None) -> bytes:
    """Metadata as an honest node of this name would announce it, a Go node without a `claim`."""
    found = address or derive(NET, name.encode(), 0)
    return encode(NodeMeta(found, key, MetaForm.V03, claim))


def with_unreadable_key(name: str) -> bytes:
    """Well-formed metadata but for the public key's text."""
    good = meta(name, b"\x42" * 32)
    return good.replace(base64.b64encode(b"\x42" * 32), b"!" * 44)


def name_with_address_of(name: str) -> str:
    """Another name that hashes to the same address in NET."""
    wanted = derive(NET, name.encode(), 0)
    return next(f"twin-{i}" for i in count() if derive(NET, f"twin-{i}".encode(), 0) == wanted)


def let_in(node: Node, members: Mapping[str, bytes], join: str) -> None:
    """Run the members, name to metadata, on `node`."""
    plan = {
        "key": CLUSTER_KEY.hex(),
        "address": node.address,
        "join": join,
        "members": [{"name": name, "meta": data.hex()} for name, data in members.items()],
    }
    node.start_program(sys.executable, "-c", SOURCE, json.dumps(plan))


def test_bad_members_cost_only_themselves(make_lab: Callable[[int], Lab]) -> None:
    """Unparsable metadata, a bad key, a newline in the name, a taken address, an address outside the net."""
    first, second, third, stranger = make_lab(4).nodes
    mesh = [first, second, third]
    start_mesh(mesh, "--overlay-net", str(NET))
    keys = {node.name: peer_keys(node) for node in mesh}
    twin = name_with_address_of(second.name)
    members = {
        "garbage": b"\x99\x98\x97",
        "badkey": with_unreadable_key("badkey"),
        "new\n192.0.2.66\tline": meta("new\n192.0.2.66\tline", b"\x05" * 32),
        twin: meta(twin, b"\x06" * 32, claim=YOUNG),
        "outside": meta("outside", b"\x07" * 32, ip_address("192.0.2.1")),
        "thief": meta("thief", b"\x08" * 32, derive(NET, third.name.encode(), 0)),
        "localhost": meta("localhost", b"\x09" * 32),
        "honest": meta("honest", b"\x0a" * 32),
    }

    let_in(stranger, members, first.address)

    for node in mesh:
        until(lambda n=node: "honest" in managed_names(n), 15, f"{node.name} has the honest one among them")
        reasons = {}

        def all_named(node: Node = node, reasons: dict[str, str] = reasons) -> bool:
            refused = status(node)["refused"]
            reasons.update({entry["name"]: entry["peer_reason"] or entry["hosts_reason"] for entry in refused})
            return len(refused) == 7

        until(all_named, 10, f"{node.name} names the seven others")
        expected = {
            "garbage": "metadata does not parse",
            "badkey": "public key does not parse",
            "new\n192.0.2.66\tline": "name is not 1 to 64 printable ASCII characters",
            twin: "overlay address is this node's own"
            if node is second
            else f"overlay address belongs to {second.name}",
            "outside": "overlay address outside the overlay net",
            "thief": "overlay address is this node's own"
            if node is third
            else "overlay address is not derived from the name",
            "localhost": "name is reserved",
        }
        assert expected == reasons
        assert keys[node.name] <= peer_keys(node)
        assert {"honest"} | {other.name for other in mesh if other is not node} == set(managed_names(node))
        assert b"192.0.2.66" not in node.hosts()
    table = first.wesher("status").stdout
    assert "refused 'new\\n192.0.2.66\\tline': peer: name is not" in table
    for node in mesh:
        for other in mesh:
            until(lambda n=node, o=other: n is o or n.ping(o.name), 5, f"{node.name} pings {other.name}")


def test_a_member_that_cannot_move_keeps_its_address_and_ours_moves(make_lab: Callable[[int], Lab]) -> None:
    """A Go node knows of no other address than its first: whoever comes first or later, ours takes its next."""
    first, second, stranger = make_lab(3).nodes
    running = start_mesh([first, second], "--overlay-net", str(NET))
    old = managed_names(first)[second.name]
    twin = name_with_address_of(second.name)
    let_in(stranger, {twin: meta(twin, b"\x06" * 32)}, first.address)

    until(lambda: managed_names(first).get(twin) == old, 15, "the twin has the address")
    until(lambda: set(managed_names(first)) == {twin, second.name}, 15, "the other has another")
    until(lambda: managed_names(second).get(twin) == old, 15, "for both")
    assert overlay_addresses(second) == {managed_names(first)[second.name]} != {old}
    until(lambda: pings_by_name(first, second) and pings_by_name(second, first), 10, "they reach each other")
    until(lambda: f"overlay address {old} is {twin}'s by right" in running[1].stderr_text(), 5, "it says why")
    assert (status(first)["refused"], status(second)["refused"]) == ([], [])
