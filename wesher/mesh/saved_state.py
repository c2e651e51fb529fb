"""The state file: what a node must remember across restarts, as text. Reading and writing the disk is the caller's.

It is the Go original's JSON file, and a node may go back to the original, so the text keeps to what every wesher can
read: ClusterKey, and Nodes with Name, Addr and Meta. What is ours alone stands in one more object, `Wesher`, which Go
ignores. OverlayAddr is never written: 0.2.6 wants an object there and master a text, and the one that finds the
other's form discards the whole file, cluster key included.

Reading is as forgiving as losing the key is bad. A node entry that makes no sense costs that entry, what a newer
version added costs nothing, and of a file cut off or overwritten the key alone still counts, for it stands whole on a
line of its own; `remark` then says so, and that the file holds more than was taken from it. But where there is no
telling the key it is an error: starting without it would quietly make a new cluster. As in Go's encoding/json, names of
members match in any case and the last of several wins.

Names of nodes are bytes on the wire, and `str` with surrogateescape here. JSON writes such a byte as the escape of its
lone surrogate, `\\udc80` to `\\udcff`: pure ASCII, exact when we read it back, U+FFFD to a Go node that reads it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import ip_address
from typing import NoReturn, TypeAlias, cast

from wesher.bounded_json import weigh
from wesher.mesh.node_meta import FINGERPRINT_SIZE, MetaForm, is_attempt
from wesher.mesh.rotation import KEY_SIZE, Dropped, HeldKey, Keys
from wesher.wire.words import KeyPhase

MAX_SIZE = 16 << 20  # bytes; 4000 members, each with the longest metadata, take a few MiB
MAX_NODES = 8192  # entries that are read: a node has 8001 members at most
_U32_MAX = 0xFFFF_FFFF

_VERSION = 1  # of the object `Wesher`; a change that an older version would misread raises it
_OF_GO = frozenset({"overlayaddr", "pubkey"})  # members of a node that gossip tells us anew

_KEY_LINE = re.compile(rb'^[ \t]*"(?i:ClusterKey)":[ \t]*"([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)"', re.MULTILINE)
"""The base64 of exactly 32 bytes, closing quote included: part of a key cannot pass, lacking the padding, nor can a
text in another member, for JSON writes its line breaks and quotes as escapes. The last digit has two zero bits."""

_PARTLY_KNOWN = "part of it is not known to this version (a newer one wrote it?) and is left out"

_Json: TypeAlias = "bool | int | float | str | list[_Json] | dict[str, _Json] | None"


class StateError(ValueError):
    """This file is no state file that can be used. `reason` says why, and never quotes the file: it holds the key."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LastSeen(Enum):
    """What gossip held of a member last."""

    ALIVE = "alive"
    FAILED = "failed"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class SavedNode:
    """A member as last seen.

    name: not empty, undecodable bytes as surrogateescape. addr: its gossip address, as text that Go's net.ParseIP and
    Python's ipaddress both read. meta: its Meta as gossiped, None when not known. seen: when it was last alive, in
    seconds since 2020 (u32), None when not known, as in Go's files. last: as what. Raises ValueError otherwise.
    """

    name: str
    addr: str
    meta: bytes | None
    seen: int | None = None
    last: LastSeen = LastSeen.ALIVE

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.seen is not None and not 0 <= self.seen <= _U32_MAX:
            raise ValueError("a node is seen at a u32")
        # A zone would make Go's decoder fail, and with it the whole file.
        if "%" in self.addr:
            raise ValueError("a node's address has no zone")
        ip_address(self.addr)


@dataclass(frozen=True, slots=True)
class OwnClaim:
    """Our own incarnation (u32) and address claim (as in node_meta.Claim), and the node name they belong to.

    Raises ValueError out of range.
    """

    node_name: str
    incarnation: int
    attempt: int
    claim_time: int

    def __post_init__(self) -> None:
        _check_name(self.node_name)
        if not is_attempt(self.attempt):
            raise ValueError("attempt is 0-15 or 255")
        if not (0 <= self.incarnation <= _U32_MAX and 0 <= self.claim_time <= _U32_MAX):
            raise ValueError("incarnation and claim time are u32")


