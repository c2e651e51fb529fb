"""The claim to this node's own overlay address: which attempt it holds, and since when.

A claim belongs to a node name. It is kept over restarts, so that its age can decide when two nodes meet on one
address; under another name it says nothing.
"""

from __future__ import annotations

from wesher.mesh.node_meta import Claim
from wesher.mesh.saved_state import SavedState
from wesher.swim.members import highest_sane


def own_claim(saved: SavedState, node_name: str, seconds_since_2020: int) -> Claim:
    """The saved claim of `node_name`, or a new one to its first address."""
    own = saved.own_for(node_name)
    if own is None:
        return Claim(attempt=0, claim_time=seconds_since_2020)
    return Claim(attempt=own.attempt, claim_time=own.claim_time)


def first_incarnation(saved: SavedState, node_name: str, seconds_since_2020: int) -> int:
    """Where incarnations begin: above all that this name ever used, also on the other side of a clock step.

    A saved one that no clock explains was forced upon us by a member; others would ignore what comes after it.
    """
    own = saved.own_for(node_name)
    if own is None or own.incarnation > highest_sane(seconds_since_2020):
        return max(seconds_since_2020, 1)
    return max(seconds_since_2020, own.incarnation + 1)
