"""What all members see, asked in a bounded time; and our own tunnels, looked at no more than so often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from ipaddress import IPv4Address
from random import Random
from typing import Any

import pytest

from privhelper.protocol import Peer, PeerStatus
from tests.unit.swim.alone import alive, sealed
from tests.unit.swim.virtual import START, endpoint, make_node
from wesher.runtime import handshakes, looking
from wesher.runtime.handshakes import OwnHandshakes, Telling
from wesher.runtime.helper_client import HelperGone
from wesher.runtime.looking import AT_ONCE, Looking
from wesher.swim.event import Viewed
from wesher.swim.io import Connect, Endpoint
from wesher.swim.node import Node
from wesher.wire.messages import Dead, Suspect
from wesher.wire.words import Handshake


class Adapter:
    """In the place of Gossip: notes at whom the node looks, and answers for everybody but `silent`."""

    def __init__(self, node: Node, silent: Collection[Endpoint] = (), seed: int = 1) -> None:
        self.node = node
        self.looked_at: list[Endpoint] = []
        self.under_way = 0
        self.most = 0
        self.looking = Looking(node, self, Random(seed))
        self._silent = silent

    def settle(self) -> None:
        """As it is called after every input."""
        for action in self.node.actions():
            if isinstance(action, Connect):
                self.looked_at.append(action.to)
                self.under_way += 1
                self.most = max(self.most, self.under_way)
                if action.to not in self._silent:
                    asyncio.get_running_loop().call_soon(self.answer, action.to)

    def answer(self, to: Endpoint) -> None:
        """The look there is over."""
        self.under_way -= 1
        self.looking.viewed(Viewed(to))


def knowing(*numbers: int) -> Node:
    """The node `me`, and n2, n3, … at the endpoints of these numbers."""
    node = make_node("me", endpoint(1))
    for number in numbers:
        node.receive_datagram(sealed(alive(f"n{number}", number)), endpoint(number), START)
    node.actions()
    return node


def around(node: Node, silent: Collection[Endpoint] = (), seed: int = 1) -> tuple[dict[str, Viewed], Adapter]:
    """What comes of looking at everybody."""

    async def run() -> tuple[dict[str, Viewed], Adapter]:
        adapter = Adapter(node, silent, seed)
        return await adapter.looking.around(), adapter

    return asyncio.run(run())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for for long."""
    monkeypatch.setattr(looking, "WITHIN", 1.0)


def test_everybody_else_is_asked_once():
    """Who is suspected or held for failed too, but not who has left; so many at a time and no more."""
    node = knowing(*range(2, 50))
    for said in (Suspect(1, "n2", "n3"), Dead(1, "n4", "n3"), Dead(1, "n5", "n5")):
        node.receive_datagram(sealed(said), endpoint(3), START)
    found, adapter = around(node)
    assert found.keys() == {f"n{number}" for number in range(2, 50)} - {"n5"}
    assert found == {name: Viewed(endpoint(int(name[1:]))) for name in found}
    assert sorted(adapter.looked_at) == sorted(view.with_whom for view in found.values())
    assert adapter.most == AT_ONCE
    assert adapter.looked_at.index(endpoint(4)) == len(adapter.looked_at) - 1  # who lives is asked first


def test_alone_there_is_nobody_to_ask():
    """And nothing to wait for."""
    assert around(knowing())[0] == {}


def test_who_does_not_answer_holds_up_nobody_for_long(short):
    """It is said of whom there was an answer, of whom none, and who had no turn for those."""
    silent = [endpoint(number) for number in range(2, 2 + AT_ONCE)]
    found, adapter = around(knowing(*range(2, 2 + 2 * AT_ONCE)), silent)
    failures = [view.failure for view in found.values()]
    waited = failures.count("no answer in 1 s")
    assert waited == AT_ONCE == len([to for to in adapter.looked_at if to in silent])
    assert set(failures) <= {"", "no answer in 1 s", "not asked: too many were slow"}
    assert len(adapter.looked_at) + failures.count("not asked: too many were slow") == len(found)


