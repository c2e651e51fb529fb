"""What the agent may ask for: two verdicts on each wanted peer, against what was pinned at start. Pure.

The *peer verdict* decides the tunnel and its route, the *hosts verdict* only the line in the hosts file. A refusal
is not a violation: a hostile mesh member can cause one through an honest agent, so the record is skipped with its
reason and everybody else goes on. Allowed IPs and the endpoint's port are no question at all: always exactly the
overlay address, always the pinned port.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from privhelper.addressing import Address, Network, is_derived
from privhelper.protocol import Peer


class PeerVerdict(IntEnum):
    """Whether a wanted peer gets its tunnel and route."""

    ACCEPTED = 0
    OUTSIDE_NET = 1
    OWN_ADDRESS = 2
    NOT_DERIVED = 3
    LOCAL_NETWORK = 4
    ENDPOINT_CLASS = 5
    ENDPOINT_LOCAL = 6
    ENDPOINT_OVERLAY = 7
    OWN_KEY = 8
    WEAK_KEY = 9
    TOO_MANY = 10
    ENDPOINT_TUNNELLED = 11


class HostsVerdict(IntEnum):
    """Whether an accepted peer gets its line in the hosts file."""

    ACCEPTED = 0
    NO_PEER = 1
    NOT_A_HOST_NAME = 2
    ADDRESS_LITERAL = 3
    RESERVED = 4
    OWN_NAME = 5
    TAKEN = 6
    DISABLED = 7
    UNREADABLE = 8
    OUTSIDE_SUFFIX = 9
    DOUBLE = 10


PEER_REASONS: Final[Mapping[PeerVerdict, str]] = {
    PeerVerdict.ACCEPTED: "accepted",
    PeerVerdict.OUTSIDE_NET: "overlay address outside the overlay net",
    PeerVerdict.OWN_ADDRESS: "overlay address is this node's own",
    PeerVerdict.NOT_DERIVED: "overlay address is not derived from the name",
    PeerVerdict.LOCAL_NETWORK: "overlay address belongs to a local network of this host",
    PeerVerdict.ENDPOINT_CLASS: "endpoint is no unicast address of another host",
    PeerVerdict.ENDPOINT_LOCAL: "endpoint is an address of this host, or a broadcast address of its networks",
    PeerVerdict.ENDPOINT_OVERLAY: "endpoint lies inside the overlay",
    PeerVerdict.OWN_KEY: "public key is this node's own",
    PeerVerdict.WEAK_KEY: "public key is weak",
    PeerVerdict.TOO_MANY: "more members than --max-peers",
    PeerVerdict.ENDPOINT_TUNNELLED: "endpoint is routed through the overlay's own link",
}

HOSTS_REASONS: Final[Mapping[HostsVerdict, str]] = {
    HostsVerdict.ACCEPTED: "accepted",
    HostsVerdict.NO_PEER: "peer refused",
    HostsVerdict.NOT_A_HOST_NAME: "name is not a host name",
    HostsVerdict.ADDRESS_LITERAL: "name is an address",
    HostsVerdict.RESERVED: "name is reserved",
    HostsVerdict.OWN_NAME: "name is this host's own",
    HostsVerdict.TAKEN: "name stands in the hosts file already",
    HostsVerdict.DISABLED: "hosts file is not managed",
    HostsVerdict.UNREADABLE: "hosts file cannot be read",
    HostsVerdict.OUTSIDE_SUFFIX: "name lies outside --hosts-suffix",
    HostsVerdict.DOUBLE: "another member's name and --hosts-suffix make the same name",
}

_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_MAX_HOST_NAME: Final = 253

_RESERVED: Final = frozenset(
    ("localhost", "localhost4", "localhost6", "localdomain", "broadcasthost", "wpad", "isatap", "loopback")
)
_RESERVED_TAILS: Final = (
    ".localhost", ".localdomain", ".localdomain4", ".localdomain6", ".arpa", ".onion", ".invalid"
)  # fmt: skip
_RESERVED_HEADS: Final = ("ip6-", "ip4-")
_FREE_TAIL: Final = ".home.arpa"  # RFC 8375: a home network's own domain, and no part of the Internet's machinery

# Public keys whose shared secret is the same for every private key (RFC 7748 section 6.1; the seven encodings
# below 2**255 that Curve25519's small subgroup has). With one, traffic to that peer is readable by anybody.
_LOW_ORDER: Final = frozenset(
    bytes.fromhex(text)
    for text in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of this host's network concerns the overlay.

    `networks` are routes, gateways, resolvers and addresses of other links that are not ours, each at least as
    specific as the overlay net; `taken` are single addresses that other instances of us route or have.

    Of endpoints, whatever their net: `addresses` are those that this host takes for its own, and its networks'
    broadcast addresses; `ranges` are whole nets that it takes for its own; `tunnelled` are those that somebody routes
    through our own link, `beside` those that are routed elsewhere, each within one of them.
    """

    networks: tuple[Network, ...] = ()
    taken: frozenset[Address] = frozenset()
    addresses: frozenset[Address] = frozenset()
    ranges: tuple[Network, ...] = ()
    tunnelled: tuple[Network, ...] = ()
    beside: tuple[Network, ...] = ()

    def has(self, address: Address) -> bool:
        """Whether a packet to `address` stays on this host, or goes to all of a network."""
        return address in self.addresses or covers(self.ranges, address)

    def tunnels(self, address: Address) -> bool:
        """Whether a packet to `address` would go into our own link: the most specific route decides."""
        return _longest(self.tunnelled, address) > _longest(self.beside, address)


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything a verdict rests on besides the wanted set itself. `own_address` None: this node is to have none."""

    overlay_net: Network
    node_name: str
    own_address: Address | None
    own_key: bytes
    max_peers: int
    etc_hosts: bool
    hosts_suffix: str
    surroundings: Surroundings
    static_addresses: bool = False

    def judge(
        self, wanted: Sequence[Peer], in_force: Collection[bytes], taken_names: Collection[str] | None
    ) -> list[tuple[PeerVerdict, HostsVerdict]]:
        """Both verdicts per wanted peer, in order. `in_force` are public keys, `taken_names` folded host names or
        None where the hosts file could not be read.

        Keys, addresses and folded names of `wanted` are each unique; the monitor has seen to that.
        """
        peers = self._capped(wanted, [self.peer_verdict(peer) for peer in wanted], in_force)
        lines = [self.hosts_verdict(p, verdict, taken_names) for p, verdict in zip(wanted, peers, strict=True)]
        return list(zip(peers, self._without_doubles(wanted, lines), strict=True))

    def peer_verdict(self, peer: Peer) -> PeerVerdict:
        """The verdict on one peer that does not depend on the others."""
        if peer.overlay_addr not in self.overlay_net:
            return PeerVerdict.OUTSIDE_NET
        if peer.overlay_addr == self.own_address:
            return PeerVerdict.OWN_ADDRESS
        name = peer.name.encode("ascii")
        if not self.static_addresses and not is_derived(self.overlay_net, name, peer.overlay_addr):
            return PeerVerdict.NOT_DERIVED
        if peer.overlay_addr in self.surroundings.taken or covers(self.surroundings.networks, peer.overlay_addr):
            return PeerVerdict.LOCAL_NETWORK
        if not is_foreign_unicast(peer.endpoint):
            return PeerVerdict.ENDPOINT_CLASS
        if self.surroundings.has(peer.endpoint):
            return PeerVerdict.ENDPOINT_LOCAL
        if peer.endpoint == self.own_address:
            return PeerVerdict.ENDPOINT_OVERLAY
        if self.surroundings.tunnels(peer.endpoint):
            return PeerVerdict.ENDPOINT_TUNNELLED
        if peer.public_key == self.own_key:
            return PeerVerdict.OWN_KEY
        if peer.public_key[31] & 0x80 or is_low_order(peer.public_key):
            return PeerVerdict.WEAK_KEY  # X25519 ignores the top bit: no key has it, but a second name for one would
        return PeerVerdict.ACCEPTED

    def hosts_verdict(self, peer: Peer, verdict: PeerVerdict, taken_names: Collection[str] | None) -> HostsVerdict:
        """The verdict on one peer's hosts line, given its peer verdict."""
        if not self.etc_hosts:
            return HostsVerdict.DISABLED
        if verdict is not PeerVerdict.ACCEPTED:
            return HostsVerdict.NO_PEER
        if taken_names is None:
            return HostsVerdict.UNREADABLE
        line = line_name(peer.name, self.hosts_suffix)
        if line is None:
            return HostsVerdict.OUTSIDE_SUFFIX
        own = line_name(self.node_name, self.hosts_suffix) or self.node_name  # as it stands with the others
        return HostsVerdict.OWN_NAME if line.lower() == own.lower() else name_verdict(line, self.node_name, taken_names)

    def _without_doubles(self, wanted: Sequence[Peer], verdicts: list[HostsVerdict]) -> list[HostsVerdict]:
        """A suffix can make one name of two: `a` and `a.suffix`. Who bears the whole name keeps it."""
        accepted = HostsVerdict.ACCEPTED
        whole = {peer.name.lower() for peer, verdict in zip(wanted, verdicts, strict=True) if verdict is accepted}
        for i, peer in enumerate(wanted):
            line = line_name(peer.name, self.hosts_suffix)
            if verdicts[i] is HostsVerdict.ACCEPTED and line != peer.name and str(line).lower() in whole:
                verdicts[i] = HostsVerdict.DOUBLE
        return verdicts

    def _capped(
        self, wanted: Sequence[Peer], verdicts: list[PeerVerdict], in_force: Collection[bytes]
    ) -> list[PeerVerdict]:
        """Apply the rules between peers: at most `max_peers`, those in force first; no endpoint inside the overlay.

        The cap comes first, so that a fake beyond it cannot, with its address, refuse another's endpoint.
        """
        accepted = [i for i, verdict in enumerate(verdicts) if verdict is PeerVerdict.ACCEPTED]
        accepted.sort(key=lambda i: wanted[i].public_key not in in_force)  # stable: the agent's order among equals
        for i in accepted[self.max_peers :]:
            verdicts[i] = PeerVerdict.TOO_MANY
        overlay = {wanted[i].overlay_addr for i in accepted[: self.max_peers]}
        for i in accepted[: self.max_peers]:
            if wanted[i].endpoint in overlay:
                verdicts[i] = PeerVerdict.ENDPOINT_OVERLAY
        return verdicts


