"""How soon a death is known, and who is buried alive: what a timing profile's numbers come to, in virtual time.

    python -m tests.sim.timing run       do the runs that tests/sim/figures/timing.json lacks, and write them there
    python -m tests.sim.timing table     what they come to, as the tables of ARCHITECTURE.md
    python -m tests.sim.timing plot      the pictures beside them; needs the extra `figures`
    python -m tests.sim.timing one MEASURE SEED PROFILE      one run, as "late" 3 "mesh suspicion_mult=3"

Three things are measured, of nodes that are whole when it begins, on a bad line: a round trip of 300 ms give or take
a tenth, and one datagram of twenty lost.

    death     one node crashes. Seconds until the first of the others holds it dead, until half do, until all do.
    quiet     nothing happens. Every death is a false one. Packets and bytes sent are those of an idle cluster.
    udp only  the same where TCP does not get through, so that a probe has three relays and no stream ping
    starved   a tenth of the nodes gets no CPU to speak of for two minutes; half-way one of the others crashes.

*Starved* is one of three things, after the experiments of the Lifeguard paper (HashiCorp, 2017), which has blocked
nodes run in cycles; each node goes through its own:

    stopped   the process does not run for 2 to 16 s, then runs for 0.05 to 1 s, and so on
    halting   the same with stops of 0.25 to 2 s, which no profile should take for a death
    late      the process runs and its timers are punctual, but it reads all that arrives 0.5 to 2.5 s late, in order

A process that does not run has its datagrams in the socket's buffer and reads them before a timer fires, as
`wesher/runtime/gossip.py` does. That is kinder to the others than a process that reads late while its timers run;
ours cannot, but its kernel, its hypervisor or its line can make it.

Deaths are counted by member and incarnation, since gossip brings each to everybody. A *false* death is that of a
member that runs and is not starved; it is the doing of the node that held it first. Deaths of starved members are
counted apart: who stops for longer than a suspicion lasts cannot be told from the dead.

The same seed gives every profile the same victim and the same stops. `lan` is memberlist's numbers on our node, not
memberlist: what this node does otherwise it does under both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

from tests.sim.timing_runs import Death, Quiet, Starved, death, quiet, starved
from wesher.swim.config import SwimConfig

FIGURES: Final = Path(__file__).parent / "figures"
FILE: Final = FIGURES / "timing.json"

MEASURES: Final[dict[str, Callable[..., Death | Quiet | Starved]]] = {
    "death": death,
    "quiet": quiet,
    "udp only": partial(quiet, streams=False),
    "stopped": partial(starved, how="stopped"),
    "halting": partial(starved, how="halting"),
    "late": partial(starved, how="late"),
}
"""Everything that is measured, by name; each of a seed, a profile, and a size."""

STARVED: Final = ("stopped", "halting", "late")

MAIN: Final = ("mesh", "lan")

FASTER: Final = "mesh probe_interval=0.5 probe_overlap=3 suspicion_max_timeout_mult=6"

VARIANTS: Final = (
    "mesh suspicion_mult=4",
    "mesh suspicion_mult=6",
    "mesh suspicion_max_timeout_mult=6",
    "mesh probe_overlap=1",
    f"{FASTER} suspicion_mult=4",
    f"{FASTER} suspicion_mult=6",
    f"{FASTER} suspicion_mult=7",
)
"""What else `mesh` could be: one number changed; or faster probes, as it was first, with ever longer suspicions."""

Row = dict[str, Any]
"""One run: what, and what was found."""

WHICH: Final = ("measure", "profile", "size", "seed", "seconds")
"""The columns that say which run it is."""


def profile(name: str) -> SwimConfig:
    """The profile called `name`, with changes: "mesh suspicion_mult=3". Raises ValueError, AttributeError."""
    base, *changes = name.split()
    config = SwimConfig.profile(base)
    values: Row = {}
    for change in changes:
        key, _, value = change.partition("=")
        values[key] = type(getattr(config, key))(value)
    return replace(config, **values)


def measure(which: Row) -> Row:
    """Do one run; figures have four digits that count."""
    run = partial(MEASURES[which["measure"]], which["seed"], profile(which["profile"]), size=which["size"])
    found = asdict(run(seconds=which["seconds"]) if "seconds" in which else run())
    return which | {key: float(f"{v:.4g}") if isinstance(v, float) else int(v) for key, v in found.items()}


# --- which runs


def plan() -> Iterator[Row]:
    """Every run behind the figures: the two profiles at length, then the variants of ours, smaller and shorter."""
    for name, times in (("mesh", 40), ("lan", 40)):  # false suspicions are as costly here as on the wire
        yield from runs("death", name, 100, times)
        for what in STARVED:
            yield from runs(what, name, 100, 4, seconds=120.0)
        for size, seconds in ((100, 120.0), (30, 600.0), (10, 2000.0), (3, 6000.0)):
            yield from runs("quiet", name, size, 1, seconds=seconds)
        for size, seconds in ((30, 300.0), (10, 2000.0), (3, 6000.0)):
            yield from runs("udp only", name, size, 1, seconds=seconds)
        for size in (10, 3):
            yield from runs("death", name, size, 20)
    for name in (*MAIN, *VARIANTS):
        yield from runs("death", name, 30, 8)
        for what in STARVED:
            for size, times in ((10, 12), (5, 16), (3, 16)):
                yield from runs(what, name, size, times, seconds=60.0)


def runs(what: str, name: str, size: int, times: int, **more: float) -> Iterator[Row]:
    """The same run with the first seeds."""
    for seed in range(times):
        yield {"measure": what, "profile": name, "size": size, "seed": seed, **more}


def identity(row: Row) -> tuple[Any, ...]:
    """Which run a row is."""
    return tuple(row.get(key) for key in WHICH)


# --- the file: the numbers of the profiles, and a line for all runs that differ by seed alone


def load(file: Path = FILE) -> list[Row]:
    """The runs in the file that are of the profiles' present numbers; none where there is no file."""
    content = json.loads(file.read_text()) if file.exists() else {"profiles": {}, "runs": []}
    return [
        {key: value[at] if isinstance(value, list) else value for key, value in line.items()}
        for line in content["runs"]
        if content["profiles"].get(base := line["profile"].split()[0]) == asdict(SwimConfig.profile(base))
        for at in range(len(line["seed"]))
    ]


