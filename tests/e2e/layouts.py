"""Both layouts behind one face: what holds for a node holds for it however it was started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tests.e2e.mesh import has_nothing_left, has_only_a_bare_link, start
from tests.e2e.split import start_split


class Running(Protocol):
    """A node's wesher: helper, agent and wireguard-go, as services of their own or as the launcher's."""

    @property
    def pid(self) -> int:
        """Host pid of the helper."""

    @property
    def agent_pid(self) -> int:
        """Host pid of the unprivileged agent."""

    @property
    def wireguard_pid(self) -> int:
        """Host pid of wireguard-go."""

    def signal(self, number: int) -> None:
        """To the helper: it is who gets the signals of a stop."""

    def kill(self) -> None:
        """SIGKILL, to all at once."""

    def wait(self, timeout: float) -> int:
        """The exit status of the whole."""

    def alive(self) -> bool:
        """Whether helper and agent run."""

    def stderr_text(self) -> str:
        """What they have said."""


@dataclass(frozen=True)
class Layout:
    """`start` takes a node and the launcher's options, and joins nobody by itself."""

    name: str
    start: Callable[..., Running]
    leaves_no_trace: Callable[..., bool]
    """Whether the node is as before: in the split layout the administrator's link stays, with nothing on it."""


LAUNCHED = Layout("launched", start, has_nothing_left)
SPLIT = Layout("split", start_split, has_only_a_bare_link)
LAYOUTS: Mapping[str, Layout] = {layout.name: layout for layout in (LAUNCHED, SPLIT)}
