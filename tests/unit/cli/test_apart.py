"""The process that asks members for root: what it is told and tells, and that nothing is believed that is not of its
types."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from privhelper.sandbox import Identity
from tests.unit.cli.answering import Answering
from tests.unit.cli.saved import KEY
from wesher.check import apart
from wesher.check.meeting import Met, meet
from wesher.check.reaching import Probe
from wesher.config import Contact
from wesher.swim.io import Endpoint

HERE = ip_address("127.0.0.1")
AGENT = Identity(64001, 64001)

pytestmark = pytest.mark.root  # who is not asks by himself


def ask(*contacts: Contact, own: Endpoint | None = None) -> tuple[list[Met], list[Met]]:
    """What another process finds, and this one."""
    probe = Probe((KEY,), HERE, None, 7946, 9, 1420)
    return apart.meet_as(AGENT, contacts, 7946, own, probe), meet(contacts, 7946, own, probe)


def test_it_finds_what_this_process_would_find() -> None:
    """A member, somebody with another key, nobody, a name that is none, this node itself."""
    with Answering(KEY) as member, Answering(KEY[::-1]) as stranger:
        contacts = (
            Contact("127.0.0.1", member.port),
            Contact("127.0.0.1", stranger.port),
            Contact("127.0.0.1", 9),
            Contact("a..b", 0),
            Contact("127.0.0.9", 0),
        )
        there, here = ask(*contacts, own=Endpoint(ip_address("127.0.0.9"), 7946))
    assert there == here
    assert [met.best is not None and met.best.udp for met in there] == [True, None, False, False, False]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "[]",
        '"x"',
        "[[1, []]]",
        '[["", [["127.0.0.1", 1, "", true, true, null, 1480]]]]',
        '[["", [["nowhere", 1, "", true, true, null, 1480, false]]]]',
        '[["", [["127.0.0.1", "1", "", true, true, null, 1480, false]]]]',
        '[["", [["127.0.0.1", 1, "", "yes", true, null, 1480, false]]]]',
        '[["", [["127.0.0.1", 1, "", true, true, null, "1480", false]]]]',
        json.dumps([["x" * (1 << 20), []]]),
    ],
)
def test_an_answer_that_is_none_is_a_finding_and_no_more(monkeypatch, directory, answer: str) -> None:
    """Somebody may have turned that process."""
    (directory / "said").write_text(answer)
    met = asked_of(monkeypatch, directory, f"cat {directory}/said")
    assert met.reached == ()
    assert met.unresolved.startswith("could not be tried as uid 64001 (")


def test_who_asks_has_neither_roots_uid_nor_its_powers(monkeypatch, directory) -> None:
    """By what it tells of itself; an answer of the right types is taken."""
    powers = "$(id -u) $(id -G) $(grep CapEff /proc/self/status | cut -f2)"
    answer = '[["", [["127.0.0.1", 1, "%s", true, true, null, 1480, false]]]]'
    met = asked_of(monkeypatch, directory, f"printf '{answer}' \"{powers}\"")
    assert met.best is not None
    assert met.best.tcp == "64001 64001 0000000000000000"
    assert (met.best.endpoint, met.best.back, met.best.takes) == (Endpoint(HERE, 1), None, 1480)


def test_who_asks_has_no_terminal(monkeypatch, directory) -> None:
    """With root's as its own it could type there, and root's shell would do as it is told."""
    answer = '[["", [["127.0.0.1", 1, "%s", true, true, null, 1480, false]]]]'
    said = "$(test $(ps -o sid= -p $$) = $$ && echo its own session)"
    met = asked_of(monkeypatch, directory, f"printf '{answer}' \"{said}\"")
    assert met.best is not None
    assert met.best.tcp == "its own session"


def test_who_asks_for_want_of_an_agents_user_is_told_no_key(monkeypatch, directory) -> None:
    """Other things run as nobody, and trace what does."""
    (directory / "heard").touch()
    (directory / "heard").chmod(0o666)
    asked_of(monkeypatch, directory, "", agent=None, reads=f"cat >{directory}/heard")
    told = json.loads((directory / "heard").read_text())
    assert told["contacts"] == [["127.0.0.1", 1]]
    assert told["keys"] == []


def test_nobody_reads_the_memory_of_who_asks() -> None:
    """Before it reads the first key it is closed, and gains nothing by any program."""
    looks = "json.load = lambda _: sys.exit(f'{prctl.get_dumpable()} {prctl.get_no_new_privs()}')"
    script = f"import json, prctl, sys\nfrom wesher.check import apart\n{looks}\napart.main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == "False 1\n"


def asked_of(
    monkeypatch: pytest.MonkeyPatch,
    directory: Path,
    script: str,
    agent: Identity | None = AGENT,
    reads: str = "cat >/dev/null",
) -> Met:
    """What becomes of one contact where that process is this script."""
    program = directory / "python"
    program.write_text(f"#!/bin/sh\n{reads}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    (met,) = apart.meet_as(agent, [Contact("127.0.0.1", 1)], 7946, None, Probe((KEY,), HERE, None, 7946, 9, 1420))
    return met
