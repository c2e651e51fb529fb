"""`wesher check`: what a start with these options would meet on this host, said without starting anything.

Each row of CHECKS is one thing that a start depends on, looked at by the functions that a start uses; an error is what
would end the start, in the words it would end with. Nothing is made, written or deleted, no module is loaded, and
neither a running daemon nor a running helper is asked anything. Names that are to be joined are resolved and their
ports tried: that is all that leaves this host.

Who may not start wesher may still check. It is then a start by root that is looked at, and what only root may see is a
warning that says so.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from enum import Enum, StrEnum
from ipaddress import IPv4Address, ip_address
from typing import Any, Final, NamedTuple, TypeVar

from privhelper import wireguard_go
from privhelper.addressing import MAX_ATTEMPT, derive
from privhelper.handover import check_reachable, check_runtime, check_state, may, prefixes
from privhelper.hosts import MAX_FILE, HostsUnavailable, names_in, open_hosts, parse
from privhelper.identity import BadUsers, resolve_users
from privhelper.options import Pinned
from privhelper.policy import HOSTS_REASONS, HostsVerdict, line_name, name_verdict
from privhelper.sandbox import NET_ADMIN, Identity, has_capability
from privhelper.spawn import LaunchError
from wesher.config import AgentConfig, Contact
from wesher.key_file import BadKeyFile
from wesher.mesh.saved_state import SavedState
from wesher.plan import (
    agent_config,
    bind_address,
    check_cluster_port,
    control_socket,
    given_key,
    is_running,
    is_split,
    key_path,
    pin_options,
    refuse_contradictions,
    remarks,
    users,
)
from wesher.runtime.bind_addr import BindAddress
from wesher.runtime.state_at_start import StartError, read_state
from wesher.runtime.state_file import StateFile
from wesher.show import plain
from wesher.swim.io import Endpoint, from_wire

ANSWERS_WITHIN: Final = 2.0
"""Seconds that whoever is to be joined has to take a TCP connection, on all addresses of the name together."""

_AT_ONCE: Final = 16
"""Names that are tried at the same time."""

_SHOWN: Final = 8
"""Names in one line, at most."""


class Level(StrEnum):
    """How bad a finding is: an error would end the start; a warning costs something, or could not be looked at."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(NamedTuple):
    """One line: what was looked at, and how it is, why, and what to do."""

    level: Level
    what: str
    text: str


class Layout(Enum):
    """Who looks at a thing: the launcher, the agent of a helper that runs already, or both."""

    LAUNCHED = 1
    SPLIT = 2
    BOTH = 3


Said = Iterator[tuple[Level, str]]
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


def _ok(text: str) -> tuple[Level, str]:
    return Level.OK, text


def _warning(text: str) -> tuple[Level, str]:
    return Level.WARNING, text


def _error(text: str) -> tuple[Level, str]:
    return Level.ERROR, text


def look(values: Mapping[str, Any], given: Collection[str], typed: Collection[str]) -> list[Finding]:
    """All findings; the arguments are those of `make_plan`. Raises Contradiction: that is wrong usage."""
    start = _start(values, given, typed)
    layouts = (Layout.BOTH, Layout.SPLIT if start.config.split else Layout.LAUNCHED)
    rows = [row for row in CHECKS if row.layout in layouts]
    return [Finding(level, row.what, text) for row in rows for level, text in said(row.look, start)]


def findings_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """`wesher check`: a line each."""
    widths = max(map(len, Level)), max(len(finding.what) for finding in findings)
    for level, what, text in findings:
        yield f"{level:<{widths[0]}}  {what:<{widths[1]}}  {text}"


def said(look_at: Callable[[Start], Said], start: Start) -> Said:
    """What one row has to say; a refusal is the last of it."""
    try:
        yield from look_at(start)
    except (*REFUSALS, OSError) as error:
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        yield _judge(text, _numbers(error), start)


