"""`privileges.md`: the tables, and the words between them."""

from __future__ import annotations

from typing import Final

from security.privileges import REWRITE, calls
from security.privileges.facts import COLUMNS, Table

_HEAD: Final = f"""\
# What each process has and may

Read off running processes and written by `{REWRITE}` (as root, in the lab of the tests); not to be
edited. `tests/e2e/test_privileges.py` reads again and fails where this file differs. SECURITY.md says what the
processes are for and what follows from this, ARCHITECTURE.md which descriptor is which.

It is the launcher layout that is told, started as root, with `--sandbox strict` and wireguard-go; `split:` where the
split layout differs. That has no logpipe, and its wireguard-go is the administrator's, who starts it as he likes. With
the kernel's WireGuard there is no wireguard-go. `wesher` and `wesher-priv` are the two users of `--user`. `as started`
is what whoever started the process has: a shell, a service manager.
"""

_WORDS: Final = {
    "Processes": """\
MDWE, no memory that is writable and executable, is there since Linux 6.3; where it is not, the log says so. A limit on
descriptors that is lower already stays. In the split layout the agent starts without a capability, so it can neither
empty its bounding set nor set securebits; no_new_privs makes what is in there worthless.""",
    "Files": """\
Here and in what follows, `yes` and `no` are what the running process was told when it tried. `seccomp` means that its
filter alone stands in the way: uid, capabilities, landlock and MDWE would let it. What landlock grants, as far as uid
and mode allow it: the agent may read below /etc and the directory in which resolv.conf really lies; read, write, make,
rename and remove plain files in its state directory; remove files from its runtime directory. Helper and logpipe:
nothing. stat(2) landlock does not know: of what its uid can reach the agent sees that it is there.""",
    "Network": """\
The TCP ports that landlock grants the agent are the cluster port, those of `--join`, and 53 for the resolver; nobody
else has one. It knows them since Linux 6.7; before, the agent may connect to any. UDP it does not know.""",
    "Memory": "",
    "Signals": """\
No filter has a call that sends one. Since Linux 6.12 landlock denies them too, but not the helper's: else the kernel
would not end wireguard-go when the helper dies. wireguard-go has no filter, and the helper's uid.""",
}

_CALLS: Final = """\
## System calls

From `privhelper/profiles.py`. `yes`: carried out; an error's name: answered with that. Every call that is not here,
any other argument of one that is, and every number of another architecture kills (SIGSYS). Where several values stand,
any one of them. wireguard-go has no filter.
"""


def render(tables: dict[str, Table]) -> str:
    """The whole file. Raises ValueError where something could not be seen."""
    if missing := unseen(tables):
        raise ValueError(f"not to be seen on this machine: {', '.join(missing)}")
    parts = [_HEAD]
    for title, table in tables.items():
        parts += [f"## {title}\n", *([_WORDS[title] + "\n"] if _WORDS[title] else []), _markdown(table)]
    return "\n".join([*parts, _CALLS, *calls.table(), ""])


def unseen(tables: dict[str, Table]) -> list[str]:
    """Of what there is a row and no knowledge."""
    return [row for table in tables.values() for row, cells in table.items() if None in cells.values()]


def cells(text: str) -> dict[str, Table]:
    """The tables of facts that a rendered file holds."""
    found: dict[str, Table] = {}
    for section in text.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        rows = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("| ")]
        found[title] = {row: dict(zip(COLUMNS, said, strict=False)) for row, *said in rows[1:]}
    return found


def filled(tables: dict[str, Table], known: dict[str, Table]) -> dict[str, Table]:
    """`tables`, and from `known` what they lack."""
    return {
        title: {
            row: {
                name: known.get(title, {}).get(row, {}).get(name, "?") if cell is None else cell
                for name, cell in said.items()
            }
            for row, said in table.items()
        }
        for title, table in tables.items()
    }


def _markdown(table: Table) -> str:
    head = ["| | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    return "\n".join(
        [*head, *(f"| {row} | {' | '.join(map(str, said.values()))} |" for row, said in table.items()), ""]
    )
