"""The keys that are held: each cell of the table, what time does, and that nodes which hear of the same keys agree."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wesher.mesh import rotation
from wesher.mesh.node_meta import MAX_KEYS
from wesher.mesh.rotation import (
    MAX_DROPPED,
    MAX_HELD,
    SHORTEST_GRACE,
    UNUSED,
    Dropped,
    HeldKey,
    Keys,
    NoRoom,
    Part,
    elapse,
    fingerprint,
    hear,
    install,
    put_in_place,
    use,
)
from wesher.swim.members import CLOCK_HEADROOM
from wesher.wire.words import KeyPhase, KeyRecord

NOW = 216_000_000
DAY = 86_400
FIRST, SECOND, THIRD, FOURTH, FIFTH = (bytes([number]) * 32 for number in range(1, 6))
COMING, USED = KeyPhase.INSTALLED, KeyPhase.USED


def record(key: bytes, epoch: int = NOW, phase: KeyPhase = COMING, grace: int = DAY) -> KeyRecord:
    """What a member tells of a key."""
    return KeyRecord(key, epoch, grace, phase)


def parts(keys: Keys) -> dict[bytes, Part]:
    """What each key does."""
    return {key.key: keys.part(key) for key in keys.held}


def left(keys: Keys) -> dict[bytes, float | None]:
    """How long each key has."""
    return {key.key: key.left for key in keys.held}


def rotated() -> Keys:
    """The second key in the place of the first."""
    return hear(Keys.of(FIRST), record(SECOND, phase=USED), NOW)


# --- what is heard


def test_an_unknown_key_that_is_given_out_opens_and_does_not_seal():
    """Everybody is to have it first."""
    keys = hear(Keys.of(FIRST), record(SECOND), NOW)
    assert keys.ring == (FIRST, SECOND)
    assert parts(keys) == {FIRST: Part.SEALS, SECOND: Part.COMING}
    assert left(keys) == {FIRST: None, SECOND: DAY}
    assert keys.unfinished is not None
    assert keys.unfinished.key == SECOND


def test_an_unknown_key_that_is_used_seals_at_once():
    """Whoever was away hears of it only now; the former opens for the new one's grace."""
    keys = rotated()
    assert keys.ring == (SECOND, FIRST)
    assert left(keys) == {FIRST: DAY, SECOND: None}
    assert keys.unfinished is None


def test_a_held_key_is_used_when_a_member_uses_it():
    """The word that it is used is the second that is told of it."""
    keys = hear(hear(Keys.of(FIRST), record(SECOND), NOW), record(SECOND, phase=USED), NOW)
    assert keys == rotated()


def test_phases_never_go_back():
    """A member that has heard only half says what it knows."""
    keys = rotated()
    assert hear(keys, record(SECOND, phase=COMING), NOW) is keys


def test_what_is_known_is_no_news():
    """Records are behind every exchange."""
    keys = rotated()
    assert hear(keys, record(SECOND, phase=USED), NOW) is keys


def test_of_two_new_keys_the_higher_seals_and_both_open():
    """Two halves of a mesh have each changed keys, and meet."""
    for order in permutations((record(SECOND, NOW, USED), record(THIRD, NOW + 1, USED))):
        keys = Keys.of(FIRST)
        for one in order:
            keys = hear(keys, one, NOW + 1)
        assert keys.primary.key == THIRD
        assert set(keys.ring) == {FIRST, SECOND, THIRD}


def test_of_two_keys_of_one_second_the_higher_fingerprint_seals():
    """Everybody has to choose the same."""
    both = [record(SECOND, NOW, USED), record(THIRD, NOW, USED)]
    highest = max((SECOND, THIRD), key=fingerprint)
    for order in permutations(both):
        keys = Keys.of(FIRST)
        for one in order:
            keys = hear(keys, one, NOW)
        assert keys.primary.key == highest


def test_a_key_that_was_never_used_does_not_seal_for_being_younger():
    """Somebody has broken off."""
    keys = hear(rotated(), record(THIRD, NOW + 5), NOW + 5)
    assert keys.primary.key == SECOND
    assert parts(keys)[THIRD] is Part.COMING


