"""dist/install.sh alone: what an interrupted run leaves, what it refuses, other layouts and places; taking over from a
Go wesher and back."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import Layers
from tests.deploy.machine import Machine, Workshop, differences
from tests.deploy.mesh import AGENT, HELPER, connect, main_pid, start_pair, status
from tests.deploy.releases import LATER, NOW, OTHER, PACKAGE, SCRIPT, WAYS, WHEELS
from tests.lab import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]

LIB = "/usr/local/lib/wesher"

GO_UNIT = """
[Unit]
Description=wesher - wireguard mesh builder
[Service]
EnvironmentFile=-/etc/default/wesher
ExecStart=/usr/local/sbin/wesher
[Install]
WantedBy=multi-user.target
"""
USERSPACE = "[Unit]\nWants=wesher-wireguard-go.service\nAfter=wesher-wireguard-go.service\n"
GO_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
GO_STATE = '{\n  "ClusterKey": "' + GO_KEY + '",\n  "Nodes": []\n}\n'


@pytest.fixture
def scripted(workshop: Workshop, releases: Path, layers: Callable[..., Layers]) -> Iterator[Machine]:
    """A machine on which this version has been installed by the script."""
    with workshop.machine(releases, layers(SCRIPT)) as machine:
        yield machine


def versions(machine: Machine) -> list[str]:
    """Directories of versions."""
    return machine.good("sh", "-c", f"cd {LIB} && find . -maxdepth 1 -mindepth 1 -type d -printf '%P '").split()


def test_no_user_of_the_machine_keeps_it_from_being_installed_or_taken_away(scripted: Machine) -> None:
    """By a lock on whatever he can open there."""
    script = f"find {LIB} -maxdepth 1 -readable -print | while read -r it; do flock $it sleep 300 & done; wait"
    holder = subprocess.Popen(scripted.command("setpriv", "--reuid=65534", "--clear-groups", "sh", "-c", script))
    try:
        until(lambda: scripted.run("flock", "--nonblock", LIB, "true").status != 0, 10, "he holds a lock")
        for done in (SCRIPT.install(scripted, NOW), SCRIPT.uninstall(scripted)):
            assert done.status == 0, done
    finally:
        scripted.run("pkill", "-u", "nobody")
        holder.wait()


@pytest.mark.parametrize("awaited", ["tools", "wheels", "tree/lib"])
def test_an_interrupted_run_is_repaired_by_the_next(scripted: Machine, awaited: str) -> None:
    """Killed while it fetches, compiles or installs: what ran still does, and nothing new counts until it is whole."""
    start_pair(scripted)
    command = scripted.command(f"/srv/{LATER}/dist/install.sh", environment=WHEELS)
    install = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    until(lambda: scripted.run("test", "-e", f"{LIB}/.new/{awaited}").status == 0, 120, f"it has made {awaited}")
    os.killpg(install.pid, signal.SIGKILL)
    install.wait()
    assert f"v{NOW}" == scripted.good("wesher", "--version").strip()
    assert NOW == status(scripted)["version"]
    done = SCRIPT.install(scripted, LATER)
    assert done.status == 0, done
    assert f"v{LATER}" == scripted.good("wesher", "--version").strip()
    assert "0" == scripted.good("sh", "-c", f"ls -d {LIB}/.new 2>/dev/null | wc -l").strip()


def test_what_an_interrupted_run_had_still_to_restart_is_restarted_by_the_next(scripted: Machine) -> None:
    """It leaves a file from before the switch until all follows."""
    start_pair(scripted)
    helper, agent = (main_pid(scripted, unit) for unit in (HELPER, AGENT))
    scripted.good("touch", f"{LIB}/pending")
    assert SCRIPT.install(scripted, NOW).status == 0
    assert helper == main_pid(scripted, HELPER)
    assert agent != main_pid(scripted, AGENT)
    agent = main_pid(scripted, AGENT)
    assert SCRIPT.install(scripted, NOW).status == 0
    assert agent == main_pid(scripted, AGENT)


def test_a_version_goes_when_nothing_runs_from_it(scripted: Machine) -> None:
    """A helper keeps the one it was started from."""
    start_pair(scripted)
    done = SCRIPT.install(scripted, LATER)
    assert f"{LIB}/{NOW} stays as long as something runs from it" in done.err
    assert {NOW, LATER} == set(versions(scripted))
    scripted.good("systemctl", "restart", HELPER)
    assert SCRIPT.install(scripted, LATER).status == 0
    assert [LATER] == versions(scripted)


def test_other_sources_of_one_version_stand_beside_the_first(scripted: Machine) -> None:
    """What runs is never written over."""
    scripted.good("sh", "-c", f"cp -a /srv/{NOW} /run/changed && echo >>/run/changed/wesher/version.py")
    start_pair(scripted)
    assert scripted.run("/run/changed/dist/install.sh", environment=WHEELS).status == 0
    assert 2 == len(versions(scripted))
    assert scripted.good("readlink", f"{LIB}/current").startswith(f"{NOW}+")


def test_a_hosts_file_that_is_missing_becomes_one_that_everybody_reads(scripted: Machine) -> None:
    """Systemd makes it as it opens it for the helper."""
    scripted.good("rm", "/etc/hosts")
    start_pair(scripted)
    assert "644 root" == scripted.good("stat", "--format", "%a %U", "/etc/hosts").strip()


def test_who_starts_what_cannot_start_hears_of_it_and_it_starts_when_it_can(scripted: Machine) -> None:
    """A helper that ends at once takes its agent along each time, and the command would wait for ever."""
    connect(scripted)
    scripted.good("systemctl", "start", "wesher-wireguard-go")
    scripted.good("sh", "-ec", "mount --bind /etc/hosts /etc/hosts; mount -o remount,bind,ro /etc/hosts")
    done = scripted.run("systemctl", "start", AGENT)
    assert (done.status, done.err.strip()) == (1, "Job for wesher.service timed out.")
    scripted.good("umount", "/etc/hosts")
    until(lambda: main_pid(scripted, HELPER) > 0 and status(scripted), 30, "both are there")


def test_no_unit_is_kept_from_starting_for_having_been_started_often(scripted: Machine) -> None:
    """Systemd's own limit is five times in ten seconds, and an agent without its socket is no use."""
    units = (HELPER, AGENT, "wesher-wireguard-go.service", "wesher-launcher.service", "wesher-privhelper.socket")
    for unit in units:
        limit = scripted.good("systemctl", "show", "--property=StartLimitIntervalUSec", "--value", unit).strip()
        assert limit == "0", unit
    for _ in range(7):
        scripted.good("systemctl", "restart", units[-1])


