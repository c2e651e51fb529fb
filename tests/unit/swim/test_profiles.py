"""The profiles: two are memberlist's to the last number, and ours does what it is made for."""

from __future__ import annotations

import re

import pytest

from tests.unit.swim.virtual import VirtualNetwork
from wesher.swim.config import PROFILES, SwimConfig
from wesher.swim.event import Gone
from wesher.wire.messages import NodeState

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

ROUND_TRIP = 0.3
LOSS = 0.05
"""What the mesh profile is made for: seconds between continents, and a bad line."""


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


def bad_line(seed: int, size: int) -> VirtualNetwork:
    """A mesh of the mesh profile that is whole, and then has the network that the profile is made for."""
    network = VirtualNetwork(seed, config=SwimConfig.mesh())
    network.start_mesh(size)
    network.weather.latency = (0.9 * ROUND_TRIP / 2, 1.1 * ROUND_TRIP / 2)
    network.weather.loss = LOSS
    network.run(10)
    return network


@pytest.mark.parametrize(("size", "seed"), [(3, 0), (10, 1), (10, 2), (30, 3), (100, 4)])
def test_a_dead_node_is_known_to_all_in_ten_seconds_on_a_bad_line(size, seed):
    """Of 100 members, and sooner in a smaller mesh; nobody else is buried."""
    network = bad_line(seed, size)
    others = [host for name, host in network.hosts.items() if name != "n2"]
    network.crash("n2")
    took = network.until(lambda: all(host.state_of("n2") is NodeState.DEAD for host in others), within=10)
    print(f"took {took:.2f} virtual seconds")
    assert {event.member.name for host in others for event in host.events(Gone)} == {"n2"}


@pytest.mark.parametrize(("size", "seconds"), [(3, 600), (10, 120), (30, 40)])
def test_a_bad_line_buries_nobody(size, seconds):
    """Even where stream pings do not get through, so that some probes fail and suspicions have to be refuted."""
    network = bad_line(7, size)
    network.weather.cut = lambda kind, _source, _to: kind == "tcp"
    network.run(seconds)
    assert all(host.events(Gone) == [] for host in network.hosts.values())
    assert all(len(host.live()) == size for host in network.hosts.values())
