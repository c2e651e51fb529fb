"""What stands in a record: one form for each meaning, zeros where nothing stands, text that is text."""

from __future__ import annotations

import struct

import pytest

from privhelper.protocol import Op, ViolationCode
from tests.hostile.case import Case, put, table
from tests.hostile.cast import DELTA, GAMMA
from tests.hostile.forged import Forged, hello, packed, record, set_of
from tests.hostile.liar import At
from tests.hostile.stage import Stage

pytestmark = pytest.mark.root

V = ViolationCode


def greeting(build: bytes, **wrong: object) -> Forged:
    """HELLO with such a build."""
    return Forged(Op.HELLO, hello(build, **wrong), 1)  # type: ignore[arg-type]


NOT_TEXT = {
    "a NUL": b"li\0ar",
    "a space": b"li ar",
    "a line feed": b"li\nar",
    "a carriage return": b"li\rar",
    "a tab": b"li\tar",
    "an escape": b"\x1b[2J",
    "DEL": b"li\x7far",
    "Latin-1": b"li\xe4r",
    "UTF-8": "liär".encode(),
    "UTF-8's overlong NUL": b"li\xc0\x80r",
    "the control sequence introducer": b"\x9b2J",
    "only high bytes": b"\xff\xfe\xfd",
}


@table(
    *(Case(f"{name} in the build", At.NEW, greeting(text), V.TEXT) for name, text in NOT_TEXT.items()),
    Case("no build", At.NEW, greeting(b""), V.TEXT),
    Case("a build longer than its field", At.NEW, greeting(b"liar", length=32), V.PADDING),
    Case("a build of 255", At.NEW, greeting(b"liar", length=255), V.PADDING),
    Case("something after the build", At.NEW, greeting(b"liar", length=3), V.PADDING),
    Case("something at the field's end", At.NEW, greeting(b"liar", padding=bytes(26) + b"x"), V.PADDING),
    Case("zeros as the build", At.NEW, greeting(bytes(4)), V.TEXT),
)
def test_build(stage: Stage, case: Case) -> None:
    """A text of 1 to 31 printable bytes."""
    put(stage, case)


@table(
    *(
        Case(f"attempt {n}", At.GREETED, Forged(Op.SET_ADDR, bytes((n,)), 1), V.ATTEMPT)
        for n in (16, 17, 32, 127, 128, 254, 255)
    ),
    Case("attempt 16 when an address is in force", At.CONFIGURED, Forged(Op.SET_ADDR, b"\x10", 1), V.ATTEMPT),
    Case("an address in place of an attempt", At.GREETED, Forged(Op.SET_ADDR, packed("10.77.0.9", 4), 1), V.LENGTH),
)
def test_attempt(stage: Stage, case: Case) -> None:
    """0 to 15; 255 means an address that was pinned, and none was."""
    put(stage, case)


@table(
    *(
        Case(f"{name} in a name", At.ADDRESSED, set_of(record(GAMMA, name=text)), V.TEXT)
        for name, text in NOT_TEXT.items()
    ),
    Case("a line of its own for the hosts file", At.ADDRESSED, set_of(record(GAMMA, name=b"a\n1.2.3.4 bank")), V.TEXT),
    Case("no name", At.ADDRESSED, set_of(record(GAMMA, name=b"")), V.TEXT),
    Case("a name of 65", At.ADDRESSED, set_of(record(GAMMA, name=b"a" * 64, length=65)), V.PADDING),
    Case("a name of 255", At.ADDRESSED, set_of(record(GAMMA, length=255)), V.PADDING),
    Case("a name shorter than what stands there", At.ADDRESSED, set_of(record(GAMMA, length=1)), V.PADDING),
    Case("a name longer than what stands there", At.ADDRESSED, set_of(record(GAMMA, length=64)), V.TEXT),
    Case("a word behind the name's NUL", At.ADDRESSED, set_of(record(GAMMA, name=b"a\0x", length=1)), V.PADDING),
    *(
        Case(f"zero byte {i} set", At.ADDRESSED, set_of(record(GAMMA, zero=bytes(i) + b"\1")), V.PADDING)
        for i in range(5)
    ),
    *(
        Case(f"endpoint of family {family}", At.ADDRESSED, set_of(record(GAMMA, family=family)), V.ADDRESS)
        for family in (0, 2, 5, 10, 255)
    ),
    *(
        Case(
            f"overlay address of family {family}", At.ADDRESSED, set_of(record(GAMMA, overlay_family=family)), V.ADDRESS
        )
        for family in (0, 2, 10, 255)
    ),
    Case("IPv4 endpoint and a byte", At.ADDRESSED, set_of(record(GAMMA, endpoint=b"\xc0\0\2\1\1")), V.PADDING),
    Case(
        "IPv4 endpoint and a port",
        At.ADDRESSED,
        set_of(record(GAMMA, endpoint=b"\xc0\0\2\1" + bytes(10) + b"\xca\x6c")),
        V.PADDING,
    ),
    Case("IPv6 endpoint called IPv4", At.ADDRESSED, set_of(record(GAMMA, endpoint=packed("2001:db8::1"))), V.PADDING),
    Case(
        "overlay address and a prefix length",
        At.ADDRESSED,
        set_of(record(GAMMA, overlay=GAMMA.overlay_addr.packed + b"\x08")),
        V.PADDING,
    ),
    Case("the second of two is wrong", At.ADDRESSED, set_of(record(DELTA), record(GAMMA, zero=b"\1")), V.PADDING),
    Case("the second part is wrong", At.STAGING, set_of(record(DELTA, family=9)), V.ADDRESS),
    Case("random bytes", At.ADDRESSED, set_of(bytes(range(120, 256))), V.PADDING),
)
def test_peer(stage: Stage, case: Case) -> None:
    """136 bytes, each with one meaning."""
    put(stage, case)


@table(
    *(
        Case(f"{op.name} of {len(body)} bytes", At.GREETED, Forged(op, body, 1), V.LENGTH)
        for op in (Op.IN_FORCE, Op.STATUS)
        for body in (b"\0", b"\0\0\0", struct.pack("!I", 0))
    )
)
def test_part_number(stage: Stage, case: Case) -> None:
    """Two bytes."""
    put(stage, case)
