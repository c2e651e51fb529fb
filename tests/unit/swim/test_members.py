"""The table of members and the ring in which they are probed."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wesher.swim.io import Endpoint, from_wire
from wesher.swim.member import Member
from wesher.swim.members import Members
from wesher.wire.messages import Alive, NodeState

LIVE = (NodeState.ALIVE, NodeState.SUSPECT)
GONE = (NodeState.DEAD, NodeState.LEFT)


def member(name: str, state: NodeState = NodeState.ALIVE, since: float = 0.0) -> Member:
    """A member; its address does not matter here."""
    return Member(name, b"\x0a\0\0\x01", 7946, b"", 1, state, since)


def table(seed: int, *members: Member) -> Members:
    """A table with ourselves, called `self`, and others."""
    print(f"seed {seed}")
    made = Members(Random(seed))
    made.put(member("self"))
    for other in members:
        made.put(other)
    return made


def rounds(members: Members, count: int) -> list[list[str]]:
    """The names probed in each of `count` whole rounds of the ring."""
    found: list[list[str]] = []
    while len(found) <= count:
        probed, wrapped = members.next_probe("self")
        if wrapped:
            found.append([])
        if found and probed is not None:
            found[-1].append(probed.name)
    return found[:count]


@pytest.mark.parametrize("seed", range(10))
def test_every_live_member_is_probed_once_a_round(seed):
    """And nobody else: not ourselves, not the dead, not who has left."""
    names = [f"n{number}" for number in range(20)]
    states = [state for state in NodeState for _ in range(5)]
    members = table(seed, *map(member, names, states))
    living = sorted(name for name, state in zip(names, states, strict=True) if state in LIVE)
    for probed in rounds(members, 5):
        assert sorted(probed) == living


@pytest.mark.parametrize("seed", range(5))
def test_each_round_has_its_own_order(seed):
    """Or the same pairs would meet for ever."""
    members = table(seed, *(member(f"n{number}") for number in range(12)))
    assert len({tuple(probed) for probed in rounds(members, 6)}) == 6


def test_a_lone_node_probes_nobody_and_its_ring_still_turns():
    """The turn of the ring is when the dead are forgotten."""
    members = table(0)
    assert [members.next_probe("self") for _ in range(2)] == [(None, True), (None, True)]


def test_a_ring_without_the_living_comes_round_in_one_call():
    """A tick checks each member at most once more than there are."""
    members = table(0, *(member(f"n{number}", NodeState.DEAD) for number in range(5)))
    assert members.next_probe("self") == (None, True)


def test_after_a_tick_in_vain_the_new_round_has_only_begun():
    """One member of it is checked, and no more: whoever comes back meanwhile mostly still has its turn."""
    wrapped = set()
    for seed in range(20):
        members = table(seed, member("b", NodeState.DEAD))
        assert members.next_probe("self") == (None, True)
        members.put(member("b"))
        wrapped.add(members.next_probe("self")[1])
    assert wrapped == {False, True}


def test_a_new_member_enters_anywhere():
    """At a random place, so that nodes do not probe a newcomer in step."""
    firsts = Counter()
    for seed in range(400):
        members = Members(Random(seed))
        for name in ("self", "a", "b", "c", "new"):
            members.put(member(name))
        firsts[members.next_probe("self")[0].name] += 1
    assert set(firsts) == {"a", "b", "c", "new"}
    # Appended, it would never be first; put in front, always. 400 draws of about 1/5, six deviations wide.
    assert 32 <= firsts["new"] <= 128


def test_replacing_a_record_keeps_its_place():
    """A member is in the ring once, however often it changes."""
    members = table(3, *(member(f"n{number}") for number in range(5)))
    for number in range(5):
        members.put(member(f"n{number}", NodeState.SUSPECT))
    assert sorted(rounds(members, 1)[0]) == [f"n{number}" for number in range(5)]
    assert len(members) == 6


def test_reaping_forgets_the_dead_and_gone_of_long_ago():
    """Older than the limit, not as old: memberlist keeps what is exactly as old."""
    members = table(
        0,
        *(member(f"old {state.name}", state, since=9.9) for state in NodeState),
        *(member(f"new {state.name}", state, since=10.0) for state in NodeState),
    )
    assert sorted(m.name for m in members.reap("self", before=10.0)) == ["old DEAD", "old LEFT"]
    assert members.get("old DEAD") is None
    assert members.get("new DEAD") is not None
    assert len(members) == 7


@given(st.integers(0, 2**32), st.lists(st.sampled_from(NodeState), max_size=12), st.integers(0, 15))
def test_reaping_disturbs_nobodys_turn(seed, states, probes):
    """In whatever position the ring stands: who has not been probed this round still is, once."""
    members = table(seed, *(member(f"n{number}", state) for number, state in enumerate(states)))
    living = {f"n{number}" for number, state in enumerate(states) if state in LIVE}
    done: list[str] = []
    for _ in range(probes):
        probed, wrapped = members.next_probe("self")
        done = [] if wrapped else done
        if probed is not None:
            done.append(probed.name)
    members.reap("self", before=1.0)
    while True:
        probed, wrapped = members.next_probe("self")
        if wrapped:
            break
        done.append(probed.name)
    assert sorted(done) == sorted(living)


@given(st.integers(0, 2**32), st.integers(0, 10), st.integers(0, 10))
def test_a_sample_is_some_of_the_eligible_each_once(seed, count, size):
    """As many as asked for, or all there are."""
    members = table(seed, *(member(f"n{number}") for number in range(size)))
    sample = members.sample(count, (m for m in members if m.name != "self"))
    assert len(sample) == min(count, size)
    assert len({m.name for m in sample}) == len(sample)
    assert "self" not in {m.name for m in sample}


def test_every_eligible_member_can_be_sampled():
    """memberlist before 0.6 misses some in small clusters."""
    members = table(5, *(member(f"n{number}") for number in range(6)))
    found = Counter(m.name for _ in range(600) for m in members.sample(2, iter(members)))
    assert len(found) == 7
    assert min(found.values()) > 100  # expected 171 each, deviation 11


def test_iterating_gives_everybody_in_order_of_arrival():
    """The order of a push/pull's list is stable."""
    assert [m.name for m in table(0, member("b"), member("a"))] == ["self", "b", "a"]


@pytest.mark.parametrize(
    ("addr", "shown"),
    [
        (b"\x0a\x01\x02\x03", "10.1.2.3:7946"),
        (bytes(10) + b"\xff\xff\x0a\x01\x02\x03", "10.1.2.3:7946"),
        (bytes.fromhex("20010db8000000000000000000000001"), "[2001:db8::1]:7946"),
    ],
)
def test_an_announced_address_becomes_one_that_sockets_take(addr, shown):
    """Mapped IPv4 is IPv4 for sockets; the record keeps the bytes as announced."""
    assert str(from_wire(addr, 7946)) == shown
    record = Member.from_alive(Alive(1, "name", addr, 7946, b""), 0.0)
    assert record.addr == addr
    assert record.as_alive().addr == record.as_entry().addr == addr
    assert isinstance(record.endpoint, Endpoint)


def test_a_member_is_announced_as_it_announced_itself():
    """Metadata and versions are passed on byte for byte."""
    news = Alive(7, "name", b"\x0a\0\0\x09", 1, b"\0meta\xff", bytes([1, 5, 2, 0, 0, 0]))
    record = Member.from_alive(news, since=3.0)
    assert record.as_alive() == news
    assert (record.state, record.since) == (NodeState.ALIVE, 3.0)
    assert record.as_entry().state is NodeState.ALIVE
