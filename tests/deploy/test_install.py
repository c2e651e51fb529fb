"""Installing, upgrading and taking away, by script and by package: the same claims of both, on a real systemd."""

from __future__ import annotations

import subprocess

import pytest

from tests.deploy.machine import Machine, differences
from tests.deploy.mesh import (
    AGENT,
    HELPER,
    PAIR,
    lost,
    main_pid,
    overlay_address_of_peer,
    public_key,
    start_pair,
    start_peer,
    status,
)
from tests.deploy.releases import LATER, NOW, OTHER, Way
from tests.lab import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]

KEPT = ("/var/lib/wesher", "/etc/default/wesher", "/etc/credstore", "/etc/wesher")
"""What an uninstallation leaves, beside the users."""
USERS = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow")


def test_nothing_is_started_and_the_next_commands_are_named(fresh: Machine, way: Way) -> None:
    """A node that is in no mesh yet would begin one of its own."""
    done = way.install(fresh, NOW)
    assert done.status == 0, done
    assert "systemctl enable --now wesher" in done.out + done.err
    assert f"v{NOW}" == fresh.good("wesher", "--version").strip()
    for unit in (*PAIR, "wesher-launcher.service", "wesher-privhelper.socket"):
        assert fresh.run("systemctl", "is-active", unit).out == "inactive\n"
        assert fresh.run("systemctl", "is-enabled", unit).out in ("disabled\n", "indirect\n")  # indirect: has Also=


def test_what_is_installed_is_roots_alone(installed: Machine, way: Way) -> None:
    """Nobody else can write into what root and both halves run; and Python finds nothing to write there."""
    home = f"{way.prefix}/lib/wesher"
    assert "" == installed.good("find", home, "-not", "-user", "root", "-o", "-not", "-group", "root", "-o",
                                "-perm", "/022", "-not", "-type", "l")  # fmt: skip
    before = installed.snapshot()
    for command in ("wesher", "wesher-privhelper"):
        installed.good(command, "--help")
    assert {} == differences(before, installed.snapshot())


def test_systemd_takes_the_units_as_they_are(installed: Machine, way: Way) -> None:
    """And they name the programs of this prefix."""
    units = installed.good("sh", "-c", f"cd {way.prefix}/lib/systemd/system && ls -d $PWD/wesher*").split()
    assert len(units) > 4
    done = installed.run("systemd-analyze", "verify", "--man=no", *(unit for unit in units if "@" not in unit))
    assert (done.status, done.err) == (0, "")
    for unit in ("wesher", "wesher-privhelper", "wesher-launcher"):
        program = installed.good("systemctl", "show", "--property", "ExecStart", "--value", unit)
        assert f"path={way.prefix}/bin/wesher" in program


def test_manual_pages_and_completions_are_where_they_are_looked_for(installed: Machine, way: Way) -> None:
    """Each shell has its own place."""
    for name in ("man/man1/wesher.1.gz", "man/man1/wesher-privhelper.1.gz", "bash-completion/completions/wesher",
                 "fish/vendor_completions.d/wesher.fish"):  # fmt: skip
        installed.good("test", "-s", f"{way.prefix}/share/{name}")


def test_a_second_installation_changes_nothing(installed: Machine, way: Way) -> None:
    """Nor is anything restarted."""
    start_pair(installed)
    pids = [main_pid(installed, unit) for unit in PAIR]
    before = installed.snapshot("/var/lib/wesher")
    done = way.install(installed, NOW)
    assert done.status == 0, done
    assert {} == differences(before, installed.snapshot("/var/lib/wesher"))
    assert pids[0] == main_pid(installed, HELPER)


def test_an_upgrade_and_the_way_back_lose_no_packet(installed: Machine, way: Way) -> None:
    """The agent is restarted, the helper goes on with its key and process, and that is said."""
    start_pair(installed)
    start_peer(installed)
    address = overlay_address_of_peer(installed)
    until(lambda: installed.good("ping", "-c1", "-W1", address), 20, "the tunnel carries")
    helper, key = main_pid(installed, HELPER), public_key(installed)
    for version in (LATER, NOW):
        agent = main_pid(installed, AGENT)
        ping = subprocess.Popen(installed.command("ping", "-i", "0.05", address), stdout=subprocess.PIPE, text=True)
        done = way.install(installed, version)
        until(lambda: [peer["state"] for peer in status(installed)["peers"]] == ["alive"], 30, "they are a mesh again")
        installed.good("ping", "-c1", "-W1", address)
        installed.good("pkill", "-INT", "-x", "ping")
        said = ping.communicate(timeout=10)[0]
        assert done.status == 0, done
        assert "tunnels stay up" in done.err
        assert 0 == lost(said)
        assert (helper, key) == (main_pid(installed, HELPER), public_key(installed))
        assert agent != main_pid(installed, AGENT)
        assert version == status(installed)["version"]


def test_a_helper_of_another_generation_is_restarted_and_announced(installed: Machine, way: Way) -> None:
    """With its agent, and both are of the new version."""
    start_pair(installed)
    key = public_key(installed)
    done = way.install(installed, OTHER)
    assert done.status == 0, done
    assert "must be restarted, because it is of generation 1 and this version's is 99" in done.err
    assert "tunnels are down for a moment" in done.err
    until(lambda: status(installed)["version"] == OTHER, 30, "the agent is back")
    assert key != public_key(installed)
    said = installed.good("systemctl", "show", "--property", "StatusText", "--value", HELPER)
    assert said.startswith("generation 99:")


def test_what_is_taken_away_is_gone_but_for_what_it_keeps(fresh: Machine, way: Way) -> None:
    """All files of the machine are compared: after an uninstallation of a running mesh, and after a purge."""
    before = fresh.snapshot()
    assert way.install(fresh, NOW).status == 0
    start_pair(fresh)
    until(lambda: status(fresh), 10, "the agent answers")
    assert way.install(fresh, LATER).status == 0
    done = way.uninstall(fresh)
    assert done.status == 0, done
    left = {name for name in differences(before, fresh.snapshot()) if not name.startswith(KEPT)}
    assert left <= {*USERS, "/etc/default", "/etc", "/var/lib"}
    assert "wgoverlay" not in fresh.good("ip", "-brief", "link")
    listed = fresh.good("systemctl", "list-units", "--all", "--plain", "--no-legend", "wesher*").splitlines()
    # systemd remembers names for a while
    assert all(line.split()[1:4] == ["not-found", "inactive", "dead"] for line in listed)
    assert fresh.run("test", "-e", "/var/lib/wesher/wgoverlay.json").status == 0
    done = way.purge(fresh)
    assert done.status == 0, done
    assert {} == differences(before, fresh.snapshot())


def test_a_purge_at_once_leaves_nothing(fresh: Machine, way: Way) -> None:
    """Also of what is enabled for the next boot."""
    before = fresh.snapshot()
    assert way.install(fresh, NOW).status == 0
    start_pair(fresh)
    done = way.purge(fresh)
    assert done.status == 0, done
    assert {} == differences(before, fresh.snapshot())


def test_users_and_defaults_that_were_there_before_stay(fresh: Machine, way: Way) -> None:
    """Somebody made them by hand."""
    fresh.good("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "wesher")
    before = fresh.snapshot()
    assert way.install(fresh, NOW).status == 0
    done = way.purge(fresh)
    assert done.status == 0, done
    assert {} == differences(before, fresh.snapshot())
