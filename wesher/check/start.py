"""The start that is looked at: all that the rows need of it, had once, as a start would have it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final, TypeVar

from privhelper.identity import BadUsers, resolve_users
from privhelper.options import Pinned
from privhelper.sandbox import NET_ADMIN, Identity, has_capability
from privhelper.spawn import LaunchError
from wesher.config import AgentConfig
from wesher.key_file import BadKeyFile
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

Refusal = LaunchError | BadKeyFile | StartError
REFUSALS: Final = (LaunchError, BadKeyFile, StartError)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Start:
    """The start that is looked at. What cannot be had is its refusal, which one row tells and the others pass over.

    assumed: who checks may not start it, so it is root's start. running: whether a daemon serves the interface, None
    where this user may not know.
    """

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


def begin(values: Mapping[str, Any], given: Collection[str], typed: Collection[str]) -> Start:
    """The start that `make_plan` would plan with the same arguments. Raises Contradiction."""
    refuse_contradictions(values, typed)
    assumed = not is_split(values) and os.geteuid() != 0 and not has_capability(NET_ADMIN)
    bound = _tried(lambda: bind_address(values))
    known = BindAddress(IPv4Address(0), b"") if isinstance(bound, REFUSALS) else bound
    key_remarks: list[str] = []
    key = _tried(lambda: given_key(values, key_remarks.append))
    config = agent_config(values, given, known, None if isinstance(key, REFUSALS) else key)
    return Start(
        values=values,
        remarks=remarks(values, typed),
        assumed=assumed,
        running=is_running(control_socket(values)),
        bound=bound,
        pinned=pin_options(values, known),
        users=_tried(lambda: _roots_users(values) if assumed else users(values, typed)),
        key=key,
        key_remarks=key_remarks,
        config=config,
        saved=_tried(lambda: read_state(config, StateFile(config.state_file))),
    )


def _tried(make: Callable[[], T]) -> T | Refusal:
    try:
        return make()
    except REFUSALS as error:
        return error


def _roots_users(values: Mapping[str, Any]) -> tuple[Identity, Identity]:
    try:
        return resolve_users(values["user"])
    except BadUsers as error:
        raise LaunchError(str(error)) from None
