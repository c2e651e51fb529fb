"""Everything that the document says of processes, read off two machines of the lab, one in each layout.

A machine, a kernel and a way to start differ, so nothing of them is told: numbers are compared with this process's own,
and are `as started` where they are the same. What this kernel does not have, or nobody can be asked here, is None.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from privhelper import sandbox
from security.privileges import questions
from security.privileges.asked import Stopped, cannot_ask, stopped
from security.privileges.calls import PROFILES
from security.privileges.questions import Witness
from tests.e2e.mesh import AGENT_UID, CLUSTER_KEY_TEXT, HELPER_UID, KEY_FILE, USERS, status
from tests.e2e.split import as_user, start_split
from tests.e2e.test_processes import descriptors, proc_status
from tests.lab import Lab, Node, children, until
from tests.lab.lab import wesher_command
from tests.lab.namespaces import ENV

COLUMNS: Final = ("agent", "helper", "logpipe", "wireguard-go")
NOT_THERE: Final = "not there"
Table = dict[str, dict[str, str | None]]
"""What is said of whom, row by row; None where it cannot be seen here."""

_PR_GET_DUMPABLE: Final = 3
_PR_GET_SECUREBITS: Final = 27
_PR_GET_MDWE: Final = 66

_SETS: Final = {"CapEff": "effective", "CapPrm": "permitted", "CapInh": "inheritable", "CapAmb": "ambient"}
_SECUREBITS: Final = ("NOROOT", "NO_SETUID_FIXUP", "KEEP_CAPS", "NO_CAP_AMBIENT_RAISE")
_LIMITS: Final = {
    "Max open files": "NOFILE",
    "Max processes": "NPROC",
    "Max core file size": "CORE",
    "Max locked memory": "MEMLOCK",
    "Max msgqueue size": "MSGQUEUE",
}
_OWNERS: Final = {AGENT_UID: "wesher", HELPER_UID: "wesher-priv", 0: "root"}
_TUN_FD: Final = 3
_SIGNALLED: Final = dict(zip(COLUMNS, questions.SIGNALLED, strict=False))


@dataclass(frozen=True, slots=True)
class Place:
    """A node, the host pids of its processes that are told of, and those of all that they could signal."""

    node: Node
    found: Mapping[str, int]
    signalled: Mapping[str, int]
    strangers: Mapping[int, int]
    """One more process of each uid, which is none of wesher's."""

    def seen_by(self, pid: int) -> dict[str, int]:
        """Pids, as the process that has this one sees them."""
        stranger = self.strangers[int(proc_status(pid)["Uid"].split()[0])]
        inner = {said: _inner(other) for said, other in self.signalled.items()}
        return inner | {questions.STRANGER: _inner(stranger), "a process of root's": 1}


def read(*options: str) -> dict[str, Table]:
    """Every table by its title, both layouts made one; started with `options`."""
    with _places(options) as (launched, split):
        tables = [_tables(launched), _tables(split)]
        for place in (launched, split):
            assert status(place.node), "a process has come to harm by being asked"
    merged: dict[str, Table] = {}
    for title, table in tables[0].items():
        merged[title] = {row: _merged(cells, tables[1][title][row]) for row, cells in table.items()}
    return merged


def _merged(launched: dict[str, str | None], split: dict[str, str | None]) -> dict[str, str | None]:
    """wireguard-go of the split layout is the administrator's, and logpipe is not there."""
    cells: dict[str, str | None] = {}
    for name in COLUMNS:
        one, other = launched[name], split.get(name, launched[name])
        if other == NOT_THERE:
            other = one
        cells[name] = None if one is None or other is None else one if one == other else f"{one}; split: {other}"
    return cells


