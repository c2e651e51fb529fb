"""The soak itself: machines are made and joined, troubled every few seconds, left alone, and judged.

The seed decides what is drawn; how long a real stop takes does not come from a seed, so a run cannot be replayed event
by event, but it is a run of the same kind. What takes time (a stop, a pause, a start) goes on in a thread of its own,
one for each machine that is away, while further events hit others. Beside the events there is traffic: a ping by name
every second, from somebody to somebody, so that tunnels have handshakes; whether it is answered is judged at the end.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from ipaddress import ip_network
from itertools import count
from pathlib import Path
from random import Random
from threading import Event as Flag
from typing import Final

from privhelper.addressing import Network
from tests.lab import Lab, Node, bound, until, wesher_command
from tests.soak import bounds, growth, said, whole
from tests.soak.events import EVENTS, draw
from tests.soak.growth import Growth
from tests.soak.station import LAUNCHED, SPLIT, Station

NET: Final[Network] = ip_network("10.20.30.0/24")
"""Small, so that names meet on addresses without being chosen for it."""

LAST_ADDRESS: Final = 250
LOOK_EVERY: Final = 10.0
PING_EVERY: Final = 1.0
TICK: Final = 0.05
CALM_AFTER: Final = 90.0
"""Seconds that stops and starts under way may take at the end."""

GRACE: Final = 240.0
"""Of a key that is replaced: longer than anybody is away or cut off, with what it takes to be found again."""

LONGEST_CUT: Final = 90.0
"""Seconds after which a cut is healed, if no event has done so."""

KEYS_EVERY: Final = 120.0
"""Seconds between two key rotations at least: so that there is mostly room for one more key."""

WAIT_FOR_ALL: Final = 20.0
NO_ROOM: Final = "keys are held, as many as there may be"
BROKEN_OFF: Final = ("not all have it within", "not all use it within", "not everybody has the new key", NO_ROOM)
"""How a rotation may end while members come and go; the next one goes on with it."""

AT_FIRST: Final = 300.0
"""Seconds in which memory comes to rest; of a short run, a quarter."""


def _can_rotate(node: Node) -> bool:
    return "rotate" in node.wesher("key", "--help", check=False).stdout


def _follows_addresses(node: Node) -> bool:
    return find_spec("wesher.runtime.whereabouts") is not None


ABILITIES: Final[dict[str, Callable[[Node], bool]]] = {
    "key rotate": _can_rotate,
    "following an address": _follows_addresses,
}
"""What an event may need that not every version of the program can."""


class Undone(Exception):
    """What was being done to a machine has failed: nobody knows how it is now."""


class Soak:
    """One run. `say` is for whoever watches; everything else goes to files in `directory`."""

    def __init__(
        self,
        lab: Lab,
        *,
        seed: int,
        every: float,
        minutes: float,
        directory: Path,
        without: Iterable[str],
        say: Callable[[str], None],
    ) -> None:
        self.net = NET
        self.rng = Random(seed)
        self.lab = lab
        self.numbers = count(1)
        self.cut_off: set[Station] = set()
        self.lacks = {name for name, can in ABILITIES.items() if not can(lab.nodes[0])} | set(without)
        self.happened: Counter[str] = Counter()
        self._every = every
        self._seconds = 60 * minutes
        self._directory = directory
        self._say = say
        self._begin = time.monotonic()
        self._islands: list[list[Station]] = []
        self._cut_at: dict[int, float] = {}
        self._rotated_at = -KEYS_EVERY
        self._calm = Flag()
        self._threads = ThreadPoolExecutor(len(lab.nodes) + 2)
        self._under_way: dict[Future[object], Station | None] = {}
        self._pings: list[Future[object]] = []
        self._story = (directory / "story.txt").open("w", buffering=1)
        self._growths: list[Growth] = []
        self._names_gone: list[float] = []
        self._at_rest: dict[int, int] = {}
        self._free = deque(f"192.168.77.{last}" for last in range(len(lab.nodes) + 1, LAST_ADDRESS))
        self.stations = [self._station(number, node) for number, node in enumerate(lab.nodes)]
        self.most_away = max(1, 2 * len(lab.nodes) // 5)

    def _station(self, number: int, node: Node) -> Station:
        """Every other in the split layout; a fifth witnesses, whom two of the others join at each start."""
        nodes = self.lab.nodes
        witnesses = max(2, len(nodes) // 5)
        contacts = [witness.address for witness in nodes[:2]] if number in (witnesses, witnesses + 1) else []
        return Station(
            node,
            layout=SPLIT if number % 2 else LAUNCHED,
            witness=number < witnesses,
            contacts=contacts,
            net=NET,
            options=("--retain-failed", f"{bounds.RETAIN:g}"),
            file=self._directory / f"{node.port}.log",
        )

    # --- what events need

    @property
    def lost(self) -> int:
        """How many machines are away or cut off."""
        return sum(not station.is_up or station in self.cut_off for station in self.stations)

    @property
    def may_lose_one(self) -> bool:
        """Whether one more may be taken away."""
        return self.lost < self.most_away

    def free_address(self) -> str:
        """An address on the network where nobody is; the one that has been free for longest."""
        return self._free.popleft()

    def vacate(self, address: str) -> None:
        """Nobody is there any more."""
        self._free.append(address)

    def away(self, station: Station, end: Callable[[], None], words: str, *, name: str = "", address: str = "") -> str:
        """Take a machine away by `end`, change its name or address, and start it again after a while."""
        pause = self.rng.choice((0.0, 0.0, self.rng.uniform(0, 3), self.rng.uniform(5, 40)))
        station.is_up = False

        def go_and_come() -> None:
            end()
            if name:
                self._names_gone.append(self._now)
                station.rename(name)
            if address:
                former = station.node.address
                station.readdress(address)
                self.vacate(former)
            self._calm.wait(pause)
            station.start()
            self.tell(f"{station.name} is started")

        self.in_background(station, go_and_come)
        return f"{station.name} {words}; back after {pause:.1f} s"

    def in_background(self, station: Station, work: Callable[[], object]) -> None:
        """Do something that takes time, and hear of it if it fails."""
        self._under_way[self._threads.submit(work)] = station

    @property
    def may_rotate(self) -> bool:
        """Whether the last time is long enough ago."""
        return self._now - self._rotated_at >= KEYS_EVERY

    def rotate(self, station: Station) -> None:
        """Have a machine change the cluster key, with a patience that members who come and go may exceed."""
        self._rotated_at = self._now
        words = ("key", "rotate", "--grace", f"{GRACE:g}", "--wait", f"{WAIT_FOR_ALL:g}")

        def command() -> None:
            name = station.name
            done = station.node.run(wesher_command(), *words, check=False, timeout=3 * WAIT_FOR_ALL + 30)
            last = (done.stdout + done.stderr).strip().splitlines()[-1:]
            self.tell(f"{name}: key rotate: {done.returncode}: {' '.join(last)}")
            self.happened[f"rotate: exit {done.returncode}"] += 1
            gone = not station.is_up or station.name != name
            if done.returncode != 0 and not gone and not any(words in done.stderr for words in BROKEN_OFF):
                station.complaints.append(f"{name}: key rotate: {done.stderr.strip()}")

        self.in_background(station, command)

    def cut(self, group: list[Station]) -> str:
        """Put some machines on a network of their own."""
        self._islands.append(group)
        self._cut_at[id(group)] = self._now
        self._divide()
        return f"cut off: {', '.join(station.name for station in group)}"

    def heal(self, station: Station) -> str:
        """Bring a machine back to the others, and who was cut off with it."""
        island = next(island for island in self._islands if station in island)
        self._islands.remove(island)
        self._divide()
        return f"back: {', '.join(station.name for station in island)}"

    def heal_all(self) -> str:
        """One network again."""
        self._islands.clear()
        self._divide()
        return "one network again"

    def _divide(self) -> None:
        self.cut_off = {station for island in self._islands for station in island}
        self.lab.partition(*([station.node for station in island] for island in self._islands))

    # --- the run

    def tell(self, text: str) -> None:
        """To the story."""
        self._story.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {self._now:8.1f}  {text}\n")

    @property
    def _now(self) -> float:
        return time.monotonic() - self._begin

    def run(self) -> list[str]:
        """All of it; what was wrong, in words."""
        try:
            self._join()
            self._trouble()
            problems = self._judge()
        except (AssertionError, Undone) as error:
            problems = [str(error), *self._complaints()]
        if problems:
            self._dump(problems)
        return problems

    def _join(self) -> None:
        """Everybody joins the first, for the first and for most of them the last time by its address."""
        first, *others = self.stations
        first.start()
        until(lambda: whole.find(first).addresses, 20, "the first has its address")
        for station in others:
            station.start(self.lab.nodes[0].address)
        seconds = self._until_right(bounds.to_be_whole(len(self.stations)))
        for station in self.stations:
            if station.witness:
                self._growths += (Growth(station.name, program, pid) for program, pid in station.pids().items())
        self._say(f"{len(self.stations)} machines are a mesh, {seconds:.1f} s after the last was started")
        if problems := self._unanswered():
            raise AssertionError("; ".join(problems))
        self._at_rest = {g.pid: growth.lasting(g.pid) for g in self._growths if g.program in growth.JUDGED}

    def _trouble(self) -> None:
        """Events, until the time is over."""
        self._begin = time.monotonic()
        event_at = look_at = ping_at = 0.0
        minute = 1
        while self._now < self._seconds:
            if self._now >= event_at:
                event_at += self._every
                self._happen()
            if self._now >= look_at:
                look_at += LOOK_EVERY
                self._look()
            if self._now >= ping_at:
                ping_at += PING_EVERY
                self._ping()
            if self._now >= 60 * minute:
                self._report(minute)
                minute += 1
            for island in self._islands[:]:
                if self._now - self._cut_at[id(island)] > LONGEST_CUT:
                    self.tell(f"long enough: {self.heal(island[0])}")
            self._reap()
            time.sleep(TICK)

    def _happen(self) -> None:
        if (drawn := draw(self)) is None:
            self.happened["nothing was possible"] += 1
            return
        event, station = drawn
        self.happened[event.name] += 1
        self.tell(f"{event.name}: {event.happen(self, station)}")

    def _look(self) -> None:
        for seen in self._growths:
            with suppress(OSError):  # it has ended, which is complained of elsewhere
                seen.look(self._now)
        self._look_after_all()

    def _look_after_all(self) -> None:
        for station in self.stations:
            if station.has_lost_one():
                station.is_up = False
                self.in_background(station, station.start)

    def _ping(self) -> None:
        self._pings = [ping for ping in self._pings if not ping.done()]
        there = [station for station in self.stations if station.is_up and station not in self.cut_off]
        if len(self._pings) < 2 and len(there) >= 2:
            source, target = self.rng.sample(there, 2)
            self._pings.append(self._threads.submit(source.node.ping, target.name))

    def _nothing_is_under_way(self) -> bool:
        self._reap()
        return not self._under_way

    def _reap(self) -> None:
        for done in [future for future in self._under_way if future.done()]:
            station = self._under_way.pop(done)
            if (error := done.exception()) is not None:
                self.tell(f"{station and station.name}: {error!r}")
                raise Undone(f"{station and station.name}: {error!r}") from error

    def _report(self, minute: int) -> None:
        away = sum(not station.is_up for station in self.stations)
        latest = [g for g in self._growths if g.seen]
        most = {
            what: max((g.seen[-1].rss for g in latest if g.program == what), default=0) / 1024
            for what in ("agent", "helper")
        }
        self._say(
            f"minute {minute}: {sum(self.happened.values())} events; {away} away, {len(self.cut_off)} cut off; "
            f"largest witness: agent {most['agent']:.1f} MB, helper {most['helper']:.1f} MB; "
            f"{len(self._complaints())} complaints; load {os.getloadavg()[0]:.1f}"
        )

    # --- the end

    def _judge(self) -> list[str]:
        self.tell("calm")
        self.heal_all()
        self._calm.set()
        until(self._nothing_is_under_way, CALM_AFTER, "everybody who was away runs again")
        seconds = self._until_right(bounds.to_be_whole(len(self.stations)))
        self._say(f"exactly right {seconds:.1f} s after the last machine was started")
        problems = self._unanswered()
        problems += self._one_key()
        problems += whole.wrong(self.stations)
        problems += self._descriptors()
        after = min(AT_FIRST, self._seconds / 4)
        if self._seconds >= 2 * AT_FIRST:
            problems += (problem for seen in self._growths for problem in seen.problems(after, self._names_gone))
        else:
            self._say(f"NOT JUDGED: memory, which comes to rest in {AT_FIRST:.0f} s; give twice as long at least")
        for seen in self._growths:
            self._say(seen.told(after))
        (self._directory / "growth.tsv").write_text(growth.table(self._growths))
        self._look_after_all()
        for station in self.stations:
            station.read_all()
        return problems + self._complaints()

    def _until_right(self, within: float) -> float:
        """Until devices, routes and hosts files are right and all nodes say they are well. Raises AssertionError."""
        begin, limit = time.monotonic(), bound(within)
        told = [""]
        while True:
            if not (problems := whole.wrong(self.stations)):
                self.tell("devices, routes and hosts files are right")
                size = len(self.stations)
                unwell = ((station, whole.unwell(station, size)) for station in self.stations)
                problems = [f"{station.name}: {text}" for station, text in unwell if text]
                problems = problems or whole.wrong(self.stations)
            if not problems:
                return time.monotonic() - begin
            if problems != told:
                self.tell(f"not right: {'; '.join(problems)}")
                told = problems
            self._look_after_all()
            if time.monotonic() - begin > limit:
                raise AssertionError(f"not right within {limit:.0f} s: {'; '.join(problems)}")
            time.sleep(0.5)

    def _unanswered(self) -> list[str]:
        """Everybody pings everybody by name."""
        return [line for station in self.stations for line in whole.silent(station, self.stations)]

    def _one_key(self) -> list[str]:
        """A last rotation reaches everybody; whatever was begun before is over with it.

        Who was killed again and again holds its keys for longer than others, and may have no room for some time: a
        grace is counted while a node runs.
        """
        if "key rotate" in self.lacks:
            return []
        node, words, said = self.stations[0].node, ("key", "rotate", "--grace", "60"), ["", ""]

        def rotated() -> bool:
            done = node.run(wesher_command(), *words, check=False, timeout=300)
            said[:] = [done.stdout, done.stderr]
            return done.returncode == 0 or not any(begin in done.stderr for begin in BROKEN_OFF)

        until(rotated, 2 * GRACE, "everybody has the last key")
        keys = {station.node.wesher("key", "show").stdout for station in self.stations}
        problems = [f"the last key rotate: {said}"] if said[1] else []
        return problems + ([f"{len(keys)} keys are in use"] if len(keys) != 1 else [])

    def _descriptors(self) -> list[str]:
        """At rest witnesses have as many as before the first event."""

        def too_many() -> list[str]:
            return [
                f"{g.whose}'s {g.program} has {growth.lasting(g.pid)} descriptors, {self._at_rest[g.pid]} at first"
                for g in self._growths
                if g.pid in self._at_rest and growth.lasting(g.pid) > self._at_rest[g.pid]
            ]

        with suppress(AssertionError):  # OSError is for a descriptor that is closed just now
            until(lambda: not too_many(), 30, "descriptors are those of the beginning")
        return too_many()

    def _complaints(self) -> list[str]:
        return [complaint for station in self.stations for complaint in station.complaints]

    def warnings(self) -> Counter[str]:
        """How often daemons have said what."""
        return Counter(
            line for path in sorted(self._directory.glob("port*.log")) for line in said.warnings(path.read_text())
        )

    def _dump(self, problems: Iterable[str]) -> None:
        """Everything that could explain it, for whoever looks into it."""
        (self._directory / "problems.txt").write_text("\n".join((*problems, "")))
        shown = (
            "wg show; ip address; ip route; cat /etc/hosts; cat /var/lib/wesher/*.json",
            "status --json",
            "members --json",
        )
        for station in self.stations:
            with suppress(AssertionError, OSError):
                station.read_all()
            texts = [f"{station.name}, {station.layout}, at {station.node.address}\n"]
            for command in shown:
                with suppress(AssertionError, OSError):
                    done = (
                        station.node.run("sh", "-c", command, check=False)
                        if command == shown[0]
                        else station.node.wesher(*command.split(), check=False)
                    )
                    texts.append(f"# {command}\n{done.stdout}{done.stderr}")
            (self._directory / f"{station.node.port}.state").write_text("\n".join(texts))

    def never_drawn(self) -> list[str]:
        """Events that this run had none of, and why."""
        return [
            f"{event.name} ({'the program cannot do it yet' if event.needs in self.lacks else 'never possible'})"
            for event in EVENTS
            if not self.happened[event.name]
        ]

    def close(self) -> None:
        """Let nothing go on."""
        self._calm.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._story.close()
