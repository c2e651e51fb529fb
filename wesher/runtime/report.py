"""What `wesher status` shows: gossip's view of each member beside WireGuard's, as a stable JSON object.

The two are separate facts: gossip may call a member failed whose tunnel works, and the other way round.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from privhelper.protocol import PeerStatus, PinnedPolicy
from wesher.mesh.desired import Refusal
from wesher.mesh.node_meta import MetaError, NodeMeta, decode
from wesher.swim.member import Member
from wesher.wire.messages import NodeState

STATE_NAMES: Final[Mapping[NodeState, str]] = {
    NodeState.ALIVE: "alive",
    NodeState.SUSPECT: "suspect",
    NodeState.DEAD: "failed",
    NodeState.LEFT: "left",
}


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
    calendar: float,
) -> dict[str, Any]:
    """The whole answer. `calendar` is the Unix time, for the age of handshakes; seconds, but rtt in milliseconds."""
    states = Counter(STATE_NAMES[member.state] for member in members)
    by_key = {tunnel.public_key: tunnel for tunnel in tunnels}
    others = sorted((member for member in members if member.name != me.name), key=lambda member: member.name)
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
            "uptime_s": round(uptime, 1),
        },
        "cluster": {
            "size": states["alive"] + states["suspect"],
            **{name: states[name] for name in STATE_NAMES.values()},
            "health_score": health_score,
        },
        "refused": [asdict(refusal) for refusal in refused],
        "peers": [_peer(member, by_key, round_trips.get(member.name), calendar) for member in others],
    }


def _peer(
    member: Member, tunnels: Mapping[bytes, PeerStatus], round_trip: float | None, calendar: float
) -> dict[str, Any]:
    meta = _meta(member)
    tunnel = tunnels.get(meta.public_key) if meta is not None else None
    handshake = tunnel.last_handshake if tunnel is not None else 0
    return {
        "name": member.name,
        "state": STATE_NAMES[member.state],
        "gossip_addr": str(member.endpoint),
        "overlay_addr": str(meta.overlay_addr) if meta is not None else None,
        "public_key": _base64(meta.public_key) if meta is not None else None,
        "endpoint": str(tunnel.endpoint) if tunnel is not None and tunnel.endpoint is not None else None,
        "last_handshake_s": max(0, round(calendar - handshake)) if handshake else None,
        "rx_bytes": tunnel.rx_bytes if tunnel is not None else 0,
        "tx_bytes": tunnel.tx_bytes if tunnel is not None else 0,
        "rtt_ms": round(round_trip * 1000, 2) if round_trip is not None else None,
        "meta_format": meta.form.value if meta is not None else None,
    }


def _meta(member: Member) -> NodeMeta | None:
    try:
        return decode(member.meta)
    except MetaError:
        return None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