def covers(networks: Iterable[Network], address: Address) -> bool:
    """Whether `address` lies in one of `networks`."""
    return any(address in network for network in networks)


def _longest(networks: Iterable[Network], address: Address) -> int:
    """The prefix length of the most specific of `networks` with `address`; -1 where none has it."""
    return max((network.prefixlen for network in networks if address in network), default=-1)


def is_foreign_unicast(address: Address) -> bool:
    """Whether a packet to `address` leaves this host for one other host, as far as its bits tell."""
    if address.version == 6 and address.ipv4_mapped is not None:
        return False
    if address.is_loopback or address.is_multicast or address.is_link_local:
        return False
    return not covers(_NOT_HOSTS, address)


_NOT_HOSTS: Final[tuple[Network, ...]] = (IPv4Network("0.0.0.0/8"), IPv4Network("240.0.0.0/4"), IPv6Network("::/96"))
"""'This network', reserved with limited broadcast, and IPv4-compatible; no address at all is in the first and last."""


def is_low_order(public_key: bytes) -> bool:
    """Whether the shared secret with `public_key` is known to everybody; X25519 ignores the key's top bit."""
    return public_key[:31] + bytes((public_key[31] & 0x7F,)) in _LOW_ORDER


def line_name(name: str, suffix: str) -> str | None:
    """The name in a member's hosts line: its own, or under a pinned `suffix` its label and that; None outside of it."""
    if not suffix or name.lower().endswith("." + suffix.lower()):
        return name
    return None if "." in name else f"{name}.{suffix}"


