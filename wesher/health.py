"""What `wesher status --check` calls degraded: rules over the daemon's own answer, each with what to do about it.

A rule looks at one kind of entry, says of each whether it ails, and in one line what and what then. Nothing ails that
the operator chose, and nothing that is merely idle: without a keepalive a tunnel that carries nothing has no handshake,
and that is good. Members that left are none of ours any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from privhelper.policy import HOSTS_REASONS, PEER_REASONS, HostsVerdict, PeerVerdict
from wesher.mesh.node_meta import MetaFault
from wesher.show import duration, plain, word

SILENT_FOR: Final = 300.0
"""Seconds that an alive member may take to answer a first packet through its tunnel."""

MISSED_FROM: Final = 5
"""Pings in a row that nobody but a member's neighbours or a stream hears of: loss of a fifth both ways does that to one
in three hundred, and then for the time of a few probes."""

UNDIALLED_FROM: Final = 2
"""Connections in a row that do not come about while the member answers pings: one may have met its restart."""

SLOW_FROM: Final = 4
"""The health score, 0 to 7, from which this node doubts itself more than the others."""

CHOSEN: Final = frozenset((HOSTS_REASONS[HostsVerdict.DISABLED],))
"""Reasons for a refusal that are the operator's own wish."""

_SAME_NET: Final = "give every node the same --overlay-net"
_NEW_KEY: Final = "restart wesher there, which makes a new key"
_RENAME: Final = "rename that host"
_RENAME_ONE: Final = "rename one of the two"
_ANNOUNCE: Final = "start wesher there with an address that others reach it at"
_VERSION: Final = "see that it is wesher, and which version"

REMEDIES: Final[Mapping[str, str]] = {
    PEER_REASONS[PeerVerdict.OUTSIDE_NET]: _SAME_NET,
    PEER_REASONS[PeerVerdict.OWN_ADDRESS]: f"wait a minute for it to move; else {_RENAME}, or give another --address",
    PEER_REASONS[PeerVerdict.NOT_DERIVED]: f"{_SAME_NET}, and --static-addresses where one is given its --address",
    PEER_REASONS[PeerVerdict.LOCAL_NETWORK]: "use an --overlay-net apart from all local networks",
    PEER_REASONS[PeerVerdict.ENDPOINT_CLASS]: _ANNOUNCE,
    PEER_REASONS[PeerVerdict.ENDPOINT_LOCAL]: _ANNOUNCE,
    PEER_REASONS[PeerVerdict.ENDPOINT_OVERLAY]: _ANNOUNCE,
    PEER_REASONS[PeerVerdict.OWN_KEY]: _NEW_KEY,
    PEER_REASONS[PeerVerdict.WEAK_KEY]: _NEW_KEY,
    PEER_REASONS[PeerVerdict.TOO_MANY]: "raise --max-peers",
    PEER_REASONS[PeerVerdict.ENDPOINT_TUNNELLED]: "take that route off the overlay's link here",
    HOSTS_REASONS[HostsVerdict.NOT_A_HOST_NAME]: _RENAME,
    HOSTS_REASONS[HostsVerdict.ADDRESS_LITERAL]: _RENAME,
    HOSTS_REASONS[HostsVerdict.RESERVED]: _RENAME,
    HOSTS_REASONS[HostsVerdict.OWN_NAME]: _RENAME_ONE,
    HOSTS_REASONS[HostsVerdict.TAKEN]: f"remove that line, or {_RENAME}",
    HOSTS_REASONS[HostsVerdict.UNREADABLE]: "see the log, and the file that --hosts-file names",
    HOSTS_REASONS[HostsVerdict.OUTSIDE_SUFFIX]: f"{_RENAME}, or choose another --hosts-suffix",
    HOSTS_REASONS[HostsVerdict.DOUBLE]: _RENAME_ONE,
    **dict.fromkeys(MetaFault, _VERSION),
}
"""What to do about a refusal, by its reason."""

_OF_ANOTHER: Final[Mapping[str, str]] = {
    "overlay address": f"wait a minute for one of the two to move; else give it another --address, or {_RENAME_ONE}",
    "name, but for upper and lower case,": _RENAME_ONE,
}
"""The same for reasons that quote whose it is: by what belongs to another."""

_OTHERWISE: Final = "see the log of both nodes"
"""For what is left, and for reasons of a newer daemon."""


class Rule(NamedTuple):
    """One way in which a node can be degraded."""

    entries: Callable[[Mapping[str, Any]], Iterable[Any]]
    ails: Callable[[Any], bool]
    finding: Callable[[Any], str]


def degraded(status: Mapping[str, Any]) -> list[str]:
    """The findings in `status`, an answer to GET /status; empty where all is well."""
    return [rule.finding(entry) for rule in RULES for entry in rule.entries(status) if rule.ails(entry)]


