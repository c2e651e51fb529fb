"""An operator's word that a member be forgotten: who obeys it, when, and how far it goes."""

from __future__ import annotations

import pytest

from tests.sim.underlay import nothing_is_cut
from tests.unit.swim.alone import STRANGER, alive, held, hush, knowing, probing, sealed, spoken, stream, waiting
from tests.unit.swim.virtual import START, TODAY, VirtualNetwork, endpoint
from wesher.swim.event import Forgotten, Gone, Joined
from wesher.swim.forgetting import KEPT, Answer, Forgetting, is_over, rule_forget
from wesher.swim.io import StreamAccepted, StreamData
from wesher.swim.member import Member
from wesher.swim.members import CLOCK_HEADROOM, CLOCK_IS_SET, HIGHEST
from wesher.swim.node import Node
from wesher.wire.codec import encode
from wesher.wire.limits import MAX_FORGOTTEN
from wesher.wire.messages import Ack, Dead, NodeState, PushPull, Suspect, UserMessage
from wesher.wire.words import Forget, encode_words

NOW = TODAY
WORD = Forget("b", NOW)


def said(*words: Forget) -> UserMessage:
    """As it travels by gossip."""
    return UserMessage(encode_words(words))


def b(state: NodeState, incarnation: int = NOW) -> Member:
    """The member b."""
    return Member("b", endpoint(2).ip.packed, 7946, b"", incarnation, state, START)


def answer(member: Member | None, incarnation: int = NOW, *, today: int = NOW, **about: bool) -> Answer:
    """To a word about b."""
    values = {"is_self": False, "leaving": False} | about
    return rule_forget(member, Forget("b", incarnation), seconds_since_2020=today, **values)


def after(node: Node, *words: Forget) -> list[str]:
    """Whom the node forgets when it hears `words`, one after the other."""
    for word in words:
        node.receive_datagram(sealed(said(word)), STRANGER, START)
    return [event.name for event in node.events() if isinstance(event, Forgotten)]


# --- the table


@pytest.mark.parametrize(
    ("state", "answered"),
    [
        (NodeState.ALIVE, Answer.IGNORE),
        (NodeState.SUSPECT, Answer.KEEP),
        (NodeState.DEAD, Answer.OBEY),
        (NodeState.LEFT, Answer.OBEY),
    ],
)
def test_what_is_held_of_the_member_decides(state, answered):
    """And which life of it the word is about: that one or an earlier one."""
    assert answer(b(state), NOW) is answered
    assert answer(b(state), NOW + 1) is answered
    assert answer(b(state), NOW - 1) is Answer.IGNORE


def test_who_is_known_to_nobody_is_forgotten():
    """Gossip may not know it any more, and others still remember it."""
    assert answer(None, 1, today=1) is Answer.OBEY


def test_who_is_there_itself_refutes():
    """Unless it is leaving, which is what was wanted, or has begun anew since."""
    me = b(NodeState.ALIVE)
    assert answer(me, NOW, is_self=True) is Answer.REFUTE
    assert answer(me, NOW - 1, is_self=True) is Answer.IGNORE
    assert answer(b(NodeState.LEFT), NOW, is_self=True, leaving=True) is Answer.IGNORE


@pytest.mark.parametrize("member", [None, b(NodeState.DEAD), b(NodeState.ALIVE)])
def test_a_word_from_tomorrow_is_not_believed(member):
    """It would drive who refutes it to where nobody hears it."""
    is_self = member is not None and member.is_live
    believed = Answer.REFUTE if is_self else Answer.OBEY
    assert answer(member, NOW + CLOCK_HEADROOM, is_self=is_self) is believed
    assert answer(member, NOW + CLOCK_HEADROOM + 1, is_self=is_self) is Answer.IGNORE
    assert answer(member, HIGHEST, is_self=is_self, today=CLOCK_IS_SET - 1) is believed


