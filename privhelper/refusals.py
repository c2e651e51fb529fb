"""Why a start cannot be, where the launcher, the helper and `wesher check` say the same: what, and what to do."""

from __future__ import annotations

from typing import Final

NEEDS_NET_ADMIN: Final = (
    "wesher-privhelper needs CAP_NET_ADMIN: it makes a network interface; start it as root, or with "
    "setpriv --inh-caps +net_admin --ambient-caps +net_admin"
)

NO_KERNEL_WIREGUARD: Final = "this kernel has no WireGuard; load it (modprobe wireguard), or give --wireguard userspace"


def exists_already(interface: str) -> str:
    """A link of that name is somebody else's."""
    return f"interface {interface} exists already; if nothing needs it: ip link del dev {interface}"


def not_served(interface: str) -> str:
    """wireguard-go is asked for, which a helper on its own does not start."""
    return f"no wireguard-go serves {interface}; start it: wireguard-go {interface}"


def no_wireguard(interface: str) -> str:
    """Neither kind is there for a helper on its own."""
    return (
        f"no WireGuard of any kind: this kernel has none, and no wireguard-go serves {interface}; "
        f"load the kernel's (modprobe wireguard), or start wireguard-go {interface}"
    )
