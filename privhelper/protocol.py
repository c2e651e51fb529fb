"""The whole privileged interface: operations, records and their bytes.

One SOCK_SEQPACKET message is one request or one reply: a header, then `count` records of one fixed size.

    header   version u8 | op u8 | flags u16 | count u16 | sequence u32      10 bytes, big-endian

A request names no path, interface, port, prefix or capability; the longest thing the sender chooses is a 64-byte
name. Decoding is strict: one form per meaning, padding is zero, every length is exact. Whatever else arrives can
only come from a broken or hostile agent and is a `Violation`, for which the helper stops.

The agent numbers its requests 1, 2, 3 … (mod 2**32); a reply carries its request's number, an event carries 0.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final, TypeVar

from privhelper.addressing import MAX_ATTEMPT, Address, Network

VERSION: Final = 1

MAX_NAME: Final = 64
"""Bytes in a node name: Linux' HOST_NAME_MAX."""
MAX_INTERFACE: Final = 15
"""Bytes in an interface name: IFNAMSIZ less its NUL."""
MAX_PART: Final = 512
"""Records in one message: 70 KB, below the 80 KiB above which the kernel wants one contiguous block."""
MAX_PEERS_LIMIT: Final = 4000
"""The highest `--max-peers`; a wanted set may hold twice as many records, as membership does."""
FIXED_ADDRESS: Final = 255
"""SET_ADDR's attempt that means the pinned `--address`."""


class Op(IntEnum):
    """What a message is about. EVENT alone is sent by the helper unasked."""

    HELLO = 1
    IN_FORCE = 2
    SET_ADDR = 3
    SET_PEERS = 4
    WRITE_HOSTS = 5
    STATUS = 6
    BYE = 7
    EVENT = 128


class Flag(IntFlag):
    """Header flags. A request may carry MORE (of SET_PEERS) and nothing else."""

    NONE = 0
    MORE = 1
    REPLY = 2
    FAILED = 4


class Event(IntEnum):
    """What the helper says unasked."""

    TERMINATE = 1
    RELOAD = 2
    REPAIRED = 3


class Backend(IntEnum):
    """Which WireGuard carries the link."""

    KERNEL = 1
    USERSPACE = 2


class HostsResult(IntEnum):
    """What became of WRITE_HOSTS. REPLACED: the open file is no longer the one at the path; nothing was written."""

    WRITTEN = 0
    DISABLED = 1
    REPLACED = 2


class ViolationCode(Enum):
    """Why a message could not come from an honest agent: the helper's whole vocabulary for it."""

    LENGTH = "length"
    VERSION = "version"
    OPERATION = "operation"
    FLAGS = "flags"
    COUNT = "count"
    SEQUENCE = "sequence"
    ORDER = "order"
    PADDING = "padding"
    TEXT = "text"
    ADDRESS = "address"
    ATTEMPT = "attempt"
    DUPLICATE_KEY = "duplicate key"
    DUPLICATE_ADDRESS = "duplicate address"
    DUPLICATE_NAME = "duplicate name"


class Violation(Exception):
    """Bytes or order that the other half, if it is ours and whole, never sends. Stop."""

    def __init__(self, code: ViolationCode) -> None:
        super().__init__(code.value)
        self.code = code


@dataclass(frozen=True, slots=True)
class Peer:
    """A wanted peer: its tunnel, route and hosts line follow from these four and from what is pinned."""

    public_key: bytes
    endpoint: Address
    overlay_addr: Address
    name: str


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What WireGuard knows of a peer. `last_handshake` is in seconds since the epoch, 0 for never; bytes are totals."""

    public_key: bytes
    endpoint: Address | None
    last_handshake: int
    rx_bytes: int
    tx_bytes: int


@dataclass(frozen=True, slots=True)
class Hello:
    """First, and once. The build is for the log: the header's version decides compatibility."""

    build: str


@dataclass(frozen=True, slots=True)
class InForce:
    """Ask for the part-th slice of at most 512 peers in force."""

    part: int


@dataclass(frozen=True, slots=True)
class SetAddr:
    """Own overlay address := derive(pinned name, attempt), or with FIXED_ADDRESS the pinned one; where one is pinned
    only that."""

    attempt: int


