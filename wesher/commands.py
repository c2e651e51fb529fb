"""The commands beside the daemon: those that ask or tell a running one over its control socket, and `decode`.

They need no root, only leave to use the socket. What the daemon answers is shown as text, or as it is with `--json`;
`status --check` judges it, for monitoring: exit status 4 where something is degraded, and a line for each such thing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, TextIO

import click

from wesher.asking import ask, lines, socket_options, tell
from wesher.control_client import NotRunning, Unusable
from wesher.graph.dot import dot_lines
from wesher.graph.svg import svg_lines
from wesher.graph.text import graph_lines
from wesher.health import degraded
from wesher.key_commands import key
from wesher.key_file import key_in_file
from wesher.show import harmless, members_lines, plain, status_lines
from wesher.wire.dissect import dissect_line
from wesher.wire.keyring import Keyring

DEGRADED: Final = 4
"""The exit status of `status --check` where it has anything to say."""

REDRAW_EVERY: Final = 2.0
"""Seconds between two looks of `status --watch`."""

_GRAPHS: Final = {"text": graph_lines, "dot": dot_lines, "svg": svg_lines}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON; its fields are stable")
@click.option("--check", is_flag=True, help="print only what is degraded and what to do; exit 4 if anything is")
@click.option("--watch", is_flag=True, help="redraw every two seconds, until Ctrl-C")
@socket_options
def status(as_json: bool, check: bool, watch: bool, runtime_dir: str, interface: str) -> None:
    """Show this node, the cluster, its members, and who is refused and why."""
    if watch:
        if check or as_json:
            raise click.UsageError("--watch is for reading along; leave away --check and --json")
        if not sys.stdout.isatty():
            raise click.UsageError("--watch redraws a terminal, and the output is none; leave it away")
        _watch(runtime_dir, interface)
        return
    answer = ask("/status", runtime_dir, interface)
    if check:
        _check(answer, as_json=as_json)
    else:
        click.echo(json.dumps(answer, indent=2) if as_json else "\n".join(lines(answer, status_lines)))


def _check(answer: Mapping[str, Any], *, as_json: bool) -> None:
    findings = lines(answer, degraded)
    if as_json:
        click.echo(json.dumps({"degraded": findings}))
    elif findings:
        click.echo("\n".join(findings))
    if findings:
        sys.exit(DEGRADED)


def _watch(runtime_dir: str, interface: str) -> None:
    """Show the status again and again. Raises NotRunning, Unusable, at the first look only: later it is shown."""
    drawn = lines(ask("/status", runtime_dir, interface), status_lines)
    try:
        while True:
            click.clear()
            click.echo("\n".join(drawn))
            time.sleep(REDRAW_EVERY)
            try:
                drawn = lines(ask("/status", runtime_dir, interface), status_lines)
            except (NotRunning, Unusable) as error:  # the daemon may be on its way back
                drawn = [harmless(str(error))]
    except KeyboardInterrupt:
        pass


@click.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON; its fields are stable")
@socket_options
def members(as_json: bool, runtime_dir: str, interface: str) -> None:
    """Show everybody: this node too, who has failed or left, remembered or not, and whose tunnel is kept."""
    answer = ask("/members", runtime_dir, interface)
    click.echo(json.dumps(answer, indent=2) if as_json else "\n".join(lines(answer, members_lines)))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON; its fields are stable")
@click.option(
    "--format", "form", type=click.Choice([*_GRAPHS]), default="text", show_default=True, help="how to show it"
)
@socket_options
def graph(as_json: bool, form: str, runtime_dir: str, interface: str) -> None:
    """Ask every member whom it sees, and show who sees whom, by gossip and by handshake; takes seconds."""
    if as_json and form != "text":
        raise click.UsageError("--json and --format are two forms; give one of them")
    answer = ask("/graph", runtime_dir, interface)
    click.echo(json.dumps(answer, indent=2) if as_json else "\n".join(lines(answer, _GRAPHS[form])))


@click.command()
@socket_options
def leave(runtime_dir: str, interface: str) -> None:
    """Leave the mesh and end the daemon; returns when both are done. Its next start joins again."""
    try:
        tell("/leave", {}, runtime_dir, interface)
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; the daemon has been told, and leaves: see its log") from None
    click.echo("left the mesh: tunnels, routes and hosts lines are gone, and the daemon ends")


@click.command()
@socket_options
@click.argument("name")
def forget(name: str, runtime_dir: str, interface: str) -> None:
    """Have every node forget NAME, which has failed or left: its tunnel goes, and nobody looks for it any more."""
    tell("/forget", {"name": name}, runtime_dir, interface)
    click.echo(f"forgotten here, and the others are told: {plain(name)}")


@click.command()
@click.option("--cluster-key-file", metavar="FILE", required=True, help="read the cluster key from FILE, as base64")
@click.argument("capture", metavar="[FILE]", type=click.File("r", errors="replace"), default="-")
def decode(cluster_key_file: str, capture: TextIO) -> None:
    """Decode captured traffic: lines `udp HEX` or `tcp HEX` to one JSON object each."""
    keyring = Keyring([key_in_file(cluster_key_file)])
    for line in capture:
        if line.strip():
            click.echo(json.dumps(dissect_line(line, keyring)))


COMMANDS: Final[tuple[click.Command, ...]] = (status, members, graph, leave, forget, key, decode)
"""What the command line offers beside the daemon."""
