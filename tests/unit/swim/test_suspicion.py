"""A suspicion: it shrinks with each independent report, and only with those."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wesher.swim.config import SwimConfig
from wesher.swim.suspicion import Suspicion

WAN = SwimConfig.wan()


def wan_suspicion(members: int = 10) -> Suspicion:
    """30 s at least, 180 s at most, four confirmations wanted."""
    return Suspicion(WAN, members, "first", now=1000.0)


def test_each_independent_report_brings_the_end_nearer():
    """Along Go's own table for four confirmations."""
    suspicion = wan_suspicion()
    ends = [suspicion.deadline]
    for accuser in ("a", "b", "c", "d"):
        assert suspicion.confirm(accuser)
        ends.append(suspicion.deadline)
    assert [round(end - 1000.0, 3) for end in ends] == [180.0, 115.398, 77.609, 50.797, 30.0]


def test_the_first_accuser_never_confirms():
    """One deaf node cannot bury another quickly by repeating itself."""
    suspicion = wan_suspicion()
    assert not suspicion.confirm("first")
    assert suspicion.deadline == 1180.0


def test_a_second_report_of_one_accuser_is_nothing_new():
    """So it is not gossiped further either."""
    suspicion = wan_suspicion()
    assert suspicion.confirm("a")
    once = suspicion.deadline
    assert not suspicion.confirm("a")
    assert suspicion.deadline == once


def test_more_reports_than_wanted_tell_nothing_new():
    """The shortest time is reached; the rumour need not go on."""
    suspicion = wan_suspicion()
    for accuser in ("a", "b", "c", "d"):
        suspicion.confirm(accuser)
    assert not suspicion.confirm("e")
    assert suspicion.deadline == 1030.0


def test_in_a_small_cluster_no_report_confirms():
    """Nothing is wanted, so nothing changes."""
    suspicion = wan_suspicion(members=5)
    assert not suspicion.confirm("a")
    assert suspicion.deadline == 1030.0


@given(st.integers(0, 2000), st.lists(st.sampled_from("abcdefghij"), max_size=20))
def test_the_end_only_ever_comes_nearer_and_never_too_near(members, accusers):
    """Between the shortest and the longest time, whatever is reported."""
    suspicion = wan_suspicion(members)
    shortest = 30.0 if members < 10 else 0.999 * 30.0
    previous = suspicion.deadline
    for accuser in accusers:
        news = suspicion.confirm(accuser)
        assert suspicion.deadline <= previous
        assert (suspicion.deadline < previous) is news
        assert suspicion.deadline - 1000.0 >= shortest
        previous = suspicion.deadline