def test_a_word_counts_for_a_day():
    """A recording of it does no more after that. A clock that is not set cannot tell."""
    assert answer(None, NOW - KEPT) is Answer.OBEY
    assert answer(None, NOW - KEPT - 1) is Answer.IGNORE
    assert not is_over(Forget("b", 0), CLOCK_IS_SET - 1)
    assert is_over(Forget("b", 0), CLOCK_IS_SET)


# --- what is kept


def test_the_latest_word_about_each_is_kept():
    """Heard again, or an earlier one, it is no news."""
    forgetting = Forgetting()
    assert forgetting.take(Forget("b", NOW), NOW)
    assert not forgetting.take(Forget("b", NOW), NOW)
    assert not forgetting.take(Forget("b", NOW - 1), NOW)
    assert forgetting.take(Forget("b", NOW + 1), NOW)
    assert forgetting.words() == (Forget("b", NOW + 1),)
    forgetting.drop("b")
    forgetting.drop("never heard of")
    assert forgetting.words() == ()


def test_words_are_bounded_and_the_latest_stay():
    """However many names an insider makes up; and each is news once, or they would go round for ever."""
    forgetting = Forgetting()
    flood = [Forget(f"n{number}", NOW - number) for number in range(MAX_FORGOTTEN)]
    assert all(forgetting.take(word, NOW) for word in flood)
    assert not forgetting.take(Forget("late", NOW - MAX_FORGOTTEN + 1), NOW)
    assert forgetting.take(Forget("late", NOW - MAX_FORGOTTEN + 2), NOW)
    kept = forgetting.words()
    assert len(kept) == MAX_FORGOTTEN
    assert {word.node for word in kept} == {f"n{number}" for number in range(MAX_FORGOTTEN - 1)} | {"late"}
    assert forgetting.take(Forget("n5", NOW + 1), NOW)
    assert len(forgetting.words()) == MAX_FORGOTTEN  # its own place was its room


def test_words_that_are_over_make_room():
    """A day later nobody needs them."""
    forgetting = Forgetting()
    for number in range(MAX_FORGOTTEN):
        forgetting.take(Forget(f"n{number}", NOW), NOW)
    assert forgetting.take(Forget("later", NOW + KEPT + 1), NOW + KEPT + 1)
    assert forgetting.words() == (Forget("later", NOW + KEPT + 1),)


def test_a_word_covers_the_lives_up_to_it():
    """And of nobody else."""
    forgetting = Forgetting()
    forgetting.take(WORD, NOW)
    assert forgetting.covers("b", NOW)
    assert not forgetting.covers("b", NOW + 1)
    assert not forgetting.covers("c", NOW)


# --- a node that hears one


@pytest.mark.parametrize("accuser", ["b", "c"])
def test_a_node_forgets_who_has_failed_or_left(accuser):
    """It is gone from the table, with the news about it, and the word is passed on."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(Dead(1, "b", accuser)), STRANGER, START)
    hush(node)
    node.receive_datagram(sealed(Dead(1, "c", "x")), STRANGER, START)
    assert after(node, WORD) == ["b"]
    assert held(node, "b") is None
    assert set(waiting(node)) == {encode(Dead(1, "c", "x")), encode(said(WORD))}


def test_news_about_who_is_forgotten_goes_with_it():
    """With nobody to tell it would stay for ever."""
    node = knowing("b")
    node.receive_datagram(sealed(Dead(1, "b", "c")), STRANGER, START)
    assert after(node, WORD) == ["b"]
    assert waiting(node) == [encode(said(WORD))]


def test_a_node_passes_a_word_on_once():
    """It tells of it once too, heard from however many."""
    node = knowing("c")
    assert after(node, WORD, WORD, Forget("b", NOW - 5)) == ["b"]
    assert waiting(node) == [encode(said(WORD))]
    assert after(node, WORD) == []
    assert waiting(node) == []
    assert after(node, Forget("b", NOW + 1)) == ["b"]
    assert waiting(node) == [encode(said(Forget("b", NOW + 1)))]


def test_a_word_that_finds_no_room_is_obeyed_and_not_passed_on():
    """Passed on without being kept, it would go round for ever."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(Dead(1, "b", "c")), STRANGER, START)
    for number in range(MAX_FORGOTTEN):
        node.forget(f"n{number}", START)
    hush(node)
    assert after(node, Forget("b", NOW - 1)) == ["b"]
    assert held(node, "b") is None
    assert waiting(node) == []


