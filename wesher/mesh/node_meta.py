"""What a node says about itself in memberlist's Meta: its overlay address, its WireGuard key, and our claim to both.

The bytes are a Go struct in gob encoding (see gob.py). Two forms exist, because wesher 0.2.6 and 0.3 give the field
OverlayAddr different Go types, and no byte string serves both: a Go node of either kind skips a peer that speaks the
other. So we read both and write whichever the caller asks for.

    0.2   struct nodeMeta { OverlayAddr net.IPNet { IP, Mask []byte }; PubKey string }
    0.3   struct nodeMeta { OverlayAddr netip.Addr (opaque, 4 or 16 bytes); PubKey string }
    ours  either, with one more field after PubKey, which both Go versions skip: Wesher []byte

    Wesher, version 1:  version u8 = 1 | flags u8 | attempt u8 | claim time u32 big-endian
                        | number u8 | so many fingerprints of cluster keys, 4 bytes each | reserved, ignored

The fingerprints are of the cluster keys that the node has on its disk, the one it seals with first: so whoever changes
keys sees who is ready. Where they are missing or cut off there are none.

A `Wesher` that we cannot read (another version, too short, an attempt that does not exist, another Go type) counts as
absent: that member is then to us what every member of ours is to a Go node, a peer without a claim. Refusing it would
cut a working tunnel over a field that the tunnel does not need, and gain nothing, since leaving it out is as easy.

Reading is strict where Go is not (whitespace in keys, zones), because the result goes to the helper and to the kernel.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from wesher.mesh import gob
from wesher.mesh.gob import GobError, GobValue

MAX_ATTEMPT = 15  # the last alternative address that a name can derive
PINNED_ATTEMPT = 255  # the address was given with --address, not derived
MAX_ENCODED = 412  # memberlist's MetaMaxSize of 512, less 100 bytes kept for an Ed25519 identity and signature

FINGERPRINT_SIZE = 4
MAX_KEYS = 4  # cluster keys that a node has at once: with more, the message would need a longer length

_EXTENSION_VERSION = 1
_EXTENSION = struct.Struct(">BBBI")
_U8_MAX, _U32_MAX = 0xFF, 0xFFFF_FFFF


class MetaForm(Enum):
    """The gob type of OverlayAddr: wesher 0.2.6's net.IPNet, or the netip.Addr of 0.3 and master."""

    V02 = "0.2"
    V03 = "0.3"


class MetaFault(StrEnum):
    """Why a member's metadata makes no peer, in words for `wesher status`."""

    EMPTY = "no metadata"
    MALFORMED = "metadata does not parse"
    NO_ADDRESS = "no overlay address"
    BAD_ADDRESS = "overlay address does not parse"
    ZONED_ADDRESS = "overlay address has a zone"
    NO_MASK = "overlay address has no mask"
    NO_KEY = "no public key"
    BAD_KEY = "public key does not parse"


class MetaError(ValueError):
    """This member's metadata makes no peer. `reason` is one of MetaFault's texts, never a byte of the stranger's."""

    def __init__(self, reason: MetaFault) -> None:
        super().__init__(str(reason))
        self.fault = reason
        self.reason: str = str(reason)


@dataclass(frozen=True, slots=True)
class Claim:
    """How and since when a Python node holds its overlay address.

    attempt: 0-15, the alternative derived from the name, or 255 for an address given with --address.
    claim_time: whole seconds since 2020-01-01 UTC, u32. flags: u8, none defined; unknown ones are carried.
    Raises ValueError out of range.
    """

    attempt: int
    claim_time: int
    flags: int = 0

    def __post_init__(self) -> None:
        if not is_attempt(self.attempt):
            raise ValueError("attempt is 0-15 or 255")
        if not 0 <= self.claim_time <= _U32_MAX:
            raise ValueError("claim time is a u32")
        if not 0 <= self.flags <= _U8_MAX:
            raise ValueError("flags is a u8")


