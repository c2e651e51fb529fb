"""The command line: options to a plan for the launcher, and commands that ask a running daemon.

`wesher` alone, or `wesher agent`, is the daemon. Every option is also an environment variable. What is wrong is said
in one line before any process is split off. Exit status: 0 good, 1 error, 2 usage, 3 no daemon running.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import stat
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn, TextIO

import click

from privhelper.launch import LaunchError, Plan, fill_standard_descriptors, launch, resolve_users
from privhelper.options import NODE_NAME, Option, pin
from wesher.config import NOT_YET, OPTIONS, AgentConfig, parse_cluster_key
from wesher.control_client import NotRunning, Unusable, get
from wesher.runtime.bind_addr import BindAddress, NoAddress, choose, default_interface, interface_addresses
from wesher.show import harmless, status_lines
from wesher.wire.dissect import dissect_line
from wesher.wire.keyring import Keyring

AGENT_MODULE: Final = "wesher.runtime.agent"

_BY_NAME: Final = {option.name: option for option in OPTIONS}
_OWN_ARGUMENTS: Final = ("--version", "--help", "-h")


class OptionType(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic since click 8.3
    """A value parsed by the option's own parser."""

    def __init__(self, option: Option) -> None:
        self.name = option.metavar or option.name
        self._option = option

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse text; a value that is parsed already stays."""
        if not isinstance(value, str):
            return value
        try:
            return self._option.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class DaemonByDefault(click.Group):
    """A group whose options and whose empty command line mean `agent`, as in the original."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `agent` in front where no command is named."""
        if not args or (args[0] not in self.commands and args[0] not in _OWN_ARGUMENTS):
            args = ["agent", *args]
        return super().parse_args(ctx, args)


def _click_option(option: Option) -> click.Option:
    if option.metavar is None:
        return click.Option([f"--{option.name}"], is_flag=True, envvar=option.variable, help=option.text)
    return click.Option(
        [f"--{option.name}"],
        metavar=option.metavar,
        type=OptionType(option),
        default=option.default or None,
        show_default=bool(option.default),
        envvar=option.variable,
        help=option.text,
    )


def _refused_option(name: str) -> click.Option:
    def refuse(_ctx: click.Context, _param: click.Parameter, value: object) -> None:
        if value is not None:
            raise click.UsageError(f"--{name} is not there yet in this version; leave it away")

    variable = "WESHER_" + name.upper().replace("-", "_")
    # An optional value, so that a switch and an option with a value are refused alike.
    return click.Option(
        [f"--{name}"], hidden=True, envvar=variable, callback=refuse, expose_value=False, is_flag=False, flag_value=""
    )