def save(rows: Iterable[Row], file: Path = FILE) -> None:
    """Write all runs, and the numbers that they are of."""
    numbers = {name: asdict(SwimConfig.profile(name)) for name in MAIN}
    lines = [
        {key: value if key in WHICH and key != "seed" else [row[key] for row in group] for key, value in case.items()}
        for case, group in cases(rows, *MEASURES)
    ]
    text = ",\n".join(json.dumps(line, separators=(",", ":")) for line in lines)
    temporary = file.with_suffix(".new")
    temporary.write_text(f'{{"profiles": {json.dumps(numbers)},\n"runs": [\n{text}\n]}}\n')
    temporary.replace(file)


def fill(jobs: int, file: Path = FILE) -> None:
    """Do the runs of the plan that the file lacks; it can be interrupted."""
    wanted = {identity(which): which for which in plan()}
    done = {identity(row): row for row in load(file) if identity(row) in wanted}
    todo = [which for key, which in wanted.items() if key not in done]
    print(f"{len(todo)} runs to do")
    with Pool(jobs) as pool:
        for row in pool.imap(measure, todo):
            done[identity(row)] = row
            save((done[key] for key in wanted if key in done), file)
            print(json.dumps(row), flush=True)
    save((done[key] for key in wanted), file)


# --- tables


def table(rows: list[Row]) -> Iterator[str]:
    """What the runs come to, in Markdown."""
    yield from death_table([row for row in rows if row["profile"] in MAIN])
    yield from quiet_table(rows)
    yield from starved_table([row for row in rows if row["profile"] in MAIN])
    yield from sweep_table(rows)


def cells(*values: object) -> str:
    """A row of a table; numbers with as many digits as they deserve."""
    return "| " + " | ".join(f"{value:.1f}" if isinstance(value, float) else str(value) for value in values) + " |"


def cases(rows: Iterable[Row], *measures: str) -> Iterator[tuple[Row, list[Row]]]:
    """The rows of these measures, those together that differ by seed alone."""
    alike: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["measure"] in measures:
            alike.setdefault(identity(row | {"seed": 0}), []).append(row)
    for group in alike.values():
        yield group[0], group


