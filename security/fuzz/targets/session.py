"""The helper, spoken to by agents that are somebody else's: a tape of requests, of bytes that are none, and of what
happens to the host meanwhile.

Bytes alone never get past HELLO, so most choices make a request, of few names, keys and addresses that meet each other,
and some spoil it afterwards. The kernel is data, and says no when the tape wants; the hosts file is bytes.

Promises, worked out here from the threat model and not with the policy's own predicates: nothing but a violation or a
reply comes out, in fixed words; nothing is logged on the way; what is in force was asked for and harms nobody; the
operator's bytes in the hosts file are untouched, and behind them stand only lines that no reason speaks against; after
a violation, nothing is left.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network
from typing import Final

from nacl.bindings import crypto_scalarmult
from nacl.exceptions import RuntimeError as SodiumError

from privhelper.addressing import Address, Network
from privhelper.hosts import names_in, parse, render
from privhelper.monitor import Monitor
from privhelper.options import Pinned
from privhelper.policy import Surroundings
from privhelper.protocol import (
    Bye,
    Event,
    Failed,
    Hello,
    HostsResult,
    InForce,
    Op,
    Peer,
    Request,
    SetAddr,
    SetPeers,
    Status,
    Verdicts,
    Violation,
    ViolationCode,
    WriteHosts,
    decode_reply,
    decode_request,
    encode_request,
)
from privhelper.tunnels import Tunnels
from security.fuzz.tape import Tape
from tests.contract.fakes import FakeDevice, FakeLink, Kernel, public_half

NET: Final = IPv4Network("10.0.0.0/28")
"""So small that addresses meet: sixteen, of which each name has several."""
PORT: Final = 51820
MOST: Final = 3
OWN_NAME: Final = "Self.Example"
OPERATOR: Final = b"127.0.0.1 localhost\n192.0.2.50 Git git.corp # x\n10.9.9.9\tnode-z\t# ! managed automatically by me"
NAMES: Final = (
    *("node-a", "node-b", "node-c", "node-d", "NODE-A", "node-a.mesh", "self", "Self.Example", "git", "localhost"),
    *("ip6-x", "10", "0x7f.1", "a_b", "wpad", "x.localhost"),
)
KEYS: Final = (
    public_half(b"key 1"),
    public_half(b"key 2"),
    *(bytes([number]) * 31 + b"\x05" for number in range(1, 9)),
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    b"\x11" * 31 + b"\x85",
)
ENDPOINTS: Final = tuple(
    map(
        ip_address,
        (
            *("192.0.2.1", "192.0.2.2", "198.51.100.1", "10.0.0.3", "10.0.0.7", "10.0.0.12", "127.0.0.1", "0.0.0.9"),
            *("224.0.0.1", "255.255.255.255", "169.254.169.254", "192.0.2.255", "2001:db8::1", "::1", "ff02::1"),
            *("fe80::1", "::ffff:192.0.2.1", "::c000:201", "172.16.5.5", "fd00::5"),
        ),
    )
)
AROUND: Final = (
    Surroundings(),
    Surroundings((IPv4Network("10.0.0.4/30"),)),
    Surroundings((IPv4Network("10.0.0.0/29"),), addresses=frozenset((IPv4Address("192.0.2.1"),))),
    Surroundings(taken=frozenset((IPv4Address("10.0.0.9"), IPv4Address("10.0.0.10")))),
    Surroundings(addresses=frozenset((IPv4Address("192.0.2.255"),)), ranges=(IPv4Network("127.0.0.0/8"),)),
    Surroundings(
        tunnelled=(IPv4Network("172.16.0.0/12"), IPv4Network("0.0.0.0/0")), beside=(IPv4Network("192.0.2.0/24"),)
    ),
    Surroundings((IPv4Network("10.0.0.0/28"),)),
)
FOUND: Final = {
    *("link gone", "alias", "MTU", "link down", "address", "routes", "key or port", "peers"),
    *("a set half applied", "peers refused by now", "names refused by now", "names gone", "peers possible again"),
}
"""All that a repair may say."""

_HEADER: Final = struct.Struct("!BBHHI")
_STEPS: Final = 60


def check(data: bytes) -> None:
    """One life of the helper, or what the first violation leaves of it."""
    tape = Tape(data)
    life = Life(tape.number())
    logging.getLogger().addHandler(life.log)
    try:
        for _ in range(_STEPS):
            if not tape or not life.step(tape):
                break
            life.look()
        life.end()
    finally:
        logging.getLogger().removeHandler(life.log)


@dataclass
class HostsBytes:
    """The hosts file as bytes, read and written with the helper's own pure half."""

    kernel: Kernel
    content: bytes = OPERATOR
    unreadable: bool = False

    def taken_names(self) -> frozenset[str]:
        """As HostsFile has them."""
        if self.unreadable:
            raise OSError(5, "unreadable")
        return names_in(parse(self.content, "wgoverlay", alone=True).operator)

    def lacks(self, lines: Sequence[tuple[Address, str]]) -> bool:
        """Whether a write would change anything."""
        return render(parse(self.content, "wgoverlay", alone=True), "wgoverlay", lines)[0] != self.content

    def write(self, lines: Sequence[tuple[Address, str]]) -> HostsResult:
        """All at once."""
        self.kernel.step("hosts", tuple(lines))
        self.content, _ = render(parse(self.content, "wgoverlay", alone=True), "wgoverlay", lines)
        return HostsResult.WRITTEN

    def clear(self) -> None:
        """No line is left."""
        self.write(())