@contextmanager
def _places(options: Sequence[str]) -> Iterator[tuple[Place, Place]]:
    """Both layouts; the launcher on a terminal, to see who still has it afterwards."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(Lab(1)).nodes[0] for _ in range(2))
        first.write(KEY_FILE, CLUSTER_KEY_TEXT.encode() + b"\n")
        command = f"{wesher_command()} --user {USERS} --cluster-key-file {KEY_FILE} {shlex.join(options)}"
        terminal = first.start_program("script", "--quiet", "--return", "--command", command, "/dev/null")
        split = start_split(second, *options)
        for node in (first, second):
            until(partial(status, node), 15, f"{node.name} is up")
        found = {_name_of(argv): pid for pid, argv in children(terminal.pid).items()}
        halves = {"agent": split.agent_pid, "helper": split.pid}
        yield (
            _place(first, {name: found[name] for name in COLUMNS}),
            _place(second, halves, {"wireguard-go": split.wireguard_pid}),
        )


def _place(node: Node, found: Mapping[str, int], besides: Mapping[str, int] = MappingProxyType({})) -> Place:
    strangers = {uid: node.start_program(*as_user(uid), "sleep", "infinity").pid for uid in (AGENT_UID, HELPER_UID)}
    return Place(node, found, {_SIGNALLED[name]: pid for name, pid in {**found, **besides}.items()}, strangers)


def _name_of(argv: list[str]) -> str:
    modules = {"wesher.runtime.agent": "agent", "privhelper": "helper", "privhelper.logpipe": "logpipe"}
    return next((name for module, name in modules.items() if module in argv), Path(argv[0]).name)


def _inner(pid: int) -> int:
    return int(proc_status(pid)["NSpid"].split()[-1])


def _tables(place: Place) -> dict[str, Table]:
    found: dict[str, Table] = {}
    for name, pid in place.found.items():
        for title, said in _of_one(place, name, pid).items():
            for row, cell in said.items():
                found.setdefault(title, {}).setdefault(row, {})[name] = cell
    return found


def _of_one(place: Place, name: str, pid: int) -> dict[str, dict[str, str | None]]:
    """One column of each table."""
    told = _told_by_proc(name, pid)
    if cannot_ask() is not None:
        return {"Processes": told | _asked(None)} | _answers(None, name)
    with stopped(pid) as process:
        witness = Witness(place.node, process, PROFILES.get(name) if _filters(pid) else None, place.seen_by(pid))
        return {"Processes": told | _asked(process)} | _answers(witness, name)


# --- /proc -------------------------------------------------------------------------------------------------------


def _told_by_proc(name: str, pid: int) -> dict[str, str | None]:
    fields = {key: _one({_status(task)[key] for task in _tasks(pid)}) for key in _status(f"/proc/{pid}")}
    own, filters = proc_status(os.getpid()), _filters(pid)
    return {
        "uid": _owner(fields["Uid"]),
        "gid": _owner(fields["Gid"]),
        "other groups": fields["Groups"] or "none",
        **{f"capabilities, {said}": _capabilities(fields[field], "") for field, said in _SETS.items()},
        "capabilities, bounding set": _capabilities(fields["CapBnd"], own["CapBnd"]),
        "no_new_privs": "yes" if fields["NoNewPrivs"] == "1" else "no",
        "seccomp": "none" if filters == 0 else f"mode {fields['Seccomp']}, {filters} filter{'s' * (filters > 1)}",
        "session": "its own" if os.getsid(pid) == pid else "as started",
        "controlling terminal": "none" if _terminal(pid) == 0 else "the operator's",
        "limits": _limits(pid),
        "descriptors": _given(pid) if name == "wireguard-go" else _descriptors(pid),
        "environment": _environment(pid),
    }


def _filters(pid: int) -> int:
    """Seccomp filters beyond those of this process, which a container may have."""
    return int(proc_status(pid)["Seccomp_filters"]) - int(proc_status(os.getpid())["Seccomp_filters"])


def _tasks(pid: int) -> list[str]:
    return [f"/proc/{pid}/task/{task}" for task in os.listdir(f"/proc/{pid}/task")]


def _status(path: str) -> dict[str, str]:
    wanted = ("Uid", "Gid", "Groups", *_SETS, "CapBnd", "NoNewPrivs", "Seccomp", "Seccomp_filters")
    lines = (line.partition(":") for line in Path(f"{path}/status").read_text().splitlines())
    return {name: value.strip() for name, _, value in lines if name in wanted}


def _one(values: set[str]) -> str:
    """What all threads have in common; what they have not is shown, and so differs from the file."""
    return " or ".join(sorted(values))


def _owner(ids: str) -> str:
    return _one({_OWNERS.get(int(number), number) for number in ids.split()})


def _capabilities(held: str, as_started: str) -> str:
    if held == as_started:
        return "as started"
    bits = [bit for bit in range(64) if int(held, 16) >> bit & 1]
    return ", ".join("CAP_NET_ADMIN" if bit == sandbox.NET_ADMIN else f"capability {bit}" for bit in bits) or "none"


def _terminal(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4])


def _limits(pid: int) -> str:
    """Hard ones; the soft ones too, where a process of ours has others."""
    own, found = _soft_and_hard(os.getpid()), _soft_and_hard(pid)
    if all(own[name][1] == found[name][1] for name in found):
        return "as started"
    by_value: dict[str, list[str]] = {}
    for name, (soft, hard) in found.items():
        by_value.setdefault(hard if soft == hard else f"{soft} of {hard}", []).append(name)
    return ", ".join(f"{' '.join(names)} {value}" for value, names in by_value.items())


def _soft_and_hard(pid: int) -> dict[str, tuple[str, str]]:
    found = {}
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        limit, soft, hard = re.split(r"\s{2,}", line)[:3]
        if limit in _LIMITS:
            found[_LIMITS[limit]] = (soft, hard)
    return {name: found[name] for name in _LIMITS.values()}


def _descriptors(pid: int) -> str:
    """By kind; read until two looks agree, since a status request leaves one for a moment."""
    looks: list[Counter[str]] = [descriptors(pid)]

    def agree() -> bool:
        looks.append(descriptors(pid))
        return looks[-1] == looks[-2]

    until(agree, 5, "descriptors are at rest")
    kinds = Counter[str]()
    for kind, number in looks[-1].items():
        kinds["operator's output" if kind == "output" or kind.startswith("/dev/pts/") else kind] += number
    return ", ".join(kind if number == 1 else f"{kind} ({number})" for kind, number in sorted(kinds.items()))


def _given(pid: int) -> str:
    """wireguard-go opens more than it is given, which depends on its release; its listener's number is its affair."""
    words = {"pipe": "pipe", "/dev/net/tun": "TUN"}
    targets = [os.readlink(f"/proc/{pid}/fd/{fd}").partition(":[")[0] for fd in range(_TUN_FD + 1)]
    listener = ["UAPI listener"] if descriptors(pid)["unix"] else []
    return ", ".join([*(words.get(target, target) for target in targets), *listener]) + "; opens its own"


