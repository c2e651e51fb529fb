"""Timing and fan-out, with memberlist's presets, and the formulas that scale them with the size of the cluster.

Timing is local: nodes with different profiles understand each other. Seconds everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

PUSH_PULL_SCALE_THRESHOLD: Final = 32
"""Members up to which full exchanges come at their base interval (memberlist's pushPullScaleThreshold)."""


@dataclass(frozen=True, slots=True)
class SwimConfig:
    """One profile. Names are memberlist's; protocol section 6 has the values."""

    probe_interval: float
    """Between two probes, and the time one probe has."""
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
    leave_timeout: float = 5.0
    """How long a leave is gossiped at most; about two gossip rounds suffice."""
    max_members: int = 2000
    """Members known at once, this node included: twice --max-peers. The newest strangers are dropped."""

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
