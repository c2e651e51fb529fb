"""What a service manager tells a live server, by signals, and what it hears: ready, alive, ending."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from privhelper import GENERATION, server
from privhelper.protocol import VERSION, Bye, Event, Farewell, SetAddr, SetPeers, Status, Verdicts
from tests.unit.privhelper.over_fakes import OK, A, B
from tests.unit.privhelper.serving import Manager, Start


@pytest.fixture
def manager() -> Iterator[Callable[..., Manager]]:
    """Service managers, and their end."""
    made: list[Manager] = []

    def make(watchdog_usec: int | None = None) -> Manager:
        made.append(Manager(watchdog_usec))
        return made[-1]

    yield make
    for one in made:
        one.close()


# --- signals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("linger", [None, 300.0])
def test_terminate_is_passed_on_and_a_goodbye_makes_it_a_good_end(
    start: Start, linger: float | None, number: int
) -> None:
    """The agent leaves the mesh first, for which it still needs its tunnels."""
    serving = start(linger)
    agent = serving.connect() if linger is not None else serving.agent
    agent.configure(A)
    serving.kill(number)
    assert Event.TERMINATE is agent.read()
    assert Verdicts((OK, OK)) == agent.ask(SetPeers((A, B)))
    assert Farewell() == agent.ask(Bye())
    agent.hang_up()
    assert 0 == serving.ended()


@pytest.mark.parametrize("linger", [None, 300.0])
def test_while_terminating_an_agents_eof_is_the_end_at_once(start: Start, linger: float | None) -> None:
    """Nothing lingers for an agent that nobody will start."""
    serving = start(linger)
    agent = serving.connect() if linger is not None else serving.agent
    agent.configure(A)
    serving.kill(signal.SIGTERM)
    assert Event.TERMINATE is agent.read()
    agent.hang_up()
    assert 1 == serving.ended()


@pytest.mark.parametrize("linger", [None, 300.0])
def test_an_agent_that_will_not_go_is_hung_up_on(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, linger: float | None
) -> None:
    """With status 1: it has not left the mesh. A second signal gives it no more time."""
    monkeypatch.setattr(server, "TERMINATE_WITHIN", 0.3)
    serving = start(linger)
    agent = serving.connect() if linger is not None else serving.agent
    agent.configure(A)
    serving.kill(signal.SIGTERM)
    assert Event.TERMINATE is agent.read()
    due = serving.server._hang_up_at
    serving.kill(signal.SIGTERM)
    assert Event.TERMINATE is agent.read()
    assert due == serving.server._hang_up_at
    assert 1 == serving.ended()
    assert "did not say goodbye" in caplog.text


def test_terminate_without_an_agent_is_a_good_end(start: Start) -> None:
    """None has come yet."""
    serving = start(300.0)
    serving.connect().hang_up()
    serving.soon(lambda: serving.server._linger_until is not None, "it has gone")
    serving.kill(signal.SIGTERM)
    assert 0 == serving.ended()


def test_terminate_while_tunnels_linger_is_a_good_end(start: Start) -> None:
    """What lingers is taken down by the caller."""
    serving = start(300.0)
    serving.connect().configure(A).hang_up()
    serving.soon(lambda: serving.server._linger_until is not None, "it has gone")
    serving.kill(signal.SIGTERM)
    assert 0 == serving.ended()


def test_reload_is_passed_on_and_nothing_else(start: Start) -> None:
    """As often as it comes; without an agent it is nobody's."""
    serving = start(300.0)
    serving.kill(signal.SIGHUP)
    agent = serving.connect().configure(A)
    for _ in range(2):
        serving.kill(signal.SIGHUP)
        assert Event.RELOAD is agent.read()
    assert serving.is_running()


# --- what it is told -------------------------------------------------------------------------------------------------


