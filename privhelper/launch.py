"""The launcher: as root, make what needs root, start the agent with nothing, and become the helper.

    open the hosts file, make the directories, a TUN link and its UAPI listener
    logpipe         fork, exec    helper's uid, no capability, own session    0-2, 3-5 what the others write
    wireguard-go    fork, exec    helper's uid, CAP_NET_ADMIN, own session    3 TUN, 4 UAPI listener
    agent           fork, exec    agent's uid, no capability, own session     3 helper, 4 its configuration
    helper          exec, same pid, helper's uid, CAP_NET_ADMIN               3 agent, 4 hosts file

Each is exec'ed, so none has the launcher's memory. No launcher stays: the helper is the parent and the main pid.
The agent's configuration, with the cluster key, travels in a memfd and nowhere else. All but
logpipe have /dev/null and pipes to it as 0 to 2; the network-facing ones have no controlling terminal.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from privhelper.options import Pinned
from privhelper.sandbox import MAX_ID, NET_ADMIN, Identity, close_all_but, die_with_parent, gain_nothing
from privhelper.userspace import DIRECTORY, socket_path

PEER_FD: Final = 3
"""The socket to the other half, in either half."""
EXTRA_FD: Final = 4
"""The agent's configuration; the helper's hosts file."""

DEFAULT_USERS: Final = "wesher:wesher-priv"

_ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

_TUN: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFF_TUN_EXCL: Final = 0x8000
_LAST_WITH_PACKET_INFO: Final = 20230223
"""wireguard-go up to this release reads a TUN's packets with the 4-byte packet information before them, whatever the
descriptor's flags; later ones read none, and take the flag that lets the kernel hand over large segments."""
_IFREQ: Final = struct.Struct("@16sH22s")


class LaunchError(Exception):
    """What keeps the daemon from starting, in one line: what, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the launcher needs. `agent_config` is opaque here, and secret."""

    pinned: Pinned
    agent: Identity
    helper: Identity
    agent_module: str
    agent_config: bytes
    state_dir: str
    state_file: str
    runtime_dir: str
    log_level: str


def launch(plan: Plan) -> NoReturn:
    """Carry out `plan`; on success this process has become the helper. Raises LaunchError."""
    fill_standard_descriptors()
    os.umask(0o022)
    os.chdir("/")
    _check_reachable(sys.executable, (plan.agent, plan.helper))
    _check_port(plan.pinned.wireguard_port)
    _hand_over_state(plan.state_dir, plan.state_file, plan.agent)
    _hand_over_directory(plan.runtime_dir, plan.agent, 0o755, _is_ours_in_runtime_dir)
    hosts_fd = _open_hosts(plan.pinned)
    output = _start_logpipe(plan.helper)
    wireguard_go = _start_wireguard_go(plan.pinned.interface, plan.helper, plan.log_level, output)
    agents_end, helpers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    agent = _start_agent(plan, agents_end.fileno(), output)
    agents_end.close()
    _become_helper(plan, helpers_end.fileno(), hosts_fd, output, (agent, wireguard_go))


def fill_standard_descriptors() -> None:
    """Put /dev/null where 0, 1 or 2 is closed: else the next file opened, say the hosts file, becomes an output."""
    while True:
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > 2:
            os.close(fd)
            return
        os.set_inheritable(fd, True)


def resolve_users(text: str) -> tuple[Identity, Identity]:
    """Agent and helper from `AGENT[:HELPER]`, names or numeric ids. Raises LaunchError, naming the missing users."""
    agent, _, helper = text.partition(":")
    names = (agent, helper or DEFAULT_USERS.partition(":")[2])
    found = [_identity(name) for name in names]
    missing = [name for name, identity in zip(names, found, strict=True) if identity is None]
    if missing:
        adds = "; ".join(f"useradd --system --no-create-home --shell /usr/sbin/nologin {name}" for name in missing)
        raise LaunchError(f"no such user: {', '.join(missing)}; create it with: {adds}")
    agent_id, helper_id = found
    assert agent_id is not None  # noqa: S101 - `missing` is empty
    assert helper_id is not None  # noqa: S101 - `missing` is empty
    if 0 in (agent_id.uid, agent_id.gid, helper_id.uid, helper_id.gid) or agent_id.uid == helper_id.uid:
        raise LaunchError(f"--user {text}: agent and helper need two different users, neither of them root")
    return agent_id, helper_id


