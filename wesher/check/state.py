"""What lasts: the directories, the state file and the cluster key."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

from privhelper.handover import check_runtime, check_state
from wesher.check.finding import Said, error, ok, some, warning
from wesher.check.start import REFUSALS, Start
from wesher.mesh.saved_state import MAX_SIZE, SavedState
from wesher.plan import control_socket, key_path
from wesher.show import plain


def state_directory(start: Start) -> Said:
    """Whether the agent can use it, or it can be made."""
    if isinstance(start.users, REFUSALS):
        return
    path = start.values["state-dir"]
    is_there = check_state(path, start.config.state_file, start.users[0])
    yield ok(f"{path} can be used" if is_there else f"{path} will be made")


def runtime_directory(start: Start) -> Said:
    """Whether the agent can use it, or it can be made."""
    if isinstance(start.users, REFUSALS):
        return
    path = start.values["runtime-dir"]
    is_there = check_runtime(path, start.users[0])
    if _is_directory(control_socket(start.values)):
        yield error(f"control socket in {path} cannot be made: {os.strerror(errno.EISDIR)}")
    elif is_there and os.statvfs(path).f_flag & os.ST_RDONLY:
        yield error(f"control socket in {path} cannot be made: {os.strerror(errno.EROFS)}")
    else:
        yield ok(f"{path} can be used" if is_there else f"{path} will be made")


def state_file(start: Start) -> Said:
    """Whose state there is, and what of it can be used."""
    if isinstance(start.saved, REFUSALS):
        raise start.saved
    path, saved = start.config.state_file, start.saved
    size = _size(path)
    if size is not None and size > MAX_SIZE:
        level = error if start.config.init else warning
        yield level(f"{path} is too large to keep beside a new one, and none will be written: move it away")
    elif start.config.init:
        aside = f"; {path} will be kept aside" if size is not None else ""
        yield ok(f"a new cluster, as --init says{aside}")
    elif saved.remark is not None:
        aside = "; it will be kept aside" if size is not None else ""
        yield warning(f"{path}: {saved.remark}{aside}")
    elif size is None:
        yield ok(f"{path} is not there yet")
    if saved.nodes or saved.cluster_key is not None:
        yield ok(f"{path}: {_contents(saved)}")
    if saved.own is not None and saved.own.node_name != start.pinned.node_name and not start.config.split:
        yield warning(
            f"{path} is that of {plain(saved.own.node_name)}, and this node is {plain(start.pinned.node_name)}: "
            "its address will change, and others may see both for a while"
        )
    yield from _unwritable(start)


def _size(path: str) -> int | None:
    """Bytes of what is there, whatever it is; None where nothing is."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return None


def _contents(saved: SavedState) -> str:
    key = "the cluster key" if saved.cluster_key is not None else "no cluster key"
    owner = "" if saved.own is None else f" of {plain(saved.own.node_name)}"
    names = f" ({some([plain(node.name) for node in saved.nodes])})" if saved.nodes else ""
    return f"the state{owner}: {key}, {len(saved.nodes)} members{names}"


def _unwritable(start: Start) -> Said:
    directory, beside = start.values["state-dir"], f"{start.config.state_file}.new"
    if os.path.isdir(directory) and os.statvfs(directory).f_flag & os.ST_RDONLY:
        reason, remedy = f"{directory} is read-only", "make it writable"
    elif _is_directory(beside):
        reason, remedy = f"{beside} is a directory", "remove it"
    else:
        return
    if start.key is None and not isinstance(start.saved, REFUSALS) and start.saved.cluster_key is None:
        yield error(f"{reason}, and a new cluster key would be lost: {remedy}, or give a key")
    else:
        yield warning(f"{reason}, and members will not be remembered: {remedy}")


def _is_directory(path: str) -> bool:
    """Whether one stands where a file or socket is to be made, which takes the place of anything else."""
    return os.path.isdir(path) and not os.path.islink(path)


def cluster_key(start: Start) -> Said:
    """Where the key comes from."""
    for remark in start.key_remarks:
        yield warning(remark)
    if isinstance(start.key, REFUSALS):
        raise start.key
    saved = None if isinstance(start.saved, REFUSALS) else start.saved.cluster_key
    if start.key is not None:
        yield ok(f"given {_where(start.values)}")
        if saved not in (None, start.key):
            yield warning(
                "the state file has another, which will be kept aside with it; members that still have that one will "
                "not be joined"
            )
    elif saved is not None:
        yield ok("the saved one")
    elif isinstance(start.saved, REFUSALS):
        return
    elif start.config.join:
        yield warning("none is given or saved, and who is joined will not know a new one; give --cluster-key-file")
    else:
        yield ok("none is given or saved: a new one will be generated")


def _where(values: Mapping[str, Any]) -> str:
    """Where the key was given: the command line moves one typed there, or in a variable, to a file of nobody's."""
    path = key_path(values)
    if path is None or path.startswith("/proc/self/fd/"):
        return "as an option or variable"
    return f"in {path}" if values["cluster-key-file"] is not None else f"as a credential, {path}"
