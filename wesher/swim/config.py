"""Timing and fan-out, with memberlist's presets, and the formulas that scale them with the size of the cluster.

Timing is local: nodes with different profiles understand each other. Seconds everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

PROFILES: Final = ("mesh", "lan", "wan")
"""Names of profiles, the default first."""

PUSH_PULL_SCALE_THRESHOLD: Final = 32
"""Members up to which full exchanges come at their base interval (memberlist's pushPullScaleThreshold)."""


@dataclass(frozen=True, slots=True)
class SwimConfig:
    """One profile. Names are memberlist's; protocol section 6 has the values."""

    probe_interval: float
    """Between the beginnings of two probes."""
    probe_timeout: float
    """Until a direct ping counts as unanswered and relays are asked."""
    indirect_checks: int
    """Relays asked."""
    suspicion_mult: int
    suspicion_max_timeout_mult: int
    push_pull_interval: float
    gossip_interval: float
    gossip_nodes: int
    gossip_to_the_dead: float
    """How long a dead member is still told of its death, and remembered."""
    retransmit_mult: int
    awareness_max_multiplier: int
    stream_timeout: float
    """For one whole exchange over a stream."""
    probe_overlap: int = 1
    """Probe intervals that one probe has, and probes under way at once. 1, one after the other, is memberlist's."""
    leave_timeout: float = 5.0
    """How long a leave is gossiped at most; about two gossip rounds suffice."""
    max_members: int = 2000
    """Members known at once, this node included: twice --max-peers. The newest strangers are dropped."""

    @classmethod
    def profile(cls, name: str) -> SwimConfig:
        """The profile called `name`, one of PROFILES. Raises ValueError."""
        match name:
            case "mesh":
                return cls.mesh()
            case "lan":
                return cls.lan()
            case "wan":
                return cls.wan()
            case _:
                raise ValueError(f"{name!r} is no profile; give one of {', '.join(PROFILES)}")

    @classmethod
    def mesh(cls) -> SwimConfig:
        """Ours: most deaths are known to all of 100 within 10 s, with round trips of 300 ms of which a tenth fails.

        That is a median of 9.3 s; one death in five takes longer, and the longest of 40 took 12.0. To 30 members all
        were known within 10 s.

        A death takes the wait for the first probe, that probe, the shortest suspicion, and the spreading of the news:
        half a second or so, a probe's time, mult * log10(n) intervals, and half a second. memberlist's LAN numbers
        need a second more, and at 300 ms every lost packet there is a suspicion, since a probe's time is over before
        relays can answer. So: shorter intervals and longer probes, which therefore overlap. What that saves is spent
        on the suspicion, for members that live and are slow. `tests/sim/timing.py` has what the numbers come to.
        """
        return cls(
            probe_interval=0.7,  # the wait for the first probe is what differs from death to death
            probe_overlap=2,  # 1.4 s: until 0.5 unanswered, until 1.1 acked by relays, until 1.3 nacked
            probe_timeout=0.5,  # a round trip of 300 ms, and two thirds more for jitter
            indirect_checks=3,  # one in 160 probes that were unanswered stays so, without the stream ping
            suspicion_mult=5,  # 3.5 s to 10 members, 7 s to 100: who reads 2.5 s late still refutes in time
            suspicion_max_timeout_mult=4,  # a lone accuser waits that many times longer: three others have to agree
            push_pull_interval=15.0,  # whom gossip misses hears within 30 s; 45 s apart at 100 members
            gossip_interval=0.2,
            gossip_nodes=4,  # 100 members in four rounds
            gossip_to_the_dead=60.0,  # remembered for longer than full exchanges are apart, lest one revive the dead
            retransmit_mult=4,
            awareness_max_multiplier=8,
            stream_timeout=10.0,
        )

    @classmethod
    def lan(cls) -> SwimConfig:
        """memberlist's DefaultLANConfig."""
        return cls(
            probe_interval=1.0,
            probe_timeout=0.5,
            indirect_checks=3,
            suspicion_mult=4,
            suspicion_max_timeout_mult=6,
            push_pull_interval=30.0,
            gossip_interval=0.2,
            gossip_nodes=3,
            gossip_to_the_dead=30.0,
            retransmit_mult=4,
            awareness_max_multiplier=8,
            stream_timeout=10.0,
        )

    @classmethod
    def wan(cls) -> SwimConfig:
        """memberlist's DefaultWANConfig, which the Go wesher uses."""
        return cls(
            probe_interval=5.0,
            probe_timeout=3.0,
            indirect_checks=3,
            suspicion_mult=6,
            suspicion_max_timeout_mult=6,
            push_pull_interval=60.0,
            gossip_interval=0.5,
            gossip_nodes=4,
            gossip_to_the_dead=60.0,
            retransmit_mult=4,
            awareness_max_multiplier=8,
            stream_timeout=30.0,
        )


def retransmit_limit(mult: int, members: int) -> int:
    """How often one broadcast is sent, in packets."""
    return mult * math.ceil(math.log10(members + 1))


def suspicion_timeout(mult: int, members: int, probe_interval: float) -> float:
    """The shortest time a suspect has to refute; the node scale is cut to thousandths, as memberlist does."""
    scale = max(1.0, math.log10(max(1.0, float(members))))
    return mult * math.floor(scale * 1000) / 1000 * probe_interval


def push_pull_interval(base: float, members: int) -> float:
    """Time between two full exchanges: stretched as the cluster grows, so that their total stays bearable."""
    if members <= PUSH_PULL_SCALE_THRESHOLD:
        return base
    return base * (math.ceil(math.log2(members) - math.log2(PUSH_PULL_SCALE_THRESHOLD)) + 1)
