"""The agent's composition root: `python -I -m wesher.runtime.agent`, started by the launcher with nothing to its name.

    descriptors   0 null, 1 and 2 the operator's, 3 the helper, 4 the configuration (read and closed at once)
    order         open everything, confine, start the one worker thread, then read the helper's first byte
    exit status   0 after leaving, 1 after any error, each with one line

A packet's way: UDP socket -> Gossip -> Node -> event -> Peers -> desired -> SET_PEERS -> helper.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.metadata
import logging
import os
import random
import secrets
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from errno import EADDRNOTAVAIL
from ipaddress import ip_address
from typing import Any, Final, NoReturn

from privhelper.addressing import Address
from privhelper.policy import Policy, Surroundings
from privhelper.protocol import Bye, Event, Failed, Hello, OwnAddress, PinnedPolicy, SetAddr
from privhelper.sandbox import confine
from wesher.config import CLUSTER_KEY_SIZE, AgentConfig, Contact
from wesher.mesh.addresses import first_incarnation, own_claim
from wesher.mesh.desired import is_printable
from wesher.mesh.node_meta import Claim, MetaForm, NodeMeta, encode
from wesher.mesh.rejoin import Backoff
from wesher.mesh.saved_state import OwnClaim, SavedNode, SavedState, StateError
from wesher.runtime import report
from wesher.runtime.clock import monotonic, seconds_since_2020
from wesher.runtime.control import ControlServer
from wesher.runtime.gossip import Gossip, bind
from wesher.runtime.helper_client import HelperClient, HelperGone
from wesher.runtime.joining import Joining
from wesher.runtime.peers import Peers
from wesher.runtime.state_file import StateFile
from wesher.swim.config import SwimConfig
from wesher.swim.event import Ahead, Conflict, Exchanged, Gone, Joined, LeaveFinished, Suspected, Updated
from wesher.swim.event import Event as SwimEvent
from wesher.swim.io import Endpoint
from wesher.swim.node import Identity, Node
from wesher.wire.keyring import Keyring
from wesher.wire.messages import NodeState

HELPER_FD: Final = 3
CONFIG_FD: Final = 4

SAVE_AT_MOST_EVERY: Final = 1.0
"""Seconds between two writes of the state file while membership changes quickly."""

log = logging.getLogger("agent")


class StartError(Exception):
    """Why the agent cannot run, in one line."""


def main() -> NoReturn:
    """Read the configuration, run, and say in one line why not."""
    config = _read_config()
    logging.basicConfig(
        level={"debug": 10, "info": 20, "warn": 30, "error": 40}[config.log_level],
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.raiseExceptions = False  # a log line that cannot be written is lost; it must not cost more than itself
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    try:
        status = asyncio.run(_run(config))
    except StartError as error:
        print(f"wesher: error: {error}", file=sys.stderr, flush=True)
        status = 1
    except HelperGone as error:
        log.error("stopping: %s", error)
        status = 1
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(status)


def _read_config() -> AgentConfig:
    with os.fdopen(CONFIG_FD, "rb") as file:
        return AgentConfig.from_json(file.read())


async def _run(config: AgentConfig) -> int:
    """Everything that needs opening, then `confine`, then the other half's first byte."""
    connection = socket.socket(fileno=HELPER_FD)
    udp, tcp = _bind(config)
    control = ControlServer(f"{config.runtime_dir}/{config.interface}.sock", {})
    try:
        listener = control.listen()
    except OSError as error:
        raise StartError(f"control socket in {config.runtime_dir} cannot be made: {error.strerror}") from None
    socket.getaddrinfo("localhost", None)  # loads NSS while files may still be opened
    confine()
    # landlock belongs here, and seccomp after the worker thread has been started.
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(max_workers=1, thread_name_prefix="worker"))
    state = StateFile(config.state_file)
    saved = _load_state(config, state)
    agent = await Agent.greet(config, state, saved, connection)
    control.routes.update({"/status": agent.status, "/key": agent.key})
    await control.start(listener)
    try:
        return await agent.run(udp, tcp)
    finally:
        control.stop()


def _bind(config: AgentConfig) -> tuple[socket.socket, socket.socket]:
    try:
        return bind(ip_address(config.bind_addr), config.cluster_port)
    except OSError as error:
        raise StartError(
            f"cannot bind {config.bind_addr} port {config.cluster_port}: {error.strerror}; "
            "give another --bind-addr or --cluster-port"
        ) from None


def _load_state(config: AgentConfig, file: StateFile) -> SavedState:
    """The saved state with the cluster key that holds: the given one, else the saved one, else a new one."""
    saved = _saved(config, file)
    key = config.cluster_key or saved.cluster_key
    if key is None:
        key = secrets.token_bytes(CLUSTER_KEY_SIZE)
        if config.show_key:
            print(f"new cluster key generated: {base64.b64encode(key).decode('ascii')}", flush=True)
    state = replace(saved, cluster_key=key)
    try:
        file.save(state)
    except OSError as error:
        raise StartError(
            f"state file {file.path} cannot be written: {error.strerror}; the cluster key would be lost"
        ) from None
    return state


