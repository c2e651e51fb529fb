"""A suspicion is data: who reported, and when it ends.

It starts at the longest timeout and shrinks with each independent report, so that one deaf node cannot bury
another quickly, and several agreeing ones can (Lifeguard; protocol 5.6). Nothing here waits: the node asks for the
earliest deadline.
"""

from __future__ import annotations

import math

from wesher.swim.config import SwimConfig, suspicion_timeout


class Suspicion:
    """One member under suspicion, on the node's clock."""

    def __init__(self, config: SwimConfig, members: int, accuser: str, now: float) -> None:
        self._started = now
        self._accusers = {accuser}
        self._confirmations = 0
        wanted = config.suspicion_mult - 2
        # With too few members to confirm, waiting for confirmations would only slow the verdict.
        self._wanted = wanted if members - 2 >= wanted else 0
        self._shortest = suspicion_timeout(config.suspicion_mult, members, config.probe_interval)
        self._longest = self._shortest * config.suspicion_max_timeout_mult

    @property
    def deadline(self) -> float:
        """When the member is dead unless it refutes."""
        return self._started + remaining(self._wanted, self._confirmations, self._shortest, self._longest)

    def confirm(self, accuser: str) -> bool:
        """Count an independent report; False if it tells nothing new."""
        if self._confirmations >= self._wanted or accuser in self._accusers:
            return False
        self._accusers.add(accuser)
        self._confirmations += 1
        return True


def remaining(wanted: int, confirmations: int, shortest: float, longest: float) -> float:
    """Seconds from the first report to death, after so many confirmations of those wanted."""
    if wanted < 1:
        return shortest
    fraction = math.log(confirmations + 1) / math.log(wanted + 1)
    timeout = longest - fraction * (longest - shortest)
    return max(shortest, math.floor(timeout * 1000) / 1000)
