"""The control socket's answers as text for people. What a mesh member chose is escaped before a terminal sees it."""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_STATUS_COLUMNS: Final = ("NAME", "STATE", "OVERLAY", "ENDPOINT", "HANDSHAKE", "RX", "TX", "RTT")
_MEMBERS_COLUMNS: Final = ("NAME", "STATE", "ADDRESS", "OVERLAY", "META", "KEY", "SINCE", "SEEN")
_KEY_SHOWN: Final = 8
"""Characters of a public key in a table: enough to tell members apart, and to find it in the output of wg(8)."""
_WIDEST: Final = 64
"""Characters to which a column is filled up, more than any name or address of sense. A longer cell pushes the rest of
its row aside: to make all others as wide would multiply one long name by the members."""
_OBEYED: Final = re.compile(r"[^ -~]")
_PLAIN_IN_A_SHELL: Final = frozenset(map(ord, string.ascii_letters + string.digits + "._-"))
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def status_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """`wesher status`: this node, the cluster, a table of the others, who is refused, and what ails this node."""
    return map(harmless, _status_lines(status))


def members_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """`wesher members`: everybody gossip knows, and who is gone but remembered, or whose tunnel is kept."""
    return map(harmless, table([_MEMBERS_COLUMNS, *map(_member_row, answer["members"])]))


def harmless(text: str) -> str:
    """`text` without anything a terminal could obey: the answer may come from an agent that is no longer itself."""
    return _OBEYED.sub("?", text)


def _status_lines(status: Mapping[str, Any]) -> Iterator[str]:
    node, cluster = status["node"], status["cluster"]
    yield (
        f"{plain(node['name'])}  {node['overlay_addr']} on {node['interface']} ({node['backend']}, "
        f"port {node['wireguard_port']})  gossip {node['gossip_addr']}  up {duration(node['uptime_s'])}"
    )
    yield (
        f"cluster of {cluster['size']}: {cluster['alive']} alive, {cluster['suspect']} suspect, "
        f"{cluster['failed']} failed, {cluster['left']} left"
    )
    yield from table([_STATUS_COLUMNS, *(_peer_row(peer) for peer in status["peers"])])
    for refusal in status["refused"]:
        what = "peer" if refusal["peer_reason"] else "hosts line"
        reason = refusal["peer_reason"] or refusal["hosts_reason"]
        yield f"refused {plain(refusal['name'])}: {what}: {reason}"
    for problem in status.get("problems", ()):  # a daemon older than this command has none
        yield f"problem: {problem}"


def _peer_row(peer: Mapping[str, Any]) -> tuple[str, ...]:
    handshake = peer["last_handshake_s"]
    return (
        plain(peer["name"]),
        peer["state"],
        peer["overlay_addr"] or "-",
        peer["endpoint"] or "-",
        "never" if handshake is None else f"{duration(handshake)} ago",
        size(peer["rx_bytes"]),
        size(peer["tx_bytes"]),
        "-" if peer["rtt_ms"] is None else f"{peer['rtt_ms']:.1f} ms",
    )


def _member_row(member: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        plain(member["name"]),
        f"{member['state']}, kept" if member["retained"] else member["state"],
        member["gossip_addr"] or "-",
        member["overlay_addr"] or "-",
        member["meta_format"] or "-",
        member["public_key"][:_KEY_SHOWN] if member["public_key"] else "-",
        "-" if member["since_s"] is None else duration(member["since_s"]),
        _seen(member),
    )


def _seen(member: Mapping[str, Any]) -> str:
    """When it was last alive; a daemon older than this command does not say."""
    if member["state"] in ("alive", "suspect"):
        return "now"
    seen = member.get("last_seen_s")
    return "-" if seen is None else f"{duration(seen)} ago"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows with aligned columns."""
    widths = [min(max(map(len, column)), _WIDEST) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def duration(seconds: float) -> str:
    """Seconds for people: 42s, 7m, 3h, 5d."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def word(text: str) -> str:
    """A name that a member chose, as one word of a command that somebody may copy into a shell (bash, where it has
    bytes that are not printable: they have no other spelling)."""
    if all(" " <= character <= "~" for character in text):
        return shlex.quote(text)
    spelt = (chr(b) if b in _PLAIN_IN_A_SHELL else f"\\x{b:02x}" for b in text.encode("utf-8", "surrogateescape"))
    return f"$'{''.join(spelt)}'"


def plain(text: str) -> str:
    """A name of printable ASCII as it is, any other quoted and escaped: it could pass for some of our own words."""
    return text if text and all("!" <= character <= "~" for character in text) else ascii(text)
