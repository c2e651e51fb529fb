"""The pictures of timing.py: how soon a crash is known, and who is buried alive.

SVG with real text, no background, and colours that can be told apart on white and on black. The same runs and the
same matplotlib give the same bytes. matplotlib is the extra `figures`; nothing else needs it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.sim.timing import FASTER

INK: Final = "#808080"
COLOURS: Final = {"mesh": "#2a9d5c", "lan": "#d9822b"}

STYLE: Final = {
    "svg.hashsalt": "wesher",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}

ARMS: Final = {
    "mesh": ("mesh", COLOURS["mesh"]),
    "lan": ("lan", COLOURS["lan"]),
    f"{FASTER} suspicion_mult=4": ("mesh at first", "#8172c3"),
}
PANELS: Final = {
    "false_deaths": "deaths of members that are well",
    "false_suspicions": "suspicions of members that are well",
    "starved_deaths": "deaths of the starved one",
}

KINDS: Final = ("stopped", "halting", "late")

Row = dict[str, Any]


def draw(rows: list[Row], folder: Path) -> None:
    """Write timing-death.svg and timing-starved.svg."""
    with mpl.rc_context(STYLE):
        save(death(rows), folder / "timing-death.svg")
        save(starved(rows), folder / "timing-starved.svg")


def save(figure: Figure, file: Path) -> None:
    """Without a date, so that equal pictures are equal files, and without blanks at the ends of lines."""
    figure.savefig(file, transparent=True, metadata={"Date": None, "Creator": None})
    file.write_text("".join(f"{line.rstrip()}\n" for line in file.read_text().splitlines()))


def death(rows: list[Row]) -> Figure:
    """The share of crashes that all of 100 nodes know of, by the seconds since."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, colour in COLOURS.items():
        plain = [row["all"] for row in rows if of(row, name, ("death",))]
        hungry = [row["all"] for row in rows if of(row, name, KINDS)]
        steps(axes, plain, color=colour, label=f"{name}, {len(plain)} runs")
        steps(axes, hungry, color=colour, linestyle="--", label=f"{name}, a tenth starved, {len(hungry)} runs")
    axes.axvline(10, color=INK, linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, None), ylim=(0, 1.02), xlabel="seconds since the crash", ylabel="share of runs: all nodes know")
    axes.grid(visible=True)
    axes.legend(loc="upper left", fontsize=9)
    return figure


def starved(rows: list[Row]) -> Figure:
    """What a minute with one starved node does to 3, 5 and 10 members, a run: to those that are well, and to it."""
    figure = Figure(figsize=(7.6, 3.2), layout="constrained")
    for axes, (what, title) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
        for at, (name, (label, colour)) in enumerate(ARMS.items()):
            small = [row for row in rows if row["profile"] == name and row["size"] <= 10]
            heights = [fmean(row[what] for row in small if row["measure"] == kind) for kind in KINDS]
            bars = axes.bar([place + (at - 1) * 0.28 for place in range(3)], heights, 0.26, color=colour, label=label)
            axes.bar_label(bars, [f"{height:.2g}" for height in heights], fontsize=7, color=INK)
        axes.set_xticks(range(3), KINDS)
        axes.set_title(title, fontsize=9, color=INK)
        axes.margins(y=0.12)
    figure.axes[0].legend(loc="upper left", fontsize=8)
    return figure


def of(row: Row, name: str, measures: Iterable[str]) -> bool:
    """Whether a run of 100 nodes belongs in a picture."""
    return row["profile"] == name and row["measure"] in measures and row["size"] == 100


def steps(axes: Axes, times: list[float], **style: object) -> None:
    """A cumulative distribution."""
    shares = [number / len(times) for number in range(len(times) + 1)]
    axes.step([0, *sorted(times)], shares, where="post", **style)
