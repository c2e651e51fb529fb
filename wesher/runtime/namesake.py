"""Another node with this node's name: the earlier keeps it, and the members tell the later one, who is not let in.

It stays and says what to do about it: it may be this node itself, which was at another address a moment ago.
"""

from __future__ import annotations

from wesher.swim.io import Endpoint


class Namesake:
    """Whether somebody has `name` already; `split`: whether the helper is given the name by itself."""

    def __init__(self, name: str, *, split: bool) -> None:
        self._name = name
        self._split = split
        self._at: Endpoint | None = None

    @property
    def is_there(self) -> bool:
        """Whether the members hold another node for the one of this name."""
        return self._at is not None

    def exchanged(self, at: Endpoint | None) -> None:
        """A full exchange has told that the name's owner lives `at` an endpoint, or that it is this node."""
        self._at = at

    @property
    def problem(self) -> str:
        """What to do about it; else empty."""
        if self._at is None:
            return ""
        rename = "give wesher-privhelper another --node-name" if self._split else "rename this host"
        return (
            f"not let in: the name {self._name} is taken, a member at {self._at.ip} has it; "
            f"{rename} and restart, or, where that was this node's own address before, wait a minute"
        )