@dataclass
class Lines(logging.Handler):
    """What is logged."""

    records: list[logging.LogRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        """Kept."""
        self.records.append(record)

    __hash__ = object.__hash__


class Life:
    """A helper from its start; `sound` while nothing is broken that a repair has not yet put right."""

    def __init__(self, flags: int) -> None:
        self.log = Lines()
        self.kernel = Kernel()
        self.device = FakeDevice(self.kernel)
        self.link = FakeLink(self.kernel)
        self.hosts = HostsBytes(self.kernel)
        self.suffix = "mesh" if flags & 1 else ""
        self.pinned = Pinned(
            node_name=OWN_NAME,
            overlay_net=NET,
            interface="wgoverlay",
            wireguard_port=PORT,
            mtu=1420,
            max_peers=MOST,
            keepalive=0,
            etc_hosts=not flags & 2,
            hosts_file="/etc/hosts",
            hosts_suffix=self.suffix,
        )
        self.tunnels = Tunnels(self.pinned, self.device, self.link, self.hosts)
        self.tunnels.set_up()
        self.sound = True
        self.broken = False
        self.judged: Surroundings | None = None
        self.asked: set[Peer] = set()
        self._come()

    def _come(self) -> None:
        self.monitor = Monitor(self.tunnels)
        self.sequence = 0

    # --- what the tape says

    def step(self, tape: Tape) -> bool:
        """One choice; whether the helper lives on."""
        match tape.number() % 16:
            case 0:
                return self.say(tape.text())
            case 1:
                body = tape.text()
                head = _HEADER.pack(1, tape.number(), tape.number(), tape.number(), (self.sequence + 1) & 0xFFFFFFFF)
                return self.say(head + body)
            case 2:
                return self.ask(Hello("fuzz"))
            case 3:
                return self.ask(SetAddr(tape.number() % 16))
            case 4 | 5 | 6:
                return self.ask(SetPeers(_peers(tape), more=False))
            case 7:
                return self.ask(SetPeers(_peers(tape) or _peers(Tape(b"\1")), more=True))
            case 8:
                return self.ask(
                    (WriteHosts(), Status(tape.number()), InForce(tape.number()), WriteHosts())[tape.number() % 4]
                )
            case 9:
                return self.ask(SetPeers(_peers(tape), more=False), spoil=(tape.number(2), tape.number()))
            case 10:
                self._come()
            case 11:
                self._break(tape.number())
            case 12:
                self.link.around = AROUND[tape.number() % len(AROUND)]
                self.hosts.unreadable = bool(tape.number() & 1)
                self.judged = None
            case 13:
                self._disturb(tape.number())
            case 14:
                self.repair()
            case 15:
                return self.ask(Bye())
        return True

    def _break(self, steps: int) -> None:
        self.broken = steps < 64
        if self.broken:
            self.kernel.fail_in(steps % 12)
        else:
            self.kernel.recover()

    def _disturb(self, what: int) -> None:
        """Somebody else changes something of ours."""
        if self.tunnels.public_key is None:
            return
        self.sound = False
        match what % 7:
            case 0:
                self.link.lose()
                self.device.key = self.device.port = None
                self.device.peers.clear()
                self.device.allowed.clear()
            case 1:
                self.link.routes.clear()
            case 2:
                self.link.address = None
            case 3:
                self.device.peers[b"\x99" * 32] = IPv4Address("192.0.2.99")
                self.device.allowed[IPv4Network("192.168.0.0/16")] = b"\x99" * 32
            case 4:
                self.device.key = b"\x99" * 32
            case 5:
                for key in list(self.device.peers)[:1]:
                    del self.device.peers[key]
                    self.device.take_addresses(key)
            case 6:
                self.hosts.content = OPERATOR

    def ask(self, request: Request, spoil: tuple[int, int] | None = None) -> bool:
        """A request with the next number, one byte of it perhaps another."""
        data = bytearray(encode_request((self.sequence + 1) & 0xFFFFFFFF, request))
        if spoil is not None:
            data[spoil[0] % len(data)] ^= spoil[1]
        return self.say(bytes(data))

    def say(self, data: bytes) -> bool:
        """Bytes to the monitor; whether they were a request."""
        self.asked.update(_asked(data))
        try:
            answer = self.monitor.receive(data)
        except Violation as violation:
            assert str(violation) in {code.value for code in ViolationCode}
            return False
        number, reply = decode_reply(answer)
        self.sequence = (self.sequence + 1) & 0xFFFFFFFF
        assert number == self.sequence
        assert not isinstance(reply, Event)
        match reply:
            case Failed(op, _):
                assert self.broken or not self.sound or op is Op.SET_ADDR, "nothing was wrong, and the kernel said no"
                self.sound, self.judged = self.sound and op in (Op.SET_ADDR, Op.STATUS, Op.WRITE_HOSTS), None
            case Verdicts(verdicts):
                assert len(verdicts) <= 2 * MOST
                self.judged = self.link.around
        if self.tunnels.public_key is None or data[1] == Op.SET_ADDR:
            self.judged = None  # down, or another address of our own
        if isinstance(reply, Failed) and reply.op is Op.SET_ADDR and self.broken:
            self.sound = False
        return not (isinstance(reply, Failed) and reply.op is Op.BYE)  # the server ends, and its next start clears up

    def repair(self) -> None:
        """As the server does."""
        try:
            found = self.tunnels.repair()
        except OSError:
            assert self.broken
            self.sound, self.judged = False, None
            return
        assert set(found) <= FOUND
        if self.tunnels.public_key is not None:
            self.sound = True
            self.judged = self.link.around if self.link.address is not None else None

    # --- what must hold

    def look(self) -> None:
        """At the host."""
        assert not self.log.records
        assert self.hosts.content.startswith(OPERATOR), "the operator's bytes"
        self._look_at_lines()
        if not self.sound:
            return
        carried = {key: address for address, key in self.device.allowed.items()}
        assert len(carried) == len(self.device.allowed) == len(self.device.peers) <= MOST
        assert set(carried.values()) == self.link.routes, "a route without its tunnel"
        asked = {(peer.public_key, peer.endpoint, peer.overlay_addr): peer.name for peer in self.asked}
        for key, endpoint in self.device.peers.items():
            address = carried[key]
            assert isinstance(address, IPv4Address)
            name = asked[key, endpoint, address]
            assert int(NET.network_address) <= int(address) <= int(NET.broadcast_address)
            assert address in set(derived(name))
            assert is_one_other_host(endpoint)
            assert key != self.device.key
            assert is_secret_with(key)
        if self.device.peers or self.link.routes:
            assert self.link.address in set(derived(OWN_NAME))
        if self.judged is not None:
            self._look_around(self.judged)

    def _look_around(self, around: Surroundings) -> None:
        """What was judged by this."""
        taken = {self.link.address} | self.link.routes
        for endpoint in self.device.peers.values():
            assert endpoint not in taken, "a tunnel through itself"
            assert endpoint not in around.addresses
            assert not any(endpoint in net for net in around.ranges)
            assert _longest(around.tunnelled, endpoint) <= _longest(around.beside, endpoint)
        assert self.link.address not in self.link.routes
        for address in self.link.routes:
            assert address not in around.taken
            assert not any(address in net for net in around.networks), "a neighbour's traffic"

    def _look_at_lines(self) -> None:
        if not self.pinned.etc_hosts:
            assert self.hosts.content == OPERATOR
        known = {(str(peer.overlay_addr), peer.name.lower()) for peer in self.asked}
        seen = set()
        for line in self.hosts.content[len(OPERATOR) :].split(b"\n"):
            if not line:
                continue
            address, name, banner = line.decode("ascii").split("\t")
            assert banner == "# ! managed automatically by wesher interface wgoverlay"
            folded = name.lower()
            assert folded not in seen
            seen.add(folded)
            bare = folded.removesuffix(f".{self.suffix}") if self.suffix else folded
            assert {(address, folded), (address, bare)} & known, "a line that nobody asked for"
            assert not self.suffix or folded.endswith(f".{self.suffix}")
            assert all(letter in "abcdefghijklmnopqrstuvwxyz0123456789-." for letter in folded)
            assert not folded.split(".")[-1].startswith(("0x", *"0123456789"))
            assert folded not in ("localhost", "wpad", "git", "git.corp", "self", "self.example", "node-z")
            assert not folded.startswith("ip6-")
            assert not folded.endswith(".localhost")

    def end(self) -> None:
        """The server takes everything down, whatever came; a kernel that works by then leaves nothing of ours."""
        self.kernel.recover()
        self.tunnels.take_down()
        assert not self.tunnels.failures
        assert (self.device.peers, self.device.allowed, self.device.key) == ({}, {}, None)
        assert (self.link.is_there, self.link.routes, self.link.address) == (False, set(), None)
        assert self.hosts.content in (OPERATOR, OPERATOR + b"\n")


def _asked(data: bytes) -> Sequence[Peer]:
    try:
        _, request = decode_request(data)
    except Violation:
        return ()
    return request.peers if isinstance(request, SetPeers) else ()


def _peers(tape: Tape) -> tuple[Peer, ...]:
    """Up to seven, one more than the monitor takes."""
    return tuple(_peer(tape) for _ in range(tape.number() % 8))


def _peer(tape: Tape) -> Peer:
    name = NAMES[tape.number() % len(NAMES)]
    key = KEYS[tape.number() % len(KEYS)]
    endpoint = ENDPOINTS[tape.number() % len(ENDPOINTS)]
    place = tape.number() % 20
    other = IPv4Address("192.168.1.1") if place == 16 else NET.network_address + place % 16
    return Peer(key, endpoint, derived(name)[place] if place < 16 else other, name)


@cache
def derived(name: str) -> Sequence[IPv4Address]:
    """The sixteen addresses of a name: FNV-1a with 128 bits, by the book, and the last four of them."""
    found = []
    for attempt in range(16):
        state = 0x6C62272E07BB014262B821756295C58D
        for byte in name.encode() + (bytes([0, attempt]) if attempt else b""):
            state = (state ^ byte) * 309485009821345068724781371 % (1 << 128)
        found.append(IPv4Address(int(NET.network_address) + state % 16))
    return found


def is_one_other_host(endpoint: Address) -> bool:
    """By the registries of special addresses (RFC 6890)."""
    number = int(endpoint)
    if isinstance(endpoint, IPv6Address):
        return (
            number >= 1 << 32
            and not 0xFE80 <= number >> 112 <= 0xFEBF
            and number >> 120 != 0xFF
            and (number >> 32 != 0xFFFF)
        )
    return number >> 24 not in (0, 127, *range(224, 256)) and number >> 16 != 0xA9FE


def is_secret_with(key: bytes) -> bool:
    """Whether what is shared with this key is a secret, and the key has no second name."""
    try:
        crypto_scalarmult(b"\x42" * 32, key)
    except SodiumError:
        return False
    return key[31] < 0x80


def _longest(networks: Sequence[Network], address: Address) -> int:
    return max((ip_network(net).prefixlen for net in networks if address in net), default=-1)
