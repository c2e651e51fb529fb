"""WireGuard as a process (wireguard-go), spoken to through its UAPI socket.

The UAPI is text: `set=1` or `get=1`, lines of key=value, an empty line; the answer ends with `errno=N` and an empty
line. Keys are hex; `get` shows the private key to whoever holds the socket, hence its answer never leaves `_exchange`,
`holding` and `status`. One connection, made before lockdown, serves for life; its end means that wireguard-go is gone.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Final

from nacl.public import PrivateKey

from privhelper.addressing import Address
from privhelper.device import Holding
from privhelper.protocol import Backend, Peer, PeerStatus

DIRECTORY: Final = "/run/wireguard"
"""Where wg(8) looks for userspace interfaces; the socket is `<interface>.sock`."""

ANSWER_WITHIN: Final = 5.0
"""Seconds. wireguard-go answers late when it begins handshakes with many peers that are not there, which is up to the
mesh's members: the helper goes on, and takes the answer when it comes."""

PEERS_A_SET: Final = 64
"""What one exchange takes on: with a keepalive a handshake begins with each new peer before the answer."""

MAX_ERRNO: Final = 4095
"""The kernel's own bound on error numbers; more is none, and would not fit a reply."""

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes: 4000 peers answer 1.4 MB. More comes from a wireguard-go that is no longer itself."""

_NO_KEY: Final = bytes(32)

_Fields = list[tuple[str, str]]


class UserspaceDevice:
    """The device behind a connected UAPI socket."""

    backend = Backend.USERSPACE

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(ANSWER_WITHIN)
        self._connection = connection
        self._read = bytearray()
        self._owed = 0  # answers to exchanges that were given up
        self._private: PrivateKey | None = None
        self._port = 0
        self._keepalive = 0

    def fileno(self) -> int:
        """Readable when wireguard-go is gone, or answers late: ask `has_ended`."""
        return self._connection.fileno()

    def has_ended(self) -> bool:
        """Whether wireguard-go is gone, now that there is something to read. It never speaks first."""
        self._connection.settimeout(0)
        try:
            chunk = self._connection.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            return True
        self._read += chunk
        while self._owed and self._take_answer() is not None:
            self._owed -= 1
        return not chunk or len(self._read) > (MAX_ANSWER if self._owed else 0)

    def create(self, port: int, keepalive: int = 0) -> bytes:
        """Give the device a new private key, `port` and no peer; return its public key (32 bytes).

        The private key lives in this object and in wireguard-go. It is not logged, written or told.
        """
        private = PrivateKey.generate()
        self._set([*_key_and_port(bytes(private), port), "replace_peers=true"])
        self._private, self._port, self._keepalive = private, port, keepalive
        return bytes(private.public_key)

    def restore(self) -> None:
        """Set the key and port of the last `create` again; peers stay."""
        self._set(_key_and_port(_NO_KEY if self._private is None else bytes(self._private), self._port))

    def holding(self) -> Holding:
        """What the device has now, whoever gave it."""
        answer = self._exchange("get=1\n\n")
        try:
            return _holding(answer)
        except (ValueError, KeyError):
            error = OSError(errno.EPROTO, "wireguard-go reports a device that does not parse")
        raise error  # out here: what went wrong may quote the private key

    def apply(self, removed: Sequence[bytes], changed: Sequence[Peer], placed: Collection[bytes] = ()) -> None:
        """Remove peers by public key, then add or change others: an address then moves from an old key to a new one."""
        rows = [[f"public_key={key.hex()}", "remove=true"] for key in removed]
        rows += [self._row(peer, placed=peer.public_key in placed) for peer in changed]
        for start in range(0, len(rows), PEERS_A_SET):
            self._set([line for row in rows[start : start + PEERS_A_SET] for line in row])

    def forget_sources(self) -> None:
        """wireguard-go answers from the address that it was sent to, and goes on so when that is gone, until it hears
        from the peer again; a client would hear nothing for long. It forgets when it is given its port, any port."""
        self._set([f"listen_port={self._port}"])

    def status(self) -> list[PeerStatus]:
        """A reading of every peer."""
        answer = self._exchange("get=1\n\n")
        try:
            return [_status(dict(fields)) for fields in _sections(answer)[1:]]
        except (ValueError, KeyError):
            raise OSError(errno.EPROTO, "wireguard-go reports peers that do not parse") from None

    def destroy(self) -> None:
        """Forget key and peers."""
        self._private = None
        self._set(["replace_peers=true", f"private_key={_NO_KEY.hex()}"])

    def _row(self, peer: Peer, *, placed: bool) -> list[str]:
        return [
            f"public_key={peer.public_key.hex()}",
            "update_only=true" if placed else f"endpoint={_endpoint(peer.endpoint, self._port)}",
            f"persistent_keepalive_interval={self._keepalive}",
            "replace_allowed_ips=true",
            f"allowed_ip={peer.overlay_addr}/{peer.overlay_addr.max_prefixlen}",
        ]

    def _set(self, lines: Sequence[str]) -> None:
        self._exchange("set=1\n" + "\n".join(lines) + "\n\n")

    def _exchange(self, request: str) -> str:
        deadline = time.monotonic() + ANSWER_WITHIN
        code = None
        with suppress(ConnectionError, ValueError):
            while self._owed:
                self._answer(deadline)
            self._send(request, deadline)
            text = self._answer(deadline)
            code = None if self._read else _errno(text)
        if code is None:
            # What is no answer would be taken for the next one: with this connection we are done, and so is the helper.
            # Raised out here: what went wrong quotes the answer, and that may hold the private key.
            self._hang_up()
            raise OSError(errno.EPROTO, "wireguard-go does not answer as it should")
        if code:
            raise OSError(code, os.strerror(code))
        return text

    def _send(self, request: str, deadline: float) -> None:
        self._connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            self._connection.sendall(request.encode("ascii"))
        except TimeoutError:  # who owes nothing has read all before this; half a request is none
            raise ConnectionError from None
        self._owed += 1

    def _answer(self, deadline: float) -> str:
        """The next answer that is owed. ETIMEDOUT where it is still to come; ConnectionError where it will not."""
        while (answer := self._take_answer()) is None:
            self._connection.settimeout(max(0.001, deadline - time.monotonic()))  # for the whole, not for each part
            try:
                chunk = self._connection.recv(65536)
            except TimeoutError:
                raise OSError(errno.ETIMEDOUT, "wireguard-go has not answered yet") from None
            if not chunk or len(self._read) > MAX_ANSWER:
                raise ConnectionError
            self._read += chunk
        self._owed -= 1
        return answer.decode("ascii")

    def _take_answer(self) -> bytes | None:
        """A whole answer of what has been read, which it then is no longer."""
        end = self._read.find(b"\n\n")
        if end < 0:
            return None
        answer = bytes(self._read[:end])
        del self._read[: end + 2]
        return answer

    def _hang_up(self) -> None:
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


def socket_path(interface: str) -> str:
    """Where `interface`'s UAPI socket is."""
    return f"{DIRECTORY}/{interface}.sock"


