"""What becomes of a new packet that comes in for a port, by this host's nftables, as far as that can be told.

The kernel's rules are read as they are (iptables' too, where it is the newer kind that only translates), and run for
a packet of which only family, protocol, port and that it begins a connection are known. What depends on anything else
(who sends it, on which interface, how often) may or may not apply: such a rule decides nothing, and an accept in one
leaves the outcome open. So `DROPPED` is only said where no rule could let the packet in, whoever sends it; rules that
this cannot read count as such that might.

Reading takes CAP_NET_ADMIN, and changes nothing.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

TCP: Final = 6
UDP: Final = 17

_NETLINK_NETFILTER: Final = 12
_GET_CHAINS, _GET_RULES, _GET_SETS, _GET_ELEMENTS = 4, 7, 10, 13
_NFTABLES: Final = 10 << 8
_REQUEST_ALL: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE, _ERROR = 3, 2
_HEADER: Final = struct.Struct("=IHHII")
_FAMILIES: Final = {2: "ip", 10: "ip6", 1: "inet"}
_LOCAL_IN: Final = 1
_DROP, _ACCEPT, _JUMP, _GOTO, _RETURN = 0, 1, -3, -4, -5
_NEW: Final = (8).to_bytes(4, "little" if struct.pack("=H", 1)[0] else "big")  # a conntrack state, as ct(8) loads it
_LOOPBACK: Final = 1  # the index of the first link

_STATE_ALIAS: Final = 1 << 13
"""A conntrack match's flag: it was given as `-m state`."""

_NEUTRAL: Final = frozenset(
    ("counter", "log", "last", "objref", "notrack", "LOG", "NFLOG", "MARK", "CONNMARK", "SECMARK", "TRACE")
)
"""What neither matches nor decides, of nftables' own and of iptables'."""

_MOST_STEPS: Final = 20000
"""Rules that are looked at for one packet: chains may call each other."""


class Outcome(Enum):
    """What becomes of it."""

    ACCEPTED = "accepted"
    DROPPED = "dropped"
    UNTOLD = "untold"


class Packet(NamedTuple):
    """A packet that begins something: version of IP, protocol, port of this host."""

    version: int
    protocol: int
    port: int


class ChainName(NamedTuple):
    """Which chain: family, table and name, as nft(8) is told them."""

    family: str
    table: str
    name: str

    def __str__(self) -> str:
        return " ".join(self)


@dataclass(slots=True)
class Ruleset:
    """Chains that filter what comes in, with their policies; rules of every chain; elements of sets, keys to verdicts
    (None where a set only has keys), with whether each is the end of an interval."""

    inputs: dict[ChainName, int] = field(default_factory=dict)
    rules: dict[ChainName, list[list[tuple[str, Attributes]]]] = field(default_factory=lambda: defaultdict(list))
    sets: dict[ChainName, list[tuple[bytes, Attributes | None, bool]]] = field(default_factory=dict)

    def outcome(self, packet: Packet) -> tuple[Outcome, ChainName | None]:
        """What becomes of it, and by which chain, where one drops it or leaves it open."""
        untold = None
        for chain, policy in self.inputs.items():
            if chain.family in ("inet", "ip" if packet.version == 4 else "ip6"):
                found = _Walk(self, chain, policy, packet).outcome()
                if found is Outcome.DROPPED:
                    return found, chain
                if found is Outcome.UNTOLD:
                    untold = chain
        return (Outcome.ACCEPTED, None) if untold is None else (Outcome.UNTOLD, untold)


Attributes = Mapping[int, bytes]
"""A netlink message's attributes by type."""


# --- reading --------------------------------------------------------------------------------------------------------


def is_in_use() -> bool:
    """Whether the kernel has nftables already: to ask it would load them."""
    return os.path.isdir("/sys/module/nf_tables") or not os.path.exists("/proc/modules") or _is_built_in()


def _is_built_in() -> bool:
    try:
        with open(f"/lib/modules/{os.uname().release}/modules.builtin", encoding="utf-8", errors="replace") as file:
            return any(line.endswith("/nf_tables.ko\n") for line in file)
    except OSError:
        return False


