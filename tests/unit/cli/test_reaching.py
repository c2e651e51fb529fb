"""Who asks members comes to an end, whatever they say and however much of it."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from tests.unit.cli.saved import KEY
from wesher.check.reaching import Probe, Prober

HERE = ip_address("127.0.0.1")
PROBER = Prober(Probe((KEY,), HERE, None, 7946, 9, 1420))


def test_who_sends_more_than_can_be_read_is_not_read_for_longer() -> None:
    """What has no meaning here, without a pause: as long as there is more of it, time goes by all the same."""
    with socket.socket(type=socket.SOCK_DGRAM) as asks, socket.socket(type=socket.SOCK_DGRAM) as answers:
        for end in (asks, answers):
            end.bind(("127.0.0.1", 0))
        for _ in range(64):
            answers.sendto(b"x", asks.getsockname())
        assert list(PROBER._acks([asks], {1}, 0)) == []
        assert asks.recv(1, socket.MSG_DONTWAIT) == b"x"