@click.group(cls=DaemonByDefault, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(importlib.metadata.version("wesher"), message="v%(version)s", help="display version and exit")
def cli() -> None:
    """Mesh overlay network: WireGuard on every node, membership by gossip.

    Without a command it is the daemon; `wesher agent --help` shows its options.
    """


def _agent(**values: Any) -> None:
    """Start the daemon (default when no command is given)."""
    launch(_plan({name.replace("_", "-"): value for name, value in values.items()}))


cli.add_command(
    click.Command(
        "agent",
        callback=_agent,
        params=[*map(_click_option, OPTIONS), *map(_refused_option, sorted(NOT_YET))],
        help=_agent.__doc__,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
)


def _plan(values: Mapping[str, Any]) -> Plan:
    """What to launch for these values. Raises click.ClickException, LaunchError."""
    _warn_of_unknown_variables(os.environ)
    if values["bind-addr"] is not None and values["bind-iface"] is not None:
        raise click.UsageError("setting both bind address and bind interface is not supported; give one of them")
    try:
        pinned = pin(NODE_NAME.parse(socket.gethostname()), values)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    key = _cluster_key(values)
    if os.geteuid() != 0:
        raise LaunchError(
            "wesher must be started as root: it makes a network interface, then gives root away; use sudo"
        )
    agent, helper = resolve_users(values["user"])
    bound = _bind_address(values)
    state_file = f"{values['state-dir']}/{pinned.interface}.json"
    config = AgentConfig(
        cluster_key=key,
        join=values["join"] or (),
        init=values["init"],
        bind_addr=str(bound.bind),
        announced=bound.announced,
        cluster_port=values["cluster-port"],
        interface=pinned.interface,
        state_file=state_file,
        runtime_dir=values["runtime-dir"],
        log_level=values["log-level"],
        show_key=sys.stdout is not None and sys.stdout.isatty(),
    )
    return Plan(
        pinned=pinned,
        agent=agent,
        helper=helper,
        agent_module=AGENT_MODULE,
        agent_config=config.to_json(),
        state_dir=values["state-dir"],
        state_file=state_file,
        runtime_dir=values["runtime-dir"],
        log_level=values["log-level"],
    )


def _bind_address(values: Mapping[str, Any]) -> BindAddress:
    try:
        with open("/proc/net/route", encoding="ascii") as file:
            default = default_interface(file.read())
    except OSError:
        default = None
    found = interface_addresses(leave_out=values["interface"])
    try:
        return choose(values["bind-addr"], values["bind-iface"], found, default)
    except NoAddress as error:
        raise LaunchError(str(error)) from None


def _cluster_key(values: Mapping[str, Any]) -> bytes | None:
    if values["cluster-key-file"] is None:
        key = values["cluster-key"]
        assert key is None or isinstance(key, bytes)  # noqa: S101 - what its parser returns
        return key
    if values["cluster-key"] is not None:
        raise click.UsageError("--cluster-key and --cluster-key-file exclude each other; give one of them")
    return _key_in_file(values["cluster-key-file"])


def _key_in_file(path: str) -> bytes:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4096)
    except OSError as error:
        raise LaunchError(f"cluster key file {path} cannot be read: {error.strerror}") from None
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        print(f"wesher: warning: every user can read the cluster key in {path}; chmod 600 it", file=sys.stderr)
    try:
        return parse_cluster_key(text)
    except ValueError as error:
        raise LaunchError(f"cluster key file {path}: {error}") from None


def _warn_of_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {option.variable for option in OPTIONS}
    unknown = sorted(name for name in environment if name.startswith("WESHER_") and name not in known)
    if unknown:
        print(f"wesher: warning: unknown in the environment, ignored: {', '.join(unknown)}", file=sys.stderr)


# --- a secret on the command line ----------------------------------------------------------------------------------


def hide_cluster_key(
    argv: Sequence[str], environment: Mapping[str, str]
) -> tuple[str | None, list[str], dict[str, str]] | None:
    """A cluster key given in `argv` or `environment`, and both without it; None if there is none.

    The command line wins over the environment, as everywhere. None too where it names a file beside the key: that is
    refused as it stands. An empty variable is none given; an empty option is a mistake, for its parser to name.
    """
    rest, key = [], None
    words = iter(argv)
    for word in words:
        if word == "--cluster-key":
            key = next(words, None)
        elif word.startswith("--cluster-key="):
            key = word.partition("=")[2]
        else:
            rest.append(word)
    clean = {name: value for name, value in environment.items() if name != "WESHER_CLUSTER_KEY"}
    named = any(word.partition("=")[0] == "--cluster-key-file" for word in rest)
    from_environment = None if named else environment.get("WESHER_CLUSTER_KEY") or None
    if (key is None and len(clean) == len(environment)) or (key is not None and named):
        return None
    return from_environment if key is None else key, rest, clean


def _restart_without_key() -> None:
    """Any user may read our argv and root our environment: move a key from there to a memfd, and start over."""
    hidden = hide_cluster_key(sys.argv[1:], os.environ)
    if hidden is None:
        return
    key, argv, environment = hidden
    if key is not None:
        try:
            parse_cluster_key(key)
        except ValueError as error:
            _fail(f"--cluster-key: {error}", 2)
        fd = os.memfd_create("cluster-key", 0)
        os.fchmod(fd, 0o600)
        os.write(fd, key.encode("utf-8", "surrogateescape"))
        argv = [*argv, f"--cluster-key-file=/proc/self/fd/{fd}"]
    os.execve(sys.executable, [sys.executable, "-I", "-m", "wesher", *argv], environment)  # noqa: S606 - ourselves


# --- commands ----------------------------------------------------------------------------------------------------


def _socket_options(command: Any) -> Any:
    for name in ("runtime-dir", "interface"):
        option = _BY_NAME[name]
        command = click.option(
            f"--{name}",
            metavar=option.metavar,
            type=OptionType(option),
            default=option.default,
            show_default=True,
            envvar=option.variable,
            help=option.text,
        )(command)
    return command


def _ask(path: str, runtime_dir: str, interface: str) -> Any:
    return get(f"{runtime_dir}/{interface}.sock", path)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON; its fields are stable")
@_socket_options
def status(as_json: bool, runtime_dir: str, interface: str) -> None:
    """Show this node, the cluster, its members, and who is refused and why."""
    answer = _ask("/status", runtime_dir, interface)
    click.echo(json.dumps(answer, indent=2) if as_json else "\n".join(status_lines(answer)))


@cli.group()
def key() -> None:
    """The cluster key."""


@key.command("show")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@_socket_options
def key_show(as_json: bool, runtime_dir: str, interface: str) -> None:
    """Print the cluster key (for root and the daemon's group)."""
    answer = _ask("/key", runtime_dir, interface)
    click.echo(json.dumps(answer) if as_json else harmless(answer["cluster_key"]))


@cli.command()
@click.option("--cluster-key-file", metavar="FILE", required=True, help="read the cluster key from FILE, as base64")
@click.argument("capture", metavar="[FILE]", type=click.File("r", errors="replace"), default="-")
def decode(cluster_key_file: str, capture: TextIO) -> None:
    """Decode captured traffic: lines `udp HEX` or `tcp HEX` to one JSON object each."""
    keyring = Keyring([_key_in_file(cluster_key_file)])
    for line in capture:
        if line.strip():
            click.echo(json.dumps(dissect_line(line, keyring)))


def main() -> NoReturn:
    """The console script `wesher`."""
    fill_standard_descriptors()  # before anything is opened: it would be taken for the operator's output
    if len(sys.argv) == 1 or sys.argv[1] not in cli.commands or sys.argv[1] == "agent":
        _restart_without_key()
    try:
        cli.main(prog_name="wesher", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except click.Abort:
        sys.exit(130)
    except NotRunning as error:
        _fail(str(error), 3)
    except (LaunchError, Unusable) as error:
        _fail(str(error), 1)
    except BrokenPipeError:
        os._exit(0)  # `wesher decode | head`: nobody is left to tell
    sys.exit(0)


def _fail(text: str, code: int) -> NoReturn:
    plain = "".join(character if character.isprintable() else " " for character in text)
    print(f"wesher: error: {plain}", file=sys.stderr)
    sys.exit(code)
