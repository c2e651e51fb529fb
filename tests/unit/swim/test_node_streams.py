"""A node and its streams: whole exchanges, pings, strangers that cannot speak to it, and time that runs out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.swim.alone import (
    LAN,
    RING,
    answers,
    held,
    knowing,
    sealed,
    spoken,
    stream,
    waiting,
)
from tests.unit.swim.virtual import KEY, PORT, START, endpoint
from wesher.swim.event import Exchanged, Joined, KeyHeard
from wesher.swim.exchanges import MAX_STREAMS
from wesher.swim.io import (
    Endpoint,
    SendStream,
    StreamAccepted,
    StreamConnected,
    StreamData,
    StreamEnded,
)
from wesher.swim.node import Node
from wesher.wire.codec import encode
from wesher.wire.keyring import Keyring
from wesher.wire.limits import VSN
from wesher.wire.messages import (
    Ack,
    ErrorReply,
    MessageType,
    NodeState,
    Ping,
    PushNodeState,
    PushPull,
    UserMessage,
)
from wesher.wire.stream import StreamReader, seal_stream
from wesher.wire.structs import write_struct
from wesher.wire.words import KeyPhase, KeyRecord, Unknown, decode_words, encode_words


def entry(name: str, number: int, incarnation: int = 1, state: NodeState = NodeState.ALIVE) -> PushNodeState:
    """A push/pull's entry for the member at `endpoint(number)`."""
    return PushNodeState(name, endpoint(number).ip.packed, PORT, b"", incarnation, state)


def served(node: Node, data: bytes) -> list[tuple[int, object]]:
    """What the node does when a stranger connects and says `data`."""
    node.receive_stream(StreamAccepted(1), START)
    node.receive_stream(StreamData(1, data), START)
    return spoken(node)


def test_a_push_pull_is_answered_with_what_was_known_before():
    """The reply goes out before the merge: it does not tell a joiner about itself."""
    node = knowing("b")
    mine = tuple(member.as_entry() for member in node.members())
    assert served(node, stream(PushPull(True, (entry("c", 3),)))) == [(1, PushPull(True, mine)), (1, "close")]
    assert [event.member.name for event in node.events()] == ["c"]


def test_an_exchange_tells_states_and_a_remote_death_is_only_suspected():
    """The member can refute a suspicion; its own leave is its own word; the unknown dead stay unknown."""
    node = knowing("b", "c", "d", "e")
    states = {"b": NodeState.ALIVE, "c": NodeState.SUSPECT, "d": NodeState.DEAD, "e": NodeState.LEFT}
    entries = [entry(name, number, state=state) for number, (name, state) in enumerate(states.items(), 2)]
    unknown = [entry("x", 20, state=NodeState.DEAD), entry("y", 21, state=NodeState.LEFT), entry("z", 22)]
    served(node, stream(PushPull(False, (*entries, *unknown))))
    assert {member.name: member.state for member in node.members()} == {
        "a": NodeState.ALIVE,
        "b": NodeState.ALIVE,
        "c": NodeState.SUSPECT,
        "d": NodeState.SUSPECT,
        "e": NodeState.LEFT,
        "z": NodeState.ALIVE,
    }


@pytest.mark.parametrize("state", NodeState)
def test_an_entry_of_another_protocol_says_nothing(state):
    """Whatever its state: memberlist refuses a whole exchange for it."""
    node = knowing("b")
    other = PushNodeState("b", endpoint(2).ip.packed, PORT, b"new", 5, state, bytes([3, 5, 3, 0, 0, 0]))
    before = held(node, "b")
    served(node, stream(PushPull(False, (other, entry("c", 3)))))
    assert held(node, "b") == before
    assert held(node, "c") is not None


