"""manpages.py DIRECTORY: wesher(1) and wesher-privhelper(1), for the installed tree that runs this.

What an option or a command is stands in one place, the program's own tables; this gives it the form of a manual page,
and what no table has: what the whole is for, its files, its exit status, its first steps. $SOURCE_DATE_EPOCH dates the
pages.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from privhelper.options import HELPER, LOG, Option
from wesher.cli import cli
from wesher.config import OPTIONS
from wesher.version import VERSION

WESHER = r"""
.SH NAME
wesher \- join machines into an encrypted full\-mesh overlay
.SH SYNOPSIS
.B wesher
.RB [ agent ]
.RI [ option ...]
.br
.B wesher
.I command
.RI [ option ...]
.SH DESCRIPTION
Every node runs WireGuard; membership spreads by gossip under one cluster key; each node's overlay address is a hash of
its name; peers appear in the hosts file. Without a command it is the daemon.
.PP
The process that faces the network has no privilege. What needs CAP_NET_ADMIN is done by
.BR wesher\-privhelper (1),
which accepts eight checked requests. Started as root without
.B \-\-helper\-socket
it starts both halves, and both end together; with that option it is the agent alone, of a helper that outlives it.
.PP
SIGTERM and Ctrl\-C leave the mesh; an agent alone only detaches, and tunnels stay. SIGHUP resolves every
.B \-\-join
name anew, tries every missing member at once, and reads the keys from the state file again.
.SH EXAMPLES
The first node of a mesh, as a service; its key is shown by the second command:
.PP
.nf
.RS
systemctl enable \-\-now wesher
wesher key show
.RE
.fi
.PP
Every other one, with that key in the credential's file, and any member's name or address in /etc/default/wesher:
.PP
.nf
.RS
WESHER_JOIN=192.0.2.11
.RE
.fi
.PP
Without a service manager:
.PP
.nf
.RS
wesher \-\-cluster\-key\-file /etc/wesher.key \-\-join 192.0.2.11
.RE
.fi
"""

COMMANDS = r"""
.SH COMMANDS
They ask a running daemon. One of another interface is named with
.B \-\-interface
.IR DEV ,
one whose control socket is elsewhere with
.B \-\-runtime\-dir
.IR DIR .
"""

WESHER_END = r"""
.SH EXIT STATUS
0 good, 1 error, 2 usage, 3 no daemon running, 4 degraded
.RB ( "status \-\-check" ).
.SH FILES
.TP
.I /etc/default/wesher
variables for the services, read by both halves; /etc/default/wesher\-INTERFACE for each further cluster
.TP
.I /var/lib/wesher/INTERFACE.json
the cluster key and the known members: with it a restart needs no option
.TP
.I /run/wesher/INTERFACE.sock
where the commands ask the daemon: for root and the agent's group
.SH NOTES
These ports must be open between the members: the cluster port (7946, TCP and UDP) and the WireGuard port (51820, UDP).
A credential of the service manager's called
.B cluster\-key
is a cluster key as if it were in
.BR \-\-cluster\-key\-file .
.SH SEE ALSO
.BR wesher\-privhelper (1),
.BR wg (8),
.BR systemctl (1)
"""

PRIVHELPER = r"""
.SH NAME
wesher\-privhelper \- the privileged half of wesher
.SH SYNOPSIS
.B wesher\-privhelper
.RI [ option ...]
.SH DESCRIPTION
Makes the WireGuard interface, gives it its address, peers and routes, and writes the peers' names into the hosts file.
It needs CAP_NET_ADMIN and nothing else, has no socket that faces the network, and accepts eight requests of an agent,
.BR wesher (1),
each checked against what its own command line fixes.
.PP
It listens on the socket that a service manager passes, or on
.BR \-\-listen ,
and serves one agent at a time. Tunnels, key, routes and names stay while the agent is killed, upgraded or restarted,
and for
.B \-\-linger
seconds without one. SIGTERM has the agent leave the mesh, and takes everything down. SIGHUP is passed on to the agent.
.PP
Started as root it becomes its own user after everything is opened. The hosts file may be its standard input.
.SH EXAMPLES
.nf
.RS
install \-d \-o wesher\-priv \-m 755 /run/wesher\-priv
wesher\-privhelper \-\-listen /run/wesher\-priv/wgoverlay.sock
wesher \-\-helper\-socket /run/wesher\-priv/wgoverlay.sock
.RE
.fi
"""

PRIVHELPER_END = r"""
.SH EXIT STATUS
0 good, 1 error, 2 usage.
.SH FILES
.TP
.I /etc/default/wesher
variables for the services, read by both halves; the agent's are passed over here
.TP
.I /run/wesher\-priv/INTERFACE.sock
where the services' agent finds its helper
.SH SEE ALSO
.BR wesher (1),
.BR wg (8)
"""


def roff(text: str) -> str:
    """`text` as it stands, in a paragraph: no character of it is a command."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")
    return re.sub(r"^\.", r"\\&.", escaped)


