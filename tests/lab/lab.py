"""Machines that never were: each `Node` is a set of namespaces with an Ethernet port on a bridge that has a network
namespace to itself, so nothing of a lab shows on the host. A node shares the host's programs, read-only, and has its
own /etc (a copy), /run, /var/lib, /tmp and /dev/shm, all in memory."""

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.namespaces import ENV, Namespaces, children, direct_children, is_stopped, run_to_end
from tests.lab.until import bound, until

PRIVATE = ("/run", "/var/lib", "/tmp", "/dev/shm")
VENVS = ("/var/cache/wesher/dev", "/var/cache/wesher/run")  # made by dist/setup.sh

NODE = f"""
mount -t tmpfs -o mode=0755 tmpfs /run
cp -a /etc/. /run/ 2>/dev/null || cp -a /etc/. /run/ # once more: a lock file vanishes while a package is installed
mount --move /run /etc
for directory in {" ".join(PRIVATE)}; do mount -t tmpfs -o mode=0755 tmpfs "$directory"; done
chmod 1777 /tmp /dev/shm
mount -t sysfs sysfs /sys
mount -o remount,bind,ro /
echo "$1" > /proc/sys/kernel/hostname
echo "$1" > /etc/hostname
rm -f /etc/hosts /etc/resolv.conf
: > /etc/hosts
echo "options attempts:1 timeout:1" > /etc/resolv.conf
chown 0:0 /etc/hosts
chmod 0644 /etc/hosts /etc/resolv.conf
[ ! -e /proc/sys/net/ipv6 ] || echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6
"""

BRIDGE = """
ip link add name lan type bridge mcast_snooping 0
ip link set dev lan up
"""


def default_hosts(name: str, number: int, nodes: int) -> bytes:
    """An operator's hosts file: local names, underlay names (never the mesh's), and lines and comments of his own."""
    underlay = [f"192.168.77.{other}\tnode{other}-underlay" for other in range(1, max(nodes, number) + 1)]
    own = ["# the operator's own lines", "192.0.2.10\tprinter.example.net printer  # second floor"]
    return "\n".join(
        ["127.0.0.1\tlocalhost", f"127.0.1.1\t{name}", "::1\tlocalhost ip6-localhost", *underlay, "", *own, ""]
    ).encode()


def wesher_command() -> str:
    """The `wesher` to test: WESHER_BIN, else the one in a venv that dist/setup.sh made."""
    candidates = (
        [os.environ["WESHER_BIN"]] if os.environ.get("WESHER_BIN") else [f"{venv}/bin/wesher" for venv in VENVS]
    )
    command = next((path for path in candidates if os.access(path, os.X_OK)), None)
    if command is None:
        raise RuntimeError(
            f"no wesher to run: {' and '.join(candidates)} missing; set WESHER_BIN or run dist/test.sh once"
        )
    if any(Path(command).resolve().is_relative_to(hidden) for hidden in PRIVATE):
        raise RuntimeError(f"{command} cannot be seen inside a node, which has its own {', '.join(PRIVATE)}")
    return os.path.abspath(command)


