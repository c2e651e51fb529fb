"""What a whole set is not: one key, address or name twice, or more records than membership has."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from privhelper.policy import HostsVerdict, PeerVerdict
from privhelper.protocol import SetPeers, Staged, ViolationCode
from tests.hostile.case import Case, Ending, put, table
from tests.hostile.cast import ALPHA, BETA, DELTA, GAMMA, members
from tests.hostile.liar import At, Liar
from tests.hostile.stage import MAX_PEERS, Stage, peers_in_force

pytestmark = pytest.mark.root

V = ViolationCode
MORE_THAN_MEMBERS = members(2 * MAX_PEERS + 1)
BEARING_ALPHAS_KEY = replace(GAMMA, public_key=ALPHA.public_key)
BEARING_ALPHAS_ADDRESS = replace(GAMMA, overlay_addr=ALPHA.overlay_addr)
BEARING_ALPHAS_NAME = replace(GAMMA, name=ALPHA.name.upper())
NEVER_ACCEPTED = replace(GAMMA, public_key=bytes(32))


def hang_up(liar: Liar) -> None:
    """Without a word."""
    liar.close()


@table(
    Case("a record twice", At.ADDRESSED, SetPeers((GAMMA, GAMMA)), V.DUPLICATE_KEY),
    Case("a key twice", At.CONFIGURED, SetPeers((ALPHA, BETA, BEARING_ALPHAS_KEY)), V.DUPLICATE_KEY),
    Case("an address twice", At.CONFIGURED, SetPeers((ALPHA, BETA, BEARING_ALPHAS_ADDRESS)), V.DUPLICATE_ADDRESS),
    Case("a name twice", At.ADDRESSED, SetPeers((ALPHA, replace(GAMMA, name=ALPHA.name))), V.DUPLICATE_NAME),
    Case("a name twice but for case", At.ADDRESSED, SetPeers((ALPHA, BEARING_ALPHAS_NAME)), V.DUPLICATE_NAME),
    Case(
        "a key twice, in two parts",
        At.STAGING,
        SetPeers((replace(DELTA, public_key=GAMMA.public_key),)),
        V.DUPLICATE_KEY,
    ),
    Case(
        "a name twice, three parts apart",
        At.STAGING,
        [SetPeers((DELTA,), more=True), SetPeers((GAMMA,))],
        V.DUPLICATE_KEY,
    ),
    Case("a refused record twice", At.ADDRESSED, SetPeers((NEVER_ACCEPTED, NEVER_ACCEPTED)), V.DUPLICATE_KEY),
    Case("more records than membership has", At.CONFIGURED, SetPeers(tuple(MORE_THAN_MEMBERS)), V.COUNT),
    Case(
        "more records than membership has, one at a time",
        At.CONFIGURED,
        [SetPeers((peer,), more=True) for peer in MORE_THAN_MEMBERS],
        V.COUNT,
    ),
    Case("512 of one", At.CONFIGURED, SetPeers((GAMMA,) * 512), V.COUNT),
    Case("as many parts as one likes", At.CONFIGURED, [SetPeers((GAMMA,), more=True)] * 100, V.COUNT),
)
def test_what_an_honest_agent_has_removed(stage: Stage, case: Case) -> None:
    """Which of two is the right one is the mesh's question, and it is not put to the helper."""
    put(stage, case)


@table(
    Case("half a set", At.CONFIGURED, SetPeers((GAMMA,), more=True), Staged),
    Case("half a set, then the end", At.STAGING, hang_up, None),
    Case("half a set, then the empty packet", At.STAGING, b"", Ending.HUNG_UP),
    Case(
        "all but the last of as many as membership has",
        At.CONFIGURED,
        [SetPeers((peer,), more=True) for peer in MORE_THAN_MEMBERS[1:]],
        Staged,
    ),
)
def test_a_set_that_has_not_come_whole_is_none(stage: Stage, case: Case) -> None:
    """What was in force stays, and what was staged is forgotten with its agent."""
    put(stage, case)
    with closing(stage.connect(At.CONFIGURED)) as honest:
        assert [(PeerVerdict.ACCEPTED, HostsVerdict.ACCEPTED)] == honest.set([DELTA])
        honest.write()
        assert [str(DELTA.overlay_addr)] == peers_in_force(stage.ours())


def test_an_empty_set_takes_all_peers_and_names_away(stage: Stage) -> None:
    """An agent may do that: what it has brought about is the mesh's, and so is its end."""
    stage.serve()
    with closing(stage.connect(At.CONFIGURED)) as liar:
        assert [] == liar.set([])
        liar.write()
        ours = stage.ours()
    assert not (ours.peers)
    assert not (ours.routes)
    assert not (ours.lines)
    stage.assert_at_rest()


def test_records_in_force_keep_their_place_when_fakes_flood_in(stage: Stage) -> None:
    """Three times as many fakes as there is room for, all acceptable, before those that are there and after them."""
    stage.serve()
    fakes = members(3 * MAX_PEERS, "fake")
    real = members(MAX_PEERS)
    with closing(stage.connect(At.ADDRESSED)) as liar:
        liar.set(real)
        liar.write()
        before = stage.ours()
        for start in range(0, len(fakes), MAX_PEERS):
            flood = fakes[start : start + MAX_PEERS]
            for wanted in ([*flood, *real], [*real, *flood]):
                verdicts = dict(zip((peer.name for peer in wanted), liar.set(wanted), strict=True))
                assert {PeerVerdict.ACCEPTED} == {verdicts[peer.name][0] for peer in real}
                assert {(PeerVerdict.TOO_MANY, HostsVerdict.NO_PEER)} == {verdicts[peer.name] for peer in flood}
        assert before == stage.ours()
        assert real == liar.in_force()
    stage.assert_at_rest()


def test_one_place_that_is_given_up_is_all_that_a_flood_gets(stage: Stage) -> None:
    """And a returning node's new key takes the place of its old one, flood or not."""
    stage.serve()
    fakes, real = members(MAX_PEERS, "fake"), members(MAX_PEERS)
    returned = replace(real[0], public_key=bytes((*real[0].public_key[:31], 0x11)))
    with closing(stage.connect(At.ADDRESSED)) as liar:
        liar.set(real)
        verdicts = liar.set([*real[1:], *fakes])
        assert MAX_PEERS == [peer for peer, _ in verdicts].count(PeerVerdict.ACCEPTED)
        assert {PeerVerdict.ACCEPTED} == {peer for peer, _ in verdicts[: MAX_PEERS - 1]}
        liar.set(real)
        verdicts = liar.set([returned, *real[1:], *fakes[1:]])
        assert {PeerVerdict.ACCEPTED} == {peer for peer, _ in verdicts[:MAX_PEERS]}
        liar.write()
        assert peers_in_force(stage.ours()) == sorted(str(peer.overlay_addr) for peer in real)
    stage.assert_at_rest()
