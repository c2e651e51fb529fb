"""Mutants that no test can notice, since all that a node says, tells and waits for is the same: each with its proof.

They are tried all the same: one that a test notices has no business here.
"""

from __future__ import annotations

from typing import Final

EQUIVALENT: Final[dict[str, str]] = {
    "membership.Membership.__init__: 0.0 -> 1.0": "the node sets the calendar before it enters",
    "membership.Membership.__init__: 0.0 -> -1.0": "the node sets the calendar before it enters",
    "membership.Membership.__init__ (2): 0.0 -> 1.0": "before the first moment nobody was told",
    "membership.Membership.__init__ (2): 0.0 -> -1.0": "before the first moment nobody was told",
    "suspicion.Suspicion.__init__ (2): 0 -> -1": "below one nothing is wanted, by how much does not matter",
    "broadcast.BroadcastQueue.__init__: 0 -> 1": "only the order of numbers counts",
    "broadcast.BroadcastQueue.__init__: 0 -> -1": "only the order of numbers counts",
    "broadcast.BroadcastQueue.queue: 1 -> 2": "only the order of numbers counts",
    "config.suspicion_timeout (2): 1.0 -> 2.0": "log10(2) is below one, which is the least anyway",
    "config.push_pull_interval: members <= PUSH_PULL_SCALE_THRESHOLD -> members < PUSH_PULL_SCALE_THRESHOLD": (
        "at the threshold itself the formula gives the base"
    ),
    "exchanges.Exchanges.dial: self._last_dialled += 2 -> self._last_dialled -= 2": "any even numbers will do",
    "streams._take_answer: exchange.probe is not None and seq_no == exchange.probe.seq_no"
    " -> seq_no == exchange.probe.seq_no": "no stream ping is without its probe; the type checker does not know",
    "probing.Probing.__init__: 32 -> 33": "the modulus makes the same 32 bits of it",
}
