"""WireGuard in the kernel, spoken to through generic netlink.

The device is what the link of the given ifindex carries, so nothing that takes our name can be meant. Every request
is one message, answered with an errno or, for GET_DEVICE, with as many messages as the peers need; the private key
stands in the first of them for whoever holds CAP_NET_ADMIN, and is not decoded. pyroute2 validates little: everything
given to it here has been seen by the policy or the options. One connection, opened before lockdown, serves for life.
"""

from __future__ import annotations

import errno
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from ipaddress import ip_address, ip_network
from socket import AF_INET, AF_INET6
from typing import Any, Final

from nacl.public import PrivateKey
from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import AsyncGenericNetlinkSocket, GenericNetlinkSocket
from pyroute2.netlink.generic.wireguard import (
    WG_CMD_GET_DEVICE,
    WG_CMD_SET_DEVICE,
    WG_GENL_NAME,
    WG_GENL_VERSION,
    WGDEVICE_F_REPLACE_PEERS,
    WGPEER_F_REMOVE_ME,
    WGPEER_F_REPLACE_ALLOWEDIPS,
    WGPEER_F_UPDATE_ONLY,
    wgmsg,
)

from privhelper.device import Holding
from privhelper.protocol import Backend, Peer, PeerStatus

PEERS_A_MESSAGE: Final = 400
"""All peers of a message are one attribute, whose length is 16 bits; one of ours takes 132 bytes at most."""

READINGS: Final = 5
"""A reading during which somebody else changed the device is taken again, so many times in all."""

_NO_KEY: Final = bytes(32)
_WITHOUT_PEERS: Final = (("WGDEVICE_A_FLAGS", WGDEVICE_F_REPLACE_PEERS),)


