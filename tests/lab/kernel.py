"""What this kernel can that older ones cannot, asked of itself: its version says nothing of what was ported back."""

from __future__ import annotations

import socket
from typing import Final

SO_PASSRIGHTS: Final = 83
"""Written down once more: a wrong number in privhelper/door.py is to be noticed."""


def can_refuse_descriptors() -> bool:
    """Whether a socket can be told to take none (Linux 6.16)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
        except OSError:
            return False
    return True
