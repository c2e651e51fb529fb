"""Ten bytes before everything else: version, operation, flags, count, number. And how long a message is."""

from __future__ import annotations

import struct

import pytest

from privhelper.protocol import MAX_MESSAGE, Failed, Hello, Op, Reply, ViolationCode
from tests.hostile.case import Case, Ending, put, table
from tests.hostile.cast import DELTA, GAMMA
from tests.hostile.forged import HEADER, MORE, Forged, hello, record, set_of
from tests.hostile.liar import At, Liar
from tests.hostile.stage import Stage

pytestmark = pytest.mark.root

V = ViolationCode
TWO = Forged(Op.SET_PEERS, record(GAMMA) + record(DELTA), 2)
LARGEST = 200_000
"""Bytes: about the most that a socket of the kernel's usual size takes as one message."""


def of_another_version(version: int) -> Forged:
    """A greeting of some other release."""
    return Forged(Op.HELLO, hello(), 1, version=version)


def say_no_more(liar: Liar) -> Reply:
    """A greeting of another release; then wait whether there is more than the answer."""
    liar.ask(of_another_version(0))
    return liar.hear()


@table(
    Case("one byte", At.GREETED, b"\1", V.LENGTH),
    Case("nine bytes, one less than a header", At.GREETED, b"\1\7" + b"\0" * 7, V.LENGTH),
    Case("nine bytes as the first word", At.NEW, b"\1\1" + b"\0" * 7, V.LENGTH),
    Case("zeros", At.NEW, bytes(10), Failed),
    Case("ones", At.GREETED, b"\xff" * 10, V.VERSION),
    Case("a header alone where a record is due", At.NEW, Forged(Op.HELLO, count=1), V.LENGTH),
    Case("a record one byte short", At.NEW, Forged(Op.HELLO, hello(), 1, cut=1), V.LENGTH),
    Case("a record one byte long", At.NEW, Forged(Op.HELLO, hello() + b"\0", 1), V.LENGTH),
    Case("half a peer", At.ADDRESSED, Forged(Op.SET_PEERS, record(GAMMA), 1, cut=68), V.LENGTH),
    Case("a peer and a half", At.ADDRESSED, Forged(Op.SET_PEERS, record(GAMMA) * 2, 2, cut=68), V.LENGTH),
    Case("a peer more than is counted", At.ADDRESSED, Forged(Op.SET_PEERS, TWO.body, 1), V.LENGTH),
    Case("a peer fewer than is counted", At.ADDRESSED, Forged(Op.SET_PEERS, TWO.body, 3), V.LENGTH),
    Case("512 counted, none there", At.ADDRESSED, Forged(Op.SET_PEERS, b"", 512), V.LENGTH),
    Case("the longest message and a byte", At.ADDRESSED, Forged(Op.SET_PEERS, bytes(MAX_MESSAGE - 9), 512), V.LENGTH),
    Case("the longest that a socket takes", At.ADDRESSED, Forged(Op.SET_PEERS, bytes(LARGEST), 512), V.LENGTH),
    Case("the longest as the first word", At.NEW, b"\1\1" + bytes(LARGEST), V.LENGTH),
    Case("BYE with a byte of its own", At.GREETED, Forged(Op.BYE, b"\0"), V.LENGTH),
    Case("WRITE_HOSTS with a path", At.CONFIGURED, Forged(Op.WRITE_HOSTS, b"/etc/shadow"), V.LENGTH),
    Case("the empty packet is a goodbye without a word", At.CONFIGURED, b"", Ending.HUNG_UP),
    Case("the empty packet as the first word", At.NEW, b"", Ending.HUNG_UP),
)
def test_length(stage: Stage, case: Case) -> None:
    """Exact, or nothing of the message is looked at."""
    put(stage, case)


@table(
    *(Case(f"version {n}", At.GREETED, Forged(Op.BYE, version=n), V.VERSION) for n in (0, 2, 127, 255)),
    *(
        Case(f"version {n} as the first word is told so and let go", At.NEW, of_another_version(n), Failed)
        for n in (0, 2, 255)
    ),
    Case("no more is heard after that", At.NEW, say_no_more, Ending.HUNG_UP),
)
def test_version(stage: Stage, case: Case) -> None:
    """Where an agent could be of another release, at its first word, it is told; everywhere else it is a byte."""
    put(stage, case)


@table(
    *(Case(f"operation {n}", At.GREETED, Forged(n), V.OPERATION) for n in (0, 8, 9, 127, 129, 192, 255)),
    Case("the helper's own EVENT", At.GREETED, Forged(Op.EVENT, b"\1", 1), V.OPERATION),
    Case("EVENT as the first word", At.NEW, Forged(Op.EVENT, b"\1", 1, sequence=0), V.OPERATION),
)
def test_operation(stage: Stage, case: Case) -> None:
    """Seven, and nothing that is sent from the other side."""
    put(stage, case)


