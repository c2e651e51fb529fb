"""What systemd would start: the options of an installed unit, in its own words.

A service's options stand in its unit, in drop-ins and in the files that these name; whoever checks what it would meet
should not have to repeat them. Read is what concerns options, users and the cluster key, as systemd.service(5) and
systemd.exec(5) have it: Environment=, EnvironmentFile=, LoadCredential=, ExecStart=, User=; and what is opened for the
program or closed to it before it is there: StandardInput=file:, PrivateDevices=. Nothing else of a unit (what it may
reach, as which user it is confined how) is looked at.

An agent whose unit names a helper's socket is checked with its helper, whose unit stands beside it.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

DIRECTORIES: Final = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
)
"""Where units are, and which counts first (systemd.unit(5))."""

CREDENTIALS: Final = ("/etc/credstore", "/run/credstore", "/usr/lib/credstore")
"""Where a credential is that is named without a path."""

_SOCKET: Final = "--helper-socket"
_YES: Final = ("yes", "true", "on", "1", "y", "t")  # systemd's parse_boolean()


class NoUnit(Exception):
    """Why the unit cannot be checked, in one line."""


@dataclass(slots=True)
class Unit:
    """What a unit says of the start: the words behind the program's name, variables, user, credentials by name, the
    file that is its standard input, whether it sees devices."""

    words: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    credentials: dict[str, str] = field(default_factory=dict)
    standard_input: str | None = None
    has_no_devices: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """What to check: words of a command line, and the variables of ours that go with them; which files systemd opens
    for the helper, and whether the unit is the launcher's, and sees devices."""

    words: tuple[str, ...]
    variables: Mapping[str, str]
    opened: tuple[str, ...] = ()
    is_launcher: bool = False
    has_no_devices: bool = False


def options_of(name: str, root: str = "") -> Options:
    """Those of the unit `name`, with or without `.service`; `root` is put before every path. Raises NoUnit."""
    name = name.removesuffix(".service")
    unit = _read(name, root)
    path = _value_of(_SOCKET, unit.words) or unit.variables.get("WESHER_HELPER_SOCKET")
    variables, users = dict(unit.variables), unit.user
    opened: tuple[str, ...] = ()
    if path is not None:
        helper = _read(_helper_of(name), root)
        opened = () if helper.standard_input is None else (f"{root}{helper.standard_input}",)
        variables = {**helper.variables, "WESHER_LISTEN": path, **variables}
        users = f"{unit.user}:{helper.user}" if unit.user and helper.user else None
    if users is not None:
        variables.setdefault("WESHER_USER", users)
    key = unit.credentials.get("cluster-key")
    has_one = {"WESHER_CLUSTER_KEY", "WESHER_CLUSTER_KEY_FILE"} & variables.keys()
    if key is not None and not has_one and not any(word.startswith("--cluster-key") for word in unit.words):
        variables["WESHER_CLUSTER_KEY_FILE"] = key
    ours = {name: value for name, value in variables.items() if name.startswith("WESHER_")}
    words = tuple(word for word in unit.words if word != "agent")
    return Options(words, ours, opened, is_launcher=path is None, has_no_devices=unit.has_no_devices)


def _helper_of(name: str) -> str:
    """The unit of the helper of an agent's: wesher-privhelper for wesher, with the same instance."""
    base, at, instance = name.partition("@")
    return f"{base}-privhelper{at}{instance}"


def _read(name: str, root: str) -> Unit:
    base, at, instance = name.partition("@")
    template = f"{base}@" if at else name
    found = _first(root, (f"{name}.service", f"{template}.service"))
    if found is None:
        raise NoUnit(
            f"no unit {name}.service is installed ({', '.join(DIRECTORIES)}); name one that is, or give its options"
        )
    unit = Unit()
    files: list[str] = []
    for path in (found, *_drop_ins(root, dict.fromkeys((f"{template}.service.d", f"{name}.service.d")))):
        for directive, text in _directives(path):
            value = text.replace("%i", instance).replace("%%", "%")
            if directive == "EnvironmentFile":
                files = [*files, value] if value else []
            else:
                _take(unit, directive, value, root)
    for file in files:
        _read_variables(f"{root}{file.removeprefix('-')}", unit.variables, optional=file.startswith("-"))
    unit.words = _expanded(unit.words, unit.variables)
    return unit


def _take(unit: Unit, directive: str, value: str, root: str) -> None:
    match directive:
        case "Environment":
            words = (word.partition("=") for word in shlex.split(value))
            unit.variables = {**unit.variables, **{name: text for name, _, text in words}} if value else {}
        case "ExecStart":
            unit.words = shlex.split(value)[1:]
        case "User":
            unit.user = value or None
        case "StandardInput":
            unit.standard_input = value.removeprefix("file:") if value.startswith("file:") else None
        case "PrivateDevices":
            unit.has_no_devices = value.lower() in _YES
        case "LoadCredential" if not value:
            unit.credentials = {}
        case "LoadCredential":
            name, _, path = value.partition(":")
            where = [path] if path.startswith("/") else [f"{directory}/{path or name}" for directory in CREDENTIALS]
            found = next((f"{root}{file}" for file in where if os.path.exists(f"{root}{file}")), None)
            if found is not None:
                unit.credentials[name] = found


def _first(root: str, names: Sequence[str]) -> str | None:
    paths = [f"{root}{directory}/{name}" for name in names for directory in DIRECTORIES]
    return next((path for path in paths if os.path.isfile(path)), None)


def _drop_ins(root: str, directories: Mapping[str, None]) -> Iterator[str]:
    """By name of file, whichever directory it stands in; of the same name the first counts."""
    found: dict[str, str] = {}
    for directory in directories:
        for place in DIRECTORIES:
            here = f"{root}{place}/{directory}"
            for name in os.listdir(here) if os.path.isdir(here) else ():
                if name.endswith(".conf"):
                    found.setdefault(name, f"{here}/{name}")
    for name in sorted(found):
        yield found[name]


def _directives(path: str) -> Iterator[tuple[str, str]]:
    """Name and value of everything in the section [Service]."""
    section = ""
    for line in _lines(path):
        if line.startswith("["):
            section = line
        elif section == "[Service]":
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def _read_variables(path: str, variables: dict[str, str], *, optional: bool) -> None:
    if optional and not os.path.exists(path):
        return
    for line in _lines(path):
        name, equals, value = line.partition("=")
        if equals:
            text = value.strip()
            is_quoted = len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]
            variables[name.strip()] = text[1:-1] if is_quoted else text


def _lines(path: str) -> Iterator[str]:
    """Without comments, continued lines as one. Raises NoUnit."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError as error:
        raise NoUnit(f"{path} cannot be read: {error.strerror}; use sudo, or see what the unit names") from None
    kept = [line for line in text.splitlines() if not line.lstrip().startswith(("#", ";"))]
    for line in "\n".join(kept).replace("\\\n", " ").splitlines():
        if line.strip():
            yield line.strip()


def _expanded(words: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """With variables put in: $NAME alone becomes its words, ${NAME} anywhere its text."""
    found: list[str] = []
    for word in words:
        if re.fullmatch(r"\$\w+", word):
            found += variables.get(word[1:], "").split()
        else:
            found.append(re.sub(r"\$\{(\w+)\}", lambda match: variables.get(match[1], ""), word))
    return found


def _value_of(option: str, words: Sequence[str]) -> str | None:
    for i, word in enumerate(words):
        if word == option and i + 1 < len(words):
            return words[i + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None