def read_ruleset() -> Ruleset:
    """This network's. Raises OSError: EPERM without CAP_NET_ADMIN, others where the kernel has no nftables."""
    found = Ruleset()
    if not is_in_use():
        return found
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as netlink:
        netlink.settimeout(5)
        for family, chain in _ask(netlink, _GET_CHAINS):
            name = ChainName(_FAMILIES.get(family, ""), _text(chain[1]), _text(chain[3]))
            hook = attributes(chain.get(4, b""))
            if name.family and chain.get(7) == b"filter\0" and _number(hook.get(1, b"")) == _LOCAL_IN:
                found.inputs[name] = _number(chain.get(5, b"\0\0\0\1"))
        for family, rule in _ask(netlink, _GET_RULES):
            name = ChainName(_FAMILIES.get(family, ""), _text(rule[1]), _text(rule[2]))
            expressions = [attributes(element) for _, element in _each(rule.get(4, b""))]
            found.rules[name].append([(_text(e[1]), attributes(e.get(2, b""))) for e in expressions if 1 in e])
        for family, members in list(_ask(netlink, _GET_SETS)):
            name = ChainName(_FAMILIES.get(family, ""), _text(members[1]), _text(members[2]))
            which = _attribute(1, members[1]) + _attribute(2, members[2])
            found.sets[name] = [
                element for _, part in _ask(netlink, _GET_ELEMENTS, family, which) for element in _elements(part)
            ]
    return found


def _elements(part: Attributes) -> Iterator[tuple[bytes, Attributes | None, bool]]:
    for _, packed in _each(part.get(3, b"")):
        element = attributes(packed)
        value = attributes(element.get(1, b"")).get(1)
        if value is None:  # whatever else comes
            yield b"", None, False
        else:
            verdict = attributes(element[2]).get(2) if 2 in element else None
            is_end = bool(_number(element.get(3, b"\0\0\0\0")) & 1)
            yield value, None if verdict is None else attributes(verdict), is_end


def _ask(
    netlink: socket.socket, what: int, family: int = 0, attributes_: bytes = b""
) -> Iterator[tuple[int, Attributes]]:
    """All answers to one question: family and attributes each."""
    body = struct.pack("=BBH", family, 0, 0) + attributes_
    netlink.send(_HEADER.pack(_HEADER.size + len(body), _NFTABLES | what, _REQUEST_ALL, what, 0) + body)
    while True:
        data = netlink.recv(1 << 17)
        while data:
            length, kind, _, _, _ = _HEADER.unpack_from(data)
            message, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
            if kind == _DONE:
                return
            if kind == _ERROR:
                code = -struct.unpack_from("=i", message)[0]
                raise OSError(code, os.strerror(code))
            yield message[0], attributes(message[4:])