@pytest.mark.parametrize("state", [NodeState.SUSPECT, NodeState.DEAD, NodeState.LEFT])
def test_an_exchange_that_holds_us_for_gone_is_refuted(state):
    """That is how a restarted node outbids what is remembered of its former run."""
    node = knowing("b")
    served(node, stream(PushPull(False, (entry("a", 1, 41, state),))))
    assert (node.me.incarnation, node.me.state) == (42, NodeState.ALIVE)


def in_turn() -> tuple[Node, int, float]:
    """A node that begins a full exchange with b since it is time for one, that stream, and when."""
    node = knowing("b", config=replace(LAN, probe_interval=1e6))
    while True:
        now = node.get_timer()
        node.handle_timer(now)
        for number, what in spoken(node):
            if what == endpoint(2):
                return node, number, now


def test_an_exchange_in_turn_does_not_call_itself_a_join():
    """Both sides act alike on it, and whoever waits for its own join must not take this for it."""
    node, number, now = in_turn()
    node.receive_stream(StreamConnected(number), now)
    ((_, request),) = spoken(node)
    assert (type(request), request.join) == (PushPull, False)
    node.receive_stream(StreamEnded(number, "broke"), now)
    assert node.events() == [Exchanged(endpoint(2), join=False, failure="broke", unread=True)]


def test_the_answer_in_an_exchange_in_turn_is_merged_and_not_answered():
    """Then it is over, well."""
    node, number, now = in_turn()
    node.receive_stream(StreamConnected(number), now)
    spoken(node)
    node.receive_stream(StreamData(number, stream(PushPull(False, (entry("z", 9),)))), now)
    assert spoken(node) == [(number, "close")]
    assert node.events() == [Joined(held(node, "z")), Exchanged(endpoint(2), join=False)]


@pytest.mark.parametrize(("off", "saved"), [(0, True), (1, False)])
def test_only_an_ack_of_its_own_number_answers_a_stream_ping(off, saved):
    """Another's would answer for who is dead."""
    node, number, ping, now = stream_ping()
    node.receive_stream(StreamData(number, stream(Ack((ping.seq_no + off) % (1 << 32)))), now + 0.75)
    assert spoken(node) == [(number, "close")]
    node.handle_timer(now + LAN.probe_interval)
    assert held(node, "b").state is (NodeState.ALIVE if saved else NodeState.SUSPECT)


def test_a_full_exchange_is_no_answer_to_a_stream_ping():
    """What was not asked for is not merged."""
    node, number, _, now = stream_ping()
    node.receive_stream(StreamData(number, stream(PushPull(False, (entry("z", 9),)))), now + 0.75)
    assert spoken(node) == [(number, "close")]
    assert held(node, "z") is None
    assert node.events() == []


def stream_ping() -> tuple[Node, int, Ping, float]:
    """A node that pings b over a stream, as its datagram is not answered; stream, ping, and when the probe began."""
    node = knowing("b")
    while True:
        now = node.get_timer()
        node.handle_timer(now)
        if answers(node, Ping):
            break
    node.handle_timer(now + LAN.probe_timeout)
    ((number, to),) = spoken(node)
    assert to == endpoint(2)
    node.receive_stream(StreamConnected(number), now + LAN.probe_timeout)
    ((_, ping),) = spoken(node)
    return node, number, ping, now


def test_what_goes_over_streams_is_not_compressed():
    """However much it would shrink: it is optional, and takes ten times as long to make."""
    node = knowing(*(f"n{number}" for number in range(30)))
    node.receive_stream(StreamAccepted(1), START)
    node.receive_stream(StreamData(1, stream(PushPull(True, ()))), START)
    (answer,) = (action for action in node.actions() if isinstance(action, SendStream))
    reader = StreamReader(RING)
    assert len(reader.feed(answer.data).nodes) == 31
    assert reader.layers == ("encrypt",)


def raw_entry(**changes: object) -> bytes:
    """An entry's bytes, with whatever in it."""
    fields = {
        b"Name": b"bad",
        b"Addr": b"\x0a\0\0\x09",
        b"Port": PORT,
        b"Meta": b"",
        b"Incarnation": 1,
        b"State": 0,
        b"Vsn": VSN,
    }
    return write_struct(fields | {name.encode(): value for name, value in changes.items()})


