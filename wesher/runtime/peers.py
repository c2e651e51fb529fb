"""Keeps the helper's peers equal to what gossip wants: one task, woken by changes, that always sends the latest set.

Events are coalesced, never counted: a hundred joins while one set is on its way become one more set. A slow helper
delays peers, never probes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Any, Final

from privhelper.policy import HOSTS_REASONS, PEER_REASONS, HostsVerdict, PeerVerdict, Policy
from privhelper.protocol import Failed, HostsResult, HostsWritten, Peer, Reply, Verdicts
from wesher.mesh.contest import HANDSHAKE_COUNTS
from wesher.mesh.desired import Desired, Refusal, desired
from wesher.mesh.reconcile import reconcile
from wesher.mesh.retained import Retained
from wesher.runtime.clock import EPOCH_2020, monotonic, seconds_since_2020
from wesher.runtime.complaints import Complaints
from wesher.runtime.helper_client import HelperClient
from wesher.swim.member import Member

RETRY_AFTER: Final = 5.0
"""Seconds until a set that the kernel refused in part is sent again."""

HANDSHAKES_EVERY: Final = 10.0
"""Seconds between two looks at when tunnels shook hands last, while that may decide who has an address."""

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
        self.policy = policy
        """What members are judged by; this node's own address may change."""
        self._helper = helper
        self._members = members
        self._retained = retained
        self._kept: tuple[Peer, ...] = ()
        self._applied: tuple[Peer, ...] | None = None
        self._doubts = 0
        self._proven: frozenset[bytes] = frozenset()
        self._looked_at = -inf
        self._look_again = False
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
        times = [at for at in (self._retained.next_change(),) if at is not None]
        if self._look_again:
            times.append(self._looked_at + HANDSHAKES_EVERY)
        return max(0.05, min(times) - monotonic()) if times else None

    async def _apply(self) -> None:
        want = await self._wanted()
        requests = reconcile(self._applied, want.peers, write_hosts=self.policy.etc_hosts)
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

    async def _wanted(self) -> Desired:
        """What is wanted now. When tunnels shook hands is asked only where it may decide, and is not asked often."""
        want = self._desired()
        self._look_again = want.is_contested
        if want.is_contested and monotonic() - self._looked_at >= HANDSHAKES_EVERY:
            tunnels = await self._helper.status()
            self._looked_at = monotonic()
            self._proven = frozenset(t.public_key for t in tunnels if _is_recent(t.last_handshake))
            want = self._desired()
        return want

    def _desired(self) -> Desired:
        members = list(self._members())
        self._kept = self._retained.update(members, self.in_force, monotonic())
        return desired(members, self.policy, self.in_force, self._kept, self._proven)

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


def _is_recent(last_handshake: int) -> bool:
    """By the calendar, which may have been set since, either way."""
    return abs(EPOCH_2020 + seconds_since_2020() - last_handshake) < HANDSHAKE_COUNTS


def _reason(reasons: Mapping[Any, str], verdict: int) -> str:
    """The text for a verdict; none for ACCEPTED. A newer helper may know verdicts that we do not."""
    return "" if verdict == 0 else reasons.get(verdict, f"refused by the helper (code {verdict})")
