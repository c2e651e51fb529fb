"""The agent's composition root: `python -I -m wesher.runtime.agent`, started with nothing to its name.

    descriptors   0 null, 1 and 2 its output, 3 the helper, 4 the configuration (read and closed at once)
    order         open everything, confine, start the one worker thread, then read the helper's first byte
    exit status   0 after leaving or detaching, 1 after an error, 2 where options contradict the helper's; one line each

    told to stop by             launcher layout             split layout
    the helper (it ends too)    leave the mesh, then BYE    the same
    `wesher leave`              the same                    the same, but the helper stays for another agent
    a signal of our own         the same                    detach: save, and go without a word, so that a restart finds
                                                            its tunnels; but leave if the helper ends within 1 s

A packet's way: UDP socket -> Gossip -> Node -> event -> Peers -> desired -> SET_PEERS -> helper.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import random
import secrets
import socket
import sys
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Final, NoReturn

from privhelper import logs
from privhelper.lockdown import Lockdown, NoSandbox
from privhelper.notify import Notify
from privhelper.protocol import Bye, Event, Failed, InForce
from wesher.config import AgentConfig, Contact
from wesher.mesh.addresses import Moves, first_incarnation
from wesher.mesh.holders import Holders, holders
from wesher.mesh.meta_form import FormChoice, parse_meta_format
from wesher.mesh.node_meta import MAX_KEYS, Claim, NodeMeta, encode
from wesher.mesh.rejoin import Backoff, Turns
from wesher.mesh.remembered import Remembered
from wesher.mesh.retained import Retained, saved_peers
from wesher.mesh.rotation import Keys
from wesher.mesh.saved_state import LastSeen, OwnClaim, SavedState, StateError
from wesher.runtime import report
from wesher.runtime.clock import monotonic, seconds_since_2020
from wesher.runtime.complaints import Complaints
from wesher.runtime.confinement import lock_down
from wesher.runtime.control import Command, ControlServer, Declined, Handler
from wesher.runtime.dialling import Dialling
from wesher.runtime.following import AddressGone, Following
from wesher.runtime.gossip import Gossip, bind
from wesher.runtime.handshakes import OwnHandshakes, Telling
from wesher.runtime.healing import Healing
from wesher.runtime.helper_client import HelperClient, HelperGone
from wesher.runtime.joining import Joining
from wesher.runtime.looking import Looking
from wesher.runtime.moving import Moving
from wesher.runtime.peers import Peers
from wesher.runtime.rotating import Rotating
from wesher.runtime.saving import Saving
from wesher.runtime.standing import Refused, Standing, greet
from wesher.runtime.state_at_start import StartError, keep_state, read_state
from wesher.runtime.state_file import StateFile
from wesher.runtime.stop import Stop
from wesher.runtime.views import graph
from wesher.runtime.whereabouts import is_of_this_host
from wesher.swim.config import SwimConfig
from wesher.swim.event import (
    Ahead,
    Conflict,
    Exchanged,
    Forgotten,
    Gone,
    Joined,
    KeyHeard,
    LeaveFinished,
    Suspected,
    TunnelsWanted,
    Updated,
    Viewed,
)
from wesher.swim.event import Event as SwimEvent
from wesher.swim.io import Endpoint
from wesher.swim.members import CLOCK_IS_SET
from wesher.swim.node import Identity, Node
from wesher.swim.succession import PATIENCE
from wesher.version import VERSION
from wesher.wire.keyring import Keyring
from wesher.wire.messages import NodeState

HELPER_FD: Final = 3
CONFIG_FD: Final = 4

BEAT: Final = 5.0
"""Seconds between two signs of life to the helper, and through it to a watchdog."""

HELPER_ENDS_WITHIN: Final = 1.0
"""Seconds in which a helper that is being stopped with us says so: shutdown signals both at once."""

_NO_SUCH_PART: Final = 0xFFFF

log = logging.getLogger("agent")


def main() -> NoReturn:
    """Read the configuration, run, and say in one line why not."""
    config = _read_config()
    logs.configure(config.log_level, config.log_format)
    asyncio.run(_to_the_end(config))
    raise AssertionError("unreachable")


def _read_config() -> AgentConfig:
    with os.fdopen(CONFIG_FD, "rb") as file:
        return AgentConfig.from_json(file.read())


async def _to_the_end(config: AgentConfig) -> NoReturn:
    """Not back to asyncio.run, which would start a thread to shut the worker down: none can be started any more."""
    status = 1
    try:
        status = await _run(config)
    except (StartError, NoSandbox, Refused) as error:
        print(f"wesher: error: {error}", file=sys.stderr, flush=True)
        status = 2 if isinstance(error, Refused) and error.usage else 1
    except (HelperGone, AddressGone) as error:
        log.error("stopping: %s", error)
    except Exception:
        log.exception("stopping")
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(status)


async def _run(config: AgentConfig) -> int:
    """Everything that needs opening, then lockdown, then the other half's first byte."""
    lockdown = Lockdown(config.sandbox)
    connection = socket.socket(fileno=HELPER_FD)
    notify = Notify(os.environ)
    for name in Notify.VARIABLES:
        os.environ.pop(name, None)
    udp, tcp = _bind(config)
    control = ControlServer(f"{config.runtime_dir}/{config.interface}.sock", {})
    try:
        listener = control.listen()
    except OSError as error:
        raise StartError(f"control socket in {config.runtime_dir} cannot be made: {error.strerror}") from None
    stop = Stop()
    try:
        lock_down(lockdown, config)
        if config.split and lockdown.remark is not None:  # else the helper says it
            log.warning("%s", lockdown.remark)
        helper = HelperClient(connection, stop.on_helper_event)
        await control.start(listener)
        file = StateFile(config.state_file)
        saved = read_state(config, file)
        standing = await _greeted(config, saved, helper, stop)
        if standing is None:
            return 0
        agent = Agent(config, file, keep_state(config, file, saved), helper, standing, stop, notify)
        helper.on_event = agent.on_helper_event
        control.routes.update(agent.routes())
        control.commands.update(agent.commands())
        return await agent.run(udp, tcp)
    finally:
        await control.finish()
        control.stop()