@pytest.mark.parametrize(
    "hostile",
    [
        raw_entry(Vsn=b""),
        raw_entry(Vsn=bytes([1, 5, 9, 0, 0, 0])),
        raw_entry(Vsn=bytes([3, 5, 3, 0, 0, 0])),
        raw_entry(Addr=b"\x0a\0\0"),
        raw_entry(Name=b""),
        raw_entry(Name=b"x" * 300),
        raw_entry(Meta=b"x" * 600),
        raw_entry(State=4),
        raw_entry(State=-1),
        raw_entry(Port=65536),
        raw_entry(Incarnation=1 << 32),
        raw_entry(Incarnation=(1 << 32) - 1),
        b"\xc0",
        b"\x80",
        b"\xa3bad",
    ],
)
def test_a_hostile_entry_costs_only_itself(hostile):
    """Where memberlist drops the whole exchange, or keeps the entry and breaks everybody's next one."""
    node = knowing()
    good = [
        write_struct({b"Name": name, b"Addr": addr, b"Port": PORT, b"Incarnation": 1, b"State": 0, b"Vsn": VSN})
        for name, addr in ((b"before", b"\x0a\0\0\x02"), (b"after", b"\x0a\0\0\x03"))
    ]
    header = write_struct({b"Nodes": 3, b"UserStateLen": 0, b"Join": True})
    body = bytes([MessageType.PUSH_PULL]) + header + good[0] + hostile + good[1]
    (_, reply), closed = served(node, stream(body))
    assert [e.name for e in reply.nodes] == ["a"]
    assert closed == (1, "close")
    assert [member.name for member in node.members()] == ["a", "before", "after"]


@pytest.mark.parametrize(
    ("hostile", "code"),
    [(raw_entry(Vsn=b""), "bad_vsn"), (raw_entry(State=4), "bad_state"), (raw_entry(Port=65536), "malformed")],
)
def test_a_hostile_entry_is_counted(hostile, code):
    """Under its own reason, so that somebody can look for who sends it."""
    node = knowing()
    header = write_struct({b"Nodes": 1, b"UserStateLen": 0, b"Join": True})
    served(node, stream(bytes([MessageType.PUSH_PULL]) + header + hostile))
    assert node.counters == {code: 1}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (stream(PushPull(True, ()), key=b"x" * 32), "undecryptable"),
        (encode(PushPull(True, ())), "plaintext"),
        (b"GET / HTTP/1.1\r\n", "unsupported_type"),
        (b"\xf4\x04blue", "label"),
        (b"\x0a\xff\xff\xff\xff", "too_large"),
        (stream(b"\x06\xc1"), "malformed"),
    ],
)
def test_who_cannot_speak_to_us_gets_a_fixed_word_and_is_counted(data, code):
    """An err reply as memberlist sends it, without a detail; then the stream is closed."""
    node = knowing("b")
    assert served(node, data) == [(1, ErrorReply("message could not be read")), (1, "close")]
    assert node.counters == {code: 1}
    assert node.events() == []
    node.receive_stream(StreamData(1, data), START)
    assert node.actions() == []


@pytest.mark.parametrize("message", [ErrorReply("x"), Ack(1), bytes([8, 0x81]) + b"\xaaUserMsgLen\x02hi"])
def test_what_is_no_request_is_counted_and_closed(message):
    """An unasked answer, and a user message, which wesher has none of."""
    node = knowing("b")
    assert served(node, stream(message)) == [(1, "close")]
    assert node.counters == {"unexpected stream message": 1}


@pytest.mark.parametrize(("name", "acked"), [("a", True), ("", True), ("b", False)])
def test_a_stream_ping_is_acked_by_whom_it_names(name, acked):
    """For where UDP is blocked; under another name the stream is closed without a word."""
    node = knowing("b")
    expected = [(1, Ack(5)), (1, "close")] if acked else [(1, "close")]
    assert served(node, stream(Ping(5, name))) == expected


