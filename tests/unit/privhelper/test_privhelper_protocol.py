"""The privileged interface: every message survives its bytes; what is inexact is a violation, with its code."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from privhelper import protocol
from privhelper.protocol import (
    FIXED_ADDRESS,
    MAX_MESSAGE,
    MAX_NAME,
    MAX_PART,
    MAX_PEERS_LIMIT,
    Backend,
    Bye,
    Event,
    Failed,
    Farewell,
    Flag,
    Hello,
    HostsResult,
    HostsWritten,
    InForce,
    Op,
    OwnAddress,
    Peer,
    PeersInForce,
    PeerStatus,
    PinnedPolicy,
    Reply,
    Request,
    SetAddr,
    SetPeers,
    Staged,
    Status,
    StatusPart,
    Verdicts,
    Violation,
    WriteHosts,
    decode_reply,
    decode_request,
    encode_event,
    encode_reply,
    encode_request,
)
from tests.unit.privhelper.strategies import keys, replies, requests, sequences

HEADER = 10
RECORD = 136
KEY = bytes(range(32))
PEER = Peer(KEY, IPv4Address("192.0.2.7"), IPv4Address("10.1.2.3"), "node-a")
PEER_V6 = Peer(KEY, IPv6Address("2001:db8::7"), IPv6Address("fd00::3"), "node-a")
POLICY = PinnedPolicy(
    "node-z", "wgoverlay", IPv4Network("10.0.0.0/8"), 51820, 1420, 1000, 25, True, Backend.USERSPACE, KEY, 3, "mesh"
)
STATUS = PeerStatus(KEY, IPv4Address("192.0.2.7"), 1_700_000_000, 5, 6)
NEVER = PeerStatus(KEY, None, 0, 0, 0)

# Offsets in a peer's record.
ENDPOINT_FAMILY, ENDPOINT, OVERLAY_FAMILY, OVERLAY, NAME_LENGTH, NAME, ZERO = 32, 33, 49, 50, 66, 67, 131


def request_code(data: bytes) -> str:
    """The violation that `data` is as a request."""
    with pytest.raises(Violation) as raised:
        decode_request(data)
    return raised.value.code.value


def reply_code(data: bytes) -> str:
    """The violation that `data` is as a reply."""
    with pytest.raises(Violation) as raised:
        decode_reply(data)
    return raised.value.code.value


def changed(data: bytes, offset: int, new: bytes) -> bytes:
    """`data` with `new` at `offset`."""
    assert offset + len(new) <= len(data), "the change lies outside the message"
    assert data[offset : offset + len(new)] != new, "the change changes nothing"
    return data[:offset] + new + data[offset + len(new) :]


def with_header(data: bytes, **fields: int) -> bytes:
    """`data` with other header fields: version, op, flags, count, sequence."""
    names = ("version", "op", "flags", "count", "sequence")
    old = dict(zip(names, struct.unpack_from("!BBHHI", data), strict=True))
    return struct.pack("!BBHHI", *(old | fields).values()) + data[HEADER:]


def in_record(data: bytes, offset: int, new: bytes) -> bytes:
    """`data` with `new` at `offset` of its first record."""
    return changed(data, HEADER + offset, new)


@given(sequences, requests)
@example(0, SetPeers((), False))
@example(2**32 - 1, SetAddr(FIXED_ADDRESS))
@example(1, SetPeers((PEER, PEER_V6), True))
def test_every_request_survives_its_bytes(sequence: int, request_: Request) -> None:
    """Decoding undoes encoding."""
    assert (sequence, request_) == decode_request(encode_request(sequence, request_))


@given(sequences, replies)
@example(1, POLICY)
@example(1, StatusPart((STATUS, NEVER), True))
@example(1, Verdicts(((255, 255),) * 2 * MAX_PEERS_LIMIT))
def test_every_reply_survives_its_bytes(sequence: int, reply: Reply) -> None:
    """Decoding undoes encoding."""
    assert (sequence, reply) == decode_reply(encode_reply(sequence, reply))


@pytest.mark.parametrize("event", Event)
def test_every_event_survives_its_bytes(event: Event) -> None:
    """An event carries no number of its own."""
    assert (0, event) == decode_reply(encode_event(event))


def test_a_request_has_the_documented_layout() -> None:
    """The bytes are fixed: an agent is upgraded under a running helper."""
    data = encode_request(7, SetPeers((PEER,), True))
    assert bytes.fromhex("01 04 0001 0001 00000007") == data[:HEADER]
    record = KEY + b"\4\xc0\0\2\7" + bytes(12) + b"\4\x0a\1\2\3" + bytes(12) + b"\6node-a" + bytes(58) + bytes(5)
    assert record == data[HEADER:]


def test_the_numbers_on_the_socket_are_what_they_were() -> None:
    """Each is known to whichever half is the older one; another meaning takes another number, or another version."""
    numbers = {kind: {member.name: member.value for member in kind} for kind in (Op, Flag, Event, Backend, HostsResult)}
    assert numbers == {
        Op: {
            **{"HELLO": 1, "IN_FORCE": 2, "SET_ADDR": 3, "SET_PEERS": 4},
            **{"WRITE_HOSTS": 5, "STATUS": 6, "BYE": 7, "EVENT": 128},
        },
        Flag: {"MORE": 1, "REPLY": 2, "FAILED": 4},
        Event: {"TERMINATE": 1, "RELOAD": 2, "REPAIRED": 3},
        Backend: {"KERNEL": 1, "USERSPACE": 2},
        HostsResult: {"WRITTEN": 0, "DISABLED": 1, "REPLACED": 2},
    }
    assert (1, 64, 15, 512, 4000, 255) == (
        protocol.VERSION,
        MAX_NAME,
        protocol.MAX_INTERFACE,
        MAX_PART,
        MAX_PEERS_LIMIT,
        FIXED_ADDRESS,
    )


def test_an_interface_name_that_does_not_fit_is_not_cut() -> None:
    """Another interface would be meant."""
    assert (1, replace(POLICY, interface="x" * 15)) == decode_reply(
        encode_reply(1, replace(POLICY, interface="x" * 15))
    )
    with pytest.raises(ValueError, match="16 bytes"):
        encode_reply(1, replace(POLICY, interface="x" * 16))


def test_the_policy_has_the_documented_layout() -> None:
    """Two records: what was pinned, then the device."""
    data = encode_reply(1, POLICY)
    assert bytes.fromhex("01 01 0002 0002 00000001") == data[:HEADER]
    pinned = (
        b"\6node-z"
        + bytes(58)
        + b"\x09wgoverlay"
        + bytes(6)
        + b"\4\x0a"
        + bytes(15)
        + b"\x08\xca\x6c\x05\x8c\x03\xe8\0\x19\1"
    )
    assert pinned + b"\2" + KEY + b"\0\3\4mesh" + bytes(60) + bytes(8) == data[HEADER:]


def test_a_policy_without_a_suffix_has_zeros_in_its_place() -> None:
    """No text at all is one form and not a violation, as it is everywhere else."""
    data = encode_reply(1, replace(POLICY, hosts_suffix=""))
    assert KEY + b"\0\3" + bytes(73) == data[-107:]
    assert (1, replace(POLICY, hosts_suffix="")) == decode_reply(data)


REQUESTS: dict[str, bytes] = {
    "hello": encode_request(1, Hello("0.1.0")),
    "in_force": encode_request(1, InForce(0)),
    "set_addr": encode_request(1, SetAddr(0)),
    "set_peers": encode_request(1, SetPeers((PEER,))),
    "set_peers_v6": encode_request(1, SetPeers((PEER_V6,))),
    "empty_set": encode_request(1, SetPeers(())),
    "write_hosts": encode_request(1, WriteHosts()),
    "status": encode_request(1, Status(0)),
    "bye": encode_request(1, Bye()),
}
REPLIES: dict[str, bytes] = {
    "policy": encode_reply(1, POLICY),
    "in_force": encode_reply(1, PeersInForce((PEER,), False)),
    "own_address": encode_reply(1, OwnAddress(PEER.overlay_addr)),
    "staged": encode_reply(1, Staged()),
    "verdicts": encode_reply(1, Verdicts(((0, 0), (1, 1)))),
    "hosts": encode_reply(1, HostsWritten(HostsResult.WRITTEN)),
    "status": encode_reply(1, StatusPart((STATUS,), False)),
    "never": encode_reply(1, StatusPart((NEVER,), False)),
    "farewell": encode_reply(1, Farewell()),
    "failed": encode_reply(1, Failed(Op.SET_PEERS, 5)),
    "event": encode_event(Event.TERMINATE),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_of_any_other_length_is_refused(name: str) -> None:
    """One byte more and one byte less, with the count as it was."""
    data = REQUESTS[name]
    assert "length" == request_code(data + b"\0")
    assert "length" == request_code(data[:-1])


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_of_any_other_length_is_refused(name: str) -> None:
    """One byte more and one byte less, with the count as it was."""
    data = REPLIES[name]
    assert "length" == reply_code(data + b"\0")
    assert "length" == reply_code(data[:-1])


@pytest.mark.parametrize("name", set(REQUESTS) - {"set_peers", "set_peers_v6", "empty_set"})
@pytest.mark.parametrize("by", [-1, 1])
def test_a_request_with_another_count_is_refused(name: str, by: int) -> None:
    """All but SET_PEERS have one count."""
    count = struct.unpack_from("!H", REQUESTS[name], 4)[0]
    assert "count" == request_code(with_header(REQUESTS[name], count=(count + by) & 0xFFFF))


@pytest.mark.parametrize("count", [0, 2, 512])
def test_a_set_whose_count_does_not_match_its_length_is_refused(count: int) -> None:
    """One record is there."""
    assert "length" == request_code(with_header(REQUESTS["set_peers"], count=count))


@pytest.mark.parametrize("name", set(REPLIES) - {"in_force", "verdicts", "status", "never"})
@pytest.mark.parametrize("by", [-1, 1])
def test_a_reply_with_another_count_is_refused(name: str, by: int) -> None:
    """All but the lists have one count."""
    count = struct.unpack_from("!H", REPLIES[name], 4)[0]
    assert "count" == reply_code(with_header(REPLIES[name], count=(count + by) & 0xFFFF))


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("version", [0, 2, 255])
def test_a_request_of_another_version_is_refused(name: str, version: int) -> None:
    """Nothing else of it is looked at."""
    assert "version" == request_code(with_header(REQUESTS[name], version=version, op=99))


@pytest.mark.parametrize("op", [0, 8, 127, 129, 255])
def test_an_unknown_operation_is_refused(op: int) -> None:
    """In both directions."""
    assert "operation" == request_code(with_header(REQUESTS["bye"], op=op))
    assert "operation" == reply_code(with_header(REPLIES["farewell"], op=op))


def test_an_event_is_no_request() -> None:
    """Only the helper sends one."""
    assert "operation" == request_code(encode_event(Event.TERMINATE))


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("flag", [Flag.REPLY, Flag.FAILED, 8, 0x8000])
def test_a_request_with_a_flag_it_may_not_have_is_refused(name: str, flag: int) -> None:
    """REPLY and FAILED belong to the helper; the others do not exist."""
    assert "flags" == request_code(with_header(REQUESTS[name], flags=flag))


@pytest.mark.parametrize("name", set(REQUESTS) - {"set_peers", "set_peers_v6", "empty_set"})
def test_only_a_set_of_peers_comes_in_parts(name: str) -> None:
    """MORE on any other request is refused."""
    assert "flags" == request_code(with_header(REQUESTS[name], flags=Flag.MORE))


def test_an_empty_part_with_more_to_come_is_refused() -> None:
    """Else an agent could stage nothing for ever."""
    assert "count" == request_code(with_header(REQUESTS["empty_set"], flags=Flag.MORE))


@pytest.mark.parametrize("attempt", [16, 17, 254])
def test_a_sixteenth_attempt_is_refused(attempt: int) -> None:
    """0 to 15, or 255 for the pinned address."""
    assert "attempt" == request_code(in_record(REQUESTS["set_addr"], 0, bytes((attempt,))))


@pytest.mark.parametrize(
    ("name", "offset", "new", "code"),
    [
        ("hello", 0, b"\x00", "padding"),  # the text is still there behind a length of 0
        ("hello", 0, b"\x04", "padding"),
        ("hello", 0, b"\x06", "text"),  # a NUL becomes part of the text
        ("hello", 0, b"\x20", "padding"),
        ("hello", 1, b"\x20", "text"),
        ("hello", 5, b"\x7f", "text"),
        ("hello", 6, b"x", "padding"),
        ("hello", 31, b"x", "padding"),
        ("set_peers", ENDPOINT_FAMILY, b"\x05", "address"),
        ("set_peers", ENDPOINT_FAMILY, b"\x00", "address"),
        ("set_peers", ENDPOINT + 4, b"\x01", "padding"),
        ("set_peers", ENDPOINT + 15, b"\x01", "padding"),
        ("set_peers", OVERLAY_FAMILY, b"\x05", "address"),
        ("set_peers", OVERLAY_FAMILY, b"\xff", "address"),
        ("set_peers", OVERLAY + 4, b"\x01", "padding"),
        ("set_peers", OVERLAY + 15, b"\x01", "padding"),
        ("set_peers_v6", ENDPOINT_FAMILY, b"\x04", "padding"),
        ("set_peers_v6", OVERLAY_FAMILY, b"\x04", "padding"),
        ("set_peers", NAME_LENGTH, b"\x00", "padding"),
        ("set_peers", NAME_LENGTH, b"\x05", "padding"),
        ("set_peers", NAME_LENGTH, b"\x07", "text"),
        ("set_peers", NAME_LENGTH, b"\x41", "padding"),
        ("set_peers", NAME_LENGTH, b"\xff", "padding"),
        ("set_peers", NAME, b"\x00", "text"),
        ("set_peers", NAME, b"\x20", "text"),
        ("set_peers", NAME + 5, b"\x7f", "text"),
        ("set_peers", NAME + 5, b"\xc3", "text"),
        ("set_peers", NAME + 5, b"\n", "text"),
        ("set_peers", NAME + 6, b"x", "padding"),
        ("set_peers", NAME + 63, b"x", "padding"),
        *(("set_peers", ZERO + i, b"\x01", "padding") for i in range(5)),
    ],
)
def test_a_request_with_one_corrupted_field_is_refused(name: str, offset: int, new: bytes, code: str) -> None:
    """Each field has one form for each meaning."""
    assert code == request_code(in_record(REQUESTS[name], offset, new))


def test_a_name_of_no_bytes_is_refused() -> None:
    """Length 0 and nothing behind it."""
    assert "text" == request_code(in_record(REQUESTS["set_peers"], NAME_LENGTH, bytes(65)))


def test_a_name_of_65_bytes_is_refused_by_both_ends() -> None:
    """64 is Linux' limit: one more does not encode, and its length does not decode."""
    longest = encode_request(1, SetPeers((Peer(KEY, PEER.endpoint, PEER.overlay_addr, "x" * MAX_NAME),)))
    assert "x" * 64 == decode_request(longest)[1].peers[0].name  # type: ignore[union-attr]
    assert "padding" == request_code(in_record(longest, NAME_LENGTH, b"\x41"))
    with pytest.raises(ValueError, match="65 bytes"):
        encode_request(1, SetPeers((Peer(KEY, PEER.endpoint, PEER.overlay_addr, "x" * 65),)))


