"""The launcher's pair, where helper and agent live and die together: a violation, or a word too few, is the end of all.
The rows are those of the other tables; here they come from a turned agent behind its own filters."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from privhelper.protocol import (
    Bye,
    Event,
    Farewell,
    InForce,
    Op,
    PeersInForce,
    SetPeers,
    Status,
    ViolationCode,
    WriteHosts,
)
from tests.e2e.mesh import INTERFACE
from tests.hostile.captive import Captive
from tests.hostile.cast import ALPHA, BETA, DELTA, GAMMA
from tests.hostile.forged import Forged, hello, record, set_of
from tests.hostile.liar import At, HungUp, Liar, Message
from tests.lab import until

pytestmark = pytest.mark.root

V = ViolationCode


@dataclass(frozen=True)
class Lie:
    """What is said when the agent has come so far."""

    name: str
    at: At
    message: Message
    code: ViolationCode


LIES = (
    Lie("one byte as the first word", At.NEW, b"\1", V.LENGTH),
    Lie(
        "a greeting of another release, which cannot be here",
        At.NEW,
        Forged(Op.HELLO, hello(), 1, version=2),
        V.VERSION,
    ),
    Lie("no greeting", At.NEW, Status(0), V.ORDER),
    Lie("another version", At.GREETED, Forged(Op.BYE, version=2), V.VERSION),
    Lie("an operation of nobody's", At.GREETED, Forged(9), V.OPERATION),
    Lie("a flag of nobody's", At.ADDRESSED, Forged(Op.STATUS, b"\0\0", 1, 8), V.FLAGS),
    Lie("a number again", At.CONFIGURED, Forged(Op.BYE, sequence=1), V.SEQUENCE),
    Lie("an attempt too high", At.CONFIGURED, Forged(Op.SET_ADDR, b"\x10", 1), V.ATTEMPT),
    Lie("a line feed in a name", At.CONFIGURED, set_of(record(GAMMA, name=b"a\nb")), V.TEXT),
    Lie("a key twice", At.CONFIGURED, SetPeers((ALPHA, BETA, ALPHA)), V.DUPLICATE_KEY),
    Lie("names before the set is whole", At.STAGING, WriteHosts(), V.ORDER),
    Lie("a word after goodbye", At.ENDED, SetPeers((DELTA,)), V.ORDER),
)


@pytest.fixture(scope="module")
def captive() -> Iterator[Captive]:
    """One machine for all."""
    with Captive() as made:
        yield made


@pytest.fixture
def liar(captive: Captive) -> Liar:
    """A new agent's end of the line."""
    captive.start()
    return captive.liar()


def assert_all_is_over(captive: Captive, status: int) -> None:
    """The helper has ended so, nothing is left, and the agent, though it does not go by itself, is not either."""
    assert captive.wesher.wait(10) == status
    until(lambda: not captive.agents(), 10, "the agent is gone")
    assert captive.ours().is_nothing
    assert INTERFACE not in captive.node.links()


@pytest.mark.parametrize("lie", LIES, ids=[lie.name for lie in LIES])
def test_a_violation_is_the_end(captive: Captive, liar: Liar, lie: Lie) -> None:
    """Exit 1, with its code as the log's last words."""
    liar.go_to(lie.at)
    with pytest.raises(HungUp):
        pytest.fail(f"answered: {liar.ask(lie.message)}")
    assert_all_is_over(captive, 1)
    said = [line for line in captive.wesher.stderr_text().splitlines() if "violation" in line]
    assert [f"ERROR helper: violation: {lie.code.value}"] == [line.split(" ", 2)[2] for line in said]


def hang_up(liar: Liar) -> None:
    """EOF."""
    liar.close()


def say_nothing(liar: Liar) -> None:
    """The empty packet, which is EOF."""
    liar.tell(b"")


@pytest.mark.parametrize("go", [hang_up, say_nothing])
@pytest.mark.parametrize("at", [At.NEW, At.STAGING, At.CONFIGURED])
def test_who_goes_without_a_word_takes_all_along(
    captive: Captive, liar: Liar, at: At, go: Callable[[Liar], None]
) -> None:
    """No time to come back is given here: nobody would."""
    liar.go_to(at)
    go(liar)
    assert_all_is_over(captive, 1)


def test_goodbye_is_the_end_whatever_else_is_said_honestly(captive: Captive, liar: Liar) -> None:
    """The rest of the table's rows, which are answered; then BYE."""
    liar.go_to(At.CONFIGURED)
    assert [ALPHA, BETA] == liar.in_force()
    assert isinstance(liar.ask(InForce(65535)), PeersInForce)
    liar.set([DELTA])
    liar.write()
    ours = captive.ours()
    assert {str(DELTA.overlay_addr)} == set(ours.routes) == set(ours.lines.values())
    assert isinstance(liar.ask(Bye()), Farewell)
    assert captive.ours().is_nothing
    liar.close()
    assert_all_is_over(captive, 0)


def test_an_agent_of_whom_nothing_is_heard_keeps_nothing_up(captive: Captive, liar: Liar) -> None:
    """It never greets, nor leaves when told: the helper, told to end, does not wait for it longer than for any."""
    captive.wesher.signal(signal.SIGTERM)
    assert Event.TERMINATE == liar.hear_event()
    until(lambda: not captive.wesher.alive(), 15, "the helper has ended")
    assert_all_is_over(captive, 1)
