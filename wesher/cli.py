"""The command line: options to a plan for the launcher. The commands beside the daemon are in commands.py.

`wesher` alone, or `wesher agent`, is the daemon. Every option is also an environment variable. What is wrong is said
in one line before any process is split off. Exit status: 0 good, 1 error, 2 usage, 3 no daemon running, 4 degraded
(`status --check`).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from privhelper.launch import attach, launch
from privhelper.options import HELPER, Option
from privhelper.spawn import LaunchError, fill_standard_descriptors
from wesher.check.finding import Finding, Level, findings_lines
from wesher.check.handed import handed
from wesher.check.table import look
from wesher.check.unit import NoUnit, options_of
from wesher.check.wireguard import kernel_has_wireguard
from wesher.commands import COMMANDS
from wesher.config import OPTIONS, parse_cluster_key
from wesher.control_client import Declined, NotRunning, Unusable
from wesher.key_file import BadKeyFile
from wesher.option_type import OptionType
from wesher.plan import Contradiction, make_plan
from wesher.show import harmless

_OWN_ARGUMENTS: Final = ("--version", "--help", "-h")
_TAKING_A_KEY: Final = ("agent", "check")


class DaemonByDefault(click.Group):
    """A group whose options and whose empty command line mean `agent`, as in the original."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `agent` in front where no command is named; in the original --log-level may stand before it too.

        The daemon has no arguments: a first word that is no option is meant for a command.
        """
        if ctx.resilient_parsing and not args:  # a shell completes the first word, which may become a command
            return super().parse_args(ctx, args)
        length = _length_of_log_level(args)
        if args[length : length + 1] == ["agent"]:
            args = ["agent", *args[:length], *args[length + 1 :]]
        if not args or (args[0].startswith("-") and args[0] not in _OWN_ARGUMENTS):
            args = ["agent", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The first word: a command or an option of the daemon's."""
        agent = self.commands["agent"]
        own = super().shell_complete(ctx, incomplete)
        agents = agent.shell_complete(click.Context(agent, parent=ctx), incomplete)
        return [*{item.value: item for item in [*agents, *own]}.values()]


def _length_of_log_level(args: Sequence[str]) -> int:
    """How many words at the beginning are --log-level and its value."""
    first = args[0] if args else ""
    return 2 if first == "--log-level" else int(first.startswith("--log-level="))


def _click_option(option: Option) -> click.Option:
    if option.metavar is None:
        return click.Option(
            [f"--{option.name}"], is_flag=True, envvar=option.variable, help=option.text, hidden=option.hidden
        )
    return click.Option(
        [f"--{option.name}"],
        metavar=option.metavar,
        type=OptionType(option),
        default=option.default or None,
        show_default=bool(option.default),
        envvar=option.variable,
        help=option.text,
    )


_version = click.version_option(
    importlib.metadata.version("wesher"), message="v%(version)s", help="display version and exit"
)


@click.group(cls=DaemonByDefault, context_settings={"help_option_names": ["-h", "--help"]})
@_version
def cli() -> None:
    """Mesh overlay network: WireGuard on every node, membership by gossip.

    Without a command it is the daemon; `wesher agent --help` shows its options.
    """


class Options(NamedTuple):
    """The daemon's options by name, parsed; which of them were set at all, and which on the command line."""

    values: dict[str, Any]
    given: set[str]
    typed: set[str]


def _options(values: Mapping[str, Any]) -> Options:
    sources = {name.replace("_", "-"): click.get_current_context().get_parameter_source(name) for name in values}
    return Options(
        values={name.replace("_", "-"): value for name, value in values.items()},
        given={name for name, source in sources.items() if source is not ParameterSource.DEFAULT},
        typed={name for name, source in sources.items() if source is ParameterSource.COMMANDLINE},
    )


def _agent(**values: Any) -> None:
    """Start the daemon (default when no command is given)."""
    options = _options(values)
    try:
        plan = make_plan(*options)
    except Contradiction as error:
        raise click.UsageError(str(error)) from None
    helper_socket = options.values["helper-socket"]
    if helper_socket is not None:
        attach(plan, helper_socket)
    launch(plan)


def _check(as_json: bool, **values: Any) -> None:
    """Show what a start with these options would meet on this host; touch nothing; exit 1 if it would fail."""
    try:
        findings = [*look(*_options(values)), *_of_the_unit()]
    except Contradiction as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        click.echo(json.dumps({"findings": [finding._asdict() for finding in findings]}, indent=2))
    else:
        click.echo("\n".join(map(harmless, findings_lines(findings))))
    if any(finding.level is Level.ERROR for finding in findings):
        sys.exit(1)


