"""What the daemon answers: gossip's facts beside WireGuard's, in a shape that scripts rely on."""

from __future__ import annotations

import base64
import errno
import json
from ipaddress import IPv4Address, ip_network
from typing import Any

import pytest

from privhelper.protocol import Backend, Failed, HostsResult, Op, Peer, PeerStatus, PinnedPolicy
from tests.unit.cli import answers
from wesher.mesh.desired import Refusal
from wesher.mesh.node_meta import MetaForm, NodeMeta, encode
from wesher.mesh.saved_state import LastSeen, SavedNode
from wesher.runtime import report
from wesher.runtime.joining import Reply
from wesher.swim.member import Member
from wesher.wire.messages import NodeState

NOW, CALENDAR = 1000.0, 1_800_000_000.0
TODAY = 217_000_000
"""Seconds since 2020 in November 2026."""


def key(name: str) -> bytes:
    """A public key of `name`'s own."""
    return name.encode("utf-8", "surrogateescape").ljust(32, b"k")


def text(data: bytes) -> str:
    """As the answer has it."""
    return base64.b64encode(data).decode()


def member(name: str, state: NodeState = NodeState.ALIVE, *, age: float = 60.0, meta: bytes | None = None) -> Member:
    """A member with a good announcement, `age` seconds in its state."""
    good = encode(NodeMeta(IPv4Address("10.0.0.7"), key(name), MetaForm.V02, None))
    return Member(name, bytes((192, 0, 2, 9)), 7946, good if meta is None else meta, 5, state, NOW - age)


def kept(name: str) -> Peer:
    """The tunnel kept for a failed member."""
    return Peer(key(name), IPv4Address("192.0.2.9"), IPv4Address("10.0.0.7"), name)


def tunnel(name: str, handshake: int = 0) -> PeerStatus:
    """WireGuard's view of a peer."""
    return PeerStatus(key(name), IPv4Address("192.0.2.200"), handshake, 10, 20)


PINNED = PinnedPolicy(
    node_name="node-a",
    interface="wgoverlay",
    overlay_net=ip_network("10.0.0.0/8"),
    wireguard_port=51820,
    mtu=1420,
    max_peers=1000,
    keepalive=0,
    etc_hosts=True,
    backend=Backend.KERNEL,
    public_key=key("node-a"),
    in_force=0,
    hosts_suffix="",
)


def status(*members: Member, **changes: Any) -> dict[str, Any]:
    """The whole answer of node-a that knows `members`, as a client reads it."""
    values: dict[str, Any] = {
        "version": "1",
        "pinned": PINNED,
        "overlay_addr": "10.9.9.9",
        "me": member("node-a"),
        "uptime": 12.34,
        "health_score": 1,
        "members": [member("node-a"), *members],
        "refused": [],
        "tunnels": [],
        "round_trips": {},
        "missed_pings": {},
        "failed_dials": {},
        "now": NOW,
        "calendar": CALENDAR,
    }
    answer = json.loads(json.dumps(report.status(**values | changes)))
    assert isinstance(answer, dict)
    return answer


def members(*known: Member, **changes: Any) -> list[dict[str, Any]]:
    """The members in an answer of node-a that knows `known`, as a client reads them."""
    values: dict[str, Any] = {"me": member("node-a"), "members": known, "now": NOW, "today": TODAY}
    found = json.loads(json.dumps(report.members(**values | changes)))["members"]
    assert isinstance(found, list)
    return found


def shape(answer: Any) -> Any:
    """The names of all members, however deep."""
    if isinstance(answer, dict):
        return {name: shape(value) for name, value in answer.items()}
    return [shape(entry) for entry in answer[:1]] if isinstance(answer, list) else None


def test_the_answers_have_the_shape_that_is_documented():
    """And that the tests of the commands use."""
    refused = [Refusal("node-c", "public key is weak", "peer refused")]
    found = status(member("node-b"), refused=refused, problems=["p"])
    assert shape(found) == shape(answers.status(answers.peer(), refused=(answers.refusal(),), problems=("p",)))
    assert shape(members(member("node-b"))) == shape([answers.member()])