def test_of_a_flood_of_words_only_what_is_kept_waits_to_be_told():
    """Each later than the last, so each finds room; what it takes the place of would wait for packets for hours."""
    node = knowing("b")
    after(node, *(Forget(f"n{number}", NOW + number) for number in range(3 * MAX_FORGOTTEN)))
    latest = range(2 * MAX_FORGOTTEN, 3 * MAX_FORGOTTEN)
    assert set(waiting(node)) == {encode(said(Forget(f"n{number}", NOW + number))) for number in latest}


def test_a_word_about_who_is_there_again_is_told_no_more():
    """It is over, and is not to wait where somebody says and unsays it."""
    node = knowing("b")
    assert after(node, Forget("c", NOW)) == ["c"]
    announcement = alive("c", 3, incarnation=NOW + 1)
    node.receive_datagram(sealed(announcement), STRANGER, START)
    assert waiting(node) == [encode(announcement)]


def test_nothing_of_who_is_forgotten_stays():
    """Neither how long its answers took, which only a member has."""
    node = knowing("b")
    now, to, ping = probing(node)
    node.receive_datagram(sealed(Ack(ping.seq_no)), to, now + 0.1)
    node.receive_datagram(sealed(Dead(1, "b", "c")), STRANGER, START)
    assert set(node.round_trips) == {"b"}
    assert after(node, WORD) == ["b"]
    assert node.round_trips == {}


def test_a_member_that_is_alive_is_not_forgotten():
    """Whatever is said; and nobody passes that on."""
    node = knowing("b")
    assert after(node, WORD) == []
    assert held(node, "b").state is NodeState.ALIVE
    assert waiting(node) == []


def test_who_is_suspected_is_forgotten_when_it_is_dead():
    """The word may be quicker than the death."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(Suspect(1, "b", "c")), STRANGER, START)
    assert after(node, WORD) == []
    node.receive_datagram(sealed(Dead(1, "b", "c")), STRANGER, START)
    events = node.events()
    assert [type(event) for event in events] == [Gone, Forgotten]
    assert held(node, "b") is None


def test_who_refutes_its_suspicion_is_not_forgotten_later():
    """It was alive when the word was about; the next time it dies, it has failed."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(Suspect(1, "b", "c")), STRANGER, START)
    assert after(node, WORD) == []
    node.receive_datagram(sealed(alive("b", 2, 2)), endpoint(2), START)
    node.receive_datagram(sealed(Dead(2, "b", "c")), STRANGER, START)
    assert held(node, "b").state is NodeState.DEAD
    assert not any(isinstance(event, Forgotten) for event in node.events())


def test_a_forgotten_member_that_lives_is_back_with_its_first_word():
    """At the incarnation it had; and from then on the word is over."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(Dead(1, "b", "c")), STRANGER, START)
    assert after(node, WORD) == ["b"]
    node.receive_datagram(sealed(alive("b", 2, 1)), endpoint(2), START)
    assert [type(event) for event in node.events()] == [Joined]
    node.receive_datagram(sealed(Dead(1, "b", "c")), STRANGER, START)
    assert held(node, "b").state is NodeState.DEAD


def test_a_node_that_hears_itself_forgotten_outbids_it():
    """Whoever has obeyed takes it in again."""
    node = knowing("b", incarnation=5)
    assert after(node, Forget("a", NOW)) == []
    assert node.me.incarnation == NOW + 1
    assert waiting(node) == [encode(node.me.as_alive())]
    assert after(node, Forget("a", NOW)) == []
    assert node.me.incarnation == NOW + 1


def test_the_word_that_a_node_says_covers_every_life_until_today():
    """Also one that was driven up, and one that gossip does not know any more."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(Dead(1, "b", "c")), STRANGER, START)
    hush(node)
    node.forget("b", START)
    node.forget("gone", START)
    assert [event.name for event in node.events()] == ["b", "gone"]
    assert sorted(waiting(node)) == sorted(encode(said(Forget(name, TODAY))) for name in ("b", "gone"))
    driven = knowing("b")
    driven.receive_datagram(sealed(alive("b", 2, TODAY + 9), Dead(TODAY + 9, "b", "c")), STRANGER, START)
    hush(driven)
    driven.forget("b", START)
    assert waiting(driven) == [encode(said(Forget("b", TODAY + 9)))]


