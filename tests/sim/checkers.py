"""What must hold of a cluster, apart from the simulator that moves it: they look at machines, and change nothing.

Safety, after every step, of each honest machine that has changed:

    view           no overlay address, key or name belongs to two peers, in force or on the device; routes only to
                   peers in force; and nothing is left of what was taken down, unless the kernel refused
    hosts          hosts lines only for peers in force. Between two requests, and while the kernel refuses, lines may be
                   a set behind, but never for longer than STALE_AT_MOST
    incarnation    never falls in one life; a new life begins above what was saved, where its clock explains that, and,
                   where that has never gone back and nobody forges accusations, above all of the last one
    datagram       no larger than memberlist's budget, no more parts than old peers read, whole and ours to open
    memory         what a node keeps is bounded by whom it knows, and that by --max-peers
    (blame)        no violation, no error that nobody handles, no timer in the past: reported by machine and loop

Liveness, once faults are over: `unsettled` names what is not as it should be in a mesh that is whole, and nothing in
one that is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator
from typing import Final

from privhelper.policy import HostsVerdict, name_verdict
from privhelper.protocol import Peer
from tests.sim.machine import Life, Machine
from wesher.swim.exchanges import MAX_STREAMS
from wesher.swim.members import highest_sane
from wesher.swim.node import Node
from wesher.swim.probing import MAX_RELAYS
from wesher.swim.succession import MAX_CLAIMS
from wesher.wire.errors import WireError
from wesher.wire.limits import MAX_COMPOUND_PARTS, UDP_BUFFER_SIZE
from wesher.wire.messages import MessageType, NodeState
from wesher.wire.packet import open_packet
from wesher.wire.words import Forget, KeyRecord

STALE_AT_MOST: Final = 35.0
"""Seconds: an agent that dies between its two requests leaves a line behind until the helper's own look, every 30 s."""


# --- safety


def view(machine: Machine) -> Iterator[str]:
    """What is wrong with the peers that the machine's helper has in force."""
    helper = machine.helper
    if helper is None:
        return
    if helper.tunnels.public_key is None:
        if not helper.tunnels.failures and (helper.device.peers or helper.link.is_there or helper.hosts.lines):
            yield "something is left of what was taken down"
        return
    peers = helper.tunnels.in_force
    yield from (f"two peers in force have the address {a}" for a in _doubles(peer.overlay_addr for peer in peers))
    yield from (f"two peers in force have the key {key!r}" for key in _doubles(peer.public_key for peer in peers))
    yield from (f"two peers in force have the name {name}" for name in _doubles(peer.name.lower() for peer in peers))
    if helper.is_half_applied:
        return
    owners = {peer.overlay_addr: peer.public_key for peer in peers}
    for address, key in helper.device.allowed.items():
        if owners.get(address) != key:
            yield f"WireGuard gives {address} to a peer that has no right to it"
    if strays := helper.link.routes - owners.keys():
        yield f"routes to nobody in force: {sorted(map(str, strays))}"


def hosts(machine: Machine, now: float) -> Iterator[str]:
    """What is wrong with the machine's hosts lines."""
    helper = machine.helper
    if helper is None or helper.tunnels.public_key is None:
        return
    names = {peer.overlay_addr: peer.name for peer in helper.tunnels.in_force}
    stale = [(address, name) for address, name in helper.hosts.lines if names.get(address) != name]
    if not stale:
        helper.stale_since = None
        return
    if helper.stale_since is None:
        helper.stale_since = now
    elif now - helper.stale_since > STALE_AT_MOST and not helper.is_in_trouble:
        yield f"hosts lines for nobody in force: {', '.join(name for _, name in stale)}"


def _doubles(values: Iterable[Hashable]) -> list[Hashable]:
    return [value for value, times in Counter(values).items() if times > 1]


def incarnation(machine: Machine, life: Life, node: Node) -> Iterator[str]:
    """What is wrong with a node's own incarnation; notes how high it is.

    Who stands where nobody believes it, once its clock was put back, begins again.
    """
    now = node.me.incarnation
    begins_again = machine.clock_went_back and life.highest > highest_sane(int(machine.calendar()))
    if now < life.highest and not begins_again:
        yield f"its own incarnation fell from {life.highest} to {now}"
    life.highest = now if begins_again else max(life.highest, now)


def beginning(machine: Machine, life: Life, *, forged: bool) -> Iterator[str]:
    """What is wrong with the first incarnation of a life; `forged`: members may have been driven up."""
    if life.saved is not None and life.first <= life.saved <= highest_sane(int(machine.calendar())):
        yield f"a new life begins at {life.first}, and {life.saved} was saved"
    if life.before is not None and not forged and not machine.clock_went_back and life.first <= life.before:
        yield f"a new life begins at {life.first}, and the last had come to {life.before}"


