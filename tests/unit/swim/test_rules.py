"""Which news counts: every cell of memberlist's table (protocol 5.2 to 5.5), written down by hand."""

from __future__ import annotations

from itertools import product

import pytest

from wesher.swim.member import Member
from wesher.swim.members import (
    CLOCK_HEADROOM,
    Ruling,
    rule_alive,
    rule_dead,
    rule_suspect,
)
from wesher.wire.limits import VSN
from wesher.wire.messages import Alive, Dead, NodeState, Suspect

TODAY = 200_000_000
HELD = TODAY + CLOCK_HEADROOM - 1
"""One below the last that the calendar explains."""
ABSURD = 2

DELTAS = (-1, 0, +1, ABSURD)
STATES = (None, *NodeState)
HERE, ELSEWHERE = (b"\x0a\0\0\x01", 7946), (b"\x0a\0\0\x02", 7946)
OTHER_PORT = (b"\x0a\0\0\x01", 7947)
MAPPED = (bytes(10) + b"\xff\xff\x0a\0\0\x01", 7946)

LETTERS = {
    ".": Ruling.IGNORE,
    "A": Ruling.ACCEPT,
    "+": Ruling.CONFIRM,
    "R": Ruling.REFUTE,
    "C": Ruling.CONFLICT,
    "T": Ruling.TELL,
    "V": Ruling.IF_VACANT,
}
"""Of the tables below: four letters each, for an incarnation one lower, the same, one higher, absurdly higher."""

# An alive about an unknown name is judged by the calendar alone: see test_an_unknown_name_is_news.
# About another node that is known: whether we leave ourselves does not matter.
ALIVE_OTHER = {
    #                 same address, same meta   same address, other meta   another address
    NodeState.ALIVE: ("..A.", "..A.", "CCC."),
    NodeState.SUSPECT: ("..A.", "..A.", "CCC."),
    NodeState.DEAD: ("..A.", "TTA.", "CCV."),  # restarted, perhaps, there or elsewhere: it may outbid
    NodeState.LEFT: ("..A.", "TTA.", "VVV."),  # its name is free, if it has really left
}

# An alive about us. We never suspect ourselves, and are dead or gone only while leaving; those cells cannot come
# about, and must yet never let a stranger's word through.
ALIVE_SELF = {
    #      same address, same meta   same address, other meta   another address
    NodeState.ALIVE: ("..R.", ".RR.", "CCC."),
    NodeState.SUSPECT: ("..R.", ".RR.", "CCC."),
    NodeState.DEAD: ("..R.", ".RR.", "CCC."),
    NodeState.LEFT: ("..R.", ".RR.", "CCC."),
}

SUSPECT_OTHER = {
    None: "....",
    NodeState.ALIVE: ".AA.",
    NodeState.SUSPECT: ".++.",
    NodeState.DEAD: "....",
    NodeState.LEFT: "....",
}
SUSPECT_SELF = SUSPECT_OTHER | {NodeState.ALIVE: ".RR."}

DEAD_OTHER = {
    None: "....",
    NodeState.ALIVE: ".AA.",
    NodeState.SUSPECT: ".AA.",
    NodeState.DEAD: "....",
    NodeState.LEFT: "....",
}
DEAD_SELF = DEAD_OTHER | {NodeState.ALIVE: ".RR.", NodeState.SUSPECT: ".RR."}


def held(state: NodeState | None) -> Member | None:
    """The record that the news meets."""
    return None if state is None else Member("name", *HERE, b"meta", HELD, state, 0.0)


def letters(rulings: list[Ruling]) -> str:
    """Rulings as in the tables."""
    names = {ruling: letter for letter, ruling in LETTERS.items()}
    return "".join(names[ruling] for ruling in rulings)


def alive(state, address, meta=b"meta", vsn=VSN, **about) -> str:
    """The rulings on an alive, for each incarnation."""
    return letters(
        [
            rule_alive(held(state), Alive(HELD + delta, "name", *address, meta, vsn), seconds_since_2020=TODAY, **about)
            for delta in DELTAS
        ]
    )


@pytest.mark.parametrize("state", NodeState)
@pytest.mark.parametrize("leaving", [False, True])
def test_an_alive_about_another(state, leaving):
    """Higher incarnations win; a name belongs to its address until it has left."""
    same, other, elsewhere = ALIVE_OTHER[state]
    about = {"is_self": False, "leaving": leaving}
    assert alive(state, HERE, b"meta", **about) == same
    assert alive(state, HERE, b"other", **about) == other
    for address in (ELSEWHERE, OTHER_PORT, MAPPED):
        for meta in (b"meta", b"other"):
            assert alive(state, address, meta, **about) == elsewhere


@pytest.mark.parametrize("state", NodeState)
def test_an_old_address_that_is_vacant_matters_only_to_who_has_gone(state):
    """A live member that misses a probe keeps its name; the dead lose it to a later life only."""
    about = {"is_self": False, "leaving": False, "vacant": True}
    assert alive(state, ELSEWHERE, **about) == {NodeState.LEFT: "AAA.", NodeState.DEAD: "CCA."}.get(state, "CCC.")
    assert alive(state, HERE, **about) == "..A."


