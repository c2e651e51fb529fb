"""wireguard-go: found, given a TUN link and a UAPI listener, and started with CAP_NET_ADMIN and nothing else."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
from contextlib import suppress
from typing import Final

from privhelper.sandbox import NET_ADMIN, Identity, die_with_parent, gain_nothing
from privhelper.spawn import ENVIRONMENT, LaunchError, null, spawn
from privhelper.userspace import DIRECTORY, socket_path

_TUN: Final = "/dev/net/tun"
_TUN_LOADED: Final = "/sys/class/misc/tun"
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFF_TUN_EXCL: Final = 0x8000
_LAST_WITH_PACKET_INFO: Final = 20230223
"""wireguard-go up to this release reads a TUN's packets with the 4-byte packet information before them, whatever the
descriptor's flags; later ones read none, and take the flag that lets the kernel hand over large segments."""
_LOOKS_AT_FLAGS: Final = b"tun.(*NativeTun).initFromFlags"
"""The function with which the later ones ask for the descriptor's flags. Go keeps names in stripped programs too, and
0.0.20231211, Debian 13's, calls itself 0.0.20230223: what a release says of itself does not decide."""
_IFREQ: Final = struct.Struct("@16sH22s")


def start(interface: str, helper: Identity, log_level: str, log_fd: int) -> tuple[int, int]:
    """Start it for `interface`; its pid, and a descriptor connected to its UAPI. Raises LaunchError."""
    program = find()
    tun = _make_tun(interface, _tun_flags(program))
    listener, connection = _uapi(interface, helper)
    parent = os.getpid()

    def before_exec() -> None:
        os.setsid()
        helper.assume([NET_ADMIN])
        gain_nothing()
        die_with_parent()
        if os.getppid() != parent:
            os._exit(1)

    environment = ENVIRONMENT | {
        "WG_TUN_FD": "3",
        "WG_UAPI_FD": "4",
        "WG_PROCESS_FOREGROUND": "1",
        # It reports an error whenever its link is deleted, which is how it is told to end.
        "LOG_LEVEL": "error" if log_level in ("debug", "info") else "silent",
    }
    # It logs to its standard output.
    pid = spawn([program, "--foreground", interface], environment, [null(), log_fd, log_fd, tun, listener], before_exec)
    os.close(tun)
    os.close(listener)
    return pid, connection


def find() -> str:
    """Its path, where there is a TUN device for it too. Raises LaunchError."""
    program = _program()
    os.close(_open_tun())
    return program


def look() -> str:
    """`find`, without opening a device whose driver is not loaded: that would load it."""
    if os.path.exists(_TUN_LOADED) or not os.path.exists(_TUN):
        return find()
    return _program()


def version(program: str) -> str:
    """Its release as it tells it, such as 0.0.20220316; "?" where it tells none."""
    release = re.search(rb"\bv?([0-9]+\.[0-9]+\.[0-9]+)", _own_words(program))
    return "?" if release is None else release[1].decode("ascii")


def _program() -> str:
    program = shutil.which("wireguard-go", path=ENVIRONMENT["PATH"])
    if program is None:
        raise LaunchError(
            "no WireGuard of any kind: the kernel has none (modprobe wireguard), and wireguard-go is not installed "
            "(apt install wireguard-go)"
        )
    return program


def check_directory(helper: Identity) -> None:
    """Whether an ordinary user can make its socket. Raises LaunchError."""
    if not os.access(DIRECTORY, os.W_OK):
        raise LaunchError(
            f"wireguard-go needs {DIRECTORY} for its socket; as root: install -d -o {helper.uid} -m 755 {DIRECTORY}"
        )


def exists_already(interface: str) -> LaunchError:
    """A link of the name is never taken over."""
    return LaunchError(f"interface {interface} exists already; if nothing needs it: ip link del dev {interface}")


def _open_tun() -> int:
    try:
        return os.open(_TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise LaunchError(
            f"{_TUN} cannot be opened ({error.strerror}): userspace WireGuard needs it; load it with: modprobe tun"
        ) from None


def _tun_flags(program: str) -> int:
    release = re.search(rb"\bv?0\.0\.([0-9]{8})", _own_words(program))
    if release is None or int(release[1]) > _LAST_WITH_PACKET_INFO or _LOOKS_AT_FLAGS in _content(program):
        return _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
    return _IFF_TUN


def _content(program: str) -> bytes:
    with open(program, "rb") as file:
        return file.read()


def _own_words(program: str) -> bytes:
    return subprocess.run(  # noqa: S603 - found in a fixed PATH
        [program, "--version"], capture_output=True, check=False, timeout=10, env=ENVIRONMENT
    ).stdout


def _make_tun(interface: str, flags: int) -> int:
    """A new TUN link; an existing one of the name is never taken over."""
    fd = _open_tun()
    request = _IFREQ.pack(interface.encode("ascii"), flags | _IFF_TUN_EXCL, b"")
    try:
        fcntl.ioctl(fd, _TUNSETIFF, request)
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.EEXIST, errno.EINVAL):
            raise exists_already(interface) from None
        raise LaunchError(f"interface {interface} cannot be made: {error.strerror}") from None
    return fd


def _uapi(interface: str, helper: Identity) -> tuple[int, int]:
    """A listener for the helper's uid alone, since who can connect can read the private key; and a connection to it.

    It is where wg(8) looks: wireguard-go takes a listener from us, but watches that path all the same, and ends if
    nothing is there. It gets there when somebody listens, and under a name that wg does not look at until then: wg
    removes any socket there that refuses it.
    """
    path = socket_path(interface)
    unready = f"{path}.new"
    if os.geteuid() == 0:
        os.makedirs(DIRECTORY, mode=0o755, exist_ok=True)
        if not os.stat(DIRECTORY).st_mode & stat.S_ISVTX:  # as systemd-tmpfiles makes it, also for the helper's user
            os.chmod(DIRECTORY, 0o755)  # noqa: S103 - wg(8) makes it so; the sockets in it are closed
    else:
        check_directory(helper)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            os.unlink(unready)
        before = os.umask(0o177)  # its mode from the start, and no link followed: the directory may be another user's
        try:
            listener.bind(unready)
        finally:
            os.umask(before)
        listener.listen(4)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(unready)  # while it is ours: root without CAP_DAC_OVERRIDE may not when it is the helper's
        os.chown(unready, helper.uid, helper.gid, follow_symlinks=False)
        os.rename(unready, path)  # over one that nothing serves: its link did not exist
    except OSError as error:
        raise LaunchError(f"wireguard-go's socket {path} cannot be made: {error.strerror}") from None
    return listener.detach(), connection.detach()
