"""Who has the better right to an overlay address that several members claim.

Names hash to addresses, so two names may meet on one. A table decides, its first line that tells two claimants apart:

    proven    for whom the address is in force here, under the key it announces, and whose tunnel has shaken hands
              within HANDSHAKE_COUNTS: nobody takes a working tunnel away by saying something
    fixed     a Go node, which has no claim and can never move
    pinned    who was given its address (--address), and does not move either
    older     by claim time. One that no clock explains, of before this program was written or after HIGHEST, is younger
              than all others
    lower     by name

Only the first line is this node's own knowledge; all others are the same on every node of ours, and with them alone a
node judges its own address. So of two nodes of ours one sees that it has to move, and it does wherever tunnels stand
meanwhile; that brings the views together. Two Go nodes stay where they are: there, tunnels may decide for ever, and on
each node otherwise.

A claim time is its claimant's word, and is believed. One in the future is no lie worth telling, as it only makes its
claim younger, and a bound by the reader's clock would have two readers judge differently (incarnations have one since
there the highest wins).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wesher.mesh.node_meta import PINNED_ATTEMPT, Claim
from wesher.swim.members import CLOCK_IS_SET, HIGHEST

HANDSHAKE_COUNTS: Final = 180.0
"""Seconds: after that WireGuard itself no longer uses what a handshake agreed on."""


@dataclass(frozen=True, slots=True)
class Claimant:
    """A member that claims an address; `claim` is None for a Go node, `proven` is said above."""

    name: str
    claim: Claim | None
    proven: bool = False

    def rank(self) -> tuple[int, bool, int, str]:
        """The lower has the better right; no two names have the same."""
        if self.proven:
            return 0, False, 0, self.name
        if self.claim is None:
            return 1, False, 0, self.name
        no_clock = not CLOCK_IS_SET <= self.claim.claim_time <= HIGHEST
        return 2 if self.claim.attempt == PINNED_ATTEMPT else 3, no_clock, self.claim.claim_time, self.name