def test_a_wireguard_go_that_cannot_start_says_why_in_the_journal(scripted: Machine) -> None:
    """Where no udev has opened the device to all."""
    scripted.good("chmod", "600", "/dev/net/tun")
    assert scripted.run("systemctl", "start", "wesher-wireguard-go").status == 1
    assert "Failed to create TUN device: permission denied" in scripted.journal()


def test_a_check_of_a_unit_names_what_its_program_would_never_see(scripted: Machine) -> None:
    """A hosts file that systemd cannot open for the helper, and a device that the launcher's unit closes."""
    scripted.good("sh", "-ec", "mount --bind /etc/hosts /etc/hosts; mount -o remount,bind,ro /etc/hosts")
    done = scripted.run("wesher", "check", "--unit", "wesher")
    assert done.status == 1
    assert "/etc/hosts cannot be opened (Read-only file system), and systemd hands it to the helper" in done.out
    scripted.write("/etc/default/wesher", "WESHER_WIREGUARD=userspace\n")
    done = scripted.run("wesher", "check", "--unit", "wesher-launcher")
    assert (done.status, "launcher-userspace.conf" in done.out) == (1, True)


def test_the_launcher_takes_the_pairs_place(scripted: Machine) -> None:
    """It is on as the pair was, and the pair is off."""
    start_pair(scripted)
    drop_in = "/etc/systemd/system/wesher-launcher.service.d/userspace.conf"
    scripted.good("install", "-D", "-m", "644", f"/srv/{NOW}/dist/systemd/drop-ins/launcher-userspace.conf", drop_in)
    done = SCRIPT.install(scripted, NOW, "--launcher")
    assert done.status == 0, done
    assert "enabled" == scripted.run("systemctl", "is-enabled", "wesher-launcher").out.strip()
    assert "disabled" == scripted.run("systemctl", "is-enabled", AGENT).out.strip()
    until(lambda: main_pid(scripted, "wesher-launcher.service") > 0, 10, "it runs")
    done = SCRIPT.install(scripted, OTHER)
    assert "both halves: tunnels are down for a moment" in done.err


