"""What has happened to the membership, for whoever acts on it. None of it asks for an answer."""

from __future__ import annotations

from dataclasses import dataclass

from wesher.swim.io import Endpoint
from wesher.swim.member import Member
from wesher.wire.messages import PushNodeState
from wesher.wire.words import Handshake, KeyRecord


@dataclass(frozen=True, slots=True)
class Joined:
    """A member is there that was unknown, dead or gone."""

    member: Member


@dataclass(frozen=True, slots=True)
class Updated:
    """A live member has new metadata, or has refuted a suspicion."""

    member: Member


@dataclass(frozen=True, slots=True)
class Suspected:
    """A member has not answered; it stays in force until it is dead."""

    member: Member


@dataclass(frozen=True, slots=True)
class Gone:
    """A member is dead or, where its state says so, has left."""

    member: Member


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A member that is not there is to be forgotten, by an operator's word. Gossip may not have known it any more."""

    name: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Somebody claims a member's name from another address; the holder keeps it."""

    member: Member
    claimant: Endpoint


@dataclass(frozen=True, slots=True)
class Ahead:
    """Somebody announces himself with an incarnation that no clock explains, and is not believed."""

    name: str


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A push/pull that we began is over. `failure` is empty, or says why.

    `unread`: somebody was there, and what he said could not be read, or he said nothing: perhaps he has another key.
    `namesake` is where, to whoever answered, another node lives or has died under our name. He does not have us for a
    member then.
    """

    with_whom: Endpoint
    join: bool
    failure: str = ""
    unread: bool = False
    namesake: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class KeyHeard:
    """A member tells of a cluster key, as it does again and again. What comes of it is the application's to say."""

    record: KeyRecord


@dataclass(frozen=True, slots=True)
class Viewed:
    """A look that we began is over. `failure` is empty, or says why there is nothing to see.

    `nodes` is whom the other side knows, as it tells; `tunnels` what it tells of its own, None where it tells nothing.
    """

    with_whom: Endpoint
    failure: str = ""
    nodes: tuple[PushNodeState, ...] = ()
    tunnels: tuple[Handshake, ...] | None = None


@dataclass(frozen=True, slots=True)
class TunnelsWanted:
    """Somebody wants to hear of our tunnels: `Node.tell_tunnels` is waited for."""


@dataclass(frozen=True, slots=True)
class LeaveFinished:
    """Our leave has been told as often as it is worth, or its time is up."""


Event = (
    Joined
    | Updated
    | Suspected
    | Gone
    | Forgotten
    | Conflict
    | Ahead
    | Exchanged
    | KeyHeard
    | Viewed
    | TunnelsWanted
    | LeaveFinished
)