class KernelDevice:
    """The device on the link that `index` names at the time of each call: the link may be made anew under it.

    Making one raises OSError where the kernel has no WireGuard.
    """

    backend = Backend.KERNEL

    def __init__(self, index: Callable[[], int]) -> None:
        self._index = index
        self._private: PrivateKey | None = None
        self._port = 0
        self._keepalive = 0
        self._netlink = _Connection()
        try:
            with _kernel_words():
                self._netlink.bind(WG_GENL_NAME, _Reading)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the device stays as it is."""
        self._netlink.close()

    def create(self, port: int, keepalive: int = 0) -> bytes:
        """Give the device a new private key, `port` and no peer; return its public key (32 bytes).

        The private key lives in this object and in the kernel. It is not logged, written or told.
        """
        private = PrivateKey.generate()
        self._set(*_WITHOUT_PEERS, *_key_and_port(bytes(private), port))
        self._private, self._port, self._keepalive = private, port, keepalive
        return bytes(private.public_key)

    def restore(self) -> None:
        """Set the key and port of the last `create` again; peers stay."""
        self._set(*_key_and_port(_NO_KEY if self._private is None else bytes(self._private), self._port))

    def holding(self) -> Holding:
        """What the device has now, whoever gave it."""
        return self._read()[0]

    def is_bare(self, index: int) -> bool:
        """Whether the WireGuard link `index` has neither private key nor peer. OSError, also if it is no such link."""
        held = self._read(index)[0]
        return held.public_key is None and not held.allowed_ips

    def apply(self, removed: Sequence[bytes], changed: Sequence[Peer], placed: Collection[bytes] = ()) -> None:
        """Remove peers by public key, then add or change others: an address then moves from an old key to a new one."""
        for rows in (
            [_removal(key) for key in removed],
            [self._row(peer, placed=peer.public_key in placed) for peer in changed],
        ):
            for start in range(0, len(rows), PEERS_A_MESSAGE):
                self._set(("WGDEVICE_A_PEERS", rows[start : start + PEERS_A_MESSAGE]))

    def forget_sources(self) -> None:
        """The kernel does, where a source is gone."""

    def status(self) -> list[PeerStatus]:
        """A reading of every peer."""
        return self._read()[1]

    def destroy(self) -> None:
        """Forget key and peers; a link that is gone has neither."""
        self._private = None
        try:
            self._set(*_WITHOUT_PEERS, ("WGDEVICE_A_PRIVATE_KEY", b64encode(_NO_KEY)))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def _row(self, peer: Peer, *, placed: bool) -> dict[str, Any]:
        address = peer.overlay_addr
        only = [
            ("WGALLOWEDIP_A_FAMILY", AF_INET6 if address.version == 6 else AF_INET),
            ("WGALLOWEDIP_A_IPADDR", address.packed),
            ("WGALLOWEDIP_A_CIDR_MASK", address.max_prefixlen),
        ]
        endpoint = () if placed else (("WGPEER_A_ENDPOINT", {"addr": str(peer.endpoint), "port": self._port}),)
        return _peer(
            peer.public_key,
            WGPEER_F_REPLACE_ALLOWEDIPS | (WGPEER_F_UPDATE_ONLY if placed else 0),
            *endpoint,
            ("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL", self._keepalive),
            ("WGPEER_A_ALLOWEDIPS", [{"attrs": only}]),
        )

    def _set(self, *attributes: tuple[str, Any]) -> None:
        self._ask(WG_CMD_SET_DEVICE, NLM_F_REQUEST | NLM_F_ACK, *attributes)

    def _read(self, index: int | None = None) -> tuple[Holding, list[PeerStatus]]:
        """The whole device, ours or the one on link `index`. A peer with many allowed IPs goes on in the next message,
        with nothing else repeated."""
        for _ in range(READINGS):
            answer = self._ask(WG_CMD_GET_DEVICE, NLM_F_REQUEST | NLM_F_DUMP, index=index)
            if not any(message["header"]["flags"] & NLM_F_DUMP_INTR for message in answer):
                break
        else:
            raise OSError(errno.EAGAIN, "WireGuard's peers change while they are read")
        public_key, port = None, 0
        statuses: dict[bytes, PeerStatus] = {}
        allowed: dict[bytes, list[str]] = {}
        for message in answer:
            public_key = message.get_attr("WGDEVICE_A_PUBLIC_KEY") or public_key
            port = message.get_attr("WGDEVICE_A_LISTEN_PORT") or port
            for peer in message.get_attr("WGDEVICE_A_PEERS") or ():
                key = b64decode(peer.get_attr("WGPEER_A_PUBLIC_KEY"))
                statuses.setdefault(key, _status(key, peer))
                ips = allowed.setdefault(key, [])
                ips += [entry["addr"] for entry in peer.get_attr("WGPEER_A_ALLOWEDIPS") or ()]
        nets = {key: frozenset(map(ip_network, ips)) for key, ips in allowed.items()}
        return Holding(b64decode(public_key) if public_key else None, port, nets), list(statuses.values())

    def _ask(self, command: int, flags: int, *attributes: tuple[str, Any], index: int | None = None) -> Sequence[Any]:
        request = wgmsg()
        request["cmd"], request["version"] = command, WG_GENL_VERSION
        request["attrs"] = [("WGDEVICE_A_IFINDEX", self._index() if index is None else index), *attributes]
        with _kernel_words():
            return tuple(self._netlink.nlm_request(request, self._netlink.prid, flags))


def is_available() -> bool:
    """Whether this kernel has WireGuard, after it has been asked to load it."""
    try:
        KernelDevice(lambda: 0).close()
    except OSError:
        return False
    return True


def is_bare(index: int) -> bool:
    """Whether the WireGuard link `index` has neither private key nor peer: for who has no connection of its own."""
    with closing(KernelDevice(lambda: index)) as device:
        return device.is_bare(index)


class _Reading(genlmsg):  # type: ignore[misc]
    """GET_DEVICE's answer without the private key: what is not decoded is in no log, repr or exception. An error's
    answer quotes the request, and is decoded as this as well."""

    prefix = wgmsg.prefix
    nla_map = tuple((name, "none" if name == "WGDEVICE_A_PRIVATE_KEY" else kind) for name, kind in wgmsg.nla_map)
    parse_wg_key = wgmsg.parse_wg_key
    wgdevice_peer = wgmsg.wgdevice_peer


class _QuietSocket(AsyncGenericNetlinkSocket):  # type: ignore[misc]
    module_err_level = "debug"  # a kernel without WireGuard is for the caller to tell, once


class _Connection(GenericNetlinkSocket):  # type: ignore[misc]
    async_class = _QuietSocket


def _key_and_port(private_key: bytes, port: int) -> tuple[tuple[str, Any], ...]:
    return ("WGDEVICE_A_LISTEN_PORT", port), ("WGDEVICE_A_PRIVATE_KEY", b64encode(private_key))


def _peer(public_key: bytes, flags: int, *attributes: tuple[str, Any]) -> dict[str, Any]:
    return {"attrs": [("WGPEER_A_PUBLIC_KEY", b64encode(public_key)), ("WGPEER_A_FLAGS", flags), *attributes]}


def _removal(public_key: bytes) -> dict[str, Any]:
    return _peer(public_key, WGPEER_F_REMOVE_ME)


def _status(public_key: bytes, peer: Any) -> PeerStatus:
    endpoint, handshake = (peer.get_attr(f"WGPEER_A_{name}") for name in ("ENDPOINT", "LAST_HANDSHAKE_TIME"))
    return PeerStatus(
        public_key,
        ip_address(endpoint["addr"]) if endpoint else None,
        handshake["tv_sec"] if handshake else 0,
        peer.get_attr("WGPEER_A_RX_BYTES") or 0,
        peer.get_attr("WGPEER_A_TX_BYTES") or 0,
    )


@contextmanager
def _kernel_words() -> Iterator[None]:
    """pyroute2's own exception is no OSError; the rest of the helper knows only errno."""
    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from None
