"""The helper's command line and environment, parsed.

    wesher-privhelper --listen /run/wesher-priv/wgoverlay.sock [options]     on its own: split layout
    python -I -m privhelper --agent-fd 3 …                                  what the launcher becomes

Every option is also a variable, `WESHER_` and its name; the command line wins. Variables of the agent's are passed
over, so that one file may hold both programs' options.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from privhelper.logs import printable
from privhelper.options import AGENTS, HELPER, LOG, NODE_NAME, Option, Pinned, pin, unknown_variables

_OPTIONS: Final = (*HELPER, *LOG)

# What a switch's variable may hold: what click, which reads the agent's, takes.
_ON: Final = ("1", "true", "t", "yes", "y", "on")
_OFF: Final = ("", "0", "false", "f", "no", "n", "off")


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the helper is told. `listen` is None where the launcher gives it its only agent as `agent_fd`."""

    pinned: Pinned
    wireguard: str
    users: str
    sandbox: str
    listen: str | None
    agent_uid: int | None
    linger: int
    log_level: str
    log_format: str
    agent_fd: int | None
    hosts_fd: int | None
    uapi_fd: int | None
    children: tuple[int, ...]


def parse_arguments(argv: Sequence[str], environment: Mapping[str, str]) -> Arguments:
    """Exits 2 with one line where something is wrong."""
    parser = _Parser(prog="wesher-privhelper", allow_abbrev=False, description=(__doc__ or "").partition("\n")[0])
    for option in _OPTIONS:
        _declare(parser, option, environment)
    for name, parse in (("agent-fd", int), ("hosts-fd", int), ("uapi-fd", int), ("children", _pids)):
        parser.add_argument(f"--{name}", type=parse, help=argparse.SUPPRESS)  # between the launcher and us
    given = {name.replace("_", "-"): value for name, value in vars(parser.parse_args(argv)).items()}
    try:
        pinned = pin(given["node-name"] or NODE_NAME.parse(socket.gethostname()), given)
    except ValueError as error:
        parser.error(str(error))
    unknown = unknown_variables(environment, {*AGENTS, *(option.name for option in _OPTIONS)})
    if unknown:
        names = printable(", ".join(unknown))
        print(f"wesher: warning: unknown in the environment, ignored: {names}", file=sys.stderr)
    return Arguments(
        pinned=pinned,
        wireguard=given["wireguard"],
        users=given["user"],
        sandbox=given["sandbox"],
        listen=given["listen"],
        agent_uid=given["agent-uid"],
        linger=given["linger"],
        log_level=given["log-level"],
        log_format=given["log-format"],
        agent_fd=given["agent-fd"],
        hosts_fd=given["hosts-fd"],
        uapi_fd=given["uapi-fd"],
        children=given["children"] or (),
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        """One line, as everywhere."""
        print(f"wesher: error: {printable(message)}", file=sys.stderr)
        sys.exit(2)


def _pids(text: str) -> tuple[int, ...]:
    return tuple(int(pid) for pid in text.split(","))


def _declare(parser: argparse.ArgumentParser, option: Option, environment: Mapping[str, str]) -> None:
    def parse(text: str) -> Any:
        try:
            return option.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    set_outside = environment.get(option.variable, "")
    if option.metavar is None:
        if set_outside.lower() not in (*_ON, *_OFF):
            parser.error(f"{option.variable}: '{set_outside}' is neither yes nor no; give 1 or 0")
        is_on = set_outside.lower() in _ON
        parser.add_argument(f"--{option.name}", action="store_true", default=is_on, help=option.text)
    else:
        default = set_outside or option.default or None
        parser.add_argument(f"--{option.name}", metavar=option.metavar, type=parse, default=default, help=option.text)
