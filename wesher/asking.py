"""How commands ask a running daemon: which socket, and what becomes of an answer that another version gave."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import click

from wesher.config import OPTIONS
from wesher.control_client import Unusable, get, post
from wesher.option_type import OptionType
from wesher.show import harmless

_LISTS: Final = frozenset(("members", "names", "observers", "peers", "problems", "refused"))
"""What has one line for each entry, in whatever answer."""

_HELPERS: Final = "/run/wesher-priv"
"""Where helpers listen: no instance's directory, whatever its interface is called."""

_BY_NAME: Final = {option.name: option for option in OPTIONS}


def socket_options(command: Any) -> Any:
    """The options that name the daemon's control socket."""
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


def ask(path: str, runtime_dir: str, interface: str) -> Any:
    """The answer to a question. Raises NotRunning, Unusable."""
    return get(_socket(runtime_dir, interface), path)


def tell(path: str, words: Mapping[str, Any], runtime_dir: str, interface: str) -> Any:
    """The answer to a command, once it has been carried out. Raises NotRunning, Unusable, Declined."""
    return post(_socket(runtime_dir, interface), path, words)


def _socket(runtime_dir: str, interface: str) -> str:
    """Where the daemon of `interface` is asked. One that is an instance of the template units, with users of its own,
    has a directory of its own beside the others', which counts first: in the common one another agent may have put a
    socket of that name, to hear what is meant for this one."""
    instances = f"{runtime_dir}-{interface}"
    is_one = os.path.isdir(instances) and instances != _HELPERS
    return f"{instances if is_one else runtime_dir}/{interface}.sock"


def lines(answer: Mapping[str, Any], reading: Callable[[Mapping[str, Any]], Iterable[str]]) -> list[str]:
    """What `reading` makes of `answer`. Raises Unusable: a daemon started from another version may say it otherwise."""
    try:
        for name in _LISTS & answer.keys():
            if not isinstance(answer[name], list):
                raise TypeError(name)  # a text of 30 MB would be a line for each of its characters
        return [harmless(line) for line in reading(answer)]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):  # numbers may be of any size
        raise Unusable("the daemon's answer is not of this version; restart it, or see the answer by --json") from None
