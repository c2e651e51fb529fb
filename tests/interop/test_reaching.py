"""What `wesher check` asks of a member before it is one: a Go peer answers it as ours does, tells nobody, complains of
nothing."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tests.interop.meeting import Meeting, at
from tests.interop.ours import KEY, OTHER_KEY
from wesher.check.reaching import Probe, Prober, Reached, packet_size
from wesher.swim.io import Endpoint

pytestmark = pytest.mark.go

HERE = ip_address("127.0.0.1")
"""The address that the kernel chooses for what goes to any other of 127.0.0.0/8."""


def ask(whom: Endpoint, key: bytes = KEY) -> Reached:
    """All that a start at 127.0.0.1 with the same port would try."""
    probe = Probe((key,), HERE, HERE, whom.port, wireguard_port=9, overlay_mtu=1420)
    (reached,) = Prober(probe).try_all([whom])
    return reached


@pytest.mark.parametrize("who", ["go", "ours"])
def test_whoever_has_the_key_answers_a_stranger_by_every_way(meeting: Meeting, who: str) -> None:
    """Over a stream, to where the question came from, to where it asks for, and to one with ballast."""
    peer = meeting.go(who) if who == "go" else meeting.ours(who)
    reached = ask(at(peer))
    assert (reached.tcp, reached.knows_key, reached.udp, reached.back) == ("", True, True, True)
    assert reached.takes == packet_size(1420, 4) == 1480
    assert {who} == (peer.members().keys() if who == "go" else peer.live())


@pytest.mark.parametrize("who", ["go", "ours"])
def test_whoever_has_another_key_is_told_from_a_firewall(meeting: Meeting, who: str) -> None:
    """The connection stands, and the answer makes no sense: no datagram is sent then."""
    peer = meeting.go(who) if who == "go" else meeting.ours(who)
    if who == "go":
        meeting.peers.expect("failed to receive:")
    reached = ask(at(peer), OTHER_KEY)
    assert (reached.tcp, reached.knows_key, reached.udp, reached.back) == ("", False, None, None)