def test_a_build_of_32_bytes_is_refused_by_both_ends() -> None:
    """31 is the longest, and it fills its field."""
    longest = encode_request(1, Hello("x" * 31))
    assert (1, Hello("x" * 31)) == decode_request(longest)
    assert "padding" == request_code(in_record(longest, 0, b"\x20"))
    with pytest.raises(ValueError, match="32 bytes"):
        encode_request(1, Hello("x" * 32))


POLICY_HOSTS, DEVICE = 107, 108  # offsets in the policy's reply: hosts on; the second record
SUFFIX = DEVICE + 35  # its length, then its text


@pytest.mark.parametrize(
    ("switches", "hosts", "static", "pinned"),
    [
        (0, False, False, False),
        (1, True, False, False),
        (2, False, True, False),
        (3, True, True, False),
        (6, False, True, True),
        (7, True, True, True),
    ],
)
def test_the_switches_of_the_policy_are_one_byte(switches: int, hosts: bool, static: bool, pinned: bool) -> None:
    """An agent that knows only the first stops at the others, which it could not follow."""
    policy = replace(POLICY, etc_hosts=hosts, static_addresses=static, address_is_pinned=pinned)
    data = encode_reply(1, policy)
    assert data[HEADER + POLICY_HOSTS] == switches
    assert (1, policy) == decode_reply(data)


