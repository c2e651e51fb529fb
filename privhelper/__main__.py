"""The helper's composition root: take what was inherited, confine, serve one agent, take everything down.

    python -I -m privhelper PINNED OPTIONS --agent-fd 3 [--hosts-fd 4]

The first byte of the agent's is read when nothing is left to give up. Exit status: 0 after BYE, else 1.
"""

from __future__ import annotations

import argparse
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from privhelper import link as rtnl
from privhelper import userspace
from privhelper.hosts import HostsFile
from privhelper.monitor import Monitor
from privhelper.options import NODE_NAME, PINNED, Option, Pinned, pin
from privhelper.protocol import MAX_MESSAGE, Event, HostsResult, Peer, Violation, encode_event
from privhelper.sandbox import NET_ADMIN, confine

TERMINATE_WITHIN: Final = 10.0
"""Seconds an agent has, once told to terminate, to leave the mesh and say BYE."""

RESOLVER_FILES: Final = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
"""Where this host's name servers stand; behind systemd-resolved's stub only the second names them."""

CHILDREN_WITHIN: Final = 1.0
"""Seconds the processes that end with us are waited for."""

_EVENTS: Final = {
    signal.SIGTERM: Event.TERMINATE,
    signal.SIGINT: Event.TERMINATE,
    signal.SIGHUP: Event.RELOAD,
}

log = logging.getLogger("helper")


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line, parsed."""

    pinned: Pinned
    agent_fd: int
    hosts_fd: int | None
    children: tuple[int, ...]
    log_level: str


class NoHosts:
    """Under `--no-etc-hosts`: nothing is read and nothing written."""

    def taken_names(self) -> frozenset[str]:
        """No name is taken."""
        return frozenset()

    def write(self, peers: Sequence[Peer]) -> HostsResult:  # noqa: ARG002 - the shape of Hosts
        """Nothing."""
        return HostsResult.DISABLED

    def clear(self) -> None:
        """Nothing."""


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Parse the helper's command line; exits 2 with one line where it is wrong."""
    parser = argparse.ArgumentParser(prog="wesher-privhelper", allow_abbrev=False, add_help=True)
    for option in (NODE_NAME, *PINNED):
        _declare(parser, option)
    parser.add_argument("--log-level", default="warn", choices=("debug", "info", "warn", "error"))
    parser.add_argument("--agent-fd", type=int, help="descriptor of the socket to the agent")
    parser.add_argument("--hosts-fd", type=int, help="descriptor of the hosts file")
    parser.add_argument("--children", type=_pids, default=(), help="processes that end with us, by pid")
    found = vars(parser.parse_args(argv))
    if found["agent_fd"] is None:
        parser.error("this version is started by `wesher`, which gives it --agent-fd; there is no --listen yet")
    values = {option.name: found[option.name.replace("-", "_")] for option in PINNED}
    try:
        pinned = pin(found["node_name"] or NODE_NAME.parse(socket.gethostname()), values)
    except ValueError as error:
        parser.error(str(error))
    return Arguments(pinned, found["agent_fd"], found["hosts_fd"], found["children"], found["log_level"])


def _pids(text: str) -> tuple[int, ...]:
    return tuple(int(pid) for pid in text.split(","))


def _declare(parser: argparse.ArgumentParser, option: Option) -> None:
    def parse(text: str) -> Any:
        try:
            return option.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    if option.metavar is None:
        parser.add_argument(f"--{option.name}", action="store_true", help=option.text)
    else:
        default = option.default or None
        parser.add_argument(f"--{option.name}", metavar=option.metavar, type=parse, default=default, help=option.text)