class Daemon:
    """A program running in a node, which `nsenter ... --` as `inside` leads to, with its output kept in memory."""

    def __init__(self, inside: list[str], argv: tuple[str, ...], env: Mapping[str, str]) -> None:
        self.argv = argv
        self._stdout = os.memfd_create("stdout")
        self._stderr = os.memfd_create("stderr")
        # nsenter forks to reach the PID namespace, waits, and ends as its child ends: by the same status or signal
        self._nsenter = subprocess.Popen(
            [*inside, *argv],
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=self._stderr,
            env={**ENV, **env},
            cwd="/",
            start_new_session=True,
        )
        self._pid = self._find_main()

    def _find_main(self) -> int | None:
        while self._nsenter.poll() is None:
            if found := direct_children(self._nsenter.pid):
                return found[0]
            time.sleep(0.001)
        return None  # already ended

    @property
    def pid(self) -> int:
        """Host pid of the main process: the launcher, which becomes the helper."""
        if self._pid is None:
            raise LookupError(f"{shlex.join(self.argv)} ended at once: {self.stderr_text()}")
        return self._pid

    def children(self) -> dict[int, list[str]]:
        """Host pid and command line of the main process's living descendants."""
        return children(self.pid)

    @property
    def agent_pid(self) -> int:
        """Host pid of the unprivileged agent."""
        return self._child("agent", lambda argv: "wesher.runtime.agent" in argv)

    @property
    def wireguard_pid(self) -> int:
        """Host pid of wireguard-go."""
        return self._child("wireguard-go", lambda argv: Path(argv[0]).name == "wireguard-go")

    def _child(self, name: str, matches: Callable[[list[str]], bool]) -> int:
        found = [pid for pid, argv in self.children().items() if argv and matches(argv)]
        if len(found) != 1:
            raise LookupError(f"{len(found)} processes are the {name} of {shlex.join(self.argv)}: {self.children()}")
        return found[0]

    def signal(self, number: int) -> None:
        """Send a signal to the main process; one that stops or continues it has done so on return."""
        if number == signal.SIGCONT:
            self._nsenter.send_signal(number)  # it stops when its child is stopped, and passes this on
        else:
            os.kill(self.pid, number)
        if number == signal.SIGSTOP:
            self._await(lambda: is_stopped(self._nsenter.pid))
        elif number == signal.SIGCONT:
            self._await(lambda: not is_stopped(self.pid))
        elif number == signal.SIGKILL:
            self._nsenter.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL for the main process, and wait for its end and that of its descendants, which it is that of."""
        family = [self.pid, *self.children()]
        self.signal(signal.SIGKILL)
        self.wait(5)
        until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in family), 5, "its processes are gone")

    def _await(self, condition: Callable[[], bool]) -> None:
        while self.alive() and not condition():
            time.sleep(0.001)

    def wait(self, timeout: float) -> int:
        """The main process's exit status; minus the signal's number if one ended it. `timeout` is as until()'s."""
        return self._nsenter.wait(timeout=bound(timeout))

    def alive(self) -> bool:
        """Whether the main process still runs."""
        return self._nsenter.poll() is None

    def stdout_text(self) -> str:
        """All it has written to its standard output so far."""
        return _content(self._stdout)

    def stderr_text(self) -> str:
        """All it has written to its standard error so far."""
        return _content(self._stderr)

    def last_words(self, lines: int) -> str:
        """How it is, and the end of its standard error."""
        state = "running" if self.alive() else f"exit {self.wait(1)}"
        end = "\n".join(self.stderr_text().splitlines()[-lines:])
        return f"{shlex.join(self.argv)} ({state}), end of its stderr:\n{end}"

    def close(self) -> None:
        """Forget it and its output, once the node is gone."""
        self._nsenter.send_signal(signal.SIGCONT)
        self.wait(30)
        os.close(self._stdout)
        os.close(self._stderr)