@pytest.mark.parametrize(
    ("name", "offset", "new", "code"),
    [
        ("policy", 0, b"\x41", "padding"),
        ("policy", 1, b" ", "text"),
        ("policy", 7, b"x", "padding"),
        ("policy", 65, b"\x10", "padding"),
        ("policy", 66 + 9, b"x", "padding"),
        ("policy", 81, b"\x05", "address"),
        ("policy", 82 + 3, b"\x01", "address"),  # host bits
        ("policy", 82 + 4, b"\x01", "padding"),
        ("policy", 98, b"\x21", "address"),  # /33
        ("policy", POLICY_HOSTS, b"\x04", "padding"),  # an address that is pinned, and no static addresses
        ("policy", POLICY_HOSTS, b"\x05", "padding"),
        ("policy", POLICY_HOSTS, b"\x08", "padding"),
        ("policy", POLICY_HOSTS, b"\xff", "padding"),
        ("policy", DEVICE, b"\x03", "operation"),
        ("policy", SUFFIX, b"\x00", "padding"),  # the text is still there behind a length of 0
        ("policy", SUFFIX, b"\x05", "text"),
        ("policy", SUFFIX, b"\x41", "padding"),
        ("policy", SUFFIX + 1, b" ", "text"),
        ("policy", SUFFIX + 5, b"x", "padding"),
        ("policy", SUFFIX + 65, b"\x01", "padding"),
        ("policy", DEVICE + 107, b"\x01", "padding"),
        ("in_force", ZERO, b"\x01", "padding"),
        ("in_force", ENDPOINT_FAMILY, b"\x05", "address"),
        ("own_address", 0, b"\x00", "address"),
        ("own_address", 0, b"\x05", "address"),
        ("own_address", 5, b"\x01", "padding"),
        ("hosts", 0, b"\x03", "operation"),
        ("status", 32, b"\x05", "address"),
        ("status", 37, b"\x01", "padding"),
        ("status", 49, b"\x01", "padding"),
        ("status", 55, b"\x01", "padding"),
        ("never", 33, b"\x01", "padding"),
        ("never", 48, b"\x01", "padding"),
        ("event", 0, b"\x00", "operation"),
        ("event", 0, b"\x04", "operation"),
    ],
)
def test_a_reply_with_one_corrupted_field_is_refused(name: str, offset: int, new: bytes, code: str) -> None:
    """The agent is as strict."""
    assert code == reply_code(in_record(REPLIES[name], offset, new))