def _each(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Netlink attributes: length, type, value, padding."""
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]


def attributes(data: bytes) -> Attributes:
    """By type; the last of a type counts."""
    return dict(_each(data))


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("ascii", "replace")


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


# --- running --------------------------------------------------------------------------------------------------------


class _Walk:
    """One packet's way through one chain, and those that it calls."""

    def __init__(self, ruleset: Ruleset, chain: ChainName, policy: int, packet: Packet) -> None:
        self._ruleset = ruleset
        self._chain = chain
        self._policy = policy
        self._packet = packet
        self._steps = 0
        self._may_accept = False

    def outcome(self) -> Outcome:
        """What becomes of it: what the rules say, else the policy."""
        verdict = self._run(self._chain.name, 0)
        if verdict is None or verdict == _RETURN:
            verdict = self._policy
        if verdict == _ACCEPT:
            return Outcome.ACCEPTED
        return Outcome.UNTOLD if self._may_accept or verdict != _DROP else Outcome.DROPPED

    def _run(self, name: str, depth: int) -> int | None:
        """The verdict of a chain for certain; None where it has none, and the next rule of its caller comes."""
        for rule in self._ruleset.rules.get(self._chain._replace(name=name), ()):
            self._steps += 1
            if self._steps > _MOST_STEPS or depth > 16:
                self._may_accept = True
                return None
            matches, verdict, target = self._apply(rule)
            if matches is False or verdict is None:
                continue
            if verdict in (_JUMP, _GOTO):
                below = self._run(target, depth + 1)
                verdict = below if below is not None else _RETURN if verdict == _GOTO else None
            if verdict is None:
                continue
            if matches is None:
                self._may_accept |= self._could_pass(verdict, depth)
                continue
            return None if verdict == _RETURN and depth else verdict
        return None

    def _could_pass(self, verdict: int, depth: int) -> bool:
        """Whether a verdict that is perhaps given may let it in: who returns meets other rules than who goes on."""
        if verdict == _RETURN:
            return depth > 0 or self._policy == _ACCEPT
        return verdict != _DROP

    def _apply(self, rule: Sequence[tuple[str, Attributes]]) -> tuple[bool | None, int | None, str]:
        """Whether the rule applies (None: cannot be told), its verdict (None: none), and which chain it calls."""
        registers: dict[int, bytes | None] = {}
        matches: bool | None = True
        for name, data in rule:
            if name in _NEUTRAL:
                pass
            elif name in ("limit", "quota", "dynset"):
                matches = None
            elif name in ("payload", "meta", "ct"):
                self._load(name, data, registers)
            elif name == "bitwise":
                _combine(data, registers)
            elif name in ("cmp", "range"):
                held = _holds(name, data, registers)
                if held is False:
                    return False, None, ""
                matches = matches and held
            elif name == "lookup":
                found, verdict = self._look_up(data, registers)
                if found is False:
                    return False, None, ""
                matches = matches and found
                if verdict is not None:
                    return matches, *_verdict(verdict)
            elif name == "immediate":
                decided = attributes(data.get(2, b"")).get(2)
                if decided is not None:
                    return matches, *_verdict(attributes(decided))
                registers[_number(data.get(1, b""))] = attributes(data.get(2, b"")).get(1)
            elif name == "reject" or (name == "target" and _text(data.get(1, b"")) == "REJECT"):
                return matches, _DROP, ""
            elif name == "match":
                held = self._matches_of_iptables(_text(data.get(1, b"")), data.get(3, b""))
                if held is False:
                    return False, None, ""
                matches = matches and held
            elif name == "target" and _text(data.get(1, b"")) in _NEUTRAL:
                pass
            else:  # what this does not know may match or not, and may decide
                return None, _ACCEPT, ""
        return matches, None, ""

    def _load(self, name: str, data: Attributes, registers: dict[int, bytes | None]) -> None:
        """What is known of the packet, or None, into the register."""
        packet, to = self._packet, _number(data.get(1, b""))
        protocol, port = bytes([packet.protocol]), packet.port.to_bytes(2, "big")
        registers.pop(-to, None)
        match name, *(_number(data.get(kind, b"")) for kind in (2, 3, 4)):
            case "payload", 2, 2, 2:
                registers[to] = port
            case ("payload", 1, 9, 1) if packet.version == 4:
                registers[to] = protocol
            case ("payload", 1, 6, 1) if packet.version == 6:
                registers[to] = protocol
            case "meta", 16, *_:  # l4proto
                registers[to] = protocol
            case "meta", 15, *_:  # nfproto
                registers[to] = bytes([2 if packet.version == 4 else 10])
            case "meta", 4 | 6, *_:  # iif, iifname
                registers[to], registers[-to] = None, b"iif"
            case ("ct", 0, *_) if 3 not in data:  # state
                registers[to] = _NEW
            case _:
                registers[to] = None

    def _look_up(
        self, data: Attributes, registers: Mapping[int, bytes | None]
    ) -> tuple[bool | None, Attributes | None]:
        """Whether a register's value is in a set, and the verdict that the set has for it."""
        value = registers.get(_number(data.get(2, b"")))
        elements = self._ruleset.sets.get(self._chain._replace(name=_text(data.get(1, b""))))
        if value is None or elements is None or any(len(key) != len(value) for key, _, _ in elements):
            return None, None
        inverted = bool(_number(data.get(5, b"")) & 1)
        found, verdict = _member(value, elements)
        return found != inverted, verdict

    def _matches_of_iptables(self, name: str, info: bytes) -> bool | None:
        """xt_match's own structures, in the machine's byte order."""
        if name == "comment":
            return True
        if name in ("tcp", "udp"):
            if self._packet.protocol != {"tcp": TCP, "udp": UDP}[name]:
                return False
            low, high = struct.unpack_from("=HH", info, 4)
            inverted = bool(info[11 if name == "tcp" else 8] & 2)
            held: bool | None = (low <= self._packet.port <= high) != inverted
            others = struct.unpack_from("=HH", info) != (0, 65535) or (name == "tcp" and info[9] not in (0, 2))
            return None if held and others else held
        if name == "multiport" and len(info) >= 48:
            return self._is_of_several(info)
        if name == "conntrack" and len(info) >= 154:
            flags, inverted_flags, states = struct.unpack_from("=HHH", info, 146)
            if flags & ~_STATE_ALIAS == 1:  # the state, and nothing else
                return bool(states & 8) != bool(inverted_flags & 1)
        return None

    def _is_of_several(self, info: bytes) -> bool | None:
        kind, count, ports = info[0], min(info[1], 15), struct.unpack_from("=15H", info, 2)
        if kind == 0:  # source ports
            return None
        ranges, i = info[32:47], 0
        held = False
        while i < count:
            high = ports[i + 1] if ranges[i] and i + 1 < count else ports[i]
            held |= ports[i] <= self._packet.port <= high
            i += 2 if ranges[i] else 1
        if kind == 2 and not held:  # either port
            return None
        return held != bool(info[47])


def _combine(data: Attributes, registers: dict[int, bytes | None]) -> None:
    """The register's value, masked and exchanged bit by bit; shifts are not followed."""
    source, target = _number(data.get(1, b"")), _number(data.get(2, b""))
    value = registers.get(source)
    mask, flip = (attributes(data.get(kind, b"")).get(1) for kind in (4, 5))
    if value is None or mask is None or flip is None or len(mask) != len(value):
        registers[target] = None
        return
    registers[target] = bytes((v & m) ^ x for v, m, x in zip(value, mask, flip, strict=True))


def _holds(name: str, data: Attributes, registers: Mapping[int, bytes | None]) -> bool | None:
    """Whether a register compares so; None where its value is not known."""
    register = _number(data.get(1, b""))
    operator = _number(data.get(2, b""))
    value = registers.get(register)
    if name == "range":
        low, high = (attributes(data.get(kind, b"")).get(1, b"") for kind in (3, 4))
        return None if value is None else (low <= value <= high) != bool(operator)
    with_ = attributes(data.get(3, b"")).get(1, b"")
    if value is None:
        # The packet comes from another machine: not by the loopback.
        is_loopback = with_.rstrip(b"\0") == b"lo" or with_ == _LOOPBACK.to_bytes(4, "little")
        if registers.get(-register) == b"iif" and is_loopback and operator in (0, 1):
            return operator == 1
        return None
    return (
        value == with_,
        value != with_,
        value < with_,
        value <= with_,
        value > with_,
        value >= with_,
    )[operator]


def _member(value: bytes, elements: Sequence[tuple[bytes, Attributes | None, bool]]) -> tuple[bool, Attributes | None]:
    """Whether `value` is an element, or inside an interval: those are a beginning and, marked, the first beyond."""
    if not any(is_end for _, _, is_end in elements):
        return next(((True, verdict) for key, verdict, _ in elements if key == value), (False, None))
    before = [element for element in elements if element[0] <= value]
    if not before:
        return False, None
    # where an interval ends as the next begins, the beginning counts
    _, verdict, is_end = max(before, key=lambda element: (element[0], not element[2]))
    return (False, None) if is_end else (True, verdict)


def _verdict(verdict: Attributes) -> tuple[int | None, str]:
    code = int.from_bytes(verdict.get(1, b""), "big", signed=True)
    return (None if code == -1 else code), _text(verdict.get(2, b""))


def is_lacking(error: OSError) -> bool:
    """Whether the kernel has no nftables at all."""
    return error.errno in (errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT)
