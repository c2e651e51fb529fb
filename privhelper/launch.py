"""The launcher: as root, make what needs root, start the agent with nothing, and become the helper.

    check that it can work; make the directories; open the hosts file; see which WireGuard there is
    logpipe         fork, exec    helper's uid, no capability, own session    0-2, 3-5 their output, 6 the leash
    wireguard-go    fork, exec    helper's uid, CAP_NET_ADMIN, own session    3 TUN, 4 UAPI listener; if it is needed
    agent           fork, exec    agent's uid, no capability, own session     3 helper, 4 its configuration
    helper          exec, same pid, helper's uid, CAP_NET_ADMIN         3 agent, hosts file, UAPI connection, leash

Each is exec'ed, so none has the launcher's memory. No launcher stays: the helper is the parent and the main pid.
The agent's configuration, with the cluster key, travels in a memfd and nowhere else. All but
logpipe have /dev/null and pipes to it as 0 to 2; the network-facing ones have no controlling terminal.

`attach` is the split layout's part: nothing is made, this process becomes the agent of a helper that runs already.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from privhelper import leash, lockdown, signals, wireguard_go
from privhelper.door import take_no_descriptors
from privhelper.handover import check_reachable, hand_over_runtime, hand_over_state
from privhelper.hosts import HostsUnavailable, open_hosts
from privhelper.notify import Notify
from privhelper.options import Pinned
from privhelper.sandbox import NET_ADMIN, Identity
from privhelper.spawn import (
    ENVIRONMENT,
    LaunchError,
    fill_standard_descriptors,
    install,
    null,
    reopened,
    spawn,
)

AGENT_FD: Final = 3
"""The socket to the other half, in either half."""
CONFIG_FD: Final = 4
"""The agent's configuration."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the launcher needs. `agent_config` is opaque here, and secret; `wireguard` as in options;
    `check_agent` raises LaunchError where the agent could not run, which only its side knows."""

    pinned: Pinned
    wireguard: str
    agent: Identity
    helper: Identity
    agent_module: str
    agent_config: bytes
    check_agent: Callable[[], None]
    state_dir: str
    state_file: str
    runtime_dir: str
    log_level: str
    log_format: str
    sandbox: str


def launch(plan: Plan) -> NoReturn:
    """Carry out `plan`; on success this process has become the helper. Raises LaunchError."""
    _prepare()
    check_reachable(sys.executable, (plan.agent, plan.helper))
    _check_sandbox(plan)
    plan.check_agent()
    in_kernel = _survey(plan)
    hand_over_state(plan.state_dir, plan.state_file, plan.agent)
    hand_over_runtime(plan.runtime_dir, plan.agent)
    hosts_fd = _open_hosts(plan.pinned)
    collar, hand = os.pipe()
    output = _start_logpipe(plan.helper, plan.sandbox, collar)
    started: list[int] = []
    uapi = None
    if not in_kernel:
        pid, uapi = wireguard_go.start(plan.pinned.interface, plan.helper, plan.log_level, output.err)
        started.append(pid)
    agents_end, helpers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    take_no_descriptors(helpers_end)
    started.append(_start_agent(plan, agents_end.fileno(), output))
    leash.tie(collar, started[-1])
    agents_end.close()
    _become_helper(plan, helpers_end.fileno(), hosts_fd, uapi, output.log, hand, started)


def attach(plan: Plan, helper_socket: str) -> NoReturn:
    """Become the agent of the helper that listens on `helper_socket`. Raises LaunchError."""
    _prepare()
    check_reachable(sys.executable, (plan.agent, plan.agent))
    _check_sandbox(plan)
    plan.check_agent()
    try:
        os.stat(helper_socket)  # before anything is made; whether somebody is behind it, only the agent's uid may ask
    except OSError as error:
        raise _no_helper(helper_socket, error) from None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    hand_over_state(plan.state_dir, plan.state_file, plan.agent)
    hand_over_runtime(plan.runtime_dir, plan.agent)
    out, err = _beside_a_terminal(plan)
    install([null(), out, err, connection.detach(), _config(plan)])
    plan.agent.assume()
    # By its own uid, which the helper asks the kernel for.
    connection = socket.socket(fileno=AGENT_FD)
    try:
        connection.connect(helper_socket)
    except OSError as error:
        raise _no_helper(helper_socket, error) from None
    connection.detach()
    signals.hold()
    argv = [sys.executable, "-I", "-m", plan.agent_module]
    os.execve(argv[0], argv, ENVIRONMENT | _for_service_manager())  # noqa: S606 - an absolute path, a clean environment


def _beside_a_terminal(plan: Plan) -> tuple[int, int]:
    """What the agent writes to. A terminal is logpipe's, as in the other layout: with it the agent could ask for a
    password, and hear it. As there, a terminal that is stopped costs log lines, not acks."""
    if not (os.isatty(1) or os.isatty(2)):
        return os.dup(1), os.dup(2)
    output = _start_logpipe(plan.agent, plan.sandbox)
    return reopened(output.out, os.O_NONBLOCK), reopened(output.log, os.O_NONBLOCK)


def _no_helper(path: str, error: OSError) -> LaunchError:
    return LaunchError(f"no helper answers on {path}: {error.strerror}; start wesher-privhelper, or name its socket")


def _prepare() -> None:
    signals.end_by_interrupt()
    fill_standard_descriptors()
    os.umask(0o022)
    os.chdir("/")


# --- checks ------------------------------------------------------------------------------------------------------


def _check_sandbox(plan: Plan) -> None:
    try:
        lockdown.check(plan.sandbox)
    except lockdown.NoSandbox as error:
        raise LaunchError(str(error)) from None


def _survey(plan: Plan) -> bool:
    """Whether the kernel's WireGuard will do. Raises LaunchError where the overlay, the link's name or the port is in
    the way."""
    # Not at the top: it brings pyroute2 along, which the commands beside the daemon need not wait for.
    from privhelper.survey import Survey, kernel_gives_wireguard  # noqa: PLC0415

    with closing(Survey(plan.pinned)) as survey:
        warning = survey.overlay()
        in_kernel = kernel_gives_wireguard(plan.wireguard)
        if survey.finds_stale_link(in_kernel=in_kernel):
            survey.clear_stale_link()
        if not in_kernel:
            wireguard_go.find()
        survey.port()
    if warning is not None:
        _warn(warning)
    return in_kernel


def _open_hosts(pinned: Pinned) -> int | None:
    """The hosts file, opened before any agent exists; None, after one warning, where there is none to manage."""
    if not pinned.etc_hosts:
        return None
    try:
        return open_hosts(pinned.hosts_file)
    except HostsUnavailable as error:
        _warn(f"{error}; peers' names will not be written: put it right, or give --hosts-file or --no-etc-hosts")
        return None


def _warn(text: str) -> None:
    print(f"wesher: warning: {text}", file=sys.stderr, flush=True)


# --- processes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Output:
    """Write ends of the pipes to logpipe: the agent's standard output, everybody's errors, the helper's own log."""

    out: int
    err: int
    log: int


