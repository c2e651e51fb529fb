"""From the daemon's options to a plan for the launcher: what has to be looked up on this host, and what contradicts.

Everything that can be wrong is said here, in one line, before any process is split off or anything is made.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Collection, Mapping
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from privhelper.identity import BadUsers, resolve_users
from privhelper.launch import Plan
from privhelper.options import HELPER, NODE_NAME, PINNED, WIREGUARD, Pinned, pin, unknown_variables
from privhelper.sandbox import NET_ADMIN, SETUID, Identity, has_capability
from privhelper.spawn import LaunchError
from wesher.config import OPTIONS, AgentConfig
from wesher.control_client import connect
from wesher.key_file import key_in_file
from wesher.runtime.bind_addr import BindAddress, NoAddress, choose, default_interface, interface_addresses

AGENT_MODULE: Final = "wesher.runtime.agent"

_OF_THE_HELPER: Final = ("address", "hosts-file", WIREGUARD.name)
"""Options that mean nothing to an agent whose helper runs already, and that it is not told either."""


_TO_BECOME_OTHERS: Final = {"CAP_SETUID": SETUID, "CAP_SETGID": 6, "CAP_SETPCAP": 8}
"""What root needs to start a process as another user, who keeps nothing of it."""


class Contradiction(Exception):
    """Options that exclude each other, in one line: wrong usage."""


def make_plan(values: Mapping[str, Any], given: Collection[str], typed: Collection[str]) -> Plan:
    """What to launch. `values` are all options, parsed; of these `given` were set at all, `typed` on the command line.

    Raises Contradiction, LaunchError, BadKeyFile.
    """
    for remark in remarks(values, typed):
        warn(remark)
    refuse_contradictions(values, typed)
    bound = bind_address(values)
    pinned = pin_options(values, bound)
    key = given_key(values, warn)
    agent, helper = users(values, typed)
    path = control_socket(values)
    if is_running(path):
        raise LaunchError(
            f"wesher runs already on interface {pinned.interface} ({path} answers); stop it, or give --interface"
        )
    config = agent_config(values, given, bound, key)
    return Plan(
        pinned=pinned,
        wireguard=values["wireguard"],
        agent=agent,
        helper=helper,
        agent_module=AGENT_MODULE,
        agent_config=config.to_json(),
        check_agent=partial(check_cluster_port, bound.bind, values["cluster-port"]),
        state_dir=values["state-dir"],
        state_file=config.state_file,
        runtime_dir=values["runtime-dir"],
        log_level=values["log-level"],
        log_format=values["log-format"],
        sandbox=values["sandbox"],
    )


def agent_config(
    values: Mapping[str, Any], given: Collection[str], bound: BindAddress, key: bytes | None
) -> AgentConfig:
    """What the agent will be told."""
    split = is_split(values)
    return AgentConfig(
        cluster_key=key,
        join=values["join"] or (),
        init=values["init"],
        bind_addr=str(bound.bind),
        announced=bound.announced,
        follow=_is_found(values),
        bind_iface=values["bind-iface"] or "",
        cluster_port=values["cluster-port"],
        profile=values["profile"],
        meta_format=values["meta-format"],
        retain_failed=values["retain-failed"],
        forget_after=values["forget-after"],
        interface=values["interface"],
        state_file=f"{values['state-dir']}/{values['interface']}.json",
        runtime_dir=values["runtime-dir"],
        log_level=values["log-level"],
        log_format=values["log-format"],
        sandbox=values["sandbox"],
        show_key=sys.stdout is not None and sys.stdout.isatty(),
        split=split,
        expected=_expected(values, given) if split else (),
    )


def _is_found(values: Mapping[str, Any]) -> bool:
    """Whether which address is announced was left to this host's interfaces."""
    given = values["bind-addr"]
    return values["advertise-addr"] is None and (given is None or given.is_unspecified)


def is_split(values: Mapping[str, Any]) -> bool:
    """Whether the helper is a service of its own."""
    return values["helper-socket"] is not None


def remarks(values: Mapping[str, Any], typed: Collection[str]) -> list[str]:
    """What is odd about the environment, and keeps nobody from starting."""
    found = []
    unknown = unknown_variables(os.environ, {option.name for option in (*OPTIONS, *HELPER)})
    if unknown:
        found.append(f"unknown in the environment, ignored: {', '.join(unknown)}")
    if values["init"] and "init" not in typed:
        found.append("WESHER_INIT is set: every start begins a new cluster; unset it after the first")
    return found


def refuse_contradictions(values: Mapping[str, Any], typed: Collection[str]) -> None:
    """Raise Contradiction where it takes no look at this host to see one."""
    if is_split(values):
        _check_split(typed)
    if values["bind-addr"] is not None and values["bind-iface"] is not None:
        raise Contradiction("setting both bind address and bind interface is not supported; give one of them")
    if values["cluster-key"] is not None and values["cluster-key-file"] is not None:
        raise Contradiction("--cluster-key and --cluster-key-file exclude each other; give one of them")


def _check_split(typed: Collection[str]) -> None:
    for name in _OF_THE_HELPER:
        if name in typed:
            raise Contradiction(f"--{name} is the helper's affair under --helper-socket; give it to wesher-privhelper")
    if "ip-as-name" in typed:
        raise Contradiction("--ip-as-name does nothing under --helper-socket; give wesher-privhelper --node-name")


