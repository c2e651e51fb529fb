"""The profiles: two are memberlist's to the last number, and ours does what it is made for."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from statistics import fmean, median

import pytest

from tests.sim.timing import FILE, MAIN, load
from tests.sim.timing_runs import LATE, ROUND_TRIP, death, quiet, starved
from wesher.swim.config import PROFILES, SwimConfig, suspicion_timeout

MEMBERLISTS = {
    #                             lan    wan
    "probe_interval":             (1.0,  5.0),
    "probe_timeout":              (0.5,  3.0),
    "indirect_checks":            (3,    3),
    "suspicion_mult":             (4,    6),
    "suspicion_max_timeout_mult": (6,    6),
    "push_pull_interval":         (30.0, 60.0),
    "gossip_interval":            (0.2,  0.5),
    "gossip_nodes":               (3,    4),
    "gossip_to_the_dead":         (30.0, 60.0),
    "retransmit_mult":            (4,    4),
    "awareness_max_multiplier":   (8,    8),
    "stream_timeout":             (10.0, 30.0),
    "probe_overlap":              (1,    1),
}  # fmt: skip
"""Protocol section 6; TCPTimeout is called stream_timeout here, and memberlist's probes never overlap."""


@pytest.mark.parametrize("field", MEMBERLISTS)
def test_lan_and_wan_are_memberlists(field):
    """Whoever knows its presets knows these."""
    assert tuple(getattr(SwimConfig.profile(name), field) for name in ("lan", "wan")) == MEMBERLISTS[field]


def test_every_profile_has_a_name_and_the_first_is_ours():
    """The names that `--profile` takes."""
    assert PROFILES == ("mesh", "lan", "wan")
    assert len({SwimConfig.profile(name) for name in PROFILES}) == 3


@pytest.mark.parametrize("name", ["", "LAN", "local", "mesh "])
def test_another_name_is_no_profile(name):
    """The error names those that there are."""
    with pytest.raises(ValueError, match=re.escape(f"{name!r} is no profile; give one of mesh, lan, wan")):
        SwimConfig.profile(name)


def test_a_probe_of_the_mesh_profile_has_time_for_relays():
    """Ack by ping, ack by relay, and nack, each over the longest round trip; memberlist's LAN has it for the first."""
    mesh, lan = SwimConfig.mesh(), SwimConfig.lan()
    for config, relays, nacks in ((mesh, True, True), (lan, False, False)):
        deadline = config.probe_interval * config.probe_overlap
        assert config.probe_timeout > 1.5 * ROUND_TRIP
        assert (config.probe_timeout + 2 * ROUND_TRIP < deadline) is relays
        assert (2 * config.probe_timeout + ROUND_TRIP < deadline) is nacks


@pytest.mark.parametrize("size", [3, 10, 100])
def test_a_suspicion_of_the_mesh_profile_outlasts_who_reads_late(size):
    """The accusation arrives half a round trip and as much as 2.5 s later, the refutation leaves in a gossip round."""
    mesh = SwimConfig.mesh()
    shortest = suspicion_timeout(mesh.suspicion_mult, size, mesh.probe_interval)
    assert shortest > LATE[1] + ROUND_TRIP + 2 * mesh.gossip_interval


@pytest.mark.parametrize(("size", "seed"), [(3, 0), (10, 1), (10, 2), (30, 3), (100, 4)])
def test_most_deaths_on_a_bad_line_are_known_to_all_in_ten_seconds(size, seed):
    """To 30 members each, to 100 this one and four of five; nobody else is buried."""
    found = death(seed, SwimConfig.mesh(), size)
    print(found)
    assert found.all <= 10
    assert found.false_deaths == 0


@pytest.mark.parametrize(("size", "seconds"), [(3, 600), (10, 120), (30, 40)])
def test_a_bad_line_buries_nobody(size, seconds):
    """Even where stream pings do not get through, so that some probes fail and suspicions have to be refuted."""
    assert quiet(7, SwimConfig.mesh(), size, seconds, streams=False).false_deaths == 0


@pytest.mark.parametrize("how", ["halting", "late"])
def test_slow_members_are_no_dead_ones(how):
    """Nobody is buried, fewer are suspected than with memberlist's numbers for a LAN, and the dead are known sooner."""
    mesh, lan = (
        [starved(seed, SwimConfig.profile(name), how, size=10, seconds=40) for seed in range(3)]
        for name in ("mesh", "lan")
    )
    assert {(run.false_deaths, run.starved_deaths, run.mended) for run in mesh} == {(0, 0, True)}
    assert sum(run.false_suspicions for run in mesh) < sum(run.false_suspicions for run in lan)
    assert fmean(run.all for run in mesh) < fmean(run.all for run in lan)


def test_the_figures_are_of_these_numbers():
    """Who changes them measures again: `python -m tests.sim.timing run`, `table` and `plot`."""
    assert json.loads(FILE.read_text())["profiles"] == {name: asdict(SwimConfig.profile(name)) for name in MAIN}


def test_the_figures_bear_out_what_is_claimed():
    """Four of five deaths among 100 are known to all within 10 s, and nobody dies of a bad line alone.

    All deaths are where fewer have to hear of them.
    """
    rows = [row for row in load() if row["profile"] == "mesh"]
    deaths = [row for row in rows if row["measure"] == "death"]
    calm = [row for row in rows if row["measure"] == "quiet"]
    of_100 = [row["all"] for row in deaths if row["size"] == 100]
    assert median(of_100) == pytest.approx(9.3, abs=0.05)
    assert fmean(seconds > 10 for seconds in of_100) == pytest.approx(0.2)
    assert max(of_100) == pytest.approx(12.0, abs=0.05)
    assert max(row["all"] for row in deaths if row["size"] <= 30) <= 10
    assert {row["false_deaths"] for row in deaths + calm} == {0}