@pytest.mark.parametrize("vacant", [False, True])
def test_nobody_takes_our_own_name(vacant):
    """Not even if we think that we do not answer."""
    about = {"is_self": True, "leaving": False, "vacant": vacant}
    assert [alive(state, ELSEWHERE, **about) for state in NodeState] == ["CCC."] * 4


@pytest.mark.parametrize("state", NodeState)
def test_an_alive_about_ourselves(state):
    """The same incarnation with other metadata is an older run's, or a liar's: outbid it (protocol 5.3)."""
    same, other_meta, elsewhere = ALIVE_SELF[state]
    about = {"is_self": True, "leaving": False}
    assert alive(state, HERE, **about) == same
    assert alive(state, HERE, b"other", **about) == other_meta
    assert alive(state, HERE, vsn=bytes([1, 5, 3, 0, 0, 0]), **about) == other_meta
    for address, meta in product((ELSEWHERE, OTHER_PORT, MAPPED), (b"meta", b"other")):
        assert alive(state, address, meta, **about) == elsewhere


@pytest.mark.parametrize("state", NodeState)
@pytest.mark.parametrize("address", [HERE, ELSEWHERE])
@pytest.mark.parametrize("meta", [b"meta", b"other"])
def test_who_leaves_no_longer_answers_for_itself(state, address, meta):
    """There is no way back for an instance that has said goodbye."""
    assert alive(state, address, meta, is_self=True, leaving=True) == "...."


@pytest.mark.parametrize(("is_self", "leaving"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("address", [HERE, ELSEWHERE])
def test_an_unknown_name_is_news(is_self, leaving, address):
    """Whatever its incarnation, as long as the calendar explains it; but for 0, where memberlist's unknown stand."""
    rulings = [
        rule_alive(
            None,
            Alive(incarnation, "name", *address, b""),
            is_self=is_self,
            leaving=leaving,
            seconds_since_2020=200_000_000,
        )
        for incarnation in (0, 1, 200_000_000, 200_000_000 + CLOCK_HEADROOM + 1)
    ]
    assert letters(rulings) == ".AA."


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("is_self", [False, True])
def test_a_suspicion(state, is_self):
    """Only the living can be suspected; a second report confirms; our own is refuted."""
    expected = (SUSPECT_SELF if is_self else SUSPECT_OTHER)[state]
    rulings = [
        rule_suspect(held(state), Suspect(HELD + delta, "name", "accuser"), is_self=is_self, seconds_since_2020=TODAY)
        for delta in DELTAS
    ]
    assert letters(rulings) == expected


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("is_self", [False, True])
@pytest.mark.parametrize("leaving", [False, True])
@pytest.mark.parametrize("accuser", ["accuser", "name", ""])
def test_a_death(state, is_self, leaving, accuser):
    """Only the living can die; we do only of our own will. A leave is a death that names its subject as accuser."""
    expected = (DEAD_SELF if is_self and not leaving else DEAD_OTHER)[state]
    rulings = [
        rule_dead(
            held(state),
            Dead(HELD + delta, "name", accuser),
            is_self=is_self,
            leaving=leaving,
            seconds_since_2020=TODAY,
        )
        for delta in DELTAS
    ]
    assert letters(rulings) == expected


@pytest.mark.parametrize(
    ("known", "today", "highest"),
    [
        (None, 0, 1 << 31),
        (7, 0, 1 << 31),
        (7, 188_999_999, 1 << 31),
        (None, 200_000_000, 200_086_400),
        (100, 200_000_000, 200_086_400),
        (200_086_399, 200_000_000, 200_086_400),
        (None, 189_000_000, 189_086_400),
    ],
)
def test_an_incarnation_may_run_ahead_only_so_far(known, today, highest):
    """A day beyond the calendar, whatever is known. A clock that is not set yet knows nothing."""
    record = None if known is None else Member("name", *HERE, b"", known, NodeState.ALIVE, 0.0)
    about = {"is_self": False, "seconds_since_2020": today}
    for incarnation, accepted in ((highest, True), (highest + 1, False), ((1 << 32) - 1, False)):
        wanted = Ruling.ACCEPT if accepted else Ruling.IGNORE
        assert rule_alive(record, Alive(incarnation, "name", *HERE, b""), leaving=False, **about) is wanted
        if record is not None:
            assert rule_suspect(record, Suspect(incarnation, "name", "x"), **about) is wanted
            assert rule_dead(record, Dead(incarnation, "name", "x"), leaving=False, **about) is wanted


def test_no_incarnation_above_half_of_32_bits_counts():
    """Whoever is driven that far by those whose clock is not set is stopped there, before it wraps."""
    record = Member("name", *HERE, b"", 1 << 31, NodeState.ALIVE, 0.0)
    about = {"is_self": False, "seconds_since_2020": TODAY}
    beyond = (1 << 31) + 1
    assert rule_alive(record, Alive(beyond, "name", *HERE, b""), leaving=False, **about) is Ruling.IGNORE
    assert rule_suspect(record, Suspect(beyond, "name", "x"), **about) is Ruling.IGNORE
    assert rule_dead(record, Dead(beyond, "name", "x"), leaving=False, **about) is Ruling.IGNORE