@pytest.mark.parametrize(("ahead", "believed"), [(CLOCK_HEADROOM, True), (CLOCK_HEADROOM + 1, False)])
def test_an_epoch_that_no_clock_explains_is_not_believed(ahead, believed):
    """Or nobody could ever make a higher one."""
    keys = Keys.of(FIRST)
    assert (hear(keys, record(SECOND, NOW + ahead, USED), NOW) is not keys) is believed


@pytest.mark.parametrize(
    ("said", "kept"), [(0, SHORTEST_GRACE), (59, 60), (60, 60), (61, 61), (0xFFFF_FFFF, 0xFFFF_FFFF)]
)
def test_no_grace_is_shorter_than_a_minute(said, kept):
    """A member must not lock out everybody else who is not there just now."""
    assert left(hear(Keys.of(FIRST), record(SECOND, phase=USED, grace=said), NOW))[FIRST] == kept


def busy() -> Keys:
    """As many keys as may be given out: one seals, two were replaced, one is coming."""
    keys = hear(rotated(), record(THIRD, NOW + 1, USED), NOW + 1)
    keys = hear(keys, record(FOURTH, NOW + 2), NOW + 2)
    assert len(keys.held) == MAX_KEYS
    return keys


OTHERS = [bytes([number]) * 32 for number in range(100, 100 + MAX_HELD - MAX_KEYS)]


def full() -> Keys:
    """A ring without room: one key seals, all others but one were replaced, one is coming."""
    keys = busy()
    for epoch, key in enumerate(OTHERS, 1):
        keys = hear(keys, record(key, epoch, USED), NOW)
    assert len(keys.held) == MAX_HELD
    return keys


def test_a_full_ring_takes_no_key_that_is_not_used_and_lower():
    """None is dropped before its time."""
    keys = full()
    assert hear(keys, record(FIFTH, NOW + 1), NOW + 3) is keys


def test_in_a_full_ring_a_key_that_is_not_used_takes_the_place_of_a_lower_one():
    """So it does not matter which of many was heard first: all hold the same, and somebody's can be used."""
    keys = hear(full(), record(FIFTH, NOW + 3), NOW + 3)
    assert set(keys.ring) == {FIRST, SECOND, THIRD, *OTHERS, FIFTH}


@pytest.mark.parametrize(("epoch", "seals"), [(NOW + 3, True), (NOW - 3, False)], ids=["newest", "older"])
def test_in_a_full_ring_a_used_key_takes_the_place_of_one_that_never_was(epoch, seals):
    """Nothing was sealed with that; and others seal with this, or did, however old it is."""
    keys = hear(full(), record(FIFTH, epoch, USED), NOW + 3)
    assert (keys.primary.key == FIFTH) is seals
    assert set(keys.ring) == {FIRST, SECOND, THIRD, *OTHERS, FIFTH}


def met(*parts: Keys) -> list[Keys]:
    """Parts of a mesh that have told each other everything."""
    rings = list(parts)
    for _ in range(2):
        for told in list(rings):
            for word in told.records:
                rings = [hear(keys, word, NOW) for keys in rings]
    return rings


def changed_apart(part: int, times: int) -> Keys:
    """A part of a mesh of the first key, where an operator changed keys so often."""
    keys = Keys.of(FIRST)
    for number in range(times):
        new = bytes([100 + part, number]) * 16
        keys = use(install(keys, new, NOW - part, DAY), fingerprint(new))
    return keys


def test_parts_that_changed_keys_as_often_as_they_may_agree_when_they_meet():
    """Where a part had no room for the others' newest, neither would understand what the other seals."""
    with pytest.raises(NoRoom):
        changed_apart(1, MAX_KEYS)
    rings = met(*(changed_apart(part, MAX_KEYS - 1) for part in range(3)))
    assert len({keys.ring for keys in rings}) == 1


