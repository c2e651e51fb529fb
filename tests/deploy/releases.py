"""What is installed: this checkout, and two versions that would come after it, as sources and as Debian packages; and
the two ways to install them, which end in the same claims."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, Protocol

from tests.deploy.machine import CHECKOUT, Done, Machine, Workshop

NOW: Final = "0.1.0"
LATER: Final = "99.0.1"
"""The same but for its number."""
OTHER: Final = "99.1.0"
"""Its helper is of another generation."""

EPOCH: Final = "1700000000"
WHEELS: Final = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/srv/wheels", "SOURCE_DATE_EPOCH": EPOCH}
HANDED_OVER: Final = ("wesher", "privhelper", "dist", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE")


def make_releases(workshop: Workshop) -> Path:
    """A directory that becomes a machine's /srv: the versions' sources, their packages and the wheels."""
    files = [path for name in HANDED_OVER for path in (CHECKOUT / name, *sorted((CHECKOUT / name).rglob("*")))]
    inputs = b"\0".join(path.read_bytes() for path in files if path.is_file() and "__pycache__" not in path.parts)
    return workshop.kept("releases", inputs, lambda srv: _fill(workshop, srv))


def _fill(workshop: Workshop, srv: Path) -> None:
    shutil.copytree(workshop.wheels, srv / "wheels")
    for version in (NOW, LATER, OTHER):
        sources = srv / version
        sources.mkdir()
        for name in HANDED_OVER:
            copy(CHECKOUT / name, sources / name)
        exchange(sources / "pyproject.toml", f'\nversion = "{NOW}"\n', f'\nversion = "{version}"\n')
    exchange(srv / OTHER / "privhelper/__init__.py", "GENERATION: Final = 1\n", "GENERATION: Final = 99\n")
    packages = srv / "packages"
    packages.mkdir()
    with workshop.machine(srv) as machine:
        for version in (NOW, LATER, OTHER):
            machine.good(f"/srv/{version}/dist/build.sh", "--output", "/var/tmp/out", environment=WHEELS)
        for path in (machine.written / "var/tmp/out").iterdir():
            shutil.copy2(path, packages)


def copy(source: Path, target: Path) -> None:
    """A file or a directory, without what running it leaves."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "out"))
    else:
        shutil.copy2(source, target)


def exchange(path: Path, old: str, new: str) -> None:
    """In a file, what stands there once."""
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


class Way(Protocol):
    """A way to install."""

    prefix: str

    def install(self, machine: Machine, version: str) -> Done:
        """Install that version, or make it the one that counts."""

    def uninstall(self, machine: Machine) -> Done:
        """Take it away, but not what it keeps."""

    def purge(self, machine: Machine) -> Done:
        """Take everything away."""


class Script:
    """dist/install.sh and dist/uninstall.sh."""

    prefix = "/usr/local"

    def install(self, machine: Machine, version: str, *options: str) -> Done:
        """From the sources of that version."""
        return machine.run(f"/srv/{version}/dist/install.sh", *options, environment=WHEELS)

    def uninstall(self, machine: Machine) -> Done:
        """As it was installed with it."""
        return machine.run(f"{self.prefix}/lib/wesher/current/uninstall.sh")

    def purge(self, machine: Machine) -> Done:
        """From the sources, since what was installed may be gone."""
        return machine.run(f"/srv/{NOW}/dist/uninstall.sh", "--purge")


class Package:
    """The .deb."""

    prefix = "/usr"

    def install(self, machine: Machine, version: str) -> Done:
        """With dpkg, as apt does at last."""
        (package,) = (machine.srv / "packages").glob(f"wesher_{version}+*.deb")
        return machine.run("dpkg", "--install", f"/srv/packages/{package.name}")

    def uninstall(self, machine: Machine) -> Done:
        """Its configuration stays."""
        return machine.run("dpkg", "--remove", "wesher")

    def purge(self, machine: Machine) -> Done:
        """Its configuration goes too."""
        return machine.run("dpkg", "--purge", "wesher")


SCRIPT: Final = Script()
PACKAGE: Final = Package()
WAYS: Final[dict[str, Way]] = {"script": SCRIPT, "package": PACKAGE}
