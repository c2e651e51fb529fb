"""The shipped units as systemd reads them, without starting any: they are clean, expose what they may and no more, and
templates are the units for one more cluster. What the live ones hold, tests/vm/test_units.py looks at."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from privhelper.options import HELPER
from tests.lab.ci import skip_but_in_ci
from wesher.config import OPTIONS

SHIPPED = Path(__file__).parent.parent.parent / "dist" / "systemd"
UNITS = sorted(path.name for path in SHIPPED.iterdir() if path.suffix in (".service", ".socket"))
EXPOSURE = {"wesher": 1.1, "wesher-privhelper": 1.3, "wesher-launcher": 2.5, "wesher-wireguard-go": 1.7}
"""systemd's figure at most: 10 is no restriction at all."""


@pytest.fixture
def analyze() -> None:
    """systemd-analyze, of any version that knows the directives."""
    if shutil.which("systemd-analyze") is None:
        skip_but_in_ci("systemd-analyze is not here")


def said(*command: str) -> str:
    """What systemd-analyze says, to both its outputs."""
    done = subprocess.run(["systemd-analyze", *command], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


def test_systemd_has_nothing_to_say_against_any_unit(tmp_path: Path, analyze: None) -> None:
    """With programs that are there, and an instance of each template."""
    for name in UNITS:
        (tmp_path / name).write_text(re.sub(r"/usr/bin/w\S+", "/bin/true", (SHIPPED / name).read_text()))
    for name in UNITS:
        instance = tmp_path / name.replace("@.", "@lab.")
        if not instance.exists():
            instance.symlink_to(name)
    found = sorted(str(path) for path in tmp_path.iterdir() if "@." not in path.name)
    assert said("verify", "--man=no", *found) == ""


@pytest.mark.parametrize("unit", EXPOSURE)
@pytest.mark.parametrize("kind", ["", "@"])
def test_a_unit_exposes_no_more_than_we_say(unit: str, kind: str, analyze: None) -> None:
    """By systemd's own reckoning."""
    path = SHIPPED / f"{unit}{kind}.service"
    if kind and unit == "wesher-wireguard-go":
        assert not path.exists()
        return
    told = said("security", "--offline=true", "--no-pager", str(path))
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert level is not None, told
    print(f"{unit}{kind}: {level[1]}")
    assert float(level[1]) <= EXPOSURE[unit]


@pytest.mark.parametrize("name", [name for name in UNITS if "@" in name])
def test_a_template_is_the_unit_with_another_clusters_names(name: str) -> None:
    """Names, and the variables that tell the programs of them; every restriction is the same."""

    def directives(path: Path, instance: str) -> list[str]:
        lines = [line for line in path.read_text().splitlines() if not line.startswith(("#", "Environment=WESHER_"))]
        return [
            re.sub(r"\.cluster-key", "-key", line)
            .replace(f"-{instance}", "")
            .replace(f"@{instance}", "")
            .replace(f" {instance}", "")
            .replace(f"/{instance}.", "/wgoverlay.")
            for line in lines
        ]

    assert directives(SHIPPED / name, "%i") == directives(SHIPPED / name.replace("@", ""), "%i")


def test_systemd_gives_nothing_to_root_that_an_agent_has_left() -> None:
    """Where a StateDirectory= is not the unit's user's, systemd makes all that is in it that user's, and what has the
    set-user-ID bit keeps it."""
    for name in UNITS:
        lines = (SHIPPED / name).read_text().splitlines()
        lasting = [line for line in lines if re.match(r"(State|Cache|Logs|Configuration)Directory=", line)]
        assert not lasting or [line for line in lines if line.startswith("User=")], name


def test_the_directory_of_all_tunnels_sockets_is_no_units_own() -> None:
    """systemd would give what is in it, and so the keys of others' tunnels, to the unit's user, and remove it at the
    end."""
    for name in UNITS:
        lines = (SHIPPED / name).read_text().splitlines()
        assert not [line for line in lines if re.match(r"RuntimeDirectory=.*\bwireguard\b", line)], name


def test_every_option_is_explained_in_the_defaults() -> None:
    """Each variable, with the value that counts without it; what only the units themselves give is left out."""
    lines = (SHIPPED / "default").read_text().splitlines()
    told = dict(line.removeprefix("#").split("=", 1) for line in lines if line.startswith("#WESHER_"))
    given_by_units = {"helper-socket", "listen", "agent-uid", "user"}
    options = {option.name: option for option in (*OPTIONS, *HELPER) if not option.hidden}
    expected = {option.variable: option.default for name, option in options.items() if name not in given_by_units}
    assert told == expected


def test_a_drop_in_says_whose_it_is_and_changes_only_what_is_there(analyze: None) -> None:
    """Its head names the directory it goes into; systemd knows each of its directives."""
    drop_ins = sorted((SHIPPED / "drop-ins").glob("*.conf"))
    assert drop_ins
    for path in drop_ins:
        unit = re.search(r"Into /etc/systemd/system/(\S+)\.d/$", path.read_text(), re.MULTILINE)
        assert unit is not None, path.name
        assert unit[1] in UNITS
