"""Debian's serf as a second stranger: an application that embeds memberlist, which nobody made for these tests.

It announces delegate versions 2 to 5, where wesher and the Go peer announce none, so memberlist's verifyProtocol keeps
the two kinds apart; only a node that speaks serf's versions can stand in its cluster.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from tests.e2e.mesh import CLUSTER_KEY
from tests.interop.complaints import complaints
from tests.interop.watched import Watched
from tests.lab import until

VSN = bytes((1, 5, 2, 2, 5, 5))
"""What serf announces: memberlist's versions, then its own: from 2 to 5, speaking 5."""

UP = re.compile("Serf agent running!")


class Serf:
    """An agent, up from the start. Raises AssertionError with its log if it does not come up.

    rpc_port: where its own command line reaches it, on the same address.
    """

    def __init__(
        self,
        name: str,
        address: str,
        port: int,
        *,
        key: bytes = CLUSTER_KEY,
        profile: str = "local",
        join: Sequence[str] = (),
        tags: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.address = address
        self.port = port
        self._rpc = f"{address}:{port + 1}"
        self.log: list[str] = []
        """What it wrote, in lines; serf's log goes to standard output."""
        argv = ["serf", "agent", f"-node={name}", f"-bind={address}:{port}", f"-rpc-addr={self._rpc}"]
        argv += [f"-encrypt={base64.b64encode(key).decode()}", f"-profile={profile}", "-log-level=debug"]
        argv += [f"-join={endpoint}" for endpoint in join]
        argv += [f"-tag={tag}={value}" for tag, value in (tags or {}).items()]
        self._watched = Watched(argv, None, self.log.append)
        try:
            until(lambda: self.has_written(UP.pattern) or not self._watched.alive(), 20, f"serf {name} is up")
            assert self.has_written(UP.pattern), f"serf did not start: {self.last_words()}"
        except BaseException:
            self.close()
            raise

    @property
    def endpoint(self) -> str:
        """Where others reach it: "address:port"."""
        return f"{self.address}:{self.port}"

    def has_written(self, pattern: str) -> bool:
        """Whether a line of its log is like this."""
        return any(re.search(pattern, line) for line in self.log)

    def complaints(self, *allowed: str) -> list[str]:
        """What its log says against others, see complaints.py."""
        return complaints(self.log, self.name, allowed)

    def members(self) -> dict[str, dict[str, Any]]:
        """Name to member, of everybody it knows: "addr" ("address:port"), "tags", and "status", which is
        alive, failed or left."""
        done = self.command("members", "-format=json")
        assert done.returncode == 0, done.stdout + done.stderr
        return {member["name"]: member for member in json.loads(done.stdout)["members"]}

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a subcommand of serf's against this agent."""
        command, *arguments = words
        argv = ["serf", command, f"-rpc-addr={self._rpc}", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)

    def join(self, endpoint: str) -> bool:
        """Whether joining somebody worked."""
        return self.command("join", endpoint).returncode == 0

    def leave(self) -> None:
        """Leave in good order, and end."""
        self.command("leave")
        self._watched.wait(20)

    def kill(self) -> None:
        """End like a machine that lost its power."""
        self._watched.kill()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._watched.signal(number)

    def close(self) -> None:
        """No process is left; the log is."""
        self._watched.close()
        self.log += self._watched.log  # what a start that failed says
        self._watched.log.clear()

    def last_words(self, lines: int = 30) -> str:
        """For whoever reads a failure."""
        return "\n".join([*self.log[-lines:], self._watched.last_words(lines)])


class Serfs:
    """All agents of a test, gone after the block; it fails if one of them complained. As GoPeers."""

    def __init__(self) -> None:
        self.all: list[Serf] = []
        self._expected: list[str] = []
        self._allowed: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for agent in self.all:
            agent.close()
        if kind is None:
            self.check()

    def start(self, name: str, address: str, port: int, **keywords: Any) -> Serf:
        """A Serf with these arguments."""
        agent = Serf(name, address, port, **keywords)
        self.all.append(agent)
        return agent

    def expect(self, pattern: str) -> None:
        """Some agent has to write a line like this; it is no complaint."""
        self._expected.append(pattern)

    def allow(self, pattern: str) -> None:
        """A line like this is no complaint."""
        self._allowed.append(pattern)

    def check(self) -> None:
        """Raise AssertionError for complaints that nobody named, and for expected ones that never came."""
        found = [line for agent in self.all for line in agent.complaints(*self._expected, *self._allowed)]
        assert not found, "serf complains:\n" + "\n".join(found)
        for pattern in self._expected:
            assert any(agent.has_written(pattern) for agent in self.all), f"no serf wrote what was expected: {pattern}"

    def report(self) -> str:
        """The ends of their logs."""
        return "\n".join(f"--- {agent.name}: {agent.last_words()}" for agent in self.all)
