"""Others change what is in force, or take away what carries it: a live server puts right what it can, and ends where it
cannot."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from privhelper import server
from privhelper.policy import HostsVerdict, PeerVerdict, Surroundings
from privhelper.protocol import Bye, Event, SetPeers, Status, Verdicts
from tests.unit.privhelper.over_fakes import OK, A, B
from tests.unit.privhelper.serving import Serving, Start

# --- what others change ------------------------------------------------------------------------------------------


def test_a_foreign_change_is_put_right_and_the_agent_is_told(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """It sends its set again; the log says what was wrong."""
    serving = start()
    agent = serving.agent.configure(A)
    serving.helper.link.routes.clear()
    serving.news.come()
    assert Event.REPAIRED is agent.read()
    assert serving.helper.has((A,))
    assert "repaired: routes" in caplog.text


def test_a_foreign_change_is_put_right_with_no_agent_there(start: Start) -> None:
    """Tunnels that linger are kept whole."""
    serving = start(300.0)
    serving.connect().configure(A).hang_up()
    serving.soon(lambda: serving.server._linger_until is not None, "it has gone")
    serving.helper.lose_link()
    serving.news.come()
    serving.soon(lambda: serving.helper.is_whole() and serving.helper.has((A,)), "all is there again")


def test_a_local_network_that_comes_is_told_in_the_next_sets_verdicts(start: Start) -> None:
    """Withdrawn at once, explained when asked."""
    serving = start()
    agent = serving.agent.configure(A, B)
    serving.helper.link.around = Surroundings((ip_network(A.overlay_addr),))
    serving.news.come()
    assert Event.REPAIRED is agent.read()
    assert serving.helper.has((B,))
    expected = Verdicts(((PeerVerdict.LOCAL_NETWORK, HostsVerdict.NO_PEER), OK))
    assert expected == agent.ask(SetPeers((A, B)))


def test_our_own_changes_are_not_looked_into(start: Start) -> None:
    """Else each set would be followed by a look at everything."""
    serving = start()
    agent = serving.agent.configure(A)
    serving.news.is_foreign = False
    due = serving.server._check_at
    serving.news.come()
    agent.ask(Status(0))
    agent.ask(Status(0))
    assert due == serving.server._check_at


def test_changes_that_nobody_tells_of_are_found_in_time(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """WireGuard's peers."""
    monkeypatch.setattr(server, "CHECK_EVERY", 0.1)
    serving = start()
    agent = serving.agent.configure(A)
    serving.helper.device.peers.clear()
    serving.helper.device.allowed.clear()
    assert Event.REPAIRED is agent.read()
    assert serving.helper.has((A,))


def test_an_agent_that_has_not_said_hello_is_told_of_no_repair(start: Start) -> None:
    """Its first message is the answer to its first request."""
    serving = start()
    serving.helper.link.state["alias"] = False
    serving.news.come()
    serving.soon(serving.helper.is_whole, "repaired")
    assert serving.agent.greet().in_force == 0


def test_a_repair_that_fails_is_said_and_tried_again(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent is told as well: its set may be what heals it."""
    monkeypatch.setattr(server, "FIRST_PAUSE", 0.05)
    serving = start()
    agent = serving.agent.configure(A)
    serving.helper.link.routes.clear()
    serving.helper.kernel.fail_in(0)
    serving.news.come()
    assert Event.REPAIRED is agent.read()
    assert "repair: the kernel says no" in caplog.text
    serving.helper.kernel.recover()
    serving.soon(lambda: serving.helper.has((A,)), "the next look has worked")


def test_the_pause_between_repairs_grows_while_they_recur_and_is_short_again_long_after(start: Start) -> None:
    """Somebody else may be as persistent: each second, then each minute, not for ever ten times a second."""
    serving = Serving()
    try:
        pauses = []
        for _ in range(8):
            serving.helper.link.state["alias"] = False
            serving.server._check()
            pauses.append(serving.server._pause)
        assert [2, 4, 8, 16, 32, 60, 60, 60] == pauses
        assert serving.server._check_at == serving.server._not_before  # it looks whether it holds
        serving.server._check()
        assert server.LONGEST_PAUSE == serving.server._pause  # clean once, but he may only be slower than we are
        serving.server._found_at -= 2 * server.LONGEST_PAUSE + 1
        serving.server._check()
        assert server.FIRST_PAUSE == serving.server._pause
        assert serving.server._check_at > serving.server._not_before
    finally:
        serving.close()


# --- WireGuard goes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linger", [None, 300.0])
def test_without_wireguard_there_is_nothing_left_to_serve_with(start: Start, linger: float | None) -> None:
    """Wireguard-go is gone while in use."""
    serving = start(linger, with_device=True)
    agent = serving.connect() if linger is not None else serving.agent
    agent.configure(A)
    serving.wireguard.close()
    assert 1 == serving.ended()


def test_launched_wireguard_may_go_once_its_link_is_deleted(start: Start) -> None:
    """That is how it is told to."""
    serving = start(with_device=True)
    agent = serving.agent.configure(A)
    agent.ask(Bye())
    serving.wireguard.close()
    agent.hang_up()
    assert 0 == serving.ended()


def test_listening_wireguard_that_goes_while_nobody_uses_it_ends_the_helper_too(start: Start) -> None:
    """It was not ours to end, and the next agent could not be set up."""
    serving = start(300.0, with_device=True)
    agent = serving.connect().configure(A)
    agent.ask(Bye())
    agent.hang_up()
    serving.wireguard.close()
    assert 1 == serving.ended()
