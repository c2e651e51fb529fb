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
from wesher.runtime.dialling import Dialling
from wesher.runtime.joining import AT_ONCE, Joining
from wesher.swim.event import Exchanged
from wesher.swim.io import Connect, Endpoint, StreamEnded
from wesher.wire.codec import encode
from wesher.wire.messages import Alive
from wesher.wire.packet import seal_packet


class Dialler:
    """In the place of the adapter: notes whom the node dials; every exchange fails but those with `answers`."""

    def __init__(self, node, answers: Collection[Endpoint] = ()) -> None:
        self.node = node
        self.answers = answers
        self.dialling = Dialling(node, self)
        self.dialled: list[Endpoint] = []

    def settle(self) -> None:
        """Answer for everybody."""
        for action in [action for action in self.node.actions() if isinstance(action, Connect)]:
            self.dialled.append(action.to)
            if action.to in self.answers:
                self.dialling.exchanged(Exchanged(action.to, join=True))
            self.node.receive_stream(StreamEnded(action.stream, "no"), START)
        for event in self.node.events():
            if isinstance(event, Exchanged):
                self.dialling.exchanged(event)


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


def is_own(at: Endpoint) -> bool:
    return at == endpoint(1)


def tried(*contacts: Contact, most: int = 1) -> list[Endpoint]:
    """Whom a lone node dials in so many tries."""

    async def run() -> list[Endpoint]:
        node = make_node("me", endpoint(1))
        dialler = Dialler(node)
        joining = Joining(node, dialler.dialling, contacts, is_own, Random(0), Tries(most))
        with pytest.raises(StopAsyncIteration):
            await joining.find()
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
        named = [Contact(str(at.ip), at.port) for at in contacts]
        joining = Joining(node, dialler.dialling, named, is_own, Random(0), Tries(1))
        try:
            await joining.find()
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
        await Joining(node, dialler.dialling, [Contact("10.0.0.1", 0)], is_own, Random(0), Tries(1)).find()
        assert dialler.dialled == []

    asyncio.run(run())


def test_of_very_many_contacts_some_are_tried_at_a_time_and_each_in_its_turn(caplog):
    """Who comes first in the list is no likelier to live than who comes last."""
    contacts = [Contact(f"192.0.2.{number}", 0) for number in range(1, AT_ONCE + 3)]
    dialled = tried(*contacts, most=9)
    assert len(dialled) == 9 * AT_ONCE
    assert len(set(dialled)) == len(contacts)
    assert "and 59 more" in caplog.text


def test_who_was_named_is_tried_again_when_it_is_no_member():
    """Also long after the cluster was found: it may be on the other side of a cut. Who is a member is let alone."""

    async def run() -> list[Endpoint]:
        node = make_node("me", endpoint(1))
        news = Alive(1, "other", endpoint(2).ip.packed, endpoint(2).port, b"")
        node.receive_datagram(seal_packet([encode(news)], node.keyring, bytes(12)), endpoint(2), START)
        dialler = Dialler(node)
        named = [Contact(str(at.ip), at.port) for at in (endpoint(2), endpoint(3))]
        with pytest.raises(StopAsyncIteration):
            await Joining(node, dialler.dialling, named, is_own, Random(0), Tries(4)).keep()
        return dialler.dialled

    assert asyncio.run(run()) == [endpoint(3)] * 3


class Long(Backoff):
    """Waits for ever, nearly, and counts how often it is reset."""

    def __init__(self) -> None:
        super().__init__(Random(0))
        self.resets = 0

    def next(self) -> float:
        """Too long for any test."""
        return 1e6

    def reset(self) -> None:
        """Once for each hurry."""
        self.resets += 1


@pytest.mark.parametrize("found", [False, True], ids=["looking", "keeping"])
def test_who_hurries_tries_again_at_once(found):
    """Whether the cluster has been found or not; a hurry during a try counts after it."""

    async def run() -> None:
        node = make_node("me", endpoint(1))
        dialler, backoff = Dialler(node), Long()
        joining = Joining(node, dialler.dialling, [Contact("192.0.2.1", 0)], is_own, Random(0), backoff)
        running = asyncio.create_task(joining.keep() if found else joining.find())
        async with asyncio.timeout(30):
            for number in range(1, 4):
                while len(dialler.dialled) < number - found:
                    await asyncio.sleep(0)
                joining.hurry()
            while len(dialler.dialled) < 3:
                await asyncio.sleep(0)
        assert backoff.resets == 3
        running.cancel()

    asyncio.run(run())
