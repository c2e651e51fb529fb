"""What the helper grants at the beginning: its pinned policy, this node's address, and the peers already in force.

Policy is the helper's alone; what this agent was told too must be the same. A helper that has served an agent before
has peers in force: they are taken over, so that a restart empties nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from dataclasses import dataclass
from errno import EADDRNOTAVAIL, EPROTONOSUPPORT
from typing import Final

from privhelper.addressing import Address
from privhelper.policy import Policy, Surroundings
from privhelper.protocol import Failed, Hello, InForce, OwnAddress, Peer, PeersInForce, PinnedPolicy, Reply, SetAddr
from wesher.config import AgentConfig
from wesher.mesh.addresses import next_attempts, own_claim
from wesher.mesh.node_meta import Claim
from wesher.mesh.saved_state import SavedState
from wesher.runtime.clock import seconds_since_2020
from wesher.runtime.helper_client import HelperClient, HelperGone
from wesher.version import VERSION

HELPER_ANSWERS_WITHIN: Final = 5.0
"""Seconds after which the log says that there is no answer; it is waited for nevertheless."""

log = logging.getLogger("agent")


class Refused(Exception):
    """Why this agent and this helper do not go together, in one line; `usage` where options contradict."""

    def __init__(self, reason: str, *, usage: bool = False) -> None:
        super().__init__(reason)
        self.usage = usage


@dataclass(frozen=True, slots=True)
class Standing:
    """The pinned policy, this node's address and claim to it, and the peers in force, by name."""

    pinned: PinnedPolicy
    address: Address
    claim: Claim
    in_force: dict[str, Peer]

    def policy(self) -> Policy:
        """The policy as far as it can be known without looking at this host's network."""
        return Policy(
            overlay_net=self.pinned.overlay_net,
            node_name=self.pinned.node_name,
            own_address=self.address,
            own_key=self.pinned.public_key,
            max_peers=self.pinned.max_peers,
            etc_hosts=self.pinned.etc_hosts,
            hosts_suffix=self.pinned.hosts_suffix,
            static_addresses=self.pinned.static_addresses,
            surroundings=Surroundings(),
        )


async def greet(config: AgentConfig, saved: SavedState, helper: HelperClient) -> Standing:
    """Learn what is pinned and in force, and take our address. Raises Refused, HelperGone."""
    pinned = await _hello(config, helper)
    if isinstance(pinned, Failed):
        raise Refused(_why_not(pinned, config))
    if not isinstance(pinned, PinnedPolicy):
        raise Refused("the helper does not tell its policy; restart wesher-privhelper")
    _compare(config, pinned)
    in_force = await _in_force(helper) if pinned.in_force else {}
    is_pinned = pinned.address_is_pinned
    claim = own_claim(saved, pinned.node_name, seconds_since_2020(), pinned=is_pinned)
    first = claim.attempt
    others = [] if is_pinned else next_attempts(pinned.overlay_net, pinned.node_name, first, (), ())
    for attempt in (first, *others):
        answer = await helper.ask(SetAddr(attempt))
        if isinstance(answer, OwnAddress):
            if attempt != first:
                claim = Claim(attempt, seconds_since_2020())
                log.warning("overlay address %s is taken: the one before cannot be used here", answer.address)
            return Standing(pinned, answer.address, claim, in_force)
        if not isinstance(answer, Failed) or answer.errno != EADDRNOTAVAIL:
            break
    reason = os.strerror(answer.errno) if isinstance(answer, Failed) else "no answer"
    if is_pinned:
        raise Refused(f"the helper's --address cannot be used here: {reason}; its host's networks must not cover it")
    if isinstance(answer, Failed) and answer.errno == EADDRNOTAVAIL:
        reason = "local networks cover them, or they are the net's first and last"
    raise Refused(
        f"no overlay address of {pinned.node_name} in {pinned.overlay_net} can be used here: {reason}; "
        "give another --overlay-net"
    )


async def _hello(config: AgentConfig, helper: HelperClient) -> Reply:
    answer = asyncio.ensure_future(helper.ask(Hello(build=f"wesher-{VERSION}"[:31])))
    await asyncio.wait({answer}, timeout=HELPER_ANSWERS_WITHIN)
    if not answer.done():  # a service manager holds the socket, and starts a helper that cannot start over and over
        log.warning("the helper does not answer: it cannot start, as its log says, or it serves another agent")
    try:
        return await answer
    except HelperGone:
        if not config.split:
            raise
        raise Refused(
            f"the helper hangs up: it is being stopped, or serves another uid than {os.getuid()}; its log says which, "
            "and its --agent-uid decides"
        ) from None


def _why_not(answer: Failed, config: AgentConfig) -> str:
    if answer.errno == EPROTONOSUPPORT:
        return "the helper is of another version; restart wesher-privhelper"
    return f"the helper cannot make interface {config.interface}: {os.strerror(answer.errno)}; its log says why"


def _compare(config: AgentConfig, pinned: PinnedPolicy) -> None:
    """Exit 2 rather than run with other options than were given."""
    theirs = {
        "interface": pinned.interface,
        "overlay-net": pinned.overlay_net,
        "wireguard-port": pinned.wireguard_port,
        "mtu": pinned.mtu,
        "max-peers": pinned.max_peers,
        "keepalive": pinned.keepalive,
        "hosts-suffix": pinned.hosts_suffix or None,
        "no-etc-hosts": not pinned.etc_hosts,
        "static-addresses": pinned.static_addresses,
    }
    for name, ours in config.expected:
        if ours != str(theirs[name]):
            raise Refused(
                f"--{name} is {ours} here and {theirs[name]} at the helper; give both the same, or leave it away here",
                usage=True,
            )
    if config.split and socket.gethostname() != pinned.node_name:
        log.warning(
            "this node is %s in the mesh, as the helper has it, not %s; wesher-privhelper --node-name decides",
            pinned.node_name,
            ascii(socket.gethostname()),
        )


async def _in_force(helper: HelperClient) -> dict[str, Peer]:
    found: dict[str, Peer] = {}
    part, more = 0, True
    while more:
        answer = await helper.ask(InForce(part))
        if not isinstance(answer, PeersInForce):
            break
        found.update((peer.name, peer) for peer in answer.peers)
        part, more = part + 1, answer.more
    return found
