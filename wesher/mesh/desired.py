"""From the members gossip knows to the peers this node wants.

A member that cannot be a peer costs only itself: it is left out, and named with the reason. What is left satisfies
the helper's protocol (printable names; no key, address or folded name twice), so that nothing a mesh member does can
make an honest agent commit a violation.

An overlay address, a key and a name (upper and lower case are one) belong to one peer. Where several members claim
one, it stays with the member for whom it is in force and who still claims it; what nobody has in force goes to who
changes least, and among equals to the lower name: that says nothing about right, but the same on every node, and once
in force it stays. Whoever loses one thing gets nothing. Retained peers come last: they take only what no live member
is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from privhelper.policy import PEER_REASONS, PeerVerdict, Policy
from privhelper.protocol import MAX_NAME, Peer
from wesher.mesh.node_meta import MetaError, MetaFault, decode
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


def desired(
    members: Iterable[Member], policy: Policy, in_force: Mapping[str, Peer], retained: Iterable[Peer] = ()
) -> Desired:
    """The peers wanted of `members`, and beside them of `retained`, which nobody is told about if they are left out.

    `in_force` are the peers last accepted, by name; no key, address or folded name is there twice.
    """
    live = [member for member in members if member.is_live and member.name != policy.node_name]
    found = [_candidate(member, policy) for member in live]
    candidates = [peer for peer in found if isinstance(peer, Peer)]
    refused = [refusal for refusal in found if isinstance(refusal, Refusal)]
    peers, losers = _without_doubles(_by_standing(candidates, in_force))
    room = 2 * policy.max_peers
    overflow = [Refusal(peer.name, PEER_REASONS[PeerVerdict.TOO_MANY]) for peer in peers[room:]]
    speaking = {policy.node_name, *(member.name for member in live)}
    silent = [peer for peer in retained if peer.name not in speaking and _is_possible(peer, policy)]
    kept = _beside(peers[:room], _by_standing(silent, in_force), policy.max_peers)
    wanted = sorted((*peers[:room], *kept), key=lambda peer: peer.name)
    return Desired(tuple(wanted), tuple(sorted((*refused, *losers, *overflow), key=lambda r: r.name)))


def _candidate(member: Member, policy: Policy) -> Peer | Refusal:
    if not is_printable(member.name):
        return Refusal(member.name, f"name is not 1 to {MAX_NAME} printable ASCII characters")
    try:
        meta = decode(member.meta)
    except MetaError as error:
        return Refusal(member.name, str(error))
    peer = Peer(meta.public_key, member.endpoint.ip, meta.overlay_addr, member.name)
    verdict = policy.peer_verdict(peer)
    return peer if verdict is PeerVerdict.ACCEPTED else Refusal(member.name, PEER_REASONS[verdict])


def is_printable(name: str) -> bool:
    """Whether the helper's protocol takes `name`."""
    return 0 < len(name) <= MAX_NAME and all("!" <= character <= "~" for character in name)


def _is_possible(peer: Peer, policy: Policy) -> bool:
    return is_printable(peer.name) and policy.peer_verdict(peer) is PeerVerdict.ACCEPTED


def claims(peer: Peer) -> dict[object, str]:
    """What belongs to one peer alone, and how it is called."""
    return {
        peer.overlay_addr: "overlay address",
        peer.public_key: "public key",
        peer.name.lower(): "name, but for upper and lower case,",
    }


def _by_standing(peers: Sequence[Peer], in_force: Mapping[str, Peer]) -> list[Peer]:
    """First those who claim nothing that another of them has in force; of these, who changes least."""
    held = {
        claim: peer.name
        for peer in peers
        if peer.name in in_force
        for claim in claims(peer).keys() & claims(in_force[peer.name]).keys()
    }

    def standing(peer: Peer) -> tuple[bool, int, str]:
        holders = [held.get(claim) for claim in claims(peer)]
        return any(name not in (None, peer.name) for name in holders), -holders.count(peer.name), peer.name

    return sorted(peers, key=standing)


def _without_doubles(peers: Iterable[Peer]) -> tuple[list[Peer], list[Refusal]]:
    """Keep the first holder of each address, key and folded name."""
    held: dict[object, str] = {}
    kept, losers = [], []
    for peer in peers:
        own = claims(peer)
        taken = next((f"{what} belongs to {held[claim]}" for claim, what in own.items() if claim in held), None)
        if taken is None:
            kept.append(peer)
            held.update(dict.fromkeys(own, peer.name))
        else:
            losers.append(Refusal(peer.name, taken))
    return kept, losers


def _beside(live: Sequence[Peer], retained: Sequence[Peer], max_peers: int) -> list[Peer]:
    """The retained peers that take nothing from a live one: no claim, no endpoint, and no place.

    The helper refuses an endpoint that is an overlay address in force, and where places are short prefers who is in
    force to who is new. Who is not there must not win by either.
    """
    kept, _ = _without_doubles((*live, *retained))
    endpoints, addresses = {peer.endpoint for peer in live}, {peer.overlay_addr for peer in live}
    room = max(0, max_peers - len(live))
    apart = (p for p in kept[len(live) :] if p.overlay_addr not in endpoints and p.endpoint not in addresses)
    return list(apart)[:room]