@pytest.mark.parametrize("name", set(REPLIES) - {"event"})
def test_a_reply_without_its_flag_is_refused(name: str) -> None:
    """A request that comes back is no reply."""
    flags = struct.unpack_from("!H", REPLIES[name], 2)[0]
    assert "flags" == reply_code(with_header(REPLIES[name], flags=flags & ~Flag.REPLY))


@pytest.mark.parametrize("name", ["policy", "own_address", "hosts", "farewell", "failed"])
def test_more_stands_only_on_replies_in_parts(name: str) -> None:
    """A failure has no parts either."""
    flags = struct.unpack_from("!H", REPLIES[name], 2)[0]
    assert "flags" == reply_code(with_header(REPLIES[name], flags=flags | Flag.MORE))


@pytest.mark.parametrize("fields", [{"flags": Flag.REPLY}, {"flags": Flag.MORE}, {"sequence": 1}])
def test_an_event_with_flags_or_a_number_is_refused(fields: dict[str, int]) -> None:
    """Nobody asked for it."""
    assert "flags" == reply_code(with_header(REPLIES["event"], **fields))


def test_513_records_are_refused() -> None:
    """By their number where they would fit by their bytes; by their length where not."""
    assert "length" == request_code(encode_request(1, SetPeers((PEER,) * (MAX_PART + 1))))
    assert "count" == request_code(with_header(REQUESTS["set_peers"], count=MAX_PART + 1))
    assert "count" == reply_code(encode_reply(1, StatusPart((NEVER,) * (MAX_PART + 1), False)))