@pytest.mark.parametrize("payload", [b"wesher", b"wesher\x01", encode_words([WORD]) + b"x", encode_words([WORD, WORD])])
def test_a_strangers_garbage_is_counted_and_dropped(payload):
    """One word is one message."""
    node = knowing("c")
    before = sum(node.counters.values())
    node.receive_datagram(sealed(UserMessage(payload)), STRANGER, START)
    assert sum(node.counters.values()) == before + 1
    assert (node.events(), waiting(node)) == ([], [])


# --- behind a full exchange


def test_words_are_told_in_every_exchange():
    """To whoever begins one; nothing where there is none."""
    node = knowing("c")
    node.receive_stream(StreamAccepted(1), START)
    node.receive_stream(StreamData(1, stream(PushPull(True, ()))), START)
    assert spoken(node)[0][1].user_state == b""
    after(node, WORD)
    node.receive_stream(StreamAccepted(3), START)
    node.receive_stream(StreamData(3, stream(PushPull(True, ()))), START)
    assert spoken(node)[0][1].user_state == encode_words([WORD])


@pytest.mark.parametrize(
    ("state", "forgotten"),
    [
        (encode_words([WORD, Forget("d", NOW)]), ["b", "d"]),
        (b"", []),
        (b"an application's", []),
        (encode_words([WORD]) + b"x", []),
    ],
)
def test_words_are_heard_in_every_exchange(state, forgotten):
    """What makes no sense costs itself, and not the entries before it."""
    node = knowing("c")
    entry = Member.from_alive(alive("e", 5), START).as_entry()
    node.receive_stream(StreamAccepted(1), START)
    node.receive_stream(StreamData(1, stream(PushPull(True, (entry,), state))), START)
    assert [event.name for event in node.events() if isinstance(event, Forgotten)] == forgotten
    assert held(node, "e").state is NodeState.ALIVE


# --- a whole mesh


def test_a_failed_member_is_forgotten_by_all_and_by_who_was_away():
    """By gossip those who are there, within seconds; by their first exchange those who come later."""
    network = VirtualNetwork(40)
    hosts = network.start_mesh(8)
    here = [host for number, host in enumerate(hosts, 1) if number != 3]
    network.crash("n3")
    network.until(lambda: all(host.state_of("n3") is NodeState.DEAD for host in here), within=60)
    network.forget(here[0], "n3")
    network.until(lambda: all(host.events(Forgotten) for host in here), within=5)
    assert all(host.member("n3") is None for host in here)
    network.run(120)
    assert all(host.events(Forgotten) == [Forgotten("n3")] for host in here)
    late = network.start("late", 50)
    network.join(late, here[1])
    network.until(lambda: late.events(Forgotten) == [Forgotten("n3")], within=5)


def test_a_living_member_behind_a_cut_is_back_when_it_comes():
    """It was forgotten wrongly; nobody looks for it, and it looks for them."""
    network = VirtualNetwork(41)
    *here, alone = network.start_mesh(5)
    network.weather.cut = lambda _, source, to: (source == alone.at) != (to == alone.at)
    network.until(lambda: all(host.state_of("n5") is NodeState.DEAD for host in here), within=60)
    network.forget(here[0], "n5")
    network.until(lambda: all(host.member("n5") is None for host in here), within=5)
    network.weather.cut = nothing_is_cut
    network.join(alone, here[2])
    network.until(lambda: all("n5" in host.live() for host in here), within=5)
    network.run(60)
    assert all("n5" in host.live() for host in here)