def name_verdict(name: str, node_name: str, taken_names: Collection[str]) -> HostsVerdict:
    """Whether `name` may stand in this host's hosts file. `taken_names` are folded names of unmanaged lines."""
    folded = name.lower()
    labels = folded.split(".")
    if not name.isascii() or len(folded) > _MAX_HOST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        return HostsVerdict.NOT_A_HOST_NAME
    if _looks_like_an_address(labels):
        return HostsVerdict.ADDRESS_LITERAL
    if folded in _RESERVED or folded.startswith(_RESERVED_HEADS):
        return HostsVerdict.RESERVED
    if folded.endswith(_RESERVED_TAILS) and not folded.endswith(_FREE_TAIL):
        return HostsVerdict.RESERVED
    own = node_name.lower()
    if folded in (own, own.split(".")[0]):
        return HostsVerdict.OWN_NAME
    if folded in taken_names:
        return HostsVerdict.TAKEN
    return HostsVerdict.ACCEPTED


def _looks_like_an_address(labels: Sequence[str]) -> bool:
    """Whether inet_aton could read the name: it takes 1 to 4 decimal, octal or 0x parts, such as `0x7f.1` or `10`."""
    return len(labels) <= 4 and all(re.fullmatch(r"[0-9]+|0x[0-9a-f]*", label) for label in labels)
