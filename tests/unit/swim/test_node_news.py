"""A node that hears of others: who joins, conflicts, is suspected, dies and comes back, and what is passed on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.swim.alone import (
    HERE,
    LAN,
    RING,
    STRANGER,
    alive,
    answers,
    held,
    hush,
    knowing,
    packets,
    sealed,
    waiting,
)
from tests.unit.swim.virtual import PORT, START, endpoint, make_node
from wesher.swim.event import Conflict, Gone, Joined, Suspected, Updated
from wesher.swim.member import Member
from wesher.wire.codec import encode
from wesher.wire.messages import Alive, Dead, NodeState, Suspect
from wesher.wire.packet import open_packet


def test_a_stranger_joins_by_being_announced():
    """And is announced further."""
    node = knowing()
    news = alive("b", 2, 5, b"meta")
    node.receive_datagram(sealed(news), STRANGER, START + 1)
    assert node.events() == [Joined(held(node, "b"))]
    assert held(node, "b") == Member("b", endpoint(2).ip.packed, PORT, b"meta", 5, NodeState.ALIVE, START + 1)
    node.handle_timer(START + 2)
    assert set(answers(node, Alive)) == {(endpoint(2), news)}


def test_a_port_that_is_announced_is_the_members_own():
    """Whatever ours is."""
    node = knowing()
    news = replace(alive("b", 2), port=7000)
    node.receive_datagram(sealed(news), STRANGER, START)
    assert held(node, "b").endpoint == endpoint(2, 7000)
    assert waiting(node) == [encode(news)]


def test_an_alive_from_another_address_is_a_conflict_and_changes_nothing():
    """Whatever its incarnation; it is not passed on either."""
    node = knowing("b", "c")
    before = held(node, "b")
    node.receive_datagram(sealed(alive("b", 9, 1000, b"mine")), endpoint(9), START)
    assert node.events() == [Conflict(before, endpoint(9))]
    assert held(node, "b") == before
    node.handle_timer(START + 1)
    assert answers(node, Alive) == []


def test_an_alive_about_us_from_another_address_is_a_conflict_too():
    """Somebody has our name; we keep our record and do not refute for ever."""
    node = knowing("b")
    before = node.me
    node.receive_datagram(sealed(alive("a", 9, 1000)), endpoint(9), START)
    assert node.events() == [Conflict(before, endpoint(9))]
    assert node.me == before


@pytest.mark.parametrize("incarnation", [1, 5])
def test_a_death_frees_no_name_for_an_earlier_life(incarnation):
    """Who moves begins above what it was; a recording of where it once lived does not. See succession for who does."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(alive("b", 2, 5), Dead(5, "b", "c")), STRANGER, START)
    node.events()
    node.receive_datagram(sealed(alive("b", 9, incarnation, b"old")), STRANGER, START)
    assert [(type(e), e.member.name) for e in node.events()] == [(Conflict, "b")]


@pytest.mark.parametrize("accuser", ["b", ""])
def test_a_leave_is_a_leave_in_either_form(accuser):
    """Memberlist before 0.1.6, which wesher 0.2 uses, names no accuser; nobody else does that."""
    node = knowing("b")
    news = Dead(1, "b", accuser)
    node.receive_datagram(sealed(news), STRANGER, START)
    assert [(type(e), e.member.state) for e in node.events()] == [(Gone, NodeState.LEFT)]
    assert waiting(node) == [encode(news)]  # passed on as it came


