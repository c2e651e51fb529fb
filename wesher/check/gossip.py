"""Gossip's address and port, who is to be joined, and the path there."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from wesher.check.finding import Level, Said, ok, some, warning
from wesher.check.meeting import Met
from wesher.check.reaching import overlay_mtu, packet_size
from wesher.check.start import REFUSALS, Start
from wesher.mesh.saved_state import SavedNode
from wesher.plan import check_cluster_port
from wesher.runtime.bind_addr import BindAddress
from wesher.show import plain
from wesher.swim.io import Endpoint, from_wire


def address(start: Start) -> Said:
    """Which address is bound, which announced, and why."""
    if isinstance(start.bound, REFUSALS):
        raise start.bound
    bound = start.bound
    announced = from_wire(bound.announced, 0).ip
    yield ok(f"{bound.bind} is bound, {announced} announced: {_why(start.values, bound)}")


def _why(values: Mapping[str, Any], bound: BindAddress) -> str:
    if values["advertise-addr"] is not None:
        return "as --advertise-addr says"
    if bound.bind.is_unspecified:
        return "a private address of this host" + ("" if values["bind-addr"] else ", which has no public one")
    if values["bind-addr"] is not None:
        return "as --bind-addr says"
    return "a public address of this host" if values["bind-iface"] is None else f"the first of {values['bind-iface']}"


def gossip_port(start: Start) -> Said:
    """Whether it can be bound."""
    if isinstance(start.bound, REFUSALS):
        return
    check_cluster_port(start.bound.bind, start.config.cluster_port)
    yield ok(f"{start.config.cluster_port} is free, UDP and TCP")


def join(start: Start) -> Said:
    """Whether those answer who are named."""
    if not start.config.join:
        known = () if isinstance(start.saved, REFUSALS) else start.saved.nodes
        members = "1 saved member" if len(known) == 1 else f"{len(known)} saved members"
        yield ok(f"nobody named: {f'{members} will be tried' if known else 'waits for others'}")
        return
    for met in start.met:
        yield _how(met, start)


def _how(met: Met, start: Start) -> tuple[Level, str]:
    """How it went with one of them, and what to do where it went badly."""
    name, port, best = plain(met.contact.host), met.port, met.best
    if met.unresolved:
        return warning(f"{name} {met.unresolved}")
    if best is None:
        return ok(f"{name} is this node itself, and passed over")
    if best.tcp and not best.udp:
        failures = [f"{reached.endpoint}: {reached.tcp}" for reached in met.reached]
        return warning(
            f"{name} does not answer ({some(failures)}); start wesher there, and open port {port}, TCP and UDP, "
            "between the two; until then it will be tried again"
        )
    if best.tcp:
        return warning(
            f"{name} answers by UDP as {best.endpoint}, but not by TCP ({best.tcp}); open TCP port {port} between the "
            "two: who cannot be dialled cannot be joined"
        )
    if best.knows_key is False:
        return warning(
            f"{name} takes a connection as {best.endpoint}, but does not answer to this cluster key; give the one that "
            "`wesher key show` shows there, or see whether it is wesher that listens"
        )
    if best.udp is False:
        return warning(
            f"{name} answers by TCP as {best.endpoint}, but not by UDP; open UDP port {port} between the two: gossip "
            "goes by UDP, and what only TCP carries is late"
        )
    if best.back is False:
        return warning(
            f"{name} answers as {best.endpoint}, TCP and UDP, but what it sends of itself does not arrive; open UDP "
            f"port {start.config.cluster_port} for it here"
        )
    if best.tunnel_refused:
        tunnel = start.pinned.wireguard_port
        return warning(
            f"{name} answers as {best.endpoint}, but says that nobody is at its UDP port {tunnel}; open it there for "
            "WireGuard, or give the --wireguard-port that is used there"
        )
    if best.udp is None:
        return ok(f"{name} answers as {best.endpoint}, TCP; to try UDP takes the cluster key")
    heard = " and is heard here" if best.back else ""
    return ok(f"{name} answers as {best.endpoint}, TCP and UDP{heard}")


def path_mtu(start: Start) -> Said:
    """Whether the largest packets of the tunnels get there whole: those who are named, else saved members by what this
    host knows of the way to them."""
    reached = [(plain(met.contact.host), met.best) for met in start.met]
    paths = [(name, best.endpoint, best.takes) for name, best in reached if best is not None and best.takes is not None]
    if not start.config.join and not isinstance(start.saved, REFUSALS):
        ends = [(plain(node.name), _gossip_end(node, start.config.cluster_port)) for node in start.saved.nodes]
        known = [(name, end, start.probe.known_path(end)) for name, end in ends]
        paths = [(name, end, takes) for name, end, takes in known if takes is not None]
    wanted = {version: packet_size(start.pinned.mtu, version) for version in (4, 6)}
    narrow = [(takes, name, end) for name, end, takes in paths if takes < wanted[end.ip.version]]
    if narrow:
        takes, name, end = min(narrow, key=lambda path: path[0])
        others = f", and to {len(narrow) - 1} more no better" if len(narrow) > 1 else ""
        fitting = overlay_mtu(takes, end.ip.version)
        yield warning(
            f"the path to {name} ({end.ip}) takes packets of {takes} bytes{others}, and with --mtu {start.pinned.mtu} "
            f"tunnels make some of {wanted[end.ip.version]}, which will be lost or cut up; give --mtu {fitting}, here "
            "and there"
        )
    elif paths:
        largest = max(wanted[end.ip.version] for _, end, _ in paths)
        yield ok(f"packets of {largest} bytes get there, the largest with --mtu {start.pinned.mtu}")


def _gossip_end(node: SavedNode, port: int) -> Endpoint:
    return from_wire(ip_address(node.addr).packed, port)
