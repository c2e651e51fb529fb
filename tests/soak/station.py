"""One machine of the soak: how its daemons begin and end, and everything that they have said.

A machine's programs are its *roles*: one `wesher` in the launcher's layout; `wireguard-go`, `helper` and `agent` as
services in the split one, of which whoever is missing is started again, as a service manager would. What a killed
program takes with it is a table. A life that has ended is put into the machine's log file, and its lines are judged.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Final

from privhelper.addressing import Network
from tests.e2e.mesh import AGENT_UID, CLUSTER_KEY_TEXT, KEY_FILE, USERS, rename
from tests.e2e.split import (
    BOTH,
    HELPERS,
    as_user,
    helper_socket,
    only,
    start_helper,
    start_wireguard,
    without,
)
from tests.lab import Daemon, Node, bound, until, wesher_command
from tests.soak.said import complaints

LAUNCHED, SPLIT = "launched", "split"

TAKES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    LAUNCHED: {"helper": ("wesher",), "agent": ("wesher",), "wireguard-go": ("wesher",)},
    SPLIT: {
        "helper": ("helper", "agent"),
        "agent": ("agent",),
        "wireguard-go": ("wireguard-go", "helper", "agent"),
    },
}
"""Which roles end when a program is killed."""

UP_WITHIN: Final = 30.0
"""Seconds until a daemon has its overlay address: 1.2 of them are work, and several start at once. Nobody touches it
before: a signal that comes before the interpreter runs our first line has the kernel's default effect."""

ENDS_WITHIN: Final = 20.0
"""Seconds in which a daemon that was told to stop has stopped: it has ten for leaving, and a second more."""


@dataclass(frozen=True, slots=True)
class Life:
    """One run of one program."""

    role: str
    daemon: Daemon
    began: float


