"""What hypothesis draws for the tests of the helper."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from hypothesis import strategies as st

from privhelper.addressing import Network
from privhelper.options import Pinned
from privhelper.protocol import (
    FIXED_ADDRESS,
    Backend,
    Bye,
    Failed,
    Farewell,
    Hello,
    HostsResult,
    HostsWritten,
    InForce,
    Op,
    OwnAddress,
    Peer,
    PeersInForce,
    PeerStatus,
    PinnedPolicy,
    Reply,
    Request,
    SetAddr,
    SetPeers,
    Staged,
    Status,
    StatusPart,
    Verdicts,
    WriteHosts,
)

PRINTABLE = [chr(code) for code in range(0x21, 0x7F)]

keys = st.binary(min_size=32, max_size=32)
addresses = st.ip_addresses()
sequences = st.integers(0, 2**32 - 1)
u8, u16, u64 = st.integers(0, 2**8 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**64 - 1)


def printable(longest: int) -> st.SearchStrategy[str]:
    """Text the protocol can carry, 1 to `longest` bytes."""
    return st.text(PRINTABLE, min_size=1, max_size=longest)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Any network of either family."""
    address = draw(addresses)
    return ip_network((address, draw(st.integers(0, address.max_prefixlen))), strict=False)


peers = st.builds(Peer, keys, addresses, addresses, printable(64))
statuses = st.builds(PeerStatus, keys, st.none() | addresses, u64, u64, u64)


def tuples_of(elements: st.SearchStrategy[Any], most: int = 4) -> st.SearchStrategy[tuple[Any, ...]]:
    """Short tuples."""
    return st.lists(elements, max_size=most).map(tuple)


requests: st.SearchStrategy[Request] = st.one_of(
    st.builds(Hello, printable(31)),
    st.builds(InForce, u16),
    st.builds(SetAddr, st.integers(0, 15) | st.just(FIXED_ADDRESS)),
    st.builds(SetPeers, tuples_of(peers)),
    st.builds(SetPeers, st.lists(peers, min_size=1, max_size=4).map(tuple), st.just(True)),
    st.just(WriteHosts()),
    st.builds(Status, u16),
    st.just(Bye()),
)

labels = st.from_regex(r"(?!-)[A-Za-z0-9-]{1,20}(?<!-)", fullmatch=True)
suffixes = st.just("") | st.lists(labels, min_size=1, max_size=3).map(".".join)

policies = st.builds(
    PinnedPolicy,
    node_name=printable(64),
    interface=printable(15),
    overlay_net=networks(),
    wireguard_port=u16,
    mtu=u16,
    max_peers=u16,
    keepalive=u16,
    etc_hosts=st.booleans(),
    backend=st.sampled_from(Backend),
    public_key=keys,
    in_force=u16,
    hosts_suffix=st.just("") | printable(64),
    static_addresses=st.booleans(),
).flatmap(
    lambda policy: st.builds(
        replace, st.just(policy), address_is_pinned=st.just(False) if not policy.static_addresses else st.booleans()
    )
)

replies: st.SearchStrategy[Reply] = st.one_of(
    policies,
    st.builds(PeersInForce, tuples_of(peers), st.booleans()),
    st.builds(OwnAddress, addresses),
    st.just(Staged()),
    st.builds(Verdicts, tuples_of(st.tuples(u8, u8), 20)),
    st.builds(HostsWritten, st.sampled_from(HostsResult)),
    st.builds(StatusPart, tuples_of(statuses), st.booleans()),
    st.just(Farewell()),
    st.builds(Failed, st.sampled_from([op for op in Op if op is not Op.EVENT]), u16),
)


@st.composite
def overlay_nets(draw: st.DrawFn) -> Network:
    """Networks that `--overlay-net` takes."""
    if draw(st.booleans()):
        return ip_network((draw(st.integers(0x0A000000, 0x0AFFFFFF)), draw(st.integers(8, 30))), strict=False)
    return ip_network((0xFD << 120 | draw(st.integers(0, 2**120 - 1)), draw(st.integers(8, 126))), strict=False)


_file_names = st.text(st.characters(codec="ascii", exclude_characters="\0/"), min_size=1, max_size=20)

_dynamic = st.builds(
    Pinned,
    node_name=printable(64),
    overlay_net=overlay_nets(),
    interface=st.text([c for c in PRINTABLE if c not in "/:%"], min_size=1, max_size=15).filter(
        lambda name: name not in (".", "..")
    ),
    wireguard_port=st.integers(1, 65535),
    mtu=st.integers(1280, 65535),
    max_peers=st.integers(1, 4000),
    keepalive=st.integers(0, 65535),
    etc_hosts=st.booleans(),
    hosts_file=st.lists(_file_names, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts)),
    hosts_suffix=suffixes,
)


@st.composite
def _static(draw: st.DrawFn) -> Pinned:
    """With static addresses, and perhaps one of its own."""
    chosen = draw(_dynamic)
    inside = draw(st.none() | st.integers(1, chosen.overlay_net.num_addresses - 2))
    address = None if inside is None else chosen.overlay_net[inside]
    return replace(chosen, static_addresses=True, address=address)


pinned = _dynamic | _static()
