"""A member as this node sees it: an immutable record, replaced whole when something about it changes.

And who this node itself is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from wesher.swim.io import Endpoint, from_wire
from wesher.wire.limits import VSN
from wesher.wire.messages import Alive, Dead, NodeState, PushNodeState


@dataclass(slots=True)
class Identity:
    """Who this node is: `addr` is announced byte for byte (4 or 16 bytes), until its host has another; `former` is
    where it lived before, and others may still hold it to be.

    `vsn` says which protocol it speaks. An application's own version is in it, and keeps other applications out.
    """

    name: str
    addr: bytes
    port: int
    vsn: bytes = VSN
    former: set[Endpoint] = field(default_factory=set)

    @property
    def endpoint(self) -> Endpoint:
        """Where gossip reaches it."""
        return from_wire(self.addr, self.port)

    def move(self, addr: bytes) -> None:
        """Live at `addr` from now on."""
        self.former.add(self.endpoint)
        self.addr = addr
        self.former.discard(self.endpoint)

    def source(self) -> tuple[bytes, int, str]:
        """The source fields of a ping: where the ack goes, for those who answer there."""
        return self.addr, self.port, self.name


@dataclass(frozen=True, slots=True)
class Member:
    """`addr` and `meta` are kept byte for byte as announced; `since` is when `state` began, on the node's clock."""

    name: str
    addr: bytes
    port: int
    meta: bytes
    incarnation: int
    state: NodeState
    since: float
    vsn: bytes = VSN

    @classmethod
    def from_alive(cls, news: Alive, since: float) -> Member:
        """The member that `news` announces."""
        return cls(news.node, news.addr, news.port, news.meta, news.incarnation, NodeState.ALIVE, since, news.vsn)

    @property
    def endpoint(self) -> Endpoint:
        """Where gossip reaches it."""
        return from_wire(self.addr, self.port)

    @property
    def is_live(self) -> bool:
        """Alive or merely suspected: still in force."""
        return self.state in (NodeState.ALIVE, NodeState.SUSPECT)

    def as_alive(self) -> Alive:
        """The message that announces it."""
        return Alive(self.incarnation, self.name, self.addr, self.port, self.meta, self.vsn)

    def as_dead(self, accuser: str) -> Dead:
        """The message that tells of its end: its own word where it has left, else `accuser`'s."""
        return Dead(self.incarnation, self.name, self.name if self.state is NodeState.LEFT else accuser)

    def as_entry(self) -> PushNodeState:
        """Its entry in a push/pull."""
        return PushNodeState(self.name, self.addr, self.port, self.meta, self.incarnation, self.state, self.vsn)
