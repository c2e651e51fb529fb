"""From the members gossip knows to the peers this node wants.

A member that cannot be a peer costs only itself: it is left out, and named with the reason. What is left satisfies
the helper's protocol (printable names; no key, address or folded name twice), so that nothing a mesh member does can
make an honest agent commit a violation.

An overlay address, a key and a name (upper and lower case are one) belong to one peer; whoever loses one of them gets
nothing. Where several members claim one,

    key, name    it stays with the member for whom it is in force and who still claims it; what nobody has in force goes
                 to who changes least, and among equals to the lower name: that says nothing about right, but the same
                 on every node, and once in force it stays
    address      it goes to the better right (see contest), among those who have lost neither key nor name

Retained peers come last: they take only what no live member is given. But one that is proven, for gossip alone says
that it has failed, keeps its address from others while it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from privhelper.addressing import Address
from privhelper.policy import PEER_REASONS, PeerVerdict, Policy
from privhelper.protocol import MAX_NAME, Peer
from wesher.mesh.contest import Claimant
from wesher.mesh.node_meta import Claim, MetaError, MetaFault, decode
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
    """The wanted set in a stable order, and who was left out. `is_contested`: what is `proven` may have decided."""

    peers: tuple[Peer, ...]
    refused: tuple[Refusal, ...]
    is_contested: bool = False


def desired(
    members: Iterable[Member],
    policy: Policy,
    in_force: Mapping[str, Peer],
    retained: Iterable[Peer] = (),
    proven: Collection[bytes] = (),
) -> Desired:
    """The peers wanted of `members`, and beside them of `retained`, which nobody is told about if they are left out.

    `in_force` are the peers last accepted, by name; no key, address or folded name is there twice. `proven` are the
    keys of those whose tunnels have shaken hands lately.
    """
    live = [member for member in members if member.is_live and member.name != policy.node_name]
    found = {member.name: as_peer(member, policy) for member in live}
    candidates = {name: claimed for name, claimed in found.items() if isinstance(claimed, tuple)}
    refused = [refusal for refusal in found.values() if isinstance(refusal, Refusal)]
    speaking = {policy.node_name, *(member.name for member in live)}
    silent = [peer for peer in retained if peer.name not in speaking and _is_possible(peer, policy)]
    held: dict[object, str] = {
        p.overlay_addr: p.name for p in silent if p.public_key in proven and in_force.get(p.name) == p
    }
    room = 2 * policy.max_peers

    def settled(held: Mapping[object, str]) -> tuple[list[Peer], list[Refusal], list[Peer]]:
        peers, losers = _settle(candidates, in_force, proven, held)
        return peers, losers, _beside(peers[:room], _by_standing(silent, in_force), policy.max_peers)

    peers, losers, kept = settled(held)
    if not held.keys() <= {peer.overlay_addr for peer in kept}:  # lost for another reason: then it holds nothing
        peers, losers, kept = settled({})
    overflow = [Refusal(peer.name, PEER_REASONS[PeerVerdict.TOO_MANY]) for peer in peers[room:]]
    wanted = sorted((*peers[:room], *kept), key=lambda peer: peer.name)
    claims_to = Counter(peer.overlay_addr for peer in (*(peer for peer, _ in candidates.values()), *silent))
    return Desired(
        tuple(wanted),
        tuple(sorted((*refused, *losers, *overflow), key=lambda r: r.name)),
        any(claims_to[peer.overlay_addr] > 1 for peer in in_force.values()),
    )


def as_peer(member: Member, policy: Policy) -> tuple[Peer, Claim | None] | Refusal:
    """What `member` announces, and its claim to the address, or why it is no peer."""
    if not is_printable(member.name):
        return Refusal(member.name, f"name is not 1 to {MAX_NAME} printable ASCII characters")
    try:
        meta = decode(member.meta)
    except MetaError as error:
        return Refusal(member.name, str(error))
    peer = Peer(meta.public_key, member.endpoint.ip, meta.overlay_addr, member.name)
    verdict = policy.peer_verdict(peer)
    return (peer, meta.claim) if verdict is PeerVerdict.ACCEPTED else Refusal(member.name, PEER_REASONS[verdict])


def is_printable(name: str) -> bool:
    """Whether the helper's protocol takes `name`."""
    return 0 < len(name) <= MAX_NAME and all("!" <= character <= "~" for character in name)


