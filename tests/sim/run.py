"""One seed of one scenario: what came of it, and its story."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.sim.cluster import Cluster, Fault
from tests.sim.scenarios import SCENARIOS
from tests.sim.world import virtual_world


@dataclass(frozen=True, slots=True)
class Result:
    """`fault` is empty or says what was wrong; `recoveries` are seconds taken and allowed; `cpu` is in seconds."""

    scenario: str
    seed: int
    fault: str
    recoveries: tuple[tuple[float, float], ...]
    digest: str
    virtual: float
    cpu: float

    @property
    def replay(self) -> str:
        """The command that shows the same run again."""
        return f"python -m tests.sim {self.scenario} {self.seed}"

    @property
    def slowest(self) -> tuple[float, float]:
        """The recovery that came nearest to its bound, a mere start left out: seconds taken, and allowed."""
        return max(self.recoveries[1:] or self.recoveries, key=lambda pair: pair[0] / pair[1], default=(0.0, 1.0))


def run(scenario: str, seed: int, *, tell: Callable[[str], None] | None = None, level: int = logging.WARNING) -> Result:
    """Run a scenario to its end, or to its first fault."""
    begin = time.process_time()
    with virtual_world(level=level, tell=tell):
        cluster = Cluster(f"{scenario} {seed}", tell=tell)
        fault = ""
        try:
            SCENARIOS[scenario].run(cluster)
        except Fault as found:
            fault = str(found)
        try:
            digest = cluster.end()
        except Fault as found:
            digest, fault = "", fault or str(found)
    cpu = time.process_time() - begin
    return Result(scenario, seed, fault, tuple(cluster.recoveries), digest, cluster.now, cpu)