@table(
    *(
        Case(f"flag {bit} of HELLO", At.NEW, Forged(Op.HELLO, hello(), 1, flags=1 << bit), V.FLAGS)
        for bit in (0, 1, 2, 3, 7, 8, 15)
    ),
    *(
        Case(f"flag {bit} of SET_PEERS", At.ADDRESSED, Forged(Op.SET_PEERS, record(GAMMA), 1, 1 << bit), V.FLAGS)
        for bit in (1, 2, 3, 8, 15)
    ),
    Case("all flags", At.GREETED, Forged(Op.STATUS, b"\0\0", 1, flags=0xFFFF), V.FLAGS),
    *(
        Case(f"MORE of {op.name}", At.CONFIGURED, Forged(op, body, count, MORE), V.FLAGS)
        for op, body, count in (
            (Op.IN_FORCE, b"\0\0", 1),
            (Op.SET_ADDR, b"\0", 1),
            (Op.WRITE_HOSTS, b"", 0),
            (Op.STATUS, b"\0\0", 1),
            (Op.BYE, b"", 0),
        )
    ),
)
def test_flags(stage: Stage, case: Case) -> None:
    """MORE of SET_PEERS, and no other."""
    put(stage, case)


@table(
    Case("HELLO of nothing", At.NEW, Forged(Op.HELLO, b"", 0), V.COUNT),
    Case("HELLO of two builds", At.NEW, Forged(Op.HELLO, hello() * 2, 2), V.COUNT),
    Case("HELLO of 65535", At.NEW, Forged(Op.HELLO, hello(), 65535), V.COUNT),
    Case("IN_FORCE of nothing", At.GREETED, Forged(Op.IN_FORCE, b"", 0), V.COUNT),
    Case("IN_FORCE of two parts", At.GREETED, Forged(Op.IN_FORCE, b"\0\0\0\1", 2), V.COUNT),
    Case("STATUS of nothing", At.GREETED, Forged(Op.STATUS, b"", 0), V.COUNT),
    Case("SET_ADDR of nothing", At.GREETED, Forged(Op.SET_ADDR, b"", 0), V.COUNT),
    Case("SET_ADDR of two", At.GREETED, Forged(Op.SET_ADDR, b"\0\1", 2), V.COUNT),
    Case("WRITE_HOSTS of one", At.CONFIGURED, Forged(Op.WRITE_HOSTS, b"\0\0", 1), V.COUNT),
    Case("BYE of one", At.GREETED, Forged(Op.BYE, b"", 1), V.COUNT),
    Case("SET_PEERS of 513", At.ADDRESSED, Forged(Op.SET_PEERS, record(GAMMA) * 511, 513), V.COUNT),
    Case("SET_PEERS of 65535", At.ADDRESSED, Forged(Op.SET_PEERS, record(GAMMA), 65535), V.COUNT),
    Case("a part of a set that has none, and more to come", At.ADDRESSED, set_of(more=True), V.COUNT),
)
def test_count(stage: Stage, case: Case) -> None:
    """What each operation carries is fixed, but for SET_PEERS' 512 at most."""
    put(stage, case)


@table(
    *(
        Case(f"{n} as the first", At.NEW, Forged(Op.HELLO, hello(), 1, sequence=n), V.SEQUENCE)
        for n in (0, 2, 0x01000000, 0xFFFFFFFF)
    ),
    Case("the same twice", At.GREETED, Forged(Op.BYE, sequence=1), V.SEQUENCE),
    Case("0 in between", At.GREETED, Forged(Op.BYE, sequence=0), V.SEQUENCE),
    Case("one left out", At.GREETED, Forged(Op.BYE, sequence=3), V.SEQUENCE),
    Case("backwards", At.CONFIGURED, Forged(Op.BYE, sequence=3), V.SEQUENCE),
    Case("the last of all", At.GREETED, Forged(Op.BYE, sequence=0xFFFFFFFF), V.SEQUENCE),
    Case("little end first", At.GREETED, Forged(Op.BYE, sequence=2 << 24), V.SEQUENCE),
)
def test_number(stage: Stage, case: Case) -> None:
    """1, 2, 3: each request once and in its turn."""
    put(stage, case)


@table(
    Case("a header of the other byte order", At.NEW, HEADER.pack(1, 1, 0, 0x0100, 1) + hello(), V.COUNT),
    Case("JSON", At.NEW, b'{"op": "hello", "build": "liar"}', Failed),
    Case("a pickle", At.NEW, b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system", Failed),
    Case("a request of wireguard-go's", At.GREETED, b"get=1\n\n", V.LENGTH),
    Case("a longer one of wireguard-go's", At.GREETED, b"set=1\nreplace_peers=true\n\n", V.VERSION),
    Case("netlink", At.GREETED, struct.pack("=IHHII", 32, 16, 0x605, 2, 0) + bytes(16), V.VERSION),
    Case("a gossip packet", At.NEW, bytes(range(256)) * 5, Failed),
    Case("text", At.NEW, b"GET /status HTTP/1.1\r\n\r\n", Failed),
    Case(
        "HELLO and HELLO in one", At.NEW, Forged(Op.HELLO, hello() + HEADER.pack(1, 1, 0, 1, 2) + hello(), 1), V.LENGTH
    ),
)
def test_other_languages(stage: Stage, case: Case) -> None:
    """Nothing else is spoken."""
    put(stage, case)


def test_who_is_honest_after_a_violation_finds_everything_new(stage: Stage) -> None:
    """The next agent has nothing of the one that lied: another key, no peer."""
    stage.serve()
    first = stage.connect(At.CONFIGURED)
    before = stage.ours()
    first.tell(b"\1")
    assert stage.helper.wait(10) == 1
    assert stage.errors() == ["ERROR helper: violation: length"]
    stage.serve()
    second = stage.connect(At.NEW)
    pinned = second.ask(Hello("honest"))
    assert pinned.in_force == 0
    assert before.key != stage.ours().key
    first.close()
    second.close()
    stage.assert_at_rest()
