"""The control socket's answers as text for people. What a mesh member chose is escaped before a terminal sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_COLUMNS: Final = ("NAME", "STATE", "OVERLAY", "ENDPOINT", "HANDSHAKE", "RX", "TX", "RTT")
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def status_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """`wesher status`: this node, the cluster, a table of the others, and who is refused."""
    return map(harmless, _status_lines(status))


def harmless(text: str) -> str:
    """`text` without anything a terminal could obey: the answer may come from an agent that is no longer itself."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)


def _status_lines(status: Mapping[str, Any]) -> Iterator[str]:
    node, cluster = status["node"], status["cluster"]
    yield (
        f"{_plain(node['name'])}  {node['overlay_addr']} on {node['interface']} ({node['backend']}, "
        f"port {node['wireguard_port']})  gossip {node['gossip_addr']}  up {duration(node['uptime_s'])}"
    )
    yield (
        f"cluster of {cluster['size']}: {cluster['alive']} alive, {cluster['suspect']} suspect, "
        f"{cluster['failed']} failed, {cluster['left']} left"
    )
    yield from table([_COLUMNS, *(_peer_row(peer) for peer in status["peers"])])
    for refusal in status["refused"]:
        what = "peer" if refusal["peer_reason"] else "hosts line"
        reason = refusal["peer_reason"] or refusal["hosts_reason"]
        yield f"refused {_plain(refusal['name'])}: {what}: {reason}"


def _peer_row(peer: Mapping[str, Any]) -> tuple[str, ...]:
    handshake = peer["last_handshake_s"]
    return (
        _plain(peer["name"]),
        peer["state"],
        peer["overlay_addr"] or "-",
        peer["endpoint"] or "-",
        "never" if handshake is None else f"{duration(handshake)} ago",
        size(peer["rx_bytes"]),
        size(peer["tx_bytes"]),
        "-" if peer["rtt_ms"] is None else f"{peer['rtt_ms']:.1f} ms",
    )


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
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


def _plain(text: str) -> str:
    """Printable ASCII as it is, everything else escaped: names come from the mesh."""
    return text if text.isascii() and text.isprintable() else ascii(text)
