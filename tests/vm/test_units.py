"""The shipped units on a real systemd and the kernel's WireGuard: this machine runs them, its company is the lab's."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from security.privileges.asked import cannot_ask, stopped
from tests.e2e.mesh import CLUSTER_KEY_TEXT, managed_names, start
from tests.e2e.test_processes import descriptors, proc_status
from tests.lab import Lab, Node, Pinging, until
from tests.vm import services
from tests.vm.services import AGENT, HELPER, LAUNCHER, SOCKET, journal, main_pid, public_key, run, shown

pytestmark = pytest.mark.vm

NET_ADMIN = 1 << 12


@pytest.fixture(scope="module")
def company() -> Iterator[Node]:
    """Another machine with a daemon of its own, and the units installed here; all of it is one mesh's."""
    before = Path("/etc/hosts").read_bytes()
    os.environ["WESHER_BIN"] = f"{services.BIN}/wesher"
    services.install()
    with Lab(1) as lab:
        services.plug_in(lab)
        (node,) = lab.nodes
        start(node)
        services.configure(join=node.address, bind_addr=services.ADDRESS)
        yield node
        run("systemctl", "stop", AGENT, HELPER, SOCKET, LAUNCHER)
    assert before == Path("/etc/hosts").read_bytes()


@pytest.fixture
def pair(company: Node) -> Node:
    """The pair of units, running and in the mesh with the machine that is returned."""
    run("systemctl", "start", SOCKET, AGENT)
    await_mesh(company)
    return company


def await_mesh(company: Node) -> None:
    """Until each pings the other by its name."""
    until(lambda: services.pings(company.name), 20, "this machine pings the other")
    until(lambda: company.ping(managed_names(company)["guest"]), 20, "the other pings this one")


def test_the_pair_is_a_mesh_with_another_machine(pair: Node) -> None:
    """With the kernel's WireGuard, the key from the credential, and the hosts file as a descriptor."""
    status = services.status()
    assert status["node"]["backend"] == "kernel"
    assert status["problems"] == []
    assert services.wesher("key", "show").strip() == CLUSTER_KEY_TEXT
    assert "/etc/hosts" in descriptors(main_pid(HELPER))
    for number in (0, 1):
        assert os.readlink(f"/proc/{main_pid(HELPER)}/fd/{number}") == "/dev/null"
    assert shown(HELPER, "StatusText").endswith(": serving the agent")
    assert shown(AGENT, "StatusText") == "in the mesh"


def test_no_ping_is_lost_while_the_agent_is_killed_and_restarted(pair: Node) -> None:
    """Helper, key and tunnels stay; the manager starts the killed one again by itself."""
    helper, key, agent = main_pid(HELPER), public_key(), main_pid(AGENT)
    pings = [
        Pinging(services.start_program, pair.name, every=0.2),
        Pinging(pair.start_program, managed_names(pair)["guest"], every=0.2),
    ]

    os.kill(agent, signal.SIGKILL)
    until(lambda: main_pid(AGENT) not in (0, agent) and services.is_active(AGENT), 20, "it is back")
    run("systemctl", "restart", AGENT)
    until(lambda: services.status()["cluster"]["alive"] == 2, 20, "and in the mesh")

    assert [set(), set()] == [pinging.losses() for pinging in pings]
    assert (helper, key) == (main_pid(HELPER), public_key())


def test_a_killed_helper_is_back_with_its_agent_and_another_key(pair: Node) -> None:
    """Nothing that it had in force is adopted; nobody has to do anything."""
    key = public_key()
    os.kill(main_pid(HELPER), signal.SIGKILL)
    until(lambda: services.is_active(HELPER) and public_key() not in ("", key), 20, "there is another key")
    await_mesh(pair)
    until(lambda: services.is_active(AGENT), 20, "and its agent has said so")  # the first ping may overtake READY=1


def test_reload_is_heard_by_both_and_changes_no_process(pair: Node) -> None:
    """`systemctl reload`, of either unit, is the same reload."""
    processes = main_pid(AGENT), main_pid(HELPER)
    for unit in (AGENT, HELPER):
        seen = journal(AGENT).count("reload: ")
        run("systemctl", "reload", unit)
        until(lambda n=seen: journal(AGENT).count("reload: ") == n + 1, 10, f"{unit} is reloaded")
    assert processes == (main_pid(AGENT), main_pid(HELPER))


