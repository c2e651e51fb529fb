"""Messages: identity of encode and decode, and which values are refused, alone and in a push/pull."""

import contextlib

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wesher.wire.codec import decode_packet_message, decode_stream_message, encode, encode_stream_user
from wesher.wire.errors import Unsendable, WireError
from wesher.wire.limits import MAX_PUSH_PULL_NODES, MAX_USER_STATE, VSN
from wesher.wire.messages import (
    Ack,
    Alive,
    Dead,
    ErrorReply,
    IndirectPing,
    Nack,
    NodeState,
    Ping,
    PushNodeState,
    PushPull,
    Suspect,
    UserMessage,
)

V4 = bytes([10, 1, 2, 3])
ALIVE = Alive(1, "node-a", V4, 7946, b"meta")
NODE = PushNodeState("node-a", V4, 7946, b"meta", 1, NodeState.ALIVE)

u32 = st.integers(0, (1 << 32) - 1)
ports = st.integers(0, 65535)
names = st.binary(max_size=255).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
member_names = names.filter(bool)
addrs = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
metas = st.binary(max_size=512)
vsns = st.builds(
    lambda p, d: bytes([p[0], p[2], p[1], d[0], d[2], d[1]]),
    st.lists(st.integers(1, 255), min_size=3, max_size=3).map(sorted),
    st.lists(st.integers(0, 255), min_size=3, max_size=3).map(sorted),
)
sources = st.tuples(addrs | st.just(b""), ports, names)

pings = st.builds(lambda n, node, source: Ping(n, node, *source), u32, names, sources)
indirect_pings = st.builds(
    lambda n, target, port, node, nack, source: IndirectPing(n, target, port, node, nack, *source),
    u32,
    addrs,
    ports,
    names,
    st.booleans(),
    sources,
)
packet_messages = st.one_of(
    pings,
    indirect_pings,
    st.builds(Ack, u32, st.binary(max_size=600)),
    st.builds(Nack, u32),
    st.builds(Suspect, u32, names, names),
    st.builds(Dead, u32, names, names),
    st.builds(Alive, u32, member_names, addrs, ports, metas, vsns),
    st.builds(UserMessage, st.binary(max_size=600)),
)
node_states = st.builds(PushNodeState, member_names, addrs, ports, metas, u32, st.sampled_from(NodeState), vsns)
push_pulls = st.builds(PushPull, st.booleans(), st.lists(node_states, max_size=8).map(tuple), st.binary(max_size=100))
stream_messages = st.one_of(
    pings,
    st.builds(Ack, u32, st.binary(max_size=600)),
    push_pulls,
    st.builds(ErrorReply, st.text(max_size=200)),
)


def struct(fields: dict[str, object]) -> bytes:
    """A struct as a careless peer might send it."""
    return msgpack.packb(fields, use_bin_type=False)


def alive_with(**changes: object) -> bytes:
    """An alive, with fields that the dataclass would not hold."""
    fields = {"Addr": V4, "Incarnation": 1, "Meta": b"meta", "Node": "node-a", "Port": 7946, "Vsn": VSN}
    return b"\x04" + struct(fields | changes)


def entry_with(**changes: object) -> bytes:
    """A push/pull entry, likewise."""
    fields = {"Addr": V4, "Incarnation": 1, "Meta": b"m", "Name": "bad", "Port": 7946, "State": 0, "Vsn": VSN}
    return struct(fields | changes)


def push_pull_of(
    *entries: bytes, count: int | None = None, user_state: bytes = b"", length: int | None = None
) -> bytes:
    """A push/pull of these entries; `count` and `length` lie."""
    header = {
        "Join": True,
        "Nodes": len(entries) if count is None else count,
        "UserStateLen": len(user_state) if length is None else length,
    }
    return b"\x06" + struct(header) + b"".join(entries) + user_state


GOOD_ENTRY = encode(PushPull(True, (NODE,)))[len(push_pull_of(count=1)) :]

