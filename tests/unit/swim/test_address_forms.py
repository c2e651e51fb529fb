"""Who has left comes back at the same endpoint in the other form, IPv4 in 16 bytes in place of 4: another address to
everybody, and yet it is the claimant himself who answers at the old one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.swim.alone import STRANGER, alive, answers, held, knowing, packets, sealed, waiting
from tests.unit.swim.virtual import START, endpoint
from wesher.swim.config import SwimConfig
from wesher.swim.event import Conflict
from wesher.swim.node import Node
from wesher.wire.messages import Ack, Dead, NodeState, Ping, Suspect

LAN = SwimConfig.lan()
WIDE = bytes(10) + b"\xff\xff" + endpoint(2).ip.packed
BACK = replace(alive("b", 2, 9, b"new"), addr=WIDE)
"""b, back where it was, in 16 bytes."""


def left_and_back(leave: int = 1) -> tuple[Node, Ping]:
    """A node that knows b as gone and has heard that it is back; and its ping for b, which carries the leave."""
    node = knowing("b", "c")
    node.receive_datagram(sealed(Dead(leave, "b", "b"), BACK), STRANGER, START)
    waiting(node)
    node.events()
    return node, asked(node, START, leave)


def asked(node: Node, now: float, leave: int = 1) -> Ping:
    """The ping for b that goes out now, with what is held against it."""
    node.handle_timer(now)
    sent = {to: messages for to, messages in packets(node) if any(isinstance(message, Ping) for message in messages)}
    ping, told = sent[endpoint(2)]
    assert isinstance(ping, Ping)
    assert told == Dead(leave, "b", "b")
    return ping


def answer(node: Node, ping: Ping, now: float) -> None:
    """Somebody is there."""
    node.receive_datagram(sealed(Ack(ping.seq_no)), endpoint(2), now)


def test_who_has_left_may_come_back_in_the_other_form_of_its_address():
    """It answers, and does not refute its leave in the old form: after a second answer it is believed."""
    node, ping = left_and_back()
    answer(node, ping, START + 0.1)
    assert held(node, "b").state is NodeState.LEFT
    answer(node, asked(node, START + 0.1 + LAN.probe_interval), START + 0.2 + LAN.probe_interval)
    assert (held(node, "b").state, held(node, "b").addr, held(node, "b").meta) == (NodeState.ALIVE, WIDE, b"new")


def test_who_comes_back_below_its_former_incarnation_is_believed_too():
    """A Go node begins at 1 again. The leave it is told of makes it outbid that, later."""
    node, ping = left_and_back(leave=50)
    answer(node, ping, START + 0.1)
    again = START + 0.1 + LAN.probe_interval
    answer(node, asked(node, again, 50), again + 0.1)
    assert (held(node, "b").addr, held(node, "b").incarnation) == (WIDE, 9)


def test_a_forged_leave_and_return_in_the_other_form_do_not_lock_a_member_out():
    """Were the forged form believed, whatever the member itself says would be a conflict ever after."""
    node, ping = left_and_back()
    answer(node, ping, START + 0.1)
    node.receive_datagram(sealed(alive("b", 2, 2)), endpoint(2), START + 0.1)  # it refutes what it was told
    while node.get_timer() < START + 60:
        node.handle_timer(node.get_timer())
        for _, message in answers(node, Ping):
            answer(node, message, node.get_timer())
    assert (held(node, "b").state, held(node, "b").addr) == (NodeState.ALIVE, endpoint(2).ip.packed)
    node.events()
    node.receive_datagram(sealed(BACK), STRANGER, START + 60)
    assert [type(event) for event in node.events()] == [Conflict]


def test_an_answer_to_an_earlier_leave_does_not_count():
    """Who answered that one was not told of this."""
    node, ping = left_and_back()
    node.receive_datagram(sealed(alive("b", 2, 2), Dead(2, "b", "b"), BACK), STRANGER, START + 0.1)
    answer(node, ping, START + 0.2)
    again = START + 0.2 + LAN.probe_interval
    answer(node, asked(node, again, 2), again + 0.1)
    assert held(node, "b").state is NodeState.LEFT
    answer(node, asked(node, again + 0.1 + LAN.probe_interval, 2), again + 0.2 + LAN.probe_interval)
    assert held(node, "b").addr == WIDE


@pytest.mark.parametrize("fate", [(), (Suspect(1, "b", "c"),)])
def test_who_is_alive_keeps_its_form(fate):
    """As with Go, which compares bytes: such a claim is a conflict."""
    node = knowing("b", "c")
    for news in fate:
        node.receive_datagram(sealed(news), STRANGER, START)
    node.events()
    node.receive_datagram(sealed(BACK), STRANGER, START)
    assert [type(event) for event in node.events()] == [Conflict]
