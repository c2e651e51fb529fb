"""What the helper would make: WireGuard, its port, its interface and its addresses."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Final

from privhelper import wireguard_go
from privhelper.addressing import MAX_ATTEMPT, derive
from privhelper.refusals import NO_KERNEL_WIREGUARD
from privhelper.sandbox import Identity
from privhelper.spawn import LaunchError
from wesher.check.finding import Said, error, ok, warning
from wesher.check.start import REFUSALS, Half, Start
from wesher.show import plain

_UNTOLD: Final = (
    "whether the kernel would load its own cannot be told without making it, for its modules are not in sight"
)


def kernel_has_wireguard() -> bool | None:
    """Whether the kernel has WireGuard or would load it, None where that cannot be told."""
    # Not at the top, here and below: it brings pyroute2 along, which the other commands need not wait for.
    from privhelper.survey import kernel_would_give_wireguard  # noqa: PLC0415

    return kernel_would_give_wireguard()


def backend(start: Start) -> Said:
    """Whose WireGuard it would be."""
    if Half.HELPER in start.halves:
        yield from _helpers(start)
        return
    kind = start.values["wireguard"]
    in_kernel = kind != "userspace" and kernel_has_wireguard()
    if in_kernel:
        yield ok("the kernel's")
    elif kind == "kernel" and in_kernel is None:
        yield warning(_UNTOLD)
    elif kind == "kernel":
        yield error(NO_KERNEL_WIREGUARD)
    elif in_kernel is None:
        yield warning(_UNTOLD)
        yield from _userspace(start)
    else:
        yield from _userspace(start)


def _helpers(start: Start) -> Said:
    from privhelper.survey import Survey  # noqa: PLC0415

    with closing(Survey(start.pinned)) as survey:
        found = survey.helpers_wireguard(start.values["wireguard"])
    if found is None:
        yield warning(_UNTOLD)
    elif found == "tun":
        yield ok(f"wireguard-go's, which serves {start.pinned.interface}")
    else:
        yield ok("the kernel's")


def _userspace(start: Start) -> Said:
    program = wireguard_go.look()
    if os.geteuid() != 0 and not start.assumed:
        wireguard_go.check_directory(Identity(os.getuid(), os.getgid()))
    yield ok(f"wireguard-go {wireguard_go.version(program)}, in userspace")


def port(start: Start) -> Said:
    """Whether WireGuard's port is free."""
    from privhelper.survey import Survey  # noqa: PLC0415

    with closing(Survey(start.pinned)) as survey:
        try:
            survey.port()
        except LaunchError:
            if Half.HELPER in start.halves and survey.is_of_a_helper():
                yield ok(f"in use, and not looked at: {start.pinned.interface} is there, a helper's")
                return
            if start.running is not False or not _left_a_link(start):
                raise
            yield ok(f"{start.pinned.wireguard_port} is in use by the interface that will be made anew")
        else:
            yield ok(f"{start.pinned.wireguard_port} is free, UDP")


def interface(start: Start) -> Said:
    """Whether the name is free, or an earlier run's."""
    name = start.pinned.interface
    if Half.HELPER in start.halves and (used := _helpers_link(start)):
        yield ok(used)
    elif start.running:
        yield ok(f"{name} is not looked at: wesher runs")
    elif not _is_stale(start):
        yield ok(f"{name} is free")
    elif start.running is None:
        yield warning(f"{name} is wesher's, which may run: use sudo to know")
    else:
        yield ok(f"{name} is left from an earlier run, and will be made anew")


def _helpers_link(start: Start) -> str:
    """What a helper on its own makes of a link that is there; empty where the launcher's words do."""
    from privhelper.survey import Survey  # noqa: PLC0415

    name = start.pinned.interface
    with closing(Survey(start.pinned)) as survey:
        if survey.is_of_a_helper():
            return f"{name} is a helper's, which runs, or has left it and will take it up again"
        try:
            served = survey.helpers_wireguard(start.values["wireguard"]) == "tun"
        except LaunchError:
            return ""
    return f"{name} is wireguard-go's, and will be used" if served else ""


def _is_stale(start: Start) -> bool:
    """Whether an earlier run left the link. Raises LaunchError where it is somebody else's."""
    from privhelper.survey import Survey, kernel_would_give_wireguard  # noqa: PLC0415

    in_kernel = bool(start.values["wireguard"] != "userspace" and kernel_would_give_wireguard())
    with closing(Survey(start.pinned)) as survey:
        return survey.finds_stale_link(in_kernel=in_kernel)


def _left_a_link(start: Start) -> bool:
    try:
        return _is_stale(start)
    except LaunchError:  # another row's to tell
        return False


def overlay(start: Start) -> Said:
    """This node's address, and what is wrong with the net around it."""
    from privhelper.survey import Survey  # noqa: PLC0415

    pinned = start.pinned
    with closing(Survey(pinned)) as survey:
        shadow = survey.overlay()
    claim = None if isinstance(start.saved, REFUSALS) else start.saved.own_for(pinned.node_name)
    attempt = claim.attempt if claim is not None and claim.attempt <= MAX_ATTEMPT else 0
    address = derive(pinned.overlay_net, pinned.node_name.encode("ascii"), attempt)
    yield ok(f"{plain(pinned.node_name)} is {address} in {pinned.overlay_net}")
    if shadow is not None:
        yield warning(shadow)
