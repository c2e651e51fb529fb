"""`security/privileges.md` is what processes of both layouts have and may, read off running ones."""

import pytest

from security.privileges import FILE, REWRITE, facts
from security.privileges.asked import cannot_ask
from security.privileges.document import cells, filled, render, unseen
from security.privileges.facts import Table
from tests.lab.ci import skip_but_in_ci

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def seen() -> dict[str, Table]:
    """What is read here."""
    return facts.read()


def test_the_file_says_what_running_processes_have_and_may(seen: dict[str, Table]) -> None:
    """All of it, but for what this kernel does not have."""
    text = FILE.read_text(encoding="utf-8")
    assert text == render(filled(seen, cells(text))), f"{FILE.name} is not true; if the change is meant: {REWRITE}"


def test_everything_in_it_can_be_seen_here(seen: dict[str, Table]) -> None:
    """Else the comparison leaves something out."""
    if missing := unseen(seen):
        skip_but_in_ci(f"{len(missing)} rows not compared ({cannot_ask() or 'an old kernel'}), from {missing[0]} on")


def test_without_a_sandbox_the_file_would_be_another() -> None:
    """What is read is what is there, not what should be."""
    found, claimed = facts.read("--sandbox=off"), cells(FILE.read_text(encoding="utf-8"))
    differ = {
        (row, name)
        for title, table in found.items()
        for row, said in table.items()
        for name, cell in said.items()
        if cell is not None and cell != claimed[title][row][name]
    }
    assert differ >= {(row, name) for row in ("seccomp", "limits") for name in ("agent", "helper", "logpipe")}
    if None not in found["Processes"]["securebits"].values():
        assert "no" == found["Processes"]["MDWE"]["agent"]
        assert "yes" == found["Files"]["read a program in /usr"]["agent"]
        assert "yes" == found["Network"]["send UDP anywhere"]["logpipe"]
        assert claimed["Processes"]["securebits"] == found["Processes"]["securebits"]
