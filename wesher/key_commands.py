"""`wesher key`: which cluster keys there are and who has them, and a new one in place of the old.

`rotate` is two commands to the daemon with looks in between: give out a new key; wait until every member has it; have
everybody use it; wait until every member does. The daemon sees to it that the second is not given too early, and goes
on where an earlier attempt broke off. So this may be interrupted wherever it is, and given again, on any node.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import click

from wesher.asking import ask, lines, socket_options, tell
from wesher.config import OPTIONS
from wesher.control_client import Declined, Unusable
from wesher.key_file import key_in_file
from wesher.option_type import OptionType
from wesher.show import duration, plain, table

LOOK_EVERY: Final = 0.3
"""Seconds between two looks at how many have followed."""

_NAMED: Final = 5
"""Members that one line names."""

_GRACE: Final = OptionType(next(option for option in OPTIONS if option.name == "forget-after"))

_PARTS: Final = {"seals": "in use", "coming": "given out, not in use", "going": "replaced"}


@click.group()
def key() -> None:
    """The cluster key: show it, list who has which, change it everywhere."""


@key.command("show")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@socket_options
def key_show(as_json: bool, runtime_dir: str, interface: str) -> None:
    """Print the cluster key (for root and the daemon's group)."""
    answer = ask("/key", runtime_dir, interface)
    click.echo(json.dumps(answer) if as_json else "\n".join(lines(answer, lambda found: [found["cluster_key"]])))


@key.command("list")
@click.option("--json", "as_json", is_flag=True, help="print JSON; its fields are stable")
@socket_options
def key_list(as_json: bool, runtime_dir: str, interface: str) -> None:
    """Show the keys that this node holds, by fingerprint, and how many of the members have each."""
    answer = ask("/keys", runtime_dir, interface)
    click.echo(json.dumps(answer, indent=2) if as_json else "\n".join(lines(answer, list_lines)))


def list_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """For people: a table, and below it who lacks what."""
    count = int(answer["size"])
    rows = [("KEY", "IS", "SINCE", "HAVE IT", "USE IT", "DROPPED IN")]
    for found in answer["keys"]:
        left, epoch = found["seconds_left"], found["epoch"]
        rows.append(
            (
                str(found["fingerprint"]),
                _PARTS[found["part"]],
                "the beginning"
                if epoch is None
                else f"{datetime.fromtimestamp(_2020 + epoch, UTC):%Y-%m-%d %H:%M} UTC",
                f"[{'?' if found.get('untold') else count - len(found['without']) - len(answer['go'])}/{count}]",
                f"[{count - len(found['not_sealing']) - len(answer['go'])}/{count}]",
                "-" if left is None else duration(left),
            )
        )
    yield from table(rows)
    for found in answer["keys"]:
        if found["without"] and found["part"] != "going":
            yield f"without {found['fingerprint']}: {_some(found['without'])}"
    if answer["go"]:
        yield f"Go nodes, alive or remembered, which cannot follow a rotation: {_some(answer['go'])}"


_2020: Final = 1_577_836_800


@key.command("rotate")
@click.option(
    "--grace",
    metavar="TIME",
    type=_GRACE,
    default="72h",
    show_default=True,
    help="how long the former key still opens: who was away for longer has to be given the new one by hand",
)
@click.option("--dry-run", is_flag=True, help="only say what would be done, and what is in the way")
@click.option(
    "--without", metavar="NAME", multiple=True, help="do not wait for this member; it is cut off after --grace"
)
@click.option(
    "--wait", metavar="TIME", type=_GRACE, default="120", show_default=True, help="how long to wait for the members"
)
@click.option(
    "--key-file",
    metavar="FILE",
    help="on this node alone, at once and without grace: for a key that has leaked, on every node in turn",
)
@socket_options
def key_rotate(
    grace: float,
    dry_run: bool,
    without: tuple[str, ...],
    wait: float,
    key_file: str | None,
    runtime_dir: str,
    interface: str,
) -> None:
    """Give every member a new cluster key, then have all use it, and drop the former one after a grace period.

    That is hygiene, and takes nothing from whoever has the former key: he can read the new one as it is given out. For
    a key that has leaked put a new one into a file and give --key-file on every node.
    """
    if key_file is not None:
        if dry_run or without:
            raise click.UsageError("--key-file changes this node alone and at once; leave away --dry-run and --without")
        _replace(key_in_file(key_file), runtime_dir, interface)
        return
    words = {"grace": int(grace), "dry_run": dry_run}
    try:
        begun = tell("/key/rotate", words, runtime_dir, interface)
        for line in lines(begun, lambda found: _begun_lines(found, dry_run=dry_run)):
            click.echo(line)
        if dry_run:
            return
        name = str(begun["fingerprint"])
        _until(name, "without", "have it", without, wait, runtime_dir, interface)
        _use(name, without, wait, runtime_dir, interface)
        _until(name, "not_sealing", "use it", without, wait, runtime_dir, interface)
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; give the command again, on any node, to go on") from None
    click.echo(f"done: the former key still opens for {duration(begun['grace'])}, and is dropped then")


def _replace(new: bytes, runtime_dir: str, interface: str) -> None:
    text = base64.b64encode(new).decode("ascii")
    answer = tell("/key/replace", {"cluster_key": text}, runtime_dir, interface)
    (name,) = lines(answer, lambda found: [str(found["fingerprint"])])
    click.echo(f"this node has cluster key {name} and no other: it hears nobody who does not have it too")


def _begun_lines(answer: Mapping[str, Any], *, dry_run: bool) -> Iterator[str]:
    name, grace = answer["fingerprint"], duration(answer["grace"])
    if answer["new"]:
        yield f"would give out a new key; the former opens for {grace}" if dry_run else f"new key {name}"
    else:
        would = "would go" if dry_run else "going"
        yield f"{would} on with key {name}, which was given out before; the former opens for {grace}"
    if answer["absent"]:
        yield f"not there now: {_some(answer['absent'])}; who is back within {grace} follows"


def _use(name: str, without: tuple[str, ...], wait: float, runtime_dir: str, interface: str) -> None:
    """Somebody may come in between who does not have it yet: then all is waited for once more. Raises Declined, at once
    where another key is used by now."""
    deadline = time.monotonic() + wait
    while True:
        try:
            tell("/key/use", {"fingerprint": name, "without": list(without)}, runtime_dir, interface)
        except Declined:
            if time.monotonic() >= deadline:
                raise
            _behind(ask("/keys", runtime_dir, interface), name, "without")
            time.sleep(LOOK_EVERY)
        else:
            return


def _until(
    name: str, lacking: str, what: str, without: tuple[str, ...], wait: float, runtime_dir: str, interface: str
) -> None:
    """Wait until nobody is `lacking`, and show how far it is. Raises Declined."""
    deadline = time.monotonic() + wait
    shown = _Progress(sys.stdout.isatty())
    while True:
        count, behind = _behind(ask("/keys", runtime_dir, interface), name, lacking)
        missing = [member for member in behind if member not in without]
        shown.say(f"[{count - len(behind)}/{count}] {what}", missing)
        if not missing:
            shown.end()
            return
        if time.monotonic() >= deadline:
            shown.end()
            raise Declined(
                f"not all {what} within {duration(wait)}: {_some(missing)}; give the command again to go on, and "
                "--without NAME not to wait for one"
            )
        time.sleep(LOOK_EVERY)


def _behind(answer: Mapping[str, Any], name: str, lacking: str) -> tuple[int, list[str]]:
    """How many members there are, and who is behind. Raises Declined where another took the key's place, Unusable."""
    try:
        count = int(answer["size"])
        behind = [
            [str(who) for who in found[lacking]]
            for found in answer["keys"]
            if found["fingerprint"] == name and found["part"] != "going"  # which nobody will ever seal with
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Unusable("the daemon's answer is not of this version; restart it") from None
    if not behind:
        raise Declined(f"key {name} gave way to another, which was given out at the same time; see wesher key list")
    return count, behind[0]


class _Progress:
    """A line that is written over on a terminal, and elsewhere one line for each change."""

    def __init__(self, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._last = ""

    def say(self, progress: str, missing: list[str]) -> None:
        """How far it is, and who is missing."""
        text = progress + (f", not yet: {_some(missing)}" if missing else "")
        if text != self._last:
            if self._is_terminal:  # a line that goes round its edge could not be written over
                fits = text[: (os.get_terminal_size().columns or 80) - 1]  # a serial console has none
                click.echo(f"\r\x1b[K{fits}", nl=False, color=True)
            else:
                click.echo(text)
            self._last = text

    def end(self) -> None:
        """What follows begins its own line."""
        if self._is_terminal:
            click.echo()


def _some(names: list[str]) -> str:
    shown = ", ".join(plain(str(name)) for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