def option_rows(options: Iterable[Option]) -> Iterator[str]:
    """A paragraph for each that is not hidden."""
    for option in options:
        if option.hidden:
            continue
        metavar = "" if option.metavar is None else rf" \fI{roff(option.metavar)}\fR"
        default = f" (default: {option.default})" if option.default else ""
        yield ".TP"
        yield rf"\fB{roff('--' + option.name)}\fR{metavar}"
        yield roff(f"{option.text}{default}; {option.variable}")


def command_rows(commands: Iterable[click.Command], before: str = "") -> Iterator[str]:
    """A paragraph for each command, and one for each of its own options."""
    for command in commands:
        name = f"{before}{command.name}"
        if isinstance(command, click.Group):
            yield from command_rows(command.commands.values(), f"{name} ")
            continue
        if name == "agent":
            continue
        names = {name for parameter in command.params for name in parameter.opts}
        takes_all = names > {f"--{option.name}" for option in OPTIONS}
        hidden = {f"--{option.name}" for option in OPTIONS} if takes_all else {"--interface", "--runtime-dir"}
        own = [parameter for parameter in command.params if not hidden & set(parameter.opts)]
        arguments = "".join(
            rf" \fI{roff(parameter.human_readable_name)}\fR"
            for parameter in own
            if isinstance(parameter, click.Argument)
        )
        daemons = r" [\fIdaemon's options\fR]" if takes_all else ""
        yield ".TP"
        yield rf"\fB{roff(name)}\fR{arguments}{daemons}"
        yield roff(" ".join((command.help or "").split()))
        for parameter in own:
            if isinstance(parameter, click.Option) and parameter.help:
                metavar = "" if parameter.is_flag else rf" \fI{roff(parameter.make_metavar(click.Context(command)))}\fR"
                yield from (".RS", ".TP", rf"\fB{roff(parameter.opts[0])}\fR{metavar}", roff(parameter.help), ".RE")


def page(name: str, *parts: Iterable[str]) -> str:
    """A manual page of section 1."""
    date = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
    head = f'.TH {roff(name.upper())} 1 "{date}" "wesher {VERSION}" "User Commands"'
    return "\n".join([head, *(line.strip("\n") for part in parts for line in part), ""])


def pages() -> dict[str, str]:
    """By file name."""
    variable = r"Each is also a variable, named last: for the services in /etc/default/wesher. The command line wins."
    every = [".SH OPTIONS", variable]
    commands = sorted(cli.commands.values(), key=lambda command: command.name or "")
    return {
        "wesher.1": page(
            "wesher", [WESHER, COMMANDS], command_rows(commands), every, option_rows(OPTIONS), [WESHER_END]
        ),
        "wesher-privhelper.1": page(
            "wesher-privhelper", [PRIVHELPER], every, option_rows((*HELPER, *LOG)), [PRIVHELPER_END]
        ),
    }


if __name__ == "__main__":
    for file, text in pages().items():
        Path(sys.argv[1], file).write_text(text, encoding="ascii")
