"""Status as text: aligned, short, and nothing of a stranger's choosing reaches the terminal as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cli.answers import member, peer, status
from wesher.show import duration, members_lines, size, status_lines, table


def test_status_is_a_head_a_table_and_the_refused():
    """Everything at a glance; a name shown as it is needs no quotes."""
    refused = (
        {"name": "bad", "peer_reason": "public key is weak", "hosts_reason": "peer refused"},
        {"name": "localhost", "peer_reason": "", "hosts_reason": "name is reserved"},
    )
    idle = peer(name="c", state="failed", overlay_addr=None, endpoint=None, last_handshake_s=None, rtt_ms=None)
    problems = ("the hosts file has been replaced",)
    assert list(status_lines(status(peer(), idle, refused=refused, problems=problems))) == [
        "node-a  10.9.9.9 on wgoverlay (kernel, port 51820)  gossip 192.0.2.1:7946  up 3d",
        "cluster of 2: 1 alive, 1 suspect, 3 failed, 4 left",
        "NAME    STATE   OVERLAY   ENDPOINT   HANDSHAKE  RX   TX       RTT",
        "node-b  alive   10.1.2.3  192.0.2.2  42s ago    0 B  2.0 KiB  1.2 ms",
        "c       failed  -         -          never      0 B  2.0 KiB  -",
        "refused bad: peer: public key is weak",
        "refused localhost: hosts line: name is reserved",
        "problem: the hosts file has been replaced",
    ]


def test_an_older_daemons_status_is_shown_too():
    """It runs on while the package is upgraded; it knew no problems."""
    older = status(peer())
    del older["problems"]
    assert list(status_lines(older)) == list(status_lines(status(peer())))


def test_members_are_a_table_of_everybody():
    """Also who has failed, left, or is remembered: since when it is so, and when it was last alive."""
    failed = member(name="c", state="failed", retained=True, since_s=130.0, last_seen_s=142.0)
    forgotten = failed | {"name": "d", "gossip_addr": None, "since_s": None, "meta_format": None, "incarnation": None}
    stranger = member(name="e", state="left", overlay_addr=None, public_key=None, meta_format=None, last_seen_s=None)
    suspect = member(name="f", state="suspect", last_seen_s=0.0)
    assert list(members_lines({"members": [member(), failed, forgotten, stranger, suspect]})) == [
        "NAME    STATE         ADDRESS         OVERLAY   META  KEY       SINCE  SEEN",
        "node-b  alive         192.0.2.2:7946  10.1.2.3  0.3   AAAABBBB  60s    now",
        "c       failed, kept  192.0.2.2:7946  10.1.2.3  0.3   AAAABBBB  2m     2m ago",
        "d       failed, kept  -               10.1.2.3  -     AAAABBBB  -      2m ago",
        "e       left          192.0.2.2:7946  -         -     -         60s    -",
        "f       suspect       192.0.2.2:7946  10.1.2.3  0.3   AAAABBBB  60s    now",
    ]


def test_an_older_daemons_members_are_shown_too():
    """It says nothing of when they were last alive."""
    older = member(state="failed")
    del older["last_seen_s"], older["in_gossip"]
    _, line = members_lines({"members": [older]})
    assert line.split()[-2:] == ["60s", "-"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("evil\x1b[2J", "'evil\\x1b[2J'"),
        ("two\nlines", "'two\\nlines'"),
        ("\udcff\udc80", "'\\udcff\\udc80'"),
        ("kölsch", "'k\\xf6lsch'"),
        ("\u202eoverride", "'\\u202eoverride'"),
        ("nul\0", "'nul\\x00'"),
        ("plain-1.example", "plain-1.example"),
        ("a: peer: our own words", "'a: peer: our own words'"),
        ("", "''"),
    ],
)
def test_a_hostile_name_is_escaped(name, shown):
    """Terminals obey some bytes; a name with a line break would forge a line."""
    lines = list(
        status_lines(status(peer(name=name), refused=({"name": name, "peer_reason": "x", "hosts_reason": ""},)))
    )
    assert lines[3].startswith(f"{shown}  ")
    assert lines[-1] == f"refused {shown}: peer: x"


@given(st.text(), st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_whatever_names_come_the_terminal_sees_printable_ascii(first, second):
    """Line by line."""
    refused = ({"name": first, "peer_reason": "x", "hosts_reason": ""},)
    lines = [
        *status_lines(status(peer(name=first), peer(name=second), name=second, refused=refused, problems=(first,))),
        *members_lines({"members": [member(name=first), member(public_key=second)]}),
    ]
    for line in lines:
        assert line.isascii()
        assert line.isprintable()


@pytest.mark.parametrize("field", ["state", "overlay_addr", "endpoint"])
def test_an_agent_that_is_no_longer_itself_cannot_command_the_terminal(field):
    """Any text of its answer may be hostile, not only names."""
    lines = list(status_lines(status(peer(**{field: "a\x1b[2J\nb"}))))
    assert "a?[2J?b" in lines[3]
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_a_table_is_aligned_and_has_no_trailing_blanks():
    """Each column as wide as its widest cell."""
    assert list(table([("A", "B"), ("long", "x"), ("", "yy")])) == ["A     B", "long  x", "      yy"]


def test_one_long_cell_does_not_widen_a_thousand_rows():
    """A name of megabytes among many members would be gigabytes of blanks."""
    rows = [("long" * 1000, "x"), *[("a", "b")] * 1000]
    lines = list(table(rows))
    assert lines[0] == "long" * 1000 + "  x"
    assert {line: len(line) for line in lines[1:]} == {"a".ljust(64) + "  b": 67}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172799, "47h"),
        (172800, "2d"),
    ],
)
def test_durations_are_short(seconds, shown):
    """Two of a unit before it is used: 90 s say more than 1 m."""
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1 << 20, "1.0 MiB"),
        (1 << 30, "1.0 GiB"),
        (1 << 40, "1.0 TiB"),
        (1 << 60, "1048576.0 TiB"),
    ],
)
def test_sizes_are_short(count, shown):
    """In powers of 1024."""
    assert size(count) == shown
