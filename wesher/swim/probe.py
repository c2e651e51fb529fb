"""One probe of one member: a ping, then relays and a stream ping, then a verdict (protocol 5.7).

Also the other side of it: a relay is a ping on somebody else's behalf. Both are data with deadlines.
"""

from __future__ import annotations

from dataclasses import dataclass

from wesher.swim.io import Endpoint


@dataclass(slots=True)
class Probe:
    """A probe under way. `seq_no` is shared by the direct and the relayed pings, so any ack of that number ends it."""

    name: str
    incarnation: int
    seq_no: int
    relays_at: float
    """When the direct ping counts as unanswered; infinite once relays are asked."""
    deadline: float
    """When the member becomes a suspect."""
    sent_at: float
    expected_nacks: int = 0
    nacks: int = 0

    def failure_cost(self) -> int:
        """How much a failure says about us: each relay that is silent too is a hint that we hear nobody."""
        return max(0, self.expected_nacks - self.nacks) if self.expected_nacks else 1


@dataclass(frozen=True, slots=True)
class Relay:
    """A ping sent for `requester`, which calls it `seq_no` and wants to hear of silence too if `nack`."""

    requester: Endpoint
    seq_no: int
    nack: bool
    deadline: float