class Station:
    """A machine of the lab. `witness`: nobody stops it, so that what grows in it grows for the whole of the run.

    `contacts`: names to `--join` at each start; else it has none but at its first, and finds the others by its state.
    """

    def __init__(
        self,
        node: Node,
        *,
        layout: str,
        witness: bool,
        contacts: Sequence[str],
        net: Network,
        options: Sequence[str],
        file: Path,
    ) -> None:
        self.node = node
        self.layout = layout
        self.witness = witness
        self.net = net
        self.complaints: list[str] = []
        """What must not have been."""
        self.starts = 0
        self.is_up = False
        """Whether it should be running: False from when somebody is at it until it has been started again."""
        self.operators_own = node.hosts()
        self._contacts = contacts
        self._options = ("--overlay-net", str(net), "--log-level", "info", "--log-format", "json", *options)
        self._lives: dict[str, Life] = {}
        self._has_moved = False
        self._file = file

    @property
    def name(self) -> str:
        """As the mesh knows it."""
        return self.node.name

    # --- beginning

    def start(self, *first: str) -> None:
        """Start what does not run; `first`: whom to join at the first start, which is also given the key."""
        options = [*self._options]
        if contacts := [*self._contacts, *first]:
            options += ["--join", ",".join(contacts)]
        if self.starts == 0:
            self.node.write(KEY_FILE, CLUSTER_KEY_TEXT.encode() + b"\n")
            self.node.run("chown", str(AGENT_UID if self.layout == SPLIT else 0), KEY_FILE)
            options += ["--cluster-key-file", KEY_FILE]
        self.starts += 1
        for role, begin in self._beginnings(options).items():
            if role not in self._lives:
                self._lives[role] = Life(role, begin(), time.monotonic())
        said = f"'{self.name}' is "
        main = self._main("agent")
        until(lambda: said in main.stderr_text() or not main.alive(), UP_WITHIN, f"{self.name} has its address")
        self.is_up = True

    def _beginnings(self, options: list[str]) -> dict[str, Callable[[], Daemon]]:
        if self.layout == LAUNCHED:
            return {"wesher": lambda: self.node.start("--user", USERS, *options)}
        agent = (*as_user(AGENT_UID), wesher_command(), "--helper-socket", helper_socket())
        return {
            "wireguard-go": lambda: start_wireguard(self.node),
            "helper": lambda: start_helper(self.node, *only(options, HELPERS | BOTH)),
            "agent": lambda: self.node.start_program(*agent, *without(options, HELPERS - BOTH)),
        }

    # --- ending

    def leave(self) -> None:
        """Stop it as its operator would: it leaves the mesh."""
        self.is_up = False
        self._main("helper").signal(signal.SIGTERM)
        self._collect(TAKES[self.layout]["helper"], "stopped")

    def detach(self) -> None:
        """Stop the agent of a split machine, and nothing else."""
        self.is_up = False
        self._main("agent").signal(signal.SIGTERM)
        self._collect(("agent",), "stopped")

    def kill(self, program: str) -> None:
        """SIGKILL for one of helper, agent and wireguard-go, and wait for what ends with it."""
        self.is_up = False
        os.kill(self.pids()[program], signal.SIGKILL)
        self._collect(TAKES[self.layout][program], "killed")

    def crash(self) -> None:
        """SIGKILL for everything, as if the power were gone; the agent first, which would end by itself after its
        helper."""
        self.is_up = False
        for role in ("agent", "helper", "wireguard-go", "wesher"):
            if role in self._lives and self._lives[role].daemon.alive():
                self._lives[role].daemon.signal(signal.SIGKILL)
        self._collect(tuple(self._lives), "killed")

    def _collect(self, roles: Sequence[str], ending: str) -> None:
        for role in roles:
            life = self._lives[role]
            try:
                status = life.daemon.wait(bound(ENDS_WITHIN))
            except TimeoutExpired:
                self._complain(f"{role} has not ended {ENDS_WITHIN:g} s after it was {ending}")
                life.daemon.kill()
                status = -signal.SIGKILL
            if ending == "stopped" and status != 0:
                self._complain(f"{role} was told to stop, and ended with {status}")
            self._put_away(life, ending)

    def has_lost_one(self) -> bool:
        """Whether something that should run has ended; what is left of it is put away, and can be started again."""
        lost = [life for life in self._lives.values() if self.is_up and not life.daemon.alive()]
        for life in lost:
            self._complain(f"{life.role} has ended by itself with {life.daemon.wait(1)}")
            self._put_away(life, "by itself")
        return bool(lost)

    def read_all(self) -> None:
        """Put down and judge what the living have said."""
        for life in self._lives.values():
            self._put_down(life, "lives")

    def _put_away(self, life: Life, ending: str) -> None:
        self._put_down(life, ending)
        del self._lives[life.role]
        self.node.daemons.remove(life.daemon)
        life.daemon.close()

    def _put_down(self, life: Life, ending: str) -> None:
        text = life.daemon.stderr_text()
        if life.role != "wireguard-go":
            for line in complaints(text, ending, has_moved=self._has_moved):
                self._complain(f"{life.role} said: {line}")
        with self._file.open("a") as file:
            file.write(f"=== {life.role} of {self.name}, start {self.starts} ({ending})\n{text}")

    def _complain(self, text: str) -> None:
        self.complaints.append(f"{self.name}: {text}")

    # --- what is changed about the machine

    def rename(self, name: str) -> None:
        """Give it another host name; it must not run."""
        rename(self.node, name)

    def readdress(self, address: str) -> None:
        """Exchange its address for another of the same network."""
        node = self.node
        node.inside.ip(f"address del {node.address}/24 dev eth0", f"address add {address}/24 dev eth0")
        node.address = address
        self._has_moved = True

    # --- processes

    def pids(self) -> dict[str, int]:
        """Host pid of each program: helper, agent, wireguard-go, and the launcher's logpipe."""
        if self.layout == SPLIT:
            return {role: life.daemon.pid for role, life in self._lives.items()}
        daemon = self._main("helper")
        pipes = {pid for pid, argv in daemon.children().items() if "privhelper.logpipe" in argv}
        return {
            "helper": daemon.pid,
            "agent": daemon.agent_pid,
            "wireguard-go": daemon.wireguard_pid,
            **dict.fromkeys(["logpipe"] if pipes else [], min(pipes, default=0)),
        }

    def _main(self, program: str) -> Daemon:
        return self._lives["wesher" if self.layout == LAUNCHED else program].daemon