def _expected(values: Mapping[str, Any], given: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Pinned options that this agent was given, which its helper must have been given too; its interface always."""
    names = {option.name for option in PINNED} & {*given, "interface"} - set(_OF_THE_HELPER)
    return tuple((name, str(values[name])) for name in sorted(names))


def pin_options(values: Mapping[str, Any], bound: BindAddress) -> Pinned:
    """The pinned options, and this node's name. Raises Contradiction."""
    try:
        is_named = values["ip-as-name"] and not bound.bind.is_unspecified
        return pin(NODE_NAME.parse(str(bound.bind) if is_named else socket.gethostname()), values)
    except ValueError as error:
        raise Contradiction(str(error)) from None


def bind_address(values: Mapping[str, Any]) -> BindAddress:
    """What gossip binds on this host, and announces. Raises LaunchError."""
    try:
        with open("/proc/net/route", encoding="ascii") as file:
            default = default_interface(file.read())
    except OSError:
        default = None
    found = interface_addresses(leave_out=values["interface"])
    advertised = values["advertise-addr"]
    try:
        bound = choose(values["bind-addr"], values["bind-iface"], found, default)
    except NoAddress as error:
        if advertised is None or values["bind-iface"] is not None:
            raise LaunchError(str(error)) from None
        bound = BindAddress(values["bind-addr"] or IPv4Address(0), b"")
    return bound if advertised is None else BindAddress(bound.bind, advertised.packed)


def given_key(values: Mapping[str, Any], warn: Callable[[str], None]) -> bytes | None:
    """The key that was given: as such, in a file, or as a service manager's credential. Raises BadKeyFile."""
    path = key_path(values)
    if path is not None:
        return key_in_file(path, warn)
    key = values["cluster-key"]
    assert key is None or isinstance(key, bytes)  # noqa: S101 - what its parser returns
    return key


def key_path(values: Mapping[str, Any]) -> str | None:
    """The file in which the key was given: the option's, or the credential where no key is given otherwise."""
    if values["cluster-key-file"] is not None:
        return str(values["cluster-key-file"])
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    credential = f"{directory}/cluster-key"
    given = values["cluster-key"] is None and directory.startswith("/") and os.path.exists(credential)
    return credential if given else None


def users(values: Mapping[str, Any], typed: Collection[str]) -> tuple[Identity, Identity]:
    """Agent and helper. An ordinary user can only be both himself, and only where he may make a link, or need not.

    Raises Contradiction, LaunchError.
    """
    if os.geteuid() == 0:
        _check_root(values)
        try:
            return resolve_users(values["user"])
        except BadUsers as error:
            raise LaunchError(str(error)) from None
    if "user" in typed:
        raise Contradiction("--user needs root, who alone can become another user; leave it away")
    if not is_split(values) and not has_capability(NET_ADMIN):
        raise LaunchError(
            "wesher must be started as root, or with CAP_NET_ADMIN: it makes a network interface; use sudo, or "
            "--helper-socket where wesher-privhelper runs"
        )
    me = Identity(os.getuid(), os.getgid())
    return me, me


def _check_root(values: Mapping[str, Any]) -> None:
    """Raise LaunchError where root is less than root, as in a container; a helper on its own can do without."""
    if values.get("listen") is not None:
        return
    needed = {} if is_split(values) else {"CAP_NET_ADMIN": NET_ADMIN}
    missing = [name for name, number in (needed | _TO_BECOME_OTHERS).items() if not has_capability(number)]
    if missing:
        raise LaunchError(
            f"root lacks {', '.join(missing)} here, and wesher runs each process as a user of its own; give it back "
            "(in a container: --cap-add), or run helper and agent as two"
        )


def control_socket(values: Mapping[str, Any]) -> str:
    """Where a daemon with these options is asked."""
    return f"{values['runtime-dir']}/{values['interface']}.sock"


def is_running(path: str) -> bool | None:
    """Whether a daemon serves the control socket `path`; None where this user may not know."""
    try:
        connect(path).close()
    except BlockingIOError:
        return True  # its queue is full: it is stopped, or does not want to be asked
    except PermissionError:
        return None
    except OSError:
        return False
    return True


def check_cluster_port(address: IPv4Address | IPv6Address, port: int) -> None:
    """Raise LaunchError where gossip could not use the port.

    The agent binds it itself, when there is a link already: what would stop it then is better said now."""
    # Not at the top: it brings asyncio along, which the commands beside the daemon need not wait for.
    from wesher.runtime.gossip import bind  # noqa: PLC0415

    lowest = _lowest_port()
    if os.geteuid() == 0 and port < lowest:
        raise LaunchError(f"cannot bind port {port}: only root may, and the agent is not; give one from {lowest} up")
    try:
        bound = bind(address, port)
    except OSError as error:
        raise LaunchError(
            f"cannot bind {address} port {port}: {error.strerror}; give another --bind-addr or --cluster-port"
        ) from None
    for opened in bound:
        opened.close()


def _lowest_port() -> int:
    """The first port that an ordinary user may bind on this host."""
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1024


def warn(text: str) -> None:
    """Say it, and go on."""
    print(f"wesher: warning: {text}", file=sys.stderr)
