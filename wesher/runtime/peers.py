"""Keeps the helper's peers equal to what gossip wants: one task, woken by changes, that always sends the latest set.

Events are coalesced, never counted: a hundred joins while one set is on its way become one more set. A slow helper
delays peers, never probes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from privhelper.policy import HOSTS_REASONS, PEER_REASONS, HostsVerdict, PeerVerdict, Policy
from privhelper.protocol import Failed, HostsResult, HostsWritten, Peer, Reply, Verdicts
from wesher.mesh.desired import Refusal, desired
from wesher.mesh.reconcile import reconcile
from wesher.runtime.helper_client import HelperClient
from wesher.swim.member import Member

RETRY_AFTER: Final = 5.0
"""Seconds until a set that the kernel refused in part is sent again."""

log = logging.getLogger("agent")


class Peers:
    """`members` gives the current membership; `in_force` and `refused` are what came of it."""

    def __init__(self, helper: HelperClient, policy: Policy, members: Callable[[], Iterable[Member]]) -> None:
        self.in_force: dict[str, Peer] = {}
        self.refused: tuple[Refusal, ...] = ()
        self._helper = helper
        self._policy = policy
        self._members = members
        self._applied: tuple[Peer, ...] | None = None
        self._by_helper: tuple[Refusal, ...] = ()
        self._changed = asyncio.Event()
        self._changed.set()

    def change(self, *, resend: bool = False) -> None:
        """Membership has changed; `resend`: what the helper has is in doubt too."""
        if resend:
            self._applied = None
        self._changed.set()

    async def run(self) -> None:
        """Apply changes until cancelled. Raises HelperGone."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._apply()

    async def _apply(self) -> None:
        want = desired(self._members(), self._policy, self.in_force)
        requests = reconcile(self._applied, want.peers, write_hosts=self._policy.etc_hosts)
        if requests:
            self._applied = None
            replies = await self._helper.ask_all(requests)
            if self._take(want.peers, replies):
                self._applied = want.peers
            else:
                asyncio.get_running_loop().call_later(RETRY_AFTER, self.change)
        self._report((*want.refused, *self._by_helper))

    def _take(self, peers: Sequence[Peer], replies: Sequence[Reply]) -> bool:
        """Use the replies; False if something is to be tried again."""
        good = True
        for reply in replies:
            match reply:
                case Failed(op, errno):
                    log.error("the kernel refused %s: %s", op.name.lower(), os.strerror(errno))
                    good = False
                case Verdicts(verdicts):
                    self._judge(peers, verdicts)
                case HostsWritten(HostsResult.REPLACED):
                    log.error("the hosts file has been replaced by another; restart wesher to manage that one")
                case _:
                    pass
        return good

    def _judge(self, peers: Sequence[Peer], verdicts: Sequence[tuple[int, int]]) -> None:
        judged = list(zip(peers, verdicts, strict=True))
        self.in_force = {peer.name: peer for peer, (verdict, _) in judged if verdict == PeerVerdict.ACCEPTED}
        self._by_helper = tuple(
            Refusal(peer.name, _reason(PEER_REASONS, verdict), _reason(HOSTS_REASONS, hosts))
            for peer, (verdict, hosts) in judged
            if verdict != PeerVerdict.ACCEPTED or hosts not in (HostsVerdict.ACCEPTED, HostsVerdict.DISABLED)
        )

    def _report(self, refused: tuple[Refusal, ...]) -> None:
        known = set(self.refused)
        for refusal in refused:
            if refusal not in known and not refusal.is_passing:
                log.warning(
                    "member %s: %s",
                    ascii(refusal.name),
                    refusal.peer_reason or f"no hosts line: {refusal.hosts_reason}",
                )
        self.refused = refused


def _reason(reasons: Mapping[Any, str], verdict: int) -> str:
    """The text for a verdict; none for ACCEPTED. A newer helper may know verdicts that we do not."""
    return "" if verdict == 0 else reasons.get(verdict, f"refused by the helper (code {verdict})")