def test_more_verdicts_than_a_set_may_have_records_are_refused() -> None:
    """Twice the highest --max-peers."""
    assert "count" == reply_code(encode_reply(1, Verdicts(((0, 0),) * (2 * MAX_PEERS_LIMIT + 1))))


def test_the_longest_message_is_accepted_and_one_byte_more_refused() -> None:
    """512 records of the longest shape."""
    data = encode_request(1, SetPeers((PEER,) * MAX_PART))
    assert MAX_MESSAGE == len(data) == HEADER + 512 * RECORD
    assert MAX_PART == len(decode_request(data)[1].peers)  # type: ignore[union-attr]
    assert "length" == request_code(data + b"\0")
    assert "length" == reply_code(encode_reply(1, PeersInForce((PEER,) * MAX_PART, True)) + b"\0")


@pytest.mark.parametrize("length", range(HEADER))
def test_less_than_a_header_is_refused(length: int) -> None:
    """From nothing at all."""
    assert "length" == request_code(REQUESTS["bye"][:length])
    assert "length" == reply_code(REPLIES["farewell"][:length])


def test_no_record_is_longer_than_136_bytes() -> None:
    """Neither in what is sent nor in what the module declares."""
    shapes = {name: shape.size for name, shape in vars(protocol).items() if isinstance(shape, struct.Struct)}
    assert len(shapes) >= 8
    assert {} == {name: size for name, size in shapes.items() if size > RECORD}
    for data in (*REQUESTS.values(), *REPLIES.values()):
        count = struct.unpack_from("!H", data, 4)[0]
        assert len(data) - HEADER <= RECORD * count


