"""Names that were left, or whose holder has died, and who wants them next.

Who has left may come back elsewhere, under whatever incarnation. But a leave is a message like others: an insider can
forge it, and would then be given a live member's name, and its traffic. So a name goes to its claimant only after a
whole probe of the old address has failed. A member that is on its way out still answers pings, and whoever moved that
quickly announces itself only once: its claim is kept, and the old address probed again, until a leave must be over.

So it is with a death: who has crashed and starts elsewhere, under a higher incarnation, is believed after a whole probe
of the old address has failed, which told whoever lives there of its death. While the holder still counts as alive the
claim waits for its death, since the claimant too may announce itself only once. Nothing else hastens it: a name is not
to be had by making its holder miss one probe.

Who comes back at its own endpoint and announces the other form of it, IPv4 in 4 bytes or in 16, is at another address
to everybody, and yet answers for the old one. The probe tells who it is: with it comes the leave, which the old member
would refute. Where it is not refuted before a second answer, nobody is left who announces the old form.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from wesher.wire.messages import Alive

PATIENCE: Final = 15.0
"""Seconds a claim is kept: a Go node that leaves goes on answering for ten."""

ANSWERS: Final = 2
"""Between the first, with which the leave arrives, and this one there is time to refute it."""

WAITING: Final = 60.0
"""Seconds a claim waits for the death of a holder that counts as alive: longer than any suspicion among hundreds."""

MAX_CLAIMS: Final = 64
"""Claims at once, each a probe under way, and as many that wait; honest members move one by one, and announce
themselves again."""


@dataclass(slots=True)
class _Claim:
    news: Alive
    until: float
    probe_at: float
    at_home: bool
    answers: int = 0


class Succession:
    """Claims by name: the first for each, until it is settled, and the last that waits. `retry_after` in seconds."""

    def __init__(self, retry_after: float) -> None:
        self._claims: dict[str, _Claim] = {}
        self._waiting: dict[str, tuple[Alive, float]] = {}
        self._retry_after = retry_after

    @property
    def deadline(self) -> float:
        """When somebody is to be probed."""
        return min((claim.probe_at for claim in self._claims.values()), default=inf)

    def claim(self, news: Alive, now: float, *, at_home: bool = False) -> None:
        """Somebody announces himself under a name that was left; at_home: at its endpoint, in the other form."""
        if news.node not in self._claims and len(self._claims) < MAX_CLAIMS:
            self._claims[news.node] = _Claim(news, now + PATIENCE, now, at_home)

    def is_claimed(self, name: str) -> bool:
        """Whether there is a claim to be settled."""
        return name in self._claims

    def wait(self, news: Alive, now: float) -> None:
        """Somebody announces himself elsewhere under a name whose holder counts as alive, or died in a later life.

        Of the latter nothing comes: the holder comes back first, or is forgotten.
        """
        self._waiting = {name: (claim, until) for name, (claim, until) in self._waiting.items() if now < until}
        if news.node in self._waiting or len(self._waiting) < MAX_CLAIMS:
            self._waiting[news.node] = (news, now + WAITING)

    def gone(self, name: str, now: float) -> Alive | None:
        """The member of that name is dead, or has left: the announcement that has waited for it, to be judged now."""
        news, until = self._waiting.pop(name, (None, now))
        return news if now < until else None

    def due(self, now: float) -> list[str]:
        """The names whose old address is to be probed now; what comes of it is to be told."""
        names = [name for name, claim in self._claims.items() if now >= claim.probe_at]
        for name in names:
            self._claims[name].probe_at = inf
        return names

    def answered(self, name: str, now: float, *, told: bool = True) -> Alive | None:
        """Somebody of that name lives at the old address, and was told of this leave, or of an earlier one only.

        Returns the announcement that now counts, if that one is the claimant.
        """
        claim = self._claims.get(name)
        if claim is None:
            return None
        claim.answers += told
        if claim.at_home and claim.answers == ANSWERS:
            return self.silent(name)
        claim.probe_at = now + self._retry_after
        if claim.probe_at >= claim.until:
            del self._claims[name]
        return None

    def silent(self, name: str) -> Alive | None:
        """Nobody does: the announcement that now counts."""
        claim = self._claims.pop(name, None)
        return None if claim is None else claim.news

    def drop(self, name: str) -> None:
        """There is nothing to claim any more."""
        self._claims.pop(name, None)
        self._waiting.pop(name, None)
