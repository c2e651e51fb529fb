"""What may come when. The table is DESIGN's, written down once more: what it does not name is a violation."""

from __future__ import annotations

from collections.abc import Mapping, Set

import pytest

from privhelper.protocol import Bye, Hello, InForce, Op, Request, SetAddr, SetPeers, Status, ViolationCode, WriteHosts
from tests.hostile.case import Case, Ending, put, table
from tests.hostile.cast import ALPHA, BETA, DELTA
from tests.hostile.liar import At
from tests.hostile.stage import Stage

pytestmark = pytest.mark.root

REQUESTS: Mapping[Op, Request] = {
    Op.HELLO: Hello("liar"),
    Op.IN_FORCE: InForce(0),
    Op.SET_ADDR: SetAddr(0),
    Op.SET_PEERS: SetPeers((ALPHA, BETA)),
    Op.WRITE_HOSTS: WriteHosts(),
    Op.STATUS: Status(0),
    Op.BYE: Bye(),
}
ALWAYS = {Op.IN_FORCE, Op.SET_ADDR, Op.STATUS, Op.BYE}
MAY_COME: Mapping[At, Set[Op]] = {
    At.NEW: {Op.HELLO},
    At.GREETED: ALWAYS,
    At.ADDRESSED: ALWAYS | {Op.SET_PEERS},
    At.STAGING: {Op.SET_PEERS},
    At.CONFIGURED: ALWAYS | {Op.SET_PEERS, Op.WRITE_HOSTS},
    At.ENDED: frozenset(),
}


@table(
    *(
        Case(f"{op.name} when {at.value}", at, REQUESTS[op], ViolationCode.ORDER)
        for at, allowed in MAY_COME.items()
        for op in REQUESTS
        if op not in allowed
    )
)
def test_out_of_order(stage: Stage, case: Case) -> None:
    """Whatever it is: it comes in its turn or not at all."""
    put(stage, case)


@table(
    Case(
        "the set's other half changed its mind",
        At.STAGING,
        [SetPeers((DELTA,), more=True), Status(0)],
        ViolationCode.ORDER,
    ),
    Case(
        "WRITE_HOSTS between two halves", At.STAGING, [SetPeers((DELTA,), more=True), WriteHosts()], ViolationCode.ORDER
    ),
    Case(
        "a second HELLO after everything", At.CONFIGURED, [Status(0), InForce(0), Hello("again")], ViolationCode.ORDER
    ),
    Case("BYE twice", At.CONFIGURED, [Bye(), Bye()], ViolationCode.ORDER),
    Case("BYE, then HELLO on the same connection", At.CONFIGURED, [Bye(), Hello("again")], ViolationCode.ORDER),
    Case("BYE, then a set", At.CONFIGURED, [Bye(), SetPeers((DELTA,))], ViolationCode.ORDER),
    Case("BYE, then nonsense", At.CONFIGURED, [Bye(), b"\1"], ViolationCode.LENGTH),
    Case("BYE, then the empty packet", At.ENDED, b"", Ending.HUNG_UP),
)
def test_sequences(stage: Stage, case: Case) -> None:
    """Longer ways to the same end."""
    put(stage, case)
