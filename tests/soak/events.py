"""What can happen to a machine: a table of events, each with its kind, what it does, and when it is possible.

First a kind is drawn among those that are possible, then an event of that kind, so that no kind is rare for having few.
An event that takes a machine away hands `Soak.away` what is done to it and what is changed before it comes back; how
long it stays away is drawn too: not at all, a moment, or longer than the others wait before they hold it for dead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from privhelper.addressing import derive, is_edge
from tests.e2e.mesh import overlay_addresses
from tests.soak.station import SPLIT, Station

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from tests.soak.soak import Soak


@dataclass(frozen=True, slots=True)
class Event:
    """`candidates`: to which machines it can happen now; `happen` begins it and says in words what happens.

    `needs`: what the program must be able to do for it (soak.py, ABILITIES); "" if nothing beyond the ordinary.
    """

    kind: str
    name: str
    candidates: Callable[[Soak], list[Station]]
    happen: Callable[[Soak, Station], str]
    needs: str = ""


# --- to whom


def _stoppable(soak: Soak) -> list[Station]:
    """Who runs, and may be taken away: only so many are away or cut off at once that there is a mesh."""
    return [s for s in soak.stations if s.is_up and not s.witness and (s in soak.cut_off or soak.may_lose_one)]


def _stoppable_split(soak: Soak) -> list[Station]:
    return [s for s in _stoppable(soak) if s.layout == SPLIT]


def _in_reach(soak: Soak) -> list[Station]:
    """Who runs and is not cut off, unless keys have changed a moment ago: so many and no more are held at once."""
    return [s for s in soak.stations if s.is_up and s not in soak.cut_off] if soak.may_rotate else []


def _movable(soak: Soak) -> list[Station]:
    """Who runs, and is nobody's `--join`: an operator who moves such a machine changes that too."""
    return [s for s in soak.stations if s.is_up and not s.witness]


def _cuttable(soak: Soak) -> list[Station]:
    return [s for s in soak.stations if s not in soak.cut_off and s.is_up] if soak.may_lose_one else []


def _cut_off(soak: Soak) -> list[Station]:
    return sorted(soak.cut_off, key=lambda s: s.name)


# --- what


def _restart(soak: Soak, station: Station) -> str:
    return soak.away(station, station.leave, "leaves")


def _restart_agent(soak: Soak, station: Station) -> str:
    return soak.away(station, station.detach, "its agent is stopped")


def _crash(soak: Soak, station: Station) -> str:
    return soak.away(station, station.crash, "crashes")


def _kill(program: str) -> Callable[[Soak, Station], str]:
    def happen(soak: Soak, station: Station) -> str:
        return soak.away(station, partial(station.kill, program), f"its {program} is killed")

    return happen


def _cut(soak: Soak, station: Station) -> str:
    others = [s for s in _cuttable(soak) if s is not station]
    group = [
        station,
        *soak.rng.sample(others, min(len(others), soak.rng.randint(0, 2), soak.most_away - soak.lost - 1)),
    ]
    return soak.cut(group)


def _heal(soak: Soak, station: Station) -> str:
    return soak.heal(station) if soak.rng.random() < 0.7 else soak.heal_all()


def _collide(soak: Soak, station: Station) -> str:
    rival = soak.rng.choice([s for s in soak.stations if s.is_up and s is not station])
    (address,) = overlay_addresses(rival.node)
    name = named_for(soak, address)
    return soak.away(station, station.leave, f"leaves, to be {name}, whose address is {rival.name}'s", name=name)


def named_for(soak: Soak, address: str) -> str:
    """A host name nobody has had, whose first choice is this overlay address."""
    for number in soak.numbers:
        name = f"like{number}"
        derived: IPv4Address | IPv6Address = derive(soak.net, name.encode(), 0)
        if str(derived) == address and not is_edge(soak.net, derived):
            return name
    raise AssertionError("unreachable")


def _move(soak: Soak, station: Station) -> str:
    address = soak.free_address()
    return soak.away(station, station.leave, f"leaves, to be at {address}", address=address)


def _crash_and_move(soak: Soak, station: Station) -> str:
    address = soak.free_address()
    return soak.away(station, station.crash, f"crashes, to be at {address}", address=address)


def _readdress(soak: Soak, station: Station) -> str:
    former = station.node.address
    station.readdress(soak.free_address())
    soak.vacate(former)
    return f"{station.name}: under it, {former} becomes {station.node.address}"


def _rotate(soak: Soak, station: Station) -> str:
    soak.rotate(station)
    return f"{station.name}: key rotate"


EVENTS: Final = (
    Event("restart", "restart", _stoppable, _restart),
    Event("restart", "restart of the agent", _stoppable_split, _restart_agent),
    Event("kill", "crash", _stoppable, _crash),
    Event("kill", "kill of the agent", _stoppable, _kill("agent")),
    Event("kill", "kill of the helper", _stoppable, _kill("helper")),
    Event("kill", "kill of wireguard-go", _stoppable, _kill("wireguard-go")),
    Event("cut", "cut", _cuttable, _cut),
    Event("heal", "heal", _cut_off, _heal),
    Event("rotate", "rotate", _in_reach, _rotate, needs="key rotate"),
    Event("collide", "collide", lambda soak: [s for s in _stoppable(soak) if s not in soak.cut_off], _collide),
    Event("address change", "move", _stoppable, _move),
    Event("address change", "crash and move", _stoppable, _crash_and_move),
    Event("address change", "change under the daemon", _movable, _readdress, needs="following an address"),
)


def draw(soak: Soak) -> tuple[Event, Station] | None:
    """The next event and to whom; None where nothing is possible."""
    possible = [(e, c) for e in EVENTS if e.needs not in soak.lacks and (c := e.candidates(soak))]
    if not possible:
        return None
    kind = soak.rng.choice(sorted({event.kind for event, _ in possible}))
    event, candidates = soak.rng.choice([(e, c) for e, c in possible if e.kind == kind])
    return event, soak.rng.choice(candidates)
