"""`python -m tests.sim.healing`: how long a mesh takes to be whole after a cut, by the cut's length and shape.

Six machines, as in the scenarios; from the moment the network is one again until everybody has everybody as a peer,
with its line in the hosts file. Each cell is the worst of some seeds, and must stay within half a minute. A day of six
machines who look for each other takes three to seven minutes of CPU: so of that there is one seed, and only on demand.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

from tests.sim.cluster import Cluster
from tests.sim.machine import Machine
from tests.sim.scenarios import start_mesh
from tests.sim.world import virtual_world

SIZE: Final = 6
WITHIN: Final = 30.0
LENGTHS: Final = {"10 s": 10.0, "60 s": 60.0, "200 s": 200.0, "1 h": 3600.0, "24 h": 86_400.0}


def _halves(cluster: Cluster, machines: list[Machine]) -> None:
    cluster.cut(*machines[: SIZE // 2])


def _one_alone(cluster: Cluster, machines: list[Machine]) -> None:
    cluster.cut(machines[0])


def _each_alone(cluster: Cluster, machines: list[Machine]) -> None:
    del machines
    cluster.weather.cut = lambda _kind, _source, _to: True


def _one_hears_nothing(cluster: Cluster, machines: list[Machine]) -> None:
    cluster.cut(machines[0], outward=False)


def _one_is_not_heard(cluster: Cluster, machines: list[Machine]) -> None:
    cluster.cut(machines[0], inward=False)


SHAPES: Final[dict[str, Callable[[Cluster, list[Machine]], None]]] = {
    "two halves": _halves,
    "one alone": _one_alone,
    "each alone": _each_alone,
    "one hears nothing": _one_hears_nothing,
    "one is not heard": _one_is_not_heard,
}


def heals_after(shape: str, length: float, seed: int) -> float:
    """Seconds from the end of the cut until the mesh is whole. Raises Fault where that takes too long."""
    with virtual_world():
        cluster = Cluster(f"{shape} {length} {seed}")
        machines = start_mesh(cluster, SIZE)
        SHAPES[shape](cluster, machines)
        cluster.run(length)
        cluster.calm()
        took = cluster.converge(machines, within=WITHIN)
        cluster.end()
    return took


def main() -> None:
    """Print the matrix, row by row."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.healing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="of each cell")
    parser.add_argument("--longest", choices=LENGTHS, default="1 h", help="24 h: one seed of each shape, half an hour")
    options = parser.parse_args()
    lengths = list(LENGTHS)[: list(LENGTHS).index(options.longest) + 1]
    print(f"| cut | {' | '.join(lengths)} |", "|---" * (1 + len(lengths)) + "|", sep="\n", flush=True)
    for shape in SHAPES:
        worst = (
            max(heals_after(shape, LENGTHS[length], s) for s in _seeds(length, options.seeds)) for length in lengths
        )
        print(f"| {shape} | {' | '.join(f'{took:.1f}' for took in worst)} |", flush=True)


def _seeds(length: str, wanted: int) -> range:
    return range(1 if length == "24 h" else wanted)


if __name__ == "__main__":
    main()