@st.composite
def nearly_messages(draw: st.DrawFn) -> bytes:
    """Bytes that get past the first checks: a true header over anything, or a true message with a few bytes changed."""
    if draw(st.booleans()):
        op, flags, count = draw(st.sampled_from(Op)), draw(st.integers(0, 7)), draw(st.integers(0, 3))
        size = draw(st.sampled_from([0, 1, 2, 17, 32, 80, 108, RECORD]))
        body = draw(st.binary(min_size=size * count, max_size=size * count))
        return struct.pack("!BBHHI", 1, op, flags, count, draw(sequences)) + body
    data = bytearray(draw(st.sampled_from([*REQUESTS.values(), *REPLIES.values()])))
    for _ in range(draw(st.integers(1, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@given(st.binary(max_size=300) | nearly_messages())
def test_arbitrary_bytes_are_a_request_or_a_violation(data: bytes) -> None:
    """Nothing else is ever raised, and what is taken has no second form."""
    try:
        sequence, request_ = decode_request(data)
    except Violation:
        return
    assert data == encode_request(sequence, request_)


@given(st.binary(max_size=300) | nearly_messages())
def test_arbitrary_bytes_are_a_reply_or_a_violation(data: bytes) -> None:
    """Nothing else is ever raised, and what is taken has no second form."""
    try:
        sequence, reply = decode_reply(data)
    except Violation:
        return
    assert data == (encode_event(reply) if isinstance(reply, Event) else encode_reply(sequence, reply))


@given(keys)
def test_a_violation_says_its_code_and_nothing_of_the_message(key: bytes) -> None:
    """The helper logs it; an agent must not be able to write into that log."""
    with pytest.raises(Violation) as raised:
        decode_request(in_record(encode_request(1, SetPeers((PEER,))), 0, key[:31] + b"\xee")[:-1])
    assert "length" == str(raised.value)
