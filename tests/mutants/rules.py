"""Where the rules are: which code is made wrong, and which tests have to notice.

All of it is swim's: what supersedes what, refutation, suspicion, reaping, retransmits, who is probed and told, what is
exchanged, and what is due when. The profiles' numbers are no rules: test_profiles.py judges them, in minutes of virtual
time.
"""

from __future__ import annotations

from typing import Final

ALL: Final = None

RULES: Final[dict[str, tuple[str, ...] | None]] = {
    "wesher.swim.members": ALL,
    "wesher.swim.membership": ALL,
    "wesher.swim.suspicion": ALL,
    "wesher.swim.succession": ALL,
    "wesher.swim.broadcast": ALL,
    "wesher.swim.outbox": ALL,
    "wesher.swim.config": ("retransmit_limit", "suspicion_timeout", "push_pull_interval"),
    "wesher.swim.push_pull": ALL,
    "wesher.swim.probing": ALL,
    "wesher.swim.probe": ALL,
    "wesher.swim.awareness": ALL,
    "wesher.swim.leaving": ALL,
    "wesher.swim.member": ALL,
    "wesher.swim.node": ALL,
    "wesher.swim.streams": ALL,
    "wesher.swim.exchanges": ALL,
    "wesher.swim.io": ("from_wire",),
}
"""Functions and methods by module; a method is called as in `Members.reap`."""

TESTS: Final = ("tests/unit/swim",)
LEFT_OUT: Final = ("tests/unit/swim/test_profiles.py",)