def test_however_many_give_out_a_key_at_once_the_same_are_held_by_all():
    """As where every machine's calendar has the command at midnight. Else none could be used until all are dropped."""
    rings = met(*(install(Keys.of(FIRST), bytes([number]) * 32, NOW, DAY) for number in range(10, 40)))
    assert len({keys.ring for keys in rings}) == 1


def test_of_two_that_were_never_used_the_younger_stays():
    """It is the one that somebody goes on with."""
    keys = hear(hear(rotated(), record(THIRD, NOW + 1), NOW + 1), record(FOURTH, NOW + 2), NOW + 2)
    assert keys.unfinished is not None
    assert keys.unfinished.key == FOURTH
    assert keys.ring == (SECOND, FOURTH, THIRD, FIRST)
    for key in OTHERS:
        keys = hear(keys, record(key, 1, USED), NOW)
    assert set(hear(keys, record(FIFTH, NOW + 3, USED), NOW + 3).ring) == {FIRST, SECOND, *OTHERS, FOURTH, FIFTH}


def test_a_ring_full_of_used_keys_takes_none():
    """Who makes up keys cannot have those of others dropped."""
    keys = hear(full(), record(FOURTH, NOW + 2, USED), NOW + 3)
    assert hear(keys, record(FIFTH, NOW + 3, USED), NOW + 3) is keys


def test_a_held_key_takes_the_higher_epoch_and_grace():
    """By hand it is put in place at another time on each node, and their order must become one."""
    keys = put_in_place(Keys.of(FIRST), SECOND, NOW)
    keys = hear(keys, record(THIRD, NOW + 5, USED, grace=100), NOW + 10)
    assert keys.primary.key == THIRD
    keys = hear(keys, record(SECOND, NOW + 10, USED, grace=200), NOW + 10)
    assert keys.primary.key == SECOND
    assert left(keys) == {SECOND: None, THIRD: 200}


# --- dropping


def test_a_replaced_key_is_dropped_after_its_grace():
    """And not before."""
    keys = elapse(rotated(), DAY - 1)
    assert keys.ring == (SECOND, FIRST)
    assert left(keys)[FIRST] == 1
    keys = elapse(keys, 1)
    assert keys.ring == (SECOND,)
    assert keys.dropped == (Dropped(fingerprint(FIRST), USED),)


def test_a_later_change_does_not_touch_the_time_of_a_key_that_is_going():
    """Each has what it was promised."""
    keys = hear(elapse(rotated(), 10), record(THIRD, NOW + 1, USED, grace=100), NOW + 1)
    assert left(keys) == {FIRST: DAY - 10, SECOND: 100, THIRD: None}


def test_a_dropped_key_does_not_come_back():
    """Those who drop it later go on telling of it."""
    keys = elapse(hear(rotated(), record(THIRD, NOW + 1, USED), NOW + 1), DAY)
    assert keys.ring == (THIRD,)
    assert hear(keys, record(SECOND, phase=USED), NOW + 1) is keys
    assert hear(keys, record(SECOND), NOW + 1) is keys


def test_a_key_that_nobody_used_for_a_day_is_dropped():
    """Somebody has broken off, and not gone on."""
    keys = elapse(hear(Keys.of(FIRST), record(SECOND), NOW), UNUSED)
    assert keys.ring == (FIRST,)
    assert hear(keys, record(SECOND), NOW) is keys


def test_a_key_dropped_unused_is_heard_of_when_it_is_used():
    """In another part of the mesh somebody went on just in time."""
    keys = elapse(hear(Keys.of(FIRST), record(SECOND), NOW), UNUSED)
    keys = hear(keys, record(SECOND, phase=USED), NOW)
    assert keys.ring == (SECOND, FIRST)
    assert keys.dropped == ()
    assert left(keys) == {FIRST: DAY, SECOND: None}


def test_time_does_nothing_to_a_key_that_is_alone():
    """The key that seals is never dropped."""
    keys = Keys.of(FIRST)
    assert elapse(keys, 1e9) is keys
    assert keys.next_drop is None


