"""Every way to go: with a word, without one, in the middle of one. What is in force outlives an agent for as long as
the administrator said, and a goodbye leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import closing

import pytest

from privhelper.protocol import (
    Bye,
    Event,
    Farewell,
    InForce,
    PeersInForce,
    Reply,
    SetPeers,
    Status,
    StatusPart,
    ViolationCode,
)
from tests.e2e.mesh import HELPER_UID
from tests.hostile.case import Case, Ending, put, table
from tests.hostile.cast import GAMMA
from tests.hostile.liar import At, HungUp, Liar
from tests.hostile.stage import Stage
from tests.lab import bound, until

pytestmark = pytest.mark.root


def close(liar: Liar) -> None:
    """Hang up."""
    liar.close()


def stop_writing(liar: Liar) -> Reply:
    """The helper reads EOF."""
    liar.socket.shutdown(socket.SHUT_WR)
    return liar.hear()


def stop_reading(liar: Liar) -> Reply:
    """The helper cannot answer."""
    liar.socket.shutdown(socket.SHUT_RD)
    return liar.ask(Status(0))


def leave_answers_unread(liar: Liar) -> None:
    """The kernel tells the helper that the connection was reset."""
    for _ in range(8):
        liar.tell(InForce(0))
    liar.close()


def two_at_once(liar: Liar) -> Reply:
    """The second before the first is answered: each has its number and its turn, and both are answered."""
    liar.tell(Status(0))
    liar.tell(InForce(0))
    liar.hear()
    return liar.hear()


def violation_behind_honest_requests(liar: Liar) -> Reply:
    """What comes before it is answered; what comes after it is never read."""
    liar.tell(Status(0))
    liar.tell(b"\1")
    liar.tell(SetPeers(()))
    liar.hear()
    return liar.hear()


@table(
    *(Case(f"hanging up when {at.value}", at, close, None) for at in At),
    *(Case(f"EOF when {at.value}", at, stop_writing, Ending.HUNG_UP) for at in At),
    Case("answers cannot be delivered", At.CONFIGURED, stop_reading, Ending.HUNG_UP),
    Case("answers are left unread", At.CONFIGURED, leave_answers_unread, None),
    Case("two requests at once", At.CONFIGURED, two_at_once, PeersInForce),
    Case("a violation behind what is honest", At.CONFIGURED, violation_behind_honest_requests, ViolationCode.LENGTH),
)
def test_going(stage: Stage, case: Case) -> None:
    """Nothing goes with an agent that says nothing."""
    put(stage, case)


def test_without_an_agent_all_goes_when_the_time_is_up(stage: Stage) -> None:
    """A liar that hangs up for ever keeps nothing in force."""
    linger = int(bound(3))
    stage.serve("--linger", str(linger))
    stage.connect(At.CONFIGURED).close()
    assert not stage.ours().is_nothing
    until(lambda: stage.ours().is_nothing, 10, "everything is down")
    assert f"WARNING helper: no agent came back within {linger} s: taking everything down" in stage.said()
    stage.assert_at_rest()


def test_who_says_goodbye_and_stays_is_hung_up_on(stage: Stage) -> None:
    """The next one must not wait for it for ever."""
    stage.serve()
    liar = stage.connect(At.ENDED)
    waiting = stage.connect()
    liar.socket.settimeout(30)
    with pytest.raises(HungUp):
        liar.hear()
    waiting.go_to(At.GREETED)
    stage.hang_up()
    stage.assert_at_rest()


def test_who_is_told_to_end_and_hangs_up_takes_all_with_it(stage: Stage) -> None:
    """While the helper is being stopped nothing lingers, staged or in force."""
    helper = stage.serve()
    liar = stage.connect(At.CONFIGURED)
    liar.ask(SetPeers((GAMMA,), more=True))
    helper.signal(signal.SIGTERM)
    assert Event.TERMINATE == liar.hear_event()
    liar.close()
    assert helper.wait(5) == 1
    assert stage.ours().is_nothing


def test_a_goodbye_that_is_asked_for_is_the_end(stage: Stage) -> None:
    """Exit 0, and nothing left."""
    helper = stage.serve()
    liar = stage.connect(At.CONFIGURED)
    helper.signal(signal.SIGTERM)
    assert Event.TERMINATE == liar.hear_event()
    assert isinstance(liar.ask(Bye()), Farewell)
    liar.close()
    assert helper.wait(5) == 0
    assert stage.ours().is_nothing


@pytest.mark.parametrize("uid", [0, HELPER_UID, 61003], ids=["root", "the helper's own", "a stranger"])
def test_nobody_of_another_uid_is_heard(stage: Stage, uid: int) -> None:
    """By the socket's mode, or where that lets everybody in, by who the kernel says it is."""
    stage.serve()
    path = stage.node.inside.root / "run/wesher-priv/wgoverlay.sock"
    assert (61001, 0o600) == (path.stat().st_uid, path.stat().st_mode & 0o777)
    if uid:
        with pytest.raises(PermissionError):
            stage.connect(uid=uid)
    os.chmod(path, 0o666)
    try:
        with closing(stage.connect(uid=uid)) as stranger, pytest.raises(HungUp):
            stranger.go_to(At.GREETED)
    finally:
        os.chmod(path, 0o600)
    until(lambda: f"WARNING helper: uid {uid} is not the agent's: refused" in stage.said() or uid == 0, 5, "it says so")
    stage.assert_at_rest()
    assert isinstance(stage.connect(At.CONFIGURED).ask(Status(0)), StatusPart)


def test_a_helper_that_is_killed_takes_nothing_of_the_operators_along(stage: Stage) -> None:
    """SIGKILL in the middle of changes: what is left is ours, and the next helper clears it."""
    helper = stage.serve()
    liar = stage.connect(At.CONFIGURED)
    for _ in range(20):
        liar.ask(SetPeers((GAMMA,)))
        liar.tell(SetPeers(()))
        liar.hear()
    liar.tell(SetPeers((GAMMA,)))
    helper.kill()
    stage.hang_up()
    stage.look()
    stage.serve()
    with closing(stage.connect(At.ENDED)):
        pass
    assert stage.ours().is_nothing
