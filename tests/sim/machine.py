"""One machine of the cluster: the real agent on its virtual loop, its helper, and a disk, at an address.

    agent     wesher.runtime's Agent with all it is made of (Gossip, Peers, Joining, HelperClient, Stop): nothing of it
              is imitated. Only the opening of descriptors and the lockdown, which come before, are left out
    helper    see helper.py; in the split layout it outlives the agent
    disk      one state file; a write takes a while, and is done whole or not at all

`stop` is a service manager's stop of the whole, `stop_agent` a signal to the agent alone; `kill_agent` and `crash` give
nobody a chance to say anything.
"""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network
from random import Random
from typing import Any, Final

from privhelper.addressing import Address, Network
from privhelper.notify import Notify
from privhelper.options import Pinned
from privhelper.policy import Surroundings
from privhelper.protocol import Violation
from tests.sim.helper import Helper
from tests.sim.loop import VirtualLoop
from tests.sim.network import KEY, PORT
from tests.sim.sockets import LineEnd, Ports
from tests.sim.underlay import START, TODAY, Underlay
from wesher.config import AgentConfig, Contact
from wesher.mesh.rotation import Keys
from wesher.mesh.saved_state import SavedState, parse, render
from wesher.runtime.agent import _greeted
from wesher.runtime.composition import Agent
from wesher.runtime.control import Declined
from wesher.runtime.helper_client import HelperClient, HelperGone
from wesher.runtime.standing import Refused
from wesher.runtime.state_at_start import StartError, keep_state, read_state
from wesher.runtime.stop import Stop
from wesher.swim.io import Endpoint
from wesher.swim.node import Node

OVERLAY_NET: Final = IPv4Network("10.77.0.0/20")
RETAIN_FAILED: Final = 300.0
FORGET_AFTER: Final = 72 * 3600.0


class Disk:
    """A machine's state file: `wesher.runtime.state_file.StateFile` with its bytes kept here."""

    path = "/var/lib/wesher/wgoverlay.json"

    def __init__(self) -> None:
        self.content: bytes | None = None
        self.is_full = False
        self.unwritable: str | None = None

    def load(self) -> SavedState | None:
        """What was saved."""
        return None if self.content is None else parse(self.content)

    def save(self, state: SavedState) -> str | None:
        """Whole, or OSError."""
        if self.is_full:
            self.unwritable = "No space left on device"
            raise OSError(errno.ENOSPC, self.unwritable)
        self.content, self.unwritable = render(state), None
        return None

    def set_aside(self) -> str | None:
        """Nobody asks for it: there is no --init here."""
        return None


@dataclass
class Life:
    """One run of an agent: its first incarnation and the highest since; what was `saved` `before` it, if anything."""

    loop: VirtualLoop
    ports: Ports
    line: LineEnd
    agent: Agent | None = None
    first: int = 0
    highest: int = 0
    saved: int | None = None
    """The incarnation in the state file when it began."""
    before: int | None = None
    """The highest of the life before, if the file of that is still there."""