def test_what_an_agent_has_left_does_not_become_roots(scripted: Machine) -> None:
    """When the launcher takes its place: a program of the agent's with the set-user-ID bit would be one of root's."""
    start_pair(scripted)
    drop_in = "/etc/systemd/system/wesher-launcher.service.d/userspace.conf"
    scripted.good("install", "-D", "-m", "644", f"/srv/{NOW}/dist/systemd/drop-ins/launcher-userspace.conf", drop_in)
    left = "/var/lib/wesher/left"
    scripted.good("install", "-o", "wesher", "-g", "wesher", "-m", "4755", "/usr/bin/id", left)
    done = SCRIPT.install(scripted, NOW, "--launcher")
    assert done.status == 0, done
    until(lambda: main_pid(scripted, "wesher-launcher.service") > 0, 10, "it runs")
    owners = scripted.good("stat", "--format", "%U", "/var/lib/wesher", left)
    assert owners.split() == ["wesher", "wesher"]


def test_another_tunnel_of_the_machine_goes_on_beside_ours(scripted: Machine) -> None:
    """Every wireguard-go has its socket in one directory, and ends when that one is given to somebody else."""
    scripted.good("rm", "-rf", "/run/wireguard")
    scripted.good("systemd-run", "--unit=other", "wireguard-go", "--foreground", "other")
    until(lambda: scripted.run("wg", "show", "other").status == 0, 10, "the other tunnel is there")
    scripted.good("systemd-tmpfiles", "--create")
    start_pair(scripted)
    assert "listening port" in scripted.good("wg", "show", "other")
    scripted.good("systemctl", "stop", HELPER, "wesher-wireguard-go")
    assert "listening port" in scripted.good("wg", "show", "other")


@pytest.mark.parametrize("prefix", ["/opt/mesh", "/data/mesh"])
def test_another_prefix_is_as_good(fresh: Machine, prefix: str) -> None:
    """Its units stand where systemd looks, and let it be executed; and all goes again."""
    before = fresh.snapshot()
    done = SCRIPT.install(fresh, NOW, "--prefix", prefix)
    assert (done.status, f"sudo {prefix}/bin/wesher key show" in done.out) == (0, True)
    start_pair(fresh)
    assert fresh.good(f"{prefix}/bin/wesher", "status").startswith("node1")
    done = SCRIPT.install(fresh, NOW)
    assert (1, 1) == (done.status, len(done.err.splitlines()))
    assert f"under {prefix} already: give --prefix {prefix}" in done.err
    assert fresh.run(f"{prefix}/lib/wesher/current/uninstall.sh", "--purge").status == 0
    assert {} == differences(before, fresh.snapshot())


