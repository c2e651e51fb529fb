"""The helper's composition root: open everything, confine, serve agents, take everything down.

The first byte of an agent's is read when nothing is left to give up. Exit status: 0 after BYE or a terminate without
an agent, 1 after any error, 2 for wrong usage, each with one line.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from privhelper import ground, inherited, logs, refusals, signals, userspace
from privhelper import link as rtnl
from privhelper.arguments import Arguments, parse_arguments
from privhelper.device import Device
from privhelper.door import take_no_descriptors
from privhelper.hosts import HostsFile, HostsUnavailable, open_hosts
from privhelper.identity import BadUsers, resolve_users
from privhelper.kernel import KernelDevice
from privhelper.landlock import Grants
from privhelper.link import RtnlLink
from privhelper.lockdown import Lockdown, NoSandbox
from privhelper.notify import Notify
from privhelper.options import Pinned
from privhelper.profiles import HELPER
from privhelper.protocol import HostsResult, Violation
from privhelper.sandbox import CHOWN, NET_ADMIN, SETUID, Identity, has_capability
from privhelper.server import Doors, Server, Signals
from privhelper.tunnels import Tunnels
from privhelper.watch import Watch

RESOLVER_FILES: Final = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
"""Where this host's name servers stand; behind systemd-resolved's stub only the second names them."""

DESCRIPTORS: Final = 64
"""What the helper may have open: it needs a dozen, and a few more where a service manager passes some."""

CHILDREN_WITHIN: Final = 1.0
"""Seconds the processes that end with us are waited for."""

log = logging.getLogger("helper")


class StartError(Exception):
    """Why the helper cannot run, in one line."""


class NoHosts:
    """Where there is no hosts file to manage: nothing is read and nothing written."""

    def taken_names(self) -> frozenset[str]:
        """No name is taken."""
        return frozenset()

    def lacks(self, lines: Sequence[object]) -> bool:  # noqa: ARG002 - the shape of Hosts
        """Nothing was written."""
        return False

    def write(self, lines: Sequence[object]) -> HostsResult:  # noqa: ARG002 - the shape of Hosts
        """Nothing."""
        return HostsResult.DISABLED

    def clear(self) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class WireGuard:
    """The back end: its device, its link, and what becomes readable when it is gone (nothing, for the kernel's)."""

    device: Device
    link: RtnlLink
    gone: userspace.UserspaceDevice | None


def serve(arguments: Arguments) -> int:
    """Set everything up, serve, take everything down. Raises StartError, NoSandbox, and OSError where the kernel says
    no."""
    if not has_capability(NET_ADMIN):
        raise StartError(refusals.NEEDS_NET_ADMIN)
    lockdown = Lockdown(arguments.sandbox)
    notify, doors, hosts_fd = _given(arguments)
    wireguard = _wireguard(arguments)
    if arguments.agent_fd is None:  # else the launcher has looked, and opened
        _check_ground(arguments.pinned, wireguard.link)
        _check_port(arguments.pinned, wireguard)
        doors, hosts_fd = _open(arguments, doors, hosts_fd)
    pinned = arguments.pinned if hosts_fd is not None else replace(arguments.pinned, etc_hosts=False)
    hosts: HostsFile | NoHosts = NoHosts()
    if hosts_fd is not None:
        alone = not wireguard.link.others()
        hosts = HostsFile(hosts_fd, pinned.hosts_file, pinned.interface, alone=alone, host_name=socket.gethostname())
    tunnels = Tunnels(pinned, wireguard.device, wireguard.link, hosts)
    signals.hold()  # who is told to end from now on has something to take down
    told, watch, own_port = Signals(), Watch(), rtnl.port_of(wireguard.link.netlink)
    _lock_down(lockdown, arguments)
    tunnels.set_up()
    violation = None
    try:
        status = Server(tunnels, doors, notify, told, watch, own_port, wireguard.gone).run()
    except Violation as caught:
        violation, status = caught, 1
    finally:  # whatever happened; said is it only when all is down
        if tunnels.public_key is not None:
            tunnels.take_down()
        if doors.agent is not None:
            doors.agent.close()
    if violation is not None:
        log.error("violation: %s", violation.code.value)
    for error in tunnels.failures:
        log.error("taking down: %s", error.strerror)
    _await_children(arguments.children)
    return 1 if tunnels.failures else status


def _lock_down(lockdown: Lockdown, arguments: Arguments) -> None:
    """From here on nothing is opened: netlink, the agent's socket, UAPI and the hosts file are, and that is all."""
    if arguments.listen is not None and has_capability(SETUID):
        _users(arguments)[1].assume([NET_ADMIN])
    lockdown.privileges([NET_ADMIN])
    # Signals stay possible, or PR_SET_PDEATHSIG would not reach wireguard-go: the kernel asks whether we, dying, may
    # send it. The profile has no call that sends one.
    lockdown.files(Grants(signals=True))
    lockdown.calls(HELPER, descriptors=DESCRIPTORS)
    if lockdown.remark is not None:
        log.warning("%s", lockdown.remark)


def _given(arguments: Arguments) -> tuple[Notify, Doors, int | None]:
    """The service manager's ear, and what it or the launcher has opened: where agents come from, and the hosts file."""
    notify = Notify(os.environ)
    hosts_fd, doors = arguments.hosts_fd, Doors()
    passed = inherited.passed(os.environ, os.getpid())
    for name in (*inherited.VARIABLES, *Notify.VARIABLES):
        os.environ.pop(name, None)
    if arguments.agent_fd is not None:
        return notify, Doors(agent=socket.socket(fileno=arguments.agent_fd)), hosts_fd
    for name, fd in passed:
        if name == "hosts" or stat.S_ISREG(os.fstat(fd).st_mode):
            hosts_fd = fd
        else:
            doors = _doors(arguments, socket.socket(fileno=fd))  # listens already: who is quick keeps what he had
    if doors.listener is None:
        if arguments.listen is None:
            raise StartError("nothing to do: give --listen PATH, or start `wesher`, which starts this program itself")
        _check_alone(arguments.listen)
        _agent_uid(arguments)
    return notify, doors, hosts_fd


def _open(arguments: Arguments, doors: Doors, hosts_fd: int | None) -> tuple[Doors, int | None]:
    """What nobody has opened for us; last of all, so that a start that is refused leaves nothing."""
    if doors.listener is None and arguments.listen is not None:
        doors = _doors(arguments, _listen(arguments.listen, _agent_uid(arguments)))
    if hosts_fd is None and arguments.pinned.etc_hosts:
        hosts_fd = _open_hosts(arguments.pinned)
    return doors, hosts_fd


def _doors(arguments: Arguments, listener: socket.socket) -> Doors:
    if listener.family != socket.AF_UNIX or listener.type != socket.SOCK_SEQPACKET:
        raise StartError("the socket passed by the service manager is none; give it ListenSequentialPacket=")
    take_no_descriptors(listener)
    return Doors(listener=listener, agent_uid=_agent_uid(arguments), linger=arguments.linger)


def _check_alone(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(path)
        except PermissionError:  # it may be dead, or the socket of a helper that was started as root
            raise StartError(f"{path} is another user's; if no helper listens there: rm {path}") from None
        except OSError:
            return
    raise StartError(f"another helper listens on {path}; stop it, or give another --listen and --interface")


def _listen(path: str, agent_uid: int) -> socket.socket:
    """A socket for the agent alone. Who may connect is decided by uid; the mode only keeps others from trying."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    take_no_descriptors(listener)
    try:
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise StartError(f"--listen {path} is something else than a socket; name another path")
            os.unlink(path)
        # The mode is the bind's and the owner never follows a link: the directory may be another user's than ours. What
        # is not ours to give away is open to all; then its directory and the uid check keep others out.
        may_give = has_capability(CHOWN)
        with _umask(0o177 if may_give else 0o111):
            listener.bind(path)
        if may_give:
            os.chown(path, agent_uid, -1, follow_symlinks=False)
        listener.listen(4)
    except OSError as error:
        raise StartError(f"cannot listen on {path}: {error.strerror}; its directory must be there and ours") from None
    return listener


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _agent_uid(arguments: Arguments) -> int:
    return arguments.agent_uid if arguments.agent_uid is not None else _users(arguments)[0].uid


def _users(arguments: Arguments) -> tuple[Identity, Identity]:
    try:
        return resolve_users(arguments.users)
    except BadUsers as error:
        raise StartError(str(error)) from None


def _open_hosts(pinned: Pinned) -> int | None:
    fd = inherited.hosts_on_standard_input(pinned.hosts_file)
    if fd is not None:
        return fd
    try:
        return open_hosts(pinned.hosts_file)
    except HostsUnavailable as error:
        log.warning("%s; peers' names will not be written: put it right, or give --hosts-file or --no-etc-hosts", error)
        return None


def _wireguard(arguments: Arguments) -> WireGuard:
    """The back end asked for. wireguard-go that serves a TUN of our name was started for us: it is taken as it is."""
    pinned, kind = arguments.pinned, arguments.wireguard
    netlink = rtnl.open_netlink()
    wanted = rtnl.Wanted(pinned.interface, pinned.overlay_net, pinned.mtu)
    resolvers = rtnl.resolvers("".join(map(_text_of, RESOLVER_FILES)))
    found = rtnl.find(netlink, pinned.interface)
    if found is not None and found.kind not in (rtnl.TUN, rtnl.WIREGUARD):
        raise StartError(refusals.exists_already(pinned.interface))
    if kind == "userspace" or (kind == "auto" and found is not None and found.kind == rtnl.TUN):
        if found is None or found.kind != rtnl.TUN:
            raise StartError(refusals.not_served(pinned.interface))
        process = _connect(arguments)
        keep = arguments.uapi_fd is None  # the administrator's, and not ours to delete
        link = RtnlLink(netlink, wanted, _not_looked_at, resolvers, given=found.index, keep=keep)
        return WireGuard(process, link, process)
    try:
        device = KernelDevice(lambda: link.index)
    except OSError:
        if kind == "kernel":
            raise StartError(refusals.NO_KERNEL_WIREGUARD) from None
        raise StartError(refusals.no_wireguard(pinned.interface)) from None
    link = RtnlLink(netlink, wanted, device.is_bare, resolvers)
    return WireGuard(device, link, None)


def _not_looked_at(index: int) -> bool:  # noqa: ARG001 - the shape of is_bare
    """A link that was given is never taken for a stale one."""
    return False


def _check_ground(pinned: Pinned, link: RtnlLink) -> None:
    try:
        warning = ground.check(pinned, link.surroundings().networks, has_ipv6=rtnl.has_ipv6())
    except ground.NoGround as error:
        raise StartError(str(error)) from None
    if warning is not None:
        log.warning("%s", warning)


def _check_port(pinned: Pinned, wireguard: WireGuard) -> None:
    """A wireguard-go that served us before has the port already, and may."""
    if wireguard.gone is None:
        wireguard.link.clear_stale()
    elif wireguard.gone.holding().port == pinned.wireguard_port:
        return
    try:
        rtnl.check_port(pinned.wireguard_port)
    except OSError as error:
        raise StartError(
            f"WireGuard's UDP port {pinned.wireguard_port} cannot be used: {error.strerror}; "
            "give another --wireguard-port"
        ) from None


def _connect(arguments: Arguments) -> userspace.UserspaceDevice:
    if arguments.uapi_fd is not None:
        return userspace.UserspaceDevice(socket.socket(fileno=arguments.uapi_fd))
    interface = arguments.pinned.interface
    try:
        return userspace.connect(interface)
    except OSError as error:
        raise StartError(
            f"interface {interface} is there, but nothing answers on {userspace.socket_path(interface)} "
            f"({error.strerror}); if nothing needs it: ip link del dev {interface}"
        ) from None


def _await_children(pids: Sequence[int]) -> None:
    """Our end is the end of all of us: wait for the agent and wireguard-go, which are ending by themselves."""
    waiting, deadline = set(pids), time.monotonic() + CHILDREN_WITHIN
    while waiting and time.monotonic() < deadline:
        for pid in list(waiting):
            if _has_ended(pid):
                waiting.discard(pid)
        time.sleep(0.01)


def _let_logpipe_finish() -> None:
    """What has been said comes out: logpipe ends with its last writer, which is this process, and a service manager
    kills at once who is left when the main process is gone."""
    deadline = time.monotonic() + CHILDREN_WITHIN
    with suppress(OSError):  # nobody is left
        os.close(2)
        while time.monotonic() < deadline:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.01)


def _has_ended(pid: int) -> bool:
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    if ended and os.WIFSIGNALED(status):
        log.warning("process %d was ended by signal %d", pid, os.WTERMSIG(status))
    return bool(ended)


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(65536) + "\n"
    except OSError:
        return ""


def main() -> NoReturn:
    """The console script `wesher-privhelper`."""
    arguments = parse_arguments(sys.argv[1:], os.environ)
    logs.configure(arguments.log_level, arguments.log_format)
    try:
        status = serve(arguments)
    except (StartError, NoSandbox) as error:
        print(f"wesher: error: {error}", file=sys.stderr, flush=True)
        status = 1
    except OSError as error:
        print(f"wesher: error: cannot start: {error.strerror or error}", file=sys.stderr, flush=True)
        status = 1
    # Not sys.exit: nothing that is left to run at exit may hold up or change what has been decided.
    with suppress(OSError):
        sys.stderr.flush()
    if arguments.children:
        _let_logpipe_finish()
    os._exit(status)


if __name__ == "__main__":
    main()