def _judge(text: str, numbers: Collection[int | None], start: Start) -> tuple[Level, str]:
    """How bad a refusal is, by the kernel's numbers for it: root may do what we may not, and what our own daemon holds
    is no obstacle to its next start."""
    if start.assumed and not {errno.EACCES, errno.EPERM}.isdisjoint(numbers):
        return _warning(f"{text}; that is how uid {os.geteuid()} sees it: use sudo to know")
    if start.running is False or {errno.EADDRINUSE, errno.EEXIST}.isdisjoint(numbers):
        return _error(text)
    if start.running:
        return _ok("in use, and not looked at: wesher runs")
    return _warning(f"{text}; perhaps it is wesher itself that runs: use sudo to know")


def _numbers(error: BaseException | None) -> set[int | None]:
    """The kernel's reasons for `error`. Our words stand in front of them, but were made while they were handled."""
    found = set()
    while error is not None:
        if isinstance(error, OSError):
            found.add(error.errno)
        error = error.__context__
    return found


# --- the start ------------------------------------------------------------------------------------------------------


def _start(values: Mapping[str, Any], given: Collection[str], typed: Collection[str]) -> Start:
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


# --- processes ------------------------------------------------------------------------------------------------------


def _environment(start: Start) -> Said:
    for remark in start.remarks:
        yield _warning(remark)


def _privilege(start: Start) -> Said:
    uid = os.geteuid()
    if uid == 0:
        yield _ok("root, which is given away at once")
    elif not start.assumed:
        yield _ok(f"CAP_NET_ADMIN as uid {uid}, which both processes then share")
    else:
        yield _warning(
            f"uid {uid} cannot start wesher, without CAP_NET_ADMIN; this is about a start by root, as far as it can be "
            "seen: use sudo to see all"
        )


def _daemon(start: Start) -> Said:
    path, interface = control_socket(start.values), start.config.interface
    if start.running:
        yield _ok(f"wesher runs on interface {interface} ({path} answers); stop it before another start")
    elif start.running is None:
        yield _warning(f"{path} may not be used by uid {os.geteuid()}, so wesher may run: use sudo to know")
    else:
        yield _ok(f"none runs on interface {interface}")


def _users(start: Start) -> Said:
    if isinstance(start.users, REFUSALS):
        raise start.users
    agent, helper = start.users
    if start.config.split:
        yield _ok(f"the agent is uid {agent.uid}")
    else:
        yield _ok(f"the agent is uid {agent.uid}, the helper {helper.uid}")


def _program(start: Start) -> Said:
    if isinstance(start.users, REFUSALS):
        return
    agent, helper = start.users
    check_reachable(sys.executable, (agent, agent if start.config.split else helper))
    yield _ok(f"{sys.executable} is within their reach")


# --- gossip ---------------------------------------------------------------------------------------------------------


def _address(start: Start) -> Said:
    if isinstance(start.bound, REFUSALS):
        raise start.bound
    bound = start.bound
    announced = from_wire(bound.announced, 0).ip
    yield _ok(f"{bound.bind} is bound, {announced} announced: {_why(start.values, bound)}")


def _why(values: Mapping[str, Any], bound: BindAddress) -> str:
    if values["advertise-addr"] is not None:
        return "as --advertise-addr says"
    if bound.bind.is_unspecified:
        return "a private address of this host" + ("" if values["bind-addr"] else ", which has no public one")
    if values["bind-addr"] is not None:
        return "as --bind-addr says"
    return "a public address of this host" if values["bind-iface"] is None else f"the first of {values['bind-iface']}"


def _gossip_port(start: Start) -> Said:
    if isinstance(start.bound, REFUSALS):
        return
    check_cluster_port(start.bound.bind, start.config.cluster_port)
    yield _ok(f"{start.config.cluster_port} is free, UDP and TCP")


def _join(start: Start) -> Said:
    if not start.config.join:
        known = () if isinstance(start.saved, REFUSALS) else start.saved.nodes
        members = "1 saved member" if len(known) == 1 else f"{len(known)} saved members"
        yield _ok(f"nobody named: {f'{members} will be tried' if known else 'waits for others'}")
        return
    own = None if isinstance(start.bound, REFUSALS) else from_wire(start.bound.announced, start.config.cluster_port)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(lambda contact: _try(contact, start.config.cluster_port, own), start.config.join)


