"""What a start meets on this host: which WireGuard it gets, whose the link of its name is, whether the overlay fits and
the port is free.

Looking changes nothing. The launcher looks before it makes anything; `wesher check` looks and makes nothing, not even
the kernel load what it has not loaded.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from privhelper import ground, wireguard_go
from privhelper import link as rtnl
from privhelper.kernel import is_available, is_bare
from privhelper.options import Pinned
from privhelper.refusals import NO_KERNEL_WIREGUARD, exists_already, no_wireguard, not_served
from privhelper.spawn import LaunchError


class Survey:
    """A look around for `pinned`, through one netlink connection. Methods raise LaunchError where a start must end."""

    def __init__(self, pinned: Pinned) -> None:
        self._pinned = pinned
        self._netlink = rtnl.open_netlink()

    def close(self) -> None:
        """Close the connection."""
        self._netlink.close()

    def overlay(self) -> str | None:
        """A warning, or None, of this host's networks inside the overlay net."""
        with _in_one_line():
            around = rtnl.surroundings(self._netlink, self._pinned.overlay_net)
            return ground.check(self._pinned, around.networks, has_ipv6=rtnl.has_ipv6())

    def finds_stale_link(self, *, in_kernel: bool) -> bool:
        """Whether the link's name is that of one which an earlier run left; raises where it is somebody else's."""
        name = self._pinned.interface
        with _in_one_line():
            if in_kernel:
                try:
                    return rtnl.find_stale(self._netlink, name, is_bare) is not None
                except PermissionError:
                    raise LaunchError(f"interface {name} exists already, and only root can see what it is") from None
            if rtnl.find(self._netlink, name) is not None:  # a TUN of ours ends with its process
                raise FileExistsError(errno.EEXIST, str(wireguard_go.exists_already(name)))
        return False

    def helpers_wireguard(self, kind: str) -> str | None:
        """What a helper on its own would run on, where --wireguard is `kind`: rtnl.TUN, which somebody serves, or
        rtnl.WIREGUARD; None where it cannot be told without making it."""
        name = self._pinned.interface
        with _in_one_line():
            found = rtnl.find(self._netlink, name)
        if found is not None and found.kind not in (rtnl.TUN, rtnl.WIREGUARD):
            raise LaunchError(exists_already(name))
        is_tun = found is not None and found.kind == rtnl.TUN
        if kind == "userspace" and not is_tun:
            raise LaunchError(not_served(name))
        if is_tun and kind != "kernel":
            return rtnl.TUN
        in_kernel = kernel_would_give_wireguard()
        if in_kernel is False:
            raise LaunchError(NO_KERNEL_WIREGUARD if kind == "kernel" else no_wireguard(name))
        return rtnl.WIREGUARD if in_kernel else None

    def is_of_a_helper(self) -> bool:
        """Whether the link of that name carries wesher's alias: a helper made it, which runs or has left it."""
        with _in_one_line():
            found = rtnl.find(self._netlink, self._pinned.interface)
        return found is not None and found.alias == rtnl.ALIAS

    def clear_stale_link(self) -> None:
        """Delete it: the one thing here that changes anything."""
        with _in_one_line():
            rtnl.clear_stale(self._netlink, self._pinned.interface, is_bare)

    def port(self) -> None:
        """WireGuard's; a stale link has it until it is cleared."""
        try:
            rtnl.check_port(self._pinned.wireguard_port)
        except OSError as error:
            raise LaunchError(
                f"WireGuard's UDP port {self._pinned.wireguard_port} cannot be used: {error.strerror}; "
                "give another --wireguard-port"
            ) from None


def kernel_gives_wireguard(kind: str) -> bool:
    """Whether it is the kernel's, where --wireguard is `kind`; the kernel may load its module. Raises LaunchError."""
    gives = kind != "userspace" and is_available()
    if kind == "kernel" and not gives:
        raise LaunchError(NO_KERNEL_WIREGUARD)
    return gives


def kernel_would_give_wireguard() -> bool | None:
    """Whether the kernel has WireGuard or would load it, without asking: that would load it. None: cannot be told."""
    if os.path.isdir("/sys/module/wireguard") or not os.path.exists("/proc/modules"):  # there, or nothing can be loaded
        return is_available()
    try:
        with open(f"/lib/modules/{os.uname().release}/modules.dep", encoding="utf-8", errors="replace") as file:
            return any("/wireguard.ko" in line.partition(":")[0] for line in file)
    except OSError:  # in a container, they are the host's
        return None


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except ground.NoGround as error:
        raise LaunchError(str(error)) from None
    except OSError as error:
        raise LaunchError(error.strerror or str(error)) from None