@dataclass(frozen=True, slots=True)
class SavedState:
    """The whole file. cluster_key: 32 raw bytes, or None where the file has none. Raises ValueError otherwise.

    keys: all keys that are held and were, of which cluster_key seals; None where that is all that is known of keys.
    meta_form: the form this node announced last, None when not known. remark: what the log should say of the file this
    came from, None if nothing; a file with a remark holds more than this, and is not to be overwritten without a copy.
    """

    cluster_key: bytes | None = field(repr=False)  # a repr ends up in logs
    nodes: tuple[SavedNode, ...]
    own: OwnClaim | None
    meta_form: MetaForm | None = None
    keys: Keys | None = None
    remark: str | None = field(default=None, compare=False)  # never written

    def __post_init__(self) -> None:
        if self.cluster_key is not None and len(self.cluster_key) != KEY_SIZE:
            raise ValueError("a cluster key is 32 bytes")
        if self.keys is not None and self.keys.primary.key != self.cluster_key:
            raise ValueError("the cluster key is the one that seals")

    def own_for(self, name: str) -> OwnClaim | None:
        """What was saved under this node name; a renamed node starts afresh."""
        return self.own if self.own is not None and self.own.node_name == name else None


def _check_name(name: str) -> None:
    if not name or name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") != name:
        raise ValueError("a node name is not empty and stands for exactly one byte string")


def render(state: SavedState) -> bytes:
    """Return the file's bytes: ASCII JSON, indented by two spaces, every value on its own line, no final newline."""
    key = None if state.cluster_key is None else _base64(state.cluster_key)
    ours: dict[str, object] = {"Version": _VERSION}
    if state.own is not None:
        ours["Own"] = _own_object(state.own)
    if state.meta_form is not None:
        ours["MetaForm"] = state.meta_form.value
    if state.keys is not None and state.keys != Keys.of(state.keys.primary.key):
        ours["Keys"] = [_key_object(key) for key in state.keys.held]
        ours["DroppedKeys"] = [_dropped_object(gone) for gone in state.keys.dropped]
    file = {"ClusterKey": key, "Nodes": [_node_object(node) for node in state.nodes], "Wesher": ours}
    return json.dumps(file, indent=2).encode("ascii")


def _node_object(node: SavedNode) -> dict[str, object]:
    found: dict[str, object] = {"Name": node.name, "Addr": node.addr}
    if node.meta is not None:
        found["Meta"] = _base64(node.meta)
    if node.seen is not None:  # under our own name: newer memberlists have a State, which is a number
        found["Wesher"] = {"Seen": node.seen, "Last": node.last.value}
    return found


def _own_object(own: OwnClaim) -> dict[str, str | int]:
    return {
        "NodeName": own.node_name,
        "Incarnation": own.incarnation,
        "Attempt": own.attempt,
        "ClaimTime": own.claim_time,
    }


def _key_object(key: HeldKey) -> dict[str, str | int | None]:
    left = None if key.left is None else int(key.left)
    return {"Key": _base64(key.key), "Epoch": key.epoch, "Phase": key.phase.name, "Grace": key.grace, "Left": left}


def _dropped_object(gone: Dropped) -> dict[str, str]:
    return {"Fingerprint": gone.fingerprint.hex(), "Phase": gone.phase.name}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def parse(data: bytes) -> SavedState:
    """Read a state file of ours, of wesher 0.2.6 or of master; of a damaged one whose key is whole, the key.

    Raises StateError when there is no JSON object and no whole key either, or when the object's cluster key cannot be
    used. No key at all, or null, is None.
    """
    try:
        file = _json_object(data)
    except StateError as error:
        key = _key_of_damaged(data)
        if key is None:
            raise
        return SavedState(key, (), None, remark=f"{error.reason}; only its cluster key can be used")
    key = _cluster_key(file.pop("clusterkey", None))
    ours = file.get("wesher")
    state = SavedState(key, tuple(_nodes(file.get("nodes"))), _own(ours), _meta_form(ours), _keys(ours, key))
    if _covers(json.loads(render(state), object_pairs_hook=_folded), file):
        return state
    return replace(state, remark=_PARTLY_KNOWN)


def _key_of_damaged(data: bytes) -> bytes | None:
    """The key on the line that is the key's; None if that is not whole, or if there are two that differ."""
    found = set(_KEY_LINE.findall(data))
    return base64.b64decode(found.pop()) if len(found) == 1 else None


def _covers(written: _Json, read: _Json) -> bool:
    """Whether all that was `read` would be `written` again. What Go alone wants counts as written, null as nothing."""
    match written, read:
        case dict(), dict():
            return all(name in _OF_GO or _covers(written.get(name), value) for name, value in read.items())
        case list(), list():
            return len(written) == len(read) and all(map(_covers, written, read))
    return read is None or written == read


