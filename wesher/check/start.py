"""The start that is looked at: all that the rows need of it, had once, as a start would have it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Flag, auto
from functools import cached_property
from ipaddress import IPv4Address
from typing import Any, Final, TypeVar

from privhelper.identity import BadUsers, resolve_users
from privhelper.options import Pinned
from privhelper.sandbox import NET_ADMIN, SETUID, Identity, has_capability
from privhelper.spawn import LaunchError
from wesher.check.apart import meet_as
from wesher.check.meeting import Met
from wesher.check.reaching import Probe
from wesher.config import AgentConfig
from wesher.key_file import BadKeyFile
from wesher.mesh.rotation import Keys
from wesher.mesh.saved_state import SavedState
from wesher.plan import (
    agent_config,
    bind_address,
    control_socket,
    given_key,
    is_running,
    is_split,
    pin_options,
    refuse_contradictions,
    remarks,
    users,
)
from wesher.runtime.bind_addr import BindAddress
from wesher.runtime.state_at_start import StartError, read_state
from wesher.runtime.state_file import StateFile
from wesher.swim.io import Endpoint, from_wire

Refusal = LaunchError | BadKeyFile | StartError
REFUSALS: Final = (LaunchError, BadKeyFile, StartError)
T = TypeVar("T")


class Half(Flag):
    """What is started: one of the two halves by itself, both of them so, or the launcher, which makes both."""

    LAUNCHER = auto()
    AGENT = auto()
    HELPER = auto()
    ANY = LAUNCHER | AGENT | HELPER


@dataclass(frozen=True)
class Start:
    """The start that is looked at. What cannot be had is its refusal, which one row tells and the others pass over.

    assumed: who checks may not start it, so it is root's start. running: whether a daemon serves the interface, None
    where this user may not know.
    """

    halves: Half
    values: Mapping[str, Any]
    remarks: Sequence[str]
    assumed: bool
    running: bool | None
    bound: BindAddress | Refusal
    pinned: Pinned
    users: tuple[Identity, Identity] | Refusal
    key: bytes | Refusal | None
    key_remarks: Sequence[str]
    config: AgentConfig
    saved: SavedState | Refusal

    @cached_property
    def met(self) -> Sequence[Met]:
        """How it went with those who are to be joined: tried once, for all rows."""
        agent = None if isinstance(self.users, REFUSALS) else self.users[0]
        return meet_as(agent, self.config.join, self.config.cluster_port, self.own, self.probe)

    @property
    def own(self) -> Endpoint | None:
        """Where this node says that it is."""
        if isinstance(self.bound, REFUSALS) or not self.bound.announced:
            return None
        return from_wire(self.bound.announced, self.config.cluster_port)

    @property
    def probe(self) -> Probe:
        """How to ask members, with the keys that a start would have."""
        own = self.own
        return Probe(
            keys=self._keys(),
            bind=IPv4Address(0) if isinstance(self.bound, REFUSALS) else self.bound.bind,
            announced=None if own is None else own.ip,
            port=self.config.cluster_port,
            wireguard_port=self.pinned.wireguard_port,
            overlay_mtu=self.pinned.mtu,
        )

    def _keys(self) -> tuple[bytes, ...]:
        saved = None if isinstance(self.saved, REFUSALS) else self.saved
        given = None if isinstance(self.key, REFUSALS) else self.key
        ring = () if saved is None or saved.cluster_key is None else (saved.keys or Keys.of(saved.cluster_key)).ring
        return ring if given is None else (given, *(key for key in ring if key != given))


def begin(values: Mapping[str, Any], given: Collection[str], typed: Collection[str]) -> Start:
    """The start that `make_plan` would plan with the same arguments. Raises Contradiction."""
    halves = _halves(values)
    refuse_contradictions(values, () if Half.HELPER in halves else typed)
    assumed = halves != Half.AGENT and os.geteuid() != 0 and not has_capability(NET_ADMIN)
    bound = _tried(lambda: bind_address(values))
    known = BindAddress(IPv4Address(0), b"") if isinstance(bound, REFUSALS) else bound
    key_remarks: list[str] = []
    key = _tried(lambda: given_key(values, key_remarks.append))
    config = agent_config(values, given, known, None if isinstance(key, REFUSALS) else key)
    return Start(
        halves=halves,
        values=values,
        remarks=remarks(values, typed),
        assumed=assumed,
        running=is_running(control_socket(values)),
        bound=bound,
        pinned=_pinned(values, known, halves),
        users=_tried(lambda: _users(values, typed, halves, assumed=assumed)),
        key=key,
        key_remarks=key_remarks,
        config=config,
        saved=_tried(lambda: read_state(config, StateFile(config.state_file))),
    )


def _halves(values: Mapping[str, Any]) -> Half:
    agent = Half.AGENT if is_split(values) else Half(0)
    helper = Half.HELPER if values["listen"] is not None else Half(0)
    return agent | helper or Half.LAUNCHER


def _pinned(values: Mapping[str, Any], bound: BindAddress, halves: Half) -> Pinned:
    pinned = pin_options(values, bound)
    name = values["node-name"]
    return pinned if name is None or Half.HELPER not in halves else replace(pinned, node_name=name)


def _tried(make: Callable[[], T]) -> T | Refusal:
    try:
        return make()
    except REFUSALS as error:
        return error


def _users(
    values: Mapping[str, Any], typed: Collection[str], halves: Half, *, assumed: bool
) -> tuple[Identity, Identity]:
    """Agent and helper. A helper on its own stays who it is where it cannot become another, and serves whom it is told
    to: it asks for no names then."""
    stays = Half.HELPER in halves and not assumed and not has_capability(SETUID)
    served = values["agent-uid"] if Half.HELPER in halves else None
    me = Identity(os.getuid(), os.getgid())
    if stays and served is not None:
        return Identity(served, served), me
    agent, helper = _roots_users(values) if assumed else users(values, typed)
    return agent if served is None else Identity(served, agent.gid), me if stays else helper


def _roots_users(values: Mapping[str, Any]) -> tuple[Identity, Identity]:
    try:
        return resolve_users(values["user"])
    except BadUsers as error:
        raise LaunchError(str(error)) from None
