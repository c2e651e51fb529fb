"""Inputs on the edge, with what memberlist 0.1.4 and 0.5.1 made of each: what both read, we read alike."""

import json
import re
from pathlib import Path

import pytest

from wesher.wire import codec
from wesher.wire.errors import WireError
from wesher.wire.messages import Ack, Nack, Ping, PushPull, Suspect
from wesher.wire.structs import Fields, read_struct

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
CASES = {entry["case"]: entry for entry in VECTORS["decode_acceptance"]}
OLD, NEW = "0.1.4", "0.5.1"

BOTH_READ = [case for case, entry in CASES.items() if entry[OLD].startswith("OK") and entry[NEW].startswith("OK")]
NEITHER_READS = [case for case, entry in CASES.items() if entry[OLD].startswith("ERR") and entry[NEW].startswith("ERR")]
ONLY_NEW_READS = [case for case in CASES if case not in (*BOTH_READ, *NEITHER_READS)]

STRUCTS = [  # which struct a printed one is
    ("Target", codec.INDIRECT_PING_FIELDS),
    ("SourceAddr", codec.PING_FIELDS),
    ("Vsn", codec.ALIVE_FIELDS),
    ("UserStateLen", codec.PUSH_PULL_FIELDS),
    ("From", codec.ACCUSATION_FIELDS),
    ("Payload", codec.ACK_FIELDS),
    ("SeqNo", codec.NACK_FIELDS),
]
KEYS = [  # which struct a refused one was meant to be
    (b"Payload", codec.ACK_FIELDS),
    (b"SeqNo", codec.NACK_FIELDS),
    (b"Port", codec.ALIVE_FIELDS),
]
OCTETS = {b"Payload", b"Addr", b"Meta", b"Vsn", b"Target", b"SourceAddr"}
FLAGS = {b"Join", b"Nack"}
SIZES = {b"SeqNo": 32, b"Incarnation": 32, b"Port": 16, b"SourcePort": 16}
SIGNED = {b"Nodes", b"UserStateLen"}


def value_of(fields: Fields, name: bytes) -> object:
    """The field, read as its Go type."""
    if name in OCTETS:
        return fields.octets(name)
    if name in FLAGS:
        return fields.flag(name)
    if name in SIGNED:
        return fields.signed(name)
    return fields.unsigned(name, SIZES[name]) if name in SIZES else fields.text(name)


def read_all(names: tuple[bytes, ...], data: bytes) -> dict[bytes, object]:
    """Every field of the struct, read as its Go type."""
    fields = read_struct(names, data)
    return {name: value_of(fields, name) for name in names}


def as_go_prints(value: object) -> str:
    """The way %+v shows it."""
    if isinstance(value, bytes):
        return "[" + " ".join(map(str, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return str(value)


def test_the_cases_are_all_there():
    """So that an emptied file does not pass."""
    assert (len(BOTH_READ), len(NEITHER_READS), len(ONLY_NEW_READS)) == (48, 13, 4)


@pytest.mark.parametrize("case", [*BOTH_READ, *ONLY_NEW_READS])
def test_what_go_reads_is_read_with_the_same_meaning(case):
    """Including bin where text belongs, which only the newer Go reads."""
    printed = CASES[case][NEW]
    names = next(names for key, names in STRUCTS if f"{key}:" in printed)
    values = read_all(names, bytes.fromhex(CASES[case]["hex"]))
    expected = dict(re.findall(r"(\w+):(\[[^]]*]|[^ }]*)", printed))
    assert {name.decode(): as_go_prints(value) for name, value in values.items()} == expected


@pytest.mark.parametrize("case", NEITHER_READS)
def test_what_no_go_reads_is_refused(case):
    """As a WireError, when the field is read at the latest."""
    data = bytes.fromhex(CASES[case]["hex"])
    names = next((names for key, names in KEYS if key in data), codec.ACCUSATION_FIELDS)
    with pytest.raises(WireError):
        read_all(names, data)


def cases_of(*marks: str) -> list[str]:
    """The cases whose printed struct has one of these fields, and is of no earlier kind."""
    kind = {case: next(key for key, _ in STRUCTS if f"{key}:" in CASES[case][NEW]) for case in BOTH_READ}
    return [case for case in BOTH_READ if kind[case] in marks]


@pytest.mark.parametrize("case", cases_of("From", "Payload", "SeqNo", "SourceAddr"))
def test_a_whole_message_of_these_is_read(case):
    """An accusation may be of nobody and a ping for anybody, as in Go."""
    kind = next(key for key, _ in STRUCTS if f"{key}:" in CASES[case][NEW])
    type_byte, expected = {"From": (3, Suspect), "Payload": (2, Ack), "SeqNo": (11, Nack), "SourceAddr": (0, Ping)}[
        kind
    ]
    message = codec.decode_packet_message(bytes([type_byte]) + bytes.fromhex(CASES[case]["hex"]))
    assert isinstance(message, expected)


@pytest.mark.parametrize("case", cases_of("Vsn", "Target", "UserStateLen"))
def test_a_whole_message_of_these_is_insane(case):
    """The structs read; but they are members without a name, targets without an address, counts without entries."""
    kind = next(key for key, _ in STRUCTS if f"{key}:" in CASES[case][NEW])
    type_byte, decode, code = {
        "Vsn": (4, codec.decode_packet_message, "bad_name"),
        "Target": (1, codec.decode_packet_message, "bad_address"),
        "UserStateLen": (6, codec.decode_stream_message, "too_many" if "Nodes:-1" in CASES[case][NEW] else "truncated"),
    }[kind]
    with pytest.raises(WireError) as caught:
        decode(bytes([type_byte]) + bytes.fromhex(CASES[case]["hex"]))
    assert caught.value.code == code


def test_a_push_pull_of_nothing_is_read():
    """An empty map is a header of zeros."""
    assert codec.decode_stream_message(b"\x06\x80") == PushPull(False, ())
