"""The rows: everything that a start depends on, in the order of the answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from wesher.check import firewall, gossip, hosts, processes, state, wireguard
from wesher.check.finding import Finding, Said
from wesher.check.judging import said
from wesher.check.start import Half, Start, begin


class Row(NamedTuple):
    """One thing that a start depends on, and of which halves; the other half's affairs are passed over."""

    what: str
    halves: Half
    look: Callable[[Start], Said]


CHECKS: Final = (
    Row("environment", Half.ANY, processes.environment),
    Row("privilege", Half.LAUNCHER | Half.HELPER, processes.privilege),
    Row("daemon", Half.LAUNCHER | Half.AGENT, processes.daemon),
    Row("users", Half.ANY, processes.users),
    Row("program", Half.ANY, processes.program),
    Row("sandbox", Half.ANY, processes.sandbox),
    Row("address", Half.LAUNCHER | Half.AGENT, gossip.address),
    Row("gossip port", Half.LAUNCHER | Half.AGENT, gossip.gossip_port),
    Row("helper socket", Half.AGENT, processes.helper_socket),
    Row("wireguard", Half.LAUNCHER | Half.HELPER, wireguard.backend),
    Row("wireguard port", Half.LAUNCHER | Half.HELPER, wireguard.port),
    Row("interface", Half.LAUNCHER | Half.HELPER, wireguard.interface),
    Row("overlay", Half.LAUNCHER | Half.HELPER, wireguard.overlay),
    Row("hosts file", Half.LAUNCHER | Half.HELPER, hosts.hosts_file),
    Row("state directory", Half.LAUNCHER | Half.AGENT, state.state_directory),
    Row("runtime directory", Half.LAUNCHER | Half.AGENT, state.runtime_directory),
    Row("state file", Half.LAUNCHER | Half.AGENT, state.state_file),
    Row("cluster key", Half.LAUNCHER | Half.AGENT, state.cluster_key),
    Row("ports", Half.ANY, firewall.ports),
    Row("firewall", Half.ANY, firewall.firewall),
    Row("join", Half.LAUNCHER | Half.AGENT, gossip.join),
    Row("path mtu", Half.LAUNCHER | Half.AGENT, gossip.path_mtu),
)


def look(values: Mapping[str, Any], given: Collection[str], typed: Collection[str]) -> list[Finding]:
    """All findings; the arguments are those of `make_plan`. Raises Contradiction: that is wrong usage."""
    start = begin(values, given, typed)
    rows = [row for row in CHECKS if row.halves & start.halves]
    return [Finding(level, row.what, text) for row in rows for level, text in said(row.look, start)]
