"""From the wanted set to the requests that bring it about. Level-triggered: the whole set goes, the helper diffs.

So an event that was missed heals with the next one, and a helper that was restarted needs no history.
"""

from __future__ import annotations

from collections.abc import Sequence

from privhelper.protocol import MAX_PART, Peer, Request, SetPeers, WriteHosts


def reconcile(applied: Sequence[Peer] | None, wanted: Sequence[Peer], *, write_hosts: bool) -> list[Request]:
    """The requests after which the helper has `wanted`; none if it has. `applied` None: unknown, send everything."""
    if applied is not None and tuple(applied) == tuple(wanted):
        return []
    slices = [tuple(wanted[start : start + MAX_PART]) for start in range(0, len(wanted), MAX_PART)] or [()]
    parts: list[Request] = [SetPeers(peers, more=True) for peers in slices[:-1]]
    parts.append(SetPeers(slices[-1]))
    return [*parts, WriteHosts()] if write_hosts else parts