@pytest.mark.parametrize(
    ("verdict", "told"), [(Dead(100, "b", "c"), Dead(100, "b", "a")), (Dead(100, "b", "b"), Dead(100, "b", "b"))]
)
@pytest.mark.parametrize("incarnation", [2, 100])
def test_a_member_restarted_below_what_we_remember_is_told_and_outbids_it(verdict, told, incarnation):
    """Go nodes begin at 2 each time. It is told at its own address, and nothing is believed before it answers."""
    node = knowing("b")
    node.receive_datagram(sealed(alive("b", 2, 100, b"old key"), verdict), STRANGER, START)
    hush(node)
    before = held(node, "b")
    restarted = make_node("b", endpoint(2), incarnation=incarnation, meta=b"new key")
    node.receive_datagram(sealed(restarted.me.as_alive()), STRANGER, START + 1)
    assert held(node, "b") == before
    assert node.events() == []
    assert waiting(node) == []
    (packet,) = node.actions()
    assert packet.to == endpoint(2)
    assert open_packet(packet.data, RING).messages == (told,)
    restarted.receive_datagram(packet.data, HERE, START + 1)
    node.receive_datagram(sealed(restarted.me.as_alive()), endpoint(2), START + 1)
    assert [(type(e), e.member.meta, e.member.incarnation) for e in node.events()] == [(Joined, b"new key", 101)]


def test_an_echo_of_the_life_that_ended_is_nothing():
    """Late gossip of the dead member's last announcement: the same metadata, so it is not even asked."""
    node = knowing("b")
    node.receive_datagram(sealed(alive("b", 2, 100, b"key"), Dead(100, "b", "c")), STRANGER, START)
    hush(node)
    node.receive_datagram(sealed(alive("b", 2, 100, b"key"), alive("b", 2, 99, b"key")), STRANGER, START)
    assert node.actions() == []
    assert held(node, "b").state is NodeState.DEAD


def test_a_recorded_announcement_of_an_earlier_life_revives_nobody():
    """Whoever plays it back makes us send one packet to where nobody lives; no record changes, ever lower or not."""
    node = knowing("b")
    lives = [alive("b", 2, incarnation, b"key %d" % incarnation) for incarnation in (2, 3, 4)]
    node.receive_datagram(sealed(*lives, Dead(4, "b", "c")), STRANGER, START)
    hush(node)
    before = held(node, "b")
    for moment, life in enumerate(lives * 3):
        node.receive_datagram(sealed(life), STRANGER, START + moment)
    assert held(node, "b") == before
    assert [to for to, _ in packets(node)] == [endpoint(2)] * 6
    assert node.events() == []