def test_the_next_drop_is_the_soonest():
    """That is when to look again."""
    keys = hear(rotated(), record(THIRD, NOW + 1, USED, grace=100), NOW + 1)
    assert keys.next_drop == 100
    assert elapse(keys, 100).next_drop == DAY - 100


def test_only_so_many_dropped_keys_are_remembered():
    """The latest."""
    keys = Keys.of(FIRST)
    names = [number.to_bytes(32) for number in range(10, 10 + MAX_DROPPED + 5)]
    for number, key in enumerate(names):
        keys = elapse(hear(keys, record(key, NOW + number, USED), NOW + number), DAY)
    assert len(keys.dropped) == 32
    assert keys.dropped[-1] == Dropped(fingerprint(names[-2]), USED)
    assert Dropped(fingerprint(FIRST), USED) not in keys.dropped


# --- what is told to


def test_a_change_of_keys_step_by_step():
    """Given out, used, and the former dropped."""
    keys = install(Keys.of(FIRST), SECOND, NOW, 3600)
    assert keys.records == (record(SECOND, NOW, COMING, 3600),)
    keys = use(keys, fingerprint(SECOND))
    assert keys.records == (record(SECOND, NOW, USED, 3600),)
    assert left(keys) == {FIRST: 3600, SECOND: None}
    assert elapse(keys, 3600).ring == (SECOND,)


def test_a_new_key_is_higher_than_all_that_are_held():
    """Whatever the clock shows."""
    keys = install(rotated(), THIRD, NOW - 100, DAY)
    assert keys.unfinished is not None
    assert keys.unfinished.epoch == NOW + 1


def test_no_key_is_given_out_where_there_is_no_room():
    """Nobody could take it."""
    with pytest.raises(NoRoom):
        install(busy(), FIFTH, NOW, DAY)


def test_the_first_key_is_not_told():
    """Whoever hears it has it. A key made in the very first second of epochs is another."""
    assert Keys.of(FIRST).records == ()
    assert hear(Keys.of(FIRST), record(SECOND, 1), NOW).records == (record(SECOND, 1),)


def test_a_key_put_in_place_leaves_no_other():
    """The former has leaked: no grace."""
    keys = put_in_place(busy(), FIFTH, NOW)
    assert keys.ring == (FIFTH,)
    assert {gone.fingerprint for gone in keys.dropped} == set(map(fingerprint, (FIRST, SECOND, THIRD, FOURTH)))
    for key in (FIRST, SECOND, THIRD, FOURTH):
        assert hear(keys, record(key, NOW, USED), NOW) is keys


def test_a_key_that_seals_already_can_be_put_in_place():
    """To drop the one before it early; and one that was dropped, if an operator wants it so."""
    keys = put_in_place(rotated(), SECOND, NOW + 5)
    assert keys.ring == (SECOND,)
    assert keys.dropped == (Dropped(fingerprint(FIRST), USED),)
    back = put_in_place(keys, FIRST, NOW + 9)
    assert back.ring == (FIRST,)
    assert back.dropped == (Dropped(fingerprint(SECOND), USED),)
    assert back.primary.epoch > keys.primary.epoch


# --- a key given at the start


@pytest.mark.parametrize(
    ("keys", "key", "sealing", "said"),
    [
        (rotated(), SECOND, SECOND, False),
        (rotated(), FIRST, SECOND, True),
        (elapse(rotated(), DAY), FIRST, SECOND, True),
        (rotated(), THIRD, THIRD, False),
        (elapse(rotated(), DAY), THIRD, THIRD, False),
        (install(Keys.of(FIRST), SECOND, NOW, DAY), THIRD, THIRD, False),
        (install(Keys.of(FIRST), SECOND, NOW, DAY), FIRST, FIRST, False),
        (install(Keys.of(FIRST), SECOND, NOW, DAY), SECOND, SECOND, False),
        (elapse(install(Keys.of(FIRST), SECOND, NOW, DAY), UNUSED), SECOND, SECOND, False),
    ],
)
def test_a_given_key_wins_unless_it_was_replaced(keys, key, sealing, said):
    """Then the options are older than the state."""
    new, remark = rotation.given(keys, key)
    assert new.primary.key == sealing
    assert (remark is not None) is said


