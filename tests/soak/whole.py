"""Whether the mesh is exactly right: what each machine has is compared with what every other really is.

The truth about a machine is its own device (key, address) and where it lives; nothing is taken from gossip. Of each
other machine one WireGuard peer, one route and one hosts line are expected, and nothing besides; the operator's part of
the hosts file must be as it was, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from privhelper.addressing import MAX_ATTEMPT, derive
from tests.e2e.mesh import INTERFACE
from tests.soak.station import Station

BANNER = f"# ! managed automatically by wesher interface {INTERFACE}"
LOOK = f"wg show {INTERFACE} dump; echo; ip -json address show dev {INTERFACE}; ip -json route show dev {INTERFACE}"
PING_EACH = "for name; do ping -n -c1 -W2 $name >/dev/null || ping -n -c1 -W5 $name >/dev/null || echo $name; done"
NONE = "(none)"


@dataclass(frozen=True, slots=True)
class Found:
    """What a machine has. `peers`: public key to endpoint and allowed IPs; `lines`: hosts lines, without the banner."""

    key: str
    port: str
    addresses: frozenset[str]
    peers: dict[str, tuple[str, str]]
    routes: frozenset[str]
    lines: tuple[str, ...]
    operators_own: bytes


def find(station: Station) -> Found:
    """Look at device, link, routes and hosts file. Raises AssertionError or ValueError where there are none."""
    shown = station.node.run("sh", "-euc", LOOK, check=False)
    dump, _, rest = shown.stdout.partition("\n\n")
    own, *others = [line.split("\t") for line in dump.splitlines()] or [[NONE] * 4]
    links, routes = [json.loads(line) for line in _documents(rest)]
    lines = station.node.hosts().splitlines(keepends=True)
    managed = [line for line in lines if line.rstrip().endswith(BANNER.encode())]
    return Found(
        key=own[1],
        port=own[2],
        addresses=frozenset(f"{a['local']}/{a['prefixlen']}" for link in links for a in link.get("addr_info", ())),
        peers={fields[0]: (fields[2], fields[3]) for fields in others},
        routes=frozenset(route["dst"] for route in routes),
        lines=tuple(sorted(line.decode().rstrip().removesuffix(BANNER).rstrip() for line in managed)),
        operators_own=b"".join(line for line in lines if line not in managed),
    )


def _documents(text: str) -> list[str]:
    """The two answers of `ip -json`, each on a line."""
    documents = [line for line in text.splitlines() if line.strip()]
    if len(documents) != 2:
        raise ValueError(f"no link, or no answer: {text!r}")
    return documents


def wrong(stations: Sequence[Station]) -> list[str]:
    """What is not as it should be, in words; empty where the mesh is exactly right."""
    problems: list[str] = []
    found: dict[str, Found] = {}
    for station in stations:
        try:
            found[station.name] = find(station)
        except (AssertionError, ValueError) as error:
            problems.append(f"{station.name}: {error}")
    if not problems:
        problems += _addresses(stations, found)
    if not problems:
        for station in stations:
            problems += (f"{station.name}: {text}" for text in _differs(station, stations, found))
    return problems


def _addresses(stations: Sequence[Station], found: dict[str, Found]) -> Iterator[str]:
    """Everybody has one address, that its name may have and that nobody else has."""
    holders: dict[str, str] = {}
    for station in stations:
        own = found[station.name].addresses
        derived = {str(derive(station.net, station.name.encode(), k)) for k in range(MAX_ATTEMPT + 1)}
        if len(own) != 1 or not {address.partition("/")[0] for address in own} <= derived:
            yield f"{station.name} has {sorted(own)}, which is not one of its sixteen"
        for address in own:
            if (other := holders.setdefault(address, station.name)) != station.name:
                yield f"{address} is {other}'s and {station.name}'s"


def _differs(station: Station, stations: Sequence[Station], found: dict[str, Found]) -> Iterator[str]:
    has = found[station.name]
    others = {other.name: other for other in stations if other is not station}
    truth = {name: (found[name], found[name].addresses) for name in others}
    own = {name: next(iter(addresses)).partition("/")[0] for name, (_, addresses) in truth.items()}
    peers = {
        found[name].key: (f"{other.node.address}:{found[name].port}", f"{own[name]}/32")
        for name, other in others.items()
    }
    names = {found[name].key: name for name in others}
    for key in peers.keys() | has.peers.keys():
        if (want := peers.get(key)) != (there := has.peers.get(key)):
            yield f"peer {names.get(key, key)}: {there}, should be {want}"
    if has.routes != frozenset(own.values()):
        yield f"routes: {sorted(has.routes ^ frozenset(own.values()))} too many or missing"
    lines = tuple(sorted(f"{own[name]}\t{name}" for name in others))
    if has.lines != lines:
        yield f"hosts lines: has {set(has.lines) - set(lines)}, lacks {set(lines) - set(has.lines)}, or one twice"
    if has.operators_own != station.operators_own:
        yield f"the operator's part of the hosts file has changed: {has.operators_own!r}"


def unwell(station: Station, size: int) -> str:
    """What `wesher status` has against the mesh; empty where it is well and has so many members."""
    check = station.node.wesher("status", "--check", check=False)
    if check.returncode != 0 or check.stdout:
        return f"status --check: {check.returncode}: {check.stdout}{check.stderr}"
    cluster = json.loads(station.node.wesher("status", "--json").stdout)["cluster"]
    return "" if cluster["size"] == cluster["alive"] == size else f"status: {cluster}"


def silent(station: Station, stations: Sequence[Station]) -> list[str]:
    """Whose names do not answer a ping through the overlay."""
    names = [other.name for other in stations if other is not station]
    shown = station.node.run("sh", "-c", PING_EACH, "sh", *names, timeout=30 + 8 * len(names))
    return [f"{station.name}: ping {name}: no answer" for name in shown.stdout.split()]
