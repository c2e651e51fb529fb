"""What a unit's start needs before the program is there: files that systemd opens for it, devices that it leaves it.

Where that fails, the program says nothing, for it was never started; or it says what is true only within its unit.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Final

from wesher.check.finding import Finding, Level
from wesher.check.unit import Options

_WHAT: Final = "unit"


def handed(unit: Options, kernels: Callable[[], bool | None]) -> Iterator[Finding]:
    """What keeps the unit's program from its files and devices; `kernels` whether this kernel would give WireGuard."""
    for path in unit.opened:
        reason = _refused(path)
        if reason is not None:
            yield Finding(
                Level.ERROR,
                _WHAT,
                f"{path} cannot be opened ({reason}), and systemd hands it to the helper, which would never start; "
                "make it writable, or take the drop-in no-hosts-file.conf",
            )
    kind = unit.variables.get("WESHER_WIREGUARD", "auto")
    needs_tun = kind == "userspace" or (kind != "kernel" and kernels() is False)
    if unit.is_launcher and unit.has_no_devices and needs_tun:
        yield Finding(
            Level.ERROR,
            _WHAT,
            "PrivateDevices= closes /dev/net/tun, which userspace WireGuard needs; take the drop-in "
            "launcher-userspace.conf, or load the kernel's: modprobe wireguard",
        )


def _refused(path: str) -> str | None:
    """Why systemd cannot open it for reading and writing, None where it can. One that is missing it makes."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))
    except OSError as error:
        # systemd is root, who looks may not be
        harmless = error.errno == errno.ENOENT or (error.errno == errno.EACCES and os.geteuid() != 0)
        return None if harmless else error.strerror
    return None