def _saved(config: AgentConfig, file: StateFile) -> SavedState:
    nothing = SavedState(cluster_key=None, nodes=(), own=None)
    if config.init:
        aside = file.set_aside()
        if aside is not None:
            log.warning("--init: the former state is kept as %s", aside)
        return nothing
    try:
        return file.load() or nothing
    except StateError as error:
        if config.cluster_key is None:
            raise StartError(
                f"state file {file.path}: {error}; give --cluster-key, or --init for a new cluster"
            ) from None
        log.warning("state file %s: %s; it is kept as %s", file.path, error, file.set_aside())
        return nothing


@dataclass(frozen=True, slots=True)
class Standing:
    """What the helper granted: the pinned policy, and this node's address and claim to it."""

    pinned: PinnedPolicy
    address: Address
    claim: Claim

    def policy(self) -> Policy:
        """The policy as far as it can be known without looking at this host's network."""
        return Policy(
            overlay_net=self.pinned.overlay_net,
            node_name=self.pinned.node_name,
            own_address=self.address,
            own_key=self.pinned.public_key,
            max_peers=self.pinned.max_peers,
            etc_hosts=self.pinned.etc_hosts,
            surroundings=Surroundings(),
        )


class Agent:
    """One run of the agent, from HELLO to BYE."""

    def __init__(
        self,
        config: AgentConfig,
        file: StateFile,
        saved: SavedState,
        helper: HelperClient,
        standing: Standing,
        stop: asyncio.Event,
    ) -> None:
        assert saved.cluster_key is not None  # noqa: S101 - _load_state sees to it
        self._config = config
        self._file = file
        self._saved = saved
        self._helper = helper
        self._standing = standing
        self._stop = stop
        self._cluster_key = saved.cluster_key
        self._started = monotonic()
        self._rng = random.Random(secrets.randbits(128))  # noqa: S311 - chooses peers, makes no secret
        self._node = self._make_node()
        self._peers = Peers(helper, standing.policy(), self._node.members)
        self._gossip: Gossip | None = None
        self._joining: Joining | None = None
        self._complained_of: set[str] = set()
        self._unsaved = asyncio.Event()
        self._left = asyncio.Event()

    @classmethod
    async def greet(cls, config: AgentConfig, file: StateFile, saved: SavedState, connection: socket.socket) -> Agent:
        """Learn what is pinned and take our address. Raises StartError, HelperGone."""
        stop = _on_signals()
        helper = HelperClient(connection, lambda event: stop.set() if event is Event.TERMINATE else None)
        pinned = await helper.ask(Hello(build=f"wesher-{importlib.metadata.version('wesher')}"[:31]))
        if not isinstance(pinned, PinnedPolicy):
            raise StartError("the helper does not tell its policy; are both halves of one version?")
        claim = own_claim(saved, pinned.node_name, seconds_since_2020())
        answer = await helper.ask(SetAddr(claim.attempt))
        if not isinstance(answer, OwnAddress):
            reason = os.strerror(answer.errno) if isinstance(answer, Failed) else "no answer"
            if isinstance(answer, Failed) and answer.errno == EADDRNOTAVAIL:
                reason = "a local network covers it, or it is the net's first or last"
            raise StartError(
                f"overlay address of {pinned.node_name} in {pinned.overlay_net} cannot be used here: {reason}; "
                "give another --overlay-net"
            )
        agent = cls(config, file, saved, helper, Standing(pinned, answer.address, claim), stop)
        helper.on_event = agent.on_helper_event
        return agent

    def on_helper_event(self, event: Event) -> None:
        """What the helper says unasked."""
        match event:
            case Event.TERMINATE:
                self._stop.set()
            case Event.RELOAD:
                log.warning("reload is not there yet: restart wesher to change options")
            case Event.REPAIRED:
                self._peers.change(resend=True)

    async def run(self, udp: socket.socket, tcp: socket.socket) -> int:
        """Gossip until told to stop, then leave. Raises HelperGone."""
        self._gossip = gossip = Gossip(self._node, udp, tcp, self._on_event)
        self._joining = Joining(self._node, gossip, self._contacts(), self._is_own, Backoff(self._rng))
        await gossip.start()
        work = [self._peers.run(), self._keep_saved(), self._joining.run()]
        log.info("%s is %s", ascii(self._node.identity.name), self._standing.address)
        try:
            await self._until_stopped(work)
            await self._leave(gossip)
        finally:
            gossip.stop()
        await self._save()
        farewell = await self._helper.ask(Bye())
        if isinstance(farewell, Failed):
            log.error("the helper could not take everything down: %s", os.strerror(farewell.errno))
        self._helper.close()
        return 0

    # --- what the control socket serves

    async def status(self) -> dict[str, Any]:
        """`wesher status --json`."""
        return report.status(
            version=importlib.metadata.version("wesher"),
            pinned=self._standing.pinned,
            overlay_addr=str(self._standing.address),
            me=self._node.me,
            uptime=monotonic() - self._started,
            health_score=self._node.health_score,
            members=self._node.members(),
            refused=self._peers.refused,
            tunnels=await self._helper.status(),
            round_trips=self._node.round_trips,
            calendar=time.time(),
        )

    async def key(self) -> dict[str, str]:
        """`wesher key show`: who may connect to the control socket may know the key."""
        return {"cluster_key": base64.b64encode(self._cluster_key).decode("ascii")}

    # --- parts of a run

    def _make_node(self) -> Node:
        pinned, claim = self._standing.pinned, self._standing.claim
        meta = NodeMeta(self._standing.address, pinned.public_key, MetaForm.V03, claim)
        today = seconds_since_2020()
        return Node(
            replace(SwimConfig.lan(), max_members=2 * pinned.max_peers),
            Keyring([self._cluster_key]),
            Identity(pinned.node_name, self._config.announced, self._config.cluster_port),
            meta=encode(meta),
            incarnation=first_incarnation(self._saved, pinned.node_name, today),
            now=monotonic(),
            seconds_since_2020=today,
            rng=self._rng,
            nonce=lambda: secrets.token_bytes(12),
        )

    def _contacts(self) -> list[Contact]:
        """Whom to join: those named, else the last known members."""
        return list(self._config.join) or [Contact(node.addr, 0) for node in self._saved.nodes]

    def _is_own(self, endpoint: Endpoint) -> bool:
        return endpoint == self._node.me.endpoint

    async def _until_stopped(self, work: list[Coroutine[Any, Any, None]]) -> None:
        """Run `work` beside each other until stop, or until the helper or one of them fails."""
        tasks = [asyncio.create_task(part) for part in work]
        stopping = asyncio.create_task(self._stop.wait())
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

    async def _leave(self, gossip: Gossip) -> None:
        log.info("leaving")
        self._node.leave(monotonic())
        gossip.settle()
        waiting: set[asyncio.Future[Any]] = {asyncio.create_task(self._left.wait()), self._helper.gone}
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self._helper.gone in done:
            raise HelperGone(self._helper.gone.result())

    def _on_event(self, event: SwimEvent) -> None:
        match event:
            case Joined(member) | Updated(member) | Gone(member):
                log.info("member %s: %s", ascii(member.name), type(event).__name__.lower())
                self._peers.change()
                self._unsaved.set()
            case Suspected(member):
                log.info("member %s does not answer", ascii(member.name))
            case Conflict(member, claimant) if self._is_new(member.name):
                log.warning("name %s of %s is claimed by %s too", ascii(member.name), member.endpoint, claimant)
            case Ahead(name) if self._is_new(name):
                log.warning(
                    "%s is not believed: its clock is more than a day ahead of ours, or ours behind", ascii(name)
                )
            case Exchanged() if self._joining is not None:
                self._joining.exchanged(event)
            case LeaveFinished():
                self._left.set()
            case _:
                pass

    def _is_new(self, name: str) -> bool:
        """Whether nothing has been said of `name` yet: who gives cause for it repeats itself for ever."""
        if len(self._complained_of) >= self._node.config.max_members:
            self._complained_of.clear()
        known = name in self._complained_of
        self._complained_of.add(name)
        return not known

    async def _keep_saved(self) -> None:
        while True:
            await self._unsaved.wait()
            self._unsaved.clear()
            await self._save()
            await asyncio.sleep(SAVE_AT_MOST_EVERY)

    async def _save(self) -> None:
        """Write the state file, in the worker thread: a slow disk must not delay an ack."""
        self._saved = self._state()
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._file.save, self._saved)
        except OSError as error:
            log.error("state file %s cannot be written: %s", self._file.path, error.strerror)

    def _state(self) -> SavedState:
        me = self._node.me
        # A name that cannot be a peer's gets no place: a flood of long ones would outgrow what can be read again.
        known = [m for m in self._node.members() if m.name != me.name and m.state is not NodeState.LEFT]
        known = [m for m in known if is_printable(m.name)]
        nodes = tuple(SavedNode(m.name, str(m.endpoint.ip), m.meta or None) for m in known)
        claim = self._standing.claim
        return SavedState(
            cluster_key=self._cluster_key,
            # A node that saw everybody die still has to find its way back.
            nodes=nodes or self._saved.nodes,
            own=OwnClaim(me.name, me.incarnation, claim.attempt, claim.claim_time),
        )


def _on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


if __name__ == "__main__":
    main()
