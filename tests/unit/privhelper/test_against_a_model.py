"""The helper against a model that knows only sets, over a kernel that says no at any step and a host on which others
change what they like, while agents come and go: with a goodbye, without, or thrown out for what they sent.

What a record is refused for, what may come when and which names get a line is written here once more, from the design.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from privhelper.addressing import Address, derive
from privhelper.policy import HostsVerdict, PeerVerdict, Surroundings
from privhelper.protocol import (
    FIXED_ADDRESS,
    Bye,
    Failed,
    Farewell,
    Hello,
    InForce,
    OwnAddress,
    Peer,
    PeersInForce,
    PinnedPolicy,
    Request,
    SetAddr,
    SetPeers,
    Staged,
    Status,
    StatusPart,
    Verdicts,
    WriteHosts,
)
from tests.unit.privhelper.over_fakes import NET, PINNED, Helper, line

NODES = [*(f"node-{i}" for i in range(6)), "localhost", "git"]
TAKEN = frozenset(("git",))
"""The operator's, for a start; and `localhost` is everybody's."""
ADDRESSES = [derive(NET, name.encode(), attempt) for name in NODES for attempt in (0, 1)]
LIMIT = 4
INTRUDER = b"\x99" * 32


def _peer(name: str, key: int, attempt: int, host: int) -> Peer:
    """One of those that two of a name can be: another key, another address, another endpoint."""
    return Peer(
        (key * 16 + NODES.index(name)).to_bytes(32, "big"),
        ip_address(0xC0000200 + host),
        derive(NET, name.encode(), attempt),
        name,
    )


WRONG: list[Callable[[Peer], Peer]] = [
    lambda peer: replace(peer, overlay_addr=ip_address("192.168.3.4")),
    lambda peer: replace(peer, overlay_addr=peer.overlay_addr + 1),
    lambda peer: replace(peer, endpoint=ip_address("127.0.0.1")),
    lambda peer: replace(peer, endpoint=peer.overlay_addr),
    lambda peer: replace(peer, endpoint=ADDRESSES[0]),  # node-0's, if it is there
    lambda peer: replace(peer, endpoint=derive(NET, b"self", 0)),
    lambda peer: replace(peer, public_key=bytes(32)),
    lambda peer: replace(peer, public_key=peer.public_key[:31] + b"\x80"),
]
peers = st.builds(_peer, st.sampled_from(NODES), st.integers(1, 2), st.integers(0, 1), st.integers(1, 3))
wanted_sets = st.lists(
    peers | peers | peers | st.builds(lambda peer, spoil: spoil(peer), peers, st.sampled_from(WRONG)),
    unique_by=(lambda p: p.name, lambda p: p.public_key, lambda p: p.overlay_addr),
    max_size=2 * LIMIT,
)
endpoints = [ip_address(0xC0000200 + host) for host in (1, 2, 3)]
surroundings = st.builds(
    lambda covered, own, ranges, tunnelled, beside: Surroundings(
        networks=tuple(map(ip_network, covered)),
        addresses=frozenset(own),
        ranges=tuple(map(ip_network, ranges)),
        tunnelled=tuple(map(ip_network, tunnelled)),
        beside=tuple(map(ip_network, beside)),
    ),
    st.lists(st.sampled_from(ADDRESSES), max_size=2),
    st.lists(st.sampled_from(endpoints), max_size=1),
    st.sampled_from([[], [], ["192.0.2.2/31"]]),
    st.sampled_from([[], [], ["0.0.0.0/0"], ["192.0.2.0/24"]]),
    st.sampled_from([[], ["192.0.2.0/25"]]),
)

PHASES: dict[str, str] = {
    "NEW": "Hello",
    "GREETED": "InForce SetAddr Status Bye",
    "ADDRESSED": "InForce SetAddr SetPeers Status Bye",
    "STAGING": "SetPeers",
    "CONFIGURED": "InForce SetAddr SetPeers WriteHosts Status Bye",
    "ENDED": "",
}
"""What may come when."""
REQUESTS: list[Request] = [
    Hello("again"),
    InForce(0),
    SetAddr(1),
    SetPeers(()),
    SetPeers((_peer("node-5", 2, 1, 1),), True),
    WriteHosts(),
    Status(1),
    Bye(),
]
A, B = _peer("node-1", 1, 0, 1), _peer("node-2", 1, 0, 1)
TWINS: list[tuple[str, Request]] = [
    ("duplicate key", SetPeers((A, replace(B, public_key=A.public_key)))),
    ("duplicate address", SetPeers((A, replace(B, overlay_addr=A.overlay_addr)))),
    ("duplicate name", SetPeers((A, replace(B, name="NODE-1")))),
    ("count", SetPeers(tuple(_peer(name, key, 0, 1) for name in NODES for key in (1, 2)), True)),
    ("attempt", SetAddr(FIXED_ADDRESS)),  # none is pinned
]
"""What no honest agent sends."""


def _intrude(helper: Helper) -> None:
    helper.device.peers[INTRUDER] = ip_address("192.0.2.99")


def _take_allowed_ips(helper: Helper) -> None:
    for key in list(helper.device.peers)[:1]:
        helper.device.take_addresses(key)


def _give_everything_to_the_last(helper: Helper) -> None:
    helper.device.allowed |= dict.fromkeys(helper.device.allowed, next(reversed(helper.device.peers), INTRUDER))
    if INTRUDER in helper.device.allowed.values():
        _intrude(helper)


def _widen_allowed_ips(helper: Helper) -> None:
    for key in list(helper.device.peers)[:1]:
        helper.device.allowed[ip_network("192.168.0.0/16")] = key


def _remove_peer(helper: Helper) -> None:
    for key in list(helper.device.peers)[:1]:
        del helper.device.peers[key]
        helper.device.take_addresses(key)


def _change_key(helper: Helper) -> None:
    helper.device.key = INTRUDER


def _change_link(helper: Helper) -> None:
    helper.link.state = dict.fromkeys(helper.link.state, False)


def _take_address(helper: Helper) -> None:
    helper.link.address = None


def _flush_routes(helper: Helper) -> None:
    helper.link.routes.clear()


FOREIGN: list[Callable[[Helper], None]] = [
    Helper.lose_link,
    _change_link,
    _take_address,
    _flush_routes,
    _intrude,
    _remove_peer,
    _take_allowed_ips,
    _give_everything_to_the_last,
    _widen_allowed_ips,
    _change_key,
]


OF_THIS_HOST = (PeerVerdict.LOCAL_NETWORK, PeerVerdict.ENDPOINT_LOCAL, PeerVerdict.ENDPOINT_TUNNELLED)


def _way(endpoint: Address, around: Surroundings) -> str:
    """The most specific route's."""
    ways = {"tunnel": around.tunnelled, "beside": around.beside}
    found = [(net.prefixlen, way) for way, nets in ways.items() for net in nets if endpoint in net]
    return max(found, default=(-1, "nowhere"))[1]


