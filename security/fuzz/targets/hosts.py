"""The hosts file: an operator's bytes, between and among which any program may have left managed lines.

The input is the file, behind one byte that says how it is read. Promises: the operator's bytes come back as they were
and where they were, but for managed lines that stood before them; of managed lines the others' stay and ours are
exactly those asked for; written twice is written once; a name is one folded ASCII word.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from privhelper.hosts import HostsText, names_in, parse, render

INTERFACE: Final = "wgoverlay"
LINES: Final = ((IPv4Address("10.1.2.3"), "node-b"), (IPv6Address("fd00::1"), "node-c.mesh.example"))
OURS: Final = (
    b"10.1.2.3\tnode-b\t# ! managed automatically by wesher interface wgoverlay\n",
    b"fd00::1\tnode-c.mesh.example\t# ! managed automatically by wesher interface wgoverlay\n",
)
_BANNERS: Final = (b"# ! managed automatically by wesher interface ", b"# ! MANAGED AUTOMATICALLY !")


def check(data: bytes) -> None:
    """Read, written, read again, cleared."""
    alone, content = bool(data[:1] and data[0] & 1), data[1:]
    text = parse(content, INTERFACE, alone=alone)
    _look(content, text, alone=alone)
    new, managed_from = render(text, INTERFACE, LINES)
    assert new[:managed_from] == text.operator
    tail = new[managed_from:]
    ended = tail.removeprefix(b"\n") if text.operator and not text.operator.endswith(b"\n") else tail
    assert ended == b"".join((*text.others, *OURS)), "something else than managed lines follows the operator's bytes"
    again = parse(new, INTERFACE, alone=alone)
    assert again.others == text.others
    assert again.operator in (text.operator, text.operator + b"\n")
    assert render(again, INTERFACE, LINES)[0] == new, "written twice is not written once"
    cleared, _ = render(again, INTERFACE, ())
    assert cleared == again.operator + b"".join(text.others)
    names = names_in(text.operator)
    assert all(name == name.lower() and name and set(name).isdisjoint(" \t\n\v\f\r\0#") for name in names)
    assert names_in(again.operator) == names


def _look(content: bytes, text: HostsText, *, alone: bool) -> None:
    """At what was read, line by line, without the parser's own words for it."""
    kept = 0
    for line in content.split(b"\n"):
        if not any(mark in line for mark in _BANNERS):
            kept += len(line)
            assert line in text.operator, "a line without a banner is not the operator's"
    assert kept <= len(text.operator) <= len(content)
    for line in text.others:
        assert any(mark in line for mark in _BANNERS)
        assert line.count(b"\n") == 1
        assert not line.rstrip().endswith(_BANNERS[0] + INTERFACE.encode()), "ours among the others'"
        assert not (alone and line.rstrip().endswith(_BANNERS[1]))
