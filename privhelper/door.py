"""A socket on which an agent's descriptors do not get in.

recv(2) without room for them closes what is sent along, but closing is up to the sender: a TCP socket that lingers can
hold up its closer for as long as it likes. Linux 6.16 lets a socket refuse them; what a listener is told, its
connections inherit, so it is told before it listens, and a pair before its other end is given away.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final

SO_PASSRIGHTS: Final = 83
"""What Python's socket does not name yet."""


def take_no_descriptors(door: socket.socket) -> None:
    """Let the kernel refuse descriptors sent along, where it can."""
    with suppress(OSError):
        door.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