class AgainstAModel(RuleBasedStateMachine):
    """The model holds what is in force as a list of records, or None while a failure has left that open.

    `broken`: the kernel may say no. `disturbed`: somebody else has changed something, or a covering network has come,
    that no repair has seen yet.
    """

    @initialize()
    def start(self) -> None:
        """An agent that has said HELLO and has an address."""
        self.helper = Helper(replace(PINNED, max_peers=LIMIT))
        self.helper.hosts.taken = TAKEN
        self.helper.addressed()
        self.broken = self.disturbed = False
        self.ever: set[Peer] = set()
        self.own: Address = derive(NET, b"self", 0)
        self._begin()

    def _begin(self) -> None:
        self.in_force: list[Peer] | None = []
        self.asked: list[Peer] = []
        self.names: list[Peer] | None = []
        self.waiting: list[Peer] = []

    def _phase(self) -> str:
        return self.helper.monitor._phase.name

    # --- requests

    @precondition(lambda self: self._phase() in ("ADDRESSED", "CONFIGURED"))
    @rule(wanted=wanted_sets, cuts=st.lists(st.integers(0, 8), max_size=2))
    def set_peers(self, wanted: list[Peer], cuts: list[int]) -> None:
        """A set in up to three parts."""
        self.ever.update(wanted)
        start = 0
        for cut in sorted(cuts):
            if start < cut < len(wanted):
                assert Staged() == self.helper.send(SetPeers(tuple(wanted[start:cut]), True))
                start = cut
        reply = self.helper.send(SetPeers(tuple(wanted[start:])))
        self.waiting = [p for p in wanted if self._why_not(p) in OF_THIS_HOST]
        if isinstance(reply, Failed):
            assert self.broken or self.disturbed
            self.in_force = self.names = None
            self.asked = wanted
            return
        assert isinstance(reply, Verdicts)
        verdicts = [PeerVerdict(verdict) for verdict, _ in reply.verdicts]
        if self.in_force is None:  # nobody knows who was there and keeps its place
            self.in_force = [p for p, verdict in zip(wanted, verdicts, strict=True) if verdict is PeerVerdict.ACCEPTED]
        assert self._expected(wanted, self.in_force) == verdicts
        self.in_force = [p for p, verdict in zip(wanted, verdicts, strict=True) if verdict is PeerVerdict.ACCEPTED]
        names = [self._name(p, verdict) for p, verdict in zip(wanted, verdicts, strict=True)]
        assert names == [HostsVerdict(verdict) for _, verdict in reply.verdicts]
        self.names = [p for p, verdict in zip(wanted, names, strict=True) if verdict is HostsVerdict.ACCEPTED]

    def _expected(self, wanted: list[Peer], in_force: list[Peer]) -> list[PeerVerdict]:
        """Whoever nothing speaks against has a place while there is one, those in force first; then no endpoint may be
        one of their addresses."""
        keys = {p.public_key for p in in_force}
        free = [p for p in wanted if self._why_not(p) is None]
        placed = sorted(free, key=lambda p: p.public_key not in keys)[:LIMIT]
        overlay = {p.overlay_addr for p in placed}
        found = []
        for p in wanted:
            if p in placed:
                found.append(PeerVerdict.ENDPOINT_OVERLAY if p.endpoint in overlay else PeerVerdict.ACCEPTED)
            else:
                found.append(self._why_not(p) or PeerVerdict.TOO_MANY)
        return found

    def _why_not(self, peer: Peer) -> PeerVerdict | None:
        """What speaks against a peer by itself, in the order in which it is told."""
        around = self.helper.link.around
        reasons = {
            PeerVerdict.OUTSIDE_NET: str(peer.overlay_addr).split(".")[0] != "10",
            PeerVerdict.OWN_ADDRESS: peer.overlay_addr == self.own,
            PeerVerdict.NOT_DERIVED: peer.overlay_addr not in ADDRESSES,
            PeerVerdict.LOCAL_NETWORK: any(peer.overlay_addr in net for net in around.networks),
            PeerVerdict.ENDPOINT_CLASS: peer.endpoint.is_loopback,
            PeerVerdict.ENDPOINT_LOCAL: peer.endpoint in around.addresses
            or any(peer.endpoint in net for net in around.ranges),
            PeerVerdict.ENDPOINT_OVERLAY: peer.endpoint == self.own,
            PeerVerdict.ENDPOINT_TUNNELLED: _way(peer.endpoint, around) == "tunnel",
            PeerVerdict.OWN_KEY: peer.public_key == self.helper.tunnels.public_key,
            PeerVerdict.WEAK_KEY: peer.public_key[31] >= 0x80 or not any(peer.public_key),
        }
        return next((reason for reason, speaks in reasons.items() if speaks), None)

    def _name(self, peer: Peer, verdict: PeerVerdict) -> HostsVerdict:
        reasons = {
            HostsVerdict.NO_PEER: verdict is not PeerVerdict.ACCEPTED,
            HostsVerdict.UNREADABLE: self.helper.hosts.unreadable,
            HostsVerdict.RESERVED: peer.name == "localhost",
            HostsVerdict.TAKEN: peer.name in self.helper.hosts.taken,
        }
        return next((reason for reason, speaks in reasons.items() if speaks), HostsVerdict.ACCEPTED)

    @precondition(lambda self: self._phase() in ("GREETED", "ADDRESSED", "CONFIGURED"))
    @rule(attempt=st.integers(0, 15))
    def ask_for_another_address(self, attempt: int) -> None:
        """One of our own."""
        self._set_addr(attempt)

    def _set_addr(self, attempt: int) -> None:
        reply = self.helper.send(SetAddr(attempt))
        if isinstance(reply, OwnAddress):
            assert derive(NET, b"self", attempt) == reply.address
            self.own = reply.address
        else:
            assert self.broken or self.disturbed

    @precondition(lambda self: self.in_force is not None and self._phase() in ("GREETED", "ADDRESSED", "CONFIGURED"))
    @rule()
    def ask_for_those_in_force(self) -> None:
        """As an agent that has been restarted does."""
        reply = self.helper.send(InForce(0))
        assert isinstance(reply, PeersInForce)
        assert self.in_force is not None
        assert len(self.in_force) == len(reply.peers)
        assert set(self.in_force) == set(reply.peers)

    @precondition(lambda self: self._phase() == "CONFIGURED")
    @rule()
    def write_hosts(self) -> None:
        """The names of the last set."""
        reply = self.helper.send(WriteHosts())
        if isinstance(reply, Failed):
            assert self.broken
        elif self.names is not None:
            assert tuple(map(line, self.names)) == self.helper.hosts.lines

    @precondition(lambda self: self._phase() in ("GREETED", "ADDRESSED", "CONFIGURED"))
    @rule()
    def status(self) -> None:
        """What the device has."""
        reply = self.helper.send(Status(0))
        assert self.broken or isinstance(reply, StatusPart)

    # --- agents

    @rule(request=st.sampled_from(REQUESTS))
    def speak_out_of_turn(self, request: Request) -> None:
        """A violation of order, and nothing else happens."""
        if type(request).__name__ not in PHASES[self._phase()].split():
            self._throw_out("order", request)

    @precondition(lambda self: self._phase() in ("ADDRESSED", "CONFIGURED"))
    @rule(twins=st.sampled_from(TWINS), staged=st.booleans())
    def send_what_no_honest_agent_sends(self, twins: tuple[str, Request], staged: bool) -> None:
        """Nothing of it is done."""
        if staged and isinstance(twins[1], SetPeers):
            assert Staged() == self.helper.send(SetPeers((_peer("node-5", 1, 0, 1),), True))
        self._throw_out(*twins)

    def _throw_out(self, code: str, request: Request) -> None:
        """The server takes everything down and ends; another one starts."""
        self.helper.kernel.forget()
        assert code == self.helper.violation(request)
        assert [] == self.helper.done()
        self.helper.kernel.recover()
        self.helper.tunnels.take_down()
        assert self.helper.is_down()
        self.start()

    @precondition(lambda self: self._phase() in ("ADDRESSED", "CONFIGURED"))
    @rule(part=wanted_sets.filter(bool))
    def lose_the_agent_between_two_parts(self, part: list[Peer]) -> None:
        """What it staged goes with it."""
        assert Staged() == self.helper.send(SetPeers(tuple(part), True))
        self.lose_the_agent()

    @rule()
    def lose_the_agent(self) -> None:
        """EOF: the next one finds things as they are."""
        self.helper.next_agent()
        self._come()

    @precondition(lambda self: self._phase() == "NEW")
    @rule()
    def come_again(self) -> None:
        """An agent whose HELLO failed tries again."""
        self._come()

    def _come(self) -> None:
        """HELLO, which makes a new link where the agent before took it down; then an own address."""
        was_up = self.helper.tunnels.public_key is not None
        reply = self.helper.send(Hello("test"))
        if isinstance(reply, Failed):
            assert self.broken
            assert not was_up
            assert self.helper.tunnels.public_key is None
            return
        assert isinstance(reply, PinnedPolicy)
        assert self.helper.tunnels.public_key == reply.public_key
        if self.in_force is not None:
            assert len(self.in_force) == reply.in_force
        if not was_up:
            assert self.helper.is_whole()
            self.disturbed = False
        self._set_addr(0)

    @precondition(lambda self: self._phase() in ("GREETED", "ADDRESSED", "CONFIGURED"))
    @rule()
    def say_goodbye(self) -> None:
        """All down, whatever state it was in; where something is refused, this helper ends and another starts."""
        reply = self.helper.send(Bye())
        if isinstance(reply, Failed):
            assert self.broken
            assert self.helper.tunnels.failures
            self.start()
            return
        assert Farewell() == reply
        assert self.helper.is_down()
        self.helper.next_agent()
        self._begin()
        self._come()

    # --- the host

    @precondition(lambda self: not self.broken)
    @rule(steps=st.integers(0, 12))
    def break_the_kernel(self, steps: int) -> None:
        """It says no after some more steps."""
        self.helper.kernel.fail_in(steps)
        self.broken = True

    @precondition(lambda self: self.broken)
    @rule()
    def mend_the_kernel(self) -> None:
        """It says yes again."""
        self.helper.kernel.recover()
        self.broken = False

    @precondition(lambda self: self.helper.tunnels.public_key is not None)
    @rule(change=st.sampled_from(FOREIGN))
    def disturb(self, change: Callable[[Helper], None]) -> None:
        """Somebody else changes something of ours."""
        change(self.helper)
        self.disturbed = True

    @rule(around=surroundings)
    def change_networks(self, around: Surroundings) -> None:
        """Local networks, addresses and routes come and go."""
        self.helper.link.around = around

    @rule(unreadable=st.booleans(), taken=st.sets(st.sampled_from(NODES), max_size=2))
    def change_the_hosts_file(self, unreadable: bool, taken: set[str]) -> None:
        """It cannot be read for a while, or the operator gives names to others."""
        self.helper.hosts.unreadable = unreadable
        self.helper.hosts.taken = frozenset(taken)

    @rule(mended=st.booleans())
    def repair(self, mended: bool) -> None:
        """Whatever happened, afterwards all is as it should be, and a second look finds nothing."""
        if mended:
            self.mend_the_kernel()
        tunnels = self.helper.tunnels
        if tunnels.public_key is None:
            assert [] == tunnels.repair()
            return
        try:
            found = tunnels.repair()
        except OSError:
            assert self.broken
            self.in_force = self.names = None
            self.asked = [p for p in self.ever if p in tunnels.in_force]
            return
        self.disturbed = False
        if self.in_force is None:
            assert set(tunnels.in_force) <= set(self.asked)
            self.in_force = tunnels.in_force
        else:
            self.in_force = [p for p in self.in_force if self._why_not(p) is None]
        possible = [p for p in self.waiting if self._why_not(p) not in OF_THIS_HOST]
        assert bool(possible) == ("peers possible again" in found)
        self.waiting = [p for p in self.waiting if p not in possible]
        assert self.helper.is_whole()
        assert not any(map(self._why_not, self.in_force))
        assert set(self.helper.hosts.lines) <= {line(p) for p in self.in_force}
        if self.names is not None:
            kept = [p for p in self.names if p in self.in_force]
            known = HostsVerdict.ACCEPTED, HostsVerdict.UNREADABLE
            self.names = [p for p in kept if self._name(p, PeerVerdict.ACCEPTED) in known]
            assert (self.names != kept) == ("names refused by now" in found)
        if not self.broken:
            assert [] == tunnels.repair()

    @invariant()
    def nothing_unasked_is_in_the_kernel(self) -> None:
        """Every tunnel and every route was once wanted, and while nothing fails they are what is in force."""
        if not hasattr(self, "helper") or self.disturbed:
            return
        records = {(p.public_key, p.endpoint, p.overlay_addr) for p in self.ever}
        assert {(key, *pair) for key, pair in self.helper.carried.items()} <= records
        assert self.helper.link.routes <= {p.overlay_addr for p in self.ever}
        if self.in_force is not None and self.helper.tunnels.public_key is not None:
            assert self.helper.has(self.in_force)

    def teardown(self) -> None:
        """Whatever happened, with a sound kernel nothing is left."""
        if not hasattr(self, "helper"):
            return
        self.helper.kernel.recover()
        self.helper.tunnels.take_down()
        assert [] == self.helper.tunnels.failures
        assert self.helper.is_down()


AgainstAModel.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestAgainstAModel = AgainstAModel.TestCase
