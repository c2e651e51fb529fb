"""A machine whose agent is turned: started by the real launcher and locked down like any, then somebody else's.

The launcher is started from a virtual environment of the machine's own, in which the agent's module is another.
"""

from __future__ import annotations

import errno
import json
import os
import select
import site
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.e2e.mesh import AGENT_UID, CLUSTER_KEY_TEXT, KEY_FILE, USERS
from tests.e2e.test_processes import descriptors
from tests.hostile.attempts import RUNTIME, STATE, TCP_NOT_GRANTED
from tests.hostile.cast import NAME
from tests.hostile.furniture import OVERLAY, furnish
from tests.hostile.host import Host, Ours, look
from tests.hostile.liar import Liar
from tests.hostile.stage import MAX_PEERS, assert_sound, assert_unharmed
from tests.lab import Daemon, Lab, bound, until

HERE: Final = Path(__file__).parent
OPTIONS: Final = ("--overlay-net", OVERLAY, "--max-peers", str(MAX_PEERS))
PLACE: Final = "/run/turned"
MODULE: Final = "turned"
SECONDS: Final = 30.0
"""Within which a turned agent has done what it was told."""

START: Final = f"import wesher.plan; wesher.plan.AGENT_MODULE = {MODULE!r}; from wesher.cli import main; main()"

OURS: Final = ("/run/wesher", "/run/wireguard", STATE)
"""Where a launcher makes something that stays, and where the agent may."""

# Things to be read, written or removed by who may: by their modes alone, this uid could do most of it.
LURES: Final = f"""
set -e
install -d -o {AGENT_UID} -g {AGENT_UID} -m 700 {STATE} /var/lib/other
install -d -o {AGENT_UID} -g {AGENT_UID} -m 755 {RUNTIME}
mkfifo -m 600 {STATE}/orders {STATE}/answers
chown {AGENT_UID} {STATE}/orders {STATE}/answers
ln -s /usr/bin/env {STATE}/link
for file in /var/lib/other/secret /run/secret /run/everybodys /tmp/everybodys; do
  echo something >$file
  chown {AGENT_UID} $file
done
"""
LISTENER: Final = """
import socket, sys
with socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
    while True:
        print(*listener.accept()[1], flush=True)
"""


class Killed(Exception):
    """The agent is there no more."""