def test_what_a_network_manager_flushes_comes_back(pair: Node) -> None:
    """systemd-networkd that is told to manage every link takes away the addresses and routes that it does not know."""
    network = Path("/run/systemd/network/wg.network")
    network.parent.mkdir(exist_ok=True)
    network.write_text("[Match]\nName=wg*\n[Network]\nLinkLocalAddressing=no\n")
    run("/lib/systemd/systemd-udevd", "--daemon")  # it waits for udev's word on a link
    run("udevadm", "trigger", "--action=add", "--subsystem-match=net", "--settle")
    try:
        run("systemctl", "start", "systemd-networkd.service")
        until(lambda: "repaired: " in journal(HELPER), 15, "the helper has put something right")
        await_mesh(pair)
    finally:
        network.unlink()
        run("systemctl", "stop", "systemd-networkd.socket", "systemd-networkd.service")


def test_live_units_hold_what_security_says(pair: Node) -> None:
    """Users, capabilities, filters, descriptors, environment; and what landlock answers, asked of the live ones."""
    users = {name: int(run("id", "-u", name)) for name in ("wesher", "wesher-priv")}
    for unit, user, held in ((AGENT, "wesher", 0), (HELPER, "wesher-priv", NET_ADMIN)):
        pid = main_pid(unit)
        for task in os.listdir(f"/proc/{pid}/task"):
            fields = proc_status(int(task))
            assert set(map(int, fields["Uid"].split())) == {users[user]}
            assert fields["Groups"].split() in ([], [run("id", "-g", user).strip()])
            assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == int(fields["CapBnd"], 16) == held
            assert int(fields["CapInh"], 16) == int(fields["CapAmb"], 16) == 0
            assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
        environment = Path(f"/proc/{pid}/environ").read_text()
        assert not re.search("KEY|SECRET", environment)
        if cannot_ask() is None:
            with stopped(pid) as process:
                assert process.call("openat", -100, b"/usr/bin/env\0", os.O_RDONLY, 0) == -13  # landlock, EACCES
    assert descriptors(main_pid(HELPER)) == Counter(
        {"/dev/null": 2, "seqpacket": 2, "/etc/hosts": 1, "unix": 8, "netlink": 3, "epoll": 2}
    )


def test_the_manager_alone_would_keep_them_in_too(pair: Node) -> None:
    """What a unit shows as its exposure is what the live one was given."""
    for unit, most in ((AGENT, 1.1), (HELPER, 1.3)):
        said = run("systemd-analyze", "security", "--no-pager", unit)
        level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
        assert level is not None
        assert float(level[1]) <= most, said


def test_stopping_the_helper_is_a_leave_and_leaves_no_trace(pair: Node) -> None:
    """Its agent ends with it, the other machine drops the name, and a start is a mesh again."""
    run("systemctl", "stop", HELPER)
    until(lambda: shown(AGENT, "ActiveState") == "inactive", 10, "both have ended")
    until(lambda: "guest" not in managed_names(pair), 10, "the other has dropped the name")
    assert "wgoverlay" not in run("ip", "-brief", "link")
    assert b"managed automatically" not in Path("/etc/hosts").read_bytes()
    for unit in (AGENT, HELPER):
        assert shown(unit, "Result") == "success"
    run("systemctl", "start", AGENT)
    await_mesh(pair)


def test_the_launchers_unit_is_the_same_mesh(company: Node) -> None:
    """It takes the pair's place, state and key; its halves are what they are elsewhere."""
    run("systemctl", "start", LAUNCHER)
    until(lambda: shown(HELPER, "ActiveState") == "inactive", 10, "the pair has given way")
    await_mesh(company)
    assert int(proc_status(main_pid(LAUNCHER))["CapEff"], 16) == NET_ADMIN
    run("systemctl", "stop", LAUNCHER)
    assert shown(LAUNCHER, "Result") == "success"
    assert "Killing process" not in journal(LAUNCHER)
    assert "wgoverlay" not in run("ip", "-brief", "link")


