"""Debian's serf as a second stranger: an application that embeds memberlist, which nobody made for these tests.

It announces delegate versions 2 to 5, where wesher and the Go peer announce none, so memberlist's verifyProtocol keeps
the two kinds apart; only a node that speaks serf's versions can stand in its cluster.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from typing import Any

from tests.e2e.mesh import CLUSTER_KEY
from tests.interop.complaints import complaints, has_written
from tests.interop.watched import Strangers, Watched
from tests.lab import until

VSN = bytes((1, 5, 2, 2, 5, 5))
"""What serf announces: memberlist's versions, then its own: from 2 to 5, speaking 5."""

UP = "Serf agent running!"


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
            until(lambda: self.has_written(UP) or not self._watched.alive(), 20, f"serf {name} is up")
            assert self.has_written(UP), f"serf did not start: {self.last_words()}"
        except BaseException:
            self.close()
            raise

    @property
    def endpoint(self) -> str:
        """Where others reach it: "address:port"."""
        return f"{self.address}:{self.port}"

    def has_written(self, pattern: str) -> bool:
        """Whether a line of its log is like this."""
        return has_written(self.name, self.log, pattern)

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


class Serfs(Strangers[Serf]):
    """All agents of a test."""

    def __init__(self) -> None:
        super().__init__("serf", Serf)
