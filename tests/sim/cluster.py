"""Machines and strangers on one underlay; after every step the checkers look at whoever has changed.

What is done to the cluster is told to `tell`, in words: the story of a run, for who replays it, and part of its
fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from random import Random
from typing import Final

from privhelper.addressing import Network
from tests.sim import checkers
from tests.sim.machine import OVERLAY_NET, RETAIN_FAILED, Machine
from tests.sim.network import endpoint
from tests.sim.underlay import START, Underlay, Weather, nothing_is_cut
from wesher.swim.io import Endpoint

LOOK_AGAIN: Final = 0.25
"""Seconds between two looks at whether the mesh is whole."""

MEMORY_EVERY: Final = 0.2
"""Seconds between two looks at what a node keeps."""

LASTS: Final = 5.0
"""Seconds for which it must stay so."""


class Fault(AssertionError):
    """Something that must never be, at a time, at a machine."""


class Cluster:
    """`seed` decides everything. `story` is what was done and seen, with times; `rng` is for whoever does it.

    `forged`: somebody forges accusations, so that incarnations may run ahead of what nodes save.
    """

    def __init__(self, seed: int | str, *, tell: Callable[[str], None] | None = None) -> None:
        self.overlay_net: Network = OVERLAY_NET
        """Of machines that are added from now on."""
        self.underlay = Underlay(seed, keep_trace=False)
        self.machines: dict[str, Machine] = {}
        self.rng = Random(f"story of {seed}")
        self.story: list[str] = []
        self.forged = False
        self._tell = tell
        self._places = 0
        self._faults: list[str] = []
        self._touched: dict[Machine, None] = {}
        self._known_lives: dict[Machine, object] = {}
        self._promises: list[Callable[[], Iterable[str]]] = []
        self._memory_seen: dict[Machine, float] = {}
        self.recoveries: list[tuple[float, float]] = []
        """How long the mesh took to be whole, each time, and how long it may have taken."""

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self.underlay.now - START

    @property
    def weather(self) -> Weather:
        """Of the underlay."""
        return self.underlay.weather

    def tell(self, text: str) -> None:
        """Say what is being done."""
        line = f"{self.now:9.3f}  {text}"
        self.story.append(line)
        self.underlay.note(text.encode())
        if self._tell is not None:
            self._tell(line)

    # --- machines

    def add(
        self, name: str, *, split: bool | None = None, profile: str = "mesh", retain_failed: float = RETAIN_FAILED
    ) -> Machine:
        """A machine that does not run yet; by default its layout is chance."""
        machine = self.machines[name] = Machine(
            self.underlay,
            name,
            self.place(),
            split=self.rng.random() < 0.5 if split is None else split,
            profile=profile,
            rng=Random(f"{self.underlay.seed} {name}"),
            look_at=self._look_at,
            touched=self._touch,
            blame=self._blame,
            retain_failed=retain_failed,
            overlay_net=self.overlay_net,
            shakes=self._shakes,
        )
        return machine

    def place(self) -> Endpoint:
        """An address where nobody has lived yet."""
        self._places += 1
        return endpoint(self._places)

    def others(self, machine: Machine) -> list[Machine]:
        """All but this one."""
        return [other for other in self.machines.values() if other is not machine]

    def _shakes(self, machine: Machine, key: bytes) -> bool:
        """Whether a WireGuard handshake would succeed: both have each other for peers, and their packets pass."""
        ours = machine.helper
        for other in self.machines.values():
            theirs = other.helper
            if ours is None or theirs is None or theirs.device.key != key or ours.device.key is None:
                continue
            know = ours.device.peers.get(key) == other.at.ip, theirs.device.peers.get(ours.device.key) == machine.at.ip
            is_cut = (self.weather.cut("udp", *way) for way in ((machine.at, other.at), (other.at, machine.at)))
            return all(know) and not any(is_cut)
        return False

    def promise(self, checker: Callable[[], Iterable[str]]) -> None:
        """From now on this must hold too, whenever anybody has changed."""
        self._promises.append(checker)

    # --- weather

    def cut(
        self, *alone: Machine, inward: bool = True, outward: bool = True, kinds: Iterable[str] = ("udp", "tcp")
    ) -> None:
        """From now on nothing passes between these and all others; or only not to them, or not from them."""
        inside, lost = {machine.at for machine in alone}, frozenset(kinds)

        def is_cut(kind: str, source: Endpoint, to: Endpoint) -> bool:
            if kind not in lost or (source in inside) == (to in inside):
                return False
            return inward if to in inside else outward

        self.weather.cut = is_cut

    def calm(self) -> None:
        """Heal the network, and whoever is slow; clocks stay as they are."""
        self.tell("calm")
        self.weather.cut = nothing_is_cut
        self.weather.loss = self.weather.duplicate = self.weather.stray = 0.0
        for machine in self.machines.values():
            machine.slow(0.0)
            machine.disk.is_full = False

    # --- time, with the checkers beside it

    def run(self, seconds: float) -> None:
        """Let `seconds` pass. Raises Fault."""
        self._run_until(self.underlay.now + seconds)

    def until(self, reached: Callable[[], bool], *, within: float, what: str) -> float:
        """Run until `reached`; returns the seconds that took. Raises Fault."""
        begin = self.underlay.now
        while not reached():
            if self.underlay.now >= begin + within:
                raise Fault(f"{self.now:.3f}: {what}: not within {within:.1f} s")
            self.run(LOOK_AGAIN)
        return self.underlay.now - begin

    def converge(
        self, machines: Collection[Machine], *, within: float, gone: Collection[str] = (), lasts: float = LASTS
    ) -> float:
        """Run until the mesh of `machines` is whole, and see that it stays so; returns the seconds that took."""
        begin = self.underlay.now
        self.tell(f"the mesh of {', '.join(machine.name for machine in machines)} has {within:.1f} s to be whole")
        while problems := checkers.unsettled(machines, gone=gone):
            if self.underlay.now >= begin + within:
                raise Fault(f"{self.now:.3f}: not whole within {within:.1f} s: {'; '.join(problems)}")
            self.run(LOOK_AGAIN)
        took = self.underlay.now - begin
        self.tell(f"whole after {took:.2f} s")
        self.recoveries.append((took, within))
        self.run(lasts)
        if problems := checkers.unsettled(machines, gone=gone):
            raise Fault(f"{self.now:.3f}: whole no more: {'; '.join(problems)}")
        return took

    def end(self) -> str:
        """Stop everything, and look for errors that nobody handled; returns the run's fingerprint."""
        digest = self.underlay.digest
        for machine in self.machines.values():
            if machine.life is not None:
                machine.life.loop.errors += machine.life.loop.failed_tasks()
        self._judge()
        for machine in self.machines.values():
            machine.crash()
        return digest

    def _run_until(self, end: float) -> None:
        underlay, touched = self.underlay, self._touched
        while (at := underlay.next_step()) is not None and at <= end:
            underlay.step()
            if touched or self._faults:
                self._look()
        underlay.now = end

    # --- checking

    def _touch(self, machine: Machine) -> None:
        self._touched[machine] = None

    def _blame(self, machine: Machine, text: str) -> None:
        self._faults.append(f"{self.now:.3f}: {machine.name}: {text}")

    def _look_at(self, machine: Machine, data: bytes) -> None:
        node = machine.node
        assert node is not None
        for problem in checkers.datagram(node, data):
            self._blame(machine, problem)

    def _look(self) -> None:
        for machine in self._touched:
            for problem in self._problems(machine):
                self._blame(machine, problem)
        self._touched.clear()
        for promise in self._promises:
            self._faults += (f"{self.now:.3f}: {problem}" for problem in promise())
        self._judge()

    def _problems(self, machine: Machine) -> Iterable[str]:
        life, node = machine.life, machine.node
        now = self.underlay.now
        if machine.view_changed:
            machine.view_changed = False
            yield from checkers.view(machine)
            yield from checkers.hosts(machine, now)
        elif machine.helper is not None and machine.helper.stale_since is not None:
            yield from checkers.hosts(machine, now)
        if life is not None and node is not None:
            if self._known_lives.get(machine) is not life:
                self._known_lives[machine] = life
                yield from checkers.beginning(machine, life, forged=self.forged)
            yield from checkers.incarnation(machine, life, node)
            if now - self._memory_seen.get(machine, 0.0) >= MEMORY_EVERY:
                self._memory_seen[machine] = now
                yield from checkers.memory(machine, node)

    def _judge(self) -> None:
        for machine in self.machines.values():
            for loop in machine.loops:
                for context in loop.unhandled():
                    self._blame(machine, f"an error that nobody handles: {context.get('exception', context)!r}")
        if self._faults:
            faults, self._faults = self._faults, []
            raise Fault("; ".join(faults))
