"""Names that were left, and who wants them next.

Who has left may come back elsewhere, under whatever incarnation. But a leave is a message like others: an insider can
forge it, and would then be given a live member's name, and its traffic. So a name goes to its claimant only after a
whole probe of the old address has failed. A member that is on its way out still answers pings, and whoever moved that
quickly announces itself only once: its claim is kept, and the old address probed again, until a leave must be over.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from wesher.wire.messages import Alive

PATIENCE: Final = 15.0
"""Seconds a claim is kept: a Go node that leaves goes on answering for ten."""

MAX_CLAIMS: Final = 64
"""Claims at once, each a probe under way; honest members move one by one, and announce themselves again."""


@dataclass(slots=True)
class _Claim:
    news: Alive
    until: float
    probe_at: float


class Succession:
    """Claims by name: the first for each, until it is settled. `retry_after` in seconds."""

    def __init__(self, retry_after: float) -> None:
        self._claims: dict[str, _Claim] = {}
        self._retry_after = retry_after

    @property
    def deadline(self) -> float:
        """When somebody is to be probed."""
        return min((claim.probe_at for claim in self._claims.values()), default=inf)

    def claim(self, news: Alive, now: float) -> None:
        """Somebody announces himself under a name that was left."""
        if news.node not in self._claims and len(self._claims) < MAX_CLAIMS:
            self._claims[news.node] = _Claim(news, now + PATIENCE, now)

    def due(self, now: float) -> list[str]:
        """The names whose old address is to be probed now; what comes of it is to be told."""
        names = [name for name, claim in self._claims.items() if now >= claim.probe_at]
        for name in names:
            self._claims[name].probe_at = inf
        return names

    def answered(self, name: str, now: float) -> None:
        """Somebody of that name still lives at the old address."""
        claim = self._claims.get(name)
        if claim is not None:
            claim.probe_at = now + self._retry_after
            if claim.probe_at >= claim.until:
                del self._claims[name]

    def silent(self, name: str) -> Alive | None:
        """Nobody does: the announcement that now counts."""
        claim = self._claims.pop(name, None)
        return None if claim is None else claim.news

    def drop(self, name: str) -> None:
        """There is nothing to claim any more."""
        self._claims.pop(name, None)
