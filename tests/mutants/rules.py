"""Where the rules are: which code is made wrong, and which tests have to notice. There are three sets of them.

`gossip` is all swim's: what supersedes what, refutation, suspicion, reaping, retransmits, who is probed and told, what
is exchanged, and what is due when. The profiles' numbers are no rules: test_profiles.py judges them, in minutes of
virtual time.

`keys` is which cluster key is held, seals and is dropped, and who has it.

`line` is what the helper holds against an agent that is somebody else's: what is a request, what may come when, what
the policy refuses, and that nothing else than what it accepts is ever in force. There a module's tables are rules like
its functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import EnumMeta
from typing import Final

from privhelper.monitor import Phase
from privhelper.policy import HostsVerdict, PeerVerdict
from privhelper.protocol import Backend, Event, Flag, HostsResult, Op, ViolationCode
from wesher.mesh.rotation import Part
from wesher.mesh.saved_state import LastSeen
from wesher.swim.exchanges import Purpose
from wesher.swim.forgetting import Answer
from wesher.swim.members import Ruling
from wesher.swim.probe import Why
from wesher.wire.messages import NodeState
from wesher.wire.words import KeyPhase

ALL: Final = None


@dataclass(frozen=True, slots=True)
class Rules:
    """`modules` has functions and methods by module, or ALL; a method is called as in `Members.reap`. `tables`: whether
    what a module holds in a name of its own is one of the rules too."""

    modules: Mapping[str, tuple[str, ...] | None]
    words: tuple[EnumMeta, ...]
    """Enumerations that rules are written in."""
    tests: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    tables: bool = False


SETS: Final = {
    "gossip": Rules(
        modules={
            "wesher.swim.members": ALL,
            "wesher.swim.membership": ALL,
            "wesher.swim.suspicion": ALL,
            "wesher.swim.succession": ALL,
            "wesher.swim.relocation": ALL,
            "wesher.swim.forgetting": ALL,
            "wesher.swim.looking": ALL,
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
        },
        words=(Answer, NodeState, Purpose, Ruling, Why),
        tests=("tests/unit/swim",),
        left_out=("tests/unit/swim/test_profiles.py",),
    ),
    "keys": Rules(
        modules={"wesher.mesh.rotation": ALL, "wesher.mesh.holders": ALL},
        words=(KeyPhase, LastSeen, NodeState, Part),
        tests=("tests/unit/mesh/test_rotation.py", "tests/unit/mesh/test_holders.py"),
        tables=True,
    ),
    "line": Rules(
        modules={
            "privhelper.addressing": ALL,
            "privhelper.protocol": ALL,
            "privhelper.policy": ALL,
            "privhelper.monitor": ALL,
            "privhelper.tunnels": ALL,
        },
        words=(Op, Flag, Event, ViolationCode, Backend, HostsResult, Phase, PeerVerdict, HostsVerdict),
        tests=(
            "tests/unit/privhelper/test_addressing.py",
            "tests/unit/privhelper/test_privhelper_protocol.py",
            "tests/unit/privhelper/test_policy.py",
            "tests/unit/privhelper/test_monitor.py",
            "tests/unit/privhelper/test_tunnels.py",
        ),  # not test_against_a_model.py: each rule is to have a test that says what it is for
        tables=True,
    ),
}