def test_a_peer_is_gossips_view_beside_wireguards():
    """Found by its public key; a handshake is an age, and the endpoint is where it really is."""
    found = status(
        member("node-b"),
        tunnels=[tunnel("x"), tunnel("node-b", int(CALENDAR) - 42)],
        round_trips={"node-b": 0.00125},
        missed_pings={"node-b": 3, "node-c": 9},
        failed_dials={member("node-b").endpoint: 2},
    )
    assert found["peers"] == [
        {
            "name": "node-b",
            "state": "alive",
            "retained": False,
            "since_s": 60.0,
            "gossip_addr": "192.0.2.9:7946",
            "overlay_addr": "10.0.0.7",
            "public_key": text(key("node-b")),
            "meta_format": "0.2",
            "endpoint": "192.0.2.200",
            "last_handshake_s": 42,
            "rx_bytes": 10,
            "tx_bytes": 20,
            "rtt_ms": 1.25,
            "missed_pings": 3,
            "failed_dials": 2,
        }
    ]


def test_a_member_without_a_tunnel_or_metadata_is_there_all_the_same():
    """With nothing where nothing is known."""
    (found,) = status(member("node-b", meta=b"\xff"))["peers"]
    assert (found["overlay_addr"], found["public_key"], found["meta_format"], found["endpoint"]) == (None,) * 4
    assert (found["last_handshake_s"], found["rtt_ms"], found["rx_bytes"], found["tx_bytes"]) == (None, None, 0, 0)


def test_a_handshake_in_the_future_is_now():
    """The clock was set back meanwhile."""
    assert status(member("b"), tunnels=[tunnel("b", int(CALENDAR) + 9)])["peers"][0]["last_handshake_s"] == 0


def test_states_are_counted_and_this_node_among_them():
    """The size is of who is in: alive or suspected."""
    found = status(
        member("b", NodeState.SUSPECT), member("c", NodeState.DEAD), member("d", NodeState.LEFT), member("e")
    )
    assert found["cluster"] == {"size": 3, "alive": 2, "suspect": 1, "failed": 1, "left": 1, "health_score": 1}
    assert [(p["name"], p["state"]) for p in found["peers"]] == [
        ("b", "suspect"),
        ("c", "failed"),
        ("d", "left"),
        ("e", "alive"),
    ]


def test_members_are_everybody_by_name_and_this_node_too():
    """With the incarnation, and how long the state lasts."""
    found = members(member("node-b", age=1.26), member("node-a"))
    assert [(m["name"], m["since_s"], m["incarnation"]) for m in found] == [("node-a", 60.0, 5), ("node-b", 1.3, 5)]


@pytest.mark.parametrize("state", NodeState)
def test_a_kept_tunnel_is_said_of_a_member_that_is_not_live(state):
    """Its state is gossip's word at once; a live member's tunnel is simply its own."""
    dead = state in (NodeState.DEAD, NodeState.LEFT)
    (found,) = members(member("b", state), retained=[kept("b")])
    assert (found["state"], found["retained"]) == (report.STATE_NAMES[state], dead)
    (peer,) = status(member("b", state), retained=[kept("b")])["peers"]
    assert (peer["state"], peer["retained"]) == (report.STATE_NAMES[state], dead)


def test_a_member_that_gossip_has_reaped_is_shown_while_its_tunnel_is_kept():
    """Failed, with what its tunnel tells; it counts as failed too."""
    found = status(member("z"), retained=[kept("b")], tunnels=[tunnel("b", int(CALENDAR) - 3)])
    assert (found["cluster"]["failed"], found["cluster"]["size"]) == (1, 2)
    gone, _ = found["peers"]
    assert (gone["name"], gone["state"], gone["retained"], gone["last_handshake_s"]) == ("b", "failed", True, 3)
    assert (gone["gossip_addr"], gone["since_s"], gone["overlay_addr"]) == (None, None, "10.0.0.7")
    listed, _ = members(member("z"), retained=[kept("b")])
    assert (listed["name"], listed["state"], listed["incarnation"]) == ("b", "failed", None)
    assert shape(listed) == shape(answers.member())


@pytest.mark.parametrize(
    ("last", "state"), [(LastSeen.FAILED, "failed"), (LastSeen.LEFT, "left"), (LastSeen.ALIVE, "failed")]
)
def test_a_member_that_is_only_remembered_is_shown_with_when_it_was_last_alive(last, state):
    """Gossip has forgotten it; who was alive then and is not there has failed. `status` does not count it."""
    node = SavedNode("b", "192.0.2.9", member("b").meta, TODAY - 90, last)
    ours, found = members(member("a"), remembered=[node])
    assert (ours["in_gossip"], ours["last_seen_s"]) == (True, 0.0)
    assert found == {
        "name": "b",
        "state": state,
        "retained": False,
        "since_s": None,
        "gossip_addr": "192.0.2.9:7946",
        "overlay_addr": "10.0.0.7",
        "public_key": text(key("b")),
        "meta_format": "0.2",
        "incarnation": None,
        "last_seen_s": 90.0,
        "in_gossip": False,
    }