@dataclass(frozen=True, slots=True)
class SetPeers:
    """A part of the full wanted set; it takes effect with the part that is not followed by `more`."""

    peers: tuple[Peer, ...]
    more: bool = False


@dataclass(frozen=True, slots=True)
class WriteHosts:
    """Write the names accepted with the last set."""


@dataclass(frozen=True, slots=True)
class Status:
    """Ask for the part-th slice of at most 512 records; part 0 takes the reading, later parts page through it."""

    part: int


@dataclass(frozen=True, slots=True)
class Bye:
    """Take everything down. Only EOF may follow."""


Request = Hello | InForce | SetAddr | SetPeers | WriteHosts | Status | Bye


@dataclass(frozen=True, slots=True)
class PinnedPolicy:
    """HELLO's answer: what the administrator fixed, the device's public key, and how many peers are in force."""

    node_name: str
    interface: str
    overlay_net: Network
    wireguard_port: int
    mtu: int
    max_peers: int
    keepalive: int
    etc_hosts: bool
    backend: Backend
    public_key: bytes
    in_force: int
    hosts_suffix: str
    static_addresses: bool = False
    address_is_pinned: bool = False


@dataclass(frozen=True, slots=True)
class PeersInForce:
    """IN_FORCE's answer; `more` says that a further part is there."""

    peers: tuple[Peer, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """SET_ADDR's answer."""

    address: Address


@dataclass(frozen=True, slots=True)
class Staged:
    """The answer to a part of SET_PEERS that was not the last."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """SET_PEERS' answer: per record, in order of all parts, the codes of its peer and its hosts verdict."""

    verdicts: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class HostsWritten:
    """WRITE_HOSTS' answer."""

    result: HostsResult


@dataclass(frozen=True, slots=True)
class StatusPart:
    """STATUS' answer; `more` says that a further part is there."""

    peers: tuple[PeerStatus, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Farewell:
    """BYE's answer: link, routes and hosts lines are gone."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The kernel, WireGuard or the hosts file said no to `op`; `errno` is its word. `op` may hold in part."""

    op: Op
    errno: int


Reply = PinnedPolicy | PeersInForce | OwnAddress | Staged | Verdicts | HostsWritten | StatusPart | Farewell | Failed

_FLAGS: Final = sum(Flag)  # an int: the complement of an IntFlag holds only the bits it knows
_HEADER: Final = struct.Struct("!BBHHI")
_BUILD: Final = struct.Struct("!B31s")
_PART: Final = struct.Struct("!H")
_ATTEMPT: Final = struct.Struct("!B")
_ERRNO: Final = struct.Struct("!H")
_VERDICT: Final = struct.Struct("!BB")
# public key | endpoint family, bytes | overlay family, bytes | name length, bytes | zero
_PEER: Final = struct.Struct("!32sB16sB16sB64s5s")
# public key | endpoint family (0: none yet), bytes | zero | last handshake, s | rx, bytes | tx, bytes
_STATUS: Final = struct.Struct("!32sB16s7sQQQ")
_ADDRESS: Final = struct.Struct("!B16s")
# HELLO's answer is two records of one size, for together they would be longer than any other record:
# name | interface | net: family, address, prefix length | port | mtu | max peers | keepalive, s | switches
_POLICY: Final = struct.Struct("!B64sB15sB16sBHHHHB")
# backend | public key | peers in force | hosts suffix (empty: none) | zero
_DEVICE: Final = struct.Struct("!B32sHB64s8s")

_ETC_HOSTS, _STATIC_ADDRESSES, _ADDRESS_PINNED = 1, 2, 4
_SWITCHES: Final = (0, 1, 2, 3, 6, 7)  # an address is pinned only where static addresses are allowed

MAX_MESSAGE: Final = _HEADER.size + MAX_PART * _PEER.size
"""Bytes of the longest legal message, either way; a receive buffer of one more tells a longer one apart."""

MAX_RECORD: Final = 136
"""Bytes of the longest record, a peer's."""

assert _PEER.size == MAX_RECORD  # noqa: S101 - the contract of the whole interface: no record is longer
assert _POLICY.size == _DEVICE.size < MAX_RECORD  # noqa: S101


# --- requests ----------------------------------------------------------------------------------------------------


def encode_request(sequence: int, request: Request) -> bytes:
    """The bytes of `request`; the inverse of `decode_request`."""
    match request:
        case Hello(build):
            return _message(Op.HELLO, Flag.NONE, sequence, [_BUILD.pack(*_text(build, 31))])
        case InForce(part):
            return _message(Op.IN_FORCE, Flag.NONE, sequence, [_PART.pack(part)])
        case SetAddr(attempt):
            return _message(Op.SET_ADDR, Flag.NONE, sequence, [_ATTEMPT.pack(attempt)])
        case SetPeers(peers, more):
            return _message(Op.SET_PEERS, Flag.MORE if more else Flag.NONE, sequence, [_pack_peer(p) for p in peers])
        case WriteHosts():
            return _message(Op.WRITE_HOSTS, Flag.NONE, sequence, [])
        case Status(part):
            return _message(Op.STATUS, Flag.NONE, sequence, [_PART.pack(part)])
        case Bye():
            return _message(Op.BYE, Flag.NONE, sequence, [])


def decode_request(data: bytes) -> tuple[int, Request]:
    """The sequence number and the request in `data`. Raises Violation."""
    op, flags, count, sequence, body = _open(data)
    if flags & ~(Flag.MORE if op is Op.SET_PEERS else Flag.NONE):
        raise Violation(ViolationCode.FLAGS)
    match op:
        case Op.HELLO:
            (record,) = _records(body, _BUILD, count, exactly=1)
            return sequence, Hello(_untext(*record))
        case Op.IN_FORCE:
            ((part,),) = _records(body, _PART, count, exactly=1)
            return sequence, InForce(part)
        case Op.SET_ADDR:
            ((attempt,),) = _records(body, _ATTEMPT, count, exactly=1)
            if attempt > MAX_ATTEMPT and attempt != FIXED_ADDRESS:
                raise Violation(ViolationCode.ATTEMPT)
            return sequence, SetAddr(attempt)
        case Op.SET_PEERS:
            peers = tuple(_unpack_peer(*record) for record in _records(body, _PEER, count))
            if not peers and flags & Flag.MORE:
                raise Violation(ViolationCode.COUNT)
            return sequence, SetPeers(peers, bool(flags & Flag.MORE))
        case Op.WRITE_HOSTS:
            _records(body, _PART, count, exactly=0)
            return sequence, WriteHosts()
        case Op.STATUS:
            ((part,),) = _records(body, _PART, count, exactly=1)
            return sequence, Status(part)
        case Op.BYE:
            _records(body, _PART, count, exactly=0)
            return sequence, Bye()
        case _:
            raise Violation(ViolationCode.OPERATION)


# --- replies and events ------------------------------------------------------------------------------------------


def encode_reply(sequence: int, reply: Reply) -> bytes:
    """The bytes of `reply` to the request numbered `sequence`."""
    match reply:
        case PinnedPolicy():
            return _message(Op.HELLO, Flag.REPLY, sequence, _pack_policy(reply))
        case PeersInForce(peers, more):
            return _message(Op.IN_FORCE, _reply(more), sequence, [_pack_peer(peer) for peer in peers])
        case OwnAddress(address):
            return _message(Op.SET_ADDR, Flag.REPLY, sequence, [_ADDRESS.pack(*_pack_address(address))])
        case Staged():
            return _message(Op.SET_PEERS, _reply(True), sequence, [])
        case Verdicts(verdicts):
            body = b"".join(_VERDICT.pack(*verdict) for verdict in verdicts)
            return _HEADER.pack(VERSION, Op.SET_PEERS, Flag.REPLY, len(verdicts), sequence) + body
        case HostsWritten(result):
            return _message(Op.WRITE_HOSTS, Flag.REPLY, sequence, [_ATTEMPT.pack(result)])
        case StatusPart(statuses, more):
            return _message(Op.STATUS, _reply(more), sequence, [_pack_status(status) for status in statuses])
        case Farewell():
            return _message(Op.BYE, Flag.REPLY, sequence, [])
        case Failed(op, errno):
            return _message(op, Flag.REPLY | Flag.FAILED, sequence, [_ERRNO.pack(errno)])


def decode_reply(data: bytes) -> tuple[int, Reply | Event]:
    """The sequence number and the reply in `data`, or 0 and an event. Raises Violation."""
    op, flags, count, sequence, body = _open(data)
    if op is Op.EVENT:
        if flags or sequence:
            raise Violation(ViolationCode.FLAGS)
        ((code,),) = _records(body, _ATTEMPT, count, exactly=1)
        return 0, _member(Event, code)
    more = bool(flags & Flag.MORE)
    failed = bool(flags & Flag.FAILED)
    if not flags & Flag.REPLY or (more and (failed or op not in (Op.IN_FORCE, Op.SET_PEERS, Op.STATUS))):
        raise Violation(ViolationCode.FLAGS)
    if failed:
        ((errno,),) = _records(body, _ERRNO, count, exactly=1)
        return sequence, Failed(op, errno)
    match op:
        case Op.HELLO:
            _records(body, _POLICY, count, exactly=2)
            return sequence, _unpack_policy(*_POLICY.unpack_from(body), *_DEVICE.unpack_from(body, _POLICY.size))
        case Op.IN_FORCE:
            return sequence, PeersInForce(tuple(_unpack_peer(*r) for r in _records(body, _PEER, count)), more)
        case Op.SET_ADDR:
            (record,) = _records(body, _ADDRESS, count, exactly=1)
            return sequence, OwnAddress(_unpack_address(*record))
        case Op.SET_PEERS if more:
            _records(body, _VERDICT, count, exactly=0)
            return sequence, Staged()
        case Op.SET_PEERS:
            verdicts = tuple(
                (peer, hosts) for peer, hosts in _records(body, _VERDICT, count, at_most=2 * MAX_PEERS_LIMIT)
            )
            return sequence, Verdicts(verdicts)
        case Op.WRITE_HOSTS:
            ((result,),) = _records(body, _ATTEMPT, count, exactly=1)
            return sequence, HostsWritten(_member(HostsResult, result))
        case Op.STATUS:
            return sequence, StatusPart(tuple(_unpack_status(*r) for r in _records(body, _STATUS, count)), more)
        case Op.BYE:
            _records(body, _PART, count, exactly=0)
            return sequence, Farewell()


def encode_event(event: Event) -> bytes:
    """The bytes of an unsolicited `event`."""
    return _message(Op.EVENT, Flag.NONE, 0, [_ATTEMPT.pack(event)])


# --- records -----------------------------------------------------------------------------------------------------


def _message(op: Op, flags: Flag, sequence: int, records: Sequence[bytes]) -> bytes:
    return _HEADER.pack(VERSION, op, flags, len(records), sequence) + b"".join(records)


def _reply(more: bool) -> Flag:
    return Flag.REPLY | Flag.MORE if more else Flag.REPLY


def _open(data: bytes) -> tuple[Op, Flag, int, int, memoryview]:
    if not _HEADER.size <= len(data) <= MAX_MESSAGE:
        raise Violation(ViolationCode.LENGTH)
    version, op, flags, count, sequence = _HEADER.unpack_from(data)
    if version != VERSION:
        raise Violation(ViolationCode.VERSION)
    try:
        known = Op(op)
    except ValueError:
        raise Violation(ViolationCode.OPERATION) from None
    if flags & ~_FLAGS:
        raise Violation(ViolationCode.FLAGS)
    return known, Flag(flags), count, sequence, memoryview(data)[_HEADER.size :]


def _records(
    body: memoryview, shape: struct.Struct, count: int, *, exactly: int | None = None, at_most: int = MAX_PART
) -> list[tuple[Any, ...]]:
    if (count > at_most) if exactly is None else (count != exactly):
        raise Violation(ViolationCode.COUNT)
    if len(body) != count * shape.size:
        raise Violation(ViolationCode.LENGTH)
    return list(shape.iter_unpack(body)) if count else []


_Code = TypeVar("_Code", bound=IntEnum)


def _member(kind: type[_Code], code: int) -> _Code:
    try:
        return kind(code)
    except ValueError:
        raise Violation(ViolationCode.OPERATION) from None


def _text(text: str, room: int) -> tuple[int, bytes]:
    raw = text.encode("ascii")
    if len(raw) > room:
        raise ValueError(f"{len(raw)} bytes of text where {room} fit")
    return len(raw), raw


def _untext(length: int, field: bytes) -> str:
    raw, rest = field[:length], field[length:]
    if length > len(field) or any(rest):
        raise Violation(ViolationCode.PADDING)
    if not raw or not all(0x21 <= byte <= 0x7E for byte in raw):
        raise Violation(ViolationCode.TEXT)
    return raw.decode("ascii")


def _pack_address(address: Address) -> tuple[int, bytes]:
    return address.version, address.packed


def _unpack_address(family: int, field: bytes) -> Address:
    match family:
        case 4 if not any(field[4:]):
            return IPv4Address(field[:4])
        case 4:
            raise Violation(ViolationCode.PADDING)
        case 6:
            return IPv6Address(field)
        case _:
            raise Violation(ViolationCode.ADDRESS)


def _pack_peer(peer: Peer) -> bytes:
    endpoint, overlay = _pack_address(peer.endpoint), _pack_address(peer.overlay_addr)
    return _PEER.pack(peer.public_key, *endpoint, *overlay, *_text(peer.name, MAX_NAME), b"")


def _unpack_peer(
    key: bytes, family: int, endpoint: bytes, overlay_family: int, overlay: bytes, length: int, name: bytes, zero: bytes
) -> Peer:
    if any(zero):
        raise Violation(ViolationCode.PADDING)
    return Peer(key, _unpack_address(family, endpoint), _unpack_address(overlay_family, overlay), _untext(length, name))


def _pack_status(status: PeerStatus) -> bytes:
    family, packed = _pack_address(status.endpoint) if status.endpoint else (0, b"")
    counters = status.last_handshake, status.rx_bytes, status.tx_bytes
    return _STATUS.pack(status.public_key, family, packed, b"", *counters)


def _unpack_status(key: bytes, family: int, field: bytes, zero: bytes, handshake: int, rx: int, tx: int) -> PeerStatus:
    if any(zero) or (family == 0 and any(field)):
        raise Violation(ViolationCode.PADDING)
    return PeerStatus(key, _unpack_address(family, field) if family else None, handshake, rx, tx)


def _pack_policy(policy: PinnedPolicy) -> list[bytes]:
    net = policy.overlay_net
    pinned = _POLICY.pack(
        *_text(policy.node_name, MAX_NAME),
        *_text(policy.interface, MAX_INTERFACE),
        *_pack_address(net.network_address),
        net.prefixlen,
        policy.wireguard_port,
        policy.mtu,
        policy.max_peers,
        policy.keepalive,
        policy.etc_hosts * _ETC_HOSTS
        | policy.static_addresses * _STATIC_ADDRESSES
        | policy.address_is_pinned * _ADDRESS_PINNED,
    )
    suffix = _text(policy.hosts_suffix, MAX_NAME) if policy.hosts_suffix else (0, b"")
    return [pinned, _DEVICE.pack(policy.backend, policy.public_key, policy.in_force, *suffix, b"")]


def _unpack_policy(
    name_length: int,
    name: bytes,
    interface_length: int,
    interface: bytes,
    family: int,
    net: bytes,
    prefix: int,
    port: int,
    mtu: int,
    max_peers: int,
    keepalive: int,
    switches: int,
    backend: int,
    key: bytes,
    in_force: int,
    suffix_length: int,
    suffix: bytes,
    zero: bytes,
) -> PinnedPolicy:
    if any(zero) or switches not in _SWITCHES or (suffix_length == 0 and any(suffix)):
        raise Violation(ViolationCode.PADDING)
    return PinnedPolicy(
        node_name=_untext(name_length, name),
        interface=_untext(interface_length, interface),
        overlay_net=_network(_unpack_address(family, net), prefix),
        wireguard_port=port,
        mtu=mtu,
        max_peers=max_peers,
        keepalive=keepalive,
        etc_hosts=bool(switches & _ETC_HOSTS),
        backend=_member(Backend, backend),
        public_key=key,
        in_force=in_force,
        hosts_suffix=_untext(suffix_length, suffix) if suffix_length else "",
        static_addresses=bool(switches & _STATIC_ADDRESSES),
        address_is_pinned=bool(switches & _ADDRESS_PINNED),
    )


def _network(address: Address, prefix: int) -> Network:
    try:
        if isinstance(address, IPv4Address):
            return IPv4Network((address, prefix))
        return IPv6Network((address, prefix))
    except ValueError:
        raise Violation(ViolationCode.ADDRESS) from None
