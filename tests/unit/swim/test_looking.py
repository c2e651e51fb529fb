"""Looking at what others see: what is asked, what is answered and when, and that nobody's view changes by it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.swim.alone import LAN, RING, STRANGER, held, knowing, sealed, spoken, stream
from tests.unit.swim.test_node_streams import entry
from tests.unit.swim.virtual import KEY, START, endpoint
from wesher.swim.event import TunnelsWanted, Viewed
from wesher.swim.exchanges import MAX_STREAMS
from wesher.swim.io import SendStream, StreamAccepted, StreamConnected, StreamData, StreamEnded
from wesher.swim.looking import TUNNELS_WITHIN
from wesher.swim.node import Node
from wesher.wire.keyring import Keyring
from wesher.wire.limits import MAX_HANDSHAKES
from wesher.wire.messages import ErrorReply, NodeState, PushPull, UserMessage
from wesher.wire.stream import StreamReader
from wesher.wire.words import AskHandshakes, Forget, Handshake, Handshakes, decode_words, encode_words

REQUEST = PushPull(False, (), encode_words([AskHandshakes()]))
B_AND_C = (Handshake("b", 3), Handshake("c", None))


def looking(node: Node) -> int:
    """The node looks at what is seen at `endpoint(2)`, and has asked; returns the stream."""
    node.look(endpoint(2), START)
    (number,) = [number for number, to in spoken(node) if to == endpoint(2)]
    node.receive_stream(StreamConnected(number), START)
    assert spoken(node) == [(number, REQUEST)]
    return number


def asked(node: Node, number: int = 1, request: PushPull = REQUEST) -> None:
    """Somebody looks at what the node sees."""
    node.receive_stream(StreamAccepted(number), START)
    node.receive_stream(StreamData(number, stream(request)), START)


def told(node: Node) -> list[Handshake] | None:
    """What the one answer of the node tells of its tunnels."""
    (answer,) = [message for _, message in spoken(node) if isinstance(message, PushPull)]
    words = decode_words(answer.user_state) if answer.user_state else ()
    return [tunnel for word in words for tunnel in word.tunnels] if words else None


# --- who looks


def test_a_look_shows_what_is_seen_there_and_changes_nothing_here():
    """Not even where somebody is told who is unknown here, or held for dead there."""
    node = knowing("b", "c")
    number = looking(node)
    nodes = (entry("b", 2), entry("c", 3, state=NodeState.DEAD), entry("x", 4))
    before = node.members()
    node.receive_stream(StreamData(number, stream(PushPull(False, nodes, encode_words([Handshakes(B_AND_C)])))), START)
    assert node.events() == [Viewed(endpoint(2), "", nodes, B_AND_C)]
    assert spoken(node) == [(number, "close")]
    assert node.members() == before


@pytest.mark.parametrize(
    ("state", "tunnels"),
    [
        (b"", None),
        (b"an application's", None),
        (b"wesher\x01\x04", None),
        (encode_words([Forget("b", 1)]), None),
        (encode_words([Handshakes(())]), ()),
        (encode_words([Handshakes(B_AND_C[:1]), Forget("b", 1), Handshakes(B_AND_C[1:])]), B_AND_C),
    ],
)
def test_who_tells_of_no_tunnels_is_told_from_who_has_none(state, tunnels):
    """Go nodes and older ones read past the question. Nothing that is told there is obeyed."""
    node = knowing("b")
    number = looking(node)
    node.receive_stream(StreamData(number, stream(PushPull(False, (entry("b", 2),), state))), START)
    assert node.events() == [Viewed(endpoint(2), "", (entry("b", 2),), tunnels)]
    assert held(node, "b") is not None


def test_a_look_that_fails_says_why():
    """Nobody there, no time, no room, or no answer to what was asked."""
    node = knowing("b")
    node.look(endpoint(9), START)
    node.receive_stream(StreamEnded(spoken(node)[0][0], "connection refused"), START)
    node.receive_stream(StreamData(looking(node), stream(ErrorReply("no"))), START)
    looking(node)
    node.handle_timer(START + LAN.stream_timeout)
    assert [event.failure for event in node.events() if isinstance(event, Viewed)] == [
        "connection refused",
        "refused by the other side: 'no'",
        "no answer in time",
    ]
    for _ in range(MAX_STREAMS + 1):
        node.look(endpoint(2), START)
    assert node.events() == [Viewed(endpoint(2), "too many streams")]
    assert node.counters["too many streams"] == 1


# --- who is looked at


def test_an_answer_waits_for_the_tunnels():
    """And tells what is known then; whoever else has asked meanwhile is answered too."""
    node = knowing("b", "c")
    asked(node, 1)
    asked(node, 3)
    assert node.events() == [TunnelsWanted(), TunnelsWanted()]
    assert spoken(node) == []
    node.tell_tunnels(B_AND_C)
    mine = tuple(member.as_entry() for member in node.members())
    answer = PushPull(False, mine, encode_words([Handshakes(B_AND_C)]))
    assert spoken(node) == [(1, answer), (1, "close"), (3, answer), (3, "close")]
    node.tell_tunnels(B_AND_C)
    assert spoken(node) == []


def test_an_answer_goes_under_the_key_of_the_question():
    """As every answer: who was away while keys changed has no other."""
    node = knowing("b")
    older = bytes(32)
    node.keyring.hold([KEY, older])
    node.receive_stream(StreamAccepted(1), START)
    node.receive_stream(StreamData(1, stream(REQUEST, older)), START)
    node.tell_tunnels(B_AND_C)
    (sent,) = [action.data for action in node.actions() if isinstance(action, SendStream)]
    assert isinstance(StreamReader(Keyring([older])).feed(sent), PushPull)


def test_an_answer_waits_for_the_tunnels_no_longer_than_it_says():
    """Then it tells what gossip has, and nothing of tunnels, which is not the same as to have none."""
    node = knowing("b")
    asked(node)
    assert node.get_timer() <= START + TUNNELS_WITHIN
    node.handle_timer(START + TUNNELS_WITHIN - 0.01)
    assert [number for number, _ in spoken(node) if number == 1] == []
    node.handle_timer(START + TUNNELS_WITHIN)
    assert told(node) is None
    asked(node, 3)
    node.tell_tunnels(())
    assert told(node) == []


def test_a_stream_that_waits_for_its_answer_takes_no_second_request():
    """And may end before it has one."""
    node = knowing("b")
    asked(node)
    node.receive_stream(StreamData(1, stream(REQUEST)), START)
    assert node.events() == [TunnelsWanted()]
    node.receive_stream(StreamEnded(1, ""), START)
    assert spoken(node) == [(1, "close")]
    node.tell_tunnels(B_AND_C)
    assert spoken(node) == []


def test_a_stranger_who_says_nothing_is_not_answered_with_the_tunnels():
    """Only who has asked, by a word that nobody without the key can say."""
    node = knowing("b")
    node.receive_stream(StreamAccepted(1), START)
    node.tell_tunnels(B_AND_C)
    assert spoken(node) == []
    node.handle_timer(START + LAN.stream_timeout)
    assert [said for said in spoken(node) if said[0] == 1] == [(1, "close")]


def test_as_many_tunnels_as_there_are_peers_are_told():
    """In several words."""
    node = knowing("b")
    tunnels = [Handshake(f"n{number}", number) for number in range(2 * MAX_HANDSHAKES + 1)]
    asked(node)
    node.tell_tunnels(tunnels)
    assert told(node) == tunnels


def test_what_comes_with_the_question_is_merged_as_ever():
    """Ours say nothing with it; another might."""
    node = knowing("b")
    asked(node, request=replace(REQUEST, nodes=(entry("c", 3),)))
    assert held(node, "c") is not None


@pytest.mark.parametrize("word", [AskHandshakes(), Handshakes(B_AND_C)])
def test_asked_or_told_by_gossip_it_means_nothing(word):
    """A datagram's sender may be anybody's address: nobody is told anything for one."""
    node = knowing("b")
    node.receive_datagram(sealed(UserMessage(encode_words([word]))), STRANGER, START)
    assert (node.events(), node.actions(), dict(node.counters)) == ([], [], {})


def test_two_nodes_look_at_each_other():
    """The bytes of one are the other's."""
    one, other = knowing("b", "c"), knowing("b")
    number = looking(one)
    asked(other)
    other.tell_tunnels(B_AND_C)
    for action in other.actions():
        if isinstance(action, SendStream):
            assert StreamReader(RING).feed(action.data) is not None
            one.receive_stream(StreamData(number, action.data), START)
    (viewed,) = one.events()
    assert ({node.name for node in viewed.nodes}, viewed.tunnels) == ({"a", "b"}, B_AND_C)