def _identity(name: str) -> Identity | None:
    if name.isascii() and name.isdigit():
        uid = int(name[:11])
        if uid > MAX_ID:
            raise LaunchError(f"--user: {name} is no user id; the highest is {MAX_ID}")
        try:
            return Identity(uid, pwd.getpwuid(uid).pw_gid)
        except KeyError:
            return Identity(uid, uid)
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Identity(entry.pw_uid, entry.pw_gid)


# --- checks ------------------------------------------------------------------------------------------------------


def _check_reachable(executable: str, users: Sequence[Identity]) -> None:
    """An interpreter or package below a private directory (say, /root) cannot be executed by the users that need it."""
    for path in (executable, os.path.realpath(executable), os.path.dirname(os.path.abspath(__file__))):
        for part in _prefixes(path):
            info = os.stat(part)
            if any(not _may_pass(info, user) for user in users):
                raise LaunchError(
                    f"uid {users[0].uid} and {users[1].uid} cannot reach {path}: {part} is closed to them; "
                    "install wesher where every user may read and execute it"
                )


def _prefixes(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: i + 1]) or "/" for i in range(len(parts))]


def _may_pass(info: os.stat_result, user: Identity) -> bool:
    owner, group = info.st_uid == user.uid, info.st_gid == user.gid
    bit = stat.S_IXUSR if owner else stat.S_IXGRP if group else stat.S_IXOTH
    return bool(info.st_mode & bit)


def _check_port(port: int) -> None:
    """wireguard-go only logs that its port is taken, and runs on deaf."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 - WireGuard listens on every address
        except OSError as error:
            raise LaunchError(
                f"WireGuard's UDP port {port} cannot be used: {error.strerror}; give another --wireguard-port"
            ) from None


# --- files -------------------------------------------------------------------------------------------------------


def _hand_over_state(directory: str, file: str, agent: Identity) -> None:
    """Make the state directory and give it and the state file to the agent.

    The file changes hands only while its directory is still root's: once the agent owns the directory, an earlier run
    of it may have put any root-owned file under that name (a hard link), and that stays root's.
    """
    fd = _open_directory(directory, agent, 0o700, _is_ours_in_state_dir)
    name = os.path.basename(file)
    try:
        state = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise LaunchError(f"state file {file} cannot be opened: {error.strerror}; move it aside") from None
    else:
        _hand_over_file(state, file, agent, may_be_roots=os.fstat(fd).st_uid == 0)
        os.close(state)
    _give(fd, agent, 0o700)


def _hand_over_file(fd: int, path: str, agent: Identity, *, may_be_roots: bool) -> None:
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
        raise LaunchError(f"state file {path} is no plain file of its own; move it aside")
    if info.st_uid != agent.uid and not (may_be_roots and info.st_uid == 0):
        raise LaunchError(
            f"state file {path} belongs to uid {info.st_uid}; move it aside, or: chown {agent.uid} {path}"
        )
    os.fchown(fd, agent.uid, agent.gid)
    os.fchmod(fd, 0o600)


def _hand_over_directory(path: str, agent: Identity, mode: int, is_ours: Callable[[str], bool]) -> None:
    """Make `path` if need be and give it to the agent."""
    _give(_open_directory(path, agent, mode, is_ours), agent, mode)


def _open_directory(path: str, agent: Identity, mode: int, is_ours: Callable[[str], bool]) -> int:
    """A descriptor of `path`, made if need be, once it may be given to the agent.

    A directory of root's may only if all in it is ours by name: a mistyped `--state-dir /etc` must not give away the
    system.
    """
    os.makedirs(os.path.dirname(path) or "/", mode=0o755, exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(path, mode)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise LaunchError(f"directory {path} cannot be used: {error.strerror}; remove it or name another") from None
    owner = os.fstat(fd).st_uid
    if owner not in (0, agent.uid) or (owner == 0 and not all(map(is_ours, os.listdir(fd)))):
        raise LaunchError(
            f"directory {path} belongs to uid {owner} and holds other things; "
            f"name another, or give it away: chown {agent.uid} {path}"
        )
    return fd


def _give(directory_fd: int, agent: Identity, mode: int) -> None:
    os.fchown(directory_fd, agent.uid, agent.gid)
    os.fchmod(directory_fd, mode)
    os.close(directory_fd)


def _is_ours_in_state_dir(name: str) -> bool:
    return name.endswith(".json") or ".json." in name


def _is_ours_in_runtime_dir(name: str) -> bool:
    return name.endswith(".sock")


def _open_hosts(pinned: Pinned) -> int | None:
    """The hosts file, opened before any agent exists; None, after one warning, where there is none to manage."""
    if not pinned.etc_hosts:
        return None
    try:
        fd = os.open(pinned.hosts_file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        _warn(f"{pinned.hosts_file} cannot be opened ({error.strerror}); peers' names will not be written")
        return None
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_uid != 0:
        os.close(fd)
        _warn(f"{pinned.hosts_file} is not a regular file of root's; peers' names will not be written")
        return None
    return fd


def _warn(text: str) -> None:
    print(f"wesher: warning: {text}", file=sys.stderr, flush=True)


# --- processes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Output:
    """Write ends of the pipes to logpipe: the agent's standard output, everybody's errors, the helper's own log."""

    out: int
    err: int
    log: int


