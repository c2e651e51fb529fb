"""What a shell offers at <Tab>: commands and the daemon's options at the first word, then what is that command's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def offered(line: str) -> set[str]:
    """The words, as the installed script for bash asks for them; `line` ends where the cursor is."""
    words = line.split(" ")
    environment = os.environ | {
        "_WESHER_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from wesher.cli import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert not done.stderr
    return {answer.partition(",")[2] for answer in done.stdout.splitlines()}


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("wesher ", {"agent", "check", "status", "key"}),
        ("wesher st", {"status"}),
        ("wesher --jo", {"--join"}),
        ("wesher --ver", {"--version"}),
        ("wesher --join 192.0.2.1 --over", {"--overlay-net"}),
        ("wesher agent --over", {"--overlay-net"}),
        ("wesher status --", {"--json", "--watch"}),
        ("wesher key ", {"show", "list", "rotate"}),
    ],
)
def test_what_can_follow_is_offered(line: str, some: set[str]) -> None:
    """And nothing that does not begin so."""
    found = offered(line)
    assert some <= found
    assert all(word.startswith(line.rsplit(" ", maxsplit=1)[-1]) for word in found)


def test_what_is_hidden_is_not_offered() -> None:
    """--ip-as-name is there for old command lines only."""
    assert "--ip-as-name" not in offered("wesher --")
