"""A live node of Go's memberlist (`gopeer/`): started with a Go wesher's settings and metadata unless told otherwise,
steered by commands, seen through its events and its log."""

from __future__ import annotations

import base64
import itertools
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Self

from nacl.public import PrivateKey

from privhelper.addressing import derive
from tests.e2e.mesh import CLUSTER_KEY
from tests.interop import build
from tests.interop.complaints import complaints
from tests.interop.watched import Strangers, Watched
from tests.lab import Node, bound, until

GOSSIP_PORT = 7946
OVERLAY_NET = ip_network("10.0.0.0/8")  # both programs' default

Event = dict[str, Any]
Setting = float | int | bool | str

JOINED = "0"
"""The number of the answer to the joining that a peer begins with."""

IN_SECONDS = frozenset(
    "probe_interval probe_timeout gossip_interval gossip_to_the_dead push_pull_interval "
    "tcp_timeout dead_reclaim".split()
)
"""Settings that the program takes as a duration; the others it takes as they are."""

QUICK: dict[str, Setting] = {
    "probe_interval": 0.5,
    "probe_timeout": 0.2,
    "gossip_interval": 0.05,
    "push_pull_interval": 3.0,
    "suspicion_mult": 2,
    "gossip_to_the_dead": 5.0,
    "tcp_timeout": 3.0,
}
"""A WAN node in a tenth of the time, for tests that wait for it."""


@dataclass(frozen=True)
class WesherMeta:
    """What a Go wesher announces: overlay address, WireGuard public key in base64, gob shape "master" or "v026"."""

    overlay: str
    public_key: str
    shape: str = "master"

    @classmethod
    def of(cls, name: str, shape: str = "master") -> Self:
        """A new key, as at every start, and the address that follows from the name."""
        key = base64.b64encode(bytes(PrivateKey.generate().public_key)).decode()
        return cls(str(derive(OVERLAY_NET, name.encode(), 0)), key, shape)

    @property
    def read(self) -> Event:
        """The reading by Go of this metadata's shape, as events have it: `event["read"][shape] == meta.read`."""
        return {"overlay": self.overlay + ("/32" if self.shape == "v026" else ""), "key": self.public_key}