@dataclass(frozen=True, slots=True)
class NodeMeta:
    """One node's metadata, well-formed; whether address and key are acceptable is policy's to say.

    public_key: 32 raw bytes. claim: None for a Go node. keys: fingerprints, 4 bytes each, at most MAX_KEYS; none of a
    node without a claim. An IPv6 address is neither v4-mapped nor zoned.
    Raises ValueError otherwise.
    """

    overlay_addr: IPv4Address | IPv6Address
    public_key: bytes
    form: MetaForm
    claim: Claim | None
    keys: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.keys) > MAX_KEYS or any(len(key) != FINGERPRINT_SIZE for key in self.keys):
            raise ValueError("a few fingerprints, of 4 bytes")
        if self.keys and self.claim is None:
            raise ValueError("only a node with a claim tells its keys")
        if len(self.public_key) != 32:
            raise ValueError("a public key is 32 bytes")
        if isinstance(self.overlay_addr, IPv6Address) and (self.overlay_addr.ipv4_mapped or self.overlay_addr.scope_id):
            raise ValueError("an overlay address is neither v4-mapped nor zoned")


def is_attempt(number: int) -> bool:
    """Whether this is an attempt that a node can claim: 0-15, or 255 for a given address."""
    return 0 <= number <= MAX_ATTEMPT or number == PINNED_ATTEMPT


def encode(meta: NodeMeta) -> bytes:
    """Return the gob stream for Meta: at most MAX_ENCODED bytes, and without a claim exactly what Go emits.

    Three messages (memberlist-protocol.md sections 7.4, 7.5): the types nodeMeta = 65 and OverlayAddr's = 66, then the
    value. In form 0.2 the mask is that of one address, /32 or /128: 0.2.6 routes whatever mask it is sent.
    """
    members = [("OverlayAddr", _ADDR_ID), ("PubKey", _STRING_ID)]
    address, key = meta.overlay_addr.packed, base64.b64encode(meta.public_key)
    if meta.form is MetaForm.V03:
        address_type = b"\xff\x83\x06\x01" + _named("Addr", _ADDR_ID) + b"\0\0"
        value = b"\x01" + _counted(address)
    else:
        address_type = b"\xff\x83" + _struct_type("IPNet", _ADDR_ID, [("IP", _BYTES_ID), ("Mask", _BYTES_ID)])
        value = b"\x01\x01" + _counted(address) + b"\x01" + _counted(b"\xff" * len(address)) + b"\0"
    value += b"\x01" + _counted(key)
    if meta.claim is not None:
        members.append(("Wesher", _BYTES_ID))
        value += b"\x01" + _counted(_extension(meta.claim, meta.keys))
    meta_type = b"\xff\x81" + _struct_type("nodeMeta", _META_ID, members)
    return _counted(meta_type) + _counted(address_type) + _counted(_META_ID + value + b"\0")


_META_ID, _ADDR_ID, _BYTES_ID, _STRING_ID = b"\xff\x82", b"\xff\x84", b"\x0a", b"\x0c"  # gob ints 65, 66, 5, 6


def _counted(data: bytes) -> bytes:
    """Length and bytes. One byte of length will do: the longest message here is 121 bytes, and gob's limit is 127."""
    return bytes([len(data)]) + data


def _named(name: str, type_id: bytes) -> bytes:
    """A gob CommonType or fieldType, which are alike: 0 Name, 1 Id."""
    return b"\x01" + _counted(name.encode()) + b"\x01" + type_id + b"\0"


def _struct_type(name: str, type_id: bytes, members: list[tuple[str, bytes]]) -> bytes:
    """A gob wireType whose field 2 is structT."""
    fields = b"".join(_named(member, member_id) for member, member_id in members)
    return b"\x03\x01" + _named(name, type_id) + b"\x01" + bytes([len(members)]) + fields + b"\0\0"


def _extension(claim: Claim, keys: tuple[bytes, ...]) -> bytes:
    known = bytes([len(keys)]) + b"".join(keys) if keys else b""
    return _EXTENSION.pack(_EXTENSION_VERSION, claim.flags, claim.attempt, claim.claim_time) + known


def decode(data: bytes) -> NodeMeta:
    """Read the Meta of any wesher node, in either form. Raises MetaError.

    A v4-mapped overlay address becomes the IPv4 address. The mask of form 0.2 must be there and is ignored: a peer's
    allowed IPs are always its one address. (0.2.6 gives WireGuard the IPNet as sent: a member that says /0 takes all
    of a 0.2.6 node's traffic.)
    """
    found = _decoded(data)
    if isinstance(found, MetaFault):
        raise MetaError(found)
    return found


