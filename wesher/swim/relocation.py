"""A node whose host has another address: it leaves at the old one, and once that has spread it is alive at the new one.

A live member's address never changes: another one under its name is a conflict, to memberlist and to us, or whoever
asks for it would have a member's traffic. What was left is free, at once to memberlist, to us when a probe of the old
address has failed. So the node says of itself what is true, that nobody lives there any more, as it would if it were
stopped there and started here; who forges that leave of a node which does live there gets no further than before.

The leave goes first and alone: whoever hears the other first takes it for a conflict, and a Go node complains. Who has
missed the leave follows when it holds the old address for dead. Only those who read a packet's messages in their order,
as nodes of ours do and Go nodes do not, are told both at once, so that they know this leave for what it is, and look
for us at the new address from the beginning; and again, since a packet may be lost, and who hears only the leave lets
go of our tunnel after a second.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from typing import Final

SPREADING: Final = 2.0
"""Seconds in which a leave is known to all, Go nodes with the original's timings among them."""

TELL_EVERY: Final = 0.3
"""Seconds until those who are told both are told again."""


class Relocation:
    """Whether this node is between two addresses: `arrival` is when it is to be alive at the new one, `telling` when
    its `confidants`, names of members, are to be told of that again."""

    def __init__(self) -> None:
        self.arrival = inf
        self.telling = inf
        self.confidants: Collection[str] = ()

    @property
    def under_way(self) -> bool:
        """Whether it has left the old address and is not yet at the new one."""
        return self.arrival < inf

    @property
    def deadline(self) -> float:
        """When there is something to do."""
        return min(self.arrival, self.telling)

    def begin(self, now: float) -> bool:
        """False if it has been begun before: then only where it leads is another."""
        if self.under_way:
            return False
        self.arrival = now + SPREADING
        return True

    def told(self, confidants: Collection[str], now: float) -> None:
        """They have been told where it leads."""
        self.confidants = confidants
        self.telling = now + TELL_EVERY if confidants else inf

    def end(self) -> None:
        """It has arrived, or leaves for good."""
        self.arrival = self.telling = inf
