"""A node that hears of itself: what is wrong is outbid, what is old is let pass."""

from __future__ import annotations

import pytest

from tests.unit.swim.alone import HERE, STRANGER, answers, knowing, sealed, waiting
from tests.unit.swim.virtual import PORT, START, endpoint, make_node
from wesher.swim.member import Member
from wesher.wire.codec import encode
from wesher.wire.messages import Alive, Dead, NodeState, Suspect


@pytest.mark.parametrize(
    ("accusation", "incarnation"),
    [
        (Suspect(7, "a", "b"), 8),
        (Dead(7, "a", "b"), 8),
        (Dead(100, "a", "b"), 101),
        (Dead(1, "a", "a"), 2),  # a forged leave
        (Suspect(1, "a", "b"), 2),
        (Alive(7, "a", HERE.ip.packed, PORT, b"meta"), 8),
        (Alive(1, "a", HERE.ip.packed, PORT, b"other"), 2),  # an older run of ours (protocol 5.3)
        (Alive(1, "a", HERE.ip.packed, PORT, b"meta", bytes([1, 5, 3, 0, 0, 0])), 2),
    ],
)
def test_what_is_wrong_about_us_is_outbid(accusation, incarnation):
    """One above the accusation, and told to others; it costs a point of health."""
    node = knowing("b", meta=b"meta")
    node.receive_datagram(sealed(accusation), STRANGER, START)
    assert node.me == Member("a", HERE.ip.packed, PORT, b"meta", incarnation, NodeState.ALIVE, node.me.since)
    assert node.health_score == 1
    node.handle_timer(START + 1)
    assert answers(node, Alive)[0] == (endpoint(2), Alive(incarnation, "a", HERE.ip.packed, PORT, b"meta"))


def test_who_is_born_says_so():
    """Nobody else would."""
    node = make_node("a", HERE, meta=b"meta", incarnation=7)
    assert waiting(node) == [encode(Alive(7, "a", HERE.ip.packed, PORT, b"meta"))]


def test_no_incarnation_of_ours_leaves_32_bits():
    """Not even where a clock shows the year 2156: nobody could read what we say."""
    last = (1 << 32) - 1
    node = make_node("a", HERE, incarnation=last)
    node.update_meta(b"new", START)
    assert node.me.incarnation == 0
    other = knowing("b")
    other.set_calendar(last, START)
    other.receive_datagram(sealed(Suspect(last, "a", "b")), STRANGER, START)
    assert other.me.incarnation <= last


def test_a_refutation_replaces_what_we_said_before():
    """Memberlist keeps both in its queue; nobody needs the older one."""
    node = knowing("b", meta=b"meta")
    node.update_meta(b"new", START)
    node.receive_datagram(sealed(Suspect(5, "a", "b")), STRANGER, START)
    assert waiting(node) == [encode(Alive(6, "a", HERE.ip.packed, PORT, b"new"))]


def test_a_refutation_is_no_new_life():
    """We have been alive all the time."""
    node = knowing("b")
    node.receive_datagram(sealed(Suspect(1, "a", "b")), STRANGER, START + 7)
    assert (node.me.incarnation, node.me.since) == (2, START)


@pytest.mark.parametrize(
    "news",
    [
        Suspect(4, "a", "b"),
        Dead(4, "a", "b"),
        Alive(4, "a", HERE.ip.packed, PORT, b"other"),
        Alive(5, "a", HERE.ip.packed, PORT, b"meta"),  # our own word, coming back
    ],
)
def test_old_news_about_us_and_our_own_word_are_let_pass(news):
    """Else two nodes would outbid each other for ever."""
    node = knowing("b", meta=b"meta", incarnation=5)
    node.receive_datagram(sealed(news), STRANGER, START)
    assert node.me.incarnation == 5
    assert node.health_score == 0


def test_new_metadata_goes_out_under_a_new_incarnation():
    """To everybody, at the next gossip."""
    node = knowing("b")
    node.update_meta(b"new", START)
    assert (node.me.meta, node.me.incarnation) == (b"new", 2)
    node.handle_timer(START + 1)
    assert set(answers(node, Alive)) == {(endpoint(2), Alive(2, "a", HERE.ip.packed, PORT, b"new"))}
