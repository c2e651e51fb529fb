"""What the soak judges by can fail."""

from __future__ import annotations

import json

import pytest

from tests.soak.growth import DESCRIPTORS, MEMORY, Growth, Seen
from tests.soak.said import complaints


def line(level: str, message: str, **more: str) -> str:
    """A line of the log."""
    return json.dumps({"time": "…", "level": level, "logger": "agent", "message": message, **more})


@pytest.mark.parametrize(
    ("text", "ending", "has_moved"),
    [
        (line("error", "the kernel refused set_peers: Invalid argument"), "lives", False),
        (line("error", "violation: order"), "killed", False),
        (line("warn", "violation: order"), "lives", False),
        (line("info", "fine", exception="Traceback"), "lives", False),
        (line("error", "stopping: the helper has ended"), "stopped", False),
        (line("error", "not let in: the name node1 is taken"), "lives", False),
        ("Traceback (most recent call last):", "killed", True),
        ("[]", "lives", False),
    ],
)
def test_what_should_not_be_said_is_a_complaint(text: str, ending: str, has_moved: bool) -> None:
    """Each line that is not named is one, also beside lines that are."""
    good = line("info", "leaving")
    assert list(complaints(f"{good}\n{text}\n{good}\n", ending, has_moved=has_moved)) == [text]


@pytest.mark.parametrize(
    ("text", "ending", "has_moved"),
    [
        (line("warn", "the agent is gone"), "lives", False),
        (line("error", "stopping: the helper has ended"), "killed", False),
        (line("error", "could not join cluster, retrying in 1.0s: 192.0.2.2:7946: no answer"), "stopped", False),
        (line("error", "not let in: the name node1 is taken"), "lives", True),
        ("ERROR: (wgoverlay) 2026/01/31 12:00:00 Failed to read packet", "lives", False),
    ],
)
def test_what_is_named_is_none(text: str, ending: str, has_moved: bool) -> None:
    """In the life and of the machine that it is named for."""
    assert not list(complaints(text, ending, has_moved=has_moved))


def seen(rss: list[int], descriptors: list[int]) -> Growth:
    """Looks, one a second."""
    growth = Growth("node1", "agent", 1)
    growth.seen = [Seen(at, 0, kb, open_) for at, (kb, open_) in enumerate(zip(rss, descriptors, strict=True))]
    return growth


def test_memory_that_grows_is_told_and_a_storm_is_not() -> None:
    """The quarters begin when the first minutes are over."""
    rest = [10] * 40
    assert len(list(seen([1000 + (MEMORY + 1) * at // 30 for at in range(40)], rest).problems(0))) == 1
    assert not list(seen([1000] * 39 + [99_000], rest).problems(0))
    early = [at * 1000 for at in range(20)] + [20_000] * 20
    assert list(seen(early, rest).problems(0))
    assert not list(seen(early, rest).problems(20))


def test_what_names_that_are_gone_cost_is_no_growth() -> None:
    """Of an agent, and only for those that went between the quarters."""
    growth = seen([1000 + 60 * at for at in range(40)], [10] * 40)
    assert list(growth.problems(0))
    assert not list(growth.problems(0, [20.0] * 200))
    assert list(growth.problems(0, [40.0] * 200))
    growth.program = "helper"
    assert list(growth.problems(0, [20.0] * 200))


def test_descriptors_that_stay_open_are_told() -> None:
    """One that happens to be open in most looks is not yet a leak."""
    rest = [1000] * 40
    assert list(seen(rest, [10] * 20 + [11 + DESCRIPTORS] * 20).problems(0))
    assert not list(seen(rest, [10] * 20 + [10 + DESCRIPTORS] * 20).problems(0))