def _of_the_unit() -> Iterator[Finding]:
    """What --unit names has to say besides."""
    unit = click.get_current_context().meta.get(_UNIT)
    if unit is not None:
        yield from handed(unit, kernel_has_wireguard)


def _daemons_parameters() -> list[click.Parameter]:
    return [*map(_click_option, OPTIONS)]


cli.add_command(
    _version(
        click.Command(
            "agent",
            callback=_agent,
            params=_daemons_parameters(),
            help=_agent.__doc__,
            context_settings={"help_option_names": ["-h", "--help"]},
        )
    )
)


_UNIT: Final = "wesher.check.unit"
"""Where a context has what the unit says."""


class Check(click.Command):
    """A command that takes an installed unit's options, as if they were typed before its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put what the unit says in place of --unit, and of our own variables, which a service does not see."""
        name, rest = _taken("--unit", args)
        if name is None:
            return super().parse_args(ctx, args)
        try:
            unit = options_of(name)
        except NoUnit as error:
            raise click.UsageError(str(error), ctx) from None
        for variable in [variable for variable in os.environ if variable.startswith("WESHER_")]:
            del os.environ[variable]
        os.environ.update(unit.variables)
        ctx.meta[_UNIT] = unit
        return super().parse_args(ctx, [*unit.words, *rest])


def _taken(option: str, args: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of an option, None where it is not given, and all the other words."""
    for i, word in enumerate(args):
        if word == option and i + 1 < len(args):
            return args[i + 1], [*args[:i], *args[i + 2 :]]
        if word.startswith(f"{option}="):
            return word.partition("=")[2], [*args[:i], *args[i + 1 :]]
    return None, list(args)


_OF_A_HELPER: Final = [option for option in HELPER if option.name in ("listen", "node-name", "agent-uid", "linger")]
"""What only a helper on its own has; with --listen it is its start that is looked at."""

cli.add_command(
    Check(
        "check",
        callback=_check,
        params=[
            click.Option(["--json", "as_json"], is_flag=True, help="print JSON; its fields are stable"),
            click.Option(
                ["--unit"],
                metavar="NAME",
                expose_value=False,
                help="check what systemd would start: an installed unit such as wesher, with its helper",
            ),
            *_daemons_parameters(),
            *map(_click_option, _OF_A_HELPER),
        ],
        help=_check.__doc__,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
)
for command in COMMANDS:
    cli.add_command(command)


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


def main() -> NoReturn:
    """The console script `wesher`."""
    fill_standard_descriptors()  # before anything is opened: it would be taken for the operator's output
    _open_outputs()
    if len(sys.argv) == 1 or sys.argv[1] not in cli.commands or sys.argv[1] in _TAKING_A_KEY:
        _restart_without_key()
    try:
        cli.main(prog_name="wesher", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.UsageError as error:
        _fail(_with_what_to_do(error), error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except click.Abort:
        sys.exit(130)
    except NotRunning as error:
        _fail(str(error), 3)
    except (LaunchError, BadKeyFile, Declined, Unusable) as error:
        _fail(str(error), 1)
    except OSError as error:
        if not _only_writes(sys.argv[1:]):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer would be tried again at the end
        _fail(f"the output cannot be written: {error.strerror}; see where it goes", 1)
    sys.exit(0)


def _open_outputs() -> None:
    """Python has none where 1 or 2 was closed at its start; by now they are /dev/null."""
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - for as long as we are
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _only_writes(words: Sequence[str]) -> bool:
    """Whether what was asked for does nothing with the system that is not caught where it is done, but write to its
    output."""
    return words[:1] != ["agent"] and any(word in (*cli.commands, *_OWN_ARGUMENTS) for word in words[:1])


def _with_what_to_do(error: click.UsageError) -> str:
    """The mistake; click's own words for one mostly end without it."""
    text = error.format_message()
    if "; " in text or text.endswith("?") or error.ctx is None:
        return text
    return f"{text.removesuffix('.')}; see {error.ctx.command_path} --help"


def _fail(text: str, code: int) -> NoReturn:
    plain = "".join(character if character.isprintable() else " " for character in text)
    print(f"wesher: error: {plain}", file=sys.stderr)
    sys.exit(code)