def test_a_given_key_that_is_unknown_stands_alone():
    """As with the original: it is another cluster's."""
    assert rotation.given(rotated(), THIRD) == (Keys.of(THIRD), None)


# --- whatever happens

KEYS = st.sampled_from((SECOND, THIRD, FOURTH))
RECORDS = st.builds(
    KeyRecord, KEYS, st.integers(NOW, NOW + 3), st.sampled_from((60, 90, DAY)), st.sampled_from(tuple(KeyPhase))
)


@settings(max_examples=300)
@given(st.lists(RECORDS, max_size=8), st.randoms(use_true_random=False))
def test_the_order_in_which_records_come_is_nothing(records, rng):
    """All who hear of the same keys hold the same, seal with the same, and tell the same."""
    shuffled = list(records)
    rng.shuffle(shuffled)
    results = []
    for order in (records, shuffled, [*shuffled, *records]):
        keys = Keys.of(FIRST)
        for one in order:
            keys = hear(keys, one, NOW)
        results.append((keys.primary.key, set(keys.ring), frozenset(keys.records)))
    assert results[0] == results[1] == results[2]


@settings(max_examples=300)
@given(st.lists(RECORDS | st.integers(0, 100), max_size=12))
def test_no_key_that_was_used_is_dropped_before_its_grace(steps):
    """The primary never; another when it has not sealed for at least the shortest grace."""
    keys, clock = Keys.of(FIRST), 0
    sealed_at = {FIRST: 0}
    for step in steps:
        before = keys
        if isinstance(step, int):
            clock += step
            keys = elapse(keys, step)
        else:
            keys = hear(keys, step, NOW)
            sealed_at[before.primary.key] = clock
        sealed_at[keys.primary.key] = clock
        assert 1 <= len(keys.held) <= MAX_HELD
        assert keys.ring[0] == keys.primary.key
        for gone in {key.key for key in before.held} - {key.key for key in keys.held}:
            if gone in sealed_at:
                assert clock - sealed_at[gone] >= SHORTEST_GRACE


@pytest.mark.parametrize(
    "bad",
    [
        lambda: HeldKey(b"short"),
        lambda: HeldKey(FIRST, epoch=-1),
        lambda: HeldKey(FIRST, epoch=1 << 32),
        lambda: HeldKey(FIRST, grace=SHORTEST_GRACE - 1),
        lambda: HeldKey(FIRST, grace=1 << 32),
        lambda: HeldKey(FIRST, left=-1),
        lambda: HeldKey(FIRST, left=(1 << 32) + 1),
        lambda: Keys(()),
        lambda: Keys((HeldKey(FIRST, phase=COMING),)),
        lambda: Keys((HeldKey(FIRST), HeldKey(FIRST, epoch=1))),
        lambda: Keys(tuple(HeldKey(bytes([number]) * 32) for number in range(MAX_HELD + 1))),
    ],
)
def test_keys_that_make_no_sense_are_refused(bad):
    """They may come from a file."""
    with pytest.raises(ValueError):  # noqa: PT011 - any sentence will do
        bad()


def test_the_largest_numbers_make_sense():
    """They are u32."""
    most = (1 << 32) - 1
    assert HeldKey(FIRST, most, USED, most, most).rank == (most, fingerprint(FIRST))


def test_no_key_is_ever_shown():
    """A repr ends up in logs."""
    keys = rotated()
    shown = repr((keys, keys.records, replace(keys.primary)))
    assert repr(FIRST)[2:-1] not in shown
    assert repr(SECOND)[2:-1] not in shown


def test_a_fingerprint_tells_keys_apart():
    """And is what it is in all versions."""
    assert fingerprint(bytes(32)).hex() == "18a964df"
    assert len({fingerprint(key) for key in (FIRST, SECOND, THIRD, FOURTH, FIFTH)}) == 5