def test_a_stream_arrives_in_any_pieces():
    """One byte at a time is as good as all at once."""
    node = knowing("b")
    node.receive_stream(StreamAccepted(1), START)
    data = stream(Ping(5, "a"))
    for byte in data:
        assert spoken(node) == []
        node.receive_stream(StreamData(1, bytes([byte])), START)
    assert spoken(node) == [(1, Ack(5)), (1, "close")]


def joining() -> tuple[Node, int]:
    """A node that dials endpoint(9) to join it, and that stream."""
    node = knowing("b")
    node.join([endpoint(9)], START)
    ((number, to),) = spoken(node)
    assert to == endpoint(9)
    assert number % 2 == 0
    return node, number


def test_a_join_sends_everything_and_merges_the_answer():
    """Then it is over, well."""
    node, number = joining()
    node.receive_stream(StreamConnected(number), START)
    mine = tuple(member.as_entry() for member in node.members())
    assert spoken(node) == [(number, PushPull(True, mine))]
    node.receive_stream(StreamData(number, stream(PushPull(True, (entry("z", 9),)))), START)
    assert spoken(node) == [(number, "close")]
    assert node.events() == [Joined(held(node, "z")), Exchanged(endpoint(9), join=True)]


ME = endpoint(1)


@pytest.mark.parametrize(
    ("name", "at", "state", "found"),
    [
        ("a", 7, NodeState.ALIVE, True),
        ("a", 7, NodeState.SUSPECT, True),
        ("a", 7, NodeState.DEAD, True),
        ("a", 7, NodeState.LEFT, False),
        ("a", 1, NodeState.ALIVE, False),  # us
        ("A", 7, NodeState.ALIVE, False),
        ("z", 7, NodeState.ALIVE, False),
    ],
)
def test_an_exchange_tells_where_another_lives_under_our_name(name, at, state, found):
    """With whoever answers: then he does not have us."""
    node, number = joining()
    assert node.me.endpoint == ME
    node.receive_stream(StreamConnected(number), START)
    told = replace(entry(name, at), state=state)
    node.receive_stream(StreamData(number, stream(PushPull(True, (entry("b", 2), told)))), START)
    (event,) = [event for event in node.events() if isinstance(event, Exchanged)]
    assert event == Exchanged(endpoint(9), join=True, namesake=endpoint(7) if found else None)


@pytest.mark.parametrize("port", [PORT, 0])
def test_our_own_endpoint_in_the_other_byte_form_is_nobody_elses(port):
    """Who remembers us by the other form of our address remembers us; no port is the one that all have."""
    node, number = joining()
    node.receive_stream(StreamConnected(number), START)
    mapped = replace(entry("a", 1), addr=bytes(10) + b"\xff\xff" + ME.ip.packed, port=port)
    node.receive_stream(StreamData(number, stream(PushPull(True, (mapped,)))), START)
    assert Exchanged(endpoint(9), join=True) in node.events()


def test_where_we_lived_before_is_nobody_elses_either():
    """Who has missed that our host has another address remembers us there."""
    node, number = joining()
    node.move(endpoint(50).ip.packed, START)
    node.handle_timer(START + 3)
    node.receive_stream(StreamConnected(number), START + 3)
    node.receive_stream(StreamData(number, stream(PushPull(True, (entry("a", 1),)))), START + 3)
    assert Exchanged(endpoint(9), join=True) in node.events()


def test_another_port_is_another_place():
    """Two nodes on one machine are two."""
    node, number = joining()
    node.receive_stream(StreamConnected(number), START)
    node.receive_stream(StreamData(number, stream(PushPull(True, (replace(entry("a", 1), port=PORT + 1),)))), START)
    assert Exchanged(endpoint(9), join=True, namesake=Endpoint(ME.ip, PORT + 1)) in node.events()


