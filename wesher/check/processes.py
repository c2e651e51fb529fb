"""Who would run, as whom, and whether they could: this process and its environment, the daemon, the helper's socket."""

from __future__ import annotations

import os
import stat
import sys

from privhelper import lockdown
from privhelper.handover import check_reachable, may, prefixes
from privhelper.options import OFF
from privhelper.refusals import NEEDS_NET_ADMIN
from privhelper.sandbox import NET_ADMIN, has_capability
from wesher.check.finding import Said, error, ok, warning
from wesher.check.start import REFUSALS, Half, Start
from wesher.plan import control_socket


def environment(start: Start) -> Said:
    """Variables that are unknown, or mean more than they seem to."""
    for remark in start.remarks:
        yield warning(remark)


def privilege(start: Start) -> Said:
    """Whether this user may start wesher at all."""
    uid = os.geteuid()
    if Half.HELPER in start.halves and not start.assumed:
        if has_capability(NET_ADMIN):
            yield ok(f"CAP_NET_ADMIN as uid {uid}" if uid else "root, which is given away at once")
        else:
            yield error(NEEDS_NET_ADMIN)
    elif uid == 0:
        yield ok("root, which is given away at once")
    elif not start.assumed:
        yield ok(f"CAP_NET_ADMIN as uid {uid}, which both processes then share")
    else:
        yield warning(
            f"uid {uid} cannot start wesher, without CAP_NET_ADMIN; this is about a start by root, as far as it can be "
            "seen: use sudo to see all"
        )


def daemon(start: Start) -> Said:
    """Whether one runs already on this interface."""
    path, interface = control_socket(start.values), start.config.interface
    if start.running:
        yield ok(f"wesher runs on interface {interface} ({path} answers); stop it before another start")
    elif start.running is None:
        yield warning(f"{path} may not be used by uid {os.geteuid()}, so wesher may run: use sudo to know")
    else:
        yield ok(f"none runs on interface {interface}")


def users(start: Start) -> Said:
    """As whom agent and helper would run."""
    if isinstance(start.users, REFUSALS):
        raise start.users
    agent, helper = start.users
    if start.halves == Half.AGENT:
        yield ok(f"the agent is uid {agent.uid}")
    else:
        yield ok(f"the agent is uid {agent.uid}, the helper {helper.uid}")


def program(start: Start) -> Said:
    """Whether they can reach the interpreter that they are started with."""
    if isinstance(start.users, REFUSALS):
        return
    agent, helper = start.users
    check_reachable(sys.executable, (agent, agent if start.config.split else helper))
    yield ok(f"{sys.executable} is within their reach")


def sandbox(start: Start) -> Said:
    """Whether this kernel can keep the processes in, as far as `--sandbox` asks for it."""
    mode = start.config.sandbox
    if mode == OFF:
        yield warning("off: neither seccomp nor landlock would keep the processes in")
        return
    try:
        lockdown.check(mode)
    except lockdown.NoSandbox as refused:
        yield error(str(refused))
        return
    missing = lockdown.lacking()
    yield ok(f"{mode}, without {', '.join(missing)}" if missing else f"{mode}, and this kernel has all of it")


def helper_socket(start: Start) -> Said:
    """By the file alone: a connection would be an agent's session, and end the linger of a helper without one."""
    if isinstance(start.users, REFUSALS):
        return
    path, agent = start.values["helper-socket"], start.users[0]
    if path == start.values["listen"] and not os.path.exists(path):
        yield ok(f"{path} will be made by the helper")
        return
    try:
        info = os.stat(path)
    except OSError as missing:
        yield error(f"no helper answers on {path}: {missing.strerror}; start wesher-privhelper, or name its socket")
        return
    closed = [part for part in prefixes(path)[:-1] if not may(os.stat(part), agent, stat.S_IXOTH)]
    if not stat.S_ISSOCK(info.st_mode):
        yield error(f"{path} is no socket; name the one that wesher-privhelper --listen makes")
    elif closed:
        yield error(f"uid {agent.uid} cannot reach {path}: {closed[0]} is closed to it; name another --listen")
    elif not may(info, agent, stat.S_IWOTH):
        yield error(
            f"uid {agent.uid} may not connect to {path}, which is uid {info.st_uid}'s (mode "
            f"{stat.S_IMODE(info.st_mode):o}); give wesher-privhelper --agent-uid {agent.uid}"
        )
    else:
        yield ok(f"uid {agent.uid} may connect to {path}; whether a helper answers shows at the start")