class GoPeer:
    """Running, and known to itself, from the start. Raises AssertionError with its log if it does not start.

    allow: patterns of lines in this one's log that are no complaint, see complaints.py.
    settings: further flags of the program by their names, `_` for `-`; durations in seconds.
    """

    def __init__(
        self,
        name: str,
        address: str,
        port: int = GOSSIP_PORT,
        *,
        node: Node | None = None,
        key: bytes = CLUSTER_KEY,
        meta: WesherMeta | bytes | None = None,
        join: Sequence[str] = (),
        preset: str = "wan",
        allow: Sequence[str] = (),
        **settings: Setting,
    ) -> None:
        self.name = name
        self.address = address
        self.meta = WesherMeta.of(name) if meta is None else meta
        self.events: list[Event] = []
        self._told = threading.Condition()
        self._numbers = itertools.count(1)
        self._allow = tuple(allow)
        flags = {"name": name, "bind": address, "port": port, "key": base64.b64encode(key).decode()}
        flags |= {"join": ",".join(join)} if join else {}
        argv = [str(build.gopeer()), f"-preset={preset}"]
        argv += [f"-{flag}={value}" for flag, value in (flags | _announced(self.meta)).items()]
        argv += [f"-{setting.replace('_', '-')}={_flag(setting, value)}" for setting, value in settings.items()]
        self._watched = Watched(argv, node, self._on_line)
        try:
            ready = self.await_event("ready", 20)
        except BaseException:
            self.close()
            raise
        self.port: int = ready["port"]

    @property
    def endpoint(self) -> str:
        """Where others reach it: "address:port"."""
        return f"{self.address}:{self.port}"

    @property
    def log(self) -> list[str]:
        """memberlist's own log lines."""
        return self._watched.log

    def complaints(self, *allowed: str) -> list[str]:
        """What its log says against others; `allowed` are patterns of lines that do not count, see complaints.py."""
        return complaints(self.log, self.name, (*self._allow, *allowed))

    # --- what it saw

    def mark(self) -> int:
        """A place in the events, for `since`."""
        return len(self.events)

    def seen(self, kind: str, *, since: int = 0, **fields: object) -> list[Event]:
        """The events of a kind whose fields are so, from the place `since` on."""
        return [
            event
            for event in self.events[since:]
            if event["event"] == kind and all(event.get(field) == value for field, value in fields.items())
        ]

    def await_event(self, kind: str, within: float = 10, *, since: int = 0, **fields: object) -> Event:
        """The first such event, once it has come."""
        what = f"{self.name} tells of {kind} {fields or ''}"

        def told_or_ended() -> bool:
            return bool(self.seen(kind, since=since, **fields)) or not self._watched.alive()

        until(told_or_ended, within, what)
        if not self._watched.alive():
            self._watched.wait(5)  # what it still said has been read then
        found = self.seen(kind, since=since, **fields)
        assert found, f"{what}, but it ended: {self._watched.last_words(20)}"
        return found[0]

    def members(self) -> dict[str, Event]:
        """Name to member, of everybody it holds for alive or suspect, itself among them."""
        return {member["name"]: member for member in self.ask("members")["members"]}

    def local(self) -> Event:
        """What it announces of itself."""
        found: Event = self.ask("local")["member"]
        return found

    def health(self) -> int:
        """Its health score: 0 is best."""
        score: int = self.ask("health")["score"]
        return score

    # --- what it does

    def ask(self, *words: str, within: float = 15) -> Event:
        """Obey a command (gopeer/commands.go) and answer; an "error" in the answer is the caller's to look at."""
        return self.answer(self.begin(*words), within)

    def begin(self, *words: str) -> str:
        """Give a command without waiting for the answer; returns its number for `answer`."""
        number = str(next(self._numbers))
        self._watched.say(" ".join((number, *words)))
        return number

    def answer(self, number: str, within: float = 15) -> Event:
        """The answer to the command of this number. Raises AssertionError if none comes."""
        until_end = 0.5  # nobody tells when the process has ended

        def answered() -> bool:
            return bool(self.seen("done", id=number))

        with self._told:
            patience = bound(within)
            while not self._told.wait_for(answered, until_end) and self._watched.alive() and patience > 0:
                patience -= until_end
        assert answered(), f"{self.name} does not answer command {number}: {self.last_words()}"
        return self.seen("done", id=number)[0]

    def join(self, *endpoints: str) -> int:
        """Join; returns how many exchanges were completed."""
        count: int = self.ask("join", ",".join(endpoints), within=40)["count"]
        return count

    def announce(self, meta: WesherMeta | bytes) -> None:
        """Announce other metadata."""
        self.meta = meta
        if isinstance(meta, bytes):
            self.ask("meta", meta.hex())
        else:
            self.ask("announce", meta.overlay, meta.public_key, meta.shape)

    def leave(self, timeout: float = 10) -> None:
        """Leave as a Go wesher does: tell the others, for at most so many seconds, then end."""
        self.ask("leave", str(timeout), within=timeout + 5)
        self.quit()

    def quit(self) -> None:
        """End without a word to the others."""
        self.ask("shutdown")
        self.begin("quit")
        self._watched.wait(10)

    def kill(self) -> None:
        """End like a machine that lost its power."""
        self._watched.kill()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._watched.signal(number)

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._watched.alive()

    def close(self) -> None:
        """No process is left; events and log are."""
        self._watched.close()

    def last_words(self, lines: int = 30) -> str:
        """For whoever reads a failure."""
        return self._watched.last_words(lines)

    def _on_line(self, line: str) -> None:
        with self._told:
            self.events.append(json.loads(line))
            self._told.notify_all()


class GoPeers(Strangers[GoPeer]):
    """All Go peers of a test."""

    def __init__(self) -> None:
        super().__init__("Go", GoPeer)


def decode(meta: bytes) -> dict[str, Event]:
    """What Go's gob reads in metadata: for each of "master" and "v026" overlay and key, or an error."""
    watched: list[str] = []
    process = Watched([str(build.gopeer()), f"-decode={meta.hex()}"], None, watched.append)
    try:
        process.wait(10)
    finally:
        process.close()
    read: dict[str, Event] = json.loads(watched[0])["read"]
    return read


def _announced(meta: WesherMeta | bytes) -> dict[str, str]:
    if isinstance(meta, bytes):
        return {"meta": meta.hex()}
    return {"overlay": meta.overlay, "pubkey": meta.public_key, "meta-shape": meta.shape}


def _flag(setting: str, value: Setting) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value}s" if setting in IN_SECONDS else str(value)