@pytest.mark.nightly
def test_a_further_cluster_has_users_of_its_own(pair: Node) -> None:
    """An instance beside the pair: other interface, ports, users, state; neither sees the other's."""
    for user in ("wesher-lab", "wesher-priv-lab"):
        run("systemd-sysusers", "--inline", f"u {user} - - - -")
    services.configure("wesher-lab", bind_addr=services.ADDRESS, cluster_port=7947, wireguard_port=51821)
    run("systemctl", "start", "wesher-privhelper@lab.socket", "wesher@lab.service")
    other = services.status("--interface", "lab")
    assert (other["node"]["interface"], other["cluster"]["size"]) == ("lab", 1)
    assert services.status()["cluster"]["size"] == 2
    owners = {
        Path(f"/proc/{main_pid(unit)}").stat().st_uid
        for unit in (AGENT, HELPER, "wesher@lab.service", "wesher-privhelper@lab.service")
    }
    assert len(owners) == 4
    run("systemctl", "stop", "wesher-privhelper@lab.service", "wesher-privhelper@lab.socket")
    assert "lab" not in os.listdir("/sys/class/net")
    until(lambda: services.pings(pair.name), 5, "this instance's tunnel carries")


@pytest.mark.nightly
def test_taking_over_replaces_the_link_that_a_crashed_go_wesher_left(company: Node) -> None:
    """With a key and a peer no helper would dare to take it. One that runs outside its unit is left alone."""
    take_over, ours = str(services.SHIPPED.parent / "take-over.sh"), Path(services.BIN) / "wesher"
    installed = Path("/usr/local/lib/wesher/current/bin/wesher")
    installed.parent.mkdir(parents=True)
    ours.rename(installed)
    ours.symlink_to("../lib/wesher/current/bin/wesher")  # as install.sh has it; else it is taken for the Go one
    run("systemctl", "stop", HELPER, AGENT, SOCKET)
    key = run("wg", "genkey")
    Path("/run/key").write_text(key)
    run("ip", "link", "add", "wgoverlay", "type", "wireguard")
    run("wg", "set", "wgoverlay", "private-key", "/run/key", "peer", run("wg", "genkey").strip())
    left = public_key()
    go = Path("/usr/local/sbin/wesher")
    shutil.copy("/usr/bin/sleep", go)
    unit = Path("/etc/systemd/system/wesher.service")
    unit.write_text("[Service]\nExecStart=/usr/local/sbin/wesher\n[Install]\nWantedBy=multi-user.target\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", "wesher.service")

    by_hand = subprocess.Popen([str(go), "infinity"])
    refused = subprocess.run([take_over], capture_output=True, text=True, check=False)
    assert (1, f"take-over.sh: a Go wesher runs that its unit has not started: kill {by_hand.pid}") == (
        refused.returncode,
        refused.stderr.partition(",")[0],
    )
    by_hand.kill()
    by_hand.wait()
    assert public_key() == left
    state = Path("/var/lib/wesher/wgoverlay.json")
    state.parent.mkdir(exist_ok=True)
    state.write_text(json.dumps({"ClusterKey": CLUSTER_KEY_TEXT, "Nodes": []}))
    run("chown", "-R", "wesher:wesher", str(state.parent))

    said = subprocess.run([take_over], capture_output=True, text=True, check=False)

    assert said.returncode == 0, said.stderr
    assert "removed interface wgoverlay, which the Go wesher had left" in said.stderr
    run("systemctl", "start", SOCKET, AGENT)
    await_mesh(company)
    assert public_key() != left