BAD_VALUES = [
    ({"Vsn": None}, "bad_vsn"),
    ({"Vsn": b""}, "bad_vsn"),
    ({"Vsn": VSN[:5]}, "bad_vsn"),
    ({"Vsn": VSN + b"\0"}, "bad_vsn"),
    ({"Vsn": bytes(6)}, "bad_vsn"),
    ({"Vsn": bytes([0, 5, 2, 0, 0, 0])}, "bad_vsn"),
    ({"Vsn": bytes([1, 0, 2, 0, 0, 0])}, "bad_vsn"),
    ({"Vsn": bytes([3, 2, 2, 0, 0, 0])}, "bad_vsn"),
    ({"Vsn": bytes([1, 5, 9, 0, 0, 0])}, "bad_vsn"),
    ({"Vsn": bytes([2, 5, 1, 0, 0, 0])}, "bad_vsn"),
    ({"Vsn": bytes([1, 5, 2, 1, 1, 0])}, "bad_vsn"),
    ({"Vsn": bytes([1, 5, 2, 0, 0, 1])}, "bad_vsn"),
    ({"Meta": bytes(513)}, "bad_meta"),
    ({"Addr": None}, "bad_address"),
    ({"Addr": bytes(3)}, "bad_address"),
    ({"Addr": bytes(17)}, "bad_address"),
    ({"Port": 65536}, "malformed"),
    ({"Port": -1}, "malformed"),
    ({"Incarnation": 1 << 32}, "malformed"),
    ({"Incarnation": "1"}, "malformed"),
]
BAD_NAMES = [None, "", "n" * 256]


@settings(deadline=None)
@given(packet_messages)
def test_a_packet_message_survives_the_wire(message):
    """Every field of every type."""
    assert decode_packet_message(encode(message)) == message


@settings(deadline=None)
@given(stream_messages)
def test_a_stream_message_survives_the_wire(message):
    """Every field of every type, and nothing is rejected."""
    decoded = decode_stream_message(encode(message))
    assert decoded == message
    assert getattr(decoded, "rejected", ()) == ()


@given(st.binary(max_size=600), st.binary(max_size=20))
def test_a_stream_user_message_survives_the_wire(payload, trailing):
    """It ends where its length says."""
    message = UserMessage(payload)
    assert decode_stream_message(encode_stream_user(message) + trailing) == message


@settings(deadline=None)
@given(stream_messages, st.binary(max_size=20))
def test_bytes_after_a_stream_message_are_ignored(message, trailing):
    """As Go's decoders do."""
    assert decode_stream_message(encode(message) + trailing) == message


@given(st.integers(0, 255), st.binary(max_size=200))
def test_any_bytes_decode_or_raise_wire_error(kind, body):
    """As a packet's message and as a stream's."""
    for decode in (decode_packet_message, decode_stream_message):
        with contextlib.suppress(WireError):
            message = decode(bytes([kind]) + body)
            assert not isinstance(message, PushPull) or len(message.nodes) + len(message.rejected) <= len(body)


@pytest.mark.parametrize("kind", [*range(256)])
def test_each_type_has_its_transport(kind):
    """Packets: 0-5, 8, 11. Streams: 0, 2, 6, 8, 13. All else is not supported there (protocol 1.1)."""

    def supported(decode):
        try:
            decode(bytes([kind]) + b"\x80")
        except WireError as error:
            return error.code != "unsupported_type"
        return True

    assert supported(decode_packet_message) == (kind in {0, 1, 2, 3, 4, 5, 8, 11})
    assert supported(decode_stream_message) == (kind in {0, 2, 6, 8, 13})


def test_a_message_without_a_type_is_refused():
    """Go before 0.2.4 did not survive one."""
    for decode in (decode_packet_message, decode_stream_message):
        with pytest.raises(WireError, match="empty"):
            decode(b"")


@pytest.mark.parametrize("kept", ["source_addr", "source_port", "source_node"])
def test_each_source_field_vanishes_for_itself(kept):
    """Go omits the empty ones, not all or none."""
    value = {"source_addr": V4, "source_port": 7946, "source_node": "node-a"}[kept]
    ping = Ping(1, "node-b", **{kept: value})
    assert set(msgpack.unpackb(encode(ping)[1:], raw=False)) == {
        "Node",
        "SeqNo",
        {"source_addr": "SourceAddr", "source_port": "SourcePort", "source_node": "SourceNode"}[kept],
    }
    assert decode_packet_message(encode(ping)) == ping


