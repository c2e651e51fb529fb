"""One probe of one member: a ping, then relays and a stream ping, then a verdict (protocol 5.7).

Also the other side of it: a relay is a ping on somebody else's behalf. Both are data with deadlines.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from wesher.swim.io import Endpoint


class Why(Enum):
    """What a probe is for."""

    TURN = auto()
    """The member's turn in the ring: silence makes it a suspect and says something about us."""
    VACANCY = auto()
    """Whether a member that is said to have left or died has: silence is what we expect."""


@dataclass(slots=True)
class Probe:
    """A probe under way. `seq_no` is shared by the direct and the relayed pings, so any ack of that number ends it."""

    why: Why
    name: str
    incarnation: int
    seq_no: int
    relays_at: float
    """When the direct ping counts as unanswered; infinite once relays are asked."""
    deadline: float
    """When the member counts as silent."""
    sent_at: float
    expected_nacks: int = 0
    nacks: int = 0
    by_stream: bool = False
    """The stream ping was answered: at the deadline that saves the member, for whom UDP is broken."""

    def failure_cost(self) -> int:
        """How much a failure says about us: each relay that is silent too is a hint that we hear nobody."""
        return max(0, self.expected_nacks - self.nacks) if self.expected_nacks else 1


@dataclass(frozen=True, slots=True)
class Answered:
    """A probe is over: the member lives."""

    probe: Probe


@dataclass(frozen=True, slots=True)
class Silent:
    """A probe is over: nobody has heard of the member."""

    probe: Probe


@dataclass(frozen=True, slots=True)
class StreamPing:
    """A probe goes on over a stream."""

    probe: Probe
    to: Endpoint


ProbeStep = Answered | Silent | StreamPing


@dataclass(frozen=True, slots=True)
class Relay:
    """A ping sent for `requester`, which calls it `seq_no` and wants to hear of silence too if `nack`."""

    requester: Endpoint
    seq_no: int
    nack: bool
    deadline: float
