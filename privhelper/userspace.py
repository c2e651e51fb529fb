"""WireGuard as a process (wireguard-go), spoken to through its UAPI socket.

The UAPI is text: `set=1` or `get=1`, lines of key=value, an empty line; the answer ends with `errno=N` and an empty
line. Keys are hex; `get` shows the private key to whoever holds the socket, hence its answer never leaves `_exchange`
and `status`. One connection, made before lockdown, serves for life; its end means that wireguard-go is gone.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from nacl.public import PrivateKey

from privhelper.addressing import Address
from privhelper.protocol import Backend, Peer, PeerStatus

DIRECTORY: Final = "/run/wireguard"
"""Where wg(8) looks for userspace interfaces; the socket is `<interface>.sock`."""

ANSWER_WITHIN: Final = 5.0
"""Seconds. A set of 1000 peers takes 0.2 s; an exchange that hangs longer means the process is stuck."""

MAX_ERRNO: Final = 4095
"""The kernel's own bound on error numbers; more is none, and would not fit a reply."""

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes: 4000 peers answer 1.4 MB. More comes from a wireguard-go that is no longer itself."""


class UserspaceDevice:
    """The device behind a connected UAPI socket."""

    backend = Backend.USERSPACE

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(ANSWER_WITHIN)
        self._connection = connection
        self._port = 0

    def fileno(self) -> int:
        """Readable when wireguard-go is gone: it never speaks first."""
        return self._connection.fileno()

    def create(self, port: int) -> bytes:
        """Give the device a new private key, `port` and no peer; return its public key (32 bytes).

        The private key lives in this frame and in wireguard-go. It is not kept, logged or written.
        """
        private = PrivateKey.generate()
        self._set([f"private_key={bytes(private).hex()}", f"listen_port={port}", "replace_peers=true"])
        self._port = port
        return bytes(private.public_key)

    def apply(self, removed: Sequence[bytes], changed: Sequence[Peer]) -> None:
        """Remove peers by public key, then add or change others: an address then moves from an old key to a new one."""
        lines = [line for key in removed for line in (f"public_key={key.hex()}", "remove=true")]
        for peer in changed:
            lines += [
                f"public_key={peer.public_key.hex()}",
                f"endpoint={_endpoint(peer.endpoint, self._port)}",
                "replace_allowed_ips=true",
                f"allowed_ip={peer.overlay_addr}/{peer.overlay_addr.max_prefixlen}",
            ]
        if lines:
            self._set(lines)

    def status(self) -> list[PeerStatus]:
        """A reading of every peer."""
        answer = self._exchange("get=1\n\n")
        try:
            return list(_peers(answer))
        except (ValueError, KeyError):
            raise OSError(errno.EPROTO, "wireguard-go reports peers that do not parse") from None

    def destroy(self) -> None:
        """Forget key and peers."""
        self._set(["replace_peers=true", f"private_key={bytes(32).hex()}"])

    def _set(self, lines: Sequence[str]) -> None:
        self._exchange("set=1\n" + "\n".join(lines) + "\n\n")

    def _exchange(self, request: str) -> str:
        code = None
        with suppress(OSError, ValueError):
            self._connection.sendall(request.encode("ascii"))
            text = self._answer()
            code = _errno(text)
        if code is None:
            # Half an exchange would answer the next one: with this connection we are done, and so is the helper.
            # Raised out here: what went wrong quotes the answer, and that may hold the private key.
            self._hang_up()
            raise OSError(errno.EPROTO, "wireguard-go does not answer as it should")
        if code:
            raise OSError(code, os.strerror(code))
        return text

    def _answer(self) -> str:
        answer, deadline = bytearray(), time.monotonic() + ANSWER_WITHIN
        while not answer.endswith(b"\n\n"):
            self._connection.settimeout(max(0.001, deadline - time.monotonic()))  # for the whole, not for each part
            chunk = self._connection.recv(65536)
            if not chunk or len(answer) > MAX_ANSWER:
                raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
            answer += chunk
        return answer.decode("ascii")

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


def _endpoint(address: Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _errno(answer: str) -> int:
    code = abs(int(answer.rpartition("errno=")[2]))
    if code > MAX_ERRNO:
        raise ValueError(code)
    return code


def _peers(answer: str) -> Iterator[PeerStatus]:
    """The peers in an answer to `get`; each begins with its public_key."""
    fields: dict[str, str] = {}
    for line in answer.splitlines():
        key, _, value = line.partition("=")
        if key in ("public_key", "errno"):
            if "public_key" in fields:
                yield _peer(fields)
            fields = {}
        fields[key] = value


def _peer(fields: dict[str, str]) -> PeerStatus:
    host = fields.get("endpoint", "").rpartition(":")[0].strip("[]").partition("%")[0]
    public_key = bytes.fromhex(fields["public_key"])
    counters = [int(fields.get(name, "0")) for name in ("last_handshake_time_sec", "rx_bytes", "tx_bytes")]
    if len(public_key) != 32 or not all(0 <= counter < 1 << 64 for counter in counters):
        raise ValueError("no such peer can be reported")
    return PeerStatus(public_key, ip_address(host) if host else None, *counters)