def test_who_joins_us_does_not_tell_us_that_our_name_is_taken():
    """A node that is later than we comes with its own word for it; what others have of us is in their answers."""
    node = knowing("b")
    node.receive_stream(StreamAccepted(1), START)
    node.receive_stream(StreamData(1, stream(PushPull(True, (entry("a", 7),)))), START)
    assert not [event for event in node.events() if isinstance(event, Exchanged)]


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (stream(ErrorReply("boom")), "refused by the other side: 'boom'"),
        (stream(Ack(1)), "an unexpected message came back"),
        (stream(PushPull(True, ()), key=b"x" * 32), "answer could not be read: undecryptable"),
        (b"\x06", "answer could not be read: plaintext"),
    ],
)
def test_a_join_that_is_answered_wrongly_fails_with_the_reason(answer, failure):
    """And nothing is merged."""
    node, number = joining()
    node.receive_stream(StreamConnected(number), START)
    spoken(node)
    node.receive_stream(StreamData(number, answer), START)
    assert spoken(node) == [(number, "close")]
    (event,) = node.events()
    assert (event.with_whom, event.join, event.failure[: len(failure)]) == (endpoint(9), True, failure)
    assert len(node.members()) == 2


@pytest.mark.parametrize(("reason", "failure"), [("refused", "refused"), ("", "closed before the exchange was over")])
def test_a_join_whose_stream_ends_early_fails(reason, failure):
    """Before or after it was open."""
    for connected in (False, True):
        node, number = joining()
        if connected:
            node.receive_stream(StreamConnected(number), START)
        node.receive_stream(StreamEnded(number, reason), START)
        assert node.events() == [Exchanged(endpoint(9), join=True, failure=failure, unread=connected)]


def test_a_stream_that_connects_too_late_is_closed():
    """The exchange is over; whoever drives us need not track that."""
    node, number = joining()
    node.handle_timer(START + LAN.stream_timeout)
    assert (number, "close") in spoken(node)
    assert Exchanged(endpoint(9), join=True, failure="no answer in time") in node.events()
    node.receive_stream(StreamConnected(number), START + LAN.stream_timeout + 1)
    assert spoken(node) == [(number, "close")]
    assert node.events() == []


def test_an_open_stream_has_its_whole_time_for_the_answer():
    """Counted from when it opened, as memberlist does."""
    node, number = joining()
    node.receive_stream(StreamConnected(number), START + 9)
    node.handle_timer(START + 18.9)
    assert not any(isinstance(event, Exchanged) for event in node.events())
    node.handle_timer(START + 19)
    assert Exchanged(endpoint(9), join=True, failure="no answer in time", unread=True) in node.events()


def test_a_silent_stranger_is_closed_in_time():
    """Connecting and saying nothing, or half of something, holds a place for ten seconds."""
    node = knowing()
    node.receive_stream(StreamAccepted(1), START)
    node.receive_stream(StreamAccepted(3), START)
    node.receive_stream(StreamData(3, b"\x0a\0\0"), START + 5)
    node.handle_timer(START + LAN.stream_timeout - 0.001)
    assert spoken(node) == []
    node.handle_timer(START + LAN.stream_timeout)
    assert spoken(node) == [(1, "close"), (3, "close")]


def test_strangers_streams_are_bounded_and_the_oldest_makes_room():
    """Who idles longest is most likely no member; a member's exchange takes milliseconds."""
    node = knowing()
    for number in range(MAX_STREAMS):
        node.receive_stream(StreamAccepted(2 * number + 1), START + number / 1000)
    assert spoken(node) == []
    node.receive_stream(StreamAccepted(1001), START + 1)
    assert spoken(node) == [(1, "close")]
    node.receive_stream(StreamData(1001, stream(Ping(5, "a"))), START + 1)
    assert spoken(node) == [(1001, Ack(5)), (1001, "close")]
    node.receive_stream(StreamAccepted(1003), START + 1)
    assert spoken(node) == []
    assert node.counters == {"too many streams": 1}


