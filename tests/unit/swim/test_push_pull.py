"""What an exchange tells: each entry by itself, and only of those who speak as we do."""

from __future__ import annotations

import pytest

from tests.unit.swim.alone import alive
from tests.unit.swim.virtual import PORT, endpoint
from wesher.swim.member import Identity
from wesher.swim.push_pull import news, speaks_our_protocol
from wesher.wire.limits import VSN
from wesher.wire.messages import NodeState, PushNodeState

ME = Identity("a", endpoint(1).ip.packed, 7000)


@pytest.mark.parametrize(("announced", "understood"), [(PORT, PORT), (1, 1), (0, 7000)])
def test_an_entry_without_a_port_means_ours(announced, understood):
    """As memberlist reads it; any other port is the member's own."""
    entry = PushNodeState("b", endpoint(2).ip.packed, announced, b"", 1, NodeState.ALIVE, VSN)
    assert news(entry, ME).port == understood


@pytest.mark.parametrize(
    ("vsn", "is_ours"),
    [
        ((1, 5, 2, 0, 0, 0), True),
        ((2, 5, 2, 0, 0, 0), True),  # the oldest it takes is what we speak
        ((1, 2, 2, 0, 0, 0), True),  # and the newest
        ((1, 5, 1, 0, 0, 0), True),  # it speaks the oldest that we take
        ((1, 5, 5, 0, 0, 0), True),  # and the newest
        ((1, 7, 5, 0, 9, 0), True),
        ((3, 5, 3, 0, 0, 0), False),  # it takes nothing as old as what we speak
        ((1, 1, 1, 0, 0, 0), False),  # nor as new
        ((1, 7, 6, 0, 0, 0), False),  # it takes ours, and speaks what we do not take
        ((0, 5, 0, 0, 0, 0), False),
        ((1, 5, 2, 0, 1, 1), False),  # the application's version is judged alike
        ((1, 5, 2, 1, 1, 1), False),
    ],
)
def test_each_side_has_to_take_what_the_other_speaks(vsn, is_ours):
    """memberlist refuses every exchange that names a member of whom that is not true, so none may get in through us."""
    assert speaks_our_protocol(bytes(vsn), VSN) is is_ours


@pytest.mark.parametrize("ours", [VSN, bytes([1, 5, 2, 3, 9, 4])])
def test_whoever_announces_what_we_announce_is_understood(ours):
    """Whatever the application's version."""
    assert speaks_our_protocol(ours, ours)


def test_what_an_exchange_tells_of_the_living_is_their_own_announcement():
    """Word for word, so that it can be passed on."""
    announced = alive("b", 2, 7, b"meta")
    entry = PushNodeState("b", announced.addr, PORT, b"meta", 7, NodeState.ALIVE, VSN)
    assert news(entry, ME) == announced