def _start_logpipe(helper: Identity) -> Output:
    """The only one of us that keeps the operator's output, whatever that is: a terminal, a file, a pipe, a socket."""
    ends = [os.pipe() for _ in range(3)]

    def before_exec() -> None:
        os.setsid()  # Ctrl-C is for the helper; what is said about it must still come through
        helper.assume()

    readers = [reader for reader, _ in ends]
    argv = [sys.executable, "-I", "-m", "privhelper.logpipe"]
    _spawn(argv, _ENVIRONMENT, [_null(), _reopened(1), _reopened(2), *readers], before_exec)
    for reader in readers:
        os.close(reader)
    return Output(*(writer for _, writer in ends))


def _start_wireguard_go(interface: str, helper: Identity, log_level: str, output: Output) -> int:
    program = shutil.which("wireguard-go", path=_ENVIRONMENT["PATH"])
    if program is None:
        raise LaunchError(
            "no WireGuard of any kind: wireguard-go is not installed; install it (apt install wireguard-go)"
        )
    tun = _make_tun(interface, _tun_flags(program))
    listener = _uapi_listener(interface, helper)
    parent = os.getpid()

    def before_exec() -> None:
        os.setsid()
        helper.assume([NET_ADMIN])
        gain_nothing()
        die_with_parent()
        if os.getppid() != parent:
            os._exit(1)

    environment = _ENVIRONMENT | {
        "WG_TUN_FD": str(PEER_FD),
        "WG_UAPI_FD": str(EXTRA_FD),
        "WG_PROCESS_FOREGROUND": "1",
        # It reports an error whenever its link is deleted, which is how it is told to end.
        "LOG_LEVEL": "error" if log_level in ("debug", "info") else "silent",
    }
    # It logs to its standard output.
    fds = [_null(), output.err, output.err, tun, listener]
    pid = _spawn([program, "--foreground", interface], environment, fds, before_exec)
    os.close(tun)
    os.close(listener)
    return pid


def _tun_flags(program: str) -> int:
    answer = subprocess.run([program, "--version"], capture_output=True, check=False, timeout=10, env=_ENVIRONMENT)  # noqa: S603
    release = re.search(rb"\bv?0\.0\.([0-9]{8})", answer.stdout)
    if release is not None and int(release[1]) <= _LAST_WITH_PACKET_INFO:
        return _IFF_TUN
    return _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR


def _make_tun(interface: str, flags: int) -> int:
    """A new TUN link; an existing one of the name is never taken over."""
    try:
        fd = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise LaunchError(
            f"{_TUN} cannot be opened ({error.strerror}): userspace WireGuard needs it; load it with: modprobe tun"
        ) from None
    request = _IFREQ.pack(interface.encode("ascii"), flags | _IFF_TUN_EXCL, b"")
    try:
        fcntl.ioctl(fd, _TUNSETIFF, request)
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.EEXIST, errno.EINVAL):
            raise LaunchError(
                f"interface {interface} exists already; if nothing needs it: ip link del dev {interface}"
            ) from None
        raise LaunchError(f"interface {interface} cannot be made: {error.strerror}") from None
    return fd


