"""The hosts file: whether it can be written, and whose names cannot."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from privhelper.hosts import MAX_FILE, HostsUnavailable, names_in, open_hosts, parse
from privhelper.options import Pinned
from privhelper.policy import HOSTS_REASONS, HostsVerdict, line_name, name_verdict
from wesher.check.finding import Said, ok, some, warning
from wesher.check.judging import judge
from wesher.check.start import REFUSALS, Start
from wesher.show import plain


def hosts_file(start: Start) -> Said:
    """The file, this node's line with others, and those of saved members."""
    pinned = start.pinned
    if not pinned.etc_hosts:
        yield ok("not managed, as --no-etc-hosts says")
        return
    try:
        fd = open_hosts(pinned.hosts_file)
    except HostsUnavailable as error:
        text = f"{error}; peers' names will not be written: put it right, or give --hosts-file or --no-etc-hosts"
        yield warning(judge(text, error, start)[1])
        return
    try:
        content = os.pread(fd, MAX_FILE + 1, 0)
    finally:
        os.close(fd)
    if len(content) > MAX_FILE:
        yield warning(f"{pinned.hosts_file} is larger than {MAX_FILE} bytes; peers' names will not be written")
        return
    yield ok(f"{pinned.hosts_file} can be written")
    yield from _own_line(pinned, ip_as_name=start.values["ip-as-name"])
    names = () if isinstance(start.saved, REFUSALS) else tuple(node.name for node in start.saved.nodes)
    yield from _lines(pinned, names, names_in(parse(content, pinned.interface, alone=True).operator))


def _own_line(pinned: Pinned, *, ip_as_name: bool) -> Said:
    """What the others make of this node's name, with the same --hosts-suffix."""
    line = line_name(pinned.node_name, pinned.hosts_suffix)
    verdict = HostsVerdict.OUTSIDE_SUFFIX if line is None else name_verdict(line, "", ())
    if verdict is not HostsVerdict.ACCEPTED and not ip_as_name:
        yield warning(
            f"others will write no line for this node, {plain(pinned.node_name)}: {HOSTS_REASONS[verdict]}; "
            "rename this host"
        )


def _lines(pinned: Pinned, names: Sequence[str], taken: Collection[str]) -> Said:
    """Saved members whose names cannot be written."""
    refused = []
    for name in names:
        line = line_name(name, pinned.hosts_suffix)
        verdict = HostsVerdict.OUTSIDE_SUFFIX if line is None else name_verdict(line, pinned.node_name, taken)
        if verdict is not HostsVerdict.ACCEPTED and name != pinned.node_name:
            refused.append(f"{plain(name)}: {HOSTS_REASONS[verdict]}")
    if refused:
        yield warning(f"saved members that will have no line: {some(refused)}")
