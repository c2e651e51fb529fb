"""One agent after the other: every cell of the table in server.py, on real sockets. What a service manager says and
hears is in test_service_manager.py, what becomes of changes by others in test_repairs.py."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys

import pytest

from privhelper import allowance, server
from privhelper.protocol import (
    MAX_PART,
    Bye,
    Event,
    Failed,
    Farewell,
    Hello,
    InForce,
    Op,
    OwnAddress,
    PeersInForce,
    Request,
    SetAddr,
    SetPeers,
    Status,
    Verdicts,
    encode_request,
)
from tests.contract.fakes import public_half
from tests.unit.privhelper.over_fakes import OK, OWN_KEY, A, B, peer
from tests.unit.privhelper.serving import Agent, Start

# --- the agent goes ----------------------------------------------------------------------------------------------


def test_launched_an_agents_eof_is_the_end(start: Start) -> None:
    """With status 1: nobody will come after it. What is in force is the caller's to take down."""
    serving = start()
    serving.agent.configure(A)
    serving.agent.hang_up()
    assert 1 == serving.ended()
    assert serving.helper.has((A,))


def test_launched_an_agent_that_never_spoke_is_no_different(start: Start) -> None:
    """It could not even start."""
    serving = start()
    serving.agent.hang_up()
    assert 1 == serving.ended()


def test_launched_a_goodbye_is_the_end(start: Start) -> None:
    """With status 0, and all down before it was answered."""
    serving = start()
    agent = serving.agent.configure(A)
    assert Farewell() == agent.ask(Bye())
    assert serving.helper.is_down()
    assert serving.is_running()
    agent.hang_up()
    assert 0 == serving.ended()


def test_listening_an_agents_eof_leaves_everything_as_it_is(start: Start) -> None:
    """The next one finds it, under the same key."""
    serving = start(300.0)
    serving.connect().configure(A, B).hang_up()
    agent = serving.connect()
    policy = agent.greet()
    assert (OWN_KEY, 2) == (policy.public_key, policy.in_force)
    assert PeersInForce((A, B), False) == agent.ask(InForce(0))
    assert serving.helper.has((A, B))


def test_listening_a_goodbye_is_followed_by_a_new_link_and_key(start: Start) -> None:
    """For whoever comes next."""
    serving = start(300.0)
    agent = serving.connect().configure(A)
    assert Farewell() == agent.ask(Bye())
    assert serving.helper.is_down()
    agent.hang_up()
    policy = serving.connect().greet()
    assert (public_half(b"key 2"), 0) == (policy.public_key, policy.in_force)
    assert serving.helper.is_whole()


def test_listening_a_goodbye_that_left_something_ends_the_helper(start: Start) -> None:
    """A new start clears what could not be taken down; with such a link this one could make none."""
    serving = start(300.0)
    agent = serving.connect().configure(A)
    serving.helper.kernel.fail_in(1)
    assert Failed(Op.BYE, errno.EIO) == agent.ask(Bye())
    agent.hang_up()
    assert 1 == serving.ended()