def _try(contact: Contact, cluster_port: int, own: Endpoint | None) -> tuple[Level, str]:
    """Whether somebody there takes a TCP connection."""
    name, port = plain(contact.host), contact.port or cluster_port
    try:
        answers = socket.getaddrinfo(contact.host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return _warning(f"{name} cannot be resolved: {error.strerror or error}; give a name that can, or an address")
    except UnicodeError:  # an empty or overlong label, which no resolver is asked for
        return _warning(f"{name} is no host name; give one, or an address")
    found = dict.fromkeys(from_wire(ip_address(str(at[0]).partition("%")[0]).packed, port) for *_, at in answers)
    others = [endpoint for endpoint in found if endpoint != own]
    if not others:
        return _ok(f"{name} is this node itself, and passed over")
    deadline = time.monotonic() + ANSWERS_WITHIN
    failures = []
    for endpoint in others:
        try:
            within = max(0.01, deadline - time.monotonic())
            socket.create_connection((str(endpoint.ip), endpoint.port), timeout=within).close()
        except OSError as error:
            failures.append(f"{endpoint}: {error.strerror or error}")
        else:
            return _ok(f"{name} answers as {endpoint}")
    return _warning(
        f"{name} does not answer ({_some(failures)}); start wesher there, and open port {port}, TCP and UDP, between "
        "the two; until then it will be tried again"
    )


# --- state ----------------------------------------------------------------------------------------------------------


def _state_directory(start: Start) -> Said:
    if isinstance(start.users, REFUSALS):
        return
    path = start.values["state-dir"]
    is_there = check_state(path, start.config.state_file, start.users[0])
    yield _ok(f"{path} can be used" if is_there else f"{path} will be made")


def _runtime_directory(start: Start) -> Said:
    if isinstance(start.users, REFUSALS):
        return
    path = start.values["runtime-dir"]
    is_there = check_runtime(path, start.users[0])
    yield _ok(f"{path} can be used" if is_there else f"{path} will be made")


def _state_file(start: Start) -> Said:
    if isinstance(start.saved, REFUSALS):
        raise start.saved
    path, saved = start.config.state_file, start.saved
    if start.config.init:
        aside = f"; {path} will be kept aside" if os.path.lexists(path) else ""
        yield _ok(f"a new cluster, as --init says{aside}")
    elif saved.remark is not None:
        aside = "; it will be kept aside" if os.path.lexists(path) else ""
        yield _warning(f"{path}: {saved.remark}{aside}")
    elif not os.path.lexists(path):
        yield _ok(f"{path} is not there yet")
    if saved.nodes or saved.cluster_key is not None:
        yield _ok(f"{path}: {_contents(saved)}")
    if saved.own is not None and saved.own.node_name != start.pinned.node_name and not start.config.split:
        yield _warning(
            f"{path} is that of {plain(saved.own.node_name)}, and this node is {plain(start.pinned.node_name)}: "
            "its address will change, and others may see both for a while"
        )
    yield from _unwritable(start)


def _contents(saved: SavedState) -> str:
    key = "the cluster key" if saved.cluster_key is not None else "no cluster key"
    owner = "" if saved.own is None else f" of {plain(saved.own.node_name)}"
    names = f" ({_some([plain(node.name) for node in saved.nodes])})" if saved.nodes else ""
    return f"the state{owner}: {key}, {len(saved.nodes)} members{names}"


def _unwritable(start: Start) -> Said:
    directory = start.values["state-dir"]
    if not os.path.isdir(directory) or not os.statvfs(directory).f_flag & os.ST_RDONLY:
        return
    if start.key is None and not isinstance(start.saved, REFUSALS) and start.saved.cluster_key is None:
        yield _error(f"{directory} is read-only, and a new cluster key would be lost: make it writable, or give a key")
    else:
        yield _warning(f"{directory} is read-only, and members will not be remembered: make it writable")


def _cluster_key(start: Start) -> Said:
    for remark in start.key_remarks:
        yield _warning(remark)
    if isinstance(start.key, REFUSALS):
        raise start.key
    saved = None if isinstance(start.saved, REFUSALS) else start.saved.cluster_key
    if start.key is not None:
        yield _ok(f"given {_where(start.values)}")
        if saved not in (None, start.key):
            yield _warning(
                "the state file has another, which will be kept aside with it; members that still have that one will "
                "not be joined"
            )
    elif saved is not None:
        yield _ok("the saved one")
    elif isinstance(start.saved, REFUSALS):
        return
    elif start.config.join:
        yield _warning("none is given or saved, and who is joined will not know a new one; give --cluster-key-file")
    else:
        yield _ok("none is given or saved: a new one will be generated")


def _where(values: Mapping[str, Any]) -> str:
    """Where the key was given: the command line moves one typed there, or in a variable, to a file of nobody's."""
    path = key_path(values)
    if path is None or path.startswith("/proc/self/fd/"):
        return "as an option or variable"
    return f"in {path}" if values["cluster-key-file"] is not None else f"as a credential, {path}"


# --- what the helper works on ---------------------------------------------------------------------------------------


def _wireguard(start: Start) -> Said:
    # Not at the top, here and below: it brings pyroute2 along, which the other commands need not wait for.
    from privhelper.survey import NO_KERNEL_WIREGUARD, kernel_would_give_wireguard  # noqa: PLC0415

    kind = start.values["wireguard"]
    in_kernel = kind != "userspace" and kernel_would_give_wireguard()
    untold = "whether the kernel would load its own cannot be told without making it, for its modules are not in sight"
    if in_kernel:
        yield _ok("the kernel's")
    elif kind == "kernel" and in_kernel is None:
        yield _warning(untold)
    elif kind == "kernel":
        yield _error(NO_KERNEL_WIREGUARD)
    elif in_kernel is None:
        yield _warning(untold)
        yield from _userspace(start)
    else:
        yield from _userspace(start)


def _userspace(start: Start) -> Said:
    program = wireguard_go.look()
    if os.geteuid() != 0 and not start.assumed:
        wireguard_go.check_directory(Identity(os.getuid(), os.getgid()))
    yield _ok(f"wireguard-go {wireguard_go.version(program)}, in userspace")


def _wireguard_port(start: Start) -> Said:
    from privhelper.survey import Survey  # noqa: PLC0415

    with closing(Survey(start.pinned)) as survey:
        try:
            survey.port()
        except LaunchError:
            if start.running is not False or not _left_a_link(start):
                raise
            yield _ok(f"{start.pinned.wireguard_port} is in use by the interface that will be made anew")
        else:
            yield _ok(f"{start.pinned.wireguard_port} is free, UDP")


def _interface(start: Start) -> Said:
    name = start.pinned.interface
    if start.running:
        yield _ok(f"{name} is not looked at: wesher runs")
    elif not _is_stale(start):
        yield _ok(f"{name} is free")
    elif start.running is None:
        yield _warning(f"{name} is wesher's, which may run: use sudo to know")
    else:
        yield _ok(f"{name} is left from an earlier run, and will be made anew")


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


def _overlay(start: Start) -> Said:
    from privhelper.survey import Survey  # noqa: PLC0415

    pinned = start.pinned
    with closing(Survey(pinned)) as survey:
        warning = survey.overlay()
    claim = None if isinstance(start.saved, REFUSALS) else start.saved.own_for(pinned.node_name)
    attempt = claim.attempt if claim is not None and claim.attempt <= MAX_ATTEMPT else 0
    address = derive(pinned.overlay_net, pinned.node_name.encode("ascii"), attempt)
    yield _ok(f"{plain(pinned.node_name)} is {address} in {pinned.overlay_net}")
    if warning is not None:
        yield _warning(warning)


def _hosts_file(start: Start) -> Said:
    pinned = start.pinned
    if not pinned.etc_hosts:
        yield _ok("not managed, as --no-etc-hosts says")
        return
    try:
        fd = open_hosts(pinned.hosts_file)
    except HostsUnavailable as error:
        text = f"{error}; peers' names will not be written"
        yield _warning(_judge(text, _numbers(error), start)[1])
        return
    try:
        content = os.pread(fd, MAX_FILE + 1, 0)
    finally:
        os.close(fd)
    if len(content) > MAX_FILE:
        yield _warning(f"{pinned.hosts_file} is larger than {MAX_FILE} bytes; peers' names will not be written")
        return
    yield _ok(f"{pinned.hosts_file} can be written")
    yield from _own_line(pinned, ip_as_name=start.values["ip-as-name"])
    names = () if isinstance(start.saved, REFUSALS) else tuple(node.name for node in start.saved.nodes)
    yield from _lines(pinned, names, names_in(parse(content, pinned.interface, alone=True).operator))


def _own_line(pinned: Pinned, *, ip_as_name: bool) -> Said:
    """What the others make of this node's name, with the same --hosts-suffix."""
    line = line_name(pinned.node_name, pinned.hosts_suffix)
    verdict = HostsVerdict.OUTSIDE_SUFFIX if line is None else name_verdict(line, "", ())
    if verdict is not HostsVerdict.ACCEPTED and not ip_as_name:
        yield _warning(
            f"others will write no line for this node, {plain(pinned.node_name)}: {HOSTS_REASONS[verdict]}; "
            "rename this host"
        )


def _lines(pinned: Pinned, names: Sequence[str], taken: Collection[str]) -> Said:
    """Saved members whose names cannot be written."""
    refused = []
    for name in names:
        line = line_name(name, pinned.hosts_suffix)
        verdict = HostsVerdict.OUTSIDE_SUFFIX if line is None else name_verdict(line, pinned.node_name, taken)
        if verdict is not HostsVerdict.ACCEPTED and name != pinned.node_name:
            refused.append(f"{plain(name)}: {HOSTS_REASONS[verdict]}")
    if refused:
        yield _warning(f"saved members that will have no line: {_some(refused)}")


def _helper_socket(start: Start) -> Said:
    """By the file alone: a connection would be an agent's session, and end the linger of a helper without one."""
    if isinstance(start.users, REFUSALS):
        return
    path, agent = start.values["helper-socket"], start.users[0]
    try:
        info = os.stat(path)
    except OSError as error:
        yield _error(f"no helper answers on {path}: {error.strerror}; start wesher-privhelper, or name its socket")
        return
    closed = [part for part in prefixes(path)[:-1] if not may(os.stat(part), agent, stat.S_IXOTH)]
    if not stat.S_ISSOCK(info.st_mode):
        yield _error(f"{path} is no socket; name the one that wesher-privhelper --listen makes")
    elif closed:
        yield _error(f"uid {agent.uid} cannot reach {path}: {closed[0]} is closed to it; name another --listen")
    elif not may(info, agent, stat.S_IWOTH):
        yield _error(
            f"uid {agent.uid} may not connect to {path}, which is uid {info.st_uid}'s (mode "
            f"{stat.S_IMODE(info.st_mode):o}); give wesher-privhelper --agent-uid {agent.uid}"
        )
    else:
        yield _ok(f"uid {agent.uid} may connect to {path}; whether a helper answers shows at the start")


def _some(texts: Sequence[str]) -> str:
    """A few of `texts`, and how many more there are."""
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return f"{', '.join(texts[:_SHOWN])}{more}"


# --- the table ------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One thing that a start depends on. What is the helper's affair is looked at only where this start makes one."""

    what: str
    layout: Layout
    look: Callable[[Start], Said]


CHECKS: Final = (
    Row("environment", Layout.BOTH, _environment),
    Row("privilege", Layout.LAUNCHED, _privilege),
    Row("daemon", Layout.BOTH, _daemon),
    Row("users", Layout.BOTH, _users),
    Row("program", Layout.BOTH, _program),
    Row("address", Layout.BOTH, _address),
    Row("gossip port", Layout.BOTH, _gossip_port),
    Row("helper socket", Layout.SPLIT, _helper_socket),
    Row("wireguard", Layout.LAUNCHED, _wireguard),
    Row("wireguard port", Layout.LAUNCHED, _wireguard_port),
    Row("interface", Layout.LAUNCHED, _interface),
    Row("overlay", Layout.LAUNCHED, _overlay),
    Row("hosts file", Layout.LAUNCHED, _hosts_file),
    Row("state directory", Layout.BOTH, _state_directory),
    Row("runtime directory", Layout.BOTH, _runtime_directory),
    Row("state file", Layout.BOTH, _state_file),
    Row("cluster key", Layout.BOTH, _cluster_key),
    Row("join", Layout.BOTH, _join),
)