def test_who_restarted_below_what_we_remember_is_told_once_in_a_moment():
    """However often one packet says it: a thousand echoes are not to make a thousand packets. Later it is again."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(Dead(1, "b", "x"), Dead(1, "c", "x")), STRANGER, START)
    hush(node)
    restarted = [alive("b", 2, 1, b"new key"), alive("c", 3, 1, b"new key")]
    node.receive_datagram(sealed(*restarted, *restarted), STRANGER, START + 1)
    assert [to for to, _ in packets(node)] == [endpoint(2), endpoint(3)]
    node.receive_datagram(sealed(*restarted), STRANGER, START + 1)
    assert list(packets(node)) == []
    node.receive_datagram(sealed(*restarted), STRANGER, START + 2)
    assert [to for to, _ in packets(node)] == [endpoint(2), endpoint(3)]


def test_new_metadata_is_an_update_and_a_new_incarnation_alone_is_none():
    """Whoever acts on peers need not hear of refutations."""
    node = knowing("b")
    node.receive_datagram(sealed(alive("b", 2, 2)), STRANGER, START)
    assert node.events() == []
    node.receive_datagram(sealed(alive("b", 2, 3, b"new")), STRANGER, START)
    assert node.events() == [Updated(held(node, "b"))]


def test_a_life_lasts_through_new_incarnations_and_a_new_one_begins_after_a_death():
    """Since when it is alive is for operators to see."""
    node = knowing("b")
    node.receive_datagram(sealed(alive("b", 2, 2, b"new")), STRANGER, START + 5)
    assert held(node, "b").since == START
    node.receive_datagram(sealed(Dead(2, "b", "c")), STRANGER, START + 6)
    node.receive_datagram(sealed(alive("b", 2, 3)), STRANGER, START + 7)
    assert (held(node, "b").state, held(node, "b").since) == (NodeState.ALIVE, START + 7)


def test_suspicion_and_refutation_are_both_told():
    """Who shows states has to hear of either."""
    node = knowing("b")
    node.receive_datagram(sealed(Suspect(1, "b", "c")), STRANGER, START + 1)
    node.receive_datagram(sealed(alive("b", 2, 2)), STRANGER, START + 2)
    assert [(type(e), e.member.state, e.member.since) for e in node.events()] == [
        (Suspected, NodeState.SUSPECT, START + 1),
        (Updated, NodeState.ALIVE, START + 2),
    ]
    node.handle_timer(START + 60)
    assert not any(isinstance(event, Gone) for event in node.events())


def test_a_second_accuser_is_passed_on_once():
    """It shortens the suspicion elsewhere too."""
    node = knowing(*"bcdefgh")
    for accuser, passed_on in (("c", True), ("d", True), ("d", False), ("c", False), ("e", True), ("f", False)):
        news = Suspect(1, "b", accuser)
        node.receive_datagram(sealed(news), STRANGER, START)
        assert waiting(node) == ([encode(news)] if passed_on else [])


def test_a_suspect_that_nobody_hears_of_is_dead_in_time():
    """At the deadline and not before; the verdict is our own and is passed on."""
    node = knowing("b")
    node.receive_datagram(sealed(Suspect(1, "b", "c")), STRANGER, START)
    node.events()
    node.handle_timer(START + 3.999)
    assert held(node, "b").state is NodeState.SUSPECT
    node.handle_timer(START + 4)
    assert node.events() == [Gone(Member("b", endpoint(2).ip.packed, PORT, b"", 1, NodeState.DEAD, START + 4))]
    node.handle_timer(START + 5)
    assert (endpoint(2), Dead(1, "b", "a")) in answers(node, Dead)


def test_news_about_the_forgotten_is_forgotten():
    """With nobody to tell, the leave of the last other member would wait in the queue for ever."""
    node = knowing("b")
    node.receive_datagram(sealed(Dead(1, "b", "b")), STRANGER, START)
    while (now := node.get_timer()) < START + LAN.gossip_to_the_dead + 5:
        node.handle_timer(now)
    assert [member.name for member in node.members()] == ["a"]
    assert waiting(node) == []


def test_accusations_of_nobody_are_nothing():
    """An unknown name is not made known by its death."""
    node = knowing("b")
    node.receive_datagram(sealed(Suspect(1, "x", "b"), Dead(1, "y", "b"), Dead(1, "z", "z")), STRANGER, START)
    assert [member.name for member in node.members()] == ["a", "b"]
    assert node.events() == []


def test_strangers_beyond_the_limit_are_dropped_and_members_still_heard():
    """A flood of names costs its own place only."""
    node = knowing("b", config=replace(LAN, max_members=3))
    node.receive_datagram(sealed(*(alive(f"fake{n}", 10 + n) for n in range(10))), STRANGER, START)
    assert [member.name for member in node.members()] == ["a", "b", "fake0"]
    assert node.counters == {"too many members": 9}
    node.receive_datagram(sealed(alive("b", 2, 2, b"new")), STRANGER, START)
    assert held(node, "b").meta == b"new"


@pytest.mark.parametrize("vsn", [bytes([3, 5, 3, 0, 0, 0]), bytes([1, 1, 1, 0, 0, 0]), bytes([1, 5, 2, 1, 1, 1])])
def test_who_speaks_another_protocol_is_no_member(vsn):
    """It would break every Go node's push/pull with us."""
    node = knowing()
    node.receive_datagram(sealed(alive("b", 2, vsn=vsn)), STRANGER, START)
    assert held(node, "b") is None
    assert node.counters == {"protocol version": 1}