@pytest.mark.parametrize("node", [SavedNode("b", "192.0.2.9", None), SavedNode("b", "192.0.2.9", b"\xff", TODAY + 5)])
def test_what_is_not_known_of_who_is_remembered_is_nothing(node):
    """Go's file says neither when nor, sometimes, with what metadata; a clock may have been ahead."""
    (found,) = members(remembered=[node])
    assert (found["overlay_addr"], found["public_key"], found["meta_format"]) == (None, None, None)
    assert found["last_seen_s"] == (None if node.seen is None else 0.0)


def test_what_gossip_says_of_a_member_wins_over_what_is_remembered():
    """Both tell of one who has just died; of one who lives, nothing is remembered that is worth showing."""
    nodes = [SavedNode(name, "192.0.2.77", None, TODAY - 7, LastSeen.LEFT) for name in ("dead", "live")]
    dead, live = members(member("dead", NodeState.DEAD), member("live"), remembered=nodes)
    assert (dead["state"], dead["last_seen_s"], dead["gossip_addr"]) == ("failed", 7.0, "192.0.2.9:7946")
    assert (live["state"], live["last_seen_s"]) == ("alive", 0.0)
    (unknown,) = members(member("dead", NodeState.DEAD))
    assert unknown["last_seen_s"] is None


def test_a_tunnel_that_is_kept_is_said_of_who_is_only_remembered():
    """One entry for both, with what each knows."""
    node = SavedNode("b", "192.0.2.9", None, TODAY - 400, LastSeen.FAILED)
    (found,) = members(retained=[kept("b")], remembered=[node])
    assert (found["state"], found["retained"], found["last_seen_s"]) == ("failed", True, 400.0)
    assert (found["gossip_addr"], found["overlay_addr"]) == ("192.0.2.9:7946", "10.0.0.7")


def test_names_that_are_no_text_survive():
    """memberlist's names are bytes."""
    (found,) = status(member("\udcff\n"))["peers"]
    assert found["name"] == "\udcff\n"


# --- problems


def test_a_node_that_is_well_has_no_problems():
    """Also under --no-etc-hosts, and before the first set."""
    for hosts in (None, HostsResult.WRITTEN, HostsResult.DISABLED):
        assert report.problems(failures=[], hosts=hosts, unanswered=[]) == []


def test_a_problem_says_what_and_what_then():
    """One line each."""
    assert report.problems(
        failures=[
            Failed(Op.SET_PEERS, errno.EPERM),
            Failed(Op.WRITE_HOSTS, errno.EROFS),
            Failed(Op.STATUS, errno.ENODEV),
        ],
        hosts=HostsResult.REPLACED,
        unanswered=["node-b", "192.0.2.1"],
    ) == [
        "the kernel refused peers or routes: Operation not permitted; it is tried again every few seconds",
        "the hosts file cannot be written: Read-only file system; it is tried again every few seconds",
        "the kernel refused status: No such device; it is tried again every few seconds",
        "the hosts file has been replaced by another; restart wesher to manage that one",
        "not joined: no answer yet from node-b, 192.0.2.1; are they up, with the same cluster key and reachable by TCP "
        "and UDP on the cluster port?",
    ]


def test_of_many_contacts_a_few_are_named():
    """A thousand saved members are no line."""
    (found,) = report.problems(failures=[], hosts=None, unanswered=[f"n{i}" for i in range(1000)])
    assert "from n0, n1, n2 and 997 more;" in found


def test_contacts_that_answer_are_not_said_to_be_silent():
    """Where the reason is known, it alone is told; else that there is one."""
    quiet = {"failures": [], "hosts": None, "unanswered": ["node-b"], "reply": Reply.ANSWER}
    assert report.problems(**quiet) == [
        "not joined: nobody who answers of node-b counts as a member; see the log of both nodes"
    ]
    assert report.problems(**quiet, name="taken") == ["taken"]
    assert report.problems(**quiet, clocks="behind") == ["behind"]


def test_who_has_another_key_is_said_to():
    """A node that was away for longer than a key's grace is told how to get the new one."""
    assert report.problems(failures=[], hosts=None, unanswered=["node-b"], reply=Reply.UNREAD) == [
        "not joined: who is there of node-b has another cluster key; with the one that wesher key show has there in a "
        "file, here: wesher key rotate --key-file FILE"
    ]
