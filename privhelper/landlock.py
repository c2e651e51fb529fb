"""Which files a process may open, and to which TCP ports it may connect: landlock, for this thread and all it starts.

Descriptors that are open stay usable. Landlock does not mediate stat(2), UDP, or unix sockets that are connected.
What a kernel's landlock does not know yet it cannot deny; `lacking` says what that is. ABI 1 is Linux 5.13, 2 5.19,
3 6.2 (truncate), 4 6.7 (TCP), 5 6.10 (device ioctl), 6 6.12 (scopes).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from landlockpy import AccessFS, AccessNet, Ruleset, Scope, abi_version

from privhelper.sonames import without_a_search

_TRUNCATE_SINCE: Final = 3
_TCP_SINCE: Final = 4

# UDP is left out though ABI 10 has it: whom gossip may speak to is not known before.
_TCP: Final = AccessNet.BIND_TCP | AccessNet.CONNECT_TCP

_READ: Final = AccessFS.READ_FILE
_REPLACE: Final = (
    AccessFS.READ_FILE
    | AccessFS.READ_DIR  # to sync it
    | AccessFS.WRITE_FILE
    | AccessFS.TRUNCATE
    | AccessFS.MAKE_REG
    | AccessFS.REMOVE_FILE
)


@dataclass(frozen=True, slots=True)
class Grants:
    """What stays possible: paths below which files may be read, replaced (read, made, written, renamed, removed) or
    removed, and TCP ports to connect to. `signals`: whether processes outside may be signalled."""

    read: Sequence[str] = ()
    replace: Sequence[str] = ()
    remove: Sequence[str] = ()
    connect: Sequence[int] = ()
    signals: bool = False


def abi() -> int:
    """The kernel's landlock ABI; 0 where it has none or it is switched off."""
    with without_a_search():
        try:
            return abi_version()
        except OSError:  # none, switched off, or forbidden by a container's filter
            return 0


def lacking(version: int) -> list[str]:
    """What ABI `version`, which is not 0, cannot deny, for the log."""
    found = []
    if version < _TRUNCATE_SINCE:
        found.append("landlock for truncate(2) (Linux 6.2)")
    if version < _TCP_SINCE:
        found.append("landlock for TCP (Linux 6.7)")
    return found


def restrict(grants: Grants) -> None:
    """Nothing but `grants` from now on: every other file, TCP port, abstract unix socket. Paths that are not there are
    passed over. Raises OSError."""
    scopes = Scope.ABSTRACT_UNIX_SOCKET | (Scope.NONE if grants.signals else Scope.SIGNAL)
    rights = ((grants.read, _READ), (grants.replace, _REPLACE), (grants.remove, AccessFS.REMOVE_FILE))
    with Ruleset(handled_net=_TCP, scoped=scopes) as ruleset:
        for paths, access in rights:
            for path in paths:
                with suppress(FileNotFoundError, NotADirectoryError):
                    ruleset.allow_path(path, access)
        for port in grants.connect:
            ruleset.allow_port(port, AccessNet.CONNECT_TCP)
        ruleset.restrict()
