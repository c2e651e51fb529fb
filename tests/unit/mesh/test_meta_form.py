"""Which metadata form is announced: the one that Go members can read, soon for who joins, and without flapping."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.mesh.members import member
from wesher.mesh.meta_form import HYSTERESIS, FormChoice, parse_meta_format
from wesher.mesh.node_meta import Claim, MetaForm
from wesher.swim.member import Member
from wesher.wire.messages import NodeState

V02, V03 = MetaForm.V02, MetaForm.V03
CLAIM = Claim(attempt=0, claim_time=0)
ME = member("me", claim=CLAIM)
PYTHON = member("python", form=V02, claim=CLAIM)


def mesh(*forms: MetaForm) -> list[Member]:
    """This node, and a Go member of each form."""
    return [ME, *(member(f"go-{number}", form=form) for number, form in enumerate(forms))]


def settled(*forms: MetaForm) -> FormChoice:
    """The choice after a time 0 at which these were the Go members."""
    choice = FormChoice(None, None)
    choice.observe(mesh(*forms), 0.0)
    return choice


@pytest.mark.parametrize(("text", "form"), [("auto", None), ("0.2", V02), ("0.3", V03)])
def test_the_option_names_a_form_or_auto(text, form):
    """As on the command line."""
    assert parse_meta_format(text) is form


@pytest.mark.parametrize("text", ["x", "", "0.20", "AUTO", " 0.2", "V02"])
def test_another_text_is_no_metadata_format(text):
    """And the error says what is."""
    with pytest.raises(ValueError, match="is no metadata format") as caught:
        parse_meta_format(text)
    assert str(caught.value) == f"{text!r} is no metadata format; give one of auto, 0.2, 0.3"


@pytest.mark.parametrize("members", [[], [ME], [ME, PYTHON], [ME, member("joining", meta=b""), member("x", meta=b"x")]])
def test_without_go_members_it_is_the_newer_form(members):
    """Alone, all-Python, or with members that have not said what they are."""
    choice = FormChoice(None, None)
    assert not choice.observe(members, 0.0)
    assert not choice.observe(members, 1e6)
    assert (choice.current, choice.asked_for, choice.next_change()) == (V03, None, None)


def test_the_first_go_member_decides_at_once():
    """Who joins a cluster of 0.2.6 must not wait a minute for its tunnels."""
    choice = FormChoice(None, None)
    choice.observe([ME, PYTHON], 0.0)
    assert choice.observe(mesh(V02), 0.5)
    assert (choice.current, choice.asked_for, choice.next_change()) == (V02, V02, None)


@pytest.mark.parametrize(
    ("state", "form"),
    [(NodeState.ALIVE, V02), (NodeState.SUSPECT, V02), (NodeState.DEAD, V03), (NodeState.LEFT, V03)],
)
def test_only_the_living_have_a_vote(state, form):
    """And a suspicion takes nobody's away."""
    choice = FormChoice(None, None)
    choice.observe([ME, member("go", form=V02, state=state)], 0.0)
    assert choice.current is form


@pytest.mark.parametrize(
    ("first", "then", "outcome"),
    [
        ([V02], [V03], V03),
        ([V03], [V02], V02),
        ([V02], [V02, V03, V03], V03),
        ([V02], [V02, V02, V03], V02),
        ([V02], [V02, V03], V02),
        ([V03], [V02, V03], V03),
        ([V02], [], V03),
        ([V03], [], V03),
    ],
)
def test_the_majority_of_go_members_has_its_form_after_a_minute(first, then, outcome):
    """On a tie the form stays; without Go members it is 0.3 again."""
    choice = settled(*first)
    before = choice.current
    assert not choice.observe(mesh(*then), 100.0)
    assert not choice.observe(mesh(*then), 100.0 + HYSTERESIS - 0.1)
    assert choice.current is before
    assert choice.observe(mesh(*then), 100.0 + HYSTERESIS) is (outcome is not before)
    assert (choice.current, choice.next_change()) == (outcome, None)


def test_it_says_when_it_will_change():
    """The caller need not ask in between."""
    choice = settled(V02)
    choice.observe(mesh(V03), 100.0)
    choice.observe(mesh(V03), 130.0)
    assert choice.next_change() == 100.0 + HYSTERESIS
    assert choice.observe(mesh(V03), 100.0 + HYSTERESIS)


