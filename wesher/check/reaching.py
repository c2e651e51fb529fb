"""Whether a member is reached: by TCP, by UDP there and back, and by packets as large as a tunnel makes.

A ping of memberlist's that names nobody is answered by whoever has the cluster key, Go nodes too, and tells nothing of
us (protocol 1.10): so one can ask before one is a member.

    over a stream                       the port is open, TCP, and the key is the cluster's
    from a port of no meaning           the port is open, UDP, there; the answer passes as one
    the same, asked to answer to ours   ours is open: no firewall that keeps state took that packet for an answer. Only
                                        where our port is free, so that we can listen there; memberlist before 0.2 and
                                        whoever sees us behind another address answer to where it came from
    with ballast, not to be divided     the path takes packets of that size. A field that nobody knows is skipped

News may ride along with an answer, and is then told to nobody: it is told to several.
WireGuard's port answers nobody whom it does not know: that it is closed shows only where that is said (ICMP).
"""

from __future__ import annotations

import errno
import secrets
import select
import socket
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from wesher.swim.io import Endpoint
from wesher.wire.codec import encode
from wesher.wire.errors import WireError
from wesher.wire.keyring import Keyring
from wesher.wire.limits import MAX_DATAGRAM, NONCE_SIZE
from wesher.wire.messages import Ack, MessageType, Ping
from wesher.wire.packet import open_packet, seal_packet
from wesher.wire.stream import StreamReader, seal_stream
from wesher.wire.structs import write_struct

TCP_WITHIN: Final = 2.0
"""Seconds that a connection and its answer may take, on all addresses of a name together."""

TRIES: Final = 3
"""Datagrams of a kind, where none is answered."""

UDP_WITHIN: Final = 0.4
"""Seconds between them."""

REFUSED_WITHIN: Final = 0.2
"""Seconds in which a port that is closed says so."""

_SIZES: Final = (1500, 1492, 1480, 1460, 1440, 1420, 1400, 1380, 1360, 1320, 1280, 1200, 1100, 1000, 800, 656)
"""Bytes of packets that are tried where a path takes less than is needed and nobody says how much: Ethernet, PPPoE,
tunnels of several kinds, the least that IPv6 may have, and below."""

# WireGuard's message around a packet (header, counter, tag), and UDP's and IP's headers around that.
_SEALING: Final = 32
_HEADERS: Final = {4: 28, 6: 48}

# ip(7), ipv6(7): never divide a datagram, and refuse one that is larger than the path is known to take; ask how much.
_DO_NOT_DIVIDE: Final = {4: (socket.IPPROTO_IP, 10, 2), 6: (socket.IPPROTO_IPV6, 23, 2)}
_PATH_MTU: Final = {4: (socket.IPPROTO_IP, 14), 6: (socket.IPPROTO_IPV6, 24)}


def packet_size(overlay_mtu: int, version: int) -> int:
    """Bytes of the largest packet that a tunnel of that MTU makes, over IPv4 or IPv6."""
    return overlay_mtu + _SEALING + _HEADERS[version]


def overlay_mtu(packet: int, version: int) -> int:
    """The MTU of a tunnel whose packets are as large as that at most."""
    return packet - _SEALING - _HEADERS[version]


@dataclass(frozen=True, slots=True)
class Reached:
    """How it went with one endpoint. What was not tried, or cannot be told, is None.

    tcp: empty, or why not. knows_key: whether it answers to the key over a stream. udp: whether a datagram is answered.
    back: whether one reaches our own port. takes: bytes of a packet that the path to it takes, no more than asked for.
    tunnel_refused: whether WireGuard's port says that it is closed.
    """

    endpoint: Endpoint
    tcp: str
    knows_key: bool | None = None
    udp: bool | None = None
    back: bool | None = None
    takes: int | None = None
    tunnel_refused: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """How to ask: as a start with these options would be reached.

    keys: the one that seals first; of none, only what takes none is tried. bind, announced, port: gossip's own.
    overlay_mtu: of the tunnels.
    """

    keys: tuple[bytes, ...]
    bind: IPv4Address | IPv6Address
    announced: IPv4Address | IPv6Address | None
    port: int
    wireguard_port: int
    overlay_mtu: int

    def wanted(self, endpoint: Endpoint) -> int:
        """Bytes of the largest packet that a tunnel to that endpoint makes."""
        return packet_size(self.overlay_mtu, endpoint.ip.version)

    def known_path(self, endpoint: Endpoint) -> int | None:
        """Bytes that the path takes, as far as this host knows without sending anything; None without a route."""
        try:
            with _connected(endpoint) as udp:
                return min(_path_mtu(udp, endpoint), self.wanted(endpoint))
        except OSError:
            return None