def _uapi_listener(interface: str, helper: Identity) -> int:
    """Listen where wg(8) looks, for the helper's uid alone: who can connect can read the private key."""
    os.makedirs(DIRECTORY, mode=0o755, exist_ok=True)
    os.chmod(DIRECTORY, 0o755)  # noqa: S103 - wg(8) makes it so; the sockets in it are closed
    path = socket_path(interface)
    with suppress(FileNotFoundError):
        os.unlink(path)  # its link did not exist, so nothing serves it
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chown(path, helper.uid, helper.gid)
    os.chmod(path, 0o600)
    listener.listen(4)
    return listener.detach()


def _start_agent(plan: Plan, socket_fd: int, output: Output) -> int:
    config = os.memfd_create("wesher-agent", os.MFD_CLOEXEC)
    os.write(config, plan.agent_config)
    os.lseek(config, 0, os.SEEK_SET)

    def before_exec() -> None:
        os.setsid()
        plan.agent.assume()

    # Opened anew, so that only the agent's own writes do not block: a terminal on which the operator pressed Ctrl-S
    # must cost log lines, not acks.
    out, err = _reopened(output.out, os.O_NONBLOCK), _reopened(output.err, os.O_NONBLOCK)
    fds = [_null(), out, err, socket_fd, config]
    pid = _spawn([sys.executable, "-I", "-m", plan.agent_module], _ENVIRONMENT, fds, before_exec)
    os.close(config)
    return pid


def _become_helper(
    plan: Plan, socket_fd: int, hosts_fd: int | None, output: Output, children: Sequence[int]
) -> NoReturn:
    pinned = plan.pinned if hosts_fd is not None else replace(plan.pinned, etc_hosts=False)
    argv = [sys.executable, "-I", "-m", "privhelper", *pinned.to_argv(), "--log-level", plan.log_level]
    argv += ["--agent-fd", str(PEER_FD), "--children", ",".join(map(str, children))]
    extra = []
    if hosts_fd is not None:
        argv += ["--hosts-fd", str(EXTRA_FD)]
        extra = [hosts_fd]
    # A terminal that was stopped, or a reader that sleeps, must not stop the helper: it rather loses a log line.
    _install([_null(), _null(), _reopened(output.log, os.O_NONBLOCK), socket_fd, *extra])
    plan.helper.assume([NET_ADMIN])
    os.execve(argv[0], argv, _ENVIRONMENT)  # noqa: S606 - an absolute path and a clean environment


def _spawn(
    argv: Sequence[str], environment: Mapping[str, str], fds: Sequence[int], before_exec: Callable[[], None]
) -> int:
    """Fork and exec with `fds` as descriptors 0, 1, 2 … and nothing else; the child's pid."""
    if (pid := os.fork()) != 0:
        return pid
    try:
        _install(fds)
        before_exec()
        os.execve(argv[0], list(argv), dict(environment))  # noqa: S606 - an absolute path and a clean environment
    except BaseException as error:  # a forked child must never return into its parent's code
        os.write(2, f"wesher: error: {argv[0]} cannot be started: {error}\n".encode())
    finally:
        os._exit(1)


def _reopened(fd: int, flags: int = 0) -> int:
    """`fd` opened anew for appending, so that several writers of one file do not overwrite each other, and so that
    `flags` are ours alone. What cannot be opened (a journal's socket) stays as it is."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC | flags)
    except OSError:
        return fd


def _null() -> int:
    return os.open(os.devnull, os.O_RDWR)


def _install(fds: Sequence[int]) -> None:
    """What every process starts with: `fds` as descriptors 0, 1, 2 … and no other, new files for its own eyes."""
    above = len(fds)
    os.umask(0o077)
    safe = [fcntl.fcntl(fd, fcntl.F_DUPFD, max(above, 16)) for fd in fds]
    for number, fd in enumerate(safe):
        os.dup2(fd, number, inheritable=True)
    close_all_but(above)
