"""The helper's whole behaviour: request bytes in, reply bytes out.

In this order, as in OpenSSH's monitor: is it a request (protocol), may it come now (the table), does the policy
allow it (verdicts), then device, link and hosts file. `Violation` is not caught: the process undoes what it did and
ends. The kernel's no is an answer (`Failed`), since the agent can do nothing about it and peers must not suffer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from errno import EADDRNOTAVAIL
from typing import Any, Final, TypeVar

from privhelper.addressing import Address, derive, is_edge
from privhelper.device import Device, Hosts, Link
from privhelper.options import Pinned
from privhelper.policy import HostsVerdict, PeerVerdict, Policy, covers
from privhelper.protocol import (
    FIXED_ADDRESS,
    MAX_PART,
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
    Violation,
    ViolationCode,
    WriteHosts,
    decode_request,
    encode_reply,
)


class Phase(Enum):
    """How far an agent has come. STAGING is the time between the parts of one wanted set."""

    NEW = auto()
    GREETED = auto()
    ADDRESSED = auto()
    STAGING = auto()
    CONFIGURED = auto()
    ENDED = auto()


_TALKING = frozenset((Phase.GREETED, Phase.ADDRESSED, Phase.CONFIGURED))

PERMITTED: Final[Mapping[type[Request], frozenset[Phase]]] = {
    Hello: frozenset((Phase.NEW,)),
    InForce: _TALKING,
    SetAddr: _TALKING,
    SetPeers: frozenset((Phase.ADDRESSED, Phase.STAGING, Phase.CONFIGURED)),
    WriteHosts: frozenset((Phase.CONFIGURED,)),
    Status: _TALKING,
    Bye: _TALKING,
}
"""When each request may come. Anything else is a violation of order."""

_OP_OF: Final[Mapping[type[Request], Op]] = {
    Hello: Op.HELLO,
    InForce: Op.IN_FORCE,
    SetAddr: Op.SET_ADDR,
    SetPeers: Op.SET_PEERS,
    WriteHosts: Op.WRITE_HOSTS,
    Status: Op.STATUS,
    Bye: Op.BYE,
}

T = TypeVar("T")


class Monitor:
    """One agent's requests against one device. Pure but for the three things it was given."""

    def __init__(self, pinned: Pinned, device: Device, link: Link, hosts: Hosts, *, public_key: bytes) -> None:
        self._pinned = pinned
        self._device = device
        self._link = link
        self._hosts = hosts
        self._public_key = public_key
        self._phase = Phase.NEW
        self._sequence = 0
        self._own_address: Address | None = None
        self._staged: list[Peer] = []
        self._in_force: dict[bytes, Peer] = {}
        # Keys whose last change failed half way: the device may or may not have them as `_in_force` says.
        self._unsure: set[bytes] = set()
        self._named: list[Peer] = []
        self._reading: list[PeerStatus] = []
        self.failures: list[OSError] = []
        """What `take_down` could not do."""

    @property
    def ended(self) -> bool:
        """Whether the agent has said goodbye; whatever still arrives is a violation."""
        return self._phase is Phase.ENDED

    def receive(self, data: bytes) -> bytes:
        """Carry out one request and return the reply. Raises Violation."""
        sequence, request = decode_request(data)
        if sequence != (self._sequence + 1) & 0xFFFFFFFF:
            raise Violation(ViolationCode.SEQUENCE)
        self._sequence = sequence
        if self._phase not in PERMITTED[type(request)]:
            raise Violation(ViolationCode.ORDER)
        try:
            return encode_reply(sequence, self._perform(request))
        except OSError as error:
            return encode_reply(sequence, Failed(_OP_OF[type(request)], error.errno or 0))

    def take_down(self) -> None:
        """Leave the host as it was: hosts lines, then peers and key, then the link. `failures` has what failed."""
        self._phase = Phase.ENDED
        self._in_force.clear()
        steps: Sequence[Callable[[], object]] = (self._clear_hosts, self._device.destroy, self._link.delete)
        self.failures = [error for error in map(_attempt, steps) if error is not None]

    def _perform(self, request: Request) -> Reply:
        match request:
            case Hello():
                return self._hello()
            case InForce(part):
                peers, more = _page(list(self._in_force.values()), part)
                return PeersInForce(peers, more)
            case SetAddr(attempt):
                return self._set_addr(attempt)
            case SetPeers(peers, more):
                return self._set_peers(peers, more)
            case WriteHosts():
                return HostsWritten(self._write_hosts())
            case Status(part):
                if part == 0:
                    self._reading = self._device.status()
                statuses, more = _page(self._reading, part)
                return StatusPart(statuses, more)
            case Bye():
                self.take_down()
                return Failed(Op.BYE, self.failures[0].errno or 0) if self.failures else Farewell()

    def _hello(self) -> PinnedPolicy:
        self._phase = Phase.GREETED
        pinned = self._pinned
        return PinnedPolicy(
            node_name=pinned.node_name,
            interface=pinned.interface,
            overlay_net=pinned.overlay_net,
            wireguard_port=pinned.wireguard_port,
            mtu=pinned.mtu,
            max_peers=pinned.max_peers,
            etc_hosts=pinned.etc_hosts,
            backend=self._device.backend,
            public_key=self._public_key,
            in_force=len(self._in_force),
        )

    def _set_addr(self, attempt: int) -> Reply:
        if attempt == FIXED_ADDRESS:  # no `--address` is pinned yet, so an honest agent has nothing to refer to
            raise Violation(ViolationCode.ATTEMPT)
        address = derive(self._pinned.overlay_net, self._pinned.node_name.encode("ascii"), attempt)
        if is_edge(self._pinned.overlay_net, address) or covers(self._link.surroundings().networks, address):
            return Failed(Op.SET_ADDR, EADDRNOTAVAIL)  # edge of the net, or a local network's
        self._link.assign(address)
        self._own_address = address
        if self._phase is Phase.GREETED:
            self._phase = Phase.ADDRESSED
        return OwnAddress(address)

    def _set_peers(self, peers: Sequence[Peer], more: bool) -> Reply:
        self._staged.extend(peers)
        if len(self._staged) > 2 * self._pinned.max_peers:
            raise Violation(ViolationCode.COUNT)
        if more:
            self._phase = Phase.STAGING
            return Staged()
        wanted, self._staged = self._staged, []
        self._phase = Phase.CONFIGURED
        _check_unique(wanted)
        verdicts = self._policy().judge(wanted, self._in_force, self._taken_names())
        self._apply([p for p, (verdict, _) in zip(wanted, verdicts, strict=True) if verdict is PeerVerdict.ACCEPTED])
        self._named = [p for p, (_, verdict) in zip(wanted, verdicts, strict=True) if verdict is HostsVerdict.ACCEPTED]
        return Verdicts(tuple(verdicts))

    def _policy(self) -> Policy:
        assert self._own_address is not None  # noqa: S101 - the table lets SET_PEERS come only after SET_ADDR
        return Policy(
            overlay_net=self._pinned.overlay_net,
            node_name=self._pinned.node_name,
            own_address=self._own_address,
            own_key=self._public_key,
            max_peers=self._pinned.max_peers,
            etc_hosts=self._pinned.etc_hosts,
            surroundings=self._link.surroundings(),  # as of now: a network may have come since the last set
        )

    def _taken_names(self) -> frozenset[str] | None:
        """None where the file cannot be read: names then wait, tunnels do not."""
        try:
            return self._hosts.taken_names() if self._pinned.etc_hosts else frozenset()
        except OSError:
            return None

    def _apply(self, accepted: Sequence[Peer]) -> None:
        """Turn the peers in force into `accepted`. If the kernel says no half way, remember what is no longer sure."""
        wanted = {peer.public_key: peer for peer in accepted}
        addresses = {peer.overlay_addr for peer in accepted}
        gone = [key for key in self._in_force if key not in wanted]
        changed = [p for k, p in wanted.items() if self._in_force.get(k) != p or k in self._unsure]
        self._unsure.update(gone, (peer.public_key for peer in changed))
        # No packet may leave through the tunnel for a peer that is going or not yet there.
        self._link.route(addresses & {peer.overlay_addr for peer in self._in_force.values()})
        self._in_force |= {peer.public_key: peer for peer in changed}
        self._device.apply(gone, changed)
        self._link.route(addresses)
        self._in_force = wanted
        self._unsure.clear()

    def _write_hosts(self) -> HostsResult:
        return self._hosts.write(self._named) if self._pinned.etc_hosts else HostsResult.DISABLED

    def _clear_hosts(self) -> None:
        self._named = []
        if self._pinned.etc_hosts:
            self._hosts.clear()


def _check_unique(peers: Sequence[Peer]) -> None:
    """An honest agent removes doubles before it sends: which one is right is a question for the mesh, not for us."""
    columns: Sequence[tuple[ViolationCode, Callable[[Peer], object]]] = (
        (ViolationCode.DUPLICATE_KEY, lambda peer: peer.public_key),
        (ViolationCode.DUPLICATE_ADDRESS, lambda peer: peer.overlay_addr),
        (ViolationCode.DUPLICATE_NAME, lambda peer: peer.name.lower()),
    )
    for code, column in columns:
        if len({column(peer) for peer in peers}) != len(peers):
            raise Violation(code)


def _page(records: Sequence[T], part: int) -> tuple[tuple[T, ...], bool]:
    start = part * MAX_PART
    return tuple(records[start : start + MAX_PART]), start + MAX_PART < len(records)


def _attempt(step: Callable[[], Any]) -> OSError | None:
    try:
        step()
    except OSError as error:
        return error
    return None