def test_who_asks_meanwhile_is_told_the_same(short):
    """And one that gives up takes nothing from the other; later everybody is asked anew, who was slow included."""

    async def run() -> list[Any]:
        adapter = Adapter(knowing(2, 3), [endpoint(2)])
        first, second = (asyncio.create_task(adapter.looking.around()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        found = await second
        before = list(adapter.looked_at)
        adapter.answer(endpoint(2))  # nobody waits for it any more
        again = asyncio.create_task(adapter.looking.around())
        await again
        return [found["n3"].failure, sorted(before), len(adapter.looked_at)]

    assert asyncio.run(run()) == ["", [endpoint(2), endpoint(3)], 4]


def test_two_names_at_one_place_are_one_look():
    """A member may say that it lives where another does."""
    node = knowing(2)
    node.receive_datagram(sealed(alive("twin", 2)), endpoint(2), START)
    found, adapter = around(node)
    assert found == {"n2": Viewed(endpoint(2)), "twin": Viewed(endpoint(2))}
    assert adapter.looked_at == [endpoint(2)]


def test_in_a_large_mesh_some_are_asked(monkeypatch):
    """So many that their views are not more than anybody can carry; each time others, the living first."""
    monkeypatch.setattr(looking, "MOST_CELLS", 50)
    node = knowing(*range(2, 11))
    assert len(around(node)[0]) == 5
    assert len({name for seed in range(20) for name in around(node, seed=seed)[0]}) == 9
    for number in range(2, 8):
        node.receive_datagram(sealed(Dead(1, f"n{number}", "n9")), endpoint(9), START)
    assert {"n8", "n9", "n10"} < around(node)[0].keys()


# --- our own tunnels


def peer(name: str) -> Peer:
    """A peer in force, with a key of its own."""
    return Peer(name.encode().ljust(32, b"k"), IPv4Address("192.0.2.9"), IPv4Address("10.0.0.7"), name)


class Helper:
    """Tells of tunnels when it is let to."""

    def __init__(self, **last: int) -> None:
        self.last = last
        self.asked = 0
        self.may = asyncio.Event()
        self.gone = False

    async def status(self) -> list[PeerStatus]:
        """As HelperClient has it."""
        self.asked += 1
        await self.may.wait()
        if self.gone:
            raise HelperGone("gone")
        return [PeerStatus(peer(name).public_key, None, at, 0, 0) for name, at in self.last.items()]


class Told:
    """A node that is told of tunnels, and its adapter."""

    def __init__(self) -> None:
        self.tunnels: list[list[Handshake]] = []
        self.settled = 0

    def tell_tunnels(self, tunnels: list[Handshake]) -> None:
        """As Node has it."""
        self.tunnels.append(tunnels)

    def settle(self) -> None:
        """As Gossip has it."""
        self.settled += 1


def with_helper(run: Callable[[Helper, OwnHandshakes], Any], **last: int) -> Any:
    """Run a coroutine function over a helper that has tunnels to a, b and c, of which `last` shook hands then."""

    async def main() -> Any:
        helper = Helper(**{"a": 0, **last})
        return await run(helper, OwnHandshakes(helper, lambda: {name: peer(name) for name in ("c", "b", "a")}))

    return asyncio.run(main())


def test_handshakes_are_ages_by_name(monkeypatch):
    """None where there has been none, and none where the helper knows no such peer; never from the future."""
    monkeypatch.setattr(handshakes.time, "time", lambda: 1000.4)

    async def run(helper: Helper, own: OwnHandshakes) -> list[Handshake]:
        helper.may.set()
        return await own.latest()

    assert with_helper(run, b=990) == [Handshake("a", None), Handshake("b", 10), Handshake("c", None)]
    assert with_helper(run, b=2000)[1] == Handshake("b", 0)


def test_the_helper_is_asked_once_a_second(monkeypatch):
    """However many members want to know."""
    now = [100.0]
    monkeypatch.setattr(handshakes, "monotonic", lambda: now[0])

    async def run(helper: Helper, own: OwnHandshakes) -> list[int]:
        helper.may.set()
        asked = []
        for later in (0.0, 0.5, 0.5, 0.9):
            now[0] += later
            await own.latest()
            asked.append(helper.asked)
        return asked

    assert with_helper(run) == [1, 1, 2, 2]


def test_all_who_wait_are_told_at_once():
    """One question to the helper, however many ask meanwhile; who asks later is told too."""

    async def run(helper: Helper, own: OwnHandshakes) -> tuple[int, list[int]]:
        node = Told()
        telling = Telling(node, node, own)
        counts = []
        telling.wanted()
        await asyncio.sleep(0)
        telling.wanted()
        helper.may.set()
        for _ in range(3):
            await asyncio.sleep(0)
        counts.append(len(node.tunnels))
        telling.wanted()
        for _ in range(3):
            await asyncio.sleep(0)
        counts.append(len(node.tunnels))
        assert [tunnel.peer for tunnel in node.tunnels[0]] == ["a", "b", "c"]
        assert node.settled == len(node.tunnels)
        return helper.asked, counts

    assert with_helper(run) == (1, [1, 2])


def test_without_a_helper_nobody_is_told():
    """The process ends anyway, and says why elsewhere."""

    async def run(helper: Helper, own: OwnHandshakes) -> list[list[Handshake]]:
        node = Told()
        helper.gone = True
        helper.may.set()
        Telling(node, node, own).wanted()
        for _ in range(3):
            await asyncio.sleep(0)
        return node.tunnels

    assert with_helper(run) == []
