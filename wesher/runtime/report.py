"""What `wesher status` and `wesher members` show: gossip's view of each member beside WireGuard's, as stable JSON.

The two are separate facts: gossip may call a member failed whose tunnel works, and the other way round. Gossip forgets
who has died or left after a minute; this node remembers for longer, and may keep a tunnel for longer too. `members`
shows those as well, `status` only where there is a tunnel: it counts what gossip knows.
"""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from ipaddress import ip_address
from typing import Any, Final

from privhelper.protocol import Failed, HostsResult, Op, Peer, PeerStatus, PinnedPolicy
from wesher.mesh.desired import Refusal
from wesher.mesh.node_meta import MetaError, NodeMeta, decode
from wesher.mesh.saved_state import LastSeen, SavedNode
from wesher.runtime.joining import Reply
from wesher.swim.io import Endpoint, from_wire
from wesher.swim.member import Member
from wesher.wire.messages import NodeState

STATE_NAMES: Final[Mapping[NodeState, str]] = {
    NodeState.ALIVE: "alive",
    NodeState.SUSPECT: "suspect",
    NodeState.DEAD: "failed",
    NodeState.LEFT: "left",
}


_FAILED: Final[Mapping[Op, str]] = {
    Op.SET_PEERS: "the kernel refused peers or routes",
    Op.WRITE_HOSTS: "the hosts file cannot be written",
}

_OF_A_PEER: Final = (
    "name",
    "state",
    "retained",
    "since_s",
    "gossip_addr",
    "overlay_addr",
    "public_key",
    "meta_format",
)
"""What `status` says of a peer too, out of what `members` does."""


def status(
    *,
    version: str,
    pinned: PinnedPolicy,
    overlay_addr: str,
    me: Member,
    uptime: float,
    health_score: int,
    members: Sequence[Member],
    refused: Iterable[Refusal],
    tunnels: Iterable[PeerStatus],
    round_trips: Mapping[str, float],
    missed_pings: Mapping[str, int],
    failed_dials: Mapping[Endpoint, int],
    now: float,
    calendar: float,
    retained: Collection[Peer] = (),
    problems: Sequence[str] = (),
) -> dict[str, Any]:
    """The whole answer; seconds, but rtt in milliseconds.

    `now` is the node's clock, `calendar` the Unix time, for the age of handshakes. `retained` are the peers in force
    behind which no live member stands; `missed_pings`, by name, and `failed_dials`, by endpoint, are so many in a row;
    `problems` are what ails this node and shows nowhere else.
    """
    entries = _entries(members, now, retained)
    states = Counter(entry["state"] for entry in entries)
    round_trip = {name: round(seconds * 1000, 2) for name, seconds in round_trips.items()}
    dials = {member.name: failed_dials.get(member.endpoint, 0) for member in members}
    by_key = {_base64(tunnel.public_key): tunnel for tunnel in tunnels}
    return {
        "version": version,
        "node": {
            "name": me.name,
            "overlay_addr": overlay_addr,
            "public_key": _base64(pinned.public_key),
            "gossip_addr": str(me.endpoint),
            "interface": pinned.interface,
            "wireguard_port": pinned.wireguard_port,
            "backend": pinned.backend.name.lower(),
            "keepalive_s": pinned.keepalive,
            "uptime_s": round(uptime, 1),
        },
        "cluster": {
            "size": states["alive"] + states["suspect"],
            **{name: states[name] for name in STATE_NAMES.values()},
            "health_score": health_score,
        },
        "problems": list(problems),
        "refused": [asdict(refusal) for refusal in refused],
        "peers": [
            {name: entry[name] for name in _OF_A_PEER}
            | _tunnel(by_key.get(entry["public_key"]), calendar)
            | {
                "rtt_ms": round_trip.get(entry["name"]),
                "missed_pings": missed_pings.get(entry["name"], 0),
                "failed_dials": dials.get(entry["name"], 0),
            }
            for entry in entries
            if entry["name"] != me.name
        ],
    }


def members(
    *,
    me: Member,
    members: Sequence[Member],
    now: float,
    today: int,
    retained: Collection[Peer] = (),
    remembered: Iterable[SavedNode] = (),
) -> dict[str, Any]:
    """Everybody gossip knows, this node included, who is `retained`, and who is `remembered` of those who went.

    `now` as in `status`; `today` is the calendar in seconds since 2020. Ages in seconds, None where nobody knows.
    """
    entries = {entry["name"]: entry | {"last_seen_s": 0.0} for entry in _entries(members, now, retained)}
    live = {member.name for member in members if member.is_live}
    known = {node.name: node for node in remembered if node.name not in live}
    for name in entries.keys() - live:
        entries[name]["last_seen_s"] = None
    for name, node in known.items():
        entry = entries.setdefault(name, _of_remembered(node))
        entry["last_seen_s"] = None if node.seen is None else float(max(0, today - node.seen))
        entry["gossip_addr"] = entry["gossip_addr"] or str(from_wire(ip_address(node.addr).packed, me.port))
    in_gossip = {member.name for member in members}
    return {"members": [entry | {"in_gossip": name in in_gossip} for name, entry in sorted(entries.items())]}


