"""News waiting to be gossiped: least-told first, then the largest that fits, then the newest (protocol 5.10).

News about a member replaces older news about it. Each item is sent a limited number of times, which grows with the
logarithm of the cluster: that many reach everybody with high probability.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from wesher.wire.limits import COMPOUND_PART


@dataclass(slots=True)
class _Item:
    about: Hashable
    data: bytes
    number: int
    transmits: int = 0


class BroadcastQueue:
    """Encoded messages by what they are about: the name of a member, or a word of our own."""

    def __init__(self) -> None:
        self._items: dict[Hashable, _Item] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, about: Hashable) -> bool:
        return about in self._items

    def queue(self, about: Hashable, data: bytes) -> None:
        """Add news about a member, or a word."""
        self._number += 1
        self._items[about] = _Item(about, data, self._number)

    def drop(self, about: Hashable) -> None:
        """Forget news about a member that is forgotten itself: with nobody to tell, it would stay for ever."""
        self._items.pop(about, None)

    def take(self, budget: int, limit: int, *, counts: bool = True) -> list[bytes]:
        """Messages for one packet to one peer, in `budget` bytes with 2 per part; each is told `limit` times.

        What does not count is told besides.
        """
        taken = []
        for item in sorted(self._items.values(), key=lambda item: (item.transmits, -len(item.data), -item.number)):
            cost = len(item.data) + COMPOUND_PART
            if cost > budget:
                continue
            budget -= cost
            taken.append(item.data)
            item.transmits += counts
            if item.transmits >= limit:
                del self._items[item.about]
        return taken