def _is_possible(peer: Peer, policy: Policy) -> bool:
    return is_printable(peer.name) and policy.peer_verdict(peer) is PeerVerdict.ACCEPTED


def claims(peer: Peer) -> dict[object, str]:
    """What belongs to one peer alone, and how it is called."""
    return {peer.overlay_addr: "overlay address", **_identity(peer)}


def _identity(peer: Peer) -> dict[object, str]:
    return {peer.public_key: "public key", peer.name.lower(): "name, but for upper and lower case,"}


def _settle(
    candidates: Mapping[str, tuple[Peer, Claim | None]],
    in_force: Mapping[str, Peer],
    proven: Collection[bytes],
    held: Mapping[object, str],
) -> tuple[list[Peer], list[Refusal]]:
    """Who of the living gets what they claim, and who does not; `held` are addresses that are proven for the silent."""
    order = _by_standing([peer for peer, _ in candidates.values()], in_force)
    undoubted, _ = _without_doubles(order, {}, _identity)

    def right(peer: Peer) -> tuple[object, ...]:
        is_as_in_force = in_force.get(peer.name) is not None and _tunnel(in_force[peer.name]) == _tunnel(peer)
        return Claimant(peer.name, candidates[peer.name][1], is_as_in_force and peer.public_key in proven).rank()

    winners = {peer.overlay_addr: peer for peer in sorted(undoubted, key=right, reverse=True)}
    first = {peer.name for peer in winners.values()}
    # Stable: what a winner does not take away goes to the others as they stand.
    return _without_doubles(sorted(order, key=lambda peer: peer.name not in first), held, claims)


def _tunnel(peer: Peer) -> tuple[bytes, Address]:
    return peer.public_key, peer.overlay_addr


def _by_standing(peers: Sequence[Peer], in_force: Mapping[str, Peer]) -> list[Peer]:
    """First those who claim no key or name that another of them has in force; of these, who changes least."""
    holders = {
        claim: peer.name
        for peer in peers
        if peer.name in in_force
        for claim in _identity(peer).keys() & _identity(in_force[peer.name]).keys()
    }

    def standing(peer: Peer) -> tuple[bool, int, str]:
        own = [holders.get(claim) for claim in _identity(peer)]
        return any(name not in (None, peer.name) for name in own), -own.count(peer.name), peer.name

    return sorted(peers, key=standing)


def _without_doubles(
    peers: Iterable[Peer], held: Mapping[object, str], claims_of: Callable[[Peer], Mapping[object, str]]
) -> tuple[list[Peer], list[Refusal]]:
    """Keep the first holder of each thing that `claims_of` names, but for what is `held` already."""
    holders = dict(held)
    kept, losers = [], []
    for peer in peers:
        own = claims_of(peer)
        taken = next((f"{what} belongs to {holders[claim]}" for claim, what in own.items() if claim in holders), None)
        if taken is None:
            kept.append(peer)
            holders.update(dict.fromkeys(own, peer.name))
        else:
            losers.append(Refusal(peer.name, taken))
    return kept, losers


def _beside(live: Sequence[Peer], retained: Sequence[Peer], max_peers: int) -> list[Peer]:
    """The retained peers that take nothing from a live one: no claim, no endpoint, and no place.

    The helper refuses an endpoint that is an overlay address in force, and where places are short prefers who is in
    force to who is new. Who is not there must not win by either.
    """
    kept, _ = _without_doubles((*live, *retained), {}, claims)
    endpoints, addresses = {peer.endpoint for peer in live}, {peer.overlay_addr for peer in live}
    room = max(0, max_peers - len(live))
    apart = (p for p in kept[len(live) :] if p.overlay_addr not in endpoints and p.endpoint not in addresses)
    return list(apart)[:room]
