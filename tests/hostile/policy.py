"""Rows about what a member may be: a set with that member in it, and the two verdicts on it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from privhelper.policy import HostsVerdict, PeerVerdict
from privhelper.protocol import Peer
from tests.hostile.cast import ALPHA, BETA
from tests.hostile.host import Ours
from tests.hostile.liar import At
from tests.hostile.stage import Stage, peers_in_force

ACCEPTED = PeerVerdict.ACCEPTED


@dataclass(frozen=True)
class Row:
    """`peer` is wanted beside two that have been there and `others`; what is said of it."""

    name: str
    peer: Peer
    peer_verdict: PeerVerdict = ACCEPTED
    hosts_verdict: HostsVerdict = HostsVerdict.NO_PEER
    others: Sequence[Peer] = field(default=())
    options: tuple[str, ...] = ()


def rows(*given: Row) -> pytest.MarkDecorator:
    """One test a row, under the row's name."""
    names = [row.name for row in given]
    assert len(set(names)) == len(names), "two rows of one name"
    return pytest.mark.parametrize("row", given, ids=names)


def judge(stage: Stage, row: Row, *, standing: Sequence[Peer] = (ALPHA, BETA)) -> Ours:
    """Ask a live helper; what is in force afterwards is what it said, and a refusal costs nobody else anything."""
    helper = stage.serve(*row.options)
    with closing(stage.connect(At.ADDRESSED)) as liar:
        liar.set(standing)
        wanted = [*standing, row.peer, *row.others]
        verdicts = liar.set(wanted)
        liar.write()
        ours = stage.ours()
        accepted = [p for p, (verdict, _) in zip(wanted, verdicts, strict=True) if verdict == ACCEPTED]
        assert (row.peer_verdict, row.hosts_verdict) == verdicts[len(standing)]
        assert {(ACCEPTED, HostsVerdict.ACCEPTED)} >= set(verdicts[: len(standing)])
        assert accepted == liar.in_force()
        assert peers_in_force(ours) == sorted(str(peer.overlay_addr) for peer in accepted)
        named = {str(p.overlay_addr) for p, (_, v) in zip(wanted, verdicts, strict=True) if v == HostsVerdict.ACCEPTED}
        assert named == set(ours.lines.values())
    assert helper.alive()
    stage.assert_at_rest()
    assert {line for line in stage.said() if "violation" in line or "repair" in line} == set()
    return ours