class Machine:
    """`name` is the node's; `look_at` sees every datagram it sends, `touched` is called when something has changed."""

    def __init__(
        self,
        underlay: Underlay,
        name: str,
        at: Endpoint,
        *,
        split: bool,
        profile: str,
        rng: Random,
        look_at: Callable[[Machine, bytes], None],
        touched: Callable[[Machine], None],
        blame: Callable[[Machine, str], None],
        retain_failed: float = RETAIN_FAILED,
        overlay_net: Network = OVERLAY_NET,
        shakes: Callable[[Machine, bytes], bool] = lambda *_: False,
    ) -> None:
        self.name = name
        self.at = at
        self.split = split
        self.disk = Disk()
        self.clock_ahead = 0
        self.clock_went_back = False
        """Whether incarnations may have to begin below what the calendar once said (see checkers)."""
        self.helper: Helper | None = None
        self.life: Life | None = None
        self.view_changed = False
        self.exits: list[int | BaseException] = []
        self.loops: list[VirtualLoop] = []
        self._underlay = underlay
        self._profile = profile
        self._rng = rng
        self._look_at = look_at
        self._touched = touched
        self._blame = blame
        self._retain_failed = retain_failed
        self._overlay_net = overlay_net
        self._shakes = shakes
        self._highest: int | None = None
        self._helpers = 0
        self._effort = 0.0
        self._stopped_until = 0.0

    @property
    def node(self) -> Node | None:
        """The agent's node, while it runs."""
        return self.agent._node if self.agent is not None else None

    @property
    def agent(self) -> Agent | None:
        """The agent, from the helper's greeting to its end."""
        return self.life.agent if self.life is not None else None

    @property
    def overlay_addr(self) -> Address | None:
        """Its own, as the helper gave it."""
        return self.helper.tunnels._own_address if self.helper is not None else None

    # --- what its administrator does

    def start(self, *contacts: Machine) -> None:
        """Start what does not run; the agent joins `contacts`, or whom it remembers."""
        if self.helper is None:
            self._start_helper()
        if self.life is None:
            self._start_agent(tuple(Contact(str(contact.at.ip), 0) for contact in contacts))

    def stop(self) -> None:
        """Leave the mesh: the helper is told to terminate, and tells the agent."""
        if self.helper is not None:
            self.helper.terminate()

    def stop_agent(self) -> None:
        """SIGTERM to the agent alone: in the split layout it detaches."""
        if self.life is not None:
            self.life.loop.signal(signal.SIGTERM)

    def kill_agent(self) -> None:
        """SIGKILL to the agent: the kernel closes its sockets, and the helper sees its EOF."""
        if self.life is not None:
            life = self.life
            life.loop.kill()
            self._agent_exited(life, -signal.SIGKILL)

    def kill_helper(self) -> None:
        """SIGKILL to the helper: the agent sees its EOF; the link is gone with its process, or with the next start."""
        if self.helper is not None:
            helper, self.helper = self.helper, None
            helper.kill()
            if self.life is not None:
                self.life.line.end()

    def crash(self) -> None:
        """The power fails. The disk keeps what was written."""
        life, helper = self.life, self.helper
        self.life = self.helper = None
        if life is not None:
            self._highest = life.highest or self._highest
            life.loop.kill()
            life.ports.close(silently=True)
        if helper is not None:
            helper.kill()

    def move(self, at: Endpoint) -> None:
        """Have another address from the next start on."""
        assert self.life is None
        self.at = at

    def rotate(self, grace: int) -> None:
        """`wesher key rotate`, which goes on until it is done, or its agent ends."""
        if self.life is not None and self.agent is not None:
            self.life.loop.create_task(_rotate(self.agent, grace))
            self.life.loop.wake()

    def forget(self, name: str) -> None:
        """`wesher forget`; where its agent knows better, nothing comes of it."""
        if self.life is not None and self.agent is not None:
            self.life.loop.create_task(_forget(self.agent, name))
            self.life.loop.wake()

    @property
    def remembers(self) -> set[str]:
        """Whom it looks for when they are not there, while it runs."""
        return {node.name for node in self.agent._remembered.nodes} if self.agent is not None else set()

    @property
    def keys(self) -> Keys | None:
        """The cluster keys that it holds, while it runs."""
        return self.agent._rotating.keys if self.agent is not None else None

    # --- what happens to it

    def pause(self, seconds: float) -> None:
        """The whole machine stands still."""
        self._stopped_until = max(self._stopped_until, self._underlay.now + seconds)
        if self.helper is not None:
            self.helper.pause(self._stopped_until)
        if self.life is not None:
            self.life.loop.pause(self._stopped_until)

    @property
    def still_for(self) -> float:
        """Seconds until it goes on."""
        return max(0.0, self._stopped_until - self._underlay.now)

    def slow(self, seconds: float) -> None:
        """Each input takes the agent so long."""
        self._effort = seconds
        if self.life is not None:
            self.life.loop.effort = seconds

    def step_clock(self, seconds: int) -> None:
        """Set the calendar."""
        self.clock_ahead += seconds
        self.clock_went_back |= seconds < 0

    def calendar(self) -> float:
        """What its clock shows, in seconds since 2020."""
        return TODAY + self._underlay.now - START + self.clock_ahead

    # --- its processes

    def _start_helper(self) -> None:
        self._helpers += 1
        pinned = Pinned(self.name, self._overlay_net, "wgoverlay", 51820, 1420, 1000, 0, True, "/etc/hosts", "")
        self.helper = helper = Helper(
            self._underlay,
            pinned,
            split=self.split,
            life=f"{self._underlay.seed} {self.name} {self._helpers}",
            rng=Random(self._rng.getrandbits(64)),
            on_violation=self._on_violation,
            on_change=self._on_view,
            on_end=lambda _: self._helper_ended(helper),
        )
        helper.device.shakes = partial(self._shakes, self)
        helper.device.calendar = self.calendar
        helper.link.around = Surroundings(addresses=frozenset((self.at.ip,)))
        helper.pause(self._stopped_until)

    def _start_agent(self, contacts: tuple[Contact, ...]) -> None:
        helper = self.helper
        assert helper is not None
        loop = VirtualLoop(
            self._underlay,
            self.name,
            rng=Random(self._rng.getrandbits(64)),
            calendar=self.calendar,
            after_turns=lambda: self._touched(self),
            on_exit=lambda status: self._agent_exited(life, status),
        )
        loop.disk_delay = lambda: self._rng.choice((0.001, 0.01, 0.3))
        loop.effort = self._effort
        self.loops.append(loop)
        ports = loop.network = Ports(self._underlay, loop, self.at, partial(self._look_at, self))
        line = LineEnd(loop, lambda data: helper.receive(line, data), lambda: helper.hung_up(line))
        life = self.life = Life(loop, ports, line)
        helper.meet(line)
        if self._underlay.now < self._stopped_until:
            loop.pause(self._stopped_until)
        loop.start(self._run(self._config(contacts), life))

    def _config(self, contacts: tuple[Contact, ...]) -> AgentConfig:
        return AgentConfig(
            cluster_key=KEY,
            join=contacts,
            init=False,
            bind_addr=str(self.at.ip),
            announced=self.at.ip.packed,
            follow=False,
            bind_iface="",
            cluster_port=PORT,
            profile=self._profile,
            meta_format="auto",
            retain_failed=self._retain_failed,
            forget_after=FORGET_AFTER,
            interface="wgoverlay",
            state_file=Disk.path,
            runtime_dir="/run/wesher",
            log_level="info",
            log_format="text",
            sandbox="strict",
            show_key=False,
            split=self.split,
            expected=(),
        )

    async def _run(self, config: AgentConfig, life: Life) -> int:
        """What `wesher.runtime.agent._run` does once everything is open."""
        line: Any = life.line
        disk: Any = self.disk
        sockets: Any = (life.ports.udp, None)
        stop = Stop()
        helper = HelperClient(line, stop.on_helper_event)
        saved = read_state(config, disk)
        standing = await _greeted(config, saved, helper, stop)
        if standing is None:
            return 0
        agent = Agent(config, disk, keep_state(config, disk, saved), helper, standing, stop, Notify({}), sockets)
        life.agent = agent
        life.first = life.highest = agent._node.me.incarnation
        own = saved.own_for(self.name)
        if own is not None:
            life.saved, life.before = own.incarnation, self._highest
        self._watch(agent._node)
        helper.on_event = agent.on_helper_event
        return await agent.run()

    def _watch(self, node: Node) -> None:
        """No node may ask to be woken in the past: once its timer has run, it has nothing left that is due."""
        handle_timer = node.handle_timer

        def watched(now: float) -> None:
            handle_timer(now)
            if node.get_timer() <= now:
                self._blame(self, "the node asks to be woken in the past")

        node.handle_timer = watched  # type: ignore[method-assign]

    def _on_violation(self, violation: Violation) -> None:
        self._blame(self, f"an honest agent committed a violation: {violation.code.value}")

    def _on_view(self) -> None:
        self.view_changed = True
        self._touched(self)

    def _agent_exited(self, life: Life, status: int | BaseException) -> None:
        if life is not self.life:
            return
        self.life = None
        self._highest = life.highest or self._highest
        self.exits.append(status)
        if isinstance(status, BaseException) and not isinstance(status, (HelperGone, Refused, StartError)):
            self._blame(self, f"the agent ended with {status!r}")
        life.ports.close(silently=False)
        if self.helper is not None:
            self.helper.hung_up(life.line)
        self._touched(self)

    def _helper_ended(self, helper: Helper) -> None:
        if helper is self.helper:
            self.helper = None
        self._touched(self)


async def _rotate(agent: Agent, grace: int) -> None:
    """What the command does for up to a minute; refused it ends, as when it is broken off."""
    commands = agent.served.commands()
    with suppress(Declined):
        begun = await commands["/key/rotate"]({"grace": grace})
        assert isinstance(begun, dict)
        for _ in range(200):
            try:
                await commands["/key/use"]({"fingerprint": begun["fingerprint"]})
            except Declined:
                await asyncio.sleep(0.3)
            else:
                break


async def _forget(agent: Agent, name: str) -> None:
    with suppress(Declined):
        await agent.served.commands()["/forget"]({"name": name})
