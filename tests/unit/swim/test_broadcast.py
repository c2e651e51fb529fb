"""The queue of news: who is told what, how often, and in what order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wesher.swim.broadcast import BroadcastQueue

BUDGET = 1369
"""What memberlist leaves for broadcasts of a gossip packet: 1400 less compound header and seal."""

news = st.tuples(st.sampled_from("abcdefgh"), st.binary(min_size=1, max_size=900))
queues = st.lists(news, max_size=12)


def filled(*items: tuple[str, bytes]) -> BroadcastQueue:
    """A queue with this news, in order."""
    queue = BroadcastQueue()
    for about, data in items:
        queue.queue(about, data)
    return queue


def test_news_about_a_member_replaces_older_news_about_it():
    """Whatever its kind: only the last word counts."""
    queue = filled(("a", b"alive"), ("b", b"other"), ("a", b"suspect"))
    assert len(queue) == 2
    assert set(queue.take(BUDGET, 4)) == {b"suspect", b"other"}


def test_replaced_news_is_told_afresh():
    """Its count of transmits begins again."""
    queue = filled(("a", b"first"))
    queue.take(BUDGET, 2)
    queue.queue("a", b"second")
    assert [queue.take(BUDGET, 2) for _ in range(3)] == [[b"second"], [b"second"], []]


def test_news_is_told_exactly_to_its_limit():
    """One take is one packet to one peer."""
    queue = filled(("a", b"news"))
    assert [queue.take(BUDGET, 4) for _ in range(5)] == [[b"news"]] * 4 + [[]]
    assert "a" not in queue


def test_news_is_told_once_where_the_limit_is_zero():
    """memberlist's limit for an empty cluster."""
    queue = filled(("a", b"news"))
    assert [queue.take(BUDGET, 0) for _ in range(2)] == [[b"news"], []]


def test_the_least_told_goes_first():
    """Before larger and newer news that has been told more often."""
    queue = filled(("a", b"long news"))
    queue.take(BUDGET, 9)
    queue.queue("b", b"short")
    assert queue.take(BUDGET, 9) == [b"short", b"long news"]


def test_among_equally_told_the_largest_goes_first():
    """Small ones fill the gaps."""
    queue = filled(("a", b"x"), ("b", b"xxx"), ("c", b"xx"))
    assert queue.take(BUDGET, 4) == [b"xxx", b"xx", b"x"]


def test_among_equally_large_the_newest_goes_first():
    """It is the one that fewest know."""
    queue = filled(("a", b"1"), ("b", b"2"), ("c", b"3"))
    assert queue.take(BUDGET, 4) == [b"3", b"2", b"1"]


def test_what_does_not_fit_is_passed_over():
    """It keeps its turn for the next packet, and what fits goes."""
    queue = filled(("a", b"x" * 50), ("b", b"y" * 20))
    assert queue.take(30, 4) == [b"y" * 20]
    assert queue.take(52, 4) == [b"x" * 50]


def test_news_about_the_forgotten_is_dropped():
    """With nobody to tell it would stay for ever; dropping what is not there is nothing."""
    queue = filled(("a", b"1"), ("b", b"2"))
    queue.drop("a")
    queue.drop("x")
    assert queue.take(BUDGET, 4) == [b"2"]


def test_a_part_costs_its_length_field_too():
    """Two bytes each, in a compound."""
    queue = filled(("a", b"x" * 10))
    assert queue.take(11, 4) == []
    assert queue.take(12, 4) == [b"x" * 10]


@given(queues, st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 12)), max_size=30))
def test_no_packet_is_overfull_and_nothing_is_told_twice_in_one(items, takes):
    """Whatever is queued and however much room there is."""
    queue = filled(*items)
    waiting = dict(items)
    for budget, limit in takes:
        taken = queue.take(budget, limit)
        assert sum(len(data) + 2 for data in taken) <= budget
        left = list(waiting.values())
        for data in taken:
            left.remove(data)  # raises where it was told twice, or never queued


@given(queues, st.integers(1, 12))
def test_everything_is_told_to_its_limit_and_no_more(items, limit):
    """With room for it in each packet; then the queue is empty."""
    queue = filled(*items)
    told: list[bytes] = []
    while taken := queue.take(BUDGET, limit):
        told += taken
    assert sorted(told) == sorted(data for data in dict(items).values() for _ in range(limit))
    assert len(queue) == 0
