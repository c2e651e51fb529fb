"""What a turned agent can do on this host besides lying to the helper: what SECURITY.md says remains possible, and
nothing else. The launcher, both halves and their lockdown are the real ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.attempts import ATTEMPTS, KILLED, TCP_NOT_GRANTED, Attempt
from tests.hostile.captive import Captive, Killed
from tests.lab import until

pytestmark = pytest.mark.root

FORBIDDEN = [attempt for attempt in ATTEMPTS.values() if attempt.expected == KILLED]
ANSWERED = [attempt for attempt in ATTEMPTS.values() if attempt.expected != KILLED]


def named(attempts: list[Attempt]) -> pytest.MarkDecorator:
    """One test an attempt."""
    return pytest.mark.parametrize("attempt", attempts, ids=[attempt.name for attempt in attempts])


@pytest.fixture(scope="module")
def captive() -> Iterator[Captive]:
    """One machine for all."""
    with Captive() as made:
        yield made


@pytest.fixture
def turned(captive: Captive) -> Captive:
    """Its agent lives: the one that is there, if it was not killed."""
    if not captive.agents():
        captive.start()
    captive.lay_out()
    return captive


@named(ANSWERED)
def test_what_is_answered(turned: Captive, attempt: Attempt) -> None:
    """By both threads the same; and whatever it was, helper and host are as they were."""
    assert attempt.expected == turned.attempt(attempt.name)
    turned.lay_out()
    assert attempt.expected == turned.attempt(attempt.name, worker=True)
    turned.assert_at_rest()


def assert_kills(turned: Captive, attempt: Attempt, *, worker: bool = False) -> None:
    """By SIGSYS; the helper sees the end of its agent, takes everything down and ends."""
    with pytest.raises(Killed):
        pytest.fail(f"it was answered: {turned.attempt(attempt.name, worker=worker)}")
    assert turned.wesher.wait(10) == 1
    until(lambda: "was ended by signal 31" in turned.wesher.stderr_text(), 5, "the filter has ended it")
    assert turned.ours().is_nothing


@named(FORBIDDEN)
def test_what_kills(turned: Captive, attempt: Attempt) -> None:
    """And with it all of this node's wesher."""
    assert_kills(turned, attempt)


@named([ATTEMPTS["run a shell"], ATTEMPTS["a raw socket"]])
def test_what_kills_does_so_from_the_worker_thread_too(turned: Captive, attempt: Attempt) -> None:
    """The whole process."""
    assert_kills(turned, attempt, worker=True)


def test_nobody_was_connected_to_where_it_may_not(turned: Captive) -> None:
    """Whatever it was answered: the listener that was there all the while has seen no one."""
    assert turned.listener.alive()
    assert turned.listener.stdout_text() == ""
    connect = f"import socket; socket.create_connection(('127.0.0.1', {TCP_NOT_GRANTED}))"
    turned.node.run("python3", "-I", "-c", connect)
    until(lambda: turned.listener.stdout_text() != "", 5, "it would have seen one")