@pytest.mark.nightly
def test_each_drop_in_does_what_it_says(pair: Node) -> None:
    """Ports, a key from a path, another state directory, another hosts file or none: the mesh is there with each."""
    store, elsewhere, hosts = Path("/etc/wesher"), Path("/srv/wesher"), Path("/etc/hosts.wesher")
    for directory in (store, elsewhere):
        directory.mkdir(exist_ok=True)
    (store / "cluster-key").write_text(CLUSTER_KEY_TEXT)
    run("chown", "wesher:wesher", str(elsewhere))
    elsewhere.chmod(0o700)
    hosts.write_text("127.0.0.1 localhost\n")
    operators = Path("/etc/hosts").read_bytes().split(b"\n")[:2]

    for name in ("ports.conf", "key-file.conf", "state-directory.conf"):
        services.drop_in(AGENT, name)
    run("systemctl", "restart", AGENT)
    until(lambda: services.status()["cluster"]["alive"] == 2, 20, "in the mesh with three drop-ins")
    assert (elsewhere / "wgoverlay.json").exists()

    services.configure(join=pair.address, bind_addr=services.ADDRESS, hosts_file=hosts)
    services.drop_in(HELPER, "other-hosts-file.conf")
    run("systemctl", "restart", HELPER)
    until(lambda: pair.name in hosts.read_text(), 30, "the other hosts file has the name")

    services.configure(join=pair.address, bind_addr=services.ADDRESS)
    (services.UNITS / f"{HELPER}.d" / "other-hosts-file.conf").unlink()
    services.drop_in(HELPER, "no-hosts-file.conf")
    run("systemctl", "restart", HELPER)
    until(lambda: services.status()["cluster"]["alive"] == 2, 30, "in the mesh without a hosts file")
    assert services.status()["problems"] == []
    assert operators == Path("/etc/hosts").read_bytes().split(b"\n")[:2]
    assert b"managed automatically" not in Path("/etc/hosts").read_bytes()

    for unit in (AGENT, HELPER):
        run("rm", "-r", str(services.UNITS / f"{unit}.d"))
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", HELPER)


def test_the_check_of_the_units_says_what_is_missing_and_how_to_mend_it(pair: Node) -> None:
    """All is well with the running pair, which is not disturbed; then a port that is taken, a network as wide as the
    overlay, a state of the wrong owner and a hosts file that cannot be written are each named, and no more."""

    def found() -> dict[str, str]:
        said = json.loads(services.wesher("check", "--unit", "wesher", "--json", check=False))["findings"]
        return {finding["what"]: finding["text"] for finding in said if finding["level"] != "ok"}

    processes, key = (main_pid(AGENT), main_pid(HELPER)), public_key()
    assert found() == {}
    assert (main_pid(AGENT), main_pid(HELPER), public_key()) == (*processes, key)

    run("systemctl", "stop", HELPER, SOCKET)
    assert found() == {}
    state = "/var/lib/wesher/wgoverlay.json"
    spoil = (
        "ip link add name other type wireguard",
        "wg set other listen-port 51820",
        "ip address add 10.0.0.5/8 dev other",
        "ip link set dev other up",
        f"chown root {state}",
        "mount --bind /etc/hosts /etc/hosts",
        "mount -o remount,bind,ro /etc/hosts",
    )
    for command in spoil:
        run(*command.split())
    missing = found()
    mend = ("umount /etc/hosts", f"chown wesher {state}", "ip link del dev other")
    for command in mend:
        run(*command.split())
    assert missing.keys() == {"wireguard port", "overlay", "state directory", "hosts file", "unit"}
    assert missing["wireguard port"].endswith("cannot be used: Address already in use; give another --wireguard-port")
    assert "as wide as the overlay net 10.0.0.0/8; give another --overlay-net" in missing["overlay"]
    uid = run("id", "-u", "wesher").strip()
    assert missing["state directory"].endswith(f"belongs to uid 0; move it aside, or: chown {uid} {state}")
    assert missing["hosts file"].startswith("/etc/hosts cannot be opened (Read-only file system); ")
    assert "(Read-only file system), and systemd hands it to the helper, which would never start; " in missing["unit"]
    assert found() == {}
    run("systemctl", "start", SOCKET, AGENT)
    await_mesh(pair)


def test_the_journal_has_no_denial_and_no_secret(company: Node) -> None:
    """Of all of the above: nothing was refused to anybody, no process was killed by a filter, no key was written."""
    said = journal()
    secrets = [CLUSTER_KEY_TEXT, base64.b64decode(CLUSTER_KEY_TEXT).hex()]
    assert not [secret for secret in secrets if secret in said]
    denied = [
        line
        for line in said.splitlines()
        if "wesher" in line and re.search(r"(?i)denied|not permitted|SIGSYS|seccomp|audit|Traceback|core-dump", line)
    ]
    assert denied == []
