"""From the members gossip knows to the peers this node wants.

A member that cannot be a peer costs only itself: it is left out, and named with the reason. What is left satisfies
the helper's protocol (printable names; no key, address or folded name twice), so that nothing a mesh member does can
make an honest agent commit a violation. Where two members claim one thing, the record in force keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from privhelper.policy import PEER_REASONS, PeerVerdict, Policy
from privhelper.protocol import MAX_NAME, Peer
from wesher.mesh.node_meta import MetaError, MetaFault, NodeMeta, decode
from wesher.swim.member import Member


@dataclass(frozen=True, slots=True)
class Refusal:
    """A member that is no peer, or has no hosts line; an empty reason means that this part is accepted."""

    name: str
    peer_reason: str = ""
    hosts_reason: str = ""

    @property
    def is_passing(self) -> bool:
        """A Go node is seen without metadata for a moment when it joins: nothing to complain about."""
        return self.peer_reason == MetaFault.EMPTY


@dataclass(frozen=True, slots=True)
class Desired:
    """The wanted set in a stable order, and who was left out."""

    peers: tuple[Peer, ...]
    refused: tuple[Refusal, ...]


def desired(members: Iterable[Member], policy: Policy, in_force: Mapping[str, Peer]) -> Desired:
    """The peers wanted of `members`. `in_force` are the peers last accepted, by name."""
    candidates: list[Peer] = []
    refused: list[Refusal] = []
    for member in members:
        if member.is_live and member.name != policy.node_name:
            found = _candidate(member, policy)
            (candidates if isinstance(found, Peer) else refused).append(found)  # type: ignore[arg-type]
    candidates.sort(key=lambda peer: (_standing(peer, in_force), peer.name))
    peers, losers = _without_doubles(candidates)
    room = 2 * policy.max_peers
    overflow = [Refusal(peer.name, PEER_REASONS[PeerVerdict.TOO_MANY]) for peer in peers[room:]]
    wanted = sorted(peers[:room], key=lambda peer: peer.name)
    return Desired(tuple(wanted), tuple(sorted((*refused, *losers, *overflow), key=lambda r: r.name)))


def _candidate(member: Member, policy: Policy) -> Peer | Refusal:
    if not is_printable(member.name):
        return Refusal(member.name, f"name is not 1 to {MAX_NAME} printable ASCII characters")
    try:
        meta = _decoded(member.meta)
    except MetaError as error:
        return Refusal(member.name, str(error))
    peer = Peer(meta.public_key, member.endpoint.ip, meta.overlay_addr, member.name)
    verdict = policy.peer_verdict(peer)
    return peer if verdict is PeerVerdict.ACCEPTED else Refusal(member.name, PEER_REASONS[verdict])


def is_printable(name: str) -> bool:
    """Whether the helper's protocol takes `name`."""
    return 0 < len(name) <= MAX_NAME and all("!" <= character <= "~" for character in name)


@lru_cache(maxsize=4096)
def _decoded(meta: bytes) -> NodeMeta:
    """Metadata changes rarely and is asked for at every event."""
    return decode(meta)


def _standing(peer: Peer, in_force: Mapping[str, Peer]) -> int:
    """0 for what is in force unchanged, 1 for a member in force with a new key or endpoint, 2 for a newcomer."""
    held = in_force.get(peer.name)
    if held is None or held.overlay_addr != peer.overlay_addr:
        return 2
    return 0 if held.public_key == peer.public_key else 1


def _without_doubles(peers: Iterable[Peer]) -> tuple[list[Peer], list[Refusal]]:
    """Keep the first holder of each address, key and folded name."""
    held: dict[object, str] = {}
    kept, losers = [], []
    for peer in peers:
        claims: dict[object, str] = {
            peer.overlay_addr: "overlay address",
            peer.public_key: "public key",
            peer.name.lower(): "name, but for upper and lower case,",
        }
        taken = next((f"{what} belongs to {held[claim]}" for claim, what in claims.items() if claim in held), None)
        if taken is None:
            kept.append(peer)
            held.update(dict.fromkeys(claims, peer.name))
        else:
            losers.append(Refusal(peer.name, taken))
    return kept, losers
