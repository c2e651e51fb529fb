"""The mesh as this host has it: link, key, own address, peers in force with their routes, and hosts lines.

It outlives agents: one that is killed or upgraded finds everything as it was. All changes are differences against
what is in force; what others change behind our back is put right by `repair`. Methods raise OSError where the kernel,
WireGuard or the hosts file says no; what was done by then is remembered, what is doubtful is done again, by the next
set or by `repair`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_network
from typing import Final

from privhelper.addressing import Address, is_edge
from privhelper.device import Device, Hosts, Link
from privhelper.options import Pinned, own_address
from privhelper.policy import HostsVerdict, PeerVerdict, Policy, covers, line_name
from privhelper.protocol import Backend, HostsResult, Peer, PeerStatus

_OF_THIS_HOST: Final = (PeerVerdict.LOCAL_NETWORK, PeerVerdict.ENDPOINT_LOCAL, PeerVerdict.ENDPOINT_TUNNELLED)
"""Refusals that end by themselves when this host's network changes."""

_STANDING: Final = (HostsVerdict.ACCEPTED, HostsVerdict.UNREADABLE)
"""What leaves a name its line: of a file that cannot be read nothing new is known."""


class Tunnels:
    """What is in force on `device` and `link` and in `hosts`. `public_key` is None while nothing is set up."""

    def __init__(self, pinned: Pinned, device: Device, link: Link, hosts: Hosts) -> None:
        self.pinned = pinned
        self.public_key: bytes | None = None
        self.failures: list[OSError] = []
        """What the last `take_down` could not do."""
        self._device = device
        self._link = link
        self._hosts = hosts
        self._own_address: Address | None = None
        self._in_force: dict[bytes, Peer] = {}
        # Keys whose last change failed half way: the device may or may not have them as `_in_force` says.
        self._unsure: set[bytes] = set()
        # What the last change was to bring about, while it has not.
        self._unfinished: list[Peer] | None = None
        # Those of the last set that only this host's own network stands against, as long as it does.
        self._in_the_way: list[Peer] = []
        self._lines: list[tuple[Address, str]] = []
        # What may stand in the file; None before the first write, which is the agent's to ask for.
        self._written: list[tuple[Address, str]] | None = None
        # Whether others may stand there too, since no write has been whole after the one that left them out. Only
        # that: who may stand there is the agent's to say, and with every write that breaks off it could say more.
        self._leftovers = False
        # What this host was known to have when the device chose where its packets come from.
        self._addresses: frozenset[Address] = frozenset()

    @property
    def backend(self) -> Backend:
        """Which WireGuard it is."""
        return self._device.backend

    @property
    def in_force(self) -> list[Peer]:
        """The peers, in the order in which they came; after a change that failed half way those it was for."""
        return list(self._in_force.values()) if self._unfinished is None else list(self._unfinished)

    # --- up and down

    def set_up(self) -> None:
        """Make the link, with a new key and no peer. FileExistsError where the link's name is somebody else's."""
        self._link.make()
        try:
            public_key = self._device.create(self.pinned.wireguard_port, self.pinned.keepalive)
            self._link.bring_up()
        except OSError:
            self.take_down()
            raise
        self.public_key = public_key

    def take_down(self) -> None:
        """Leave the host as it was: hosts lines, then peers and key, then the link. `failures` has what failed."""
        self.public_key = self._own_address = None
        self._in_force.clear()
        self._unsure.clear()
        self._unfinished = None
        self._in_the_way.clear()
        steps: Sequence[Callable[[], object]] = (self._clear_hosts, self._device.destroy, self._link.delete)
        self.failures = [error for error in map(_attempt, steps) if error is not None]

    # --- what an agent asks for

    def set_address(self, attempt: int) -> Address:
        """Own overlay address := the pinned one, else derive(pinned name, attempt). EADDRNOTAVAIL where a local network
        has it."""
        address = own_address(self.pinned, attempt)
        if is_edge(self.pinned.overlay_net, address) or covers(self._link.surroundings().networks, address):
            raise OSError(errno.EADDRNOTAVAIL, "this node's overlay address cannot be used on this host")
        self._link.assign(address)
        self._own_address = address
        return address

    def set_peers(self, wanted: Sequence[Peer]) -> list[tuple[PeerVerdict, HostsVerdict]]:
        """Make those of `wanted` that the policy accepts the only peers; both verdicts on each, in order."""
        verdicts = self._policy().judge(wanted, self._in_force, self._taken_names())
        self._in_the_way = [p for p, (verdict, _) in zip(wanted, verdicts, strict=True) if verdict in _OF_THIS_HOST]
        lines = [
            self._line(peer)
            for peer, (_, verdict) in zip(wanted, verdicts, strict=True)
            if verdict is HostsVerdict.ACCEPTED
        ]
        self._take_away_all_but(lines)
        self._apply([p for p, (verdict, _) in zip(wanted, verdicts, strict=True) if verdict is PeerVerdict.ACCEPTED])
        self._lines = lines
        return verdicts

    def write_hosts(self) -> HostsResult:
        """Make the accepted names our only lines in the hosts file."""
        if not self.pinned.etc_hosts:
            return HostsResult.DISABLED
        # If it fails half way, any of these may stand there, and any that stood there before.
        self._leftovers = self._leftovers or not set(self._lines).issuperset(self._written or ())
        self._written = self._lines
        result = self._hosts.write(self._lines)
        if result is HostsResult.WRITTEN:  # else the file that we have open keeps what it has, and may come back
            self._leftovers = False
        return result

    def status(self) -> list[PeerStatus]:
        """A reading of every peer."""
        return self._device.status()

    # --- what others do

    def repair(self) -> list[str]:
        """Put right what was changed behind our back, finish what failed half way, and withdraw peers that the policy
        refuses by now, such as those that a new local network covers.

        Says in fixed words what was not as it should be; nothing while nothing is set up. No step waits for another
        to work: where a route of somebody else's stands in the place of ours, the link is whole only without that peer.
        """
        if self.public_key is None:
            return []
        found: list[str] = []
        failures = []
        steps = (
            self._repair_link,
            self._withdraw,
            self._repair_device,
            self._move_sources,
            self._remind_link,
            self._repair_lines,
        )
        for step in steps:
            try:
                found += step()
            except OSError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return found + self._make_room()  # which finds it once: it has to be heard

    def _repair_link(self) -> list[str]:
        if self._link.exists():
            return list(self._link.repair())
        self._link.make()
        self._device.restore()
        self._link.bring_up()
        return ["link gone"]

    def _withdraw(self) -> list[str]:
        """A record in force is no better than a new one: what the policy refuses by now goes, line and all, and so does
        the line of a name that the operator has given to somebody else."""
        if self._own_address is None:
            return []
        peers, found = self.in_force, []
        verdicts = self._policy().judge(peers, self._in_force, self._taken_names())
        kept = [p for p, (verdict, _) in zip(peers, verdicts, strict=True) if verdict is PeerVerdict.ACCEPTED]
        if self._unfinished is not None:
            found.append("a set half applied")
        if len(kept) < len(peers):
            found.append("peers refused by now")
        standing = {self._line(p) for p, (_, verdict) in zip(peers, verdicts, strict=True) if verdict in _STANDING}
        without_a_name = {self._line(peer) for peer in kept} - standing
        names = [] if without_a_name.isdisjoint(self._lines) else ["names refused by now"]
        self._lines = [line for line in self._lines if line in standing]
        self._take_away_all_but(self._lines)
        if found:
            self._apply(kept)
        return found + names

    def _repair_device(self) -> list[str]:
        found = []
        held = self._device.holding()
        if (held.public_key, held.port) != (self.public_key, self.pinned.wireguard_port):
            self._device.restore()
            held = self._device.holding()
            found.append("key or port")
        if self._unfinished is not None:
            return found  # which peers it should have is still open
        foreign = [key for key in held.allowed_ips if key not in self._in_force]
        wrong = [
            peer
            for key, peer in self._in_force.items()
            if held.allowed_ips.get(key) != frozenset((ip_network(peer.overlay_addr),))
        ]
        if foreign or wrong:
            self._device.apply(foreign, wrong, [p.public_key for p in wrong if p.public_key in held.allowed_ips])
            found.append("peers")
        return found

    def _move_sources(self) -> list[str]:
        """Nothing was done to us where this host has lost an address, but packets may still want to come from there."""
        addresses = self._link.surroundings().addresses
        if not self._addresses <= addresses:
            self._device.forget_sources()
        self._addresses = addresses
        return []

    def _remind_link(self) -> list[str]:
        """What a link that was half changed, or half made anew, has forgotten, it is told again."""
        if self._own_address is not None:
            self._link.assign(self._own_address)
        if self._unfinished is None:
            self._link.route({peer.overlay_addr for peer in self.in_force})
        return []

    def _repair_lines(self) -> list[str]:
        if self._leftovers or (self._written is not None and self._written != self._lines):
            self.write_hosts()
        elif self._written and self._lacks_lines():
            self.write_hosts()
            return ["names gone"]
        return []

    def _lacks_lines(self) -> bool:
        """Of a file that cannot be read nothing is known."""
        try:
            return self._hosts.lacks(self._lines)
        except OSError:
            return False

    def _make_room(self) -> list[str]:
        """A local network that has gone no longer stands in a peer's way: the agent has to hear of it to ask again."""
        if not self._in_the_way:
            return []
        policy = self._policy()
        still = [peer for peer in self._in_the_way if policy.peer_verdict(peer) in _OF_THIS_HOST]
        found = ["peers possible again"] if len(still) < len(self._in_the_way) else []
        self._in_the_way = still
        return found

    # --- below

    def _policy(self) -> Policy:
        assert self._own_address is not None  # noqa: S101 - SET_PEERS comes only after SET_ADDR
        assert self.public_key is not None  # noqa: S101 - and that only after HELLO, which sets up
        return Policy(
            overlay_net=self.pinned.overlay_net,
            node_name=self.pinned.node_name,
            own_address=self._own_address,
            own_key=self.public_key,
            max_peers=self.pinned.max_peers,
            etc_hosts=self.pinned.etc_hosts,
            hosts_suffix=self.pinned.hosts_suffix,
            static_addresses=self.pinned.static_addresses,
            surroundings=self._link.surroundings(),  # as of now: a network may have come since the last set
        )

    def _line(self, peer: Peer) -> tuple[Address, str]:
        return peer.overlay_addr, line_name(peer.name, self.pinned.hosts_suffix) or peer.name

    def _taken_names(self) -> frozenset[str] | None:
        """None where the file cannot be read: names then wait, tunnels do not."""
        try:
            return self._hosts.taken_names() if self.pinned.etc_hosts else frozenset()
        except OSError:
            return None

    def _apply(self, accepted: Sequence[Peer]) -> None:
        """Turn the peers in force into `accepted`. If the kernel says no half way, remember what is no longer sure."""
        wanted = {peer.public_key: peer for peer in accepted}
        addresses = {peer.overlay_addr for peer in accepted}
        gone = [key for key in self._in_force if key not in wanted]
        changed = [p for k, p in wanted.items() if self._in_force.get(k) != p or k in self._unsure]
        placed = [p.public_key for p in changed if self._is_placed(p)]
        self._unsure.update(gone, (peer.public_key for peer in changed))
        self._unfinished = list(accepted)
        # No packet may leave through the tunnel for a peer that is going or not yet there.
        self._link.route(addresses & {peer.overlay_addr for peer in self._in_force.values()})
        self._in_force |= {peer.public_key: peer for peer in changed}
        self._device.apply(gone, changed, placed)
        self._link.route(addresses)
        self._in_force = wanted
        self._unsure.clear()
        self._unfinished = None

    def _is_placed(self, peer: Peer) -> bool:
        """Whether WireGuard was given this endpoint before, and may have learned a better one since."""
        before = self._in_force.get(peer.public_key)
        return before is not None and before.endpoint == peer.endpoint and peer.public_key not in self._unsure

    def _take_away_all_but(self, lines: Sequence[tuple[Address, str]]) -> None:
        """A name that outlives its tunnel sends traffic for it in clear, and whether WRITE_HOSTS follows is up to the
        agent: names that go, go before their tunnels do. Where that fails, `repair` does it."""
        kept, standing = set(lines), self._written or ()
        staying = [line for line in standing if line in kept]
        if self._leftovers or len(staying) < len(standing):
            with suppress(OSError):
                if self._hosts.write(staying) is HostsResult.WRITTEN:
                    self._written, self._leftovers = staying, False

    def _clear_hosts(self) -> None:
        self._lines, self._written, self._leftovers = [], None, False
        if self.pinned.etc_hosts:
            self._hosts.clear()


def _attempt(step: Callable[[], object]) -> OSError | None:
    try:
        step()
    except OSError as error:
        return error
    return None