class Prober:
    """Asks as `probe` says. Several threads may use one."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._keyring = Keyring(probe.keys) if probe.keys else None
        self._one_at_our_port = threading.Lock()

    def try_all(self, endpoints: Sequence[Endpoint]) -> list[Reached]:
        """The endpoints of one name, one after the other until one is reached; how it went with each that was tried."""
        deadline = time.monotonic() + TCP_WITHIN
        tried: list[Reached] = []
        for endpoint in endpoints:
            reached = self._by_tcp(endpoint, deadline)
            if not reached.tcp and reached.knows_key is not False:
                return [*tried, self._by_udp(reached)]
            tried.append(reached)
        if self._keyring is not None and all(reached.tcp for reached in tried):
            tried = [self._by_udp(reached) for reached in tried[:2]] + tried[2:]
        return tried

    # --- TCP

    def _by_tcp(self, endpoint: Endpoint, deadline: float) -> Reached:
        try:
            stream = socket.create_connection((str(endpoint.ip), endpoint.port), timeout=_left(deadline))
        except OSError as error:
            return Reached(endpoint, error.strerror or str(error))
        with closing(stream):
            return Reached(endpoint, "", None if self._keyring is None else self._is_answered(stream, deadline))

    def _is_answered(self, stream: socket.socket, deadline: float) -> bool:
        assert self._keyring is not None  # noqa: S101 - asked first
        number, reader = _number(), StreamReader(self._keyring, limit=MAX_DATAGRAM)
        try:
            stream.sendall(seal_stream(encode(Ping(number, "")), self._keyring, _nonce()))
            while True:
                stream.settimeout(_left(deadline))
                data = stream.recv(MAX_DATAGRAM)
                message = reader.feed(data) if data else None
                if message is not None or not data:
                    return isinstance(message, Ack) and message.seq_no == number
        except (OSError, WireError):
            return False

    # --- UDP

    def _by_udp(self, reached: Reached) -> Reached:
        endpoint = reached.endpoint
        try:
            with _connected(endpoint) as udp:
                answered = None if self._keyring is None else self._ping(udp)
                takes = min(_path_mtu(udp, endpoint), self._probe.wanted(endpoint))
                if not answered:
                    return Reached(endpoint, reached.tcp, reached.knows_key, answered, None, takes)
                return Reached(
                    endpoint,
                    reached.tcp,
                    reached.knows_key,
                    udp=True,
                    back=self._reaches_us(udp),
                    takes=self._takes(udp, endpoint),
                    tunnel_refused=_is_refused(Endpoint(endpoint.ip, self._probe.wireguard_port)),
                )
        except OSError:  # no way there for a datagram: TCP has failed for the same reason
            return reached

    def _ping(self, udp: socket.socket, size: int = 0) -> bool:
        """Whether a ping is answered; in datagrams of `size` bytes where one is given. EMSGSIZE is passed on."""
        numbers: set[int] = set()
        for _ in range(TRIES):
            number = _number()
            numbers.add(number)
            try:
                udp.send(self._datagram(number, size=size))
            except OSError as error:  # what was said of the one before; the next is sent all the same
                if error.errno == errno.EMSGSIZE:
                    raise
            if numbers & set(self._acks([udp], numbers, UDP_WITHIN)):
                return True
        return False

    def _reaches_us(self, udp: socket.socket) -> bool | None:
        """Whether an answer comes in at the gossip port itself; None where that cannot be tried, or he answers to where
        the question came from."""
        own = udp.getsockname()[0].partition("%")[0]
        if self._probe.announced is None or str(self._probe.announced) != own:
            return None  # he is to answer elsewhere: there is a translator between
        with self._one_at_our_port, ExitStack() as stack:
            try:
                ours = stack.enter_context(_bound(self._probe.bind, self._probe.port))
            except OSError:
                return None
            numbers: set[int] = set()
            for _ in range(TRIES):
                number = _number()
                numbers.add(number)
                udp.send(self._datagram(number, (self._probe.announced.packed, self._probe.port)))
                deadline = time.monotonic() + UDP_WITHIN
                while (left := deadline - time.monotonic()) > 0:
                    for readable in select.select([ours, udp], [], [], left)[0]:
                        if numbers & set(self._acks([readable], numbers, 0)):
                            return True if readable is ours else None
        return False

    def _takes(self, udp: socket.socket, endpoint: Endpoint) -> int | None:
        """Bytes of the largest packet that gets there whole, no more than wanted; None where it cannot be told."""
        wanted = self._probe.wanted(endpoint)
        headers = _HEADERS[endpoint.ip.version]
        try:
            if _path_mtu(udp, endpoint) >= wanted and self._ping(udp, wanted - headers):
                return wanted
        except OSError as error:  # a router has said how much, or another limit of this host's has
            if error.errno != errno.EMSGSIZE:
                raise
        known = min(_path_mtu(udp, endpoint), wanted - 1)
        answered = self._sizes_answered(udp, [known, *(size for size in _SIZES if size < known)], headers)
        return max(answered, default=known if known < wanted - 1 else None)

    def _sizes_answered(self, udp: socket.socket, sizes: Collection[int], headers: int) -> set[int]:
        """Which of the sizes of packets get there, of many that are sent at once."""
        sent: dict[int, int] = {}
        for _ in range(2):
            for size in sizes:
                number = _number()
                try:
                    udp.send(self._datagram(number, size=size - headers))
                except OSError:
                    continue
                sent[number] = size
            answered = {sent[number] for number in self._acks([udp], sent.keys(), UDP_WITHIN, every=True)}
            if answered:
                return answered
        return set()

    def _datagram(self, number: int, source: tuple[bytes, int] = (b"", 0), size: int = 0) -> bytes:
        assert self._keyring is not None  # noqa: S101 - asked first
        if not size:
            return seal_packet([encode(Ping(number, "", *source))], self._keyring, _nonce())
        bare = len(seal_packet([_with_ballast(number, 256)], self._keyring, _nonce())) - 256
        return seal_packet([_with_ballast(number, size - bare)], self._keyring, _nonce())

    def _acks(
        self, sockets: Sequence[socket.socket], numbers: Collection[int], within: float, *, every: bool = False
    ) -> Iterator[int]:
        """Numbers that are acked within so many seconds, however much else comes; one packet is read at any rate. The
        first is the last unless `every` one is wanted."""
        assert self._keyring is not None  # noqa: S101 - asked first
        deadline = time.monotonic() + within
        while True:
            readable = select.select(sockets, [], [], max(0.0, deadline - time.monotonic()))[0]
            if not readable:
                return
            try:
                packet = open_packet(readable[0].recv(MAX_DATAGRAM, socket.MSG_DONTWAIT), self._keyring)
            except (OSError, WireError):  # said of an earlier datagram, which is then sent again; or a stranger's
                packet = None
            for message in packet.messages if packet is not None else ():
                if isinstance(message, Ack) and message.seq_no in numbers:
                    yield message.seq_no
                    if not every:
                        return
            if time.monotonic() >= deadline:
                return


def _with_ballast(number: int, ballast: int) -> bytes:
    fields = {b"SeqNo": number, b"Node": b"", b"Ballast": bytes(ballast)}
    return bytes([MessageType.PING]) + write_struct(fields)


@contextmanager
def _connected(endpoint: Endpoint) -> Iterator[socket.socket]:
    """A UDP socket that hears nobody else, whose datagrams are never divided."""
    version = endpoint.ip.version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as udp:
        udp.setsockopt(*_DO_NOT_DIVIDE[version])
        udp.connect((str(endpoint.ip), endpoint.port))
        yield udp


def _bound(address: IPv4Address | IPv6Address, port: int) -> socket.socket:
    """Gossip's own UDP port, for a moment."""
    if address == IPv4Address(0) and socket.has_dualstack_ipv6():
        address = IPv6Address(0)
    udp = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if address.version == 6:
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address.is_unspecified else 1)
        udp.bind((str(address), port))
    except OSError:
        udp.close()
        raise
    return udp


def _path_mtu(udp: socket.socket, endpoint: Endpoint) -> int:
    return udp.getsockopt(*_PATH_MTU[endpoint.ip.version])


def _is_refused(tunnel: Endpoint) -> bool:
    """Whether a datagram to WireGuard's port, of no meaning to it, is answered with "nobody here"."""
    try:
        with _connected(tunnel) as udp:
            udp.send(b"\0")
            udp.settimeout(REFUSED_WITHIN)
            udp.recv(1)
    except ConnectionRefusedError:
        return True
    except OSError:
        pass
    return False


def _left(deadline: float) -> float:
    return max(0.01, deadline - time.monotonic())


def _number() -> int:
    """Of a ping; always as long when it is encoded."""
    return secrets.randbits(31) | 1 << 31


def _nonce() -> bytes:
    return secrets.token_bytes(NONCE_SIZE)