def test_a_reload_is_told_as_such(start: Start, manager: Callable[..., Manager]) -> None:
    """To who waits for it; before all is ready, and once it ends, there is nothing to tell."""
    told = manager()
    serving = start(manager=told)
    agent = serving.agent
    agent.greet()
    serving.kill(signal.SIGHUP)
    assert Event.RELOAD is agent.read()
    agent.ask(SetAddr(0))
    agent.ask(SetPeers((A,)))
    serving.kill(signal.SIGHUP)
    assert Event.RELOAD is agent.read()
    serving.soon(lambda: len(told.words()) == 3, "the reload is over")
    assert ["READY=1", "RELOADING=1", "READY=1"] == told.words()
    serving.kill(signal.SIGTERM)
    assert Event.TERMINATE is agent.read()
    serving.kill(signal.SIGHUP)
    assert Event.RELOAD is agent.read()
    agent.ask(Bye())
    agent.hang_up()
    assert 0 == serving.ended()
    assert ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"] == told.words()


def test_launched_it_is_ready_once_a_whole_set_has_come(start: Start, manager: Callable[..., Manager]) -> None:
    """And says so once."""
    told = manager()
    serving = start(manager=told)
    agent = serving.agent
    agent.greet()
    agent.ask(SetAddr(0))
    assert [] == told.words()
    for _ in range(3):
        agent.ask(SetPeers((A,)))
    agent.hang_up()
    assert 1 == serving.ended()
    assert ["READY=1"] == told.words()


def test_listening_it_is_ready_when_it_listens(start: Start, manager: Callable[..., Manager]) -> None:
    """The agent's unit waits for that; what comes after only tells people whether it has one."""
    told = manager()
    serving = start(300.0, manager=told)
    for _ in range(2):
        serving.connect().configure(A).hang_up()
    serving.connect().greet()
    waiting, serves = (f"STATUS=generation {GENERATION}: {text} the agent" for text in ("waiting for", "serving"))
    assert ["READY=1", serves, waiting, serves, waiting, serves] == told.words()


@pytest.mark.parametrize("linger", [None, 300.0])
def test_whatever_is_said_to_people_begins_with_the_generation(
    start: Start, manager: Callable[..., Manager], linger: float | None
) -> None:
    """Before its colon stands what an installer reads: the files that a running helper was started from may be gone."""
    told = manager()
    serving = start(linger, manager=told)
    (serving.agent if linger is None else serving.connect()).configure(A).hang_up()
    serving.soon(lambda: "READY=1" in told.words(), "it is ready")
    assert {f"STATUS=generation {GENERATION}"} == {line.partition(":")[0] for line in told.for_people}


def test_another_version_of_the_line_is_another_generation() -> None:
    """Else an upgrade would leave a helper running that the new agent cannot talk to. Who changes one adds a row."""
    versions = {1: 1}  # by generation
    assert VERSION == versions[GENERATION]
    assert max(versions) == GENERATION


def test_launched_the_watchdog_is_fed_by_requests(start: Start, manager: Callable[..., Manager]) -> None:
    """It thus needs both halves: an agent that hangs lets it starve."""
    told = manager(30_000)
    serving = start(manager=told)
    assert [] == told.words()
    serving.agent.configure(A)
    for _ in range(3):
        serving.agent.ask(Status(0))
    serving.soon(lambda: told.words().count("WATCHDOG=1") == 6, "each request has fed it")
    assert serving.server._feed_at is None


def test_listening_the_watchdog_is_fed_with_no_agent_there(start: Start, manager: Callable[..., Manager]) -> None:
    """Waiting is what it is there for."""
    told = manager(30_000)
    serving = start(300.0, manager=told)
    serving.soon(lambda: told.words().count("WATCHDOG=1") >= 5, "it is fed again and again")


def test_the_end_is_announced_once(start: Start, manager: Callable[..., Manager]) -> None:
    """At the first signal."""
    told = manager()
    serving = start(manager=told)
    serving.agent.configure(A)
    for _ in range(2):
        serving.kill(signal.SIGTERM)
        assert Event.TERMINATE is serving.agent.read()
    assert ["READY=1", "STOPPING=1"] == told.words()