def datagram(node: Node, data: bytes) -> Iterator[str]:
    """What is wrong with a datagram that a node sends."""
    if len(data) > UDP_BUFFER_SIZE:
        yield f"a datagram of {len(data)} bytes"
    try:
        plain = node.keyring.open(data, b"")
        damage = open_packet(data, node.keyring).damage
    except WireError as error:
        yield f"a datagram that cannot be opened: {error}"
        return
    if plain[0] == MessageType.COMPOUND and plain[1] > MAX_COMPOUND_PARTS:
        yield f"a compound of {plain[1]} parts"
    yield from (f"a datagram with {error}" for error in damage)


def memory(machine: Machine, node: Node) -> Iterator[str]:
    """What a node, and the agent around it, keeps beyond measure."""
    members = {member.name: member for member in node.members()}
    suspects = {name for name, member in members.items() if member.state is NodeState.SUSPECT}
    membership, probing, exchanges = node._membership, node._probing, node._exchanges
    told: set[Hashable] = {(KeyRecord, record.epoch) for record in node._streams.key_records}
    told |= {(Forget, word.node) for word in membership._forgetting.words()}
    if strays := set(node._outbox.broadcasts._items) - members.keys() - told:
        yield f"news about strangers: {sorted(strays)}"
    if set(membership._suspicions) != suspects:
        yield f"suspicions of {sorted(membership._suspicions)}, while {sorted(suspects)} are suspect"
    for what, kept, most in (
        ("members", len(members), node.config.max_members),
        ("claims", len(membership._succession._claims), MAX_CLAIMS),
        ("streams", len(exchanges), 2 * MAX_STREAMS),
        ("relays", len(probing._relays), MAX_RELAYS),
        ("probes", len(probing._probes), node.config.probe_overlap + MAX_CLAIMS),
        ("round trips", len(probing.round_trips), node.config.max_members),
        ("missed pings", len(probing.missed_pings), node.config.max_members),
    ):
        if kept > most:
            yield f"{kept} {what}, and {most} are the most"
    agent = machine.agent
    if agent is not None and len(agent._peers.in_force) > 2 * node.config.max_members:
        yield f"{len(agent._peers.in_force)} peers remembered"


# --- liveness


def unsettled(machines: Collection[Machine], *, gone: Collection[str] = ()) -> list[str]:
    """What keeps the mesh of exactly these `machines` from being whole, as each of them sees it.

    `gone` are names that have left on purpose: not even a retained peer may remain of them. Others that are not there
    may have one as long as the agent says that it is retained.
    """
    wanted = {machine.name: _peer(machine) for machine in machines}
    return [
        f"{machine.name}: {problem}"
        for machine in machines
        for problem in _problems(machine, machines, wanted, frozenset(gone))
    ]


def _problems(
    machine: Machine, machines: Collection[Machine], wanted: dict[str, Peer | None], gone: frozenset[str]
) -> Iterator[str]:
    node, agent, helper = machine.node, machine.agent, machine.helper
    if node is None or agent is None or helper is None:
        yield "does not run"
        return
    live = {member.name: member for member in node.members() if member.is_live}
    if live.keys() != wanted.keys():
        yield f"holds {sorted(live)} for alive"
        return
    for other in machines:
        member = live[other.name]
        told = (
            None if other.node is None else (NodeState.ALIVE, other.at, other.node.me.meta, other.node.me.incarnation)
        )
        if (member.state, member.endpoint, member.meta, member.incarnation) != told:
            yield f"has old news of {other.name}"
    if len({other.keys.primary.key for other in machines if other.keys is not None}) > 1:
        yield "does not seal with the same key as all others"
    in_force = {peer.name: peer for peer in helper.tunnels.in_force}
    for name, peer in wanted.items():
        if name != machine.name and (peer is None or in_force.get(name) != peer):
            yield f"does not have {name} in force as it is"
    extra = in_force.keys() - wanted.keys()
    if strays := extra - {peer.name for peer in agent._peers.retained}:
        yield f"has {sorted(strays)} in force for no reason"
    if left := extra & gone:
        yield f"still has {sorted(left)}, who left"
    yield from _on_the_device(machine, in_force.values())


def _on_the_device(machine: Machine, in_force: Collection[Peer]) -> Iterator[str]:
    helper = machine.helper
    assert helper is not None
    owners = {peer.overlay_addr: peer.public_key for peer in in_force}
    if helper.device.allowed != owners:
        yield "WireGuard does not have what is in force"
    if helper.device.peers != {peer.public_key: peer.endpoint for peer in in_force}:
        yield "WireGuard has other endpoints than are in force"
    if helper.link.routes != owners.keys():
        yield "has other routes than peers in force"
    if dict(helper.hosts.lines) != {peer.overlay_addr: peer.name for peer in in_force if _has_line(peer, machine)}:
        yield "has other hosts lines than peers in force"


def _peer(machine: Machine) -> Peer | None:
    helper = machine.helper
    address = machine.overlay_addr
    if helper is None or helper.tunnels.public_key is None or address is None:
        return None
    return Peer(helper.tunnels.public_key, machine.at.ip, address, machine.name)


def _has_line(peer: Peer, machine: Machine) -> bool:
    return name_verdict(peer.name, machine.name, frozenset()) is HostsVerdict.ACCEPTED
