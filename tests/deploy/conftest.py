"""Machines to install in, for each suite of Debian; what is installed; and where none can be made, a loud word."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.machine import SUITES, TOOLS, Machine, Workshop
from tests.deploy.releases import NOW, WAYS, Way, make_releases
from tests.lab.ci import skip_but_in_ci

Layers = tuple[Path, ...]


@pytest.fixture(scope="session")
def makes_machines() -> None:
    """What a workshop needs of this host."""
    if os.geteuid() != 0:
        skip_but_in_ci("machines need root")
    absent = {package for program, package in TOOLS.items() if shutil.which(program) is None}
    if absent:
        skip_but_in_ci(f"not installed: {', '.join(sorted(absent))}")


@pytest.fixture(scope="session", params=SUITES)
def workshop(request: pytest.FixtureRequest, makes_machines: None) -> Iterator[Workshop]:
    """Of one suite."""
    with Workshop(request.param) as made:
        yield made


@pytest.fixture(scope="session")
def releases(workshop: Workshop) -> Path:
    """The versions, as a machine's /srv."""
    return make_releases(workshop)


@pytest.fixture
def fresh(workshop: Workshop, releases: Path) -> Iterator[Machine]:
    """A machine on which nothing is installed."""
    with workshop.machine(releases) as machine:
        yield machine


@pytest.fixture(scope="session", params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Each of the two."""
    return WAYS[request.param]


@pytest.fixture(scope="session")
def layers(workshop: Workshop, releases: Path) -> Callable[[Way], Layers]:
    """What a machine starts from where this version has just been installed that way; made once."""
    made: dict[Way, Layers] = {}

    def layers(way: Way) -> Layers:
        if way not in made:
            with workshop.machine(releases) as machine:
                done = way.install(machine, NOW)
                assert done.status == 0, done
                made[way] = machine.layer()
        return made[way]

    return layers


@pytest.fixture
def installed(workshop: Workshop, releases: Path, layers: Callable[[Way], Layers], way: Way) -> Iterator[Machine]:
    """A machine on which this version is installed, and nothing has been started."""
    with workshop.machine(releases, layers(way)) as machine:
        yield machine
