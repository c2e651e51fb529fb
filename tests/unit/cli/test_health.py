"""What counts as degraded: each rule finds its fault, and a healthy or merely idle mesh has none."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privhelper.policy import HOSTS_REASONS, PEER_REASONS, HostsVerdict, PeerVerdict
from tests.unit.cli.answers import peer, refusal, status
from wesher.health import CHOSEN, REMEDIES, degraded
from wesher.mesh.node_meta import MetaFault

SILENT = {"since_s": 301.0, "last_handshake_s": None, "rx_bytes": 0, "tx_bytes": 148}


@pytest.mark.parametrize(
    "well",
    [
        status(),
        status(peer()),
        status(peer(state="left")),
        status(peer(last_handshake_s=None, tx_bytes=0)),
        status(peer(since_s=9e6, last_handshake_s=9e6, rx_bytes=1, tx_bytes=9)),
        status(peer(**SILENT | {"since_s": 300.0})),
        status(peer(**SILENT | {"tx_bytes": 0})),
        status(peer(**SILENT | {"rx_bytes": 92})),
        status(peer(**SILENT | {"last_handshake_s": 300})),
        status(peer(**SILENT | {"state": "left"})),
        status(peer(since_s=301.0, last_handshake_s=300, rx_bytes=9, tx_bytes=9), keepalive=25),
        status(peer(since_s=301.0, last_handshake_s=301, rx_bytes=9, tx_bytes=9), keepalive=300),
        status(peer(missed_pings=4, failed_dials=1)),
        status(peer(state="left", missed_pings=5, failed_dials=2)),
        status(refused=(refusal(hosts_reason=HOSTS_REASONS[HostsVerdict.DISABLED]),)),
        status(health_score=3),
    ],
)
def test_what_is_well_or_idle_or_chosen_is_not_degraded(well):
    """Monitoring that cries for nothing is switched off."""
    assert degraded(well) == []


@pytest.mark.parametrize(
    ("ill", "finding"),
    [
        (
            status(peer(state="failed", since_s=150.0)),
            "node-b has failed 2m ago; start it, or if it is gone for good: wesher forget node-b",
        ),
        (
            status(peer(state="failed", since_s=None, gossip_addr=None, retained=True)),
            "node-b has failed; start it, or if it is gone for good: wesher forget node-b",
        ),
        (
            status(peer(state="suspect")),
            "node-b does not answer; see that it runs and that gossip reaches it",
        ),
        (
            status(peer(**SILENT)),
            "node-b is alive, but its tunnel is silent: no packet has come back; open its WireGuard port (UDP "
            "51820) between the two nodes",
        ),
        (
            status(peer(since_s=301.0, last_handshake_s=301, rx_bytes=9, tx_bytes=9), keepalive=25),
            "node-b is alive, but its tunnel is silent: no packet comes back any more; open its WireGuard port (UDP "
            "51820) between the two nodes",
        ),
        (
            status(peer(missed_pings=5)),
            "node-b is alive, but only by TCP or as others hear it: 5 pings in a row went unanswered; open its gossip "
            "port (UDP 7946) between the two nodes",
        ),
        (
            status(peer(failed_dials=2, gossip_addr="[fd00::2]:7947")),
            "node-b is alive, but takes no connection: 2 in a row failed; open its gossip port (TCP 7947) between the "
            "two nodes",
        ),
        (
            status(
                refused=(refusal(peer_reason="overlay address outside the overlay net", hosts_reason="peer refused"),)
            ),
            "node-c is no peer: overlay address outside the overlay net; give every node the same --overlay-net",
        ),
        (
            status(refused=(refusal(peer_reason="public key belongs to node-b"),)),
            "node-c is no peer: public key belongs to node-b; see the log of both nodes",
        ),
        (
            status(refused=(refusal(peer_reason="overlay address belongs to node-b"),)),
            "node-c is no peer: overlay address belongs to node-b; wait a minute for one of the two to move; else give "
            "it another --address, or rename one of the two",
        ),
        (
            status(refused=(refusal(hosts_reason="name stands in the hosts file already"),)),
            "node-c has no hosts line: name stands in the hosts file already; remove that line, or rename that host",
        ),
        (
            status(health_score=4),
            "this node hears too few answers (health score 4); see whether it is short of CPU, or its network loses "
            "packets",
        ),
        (status(problems=("not joined: no answer yet",)), "not joined: no answer yet"),
    ],
)
def test_each_rule_finds_its_fault_and_says_what_to_do(ill, finding):
    """One line each."""
    assert degraded(ill) == [finding]


def test_every_fault_is_found_and_this_node_comes_first():
    """However many; each member by its name."""
    many = status(
        peer(name="x", state="failed", since_s=1.0),
        peer(name="y", state="suspect"),
        peer(name="z", state="failed", since_s=1.0),
        refused=(refusal("r", peer_reason="public key is weak"),),
        problems=("p",),
        health_score=7,
    )
    assert [finding.split()[0] for finding in degraded(many)] == ["p", "this", "x", "z", "y", "r"]


def test_every_reason_of_ours_is_chosen_or_has_a_remedy():
    """One that is added later is not forgotten here."""
    reasons = {reason for verdict, reason in PEER_REASONS.items() if verdict is not PeerVerdict.ACCEPTED}
    # NO_PEER comes with a peer's refusal, whose remedy is given.
    lines = {r for v, r in HOSTS_REASONS.items() if v not in (HostsVerdict.ACCEPTED, HostsVerdict.NO_PEER)}
    assert (reasons | lines | {str(fault) for fault in MetaFault}) - CHOSEN == set(REMEDIES)


def test_an_older_daemons_answer_is_judged_by_what_it_has():
    """It runs on while the package is upgraded."""
    older = status(peer(state="suspect"), peer(**SILENT), peer(state="failed"))
    del older["problems"]
    for entry in older["peers"]:
        del entry["since_s"], entry["retained"], entry["missed_pings"], entry["failed_dials"]
    del older["node"]["keepalive_s"]
    assert [finding.split(";")[0] for finding in degraded(older)] == ["node-b has failed", "node-b does not answer"]


@given(st.text())
def test_a_hostile_name_forges_no_finding(name):
    """It stands in quotes unless it is one printable word."""
    found = degraded(
        status(peer(name=name, state="failed"), refused=(refusal(name, peer_reason="public key is weak"),))
    )
    for finding in found:
        assert finding.isascii()
        assert finding.isprintable()
    assert all(finding.startswith((f"{name} ", "'", '"')) for finding in found)


@pytest.mark.parametrize("name", ["x;echo", "$(echo)", "`echo`", "it's $(echo)", 'a"|echo', "*", "a>b"])
def test_a_command_to_copy_runs_nothing_that_a_member_chose(name):
    """As a shell reads it: the name is one word of it, and itself."""
    assert copied(name, "sh") == ["forget", name]


@pytest.mark.parametrize("name", ["é $(echo)", "x\udcff'\"\\", "\x1b[2J", "\x7f\t\na", "\udce9f"])
def test_a_name_that_cannot_be_typed_can_be_copied(name):
    """Any bytes, which is all that a name has to be; a shell that does not know the spelling runs nothing either."""
    assert copied(name, "bash") == ["forget", name]
    assert len(copied(name, "sh")) == 2


def test_a_name_that_looks_like_an_option_is_none():
    """Nor does it become one of the command's."""
    assert copied("-x", "sh") == ["forget", "--", "-x"]


def copied(name, shell):
    """The words that `shell` makes of what the finding says to do about a member that has failed."""
    (finding,) = degraded(status(peer(name=name, state="failed")))
    assert finding.isascii()
    assert finding.isprintable()
    command = finding.partition("for good: ")[2]
    asked = f"wesher() {{ printf '%s\\0' \"$@\"; }}; {command}"
    said = subprocess.run([shell, "-c", asked], capture_output=True, check=True, cwd="/").stdout
    return said.decode("utf-8", "surrogateescape").split("\0")[:-1]