def test_an_agent_that_says_goodbye_and_stays_is_hung_up_on(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has as long for that as for the goodbye."""
    monkeypatch.setattr(server, "TERMINATE_WITHIN", 0.1)
    serving = start()
    serving.agent.configure(A).ask(Bye())
    assert 0 == serving.ended()


def test_after_the_linger_time_everything_is_taken_down_and_the_next_agent_begins_anew(start: Start) -> None:
    """With a new key."""
    serving = start(0.2)
    serving.connect().configure(A).hang_up()
    serving.soon(serving.helper.is_down, "all is down")
    assert serving.is_running()
    assert public_half(b"key 2") == serving.connect().greet().public_key


def test_without_a_linger_time_everything_is_down_at_once(start: Start) -> None:
    """Also for the one that has waited already."""
    serving = start(0.0)
    first = serving.connect().configure(A)
    second = serving.connect()
    first.hang_up()
    assert public_half(b"key 2") == second.greet().public_key
    assert serving.helper.has(())


def test_an_agent_that_comes_back_in_time_ends_the_wait(start: Start) -> None:
    """However often; its tunnels are not taken down under it."""
    serving = start(300.0)
    for _ in range(3):
        serving.connect().configure(A).hang_up()
    agent = serving.connect()
    agent.greet()
    serving.soon(lambda: agent.ask(Status(0)) and serving.server._linger_until is None, "it is served")
    assert serving.helper.has((A,))


def test_what_cannot_be_taken_down_after_the_linger_time_ends_the_helper(start: Start) -> None:
    """As after a goodbye."""
    serving = start(0.2)
    serving.connect().configure(A).hang_up()
    serving.helper.kernel.fail_in(0)
    assert 1 == serving.ended()


def test_nothing_lingers_where_nothing_is_up(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A goodbye, then an agent that comes and goes without a word."""
    serving = start(0.0)
    agent = serving.connect().configure(A)
    agent.ask(Bye())
    agent.hang_up()
    serving.connect().hang_up()
    serving.connect().greet()
    assert "taking everything down" not in caplog.text


# --- who may come ------------------------------------------------------------------------------------------------


def test_a_second_agent_waits_until_the_first_is_gone(start: Start) -> None:
    """One at a time; it is not refused."""
    serving = start(300.0)
    first = serving.connect().configure(A)
    second = serving.connect()
    second.tell(Hello("second"))
    assert Verdicts((OK, OK)) == first.ask(SetPeers((A, B)))
    assert second.has_heard_nothing()
    first.hang_up()
    assert 2 == second.read().in_force  # type: ignore[union-attr]


STRANGER = """
import socket, sys
stranger = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
stranger.connect(b"\\0" + bytes.fromhex(sys.argv[1]))
stranger.settimeout(20)
try:
    stranger.send(bytes.fromhex(sys.argv[2]))
    sys.exit(len(stranger.recv(100000)))
except ConnectionError:
    sys.exit(0)
"""


@pytest.mark.root
def test_another_uid_is_refused_and_said_once(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the socket's mode; the agent is served all the same, and root is another uid too."""
    serving = start(300.0, agent_uid=65533)
    name, hello = serving.address[1:].hex(), encode_request(1, Hello("test")).hex()
    command = [sys.executable, "-I", "-S", "-c", STRANGER, name, hello]
    for uid in (65534, 65534, 0):
        done = subprocess.run(command, user=uid, cwd="/", timeout=30, check=False, capture_output=True)
        assert (0, b"") == (done.returncode, done.stderr)
    serving.soon(lambda: "uid 0 is not the agent's: refused" in caplog.text, "the last is said")
    assert 1 == caplog.text.count("uid 65534 is not the agent's: refused")
    done = subprocess.run(command, user=65533, cwd="/", timeout=30, check=False, capture_output=True)
    assert (10 + 2 * 108, b"") == (done.returncode, done.stderr)


OTHER_VERSION = b"\x63" + encode_request(1, Hello("test"))[1:]


def test_an_agent_of_another_protocol_version_is_told_and_costs_nothing(start: Start) -> None:
    """An upgrade of the agent met a helper that has yet to be."""
    serving = start(300.0)
    serving.connect().configure(A).hang_up()
    other = serving.connect()
    other.socket.send(OTHER_VERSION)
    assert Failed(Op.HELLO, errno.EPROTONOSUPPORT) == other.read()
    assert other.read() is None
    assert 1 == serving.connect().greet().in_force


def test_an_agent_of_another_version_that_does_not_wait_for_the_answer_costs_nothing(start: Start) -> None:
    """It is gone when it is told."""
    serving = start(300.0)
    for _ in range(3):
        other = serving.connect()
        other.socket.send(OTHER_VERSION)
        other.hang_up()
    assert 0 == serving.connect().greet().in_force


def test_launched_another_protocol_version_is_a_violation(start: Start) -> None:
    """Both halves come from one installation."""
    serving = start()
    serving.agent.socket.send(OTHER_VERSION)
    assert "version" == serving.ended()


def test_another_protocol_version_after_hello_is_a_violation(start: Start) -> None:
    """Nobody changes his language in the middle."""
    serving = start(300.0)
    agent = serving.connect()
    agent.greet()
    agent.socket.send(OTHER_VERSION)
    assert "version" == serving.ended()


# --- what an agent may do ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("linger", [None, 300.0])
@pytest.mark.parametrize(
    ("data", "code"), [(b"x", "length"), (encode_request(1, SetAddr(0)), "order"), (bytes(80000), "length")]
)
def test_a_violation_ends_the_helper_in_either_layout(
    start: Start, linger: float | None, data: bytes, code: str
) -> None:
    """What could not come from an honest agent came from one that is not."""
    serving = start(linger)
    agent = serving.connect() if linger is not None else serving.agent
    agent.socket.send(data)
    assert code == serving.ended()


def _is_heard(agent: Agent, request: Request) -> bool:
    try:
        agent.tell(request)
    except ConnectionError:
        return False
    return True


@pytest.mark.parametrize("linger", [None, 300.0])
def test_an_agent_that_does_not_read_its_replies_is_hung_up_on(start: Start, linger: float | None) -> None:
    """The helper never waits for it."""
    serving = start(linger)
    agent = serving.connect() if linger is not None else serving.agent
    peers = tuple(peer(f"node-{i}", i, i) for i in range(MAX_PART))
    agent.configure(*peers)
    while _is_heard(agent, InForce(0)):
        pass
    if linger is None:
        assert 1 == serving.ended()
    else:
        assert MAX_PART == serving.connect().greet().in_force


def test_an_agent_killed_with_a_reply_unread_costs_its_tunnels_nothing(start: Start) -> None:
    """The kernel then says "connection reset" where it says EOF otherwise."""
    serving = start(300.0)
    agent = serving.connect().configure(A)
    agent.tell(Status(0))
    serving.soon(lambda: not agent.has_heard_nothing(), "the reply is there")
    agent.hang_up()
    assert 1 == serving.connect().greet().in_force


def test_an_agent_killed_with_an_event_unread_costs_its_tunnels_nothing(start: Start) -> None:
    """The kernel says so to who sends as well, instead of "broken pipe"."""
    serving = start(300.0)
    agent = serving.connect().configure(A)
    serving.kill(signal.SIGHUP)
    serving.soon(lambda: not agent.has_heard_nothing(), "it has been told")
    serving.news.gate.clear()
    serving.news.come()
    serving.kill(signal.SIGHUP)
    agent.hang_up()
    serving.news.gate.set()
    assert 1 == serving.connect().greet().in_force


def test_descriptors_an_agent_sends_along_are_not_taken(start: Start) -> None:
    """They are refused by the kernel where it can (Linux 6.16), else dropped: the helper holds no more files."""
    serving = start()
    before = len(os.listdir("/proc/self/fd"))
    read, write = os.pipe()
    try:
        socket.send_fds(serving.agent.socket, [encode_request(1, Hello("test"))], [read])
    except PermissionError:
        serving.agent.socket.send(encode_request(1, Hello("test")))
    assert serving.agent.read() is not None
    os.close(read)
    os.close(write)
    assert before == len(os.listdir("/proc/self/fd"))


# --- more than there is time for ---------------------------------------------------------------------------------


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request takes a second of processor time, of which there is none to spare."""
    seconds = iter(range(1_000_000))
    monkeypatch.setattr(server.time, "process_time", lambda: float(next(seconds)))
    monkeypatch.setattr(allowance, "BURST", 0.5)
    monkeypatch.setattr(allowance, "LONGEST_REST", 3600.0)
    monkeypatch.setattr(allowance, "SHARE", 0.001)


@pytest.mark.parametrize("linger", [None, 300.0])
def test_who_asks_for_more_than_there_is_time_for_is_read_later(start: Start, busy: None, linger: float | None) -> None:
    """Not refused, and not forgotten: signals are passed on meanwhile, and its goodbye is read at once."""
    serving = start(linger)
    agent = serving.connect() if linger is not None else serving.agent
    agent.greet()
    agent.tell(SetAddr(0))
    serving.kill(signal.SIGHUP)
    assert Event.RELOAD is agent.read()
    assert agent.has_heard_nothing()
    serving.kill(signal.SIGTERM)
    assert Event.TERMINATE is agent.read()
    assert isinstance(agent.read(), OwnAddress)
    assert Farewell() == agent.ask(Bye())
    agent.hang_up()
    assert 0 == serving.ended()


def test_a_rest_comes_to_its_end(start: Start, busy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then everything goes on, and who has gone meanwhile is noticed."""
    monkeypatch.setattr(allowance, "LONGEST_REST", 0.05)
    serving = start(300.0)
    agent = serving.connect()
    for _ in range(3):
        agent.configure(A).hang_up()
        agent = serving.connect()
    agent.greet()
    assert serving.is_running()


def test_an_agent_that_is_hung_up_on_while_it_is_not_read_costs_nothing(
    start: Start, busy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here by a failing send of an event; the next one is served."""
    serving = start(300.0)
    agent = serving.connect()
    agent.greet()
    serving.soon(lambda: serving.server._read_at is not None, "it is not read")
    agent.hang_up()
    serving.kill(signal.SIGHUP)
    serving.soon(lambda: serving.server._agent is None, "it is gone")
    monkeypatch.setattr(allowance, "LONGEST_REST", 0.05)
    serving.connect().configure(A)