def death_table(rows: list[Row]) -> Iterator[str]:
    """From a crash until others hold the node dead."""
    yield cells("profile", "members", "runs", "first", "half", "all", "all, longest", "false deaths")
    yield cells(*["---"] * 8)
    for case, group in cases(rows, "death"):
        times = [median(row[key] for row in group) for key in ("first", "median", "all")]
        longest = max(row["all"] for row in group)
        false = sum(row["false_deaths"] for row in group)
        yield cells(case["profile"], case["size"], len(group), *times, longest, false)
    yield ""


def quiet_table(rows: list[Row]) -> Iterator[str]:
    """Nothing happens."""
    yield cells(
        "profile", "members", "", "node hours", "suspicions", "false deaths", "packets/s", "bytes/s, UDP", "TCP"
    )
    yield cells(*["---"] * 9)
    for case, group in cases(rows, "quiet", "udp only"):
        hours = sum(row["node_seconds"] for row in group) / 3600
        counts = [sum(row[key] for row in group) for key in ("suspicions", "false_deaths")]
        rates = [fmean(row[key] for row in group) for key in ("packets", "datagram_bytes", "stream_bytes")]
        yield cells(case["profile"], case["size"], case["measure"], hours, *counts, *rates)
    yield ""


def starved_table(rows: list[Row]) -> Iterator[str]:
    """A tenth is starved; deaths of starved members are each one's in a minute."""
    yield cells(
        "profile", "members", "starved", "runs", "false deaths", "by starved", "runs with any", "false suspicions",
        "starved deaths", "crash known to all", "longest", "packets/s", "bytes/s", "mended",
    )  # fmt: skip
    yield cells(*["---"] * 14)
    for case, group in cases(rows, *STARVED):
        false, begun, suspicions, starved_deaths = (
            sum(row[key] for row in group)
            for key in ("false_deaths", "by_starved", "false_suspicions", "starved_deaths")
        )
        minutes = len(group) * case["size"] / 10 * case["seconds"] / 60
        yield cells(
            case["profile"], case["size"], case["measure"], len(group), false, begun,
            sum(row["false_deaths"] > 0 for row in group), suspicions / len(group), f"{starved_deaths / minutes:.2f}",
            median(row["all"] for row in group), max(row["all"] for row in group),
            fmean(row["packets"] for row in group), fmean(row["datagram_bytes"] for row in group),
            sum(row["mended"] for row in group),
        )  # fmt: skip
    yield ""


def sweep_table(rows: list[Row]) -> Iterator[str]:
    """The variants: a death among 30, and a tenth of 3, 5 and 10 starved; deaths of starved as above."""
    yield cells("profile", "all of 30", "longest", "runs", "false deaths", "false suspicions", *STARVED, "packets/s")
    yield cells(*["---"] * 10)
    for name in (*MAIN, *VARIANTS):
        known = [row["all"] for row in rows if (row["profile"], row["measure"], row["size"]) == (name, "death", 30)]
        small = [row for row in rows if row["profile"] == name and row["measure"] in STARVED and row["size"] <= 10]
        rates = [
            f"{sum(row['starved_deaths'] for row in group) / len(group):.2f}"
            for group in ([row for row in small if row["measure"] == what] for what in STARVED)
        ]
        false = sum(row["false_deaths"] for row in small)
        suspicions, packets = (fmean(row[key] for row in small) for key in ("false_suspicions", "packets"))
        yield cells(name, median(known), max(known), len(small), false, suspicions, *rates, packets)
    yield ""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.timing", description="What a timing profile comes to.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="do the runs that the file lacks")
    run.add_argument("--jobs", type=int, default=1)
    commands.add_parser("table", help="what they come to")
    commands.add_parser("plot", help="draw it")
    one = commands.add_parser("one", help="one run")
    one.add_argument("measure", choices=MEASURES)
    one.add_argument("seed", type=int)
    one.add_argument("profile")
    one.add_argument("--size", type=int, default=100)
    one.add_argument("--seconds", type=float)
    given = parser.parse_args()
    match given.command:
        case "run":
            fill(given.jobs)
        case "table":
            print("\n".join(table(load())))
        case "plot":
            from tests.sim import timing_plots

            timing_plots.draw(load(), FIGURES)
        case "one":
            which = {key: getattr(given, key) for key in WHICH if getattr(given, key) is not None}
            print(json.dumps(measure(which)))


if __name__ == "__main__":
    main()