@pytest.mark.parametrize(
    ("arguments", "environment", "error"),
    [
        (["--prefix", "mesh"], {}, "--prefix 'mesh' is not absolute; give the whole path"),
        (["--prefix", "/opt/my mesh"], {}, "give one of letters, digits and ._+-"),
        (["--prefix", "/home/me/mesh"], {}, "is where the services are not let"),
        (["--purge"], {}, "usage: sudo"),
        ([], {"PIP_FIND_LINKS": "/nowhere"}, "cannot fetch what builds wesher: "),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(
    fresh: Machine, arguments: list[str], environment: dict[str, str], error: str
) -> None:
    """What, why, and what to do."""
    before = fresh.snapshot()
    done = fresh.run(f"/srv/{NOW}/dist/install.sh", *arguments, environment=WHEELS | environment)
    assert done.status == 1
    (line,) = done.err.strip().splitlines()[-1:]
    assert error in line
    left = {name for name in differences(before, fresh.snapshot()) if not name.startswith(LIB)}
    assert left <= {"/usr/local/lib"}


def test_wheels_of_another_content_are_refused(fresh: Machine) -> None:
    """Whatever serves them: the hash decides."""
    fresh.good(
        "sh",
        "-c",
        "cp -a /srv/wheels /run/wheels && cd /run/wheels && cp click-*.whl x && printf x >>x && mv x click-*.whl",
    )
    done = fresh.run(f"/srv/{NOW}/dist/install.sh", environment=WHEELS | {"PIP_FIND_LINKS": "/run/wheels"})
    assert done.status == 1
    assert "HASH" in done.err.upper()
    assert fresh.run("test", "-e", f"{LIB}/current").status == 1


def test_who_is_not_root_is_told_so(scripted: Machine) -> None:
    """Before anything else."""
    for script in ("install.sh", "uninstall.sh", "take-over.sh"):
        done = scripted.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"/srv/{NOW}/dist/{script}")
        assert (1, 1) == (done.status, len(done.err.splitlines()))
        assert "run it as root: sudo" in done.err


def test_script_and_package_do_not_stand_beside_each_other(scripted: Machine, fresh: Machine) -> None:
    """Units of the one would be in the way of the other's."""
    done = PACKAGE.install(scripted, NOW)
    assert done.status != 0
    assert f"remove that first: {LIB}/current/uninstall.sh" in done.err
    assert PACKAGE.install(fresh, NOW).status == 0
    for done in (SCRIPT.install(fresh, NOW), SCRIPT.purge(fresh)):
        assert (1, 1) == (done.status, len(done.err.splitlines()))
        assert "apt-get remove wesher" in done.err


# --- from a Go wesher and back


@pytest.fixture
def with_go(fresh: Machine) -> Machine:
    """As the Go wesher's README has it installed; its program only waits, as root, with its state beside it. For this
    kernel, which may have no WireGuard, the drop-in is there that our README names."""
    connect(fresh)
    fresh.write("/etc/systemd/system/wesher-privhelper.service.d/userspace.conf", USERSPACE)
    fresh.write("/usr/local/sbin/wesher", "#!/bin/sh\nexec sleep infinity\n", "755")
    fresh.write("/etc/systemd/system/wesher.service", GO_UNIT)
    fresh.write("/etc/default/wesher", f"WESHER_CLUSTER_KEY={GO_KEY}\nWESHER_LOG_LEVEL=info\n")
    fresh.write("/var/lib/wesher/wgoverlay.json", GO_STATE, "600")
    fresh.good("systemctl", "daemon-reload")
    fresh.good("systemctl", "enable", "--now", "wesher")
    return fresh


def test_a_go_wesher_is_not_shadowed_unasked(with_go: Machine) -> None:
    """What is in the way is named, and it runs on."""
    before, pid = with_go.snapshot(), main_pid(with_go, AGENT)
    done = SCRIPT.install(with_go, NOW)
    assert (1, 1) == (done.status, len(done.err.splitlines()))
    assert "/etc/systemd/system/wesher.service /usr/local/sbin/wesher" in done.err
    assert "--take-over" in done.err
    assert {} == differences(before, with_go.snapshot())
    assert pid == main_pid(with_go, AGENT)


@pytest.mark.parametrize("place", ["/usr/bin/wesher", "/usr/lib/systemd/system/wesher.service"])
def test_a_package_writes_over_nothing_that_is_no_packages(fresh: Machine, place: str) -> None:
    """It would be gone: dpkg keeps no copy."""
    fresh.write(place, "somebody's\n")
    done = PACKAGE.install(fresh, NOW)
    assert done.status != 0
    assert f"wesher: {place} is no package's, and this one would write over it" in done.err
    assert "somebody's\n" == fresh.good("cat", place)


def test_our_unit_as_the_administrator_changed_it_is_not_taken_for_a_go_weshers(scripted: Machine) -> None:
    """Drop-ins, or a whole copy, of `systemctl edit`: they stay what they are, and count."""
    units = "/etc/systemd/system"
    scripted.write(f"{units}/wesher.service.d/override.conf", "[Service]\nNice=5\n")
    scripted.good("cp", "/usr/local/lib/systemd/system/wesher.service", units)
    start_pair(scripted)
    done = SCRIPT.install(scripted, LATER)
    assert done.status == 0, done
    assert LATER == status(scripted)["version"]
    assert SCRIPT.uninstall(scripted).status == 0
    assert "inactive" == scripted.run("systemctl", "is-active", AGENT).out.strip()
    for name in ("wesher.service", "wesher.service.d/override.conf"):
        assert scripted.run("test", "-e", f"{units}/{name}").status == 0


@pytest.mark.parametrize("way", ["script", "package"])
def test_a_go_weshers_mesh_goes_on_with_this_one_and_back(with_go: Machine, way: str) -> None:
    """Key, state and options are the same ones, and at the end everything is as it was, and runs."""
    before = with_go.snapshot("/var/lib/wesher")
    if way == "script":
        done = SCRIPT.install(with_go, NOW, "--take-over")
    else:
        with_go.good("dpkg", "--force-confold", "--install", *packages(with_go))
        done = with_go.run("/usr/lib/wesher/current/take-over.sh")
    assert done.status == 0, done
    assert "everybody on this host can read it: chmod 600 /etc/default/wesher" in done.err
    assert "enabled" == with_go.run("systemctl", "is-enabled", AGENT).out.strip()
    until(lambda: status(with_go), 20, "ours runs")
    assert GO_KEY == with_go.good("wesher", "key", "show").strip()
    assert WAYS[way].uninstall(with_go).status == 0
    assert "active" == with_go.run("systemctl", "is-active", AGENT).out.strip()
    assert "sleep" == with_go.good("cat", f"/proc/{main_pid(with_go, AGENT)}/comm").strip()
    assert GO_KEY in with_go.good("cat", "/var/lib/wesher/wgoverlay.json")
    kept = {f"/etc/{name}" for name in ("passwd", "group", "shadow", "gshadow", "default/wesher.dpkg-dist")}
    assert differences(before, with_go.snapshot("/var/lib/wesher")).keys() <= kept


def packages(machine: Machine) -> list[str]:
    """This version's, in the machine."""
    return [f"/srv/packages/{path.name}" for path in (machine.srv / "packages").glob(f"wesher_{NOW}+*.deb")]


UNIT = "/etc/systemd/system/wesher.service"


@pytest.mark.parametrize("layout", [(), ("--launcher",)], ids=["pair", "launcher"])
@pytest.mark.parametrize(
    ("path", "lines", "named"),
    [
        (
            UNIT,
            "ExecStart=/usr/local/sbin/wesher --join 192.0.2.1",
            "ExecStart=/usr/local/sbin/wesher --join 192.0.2.1",
        ),
        (UNIT, "ExecStart = /usr/local/sbin/wesher \\\n  --init", "ExecStart=/usr/local/sbin/wesher --init"),
        (UNIT, "ExecStart=/usr/local/sbin/wesher $MORE", "ExecStart=/usr/local/sbin/wesher $MORE"),
        (UNIT, "ExecStart=/usr/local/sbin/start-mesh", "ExecStart=/usr/local/sbin/start-mesh"),
        (
            "/run/systemd/system/wesher.service.d/port.conf",
            "Environment=WESHER_CLUSTER_PORT=7000",
            "WESHER_CLUSTER_PORT=7000",
        ),
        (f"{UNIT}.d/key.conf", f"Environment=WESHER_CLUSTER_KEY={GO_KEY}", "Environment=WESHER_CLUSTER_KEY=..."),
        (f"{UNIT}.d/file.conf", "EnvironmentFile=/etc/wesher.conf", "EnvironmentFile=/etc/wesher.conf"),
    ],
)
def test_options_in_a_go_weshers_unit_are_not_lost_silently(
    with_go: Machine, layout: tuple[str, ...], path: str, lines: str, named: str
) -> None:
    """However they are written there they are named, but for a key, and nothing is changed."""
    unit = GO_UNIT.replace("ExecStart=/usr/local/sbin/wesher", lines) if path == UNIT else f"[Service]\n{lines}\n"
    with_go.write("/etc/wesher.conf", "WESHER_JOIN=192.0.2.1\n")
    with_go.write("/usr/local/sbin/start-mesh", "#!/bin/sh\nexec wesher --init\n", "755")
    with_go.write(path, unit)
    before, pid = with_go.snapshot(), main_pid(with_go, AGENT)
    done = SCRIPT.install(with_go, NOW, "--take-over", *layout)
    assert (1, 1) == (done.status, len(done.err.splitlines()))
    assert named in done.err
    assert "write them into /etc/default/wesher" in done.err
    assert GO_KEY not in done.err
    assert {} == differences(before, with_go.snapshot())
    assert pid == main_pid(with_go, AGENT)


def there_and_back(with_go: Machine) -> None:
    """Ours goes on where the Go wesher was, and is taken away; then that one runs again, and of it nothing is lost."""
    before = with_go.snapshot("/var/lib/wesher")
    done = SCRIPT.install(with_go, NOW, "--take-over")
    assert done.status == 0, done
    until(lambda: status(with_go), 20, "ours runs")
    assert SCRIPT.uninstall(with_go).status == 0
    assert "sleep" == with_go.good("cat", f"/proc/{main_pid(with_go, AGENT)}/comm").strip()
    users = {f"/etc/{name}" for name in ("passwd", "group", "shadow", "gshadow")}
    assert differences(before, with_go.snapshot("/var/lib/wesher")).keys() <= users


def test_a_go_wesher_that_stands_where_ours_will_is_kept_and_comes_back(with_go: Machine) -> None:
    """Its program and its unit, and a unit that is a link, are the only copies that there are."""
    unit, program = "/usr/local/lib/systemd/system/wesher.service", "/usr/local/bin/wesher"
    with_go.good("systemctl", "disable", "--now", AGENT)
    with_go.good(
        "sh", "-ec", f"mkdir -p /opt/go {Path(unit).parent}; mv {UNIT} {unit}; mv /usr/local/sbin/wesher {program}"
    )
    with_go.write(unit, GO_UNIT.replace("/usr/local/sbin", "/usr/local/bin"))
    with_go.good("systemctl", "daemon-reload")
    with_go.good("systemctl", "enable", "--now", AGENT)
    there_and_back(with_go)


def test_a_go_weshers_unit_that_is_a_link_comes_back(with_go: Machine) -> None:
    """`systemctl disable` takes such a link away."""
    with_go.good("systemctl", "disable", "--now", AGENT)
    with_go.good("sh", "-ec", f"mkdir -p /opt/go; mv {UNIT} /opt/go; systemctl enable --now /opt/go/wesher.service")
    there_and_back(with_go)


# Kills the script before that one of its commands which changes something.
KILL = """
set -T
trap 'case $BASH_COMMAND in mv*|rm*|systemctl\\ --quiet*|systemctl\\ st*|systemctl\\ daemon*|echo*note*)
  ((STEP--)) || kill -KILL $$;; esac' DEBUG
"""


@pytest.mark.parametrize("there", ["", "--back"], ids=["there", "back"])
def test_a_take_over_that_is_interrupted_anywhere_goes_on_or_back(with_go: Machine, there: str) -> None:
    """What ran does afterwards, and would at boot: which that is does not get lost."""
    with_go.write("/run/kill", KILL)
    assert SCRIPT.install(with_go, NOW, "--take-over").status == 0
    script = f"{LIB}/current/take-over.sh"
    if not there:
        with_go.good(script, "--back")
    for step in itertools.count():
        interrupted = with_go.run(script, *there.split(), environment={"BASH_ENV": "/run/kill", "STEP": str(step)})
        if interrupted.status == 0:
            break
        for words, program in (((), "python"), (("--back",), "sleep")):
            done = with_go.run(script, *words)
            assert done.status == 0, (step, words, done)
            assert "enabled" == with_go.run("systemctl", "is-enabled", AGENT).out.strip(), (step, words)
            until(lambda: main_pid(with_go, AGENT) > 0, 20, f"it runs after step {step}")
            assert program == with_go.good("cat", f"/proc/{main_pid(with_go, AGENT)}/comm").strip(), (step, words)
        assert "" == with_go.good("find", "/etc/systemd/system", "-name", "*take-over*")
        if there:
            assert with_go.run(script).status == 0
    assert step > 5


def test_the_launcher_is_as_off_as_the_pair_was_and_leaves_instances_alone(scripted: Machine) -> None:
    """A node that is in no mesh yet would begin one at the next boot; and another cluster is another's affair."""
    scripted.good("systemd-sysusers", "--inline", "u wesher-lab", "u wesher-priv-lab")
    scripted.good("systemctl", "enable", "wesher@lab.service")
    done = SCRIPT.install(scripted, NOW, "--launcher")
    assert done.status == 0, done
    assert "disabled" == scripted.run("systemctl", "is-enabled", "wesher-launcher").out.strip()
    start_pair(scripted)
    drop_in = "/etc/systemd/system/wesher-launcher.service.d/userspace.conf"
    scripted.good("install", "-D", "-m", "644", f"/srv/{NOW}/dist/systemd/drop-ins/launcher-userspace.conf", drop_in)
    done = SCRIPT.install(scripted, NOW, "--launcher")
    assert done.status == 0, done
    assert "enabled" == scripted.run("systemctl", "is-enabled", "wesher-launcher").out.strip()
    assert "enabled" == scripted.run("systemctl", "is-enabled", "wesher@lab").out.strip()


def test_a_purge_of_another_prefix_takes_nothing_from_what_runs(scripted: Machine) -> None:
    """State, key and users are those of whatever is installed."""
    start_pair(scripted)
    before, pid = scripted.snapshot("/var/lib/wesher"), main_pid(scripted, HELPER)
    done = scripted.run(f"/srv/{NOW}/dist/uninstall.sh", "--prefix", "/opt/mesh", "--purge")
    assert (1, 1) == (done.status, len(done.err.splitlines()))
    assert "installed under /usr/local, not /opt/mesh: run this with --prefix /usr/local" in done.err
    assert {} == differences(before, scripted.snapshot("/var/lib/wesher"))
    assert pid == main_pid(scripted, HELPER)
