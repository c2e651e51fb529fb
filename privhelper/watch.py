"""A sign that this host's network has changed, from the kernel's own notifications.

Only whether somebody else changed something is of interest: what it was is read anew from the kernel, so a lost
notification (ENOBUFS) is a notification like any other. Those of our own routes carry our own netlink port and do not
count; of links and addresses the kernel speaks as itself too, port 0, whoever changed them, so there our own doing
costs one look too many. rtnetlink(7): each message begins with
    length u32 | type u16 | flags u16 | sequence u32 | port u32
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

_HEADER: Final = struct.Struct("=IHHII")
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # RTMGRP_LINK, IPV4 and IPV6: IFADDR, ROUTE
_MOST_AT_ONCE: Final = 1024
_BUFFER: Final = 65536


class Watch:
    """A socket that is readable when something may have changed. Open it before lockdown."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, _GROUPS))

    def fileno(self) -> int:
        """Readable when there is a notification."""
        return self._socket.fileno()

    def changed(self, own_port: int) -> bool:
        """Read what has come; whether any of it was not the doing of the netlink socket with `own_port`."""
        foreign = False
        for _ in range(_MOST_AT_ONCE):
            try:
                data = self._socket.recv(_BUFFER)
            except BlockingIOError:
                return foreign
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                foreign = True  # overrun: something was lost
                continue
            foreign = foreign or _ports(data) != {own_port}
        return True


def _ports(data: bytes) -> set[int]:
    """The netlink ports that caused the messages in `data`; 0 is the kernel itself."""
    found, at = set(), 0
    while at + _HEADER.size <= len(data):
        length, _, _, _, port = _HEADER.unpack_from(data, at)
        found.add(port)
        at += max(_HEADER.size, (length + 3) & ~3)
    return found
