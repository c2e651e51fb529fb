"""Warnings that a stranger can cause for ever stay few."""

from __future__ import annotations

import pytest

from wesher.runtime.complaints import A_MINUTE, REMEMBERED, Complaints


def test_each_cause_is_said_once() -> None:
    """However often it comes."""
    complaints = Complaints()
    assert [complaints.may("a", now) for now in (0.0, 1.0, 100.0)] == [True, False, False]


def test_a_flood_of_causes_is_cut_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """The next minute tells how many were left out."""
    complaints = Complaints()
    assert sum(complaints.may(number, number / 1000) for number in range(10_000)) == A_MINUTE
    assert complaints.may("later", 61.0)
    assert f"{10_000 - A_MINUTE} more warnings about members were left out" in caplog.text


def test_memory_is_bounded() -> None:
    """What was said long ago may be said again."""
    complaints = Complaints()
    for number in range(REMEMBERED + 1):
        assert complaints.may(number, 60.0 * number)
    assert complaints.may(0, 60.0 * (REMEMBERED + 1))
