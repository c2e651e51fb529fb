"""The saved state when the daemon starts: what is read, and only when nothing else can fail, what is changed.

A key that is given wins over the saved one, unless that came in its place by rotation. A file that cannot be read and
no key given ends the start: a new cluster is made only where there never was one, or where `--init` asks for it.
"""

from __future__ import annotations

import base64
import logging
import secrets
from dataclasses import replace

from wesher.config import CLUSTER_KEY_SIZE, AgentConfig
from wesher.mesh.rotation import Keys, given
from wesher.mesh.saved_state import SavedState, StateError
from wesher.runtime.state_file import StateFile

log = logging.getLogger("agent")

NOTHING = SavedState(cluster_key=None, nodes=(), own=None)


class StartError(Exception):
    """Why the agent cannot run, in one line."""


def read_state(config: AgentConfig, file: StateFile) -> SavedState:
    """What was saved, as far as it counts for this start; nothing is touched. Raises StartError."""
    if config.init:
        return NOTHING
    try:
        saved = file.load()
    except StateError as error:
        if config.cluster_key is None:
            raise _no_key(file, str(error)) from None
        return replace(NOTHING, remark=str(error))
    if saved is not None and saved.cluster_key is None and config.cluster_key is None:
        raise _no_key(file, "it holds no cluster key")
    return saved or NOTHING


def _no_key(file: StateFile, reason: str) -> StartError:
    return StartError(f"state file {file.path}: {reason}; give --cluster-key, or --init for a new cluster")


def keep_state(config: AgentConfig, file: StateFile, saved: SavedState) -> SavedState:
    """The state to go on with: with the given key, else the saved, else a new one. Raises StartError.

    It is written, or the log says why not: only a key that nobody else has must not depend on it.
    """
    if config.init:
        _set_aside(file)
    known = config.cluster_key or saved.cluster_key
    said = [saved.remark] if saved.remark is not None else []
    keys = _keys(config, saved, said)
    key = keys.primary.key
    state = replace(saved, cluster_key=key, keys=keys, remark=None)
    try:
        if (aside := file.save(state)) is not None:
            said.append(f"the former file is kept as {aside}")
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        if known is None:
            raise StartError(
                f"state file {file.path} {reason}; the cluster key would be lost: make it writable, or give one"
            ) from None
        said.append(f"{reason}; trying again with every change")
    if said:
        log.warning("state file %s: %s", file.path, "; ".join(said))
    if known is None and config.show_key:
        print(f"new cluster key generated: {base64.b64encode(key).decode('ascii')}", flush=True)
    return state


def _keys(config: AgentConfig, saved: SavedState, said: list[str]) -> Keys:
    """The keys to go on with; what is to be said of them is added to `said`, or to the log."""
    if saved.cluster_key is None:
        return Keys.of(config.cluster_key or secrets.token_bytes(CLUSTER_KEY_SIZE))
    keys = saved.keys or Keys.of(saved.cluster_key)
    if config.cluster_key is None:
        return keys
    new, remark = given(keys, config.cluster_key)
    if remark is not None:
        log.warning(
            "the cluster key of --cluster-key, --cluster-key-file or WESHER_CLUSTER_KEY %s; give that one there "
            "(wesher key show), or none",
            remark,
        )
    elif new.primary.key != saved.cluster_key:
        said.append("its cluster key is not the one given")
    return new


def _set_aside(file: StateFile) -> None:
    try:
        aside = file.set_aside()
    except OSError as error:
        raise StartError(f"--init: state file {file.path} cannot be kept aside: {error.strerror}") from None
    if aside is not None:
        log.warning("--init: the former state is kept as %s", aside)