def _environment(pid: int) -> str:
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    names = {entry.partition("=")[0] for entry in entries if entry}
    return "as started" if names == set(ENV) else " ".join(sorted(names))


# --- asked -------------------------------------------------------------------------------------------------------


def _asked(process: Stopped | None) -> dict[str, str | None]:
    """What prctl(2) alone tells."""

    def of(option: int, say: Callable[[int], str], *, there: bool = True) -> str | None:
        return say(process.call("prctl", option, 0, 0, 0, 0)) if process is not None and there else None

    has_mdwe = sandbox.can_forbid_new_code()
    return {
        "securebits": of(_PR_GET_SECUREBITS, _securebits),
        "dumpable": of(_PR_GET_DUMPABLE, lambda answer: "no" if answer == 0 else "yes"),
        "MDWE": of(_PR_GET_MDWE, lambda answer: "no" if answer == 0 else "yes", there=has_mdwe),
    }


def _securebits(bits: int) -> str:
    there = [name for index, name in enumerate(_SECUREBITS) if bits >> 2 * index & 1]
    locked = [name for index, name in enumerate(_SECUREBITS) if bits >> 2 * index + 1 & 1]
    every = "all locked" if len(locked) == len(_SECUREBITS) else f"locked: {' '.join(locked)}" if locked else ""
    return ", ".join(filter(None, (" ".join(there), every))) or "none"


def _answers(witness: Witness | None, name: str) -> dict[str, dict[str, str | None]]:
    return {
        title: {said: _answer(witness, name, title, said) for said in table}
        for title, table in questions.TABLES.items()
    }


def _answer(witness: Witness | None, name: str, title: str, said: str) -> str | None:
    other = said.removeprefix("signal ")
    if other == _SIGNALLED[name]:
        return "itself"
    if witness is None or (name in PROFILES and not questions.can_be_denied(title, said)):
        return None
    if other in _SIGNALLED.values() and other not in witness.others:
        return NOT_THERE
    return questions.ask(witness, questions.TABLES[title][said])