class Signals:
    """Signals as readable bytes, so that one loop waits for everything."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        for number in _EVENTS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)

    def fileno(self) -> int:
        """Readable when a signal has come."""
        return self._receiver.fileno()

    def pending(self) -> list[Event]:
        """The events that stand for the signals that have come, each once."""
        numbers = set(self._receiver.recv(4096))
        return sorted({_EVENTS[signal.Signals(number)] for number in numbers if number in _EVENTS})


class Server:
    """One agent served until BYE, EOF, a violation, or the end of wireguard-go."""

    def __init__(self, agent: socket.socket, monitor: Monitor, device: userspace.UserspaceDevice) -> None:
        self._agent = agent
        self._monitor = monitor
        self._device = device
        self._signals = Signals()
        self._deadline: float | None = None
        self._selector = selectors.PollSelector()
        self._selector.register(agent, selectors.EVENT_READ, self._on_agent)
        self._selector.register(device, selectors.EVENT_READ, self._on_device)
        self._selector.register(self._signals, selectors.EVENT_READ, self._on_signal)
        self._status: int | None = None

    def run(self) -> int:
        """Serve; the exit status."""
        while self._status is None:
            for key, _ in self._selector.select(self._remaining()):
                key.data()
                if self._status is not None:
                    break
            if self._deadline is not None and time.monotonic() >= self._deadline and self._status is None:
                log.error("the agent did not say goodbye within %.0f s", TERMINATE_WITHIN)
                self._status = 1
        return self._status

    def _remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _on_agent(self) -> None:
        # recv, not recvmsg: descriptors an agent sends along are dropped by the kernel. A longer message would be
        # cut to one byte more than is legal, hence told apart. An empty packet looks like EOF and means the same.
        try:
            data = self._agent.recv(MAX_MESSAGE + 1)
        except ConnectionResetError:  # it ended with a reply unread
            data = b""
        if not data:
            if not self._monitor.ended:
                log.info("the agent is gone")
            self._status = 0 if self._monitor.ended else 1
            return
        self._send(self._monitor.receive(data))
        if self._monitor.ended:
            self._deadline = time.monotonic() + TERMINATE_WITHIN

    def _on_device(self) -> None:
        if self._monitor.ended:  # we have just deleted its link
            self._selector.unregister(self._device)
            return
        log.error("wireguard-go is gone")
        self._status = 1

    def _on_signal(self) -> None:
        for event in self._signals.pending():
            log.info("telling the agent: %s", event.name.lower())
            self._send(encode_event(event))
            if event is Event.TERMINATE and self._deadline is None:
                self._deadline = time.monotonic() + TERMINATE_WITHIN

    def _send(self, data: bytes) -> None:
        """Never wait for the agent: who does not read its one reply is none of ours."""
        try:
            self._agent.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BrokenPipeError:
            self._status = 0 if self._monitor.ended else 1
        except BlockingIOError:
            log.error("the agent does not read its replies")
            self._status = 1


def serve(arguments: Arguments) -> int:
    """Set the device up, serve the agent, take everything down. Raises OSError where it cannot start."""
    pinned = arguments.pinned
    agent = socket.socket(fileno=arguments.agent_fd)
    agent.setblocking(False)
    device = userspace.connect(pinned.interface)
    netlink = rtnl.open_netlink()
    resolvers = rtnl.resolvers("".join(map(_text_of, RESOLVER_FILES)))
    found = rtnl.find(netlink, pinned.interface)
    if found is None or not rtnl.is_tun(found):
        log.error("interface %s is not there", pinned.interface)
        return 1
    link = rtnl.RtnlLink(netlink, found["index"], pinned.overlay_net, resolvers)
    confine([NET_ADMIN])
    # landlock (nothing at all) and seccomp belong here, before the agent's first byte.
    hosts: HostsFile | NoHosts = NoHosts()
    if arguments.hosts_fd is not None:
        hosts = HostsFile(arguments.hosts_fd, pinned.hosts_file, pinned.interface, alone=not link.others())
    public_key = device.create(pinned.wireguard_port)
    link.bring_up(pinned.mtu)
    monitor = Monitor(pinned, device, link, hosts, public_key=public_key)
    violation = None
    try:
        status = Server(agent, monitor, device).run()
    except Violation as caught:
        violation, status = caught, 1
    finally:  # whatever happened; said is it only when all is down
        if not monitor.ended:
            monitor.take_down()
        agent.close()
    if violation is not None:
        log.error("violation: %s", violation.code.value)
    for error in monitor.failures:
        log.error("taking down: %s", error.strerror)
    _await_children(arguments.children)
    return 1 if monitor.failures else status


def _await_children(pids: Sequence[int]) -> None:
    """Our end is the end of all of us: wait for the agent and wireguard-go, which are ending by themselves."""
    waiting, deadline = set(pids), time.monotonic() + CHILDREN_WITHIN
    while waiting and time.monotonic() < deadline:
        for pid in list(waiting):
            if _has_ended(pid):
                waiting.discard(pid)
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
    arguments = parse_arguments(sys.argv[1:])
    logging.basicConfig(
        level={"debug": 10, "info": 20, "warn": 30, "error": 40}[arguments.log_level],
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.raiseExceptions = False  # a log line that cannot be written is lost; it must not cost more than itself
    logging.getLogger("pyroute2").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    try:
        status = serve(arguments)
    except OSError as error:
        log.error("cannot start: %s", error.strerror or error)
        status = 1
    # Not sys.exit: nothing that is left to run at exit may hold up or change what has been decided.
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