class Node:
    """One machine of the lab."""

    state_dir = "/var/lib/wesher"

    def __init__(self, lab: "Lab", number: int, hosts: bytes | None) -> None:
        self.name = f"node{number}"
        self.address = f"192.168.77.{number}"
        self.address6 = f"fd77::{number:x}"
        self.daemons: list[Daemon] = []
        self._lan = lab.lan
        self.port = f"port{number}"
        self.inside = Namespaces(NODE, self.name)
        try:
            self.write_hosts(default_hosts(self.name, number, lab.size) if hosts is None else hosts)
            self._plug_in()
        except BaseException:
            self.close()
            raise

    def _plug_in(self) -> None:
        self._lan.ip(
            f"link add name {self.port} type veth peer name eth0 netns {self.inside.pid}",
            f"link set dev {self.port} master lan up",
        )
        ipv6 = [f"address add {self.address6}/64 dev eth0 nodad"] if os.path.exists("/proc/sys/net/ipv6") else []
        self.inside.ip("link set dev lo up", f"address add {self.address}/24 dev eth0", *ipv6, "link set dev eth0 up")

    def run(self, *argv: str, check: bool = True, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a command in the node to its end. `timeout` is as until()'s."""
        status, out, err = run_to_end(self.inside.enter(*argv), bound(timeout))
        if check and status != 0:
            raise AssertionError(f"{self.name}: {shlex.join(argv)}: exit {status}: {out}{err}")
        return subprocess.CompletedProcess(argv, status, out, err)

    def wesher(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `wesher` subcommand in the node to its end."""
        return self.run(wesher_command(), *argv, check=check)

    def start(self, *argv: str, env: Mapping[str, str] | None = None) -> Daemon:
        """Start the wesher daemon in the node."""
        return self.start_program(wesher_command(), *argv, env=env)

    def start_program(self, *argv: str, env: Mapping[str, str] | None = None) -> Daemon:
        """Start any program in the node."""
        daemon = Daemon(self.inside.enter(), argv, env or {})
        self.daemons.append(daemon)
        return daemon

    def read(self, path: str) -> bytes:
        """A file, by its path in the node."""
        return (self.inside.root / path.lstrip("/")).read_bytes()

    def write(self, path: str, content: bytes, mode: int = 0o600) -> None:
        """Make or overwrite a file in place, by its path in the node."""
        target = self.inside.root / path.lstrip("/")
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)

    def hosts(self) -> bytes:
        """The node's /etc/hosts."""
        return self.read("/etc/hosts")

    def write_hosts(self, content: bytes) -> None:
        """Overwrite the node's /etc/hosts in place, as an operator's editor that keeps the inode does."""
        self.write("/etc/hosts", content, mode=0o644)

    def resolve(self, name: str) -> str:
        """The address a program in the node gets first for a host name."""
        return self.run("getent", "ahosts", name).stdout.split()[0]

    def ping(self, target: str, timeout: float = 1) -> bool:
        """Whether one ICMP echo to an address or name is answered in time."""
        done = self.run("ping", "-n", "-c1", f"-W{timeout:g}", target, check=False, timeout=timeout + 10)
        return done.returncode == 0

    def links(self) -> set[str]:
        """The names of the node's network interfaces."""
        return {link["ifname"] for link in json.loads(self.run("ip", "-json", "link").stdout)}

    def link_down(self) -> None:
        """Pull the cable: the node keeps its addresses and loses its carrier."""
        self._lan.ip(f"link set dev {self.port} down")

    def link_up(self) -> None:
        """Plug the cable in again."""
        self._lan.ip(f"link set dev {self.port} up")

    def netem(self, *arguments: str) -> None:
        """Disturb what the node sends, in `tc netem`'s words ("loss", "5%", "delay", "9ms"); without words, stop it."""
        try:
            self.inside.tc(
                "qdisc", "replace", "dev", "eth0", "root", *(("netem", *arguments) if arguments else ("pfifo",))
            )
        except RuntimeError as error:
            raise RuntimeError(f"no packet loss or delay here: the kernel's sch_netem is needed ({error})") from error

    def close(self) -> None:
        """Kill everything in the node."""
        self.inside.close()
        for daemon in self.daemons:
            daemon.close()


class Lab:
    """`with Lab(3) as lab:` three nodes on one Ethernet; all of it is gone after the block."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.nodes: list[Node] = []
        self.routers: list[Namespaces] = []
        self._islands: list[str] = []

    def __enter__(self) -> Self:
        self.lan = Namespaces(BRIDGE)
        try:
            for _ in range(self.size):
                self.add_node()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            print(self.report(), flush=True)
        self.close()

    def add_node(self, hosts: bytes | None = None) -> Node:
        """One more machine on the bridge."""
        node = Node(self, len(self.nodes) + 1, hosts)
        self.nodes.append(node)
        return node

    def partition(self, *groups: list[Node]) -> None:
        """Cut the network: each group is alone with itself; nodes in no group stay together."""
        self.heal()
        for number, group in enumerate(groups):
            island = f"island{number}"
            self._islands.append(island)
            moves = [f"link set dev {node.port} master {island}" for node in group]
            self.lan.ip(f"link add name {island} type bridge mcast_snooping 0", f"link set dev {island} up", *moves)

    def heal(self) -> None:
        """One network again."""
        moves = [f"link set dev {node.port} master lan" for node in self.nodes] if self._islands else []
        self.lan.ip(*moves, *(f"link delete dev {island}" for island in self._islands))
        self._islands.clear()

    def report(self, lines: int = 30) -> str:
        """The last lines each program wrote to its standard error, for whoever reads a failure."""
        daemons = [(node, daemon) for node in self.nodes for daemon in node.daemons]
        return "\n".join(f"--- {node.name}: {daemon.last_words(lines)}" for node, daemon in daemons)

    def close(self) -> None:
        """Kill every node and router, then the bridge."""
        for node in self.nodes:
            node.close()
        for router in self.routers:
            router.close()
        self.lan.close()


def _content(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")