def overlay_addr(data: bytes | None) -> IPv4Address | IPv6Address | None:
    """The address that is claimed with these bytes, whether its owner may have it or not; None where there is none."""
    found = None if data is None else _decoded(data)
    return found.overlay_addr if isinstance(found, NodeMeta) else None


def has_claim(data: bytes) -> bool:
    """Whether these are the bytes of a node of ours: a Go node's hold no claim."""
    found = _decoded(data)
    return isinstance(found, NodeMeta) and found.claim is not None


@lru_cache(maxsize=8000)  # twice the highest --max-peers: metadata changes rarely and is asked for at every event
def _decoded(data: bytes) -> NodeMeta | MetaFault:
    """The fault is remembered too, or who sends what does not parse would have it parsed at every event."""
    try:
        return _decode(data)
    except MetaError as error:
        return error.fault


def _decode(data: bytes) -> NodeMeta:
    if not data:
        raise MetaError(MetaFault.EMPTY)
    try:
        fields = gob.decode(data)
    except GobError:
        raise MetaError(MetaFault.MALFORMED) from None
    overlay_addr, form = _overlay_addr(fields.get("OverlayAddr"))
    ours = fields.get("Wesher")
    claim = _claim(ours)
    keys = _keys(ours) if claim is not None else ()
    return NodeMeta(overlay_addr, _public_key(fields.get("PubKey")), form, claim, keys)


def _overlay_addr(value: GobValue | None) -> tuple[IPv4Address | IPv6Address, MetaForm]:
    match value:
        case None | gob.Opaque(_, b""):
            raise MetaError(MetaFault.NO_ADDRESS)
        case gob.Opaque(gob.Marshaler.BINARY, packed):
            return _address(packed), MetaForm.V03
        case dict():
            return _address(_masked_ip(value)), MetaForm.V02
        case _:
            raise MetaError(MetaFault.BAD_ADDRESS)


def _masked_ip(ip_net: dict[str, GobValue]) -> bytes:
    match ip_net.get("IP", b""), ip_net.get("Mask", b""):
        case b"", _:
            raise MetaError(MetaFault.NO_ADDRESS)
        case bytes(), b"":
            raise MetaError(MetaFault.NO_MASK)
        case bytes(packed), bytes():
            return packed
        case _:
            raise MetaError(MetaFault.BAD_ADDRESS)


def _address(packed: bytes) -> IPv4Address | IPv6Address:
    if len(packed) == 4:
        return IPv4Address(packed)
    if len(packed) == 16:
        address = IPv6Address(packed)
        return address.ipv4_mapped or address
    # netip.Addr appends the zone's name to the 16 bytes; an interface name of another host means nothing here.
    raise MetaError(MetaFault.ZONED_ADDRESS if len(packed) > 16 else MetaFault.BAD_ADDRESS)


def _public_key(value: GobValue | None) -> bytes:
    if value is None or value == "":
        raise MetaError(MetaFault.NO_KEY)
    if not isinstance(value, str):
        raise MetaError(MetaFault.BAD_KEY)
    try:
        key = base64.b64decode(value, validate=True)
    except ValueError:  # not base64, or not even ASCII
        raise MetaError(MetaFault.BAD_KEY) from None
    # Comparing with the one canonical text refuses what decoders differ on: stray trailing bits, excess padding.
    if len(key) != 32 or base64.b64encode(key).decode() != value:
        raise MetaError(MetaFault.BAD_KEY)
    return key


def _claim(value: GobValue | None) -> Claim | None:
    if not isinstance(value, bytes) or len(value) < _EXTENSION.size:
        return None
    version, flags, attempt, claim_time = _EXTENSION.unpack_from(value)
    if version != _EXTENSION_VERSION or not is_attempt(attempt):
        return None
    return Claim(attempt, claim_time, flags)


def _keys(value: GobValue | None) -> tuple[bytes, ...]:
    """What follows the claim."""
    assert isinstance(value, bytes)  # noqa: S101 - a claim was read from it
    number, *_ = value[_EXTENSION.size :] or b"\0"
    begins, ends = _EXTENSION.size + 1, _EXTENSION.size + 1 + number * FINGERPRINT_SIZE
    if number > MAX_KEYS or len(value) < ends:
        return ()
    return tuple(value[at : at + FINGERPRINT_SIZE] for at in range(begins, ends, FINGERPRINT_SIZE))