def _json_object(data: bytes) -> dict[str, _Json]:
    """The file's object, with the names of members folded to lower case."""
    if len(data) > MAX_SIZE:
        raise StateError("larger than 16 MiB")
    if not data.strip():
        raise StateError("empty")
    try:
        weigh(data)
    except ValueError as error:
        raise StateError(str(error)) from None
    # A damaged byte in one name should cost no more than Go makes it cost.
    text = data.decode("utf-8", "surrogateescape")
    try:
        file = json.loads(text, object_pairs_hook=_folded, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise StateError(f"not JSON: {error.msg} (line {error.lineno} column {error.colno})") from None
    except ValueError:  # _no_constant, and Python's own limit of 4300 digits
        raise StateError("not JSON: NaN, Infinity or a number without end") from None
    if not isinstance(file, dict):
        raise StateError("not a JSON object")
    return cast(dict[str, _Json], file)


def _folded(pairs: list[tuple[str, _Json]]) -> dict[str, _Json]:
    return {name.casefold(): value for name, value in pairs}


def _no_constant(_: str) -> NoReturn:
    """NaN and Infinity are Python's additions to JSON; Go refuses them."""
    raise ValueError


def _cluster_key(value: _Json) -> bytes | None:
    if value is None:
        return None
    key = _unbase64(value)
    if key is None or len(key) != KEY_SIZE:
        raise StateError("ClusterKey is not the base64 of 32 bytes")
    return key


def _unbase64(value: _Json) -> bytes | None:
    """Go's reading of a []byte: standard base64, padded, in which line breaks do not matter."""
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
    except ValueError:
        return None


def _nodes(value: _Json) -> Iterator[SavedNode]:
    for entry in value[:MAX_NODES] if isinstance(value, list) else ():
        if node := _node(entry):
            yield node


def _node(entry: _Json) -> SavedNode | None:
    if not isinstance(entry, dict):
        return None
    name, addr = entry.get("name"), entry.get("addr")
    if not (isinstance(name, str) and isinstance(addr, str)):
        return None
    try:
        return SavedNode(name, addr, _unbase64(entry.get("meta")), *_seen(entry.get("wesher")))
    except ValueError:
        return None


def _seen(ours: _Json) -> tuple[int | None, LastSeen]:
    """When and as what; losing it costs that node nothing but its age."""
    match ours:
        case {"seen": int(seen), "last": str(last)} if type(seen) is int and 0 <= seen <= _U32_MAX:
            return seen, next((known for known in LastSeen if known.value == last), LastSeen.ALIVE)
    return None, LastSeen.ALIVE


def _own(ours: _Json) -> OwnClaim | None:
    """Losing it costs a refutation and perhaps an address, so what does not fit is no error."""
    match ours:
        case {
            "own": {
                "nodename": str(name),
                "incarnation": int(incarnation),
                "attempt": int(attempt),
                "claimtime": int(claim_time),
            }
        } if bool not in {type(incarnation), type(attempt), type(claim_time)}:
            try:
                return OwnClaim(name, incarnation, attempt, claim_time)
            except ValueError:
                return None
    return None


def _meta_form(ours: _Json) -> MetaForm | None:
    form = ours.get("metaform") if isinstance(ours, dict) else None
    return next((known for known in MetaForm if known.value == form), None)


def _keys(ours: _Json, cluster_key: bytes | None) -> Keys | None:
    """All of them, or none: then the cluster key goes on alone, as it does where somebody has written in another.

    Every key but the one that seals is dropped at some time: that one never, or nothing would be left to seal with.
    """
    match ours:
        case {"keys": list(held), "droppedkeys": list(dropped)} if len(held) + len(dropped) <= _MOST_KEYS:
            try:
                keys = Keys(tuple(map(_held_key, held)), tuple(map(_dropped_key, dropped)))
            except (ValueError, KeyError):
                return None
            primary = keys.primary
            timed = all((key.left is None) == (key is primary) for key in keys.held)
            return keys if timed and primary.key == cluster_key else None
    return None


_MOST_KEYS = 100


def _held_key(entry: _Json) -> HeldKey:
    """Raises ValueError, KeyError."""
    match entry:
        case {"key": str(key), "epoch": int(epoch), "phase": str(phase), "grace": int(grace), **rest}:
            left = rest.get("left")
            if isinstance(left, int | None) and bool not in {type(epoch), type(grace), type(left)}:
                return HeldKey(_unbase64(key) or b"", epoch, KeyPhase[phase], grace, left)
    raise ValueError("no key")


def _dropped_key(entry: _Json) -> Dropped:
    """Raises ValueError, KeyError."""
    match entry:
        case {"fingerprint": str(name), "phase": str(phase)} if len(name) == 2 * FINGERPRINT_SIZE:
            return Dropped(bytes.fromhex(name), KeyPhase[phase])
    raise ValueError("no fingerprint")