def connect(interface: str) -> UserspaceDevice:
    """Connect to `interface`'s UAPI socket. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    connection.settimeout(ANSWER_WITHIN)
    try:
        connection.connect(socket_path(interface))
    except OSError:
        connection.close()
        raise
    return UserspaceDevice(connection)


def _key_and_port(private_key: bytes, port: int) -> list[str]:
    return [f"private_key={private_key.hex()}", f"listen_port={port}"]


def _endpoint(address: Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _errno(answer: str) -> int:
    code = abs(int(answer.rpartition("errno=")[2]))
    if code > MAX_ERRNO:
        raise ValueError(code)
    return code


def _sections(answer: str) -> list[_Fields]:
    """An answer to `get`: the device's own fields, then those of each peer, which begin with its public_key."""
    sections: list[_Fields] = [[]]
    for line in answer.splitlines():
        key, _, value = line.partition("=")
        if key == "public_key":
            sections.append([])
        sections[-1].append((key, value))
    return sections


def _holding(answer: str) -> Holding:
    own, *peers = _sections(answer)
    fields = dict(own)
    private = bytes.fromhex(fields.get("private_key", ""))
    allowed = {
        _public_key(dict(peer)): frozenset(
            ip_network(value, strict=False) for key, value in peer if key == "allowed_ip"
        )
        for peer in peers
    }
    public = bytes(PrivateKey(private).public_key) if any(private) else None
    return Holding(public, int(fields.get("listen_port", "0")), allowed)


def _status(fields: dict[str, str]) -> PeerStatus:
    host = fields.get("endpoint", "").rpartition(":")[0].strip("[]").partition("%")[0]
    counters = [int(fields.get(name, "0")) for name in ("last_handshake_time_sec", "rx_bytes", "tx_bytes")]
    if not all(0 <= counter < 1 << 64 for counter in counters):
        raise ValueError("no such peer can be reported")
    return PeerStatus(_public_key(fields), ip_address(host) if host else None, *counters)


def _public_key(fields: dict[str, str]) -> bytes:
    public_key = bytes.fromhex(fields["public_key"])
    if len(public_key) != 32:
        raise ValueError("no such key")
    return public_key