def test_numbers_of_messages_wrap():
    """SeqNo and Incarnation are uint32; Go refuses larger ones."""
    assert decode_packet_message(encode(Nack((1 << 32) + 5))) == Nack(5)
    assert decode_packet_message(encode(Suspect((1 << 32) + 5, "a", "b"))) == Suspect(5, "a", "b")


@pytest.mark.parametrize(("changes", "code"), BAD_VALUES)
def test_an_alive_with_a_senseless_value_is_dropped(changes, code):
    """Before it can be stored and gossiped on."""
    with pytest.raises(WireError) as caught:
        decode_packet_message(alive_with(**changes))
    assert caught.value.code == code


@pytest.mark.parametrize("name", BAD_NAMES)
def test_an_alive_of_nobody_is_dropped(name):
    """Nor of a name beyond 255 bytes."""
    with pytest.raises(WireError) as caught:
        decode_packet_message(alive_with(Node=name))
    assert caught.value.code == "bad_name"


def test_the_largest_sane_values_are_accepted():
    """The limits are the last values allowed."""
    message = decode_packet_message(alive_with(Node="n" * 255, Meta=bytes(512), Port=65535, Incarnation=(1 << 32) - 1))
    assert message == Alive((1 << 32) - 1, "n" * 255, V4, 65535, bytes(512))
    assert decode_packet_message(encode(message)) == message


@pytest.mark.parametrize("message", [Ping(1, "n" * 256), Suspect(1, "n" * 256, ""), Dead(1, "a", "n" * 256)])
def test_a_name_beyond_the_limit_is_refused_everywhere(message):
    """Also where it would only be compared."""
    with pytest.raises(WireError) as caught:
        decode_packet_message(encode(message))
    assert caught.value.code == "bad_name"


@pytest.mark.parametrize("addr", [b"\x0a", bytes(5)])
def test_a_ping_must_not_send_its_ack_to_nonsense(addr):
    """A source address is absent, or an address."""
    with pytest.raises(WireError) as caught:
        decode_packet_message(b"\x00" + struct({"SeqNo": 1, "SourceAddr": addr, "SourcePort": 1}))
    assert caught.value.code == "bad_address"


def test_an_error_text_is_bounded():
    """It is only ever logged."""
    assert decode_stream_message(encode(ErrorReply("e" * 1024))) == ErrorReply("e" * 1024)
    with pytest.raises(WireError) as caught:
        decode_stream_message(encode(ErrorReply("e" * 1025)))
    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    ("kind", "name", "bits"),
    [
        (0, "SeqNo", 32),
        (0, "SourcePort", 16),
        (1, "SeqNo", 32),
        (1, "Port", 16),
        (1, "SourcePort", 16),
        (2, "SeqNo", 32),
        (3, "Incarnation", 32),
        (4, "Incarnation", 32),
        (4, "Port", 16),
        (5, "Incarnation", 32),
        (11, "SeqNo", 32),
    ],
)
def test_an_unsigned_field_has_its_size(kind, name, bits):
    """The largest value is read, the next one refused, as in Go."""
    rest = {"Target": V4, "Node": "a", "Addr": V4, "Vsn": VSN}
    decode_packet_message(bytes([kind]) + struct({**rest, name: (1 << bits) - 1}))
    with pytest.raises(WireError) as caught:
        decode_packet_message(bytes([kind]) + struct({**rest, name: 1 << bits}))
    assert caught.value.code == "malformed"


def test_the_largest_user_state_is_read():
    """And ignored by wesher; but it must be consumed."""
    exchange = decode_stream_message(push_pull_of(user_state=bytes(MAX_USER_STATE)))
    assert exchange.user_state == bytes(MAX_USER_STATE)