def _problems(status: Mapping[str, Any]) -> Iterable[str]:
    """None from a daemon that was started before this command was installed."""
    return [str(problem) for problem in status.get("problems", ())]


def _cluster(status: Mapping[str, Any]) -> Iterable[Any]:
    return [status["cluster"]]


def _peers(status: Mapping[str, Any]) -> Iterable[Any]:
    """Each with what of this node its rules need; an older daemon does not tell its keepalive."""
    node = status["node"]
    of_here = {"wireguard_port": node["wireguard_port"], "keepalive_s": node.get("keepalive_s", 0)}
    return [of_here | dict(peer) for peer in status["peers"]]


def _refused(status: Mapping[str, Any]) -> Iterable[Any]:
    return list(status["refused"])


def _is_silent(peer: Mapping[str, Any]) -> bool:
    """Packets were sent and none has ever come, or, where a keepalive keeps it from idling, none comes any more; what
    only just became alive has time."""
    since, handshake = peer.get("since_s"), peer["last_handshake_s"]
    lasting = since is not None and since > SILENT_FOR and (handshake is None or handshake > SILENT_FOR)
    never = peer["tx_bytes"] > 0 and peer["rx_bytes"] == 0
    return peer["state"] == "alive" and lasting and bool(never or 0 < peer["keepalive_s"] < SILENT_FOR)


def _misses_pings(peer: Mapping[str, Any]) -> bool:
    return peer["state"] == "alive" and bool(peer.get("missed_pings", 0) >= MISSED_FROM)


def _is_undialled(peer: Mapping[str, Any]) -> bool:
    return peer["state"] == "alive" and bool(peer.get("failed_dials", 0) >= UNDIALLED_FROM)


def _gossip_port(peer: Mapping[str, Any]) -> str:
    return plain(str(peer["gossip_addr"]).rpartition(":")[2])


def _refusal(what: str, refusal: Mapping[str, Any], reason: str) -> str:
    of_another = _OF_ANOTHER.get(reason.partition(" belongs to ")[0], _OTHERWISE)
    return f"{plain(refusal['name'])} {what}: {reason}; {REMEDIES.get(reason, of_another)}"


RULES: Final = (
    Rule(_problems, bool, str),
    Rule(
        _cluster,
        lambda cluster: cluster["health_score"] >= SLOW_FROM,
        lambda cluster: (
            f"this node hears too few answers (health score {cluster['health_score']}); see whether it is short of "
            "CPU, or its network loses packets"
        ),
    ),
    Rule(
        _peers,
        lambda peer: peer["state"] == "failed",
        lambda peer: (
            f"{plain(peer['name'])} has failed{_ago(peer)}; start it, or if it is gone for good: wesher forget "
            f"{'-- ' * peer['name'].startswith('-')}{word(peer['name'])}"
        ),
    ),
    Rule(
        _peers,
        lambda peer: peer["state"] == "suspect",
        lambda peer: f"{plain(peer['name'])} does not answer; see that it runs and that gossip reaches it",
    ),
    Rule(
        _peers,
        _is_silent,
        lambda peer: (
            f"{plain(peer['name'])} is alive, but its tunnel is silent: no packet {_so_far(peer)}; open its WireGuard "
            f"port (UDP {peer['wireguard_port']}) between the two nodes"
        ),
    ),
    Rule(
        _peers,
        _misses_pings,
        lambda peer: (
            f"{plain(peer['name'])} is alive, but only by TCP or as others hear it: {peer['missed_pings']} pings in a "
            f"row went unanswered; open its gossip port (UDP {_gossip_port(peer)}) between the two nodes"
        ),
    ),
    Rule(
        _peers,
        _is_undialled,
        lambda peer: (
            f"{plain(peer['name'])} is alive, but takes no connection: {peer['failed_dials']} in a row failed; open "
            f"its gossip port (TCP {_gossip_port(peer)}) between the two nodes"
        ),
    ),
    Rule(
        _refused,
        lambda refusal: bool(refusal["peer_reason"]),
        lambda refusal: _refusal("is no peer", refusal, refusal["peer_reason"]),
    ),
    Rule(
        _refused,
        lambda refusal: not refusal["peer_reason"] and refusal["hosts_reason"] not in CHOSEN,
        lambda refusal: _refusal("has no hosts line", refusal, refusal["hosts_reason"]),
    ),
)
"""In the order of their findings: this node first."""


def _so_far(peer: Mapping[str, Any]) -> str:
    return "has come back" if peer["rx_bytes"] == 0 else "comes back any more"


def _ago(peer: Mapping[str, Any]) -> str:
    since = peer.get("since_s")
    return "" if since is None else f" {duration(since)} ago"
