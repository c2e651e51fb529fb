"""Finding the cluster: names are tried again and again, and none of them can bring the agent down."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from ipaddress import IPv4Address
from random import Random

import pytest

from tests.unit.swim.virtual import START, endpoint, make_node
from wesher.config import Contact
from wesher.mesh.rejoin import Backoff
from wesher.runtime.joining import Joining
from wesher.swim.event import Exchanged
from wesher.swim.io import Endpoint
from wesher.wire.codec import encode
from wesher.wire.messages import Alive
from wesher.wire.packet import seal_packet


class Dialler:
    """In the place of the adapter: notes whom the node dials; every exchange fails but those with `answers`."""

    def __init__(self, node, answers: Collection[Endpoint] = ()) -> None:
        self.node = node
        self.answers = answers
        self.joining: Joining | None = None
        self.dialled: list[Endpoint] = []

    def settle(self) -> None:
        """Answer for everybody."""
        for action in self.node.actions():
            self.dialled.append(action.to)
            failure = "" if action.to in self.answers else "no"
            self.joining.exchanged(Exchanged(action.to, join=True, failure=failure))


class Tries(Backoff):
    """No waiting; ends the test's run after so many."""

    def __init__(self, most: int) -> None:
        super().__init__(Random(0))
        self.left = most

    def next(self) -> float:
        """Stop after the last."""
        self.left -= 1
        if not self.left:
            raise StopAsyncIteration
        return 0.0


def tried(*contacts: Contact, most: int = 1) -> list[Endpoint]:
    """Whom a lone node dials in so many tries."""

    async def run() -> list[Endpoint]:
        node = make_node("me", endpoint(1))
        dialler = Dialler(node)
        joining = Joining(node, dialler, contacts, lambda at: at == endpoint(1), Tries(most))
        dialler.joining = joining
        with pytest.raises(StopAsyncIteration):
            await joining.run()
        return dialler.dialled

    return asyncio.run(run())


def test_addresses_are_dialled_on_their_port_or_ours():
    """Port 0 stands for the cluster port."""
    there, elsewhere = Contact("192.0.2.1", 0), Contact("192.0.2.2", 7000)
    assert tried(there, elsewhere) == [
        Endpoint(IPv4Address("192.0.2.1"), 7946),
        Endpoint(IPv4Address("192.0.2.2"), 7000),
    ]


def test_who_does_not_answer_is_tried_again():
    """As often as it takes."""
    assert tried(Contact("192.0.2.1", 0), most=3) == [Endpoint(IPv4Address("192.0.2.1"), 7946)] * 3


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example", "\udc80", ""])
def test_a_name_that_cannot_be_one_costs_only_itself(name, caplog):
    """Python refuses some names before any resolver is asked; the others are joined all the same."""
    assert tried(Contact(name, 0), Contact("192.0.2.1", 0), most=2) == 2 * [Endpoint(IPv4Address("192.0.2.1"), 7946)]
    assert "could not join cluster" in caplog.text


def joined_beside(company: Endpoint, *contacts: Endpoint, answers: Collection[Endpoint] = ()) -> bool:
    """Whether a node that somebody else has joined, from `company`, is done with its contacts after one try."""

    async def run() -> bool:
        node = make_node("me", endpoint(1))
        news = Alive(1, "other", company.ip.packed, company.port, b"")
        node.receive_datagram(seal_packet([encode(news)], node.keyring, bytes(12)), company, START)
        dialler = Dialler(node, answers)
        dialler.joining = joining = Joining(
            node, dialler, [Contact(str(at.ip), at.port) for at in contacts], lambda at: at == endpoint(1), Tries(1)
        )
        try:
            await joining.run()
        except StopAsyncIteration:
            assert joining.unanswered == []  # it is in a cluster, if perhaps not in the one it was to join
            return False
        return True

    return asyncio.run(run())


def test_somebody_elses_join_does_not_stand_for_ours(caplog):
    """Or whoever is joined before its own contact is up would never look for it again. There is nothing to report."""
    assert not joined_beside(endpoint(3), endpoint(2))
    assert caplog.text == ""


def test_one_contact_that_answers_will_do():
    """The others are members that were and may not be any more."""
    assert joined_beside(endpoint(3), endpoint(2), endpoint(4), answers=[endpoint(2)])


def test_a_contact_that_is_a_member_needs_no_answer():
    """It has found us first."""
    assert joined_beside(endpoint(2), endpoint(2), endpoint(4))


def test_our_own_address_is_not_dialled():
    """And where nobody else is named there is nothing to wait for."""

    async def run() -> None:
        node = make_node("me", endpoint(1))
        dialler = Dialler(node)
        await Joining(node, dialler, [Contact("10.0.0.1", 0)], lambda at: at == endpoint(1), Tries(1)).run()
        assert dialler.dialled == []

    asyncio.run(run())
