"""How long a mesh that has been through everything may take to be exactly right, from when the last machine runs again.

The sums of the simulator's scenarios (tests/sim/scenarios.py, where each term is explained), for its `chaos` and with
what it does not have: names and addresses that are gone. In seconds, for n machines:

    START      10    starts that are under way on a machine that is short of CPU; a start takes 1.2 s of it
    VERDICT    12    probes under way across a cut may yet accuse
    WAIT       18    until those are tried again who are held for dead; STREAM 10 where a try is stuck in the former cut
    suspicion        what is told is refuted, or confirmed, and NEWS 30 takes it everywhere
    SETS       11    to the helpers; MOVES 31 where two addresses met meanwhile
    gone             who was held for failed and comes back under another name is a peer for RETAIN 60 and spoken of as
                     failed until gossip forgets: 60, and until the ring comes round
"""

from __future__ import annotations

from typing import Final

from tests.sim.scenarios import MESH, MOVES, NEWS, SETS, STREAM, VERDICT, WAIT, suspicion

START: Final = 10.0
RETAIN: Final = 60.0
"""The soak's `--retain-failed`."""


def to_be_whole(machines: int) -> float:
    """Seconds until every device, route and hosts line is right."""
    gone = max(RETAIN, MESH.gossip_to_the_dead + 2 * machines * MESH.probe_interval)
    seconds: float = START + VERDICT + WAIT + STREAM + suspicion(machines) + NEWS + SETS + MOVES + gone
    return seconds
