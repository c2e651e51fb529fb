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
from wesher.mesh.retained import Retained
from wesher.runtime.clock import monotonic
from wesher.runtime.complaints import Complaints
from wesher.runtime.helper_client import HelperClient
from wesher.swim.member import Member

RETRY_AFTER: Final = 5.0
"""Seconds until a set that the kernel refused in part is sent again."""

log = logging.getLogger("agent")


class Peers:
    """`members` gives the current membership; `in_force`, `refused`, `failures` and `hosts` are what came of it."""

    def __init__(
        self,
        helper: HelperClient,
        policy: Policy,
        members: Callable[[], Iterable[Member]],
        retained: Retained,
        in_force: Mapping[str, Peer],
    ) -> None:
        self.in_force: dict[str, Peer] = dict(in_force)
        self.refused: tuple[Refusal, ...] = ()
        self.failures: tuple[Failed, ...] = ()
        self.hosts: HostsResult | None = None
        self.applied = asyncio.Event()
        """Set once a whole set has come through."""
        self._helper = helper
        self._policy = policy
        self._members = members
        self._retained = retained
        self._kept: tuple[Peer, ...] = ()
        self._applied: tuple[Peer, ...] | None = None
        self._doubts = 0
        self._by_helper: tuple[Refusal, ...] = ()
        self._complaints = Complaints()
        self._changed = asyncio.Event()
        self._changed.set()

    @property
    def retained(self) -> list[Peer]:
        """The peers in force behind which no live member stands."""
        return [peer for peer in self._kept if self.in_force.get(peer.name) == peer]

    def change(self, *, resend: bool = False) -> None:
        """Membership has changed; `resend`: what the helper has is in doubt too."""
        if resend:
            self._applied = None
            self._doubts += 1
        self._changed.set()

    async def run(self) -> None:
        """Apply changes until cancelled. Raises HelperGone."""
        while True:
            try:
                async with asyncio.timeout(self._until_less()):
                    await self._changed.wait()
            except TimeoutError:
                pass  # a retained peer's time is up
            self._changed.clear()
            await self._apply()

    def _until_less(self) -> float | None:
        at = self._retained.next_change()
        return None if at is None else max(0.05, at - monotonic())

    async def _apply(self) -> None:
        members = list(self._members())
        self._kept = self._retained.update(members, self.in_force, monotonic())
        want = desired(members, self._policy, self.in_force, self._kept)
        requests = reconcile(self._applied, want.peers, write_hosts=self._policy.etc_hosts)
        if requests:
            self._applied, doubts = None, self._doubts
            replies = await self._helper.ask_all(requests)
            if self._take(want.peers, replies):
                self.applied.set()
                if doubts == self._doubts:  # else the helper has had to repair something meanwhile
                    self._applied = want.peers
            else:
                asyncio.get_running_loop().call_later(RETRY_AFTER, self.change)
        self._report((*want.refused, *self._by_helper))

    def _take(self, peers: Sequence[Peer], replies: Sequence[Reply]) -> bool:
        """Use the replies; False if something is to be tried again."""
        self.failures = tuple(reply for reply in replies if isinstance(reply, Failed))
        for failure in self.failures:
            log.error("the kernel refused %s: %s", failure.op.name.lower(), os.strerror(failure.errno))
        for reply in replies:
            match reply:
                case Verdicts(verdicts):
                    self._judge(peers, verdicts)
                case HostsWritten(result):
                    if result is HostsResult.REPLACED and self.hosts is not result:
                        log.error("the hosts file has been replaced by another; restart wesher to manage that one")
                    self.hosts = result
                case _:
                    pass
        return not self.failures

    def _judge(self, peers: Sequence[Peer], verdicts: Sequence[tuple[int, int]]) -> None:
        judged = list(zip(peers, verdicts, strict=True))
        self.in_force = {peer.name: peer for peer, (verdict, _) in judged if verdict == PeerVerdict.ACCEPTED}
        kept = {peer.name for peer in self._kept}
        self._by_helper = tuple(
            Refusal(peer.name, _reason(PEER_REASONS, verdict), _reason(HOSTS_REASONS, hosts))
            for peer, (verdict, hosts) in judged
            if verdict != PeerVerdict.ACCEPTED or hosts not in (HostsVerdict.ACCEPTED, HostsVerdict.DISABLED)
            if peer.name not in kept  # nobody stands behind it who could be told
        )

    def _report(self, refused: tuple[Refusal, ...]) -> None:
        known = set(self.refused)
        for refusal in refused:
            if refusal not in known and not refusal.is_passing and self._complaints.may(refusal, monotonic()):
                log.warning(
                    "member %s: %s",
                    ascii(refusal.name),
                    refusal.peer_reason or f"no hosts line: {refusal.hosts_reason}",
                )
        self.refused = refused


def _reason(reasons: Mapping[Any, str], verdict: int) -> str:
    """The text for a verdict; none for ACCEPTED. A newer helper may know verdicts that we do not."""
    return "" if verdict == 0 else reasons.get(verdict, f"refused by the helper (code {verdict})")