def _start_logpipe(identity: Identity, sandbox: str, *kept: int) -> Output:
    """The only one of us that keeps the operator's output, whatever that is: a terminal, a file, a pipe, a socket.
    `kept` are descriptors that it only has to have, as long as it lives."""
    ends = [os.pipe() for _ in range(3)]

    def before_exec() -> None:
        os.setsid()  # Ctrl-C is for the helper; what is said about it must still come through
        signals.hold()  # for good, also when all are told to end: it ends with its last writer, and keeps the leash
        identity.assume()

    readers = [reader for reader, _ in ends]
    argv = [sys.executable, "-I", "-m", "privhelper.logpipe", sandbox]
    spawn(argv, ENVIRONMENT, [null(), reopened(1), reopened(2), *readers, *kept], before_exec)
    for end in readers:
        os.close(end)
    return Output(*(writer for _, writer in ends))


def _start_agent(plan: Plan, socket_fd: int, output: Output) -> int:
    config = _config(plan)

    def before_exec() -> None:
        os.setsid()
        signals.hold()
        plan.agent.assume()

    # Opened anew, so that only the agent's own writes do not block: a terminal on which the operator pressed Ctrl-S
    # must cost log lines, not acks.
    out, err = reopened(output.out, os.O_NONBLOCK), reopened(output.err, os.O_NONBLOCK)
    fds = [null(), out, err, socket_fd, config]
    pid = spawn([sys.executable, "-I", "-m", plan.agent_module], ENVIRONMENT, fds, before_exec)
    os.close(config)
    return pid


def _config(plan: Plan) -> int:
    fd = os.memfd_create("wesher-agent", os.MFD_CLOEXEC)
    os.write(fd, plan.agent_config)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _become_helper(
    plan: Plan,
    socket_fd: int,
    hosts_fd: int | None,
    uapi_fd: int | None,
    log_fd: int,
    hand: int,
    children: Sequence[int],
) -> NoReturn:
    pinned = plan.pinned if hosts_fd is not None else replace(plan.pinned, etc_hosts=False)
    argv = [sys.executable, "-I", "-m", "privhelper", *pinned.to_argv()]
    argv += [f"--log-level={plan.log_level}", f"--log-format={plan.log_format}", f"--sandbox={plan.sandbox}"]
    argv += [f"--wireguard={'kernel' if uapi_fd is None else 'userspace'}", f"--agent-fd={AGENT_FD}"]
    argv += [f"--children={','.join(map(str, children))}"]
    # A terminal that was stopped, or a reader that sleeps, must not stop the helper: it rather loses a log line.
    fds = [null(), null(), reopened(log_fd, os.O_NONBLOCK), socket_fd]
    for name, fd in (("hosts-fd", hosts_fd), ("uapi-fd", uapi_fd)):
        if fd is not None:
            argv.append(f"--{name}={len(fds)}")
            fds.append(fd)
    install([*fds, hand])  # which it only has to have, as long as it lives
    signals.hold()
    plan.helper.assume([NET_ADMIN])
    os.execve(argv[0], argv, ENVIRONMENT | _for_service_manager())  # noqa: S606 - an absolute path, a clean environment


def _for_service_manager() -> dict[str, str]:
    """What the main process needs to talk to its service manager; it forgets it as soon as it has read it."""
    return {name: os.environ[name] for name in Notify.VARIABLES if name in os.environ}
