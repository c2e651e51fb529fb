"""Who has which cluster key, as far as they tell in their metadata: before a key is used, everybody is to have it.

A Go node never follows: it has the key that it was started with, and none else. So it is not enough that none is alive
now: one that is remembered would find a mesh that it cannot talk to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wesher.mesh.node_meta import MAX_KEYS, MetaError, NodeMeta, decode
from wesher.mesh.saved_state import LastSeen, SavedNode
from wesher.swim.member import Member


@dataclass(frozen=True, slots=True)
class Holders:
    """Live members by name, with the fingerprints of their keys, the one that seals first; and who is not among them.

    go: members, live or remembered, that are Go nodes or may be. absent: those of ours that have failed: they follow
    when they are back, as long as the grace of the new key lasts.
    """

    keys: dict[str, tuple[bytes, ...]]
    go: tuple[str, ...]
    absent: tuple[str, ...]

    def without(self, fingerprint: bytes) -> list[str]:
        """Who does not have a key, by name."""
        return sorted(name for name, keys in self.keys.items() if fingerprint not in keys)

    def untold(self, fingerprint: bytes) -> list[str]:
        """Of those, who may have it all the same: more keys than these it has no room to tell of."""
        return [name for name in self.without(fingerprint) if len(self.keys[name]) >= MAX_KEYS]

    def not_sealing_with(self, fingerprint: bytes) -> list[str]:
        """Who seals with another key, by name."""
        return sorted(name for name, keys in self.keys.items() if keys[:1] != (fingerprint,))


def holders(members: Iterable[Member], remembered: Iterable[SavedNode]) -> Holders:
    """What the live `members` tell, this node among them, and who is `remembered` beside them."""
    keys: dict[str, tuple[bytes, ...]] = {}
    go = []
    for member in members:
        if member.is_live:
            meta = _read(member.meta)
            if meta is not None and meta.claim is None:
                go.append(member.name)
            else:  # who says nothing that can be read never has the key, and is named for it
                keys[member.name] = meta.keys if meta is not None else ()
    gone = [node for node in remembered if node.name not in keys and node.name not in go]
    of_go = {node.name for node in gone if _may_be_go(node)}
    absent = sorted(node.name for node in gone if node.name not in of_go and node.last is not LastSeen.LEFT)
    return Holders(keys, (*sorted(go), *sorted(of_go)), tuple(absent))


def _may_be_go(node: SavedNode) -> bool:
    meta = None if node.meta is None else _read(node.meta)
    return meta is None or meta.claim is None


def _read(meta: bytes) -> NodeMeta | None:
    try:
        return decode(meta)
    except MetaError:
        return None
