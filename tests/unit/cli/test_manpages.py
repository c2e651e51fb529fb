"""The manual pages: made from the tables of options and commands, so all of them are there and none can be stale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from privhelper.options import HELPER, LOG, Option
from wesher.config import OPTIONS

CHECKOUT = Path(__file__).parents[3]


def make(directory: Path, epoch: int = 86400) -> dict[str, str]:
    """The pages by name, as an installer has them made."""
    subprocess.run(
        [sys.executable, CHECKOUT / "dist/manpages.py", directory],
        env=os.environ | {"SOURCE_DATE_EPOCH": str(epoch), "PYTHONPATH": str(CHECKOUT)},
        check=True,
        timeout=60,
    )
    return {path.name: path.read_text("ascii") for path in directory.iterdir()}


@pytest.mark.parametrize(("page", "options"), [("wesher.1", OPTIONS), ("wesher-privhelper.1", (*HELPER, *LOG))])
def test_every_option_and_its_variable_stand_on_the_page(
    page: str, options: tuple[Option, ...], tmp_path: Path
) -> None:
    """Where it is not hidden on purpose."""
    lines = make(tmp_path)[page].replace("\\-", "-").partition("\n.SH OPTIONS\n")[2].splitlines()
    for option in options:
        beginning = [line for line in lines if line.split("\\fR")[0] == f"\\fB--{option.name}"]
        assert len(beginning) == (not option.hidden)
        assert any(line.endswith(f"; {option.variable}") for line in lines) is not option.hidden


def test_no_text_of_a_table_is_taken_for_a_command(tmp_path: Path) -> None:
    """A line that begins with a dot is one of roff's own, or of the macros a manual page is written in."""
    known = {".TH", ".SH", ".TP", ".PP", ".B", ".I", ".BR", ".RB", ".RI", ".IR", ".RS", ".RE", ".nf", ".fi", ".br"}
    for text in make(tmp_path).values():
        for line in text.splitlines():
            assert not line.startswith("'")
            assert not line.startswith(".") or line.split()[0] in known


def test_pages_of_one_day_are_the_same_bytes(tmp_path: Path) -> None:
    """Whenever they are made."""
    for name in "ab":
        (tmp_path / name).mkdir()
    assert make(tmp_path / "a", 86400) == make(tmp_path / "b", 86401)
