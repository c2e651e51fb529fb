"""The helper's whole behaviour: request bytes in, reply bytes out.

In this order, as in OpenSSH's monitor: is it a request (protocol), may it come now (the table), does the policy
allow it (verdicts), then device, link and hosts file (tunnels). `Violation` is not caught: the process undoes what it
did and ends. The kernel's no is an answer (`Failed`), since the agent can do nothing about it and peers must not
suffer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Final, TypeVar

from privhelper.protocol import (
    FIXED_ADDRESS,
    MAX_PART,
    Bye,
    Failed,
    Farewell,
    Hello,
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
from privhelper.tunnels import Tunnels


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
    """One agent's requests, from HELLO to BYE or EOF. What it brought about stays in `tunnels` after it."""

    def __init__(self, tunnels: Tunnels) -> None:
        self._tunnels = tunnels
        self._phase = Phase.NEW
        self._sequence = 0
        self._staged: list[Peer] = []
        self._reading: list[PeerStatus] = []

    @property
    def is_new(self) -> bool:
        """Whether the agent has yet to be greeted."""
        return self._phase is Phase.NEW

    @property
    def is_configured(self) -> bool:
        """Whether a whole set has come."""
        return self._phase is Phase.CONFIGURED

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

    def _perform(self, request: Request) -> Reply:
        match request:
            case Hello():
                return self._hello()
            case InForce(part):
                peers, more = _page(self._tunnels.in_force, part)
                return PeersInForce(peers, more)
            case SetAddr(attempt):
                return self._set_addr(attempt)
            case SetPeers(peers, more):
                return self._set_peers(peers, more)
            case WriteHosts():
                return HostsWritten(self._tunnels.write_hosts())
            case Status(part):
                if part == 0:
                    self._reading = self._tunnels.status()
                statuses, more = _page(self._reading, part)
                return StatusPart(statuses, more)
            case Bye():
                self._phase = Phase.ENDED
                self._tunnels.take_down()
                failures = self._tunnels.failures
                return Failed(Op.BYE, failures[0].errno or 0) if failures else Farewell()

    def _hello(self) -> PinnedPolicy:
        if self._tunnels.public_key is None:  # the agent before this one took everything down
            self._tunnels.set_up()
        assert self._tunnels.public_key is not None  # noqa: S101 - set_up raises or has one
        self._phase = Phase.GREETED
        pinned = self._tunnels.pinned
        return PinnedPolicy(
            node_name=pinned.node_name,
            interface=pinned.interface,
            overlay_net=pinned.overlay_net,
            wireguard_port=pinned.wireguard_port,
            mtu=pinned.mtu,
            max_peers=pinned.max_peers,
            keepalive=pinned.keepalive,
            etc_hosts=pinned.etc_hosts,
            backend=self._tunnels.backend,
            public_key=self._tunnels.public_key,
            in_force=len(self._tunnels.in_force),
            hosts_suffix=pinned.hosts_suffix,
            static_addresses=pinned.static_addresses,
            address_is_pinned=pinned.address is not None,
        )

    def _set_addr(self, attempt: int) -> Reply:
        is_pinned = self._tunnels.pinned.address is not None
        if (attempt == FIXED_ADDRESS) is not is_pinned:  # HELLO has told which of the two it is to be
            raise Violation(ViolationCode.ATTEMPT)
        address = self._tunnels.set_address(attempt)
        if self._phase is Phase.GREETED:
            self._phase = Phase.ADDRESSED
        return OwnAddress(address)

    def _set_peers(self, peers: Sequence[Peer], more: bool) -> Reply:
        self._staged.extend(peers)
        if len(self._staged) > 2 * self._tunnels.pinned.max_peers:
            raise Violation(ViolationCode.COUNT)
        if more:
            self._phase = Phase.STAGING
            return Staged()
        wanted, self._staged = self._staged, []
        self._phase = Phase.CONFIGURED
        _check_unique(wanted)
        return Verdicts(tuple(self._tunnels.set_peers(wanted)))


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