def test_a_flood_of_strangers_does_not_keep_us_from_joining():
    """What we dial has room of its own."""
    node = knowing()
    for number in range(MAX_STREAMS + 5):
        node.receive_stream(StreamAccepted(2 * number + 1), START)
    spoken(node)
    node.join([endpoint(9)], START)
    assert [to for _, to in spoken(node)] == [endpoint(9)]
    assert node.events() == []


def test_strangers_cannot_fill_our_memory(monkeypatch):
    """A blob must be whole before its tag tells a member from a stranger; together they buffer only so much."""
    monkeypatch.setattr("wesher.swim.exchanges.MAX_BUFFERED", 1000)
    node = knowing()
    begun = b"\x0a\0\0\x10\0\x01"
    for number in (1, 3):
        node.receive_stream(StreamAccepted(number), START)
        node.receive_stream(StreamData(number, begun + bytes(494)), START)
    assert spoken(node) == []
    node.receive_stream(StreamData(1, b"\0"), START)
    assert spoken(node) == [(1, "close")]
    assert node.counters == {"too much buffered": 1}
    node.receive_stream(StreamData(3, bytes(400)), START)
    assert spoken(node) == []


def test_no_stream_may_be_longer_than_a_full_mesh_needs():
    """The announced length is judged at once; all the members there may be, at their largest, fit."""
    node = knowing(config=replace(LAN, max_members=1000))
    meta = bytes(number % 256 for number in range(512))
    entries = tuple(
        PushNodeState(f"{number:0255}", bytes(16), PORT, meta, 1, NodeState.ALIVE) for number in range(1000)
    )
    largest = seal_stream(encode(PushPull(True, entries)), RING, bytes(12), compress=False)
    assert [what for _, what in served(node, largest)][-1] == "close"
    assert node.counters == {"too many members": 1}
    too_long = 256 * 1024 + 1000 * 1024 + 1
    node.receive_stream(StreamAccepted(3), START)
    node.receive_stream(StreamData(3, b"\x0a" + too_long.to_bytes(4, "big")), START)
    assert spoken(node)[-1] == (3, "close")
    assert node.counters["too_large"] == 1


