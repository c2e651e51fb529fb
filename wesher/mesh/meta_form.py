"""In which form this node announces its metadata: the one that the Go members of this mesh can read.

Go nodes of wesher 0.2.6 and of 0.3 skip each other's metadata, and Python nodes read both (see node_meta), so only Go
members have a vote: the form that most of the live ones use, on a tie the one in use; without any of them, 0.3.

    nobody asked for the present form   the first Go member's is taken at once: it serves somebody, and costs nobody
    somebody did, and most still do     it stays
    most have been for another, or      it goes, for what they are for then
      no Go member was there, for 60 s

So a node that joins has its tunnels at once, and members that come and go take a form away at most once a minute. The
form of an earlier run counts as asked for; who restarts alone keeps it until there is somebody to learn from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from wesher.mesh.node_meta import MetaError, MetaForm, decode
from wesher.swim.member import Member

HYSTERESIS: Final = 60.0
"""Seconds for which members must have been for something else."""

WITHOUT_GO: Final = MetaForm.V03


def parse_meta_format(text: str) -> MetaForm | None:
    """The form that `--meta-format` names, None for auto. Raises ValueError."""
    if text == "auto":
        return None
    try:
        return MetaForm(text)
    except ValueError:
        raise ValueError(f"{text!r} is no metadata format; give one of auto, 0.2, 0.3") from None


class FormChoice:
    """`setting` is a form for good, or None for auto; `remembered` is what `asked_for` was in an earlier run."""

    def __init__(self, setting: MetaForm | None, remembered: MetaForm | None) -> None:
        self.asked_for = remembered
        """What Go members asked for, to be remembered; None if there are none."""
        self._setting = setting
        self._has_met = False
        self._outvoted_since: float | None = None

    @property
    def current(self) -> MetaForm:
        """The form to announce."""
        return self._setting or self.asked_for or WITHOUT_GO

    def observe(self, members: Iterable[Member], now: float) -> bool:
        """Whether `current` has changed, now that gossip has `members` (everybody known, this node included)."""
        live = [member for member in members if member.is_live]
        votes = Counter(form for member in live if (form := _vote(member)) is not None)
        self._has_met = self._has_met or len(live) > 1
        if self._setting is not None or not self._has_met:
            return False
        before = self.current
        self._settle(self._favoured(votes), now)
        return self.current is not before

    def next_change(self) -> float | None:
        """When `observe` will change the form, if members stay as they are."""
        return None if self._outvoted_since is None else self._outvoted_since + HYSTERESIS

    def _favoured(self, votes: Counter[MetaForm]) -> MetaForm | None:
        most = max(votes.values(), default=0)
        favourites = [form for form, count in votes.items() if count == most]
        return self.current if self.current in favourites else next(iter(favourites), None)

    def _settle(self, favoured: MetaForm | None, now: float) -> None:
        if favoured is self.asked_for:
            self._outvoted_since = None
            return
        since = now if self._outvoted_since is None else self._outvoted_since
        if self.asked_for is None or now >= since + HYSTERESIS:
            self.asked_for, self._outvoted_since = favoured, None
        else:
            self._outvoted_since = since


def _vote(member: Member) -> MetaForm | None:
    """The form a Go member uses; a claim is what Go nodes do not have."""
    try:
        meta = decode(member.meta)
    except MetaError:
        return None
    return meta.form if meta.claim is None else None
