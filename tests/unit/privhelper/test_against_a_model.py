"""The helper against a model that knows only sets, over a kernel that says no at any step and a host on which others
change what they like, while agents come and go, with a goodbye or without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from privhelper.addressing import Address, derive
from privhelper.policy import PeerVerdict, Surroundings
from privhelper.protocol import (
    Bye,
    Failed,
    Farewell,
    Hello,
    InForce,
    OwnAddress,
    Peer,
    PeersInForce,
    PinnedPolicy,
    SetAddr,
    SetPeers,
    Staged,
    Status,
    StatusPart,
    Verdicts,
    WriteHosts,
)
from tests.unit.privhelper.over_fakes import NET, PINNED, Helper, line

NODES = [f"node-{i}" for i in range(8)]
ADDRESSES = [derive(NET, name.encode(), attempt) for name in NODES for attempt in (0, 1)]
LIMIT = 4
INTRUDER = b"\x99" * 32

wanted_sets = st.lists(
    st.builds(
        lambda name, key, attempt, host: Peer(
            (key * 16 + NODES.index(name)).to_bytes(32, "big"),
            ip_address(0xC0000200 + host),
            derive(NET, name.encode(), attempt),
            name,
        ),
        st.sampled_from(NODES),
        st.integers(1, 2),
        st.integers(0, 1),
        st.integers(1, 3),
    ),
    unique_by=lambda p: p.name,
    max_size=2 * LIMIT,
)


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


class AgainstAModel(RuleBasedStateMachine):
    """The model holds what is in force as a list of records, or None while a failure has left that open.

    `broken`: the kernel may say no. `disturbed`: somebody else has changed something, or a covering network has come,
    that no repair has seen yet.
    """

    @initialize()
    def start(self) -> None:
        """An agent that has said HELLO and has an address."""
        self.helper = Helper(replace(PINNED, max_peers=LIMIT)).addressed()
        self.broken = self.disturbed = False
        self.ever: set[Peer] = set()
        self.own: Address = derive(NET, b"self", 0)
        self._begin()

    def _begin(self) -> None:
        self.in_force: list[Peer] | None = []
        self.asked: list[Peer] = []
        self.names: list[Peer] | None = []

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
        if isinstance(reply, Failed):
            assert self.broken or self.disturbed
            self.in_force = self.names = None
            self.asked = wanted
            return
        assert isinstance(reply, Verdicts)
        accepted = [p for p, (verdict, _) in zip(wanted, reply.verdicts, strict=True) if verdict == 0]
        covered = [p for p, (v, _) in zip(wanted, reply.verdicts, strict=True) if v == PeerVerdict.LOCAL_NETWORK]
        assert covered == [p for p in wanted if self._is_covered(p)]
        if self.in_force is not None:
            assert self._expected(wanted, self.in_force) == accepted
        assert min(LIMIT, len(wanted) - len(covered)) == len(accepted)
        self.in_force = self.names = accepted

    def _expected(self, wanted: list[Peer], in_force: list[Peer]) -> list[Peer]:
        keys = {p.public_key for p in in_force}
        free = [p for p in wanted if not self._is_covered(p)]
        chosen = ([p for p in free if p.public_key in keys] + [p for p in free if p.public_key not in keys])[:LIMIT]
        return [p for p in wanted if p in chosen]

    def _is_covered(self, peer: Peer) -> bool:
        return any(peer.overlay_addr in net for net in self.helper.link.around.networks)

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

    @rule(covered=st.lists(st.sampled_from(ADDRESSES), max_size=2))
    def change_networks(self, covered: list[Address]) -> None:
        """Local networks come and go."""
        self.helper.link.around = Surroundings(tuple(map(ip_network, covered)))

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
            tunnels.repair()
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
            self.in_force = [p for p in self.in_force if not self._is_covered(p) and p.overlay_addr != self.own]
        assert self.helper.is_whole()
        assert not any(map(self._is_covered, self.in_force))
        assert set(self.helper.hosts.lines) <= {line(p) for p in self.in_force}
        if self.names is not None:
            self.names = [p for p in self.names if p in self.in_force]
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