@pytest.mark.parametrize(
    ("changes", "code"),
    [*BAD_VALUES, ({"State": 4}, "bad_state"), ({"State": -1}, "bad_state"), ({"State": b"x"}, "malformed")],
)
def test_a_bad_entry_costs_only_itself(changes, code):
    """In Go one entry without a sane Vsn fails every push/pull that holds it."""
    exchange = decode_stream_message(push_pull_of(entry_with(**changes), GOOD_ENTRY, user_state=b"state"))
    assert exchange == PushPull(True, (NODE,), b"state")
    assert [error.code for error in exchange.rejected] == [code]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_an_entry_of_nobody_costs_only_itself(name):
    """Its key is Name."""
    exchange = decode_stream_message(push_pull_of(GOOD_ENTRY, entry_with(Name=name)))
    assert exchange.nodes == (NODE,)
    assert [error.code for error in exchange.rejected] == ["bad_name"]


@pytest.mark.parametrize("entry", ["c0", "05", "a0", "93a161c0c0", "dc0041" + "c0" * 0x41])
def test_an_entry_of_another_shape_costs_only_itself(entry):
    """What msgpack can pass over, we pass over."""
    exchange = decode_stream_message(push_pull_of(bytes.fromhex(entry), GOOD_ENTRY))
    assert exchange.nodes == (NODE,)
    assert len(exchange.rejected) == 1


def test_the_reasons_of_rejection_are_no_part_of_a_push_pull():
    """Two exchanges of the same nodes are equal."""
    assert decode_stream_message(push_pull_of(GOOD_ENTRY, b"\xc0")) == decode_stream_message(push_pull_of(GOOD_ENTRY))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (push_pull_of(GOOD_ENTRY, count=2), "truncated"),
        (push_pull_of(GOOD_ENTRY, count=-1), "too_many"),
        (push_pull_of(count=MAX_PUSH_PULL_NODES), "truncated"),
        (push_pull_of(count=MAX_PUSH_PULL_NODES + 1), "too_many"),
        (push_pull_of(count=(1 << 64) - 1), "too_many"),
        (push_pull_of(GOOD_ENTRY, user_state=b"abc", length=4), "truncated"),
        (push_pull_of(GOOD_ENTRY, length=-1), "truncated"),
        (push_pull_of(length=MAX_USER_STATE + 1), "too_large"),
        (push_pull_of(GOOD_ENTRY, b"\xc1", GOOD_ENTRY), "malformed"),
        (push_pull_of(b"\x91" * 5000), "malformed"),
    ],
)
def test_a_push_pull_that_lies_is_refused_whole(data, code):
    """There is no knowing where its next entry would begin."""
    with pytest.raises(WireError) as caught:
        decode_stream_message(data)
    assert caught.value.code == code


def test_a_count_within_the_limit_is_no_reason_to_make_room():
    """Entries are there or they are not."""
    exchange = decode_stream_message(push_pull_of(*[b"\xc0"] * MAX_PUSH_PULL_NODES))
    assert exchange.nodes == ()
    assert {error.code for error in exchange.rejected} == {"bad_name"}
    assert len(exchange.rejected) == MAX_PUSH_PULL_NODES


@pytest.mark.parametrize("length", [-1, 6, 1 << 40, (1 << 64) - 1])
def test_a_user_message_that_lies_about_its_length_is_refused(length):
    """Negative, too long, and what wraps in Go."""
    with pytest.raises(WireError) as caught:
        decode_stream_message(b"\x08" + struct({"UserMsgLen": length}) + b"hello")
    assert caught.value.code == "truncated"


@pytest.mark.parametrize(
    "message",
    [
        Alive(1, "a", V4, 1, b"", vsn=b""),
        Alive(1, "a", V4, 1, b"", vsn=VSN[:3]),
        Alive(1, "a", V4, 1, bytes(513)),
        Alive(1, "a", b"", 1, b""),
        Alive(1, "a", V4, 65536, b""),
        Alive(-1, "a", V4, 1, b""),
        Ping(1, "a", source_port=-1),
        IndirectPing(1, b"", 1, "a", nack=True),
        PushPull(False, (PushNodeState("a", V4, 1, b"", 1, NodeState.DEAD, vsn=bytes(7)),)),
    ],
)
def test_what_old_peers_do_not_survive_is_never_sent(message):
    """A bug of ours must not take down our neighbours."""
    with pytest.raises(Unsendable):
        encode(message)