async def _greeted(config: AgentConfig, saved: SavedState, helper: HelperClient, stop: Stop) -> Standing | None:
    """The helper's greeting; None where a signal of our own comes before our turn: there is nothing to leave yet."""
    greeting = asyncio.create_task(greet(config, saved, helper))
    asked = asyncio.create_task(stop.asked.wait())
    await asyncio.wait((greeting, asked), return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if config.split and not greeting.done() and not stop.by_helper.is_set():
        greeting.cancel()
        return None
    return await greeting


def _bind(config: AgentConfig) -> tuple[socket.socket, socket.socket]:
    try:
        return bind(ip_address(config.bind_addr), config.cluster_port)
    except OSError as error:
        raise StartError(
            f"cannot bind {config.bind_addr} port {config.cluster_port}: {error.strerror}; "
            "give another --bind-addr or --cluster-port"
        ) from None


class Agent:
    """One run of the agent, from the helper's greeting to leaving or detaching."""

    def __init__(
        self,
        config: AgentConfig,
        file: StateFile,
        saved: SavedState,
        helper: HelperClient,
        standing: Standing,
        stop: Stop,
        notify: Notify,
    ) -> None:
        assert saved.cluster_key is not None  # noqa: S101 - keep_state sees to it
        self._config = config
        self._file = file
        self._saving = Saving(file, saved, self._state)
        self._helper = helper
        self._standing = standing
        self._stop = stop
        self._stop.on_reload = self.reload
        self._notify = notify
        self._started = monotonic()
        self._rng = random.Random(secrets.randbits(128))  # noqa: S311 - chooses peers, makes no secret
        self._form = FormChoice(parse_meta_format(config.meta_format), saved.meta_form)
        keys = saved.keys or Keys.of(saved.cluster_key)
        self._node = self._make_node(keys)
        self._remembered = self._recall()
        self._complaints = Complaints()
        self._rotating = Rotating(keys, self._node, self._saving.save, self._announce, self._holders, self._is_new)
        self._retained = Retained(config.retain_failed)
        self._retained.adopt(saved_peers(saved.nodes, alive_since=seconds_since_2020() - config.retain_failed))
        self._retained.adopt(standing.in_force.values())
        self._peers = Peers(helper, standing.policy(), self._node.members, self._retained, standing.in_force)
        self._moving = Moving(
            helper, standing, self._node.members, self._peers, self._remembered.addresses, Moves(self._rng), self._move
        )
        self._handshakes = OwnHandshakes(helper, lambda: self._peers.in_force)
        self._following = Following(config, self._node, self._remembered, lambda: self._standing.address, self._settle)
        self._gossip: Gossip | None = None
        self._dialling: Dialling | None = None
        self._looking: Looking | None = None
        self._telling: Telling | None = None
        self._joining: Joining | None = None
        self._healing: Healing | None = None
        self._namesake: Endpoint | None = None
        self._left = asyncio.Event()
        self._ended = asyncio.Event()
        self._not_left: str | None = "the daemon has ended before it had left; see its log"
        self._form_due: asyncio.TimerHandle | None = None
        self._form_soon = False
        self._rereading: asyncio.Task[None] | None = None

    def on_helper_event(self, event: Event) -> None:
        """What the helper says unasked."""
        match event:
            case Event.TERMINATE:
                self._stop.on_helper_event(event)
            case Event.RELOAD:
                self.reload()
            case Event.REPAIRED:
                self._peers.change(resend=True)

    def reload(self) -> None:
        """SIGHUP, to us or to the helper: find the others again now. All that was given at the start stays."""
        log.warning(
            "reload: every contact and whoever is missing is tried at once, and the state file's keys are taken; other "
            "options need a restart"
        )
        self._rereading = asyncio.create_task(self._reread())
        if self._joining is not None:
            self._joining.hurry()
        if self._healing is not None:
            self._healing.hurry()
        self._notify.reloaded()

    async def _reread(self) -> None:
        """Take the keys of the state file, in which an operator may have put one."""
        try:
            saved = await asyncio.get_running_loop().run_in_executor(None, self._file.load)
        except StateError as error:
            log.warning("state file %s: %s; its keys are not taken", self._file.path, error)
            return
        if saved is not None and saved.cluster_key is not None:
            self._rotating.reread(saved.keys or Keys.of(saved.cluster_key))

    async def run(self, udp: socket.socket, tcp: socket.socket) -> int:
        """Gossip until told to stop, then leave or detach. Raises HelperGone."""
        try:
            await self._live(udp, tcp)
        finally:
            self._ended.set()
        return 0

    async def _live(self, udp: socket.socket, tcp: socket.socket) -> None:
        self._gossip = gossip = Gossip(self._node, udp, tcp, self._on_event)
        self._dialling = dialling = Dialling(self._node, gossip)
        self._looking = Looking(self._node, gossip, self._rng)
        self._telling = Telling(self._node, gossip, self._handshakes)
        self._joining = Joining(self._node, dialling, self._contacts(), self._is_own, self._rng, Backoff(self._rng))
        self._healing = Healing(self._node, dialling, self._remembered, Turns(self._rng), seconds_since_2020)
        if not self._is_saved(self._standing.claim):  # what others hear of is not to be forgotten
            await self._saving.save()
        await gossip.start()
        log.info("%s is %s", ascii(self._node.identity.name), self._standing.address)
        try:
            await self._until_stopped(
                [
                    self._peers.run(),
                    self._moving.run(),
                    self._rotating.run(),
                    self._saving.run(),
                    *self._keep_company(),
                    *([self._following.run()] if self._config.follow else []),
                    self._beat(),
                ]
            )
            self._notify.stopping()
            leaving = self._stop.for_good or not self._config.split or await self._helper_ends()
            if leaving:
                await self._leave()
        except AddressGone:  # whoever starts in our place is at another address: the others need not wait for a death
            gossip.unbind()
            await self._leave()
            raise
        finally:
            gossip.stop()
        await self._saving.save()
        if leaving:
            farewell = await self._helper.ask(Bye())
            self._not_left = None
            if isinstance(farewell, Failed):
                self._not_left = f"the helper could not take everything down: {os.strerror(farewell.errno)}"
                log.error("%s", self._not_left)
        else:
            self._not_left = "the daemon was being stopped, and detached: its tunnels stay with the helper"
            log.info("detaching: tunnels stay with the helper")
        self._helper.close()

    # --- what the control socket serves

    def routes(self) -> dict[str, Handler]:
        """What may be asked."""
        return {
            "/status": self.status,
            "/members": self.members,
            "/graph": self.graph,
            "/key": self.key,
            "/keys": self._rotating.list,
        }

    def commands(self) -> dict[str, Command]:
        """What may be commanded."""
        keys = self._rotating
        return {
            "/leave": self.leave,
            "/forget": self.forget,
            "/key/rotate": keys.rotate,
            "/key/use": keys.use,
            "/key/replace": keys.replace,
        }

    async def status(self) -> dict[str, Any]:
        """`wesher status --json`."""
        return report.status(
            version=VERSION,
            pinned=self._standing.pinned,
            overlay_addr=str(self._standing.address),
            me=self._node.me,
            uptime=monotonic() - self._started,
            health_score=self._node.health_score,
            members=self._node.members(),
            refused=self._peers.refused,
            tunnels=await self._helper.status(),
            round_trips=self._node.round_trips,
            missed_pings=self._node.missed_pings,
            failed_dials={} if self._dialling is None else self._dialling.failed,
            now=monotonic(),
            calendar=time.time(),
            retained=self._peers.retained,
            problems=report.problems(
                failures=self._peers.failures,
                hosts=self._peers.hosts,
                address=self._moving.problem,
                whereabouts=self._following.problem,
                name=self._name_is_taken(),
                unanswered=self._joining.unanswered if self._joining is not None else (),
            ),
        )

    async def members(self) -> dict[str, Any]:
        """`wesher members --json`."""
        return report.members(
            me=self._node.me,
            members=self._node.members(),
            now=monotonic(),
            today=seconds_since_2020(),
            retained=self._peers.retained,
            remembered=self._remembered.nodes,
        )

    async def graph(self) -> dict[str, Any]:
        """`wesher graph --json`: every member is asked what it sees, and told nothing."""
        own = await self._handshakes.latest()
        views = await self._looking.around() if self._looking is not None else {}
        return graph(me=self._node.me, members=self._node.members(), own=own, views=views)

    async def key(self) -> dict[str, str]:
        """`wesher key show`: who may connect to the control socket may know the key."""
        return {"cluster_key": base64.b64encode(self._rotating.keys.primary.key).decode("ascii")}

    async def leave(self, _: Mapping[str, Any]) -> dict[str, bool]:
        """`wesher leave`: answered once it is done. Raises Declined."""
        log.info("told to leave")
        self._stop.leave()
        await self._ended.wait()
        if self._not_left is not None:
            raise Declined(self._not_left)
        return {"left": True}

    async def forget(self, words: Mapping[str, Any]) -> dict[str, str]:
        """`wesher forget NAME`: mesh-wide; answered once this node has done it. Raises Declined."""
        name = words.get("name")
        if not isinstance(name, str):
            raise Declined("name whom to forget")
        known = {member.name: member for member in self._node.members()}
        if name == self._node.identity.name:
            raise Declined(f"{name!a} is this node itself; to take it out of the mesh: wesher leave")
        if name in known and known[name].is_live:
            raise Declined(f"{name!a} is alive; take it out first, there: wesher leave")
        gone = {*known, *(node.name for node in self._remembered.nodes), *(peer.name for peer in self._peers.retained)}
        if name not in gone:
            raise Declined(f"nobody here remembers {name!a}; see wesher members, here or on another node")
        if seconds_since_2020() < CLOCK_IS_SET:
            raise Declined("this node's clock is not set, and nobody would believe it; set it, or ask another node")
        log.info("told to forget %s", ascii(name))
        self._node.forget(name, monotonic())
        self._settle()
        await self._saving.save()
        return {"forgotten": name}

    # --- parts of a run

    def _make_node(self, keys: Keys) -> Node:
        pinned = self._standing.pinned
        today = seconds_since_2020()
        most = 1 + 2 * pinned.max_peers  # this node, its peers, and as many who can be named as too many
        return Node(
            replace(SwimConfig.profile(self._config.profile), max_members=most),
            Keyring(keys.ring),
            Identity(pinned.node_name, self._config.announced, self._config.cluster_port),
            meta=self._meta(keys.fingerprints),
            incarnation=first_incarnation(self._saving.latest, pinned.node_name, today),
            now=monotonic(),
            seconds_since_2020=today,
            rng=self._rng,
            nonce=lambda: secrets.token_bytes(12),
        )

    def _meta(self, keys: tuple[bytes, ...]) -> bytes:
        """With as many of the fingerprints as there is room for: what seals, and what is coming, are the first."""
        standing, told = self._standing, keys[:MAX_KEYS]
        return encode(NodeMeta(standing.address, standing.pinned.public_key, self._form.current, standing.claim, told))

    def _announce(self) -> None:
        """What this node says about itself has changed."""
        self._node.update_meta(self._meta(self._rotating.announced), monotonic())
        self._settle()

    def _settle(self) -> None:
        if self._gossip is not None:
            self._gossip.settle()

    def _holders(self) -> Holders:
        return holders(self._node.members(), self._remembered.nodes)

    def _is_saved(self, claim: Claim) -> bool:
        own = self._saving.latest.own_for(self._standing.pinned.node_name)
        return own is not None and (own.attempt, own.claim_time) == (claim.attempt, claim.claim_time)

    async def _move(self, standing: Standing) -> None:
        """This node has another overlay address from now on."""
        self._standing = standing
        self._peers.policy = standing.policy()
        self._peers.change()
        await self._saving.save()
        self._announce()

    def _choose_form(self) -> None:
        """Announce metadata in the form that this mesh's Go members read, now or when they have been so for a while."""
        self._form_soon = False
        before = self._form.asked_for
        changed = self._form.observe(self._node.members(), monotonic())
        if before is not self._form.asked_for:
            self._saving.changed()
        if changed:
            log.info("announcing metadata in the form of Go wesher %s", self._form.current.value)
            self._announce()
        if self._form_due is not None:
            self._form_due.cancel()
        at = self._form.next_change()
        if at is not None:
            delay = max(0.0, at - monotonic())
            self._form_due = asyncio.get_running_loop().call_later(delay, self._choose_form)

    def _recall(self) -> Remembered:
        return Remembered(
            self._saving.latest.nodes,
            own_name=self._standing.pinned.node_name,
            forget_after=self._config.forget_after,
            most=self._node.config.max_members,
            now=seconds_since_2020(),
        )

    def _contacts(self) -> list[Contact]:
        """Whom to join: those named, else the last known members, and who has left only where nobody else is known."""
        if self._config.join:
            return list(self._config.join)
        known = self._remembered.nodes
        stayed = [node for node in known if node.last is not LastSeen.LEFT]
        return [Contact(node.addr, 0) for node in stayed or known]

    def _keep_company(self) -> list[Coroutine[Any, Any, None]]:
        """Find the others, and find them again. Who is named may be gone: then those remembered lead to the cluster."""
        assert self._joining is not None  # noqa: S101 - run makes both first
        assert self._healing is not None  # noqa: S101
        joining, healing = self._joining, self._healing

        async def named() -> None:
            await joining.find()
            await joining.keep()

        async def remembered() -> None:
            await joining.find()
            await healing.run()

        return [named(), healing.run()] if self._config.join else [remembered()]

    def _is_own(self, endpoint: Endpoint) -> bool:
        """By whichever of this host's addresses, where gossip is bound to all of them."""
        if endpoint.port != self._node.identity.port or not ip_address(self._config.bind_addr).is_unspecified:
            return endpoint == self._node.identity.endpoint
        return endpoint == self._node.identity.endpoint or is_of_this_host(endpoint.ip)

    async def _until_stopped(self, work: list[Coroutine[Any, Any, None]]) -> None:
        """Run `work` beside each other until stop, or until the helper or one of them fails."""
        tasks = [asyncio.create_task(part) for part in work]
        stopping = asyncio.create_task(self._stop.asked.wait())
        waiting: set[asyncio.Future[Any]] = {*tasks, stopping, self._helper.gone}
        try:
            while not stopping.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if self._helper.gone in done:
                    raise HelperGone(self._helper.gone.result())
                for task in done:
                    task.result()  # raises what it raised; joining is simply done some time
        finally:
            for task in (*tasks, stopping):
                task.cancel()

    async def _beat(self) -> None:
        """Tell the service manager when the node is there, then that it lives: gossip, and the helper's answer."""
        assert self._gossip is not None  # noqa: S101 - run makes it first
        await self._peers.applied.wait()
        self._notify.ready("in the mesh")
        while True:
            if monotonic() - self._gossip.ticked_at < BEAT:
                await self._helper.ask(InForce(_NO_SUCH_PART))  # costs nothing, and shows the helper that we live
                self._notify.alive()
            await asyncio.sleep(min(BEAT, (self._notify.interval or 2 * BEAT) / 2))

    async def _helper_ends(self) -> bool:
        """Whether the helper is being stopped too: then the whole node ends, and leaves."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HELPER_ENDS_WITHIN):
                await self._stop.by_helper.wait()
        return self._stop.by_helper.is_set()

    async def _leave(self) -> None:
        assert self._gossip is not None  # noqa: S101 - run makes it first
        if self._namesake is not None:  # they would take it for the leave of the one who has the name
            log.info("leaving without a word")
            return
        log.info("leaving")
        self._node.leave(monotonic())
        self._gossip.settle()
        waiting: set[asyncio.Future[Any]] = {asyncio.create_task(self._left.wait()), self._helper.gone}
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self._helper.gone in done:
            raise HelperGone(self._helper.gone.result())

    def _on_event(self, event: SwimEvent) -> None:
        match event:
            case Joined(member) | Updated(member) | Gone(member):
                log.info("member %s: %s", ascii(member.name), type(event).__name__.lower())
                if isinstance(event, Joined) and self._dialling is not None:
                    self._dialling.joined(member.endpoint)
                if member.state is NodeState.LEFT and self._node.is_claimed(member.name):
                    self._retained.expect(member.name, monotonic() + PATIENCE)
                self._peers.change()
                self._moving.changed()
                self._saving.changed()
                if self._healing is not None:
                    self._healing.changed()
                if not self._form_soon:  # once for all the events of one exchange: each looks at every member
                    self._form_soon = True
                    asyncio.get_running_loop().call_soon(self._choose_form)
            case Forgotten(name):
                log.info("member %s: forgotten", ascii(name))
                self._remembered.forget(name)
                self._retained.forget(name)
                self._peers.change()
                self._saving.changed()
                if self._healing is not None:
                    self._healing.changed()
            case Suspected(member):
                log.info("member %s does not answer", ascii(member.name))
            case Conflict(member, claimant) if self._is_new(("conflict", member.name)):
                log.warning("name %s of %s is claimed by %s too", ascii(member.name), member.endpoint, claimant)
            case Ahead(name) if self._is_new(("ahead", name)):
                log.warning(
                    "%s is not believed: its clock is more than a day ahead of ours, or ours behind", ascii(name)
                )
            case Exchanged():
                self._exchanged(event)
            case KeyHeard(record):
                self._rotating.hear(record)
            case Viewed() if self._looking is not None:
                self._looking.viewed(event)
            case TunnelsWanted() if self._telling is not None:
                self._telling.wanted()
            case LeaveFinished():
                self._left.set()
            case _:
                pass

    def _exchanged(self, event: Exchanged) -> None:
        if not event.failure:
            self._namesake = event.namesake
            if (problem := self._name_is_taken()) and self._is_new(problem):
                log.error("%s", problem)
            self._retained.exchanged(monotonic())
            self._peers.change()
        if self._dialling is not None:
            self._dialling.exchanged(event)

    def _name_is_taken(self) -> str:
        """What to do about it, where another node has this node's name; else empty."""
        if self._namesake is None:
            return ""
        rename = "give wesher-privhelper another --node-name" if self._config.split else "rename this host"
        return (
            f"not let in: the name {self._node.identity.name} is taken, a member at {self._namesake.ip} has it; "
            f"{rename} and restart, or, where that was this node's own address before, wait a minute"
        )

    def _is_new(self, what: object) -> bool:
        return self._complaints.may(what, monotonic())

    def _state(self, keys: Keys | None) -> SavedState:
        """What is to be kept, with the cluster keys that are about to be held, or those that are."""
        keys = keys or self._rotating.keys
        self._remembered.observe(self._node.members(), seconds_since_2020())
        me, claim = self._node.me, self._standing.claim
        return SavedState(
            cluster_key=keys.primary.key,
            nodes=self._remembered.nodes,
            own=OwnClaim(me.name, me.incarnation, claim.attempt, claim.claim_time),
            meta_form=self._form.current,
            keys=keys,
        )


if __name__ == "__main__":
    main()
