"""Mutants that no test can notice, since all that a node says, tells and waits for is the same, or all that the helper
answers and does: each with its proof.

They are tried all the same: one that a test notices has no business here.
"""

from __future__ import annotations

from typing import Final

from privhelper.protocol import Op

_GOSSIP: Final[dict[str, str]] = {
    "membership.Membership.__init__: 0.0 -> 1.0": "the node sets the calendar before it enters",
    "membership.Membership.__init__: 0.0 -> -1.0": "the node sets the calendar before it enters",
    "membership.Membership.__init__ (2): 0.0 -> 1.0": "before the first moment nobody was told",
    "membership.Membership.__init__ (2): 0.0 -> -1.0": "before the first moment nobody was told",
    "suspicion.Suspicion.__init__ (2): 0 -> -1": "below one nothing is wanted, by how much does not matter",
    "broadcast.BroadcastQueue.__init__: 0 -> 1": "only the order of numbers counts",
    "broadcast.BroadcastQueue.__init__: 0 -> -1": "only the order of numbers counts",
    "broadcast.BroadcastQueue.queue: 1 -> 2": "only the order of numbers counts",
    "config.suspicion_timeout (2): 1.0 -> 2.0": "log10(2) is below one, which is the least anyway",
    "config.push_pull_interval: members <= PUSH_PULL_SCALE_THRESHOLD -> members < PUSH_PULL_SCALE_THRESHOLD": (
        "at the threshold itself the formula gives the base"
    ),
    "exchanges.Exchanges.dial: self._last_dialled += 2 -> self._last_dialled -= 2": "any even numbers will do",
    "streams._take_answer: exchange.probe is not None and seq_no == exchange.probe.seq_no"
    " -> seq_no == exchange.probe.seq_no": "no stream ping is without its probe; the type checker does not know",
    "probing.Probing.__init__: 32 -> 33": "the modulus makes the same 32 bits of it",
}

_ONE_LENGTH: Final = "the lists have one length: each is made from the other"

_LINE: Final[dict[str, str]] = {
    "addressing.is_edge: 2 -> 3": "a net has a power of two addresses",
    "policy.Policy.judge: True -> False": _ONE_LENGTH,
    "policy.Policy.judge (2): True -> False": _ONE_LENGTH,
    "policy.Policy._without_doubles: True -> False": _ONE_LENGTH,
    "policy._longest: 1 -> 2": "both sides of the comparison say it",
    **{
        f"monitor._OP_OF: Op.{op.name} -> Op.{other.name}": "it never fails, or says so itself"
        for op in (Op.IN_FORCE, Op.BYE)
        for other in Op
        if other is not op
    },
    "tunnels.Tunnels.take_down: self._unsure.clear() -> pass": "where nothing is in force, all is new anyway",
    "tunnels.Tunnels.set_peers: True -> False": _ONE_LENGTH,
    "tunnels.Tunnels.set_peers (2): True -> False": _ONE_LENGTH,
    "tunnels.Tunnels.set_peers (3): True -> False": _ONE_LENGTH,
    "tunnels.Tunnels._withdraw: True -> False": _ONE_LENGTH,
    "tunnels.Tunnels._withdraw (2): True -> False": _ONE_LENGTH,
    "tunnels.Tunnels._line: line_name(peer.name, self.pinned.hosts_suffix) or peer.name"
    " -> line_name(peer.name, self.pinned.hosts_suffix)": "who has no name under the suffix was given no line",
    "tunnels.Tunnels._line: peer.name -> not peer.name": "who has no name under the suffix was given no line",
}

_KEYS: Final = {
    "rotation._part: key.rank > primary.rank -> key.rank >= primary.rank": "those would have one fingerprint",
    "rotation._with_room: heard.rank < lowest.rank -> heard.rank <= lowest.rank": "those would have one fingerprint",
}

EQUIVALENT: Final = {"gossip": _GOSSIP, "keys": _KEYS, "line": _LINE}
"""By set of rules."""