class Captive:
    """`with Captive() as captive:` one machine, on which an agent can be started as often as one likes."""

    def __init__(self) -> None:
        self._lab = Lab(1)
        self._pipes: list[int] = []
        self._unread = b""

    def __enter__(self) -> Self:
        self._lab.__enter__()
        try:
            self.node = self._lab.nodes[0]
            furnish(self.node)
            self.node.run("sh", "-c", f"echo {NAME} >/proc/sys/kernel/hostname; {LURES}")
            self._make_environment()
            self.node.write(KEY_FILE, CLUSTER_KEY_TEXT.encode() + b"\n")
            self.listener = self.node.start_program("python3", "-I", "-c", LISTENER, str(TCP_NOT_GRANTED))
            for name in ("orders", "answers"):
                path = self.node.inside.root / STATE.lstrip("/") / name
                self._pipes.append(os.open(path, os.O_RDWR | os.O_NONBLOCK))
            until(lambda: "tentative" not in self.node.run("ip", "address").stdout, 10, "addresses have settled")
            self._before = look(self.node)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """The machine is gone."""
        for fd in self._pipes:
            os.close(fd)
        self._pipes.clear()
        self._lab.close()

    def _make_environment(self) -> None:
        """Python with wesher's libraries, as the tests' own has them, and two modules more."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = f"{PLACE}/lib/{version}/site-packages"
        self.node.run("sh", "-c", f"mkdir -p {PLACE}/bin {packages}; ln -s {sys.executable} {PLACE}/bin/python")
        home = Path(os.path.realpath(sys.executable)).parent
        self.node.write(f"{PLACE}/pyvenv.cfg", f"home = {home}\n".encode(), 0o644)
        dirs = [path for path in site.getsitepackages() if os.path.isdir(path)]
        lines = "".join(f"import site; site.addsitedir({path!r})\n" for path in dirs)
        self.node.write(f"{packages}/tests.pth", lines.encode(), 0o644)
        for name in ("turned.py", "attempts.py"):
            self.node.write(f"{packages}/{name}", (HERE / name).read_bytes(), 0o644)

    # --- the agent

    def start(self) -> Daemon:
        """A new one, which waits for what it is told; nothing is left of an earlier one."""
        self.end()
        for fd in self._pipes:
            with suppress(BlockingIOError):
                os.read(fd, 1 << 20)
        self._unread = b""
        command = (f"{PLACE}/bin/python", "-c", START, "--user", USERS, "--cluster-key-file", KEY_FILE, *OPTIONS)
        self.wesher = self.node.start_program(*command)
        self.agent_pid: int | None = None
        assert self.told({"attempt": "read /etc/hostname"}) == "done", self.wesher.stderr_text()
        self.agent_pid = next(pid for pid, argv in self.wesher.children().items() if MODULE in argv)
        until(self._is_up, 20, "the helper's link is there")
        self.at_rest = self.ours(), descriptors(self.wesher.pid)
        return self.wesher

    def _is_up(self) -> bool:
        shown = self.node.run("wg", "show", "wgoverlay", "public-key", check=False).stdout.strip()
        return shown not in ("", "(none)")

    def end(self) -> None:
        """However hostile: nobody is left."""
        for pid, argv in self.node.inside.processes().items():
            if MODULE in argv or "privhelper" in argv:
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)
        until(lambda: not self.agents(), 10, "no agent is left")

    def agents(self) -> list[int]:
        """Host pids of those that live."""
        return [pid for pid, argv in self.node.inside.processes().items() if MODULE in argv]

    def told(self, order: Mapping[str, Any]) -> Any:
        """What it answers to an order. Killed where it ends instead."""
        os.write(self._pipes[0], json.dumps(order).encode() + b"\n")
        deadline = time.monotonic() + bound(SECONDS)
        while b"\n" not in self._unread:
            assert time.monotonic() < deadline, f"no answer to {order}: {self.wesher.stderr_text()}"
            readable, _, _ = select.select([self._pipes[1]], [], [], 0.02)
            if readable:
                self._unread += os.read(self._pipes[1], 1 << 20)
            elif not self.wesher.alive() and not self.agents():
                raise Killed(self.wesher.stderr_text())
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def attempt(self, name: str, *, worker: bool = False) -> str:
        """What comes of it."""
        return str(self.told({"attempt": name, "worker": worker}))

    def liar(self) -> Liar:
        """Its end of the line to the helper."""
        return Liar(Puppet(self))  # type: ignore[arg-type]

    # --- what must be true

    def lay_out(self) -> None:
        """What some attempts take away."""
        self.node.write(f"{STATE}/another.json", b"{}", 0o666)
        self.node.write(f"{RUNTIME}/another.sock", b"")

    def assert_at_rest(self) -> None:
        """Host and helper are as when the agent was started."""
        assert self.wesher.alive(), self.wesher.stderr_text()
        assert self.at_rest == (self.ours(), descriptors(self.wesher.pid))

    def ours(self) -> Ours:
        """What is in force; the operator's is as before the first agent."""
        found = look(self.node)
        assert_unharmed(elsewhere(self._before), elsewhere(found))
        assert_sound(found.ours)
        return found.ours


class Puppet:
    """The agent's socket, by word of mouth."""

    def __init__(self, captive: Captive) -> None:
        self._captive = captive
        self._seconds = SECONDS

    def settimeout(self, seconds: float) -> None:
        """How long to wait for an answer."""
        self._seconds = seconds

    def send(self, data: bytes) -> None:
        """One message."""
        self._raise(self._captive.told({"send": data.hex()}))

    def recv(self, size: int) -> bytes:
        """One message; nothing: EOF."""
        answer = self._captive.told({"receive": self._seconds})
        try:
            return bytes.fromhex(answer)
        except ValueError:
            self._raise(answer)
            raise AssertionError(answer) from None

    def close(self) -> None:
        """EOF for the helper."""
        self._raise(self._captive.told({"close": None}))

    def _raise(self, answer: str | None) -> None:

        if answer is not None:
            raise OSError(getattr(errno, answer), answer)


def elsewhere(host: Host) -> Host:
    """All but the places of OURS."""
    files = [line for line in host.foreign["files"] if not line.startswith(OURS)]
    return Host(host.ours, {**host.foreign, "files": files})
