"""The rows: everything that a start depends on, in the order of the answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

from wesher.check import gossip, hosts, processes, state, wireguard
from wesher.check.finding import Finding, Said
from wesher.check.judging import said
from wesher.check.start import Start, begin


class Layout(Enum):
    """Who looks at a thing: the launcher, the agent of a helper that runs already, or both."""

    LAUNCHED = 1
    SPLIT = 2
    BOTH = 3


class Row(NamedTuple):
    """One thing that a start depends on. What is the helper's affair is looked at only where this start makes one."""

    what: str
    layout: Layout
    look: Callable[[Start], Said]


CHECKS: Final = (
    Row("environment", Layout.BOTH, processes.environment),
    Row("privilege", Layout.LAUNCHED, processes.privilege),
    Row("daemon", Layout.BOTH, processes.daemon),
    Row("users", Layout.BOTH, processes.users),
    Row("program", Layout.BOTH, processes.program),
    Row("sandbox", Layout.BOTH, processes.sandbox),
    Row("address", Layout.BOTH, gossip.address),
    Row("gossip port", Layout.BOTH, gossip.gossip_port),
    Row("helper socket", Layout.SPLIT, processes.helper_socket),
    Row("wireguard", Layout.LAUNCHED, wireguard.backend),
    Row("wireguard port", Layout.LAUNCHED, wireguard.port),
    Row("interface", Layout.LAUNCHED, wireguard.interface),
    Row("overlay", Layout.LAUNCHED, wireguard.overlay),
    Row("hosts file", Layout.LAUNCHED, hosts.hosts_file),
    Row("state directory", Layout.BOTH, state.state_directory),
    Row("runtime directory", Layout.BOTH, state.runtime_directory),
    Row("state file", Layout.BOTH, state.state_file),
    Row("cluster key", Layout.BOTH, state.cluster_key),
    Row("join", Layout.BOTH, gossip.join),
)


def look(values: Mapping[str, Any], given: Collection[str], typed: Collection[str]) -> list[Finding]:
    """All findings; the arguments are those of `make_plan`. Raises Contradiction: that is wrong usage."""
    start = begin(values, given, typed)
    layouts = (Layout.BOTH, Layout.SPLIT if start.config.split else Layout.LAUNCHED)
    rows = [row for row in CHECKS if row.layout in layouts]
    return [Finding(level, row.what, text) for row in rows for level, text in said(row.look, start)]