def problems(
    *,
    failures: Iterable[Failed],
    hosts: HostsResult | None,
    unanswered: Sequence[str],
    address: str = "",
    whereabouts: str = "",
    name: str = "",
    clocks: str = "",
    state: str = "",
    reply: Reply = Reply.NONE,
) -> list[str]:
    """What ails this node and shows nowhere else, each with what to do about it.

    `failures` are the kernel's answers to the last set, `hosts` the last of WRITE_HOSTS; `unanswered` are the contacts
    of a node that has not found its cluster since it was started, `reply` what came of them last; `address`, on the
    overlay, `whereabouts`, below it, and `name` are what is wrong with its own, `clocks` with its clock or others',
    `state` with its state file, if anything.
    """
    found = [problem for problem in (name, address, whereabouts, clocks) if problem]
    for failure in failures:
        what = _FAILED.get(failure.op, f"the kernel refused {failure.op.name.lower()}")
        found.append(f"{what}: {os.strerror(failure.errno)}; it is tried again every few seconds")
    if hosts is HostsResult.REPLACED:
        found.append("the hosts file has been replaced by another; restart wesher to manage that one")
    if state:
        found.append(state)
    named = ", ".join(unanswered[:3]) + (f" and {len(unanswered) - 3} more" if len(unanswered) > 3 else "")
    if unanswered and reply is Reply.ANSWER:
        if not (name or clocks):  # which is why
            found.append(f"not joined: nobody who answers of {named} counts as a member; see the log of both nodes")
    elif unanswered and reply is Reply.UNREAD:
        found.append(
            f"not joined: who is there of {named} has another cluster key; with the one that wesher key show has there "
            "in a file, here: wesher key rotate --key-file FILE"
        )
    elif unanswered:
        found.append(
            f"not joined: no answer yet from {named}; are they up, with the same cluster key and reachable by TCP and "
            "UDP on the cluster port?"
        )
    return found


def _entries(members: Iterable[Member], now: float, retained: Iterable[Peer]) -> list[dict[str, Any]]:
    """One entry a name, by name."""
    kept = {peer.name: peer for peer in retained}
    entries = {member.name: _of_member(member, now, kept) for member in members}
    entries |= {name: _of_forgotten(peer) for name, peer in kept.items() if name not in entries}
    return [entry for _, entry in sorted(entries.items())]


def _of_member(member: Member, now: float, kept: Collection[str]) -> dict[str, Any]:
    meta = _meta(member)
    return {
        "name": member.name,
        "state": STATE_NAMES[member.state],
        "retained": member.name in kept and not member.is_live,
        "since_s": round(max(0.0, now - member.since), 1),
        "gossip_addr": str(member.endpoint),
        "overlay_addr": str(meta.overlay_addr) if meta is not None else None,
        "public_key": _base64(meta.public_key) if meta is not None else None,
        "meta_format": meta.form.value if meta is not None else None,
        "incarnation": member.incarnation,
    }


def _of_forgotten(peer: Peer) -> dict[str, Any]:
    """Gossip reaps the dead sooner than their tunnels are given up."""
    return {
        "name": peer.name,
        "state": STATE_NAMES[NodeState.DEAD],
        "retained": True,
        "since_s": None,
        "gossip_addr": None,
        "overlay_addr": str(peer.overlay_addr),
        "public_key": _base64(peer.public_key),
        "meta_format": None,
        "incarnation": None,
    }


def _tunnel(tunnel: PeerStatus | None, calendar: float) -> dict[str, Any]:
    if tunnel is None:
        return {"endpoint": None, "last_handshake_s": None, "rx_bytes": 0, "tx_bytes": 0}
    handshake = tunnel.last_handshake
    return {
        "endpoint": str(tunnel.endpoint) if tunnel.endpoint is not None else None,
        "last_handshake_s": max(0, round(calendar - handshake)) if handshake else None,
        "rx_bytes": tunnel.rx_bytes,
        "tx_bytes": tunnel.tx_bytes,
    }


def _of_remembered(node: SavedNode) -> dict[str, Any]:
    """Who was alive when last heard of, and is not there, has failed."""
    meta = _meta(node)
    return {
        "name": node.name,
        "state": STATE_NAMES[NodeState.LEFT if node.last is LastSeen.LEFT else NodeState.DEAD],
        "retained": False,
        "since_s": None,
        "gossip_addr": None,
        "overlay_addr": str(meta.overlay_addr) if meta is not None else None,
        "public_key": _base64(meta.public_key) if meta is not None else None,
        "meta_format": meta.form.value if meta is not None else None,
        "incarnation": None,
    }


def _meta(member: Member | SavedNode) -> NodeMeta | None:
    try:
        return decode(member.meta or b"")
    except MetaError:
        return None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
