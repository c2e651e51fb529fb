"""Every formula that depends on the size of the cluster, against what Go computes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from wesher.swim.config import SwimConfig, push_pull_interval, retransmit_limit, suspicion_timeout
from wesher.swim.suspicion import Suspicion, remaining

FORMULAS = json.loads((Path(__file__).parents[2] / "golden" / "swim" / "formulas.json").read_text())

LONGEST, SHORTEST = 180.0, 30.0
REMAINING = [
    (int(k), int(n), text)
    for line in FORMULAS["suspicion_remaining_min30s_max180s_elapsed0"]
    for k, n, text in re.findall(r"k=(\d+) n=(\d+):(\S+)", line)
]


def seconds(duration: str) -> float:
    """Go's text for a duration."""
    minutes, rest = re.fullmatch(r"(?:(\d+)m)?([\d.]+)s", duration).groups()
    return 60 * int(minutes or 0) + float(rest)


@pytest.mark.parametrize(("members", "expected"), FORMULAS["retransmit_limit_mult4"].items())
def test_a_broadcast_is_sent_as_often_as_go_sends_it(members, expected):
    """The limit jumps where another digit comes: 10, 100, 1000 members less one."""
    assert retransmit_limit(4, int(members)) == expected


@pytest.mark.parametrize(("members", "expected"), FORMULAS["suspicion_min_mult6_interval5s"].items())
def test_the_shortest_suspicion_is_gos(members, expected):
    """Its node scale is cut to thousandths, and no cluster is smaller than ten."""
    assert suspicion_timeout(6, int(members), 5.0) == pytest.approx(seconds(expected), abs=1e-9)


def test_the_node_scale_is_cut_not_rounded():
    """log10(20) is 1.30103, which counts as 1.301: 39.0309 s would be wrong, 39.03 s is right."""
    assert suspicion_timeout(6, 20, 5.0) == pytest.approx(39.03, abs=1e-9)
    assert suspicion_timeout(1, 28, 1000.0) == pytest.approx(1447.0, abs=1e-9)  # log10(28) = 1.44716
    assert suspicion_timeout(1, 29, 1000.0) == pytest.approx(1462.0, abs=1e-9)  # 1.46240
    assert suspicion_timeout(1, 42, 1000.0) == pytest.approx(1623.0, abs=1e-9)  # 1.62325
    assert suspicion_timeout(1, 44, 1000.0) == pytest.approx(1643.0, abs=1e-9)  # 1.64345
    assert suspicion_timeout(1, 48, 1000.0) == pytest.approx(1681.0, abs=1e-9)  # 1.68124
    assert suspicion_timeout(1, 62, 1000.0) == pytest.approx(1792.0, abs=1e-9)  # 1.79239
    assert suspicion_timeout(1, 69, 1000.0) == pytest.approx(1838.0, abs=1e-9)  # 1.83885: rounding gives 1839


def test_all_rows_for_the_remaining_time_are_there():
    """Go's table has every number of confirmations for one to four wanted."""
    assert [(k, n) for k, n, _ in REMAINING] == [(k, n) for k in range(1, 5) for n in range(k + 1)]


@pytest.mark.parametrize(("wanted", "confirmations", "expected"), REMAINING)
def test_confirmations_shorten_a_suspicion_as_in_go(wanted, confirmations, expected):
    """Along a logarithm, cut to milliseconds, never below the shortest."""
    assert remaining(wanted, confirmations, SHORTEST, LONGEST) == pytest.approx(seconds(expected), abs=1e-9)


@pytest.mark.parametrize("members", [1, 2, 5])
def test_with_too_few_members_to_confirm_the_shortest_time_holds(members):
    """Below six members the WAN profile's four confirmations cannot come: waiting for them would only slow it."""
    suspicion = Suspicion(SwimConfig.wan(), members, "accuser", now=100.0)
    assert suspicion.deadline == 130.0


def test_with_six_members_confirmations_are_waited_for():
    """The first size at which four others are left besides accuser and accused."""
    suspicion = Suspicion(SwimConfig.wan(), 6, "accuser", now=100.0)
    assert suspicion.deadline == 280.0


@pytest.mark.parametrize(("members", "expected"), FORMULAS["push_pull_interval_base60s"].items())
def test_full_exchanges_are_stretched_as_in_go(members, expected):
    """By one more interval each time the cluster doubles, from 33 members on."""
    assert push_pull_interval(60.0, int(members)) == seconds(expected)
