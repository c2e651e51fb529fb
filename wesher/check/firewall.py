"""Which ports must be open between members, and whether this host's own rules let them in.

Nothing is opened: what has to be is said, in the words of what filters here. Looked at is what the kernel does with
packets that come in for this host (ruleset); not what comes before or between: other machines, clouds' own filters,
tables at other hooks, eBPF. Who keeps a firewall by ufw or firewalld is told their commands.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from privhelper.sandbox import NET_ADMIN, has_capability
from wesher.check.finding import Said, ok, warning
from wesher.check.ruleset import TCP, UDP, ChainName, Outcome, Packet, Ruleset, is_lacking, read_ruleset
from wesher.check.start import Start

_NAMES: Final = {TCP: "tcp", UDP: "udp"}

_FIREWALLD: Final = "/sys/fs/cgroup/system.slice/firewalld.service"
_UFW: Final = "/etc/ufw/ufw.conf"
_LEGACY: Final = "/proc/net/ip_tables_names"


class Port(NamedTuple):
    """One that members send to: 6 or 17, and its number."""

    protocol: int
    number: int

    def __str__(self) -> str:
        return f"{_NAMES[self.protocol].upper()} {self.number}"


def ports(start: Start) -> Said:
    """What is needed, on every host and in between."""
    gossip, tunnels = start.config.cluster_port, start.pinned.wireguard_port
    yield ok(f"these must be open between members: TCP and UDP {gossip} (gossip), UDP {tunnels} (WireGuard)")


def firewall(start: Start) -> Said:
    """Whether this host's own rules let it in, and who would change them."""
    needed = _needed(start)
    if not has_capability(NET_ADMIN):
        yield ok("this host's own rules are only seen by root, or with CAP_NET_ADMIN")
        return
    try:
        rules = read_ruleset()
    except OSError as error:
        if not is_lacking(error):
            yield warning(f"this host's rules cannot be read: {error.strerror or error}; see nft list ruleset")
            return
        rules = Ruleset()
    version = 4 if start.own is None else start.own.ip.version
    found = {port: rules.outcome(Packet(version, port.protocol, port.number)) for port in needed}
    dropped = [port for port, (outcome, _) in found.items() if outcome is Outcome.DROPPED]
    untold = [port for port, (outcome, _) in found.items() if outcome is Outcome.UNTOLD]
    for which, chain in dict.fromkeys((outcome, chain) for outcome, chain in found.values()):
        of_it = [port for port, verdict in found.items() if verdict == (which, chain)]
        if which is Outcome.DROPPED and chain is not None:
            yield warning(
                f"{_listed(of_it)}: dropped here by nftables' chain {chain}, whoever sends it; open it: "
                f"{_commands(of_it, chain, version)}"
            )
        elif which is Outcome.UNTOLD and chain is not None:
            yield ok(
                f"{_listed(of_it)}: whether nftables' chain {chain} lets it in depends on more than the port; where it "
                f"does not: {_commands(of_it, chain, version)}"
            )
    if _has_legacy_rules():
        yield ok(
            f"iptables' own tables of the older kind are not looked at; if one drops: {_iptables(needed, version)}"
        )
    elif not dropped and not untold:
        yield ok("this host's own nftables let these in")


def _needed(start: Start) -> list[Port]:
    gossip = start.config.cluster_port
    return [Port(TCP, gossip), Port(UDP, gossip), Port(UDP, start.pinned.wireguard_port)]


def _listed(ports: list[Port]) -> str:
    return ", ".join(map(str, ports))


def _commands(ports: list[Port], chain: ChainName, version: int) -> str:
    """What opens them, in the words of whoever keeps this host's rules."""
    if os.path.isdir(_FIREWALLD):
        added = " ".join(f"--add-port={port.number}/{_NAMES[port.protocol]}" for port in ports)
        return f"firewall-cmd --permanent {added} && firewall-cmd --reload"
    if _ufw_is_on():
        return "; ".join(f"ufw allow {port.number}/{_NAMES[port.protocol]}" for port in ports)
    if chain.name == "INPUT":  # iptables made it, and would not show rules of nft's
        return _iptables(ports, version)
    return "; ".join(f"nft insert rule {chain} {_NAMES[port.protocol]} dport {port.number} accept" for port in ports)


def _iptables(ports: list[Port], version: int) -> str:
    program = "iptables" if version == 4 else "ip6tables"
    return "; ".join(f"{program} -I INPUT -p {_NAMES[port.protocol]} --dport {port.number} -j ACCEPT" for port in ports)


def _ufw_is_on() -> bool:
    try:
        with open(_UFW, encoding="utf-8", errors="replace") as file:
            return any(line.replace(" ", "").strip().lower() == "enabled=yes" for line in file)
    except OSError:
        return False


def _has_legacy_rules() -> bool:
    try:
        with open(_LEGACY, encoding="ascii") as file:
            return "filter" in file.read().split()
    except OSError:
        return False
