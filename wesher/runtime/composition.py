"""The agent's composition root: which parts one run is made of, and who of them is told what.

A packet's way: UDP socket -> Gossip -> Node -> event -> Peers -> desired -> SET_PEERS -> helper.

    told to stop by             launcher layout             split layout
    the helper (it ends too)    leave the mesh, then BYE    the same
    `wesher leave`              the same                    the same, but the helper stays for another agent
    a signal of our own         the same                    detach: save, and go without a word, so that a restart finds
                                                            its tunnels; but leave if the helper ends within 1 s
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import socket
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from privhelper.notify import Notify
from privhelper.protocol import Event, InForce
from wesher.config import AgentConfig
from wesher.mesh.addresses import Moves, first_incarnation
from wesher.mesh.holders import Holders, holders
from wesher.mesh.meta_form import FormChoice, parse_meta_format
from wesher.mesh.node_meta import Claim, MetaForm
from wesher.mesh.remembered import Remembered
from wesher.mesh.retained import Retained, saved_peers
from wesher.mesh.rotation import Keys
from wesher.mesh.saved_state import OwnClaim, SavedState, StateError
from wesher.runtime import report
from wesher.runtime.announcing import Announcing, own_meta
from wesher.runtime.clock import monotonic, seconds_since_2020
from wesher.runtime.company import Company
from wesher.runtime.complaints import Complaints
from wesher.runtime.dialling import Dialling
from wesher.runtime.following import AddressGone, Following
from wesher.runtime.gossip import Gossip
from wesher.runtime.handshakes import OwnHandshakes, Telling
from wesher.runtime.helper_client import HelperClient, HelperGone
from wesher.runtime.leaving import Leaving
from wesher.runtime.looking import Looking
from wesher.runtime.moving import Moving
from wesher.runtime.namesake import Namesake
from wesher.runtime.peers import Peers
from wesher.runtime.rotating import Rotating
from wesher.runtime.saving import Saving
from wesher.runtime.served import Served
from wesher.runtime.standing import Standing
from wesher.runtime.state_file import StateFile
from wesher.runtime.stop import Stop
from wesher.runtime.unbelieved import Unbelieved
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
from wesher.swim.node import Identity, Node
from wesher.wire.keyring import Keyring

BEAT: Final = 5.0
"""Seconds between two signs of life to the helper, and through it to a watchdog."""

HELPER_ENDS_WITHIN: Final = 1.0
"""Seconds in which a helper that is being stopped with us says so: shutdown signals both at once."""

_NO_SUCH_PART: Final = 0xFFFF

log = logging.getLogger("agent")


class Agent:
    """One run of the agent, from the helper's greeting to leaving or detaching; `sockets` are gossip's UDP and TCP."""

    def __init__(
        self,
        config: AgentConfig,
        file: StateFile,
        saved: SavedState,
        helper: HelperClient,
        standing: Standing,
        stop: Stop,
        notify: Notify,
        sockets: tuple[socket.socket, socket.socket],
    ) -> None:
        assert saved.cluster_key is not None  # noqa: S101 - keep_state sees to it
        self._config = config
        self._file = file
        self._helper = helper
        self._standing = standing
        self._stop = stop
        self._stop.on_reload = self.reload
        self._notify = notify
        self._rng = rng = random.Random(secrets.randbits(128))  # noqa: S311 - chooses peers, makes no secret
        self._complaints = Complaints()
        self._unbelieved = Unbelieved()
        self._rereading: asyncio.Task[None] | None = None
        # What this node is, and remembers.
        self._saving = Saving(file, saved, self._state)
        form = FormChoice(parse_meta_format(config.meta_format), saved.meta_form)
        keys = saved.keys or Keys.of(saved.cluster_key)
        self._node = node = self._make_node(keys, own_meta(standing, form.current, keys.fingerprints))
        self._remembered = self._recall()
        self._namesake = Namesake(node.identity.name, split=config.split)
        # Its sockets, and what goes over them.
        self._gossip = gossip = Gossip(node, *sockets, self._on_event)
        self._dialling = Dialling(node, gossip)
        self._company = Company(config, node, self._dialling, self._remembered, rng)
        self._looking = Looking(node, gossip, rng)
        self._leaving = Leaving(node, gossip, helper, stop)
        self._rotating = Rotating(keys, node, self._saving.save, self._announce, self._holders, self._is_new)
        self._announcing = Announcing(node, form, self._meta, gossip.settle, self._saving.changed)
        self._following = Following(config, node, self._remembered, lambda: self._standing.address, gossip.settle)
        # What the helper is told.
        self._retained = Retained(config.retain_failed, node.is_claimed)
        self._retained.adopt(saved_peers(saved.nodes, alive_since=seconds_since_2020() - config.retain_failed))
        self._retained.adopt(standing.in_force.values())
        self._peers = Peers(helper, standing.policy(), node.members, self._retained, standing.in_force)
        self._moving = Moving(
            helper, standing, node.members, self._peers, self._remembered.addresses, Moves(rng), self._move
        )
        self._handshakes = OwnHandshakes(helper, lambda: self._peers.in_force)
        self._telling = Telling(node, gossip, self._handshakes)
        self.served = Served(
            node=node,
            helper=helper,
            peers=self._peers,
            remembered=self._remembered,
            dialling=self._dialling,
            looking=self._looking,
            handshakes=self._handshakes,
            rotating=self._rotating,
            leaving=self._leaving,
            standing=lambda: self._standing,
            problems=self._problems,
            save=self._saving.save,
            settle=gossip.settle,
            started=monotonic(),
        )

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
        self._company.hurry()
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

    async def run(self) -> int:
        """Gossip until told to stop, then leave or detach. Raises HelperGone, AddressGone."""
        try:
            await self._live()
        finally:
            self._leaving.end()
        return 0

    async def _live(self) -> None:
        if not self._is_saved(self._standing.claim):  # what others hear of is not to be forgotten
            await self._saving.save()
        await self._gossip.start()
        log.info("%s is %s", ascii(self._node.identity.name), self._standing.address)
        try:
            await self._until_stopped(
                [
                    self._peers.run(),
                    self._moving.run(),
                    self._rotating.run(),
                    self._saving.run(),
                    *self._company.keep(),
                    *([self._following.run()] if self._config.follow else []),
                    self._beat(),
                ]
            )
            self._notify.stopping()
            is_leaving = self._stop.for_good or not self._config.split or await self._helper_ends()
            if is_leaving:
                await self._leave()
        except AddressGone:  # whoever starts in our place is at another address: the others need not wait for a death
            self._gossip.unbind()
            await self._leave()
            raise
        finally:
            self._gossip.stop()
        await self._saving.save()
        if is_leaving:
            await self._leaving.take_down()
        else:
            self._leaving.detach()
        self._helper.close()

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
        if self._namesake.is_there:  # they would take it for the leave of the one who has the name
            log.info("leaving without a word")
            return
        await self._leaving.tell_members()

    # --- what the parts are made of, and ask of each other

    def _make_node(self, keys: Keys, meta: bytes) -> Node:
        pinned = self._standing.pinned
        today = seconds_since_2020()
        most = 1 + 2 * pinned.max_peers  # this node, its peers, and as many who can be named as too many
        return Node(
            replace(SwimConfig.profile(self._config.profile), max_members=most),
            Keyring(keys.ring),
            Identity(pinned.node_name, self._config.announced, self._config.cluster_port),
            meta=meta,
            incarnation=first_incarnation(self._saving.latest, pinned.node_name, today),
            now=monotonic(),
            seconds_since_2020=today,
            rng=self._rng,
            nonce=lambda: secrets.token_bytes(12),
        )

    def _recall(self) -> Remembered:
        return Remembered(
            self._saving.latest.nodes,
            own_name=self._standing.pinned.node_name,
            forget_after=self._config.forget_after,
            most=self._node.config.max_members,
            now=seconds_since_2020(),
        )

    def _meta(self, form: MetaForm) -> bytes:
        return own_meta(self._standing, form, self._rotating.announced)

    def _announce(self) -> None:
        self._announcing.announce()

    def _holders(self) -> Holders:
        return holders(self._node.members(), self._remembered.nodes)

    def _is_new(self, what: object) -> bool:
        return self._complaints.may(what, monotonic())

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

    def _problems(self) -> list[str]:
        return report.problems(
            failures=self._peers.failures,
            hosts=self._peers.hosts,
            address=self._moving.problem,
            whereabouts=self._following.problem,
            name=self._namesake.problem,
            clocks=self._unbelieved.problem(monotonic()),
            state=self._saving.problem,
            unanswered=self._company.unanswered,
            reply=self._company.reply,
        )

    def _state(self, keys: Keys | None) -> SavedState:
        """What is to be kept, with the cluster keys that are about to be held, or those that are."""
        keys = keys or self._rotating.keys
        self._remembered.observe(self._node.members(), seconds_since_2020())
        me, claim = self._node.me, self._standing.claim
        return SavedState(
            cluster_key=keys.primary.key,
            nodes=self._remembered.nodes,
            own=OwnClaim(me.name, me.incarnation, claim.attempt, claim.claim_time),
            meta_form=self._announcing.form,
            keys=keys,
        )

    # --- what gossip tells

    def _on_event(self, event: SwimEvent) -> None:
        match event:
            case Joined(member) | Updated(member) | Gone(member):
                log.info("member %s: %s", ascii(member.name), type(event).__name__.lower())
                if isinstance(event, Joined):
                    self._dialling.joined(member.endpoint)
                self._peers.change()
                self._moving.changed()
                self._saving.changed()
                self._company.changed()
                self._announcing.changed()
            case Forgotten(name):
                log.info("member %s: forgotten", ascii(name))
                self._remembered.forget(name)
                self._retained.forget(name)
                self._peers.change()
                self._saving.changed()
                self._company.changed()
            case Suspected(member):
                log.info("member %s does not answer", ascii(member.name))
            case Conflict(member, claimant) if self._is_new(("conflict", member.name)):
                log.warning("name %s of %s is claimed by %s too", ascii(member.name), member.endpoint, claimant)
            case Ahead(name):
                self._unbelieved.hear(name, monotonic())
                if self._is_new(("ahead", name)):
                    log.warning(
                        "%s is not believed: its clock is more than a day ahead of ours, or ours behind", ascii(name)
                    )
            case Exchanged():
                self._exchanged(event)
            case KeyHeard(record):
                self._rotating.hear(record)
            case Viewed():
                self._looking.viewed(event)
            case TunnelsWanted():
                self._telling.wanted()
            case LeaveFinished():
                self._leaving.heard()
            case _:
                pass

    def _exchanged(self, event: Exchanged) -> None:
        if not event.failure:
            self._namesake.exchanged(event.namesake)
            if (problem := self._namesake.problem) and self._is_new(problem):
                log.error("%s", problem)
            self._retained.exchanged(monotonic())
            self._peers.change()
        self._dialling.exchanged(event)