def test_a_minority_for_a_while_changes_nothing():
    """Whoever is backed again begins a new minute."""
    choice = settled(V02)
    choice.observe(mesh(V03), 100.0)
    choice.observe(mesh(V02), 150.0)
    assert choice.next_change() is None
    assert not choice.observe(mesh(V03), 161.0)
    assert choice.next_change() == 161.0 + HYSTERESIS


def test_after_a_minute_without_go_members_the_next_one_decides_at_once():
    """The mesh may move from one version to the other; nobody is left for whom to wait."""
    choice = settled(V02)
    choice.observe([ME, PYTHON], 100.0)
    assert choice.observe([ME, PYTHON], 160.0)
    assert choice.observe(mesh(V02), 161.0)
    choice = settled(V03)
    choice.observe([ME], 100.0)
    assert not choice.observe([ME], 160.0)
    assert choice.observe(mesh(V02), 161.0)


def test_a_remembered_form_is_used_until_members_say_otherwise_for_a_minute():
    """The first member heard of after a restart may be the odd one."""
    choice = FormChoice(None, V02)
    assert choice.current is V02
    assert not choice.observe(mesh(V03), 5.0)
    assert not choice.observe(mesh(V03, V02, V02), 6.0)
    assert choice.current is V02
    choice.observe([ME, PYTHON], 10.0)
    assert choice.observe([ME, PYTHON], 70.0)
    assert (choice.current, choice.asked_for) == (V03, None)


@pytest.mark.parametrize("members", [[], [ME]])
def test_who_restarts_alone_keeps_the_remembered_form(members):
    """After a power cut the others may take their time."""
    choice = FormChoice(None, V02)
    for now in (0.0, 60.0, 3600.0):
        assert not choice.observe(members, now)
    assert (choice.current, choice.asked_for, choice.next_change()) == (V02, V02, None)


@pytest.mark.parametrize("setting", [V02, V03])
@pytest.mark.parametrize("remembered", [None, V02, V03])
def test_a_given_form_never_changes(setting, remembered):
    """Nor does what was remembered: it was not asked again."""
    choice = FormChoice(setting, remembered)
    for now in (0.0, 100.0, 200.0):
        for form in MetaForm:
            assert not choice.observe(mesh(form), now)
    assert (choice.current, choice.asked_for, choice.next_change()) == (setting, remembered, None)


a_history = st.lists(st.tuples(st.floats(0.0, 40.0), st.lists(st.sampled_from(MetaForm), max_size=3)), max_size=40)


@settings(deadline=None)
@given(a_history, st.none() | st.sampled_from(MetaForm))
def test_no_form_that_go_members_asked_for_goes_within_a_minute(history, remembered):
    """Whatever comes and goes; and when it has gone, no look in the minute before found it favoured."""
    choice, now, backed_at = FormChoice(None, remembered), 0.0, 0.0
    for wait, forms in history:
        now += wait
        before, form = choice.asked_for, choice.current
        changed = choice.observe(mesh(*forms), now)
        assert changed is (choice.current is not form)
        if before is not None and choice.asked_for is not before:
            assert now - backed_at >= HYSTERESIS
        if choice.asked_for is not before or 2 * forms.count(choice.current) >= max(len(forms), 1):
            backed_at = now


@settings(deadline=None)
@given(a_history, st.none() | st.sampled_from(MetaForm), st.lists(st.sampled_from(MetaForm), max_size=3))
def test_members_that_stay_have_their_form_when_it_says_so(history, remembered, last):
    """One look at `next_change` is enough, and it is never more than a minute away."""
    choice, now = FormChoice(None, remembered), 0.0
    for wait, forms in history:
        now += wait
        choice.observe([*mesh(*forms), PYTHON], now)
    choice.observe([*mesh(*last), PYTHON], now)
    due = choice.next_change()
    if due is not None:
        assert now < due <= now + HYSTERESIS
        choice.observe([*mesh(*last), PYTHON], due)
    assert choice.next_change() is None
    votes = [last.count(form) for form in MetaForm]
    favourites = [form for form, count in zip(MetaForm, votes, strict=True) if count == max(votes)]
    assert choice.current in favourites if last else choice.current is V03
    assert (choice.asked_for is None) is (last == [])