def test_who_takes_few_peers_can_still_join_a_cluster_of_a_thousand():
    """It keeps as many members as it may; an exchange with all of them is no stream too long."""
    node = knowing(config=replace(LAN, max_members=21))
    meta = bytes(number % 256 for number in range(120))  # longer than any metadata in use
    entries = tuple(
        PushNodeState(f"node{n:060}", bytes([10, 0, n // 256, n % 256]), PORT, meta, 1, NodeState.ALIVE)
        for n in range(1, 1000)
    )
    served(node, seal_stream(encode(PushPull(True, entries)), RING, bytes(12), compress=False))
    assert len(node.members()) == 21
    assert "too_large" not in node.counters


def test_joins_beyond_the_limit_fail_by_name():
    """Each contact is answered for, or whoever waits would wait for ever."""
    node = knowing()
    contacts = [endpoint(number) for number in range(1, MAX_STREAMS + 4)]
    node.join(contacts, START)
    assert [event.with_whom for event in node.events()] == contacts[-3:]
    assert len(spoken(node)) == MAX_STREAMS
    assert node.counters == {"too many streams": 3}


def test_a_stream_ping_beyond_the_limit_is_not_made_and_counted():
    """The probe goes on without it."""
    node = knowing("b")
    node.join([endpoint(9)] * MAX_STREAMS, START)
    while not answers(node, Ping):
        now = node.get_timer()
        node.handle_timer(now)
    node.handle_timer(now + LAN.probe_timeout)
    assert spoken(node) == []
    assert node.counters == {"too many streams": 1}
    node.handle_timer(now + LAN.probe_interval)
    assert held(node, "b").state is NodeState.SUSPECT


# --- keys

OTHER = b"\x0f" * 32
RECORD = KeyRecord(OTHER, 216_000_000, 3600, KeyPhase.INSTALLED)


def sent(node: Node, keys: list[bytes]) -> list[tuple[bytes, PushPull]]:
    """The push/pulls that the node sends on streams, each with the one of `keys` that opens it."""
    found = []
    for action in node.actions():
        if isinstance(action, SendStream):
            reader = StreamReader(Keyring(keys))
            message = reader.feed(action.data)
            assert isinstance(message, PushPull)
            found.append((reader.key, message))
    return found


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_an_exchange_is_answered_under_the_key_it_was_asked_under(key):
    """Who was away while keys changed has no other, and learns the new one from the answer."""
    node = knowing("b")
    node.hold_keys([OTHER, KEY], [RECORD])
    node.receive_stream(StreamAccepted(1), START)
    node.receive_stream(StreamData(1, stream(PushPull(True, (entry("z", 9),)), key)), START)
    ((under, answer),) = sent(node, [OTHER, KEY])
    assert under == key
    assert decode_words(answer.user_state) == (RECORD,)


def test_a_ping_over_a_stream_is_answered_under_its_key():
    """As an exchange is."""
    node = knowing("b")
    node.hold_keys([OTHER, KEY], [])
    node.receive_stream(StreamAccepted(1), START)
    node.receive_stream(StreamData(1, stream(Ping(7, "a", b"", 0, ""), KEY)), START)
    (action,) = [action for action in node.actions() if isinstance(action, SendStream)]
    reader = StreamReader(Keyring([OTHER, KEY]))
    assert reader.feed(action.data) == Ack(7)
    assert reader.key == KEY
    assert node.events() == []


@pytest.mark.parametrize(("asked", "used"), [(None, OTHER), (KEY, KEY), (OTHER, OTHER)])
def test_a_join_goes_under_the_key_that_is_asked_for(asked, used):
    """The primary, or for who may have been away another."""
    node = knowing("b")
    node.hold_keys([OTHER, KEY], [])
    node.actions()
    node.join([endpoint(9)], START, under=asked)
    ((number, _),) = spoken(node)
    node.receive_stream(StreamConnected(number), START)
    ((under, _),) = sent(node, [OTHER, KEY])
    assert under == used


def test_keys_are_told_once_by_gossip_and_behind_every_exchange():
    """By gossip again when something about one is new."""
    node = knowing("b")
    node.hold_keys([KEY, OTHER], [RECORD])
    assert waiting(node) == [encode(UserMessage(encode_words([RECORD])))]
    node.hold_keys([KEY, OTHER], [RECORD])
    assert waiting(node) == []
    used = replace(RECORD, phase=KeyPhase.USED)
    node.hold_keys([OTHER, KEY], [used])
    assert waiting(node) == [encode(UserMessage(encode_words([used])))]


def test_what_is_true_of_keys_no_more_is_not_gossiped_any_more():
    """With nobody to tell it would stay for ever."""
    node = knowing("b")
    node.hold_keys([KEY, OTHER], [RECORD])
    node.hold_keys([KEY], [])
    assert waiting(node) == []


def test_a_word_of_a_newer_version_is_counted():
    """And nothing else comes of it."""
    node = knowing("b")
    node.receive_datagram(sealed(UserMessage(encode_words([Unknown(99, b"new")]))), endpoint(2), START)
    assert node.events() == []
    assert node.counters == {"word of a newer version": 1}


def test_what_is_heard_of_keys_is_told_and_nothing_is_done_about_it():
    """Whether a key is held is not the node's to say."""
    node = knowing("b")
    node.receive_datagram(sealed(UserMessage(encode_words([RECORD]))), endpoint(2), START)
    assert node.events() == [KeyHeard(RECORD)]
    served(node, stream(PushPull(False, (), encode_words([RECORD]))))
    assert KeyHeard(RECORD) in node.events()
    assert node.keyring.keys() == (KEY,)
