"""The lab's own claims: what the end-to-end tests stand on."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import Lab, bound, command_line, processes_in, until
from tests.lab.ci import needs
from tests.lab.namespaces import direct_children, is_stopped, namespace_of

ROOT = Path(__file__).resolve().parents[2]
root = pytest.mark.root

REAPED_PARENT = "import os, time\nif os.fork() == 0:\n    time.sleep(0.1)\n    os._exit(0)\n"

DOOMED = """
import time
from tests.lab import Lab
from tests.lab.namespaces import namespace_of

with Lab(2) as lab:
    for node in lab.nodes:
        node.write("/var/lib/secret", b"x" * 4096)
        node.start_program("sleep", "1000")
        stubborn = "trap '' TERM HUP INT; sleep 1000 & sleep 1000"
        node.start_program("setpriv", "--reuid=61001", "--clear-groups", "sh", "-c", stubborn)
        node.start_program("wireguard-go", "--foreground", "wg0")
    while not all({"lo", "eth0", "wg0"} <= node.links() for node in lab.nodes):
        time.sleep(0.01)
    held = [lab.lan, *(node.inside for node in lab.nodes)]
    print(*(namespace_of(namespaces.pid, kind) for namespaces in held for kind in ("pid", "mnt", "net")), flush=True)
    time.sleep(1000)
"""


def host_state() -> dict[str, object]:
    """What a lab could leave on the host: links, addresses, routes, mounts, named namespaces, changed name files."""
    commands = [
        ("ip", "-br", "link"),
        ("ip", "-br", "address"),
        ("ip", "route"),
        ("ip", "-6", "route", "show", "table", "all"),
    ]
    state: dict[str, object] = {
        str(argv): subprocess.run(argv, capture_output=True, text=True, check=True).stdout for argv in commands
    }
    state |= {
        path: Path(path).read_bytes()
        for path in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname")
        if Path(path).exists()
    }
    state["mounts"] = Path("/proc/self/mounts").read_text()
    state["host name"] = os.uname().nodename
    for directory in ("/run/netns", "/run/wireguard", "/var/lib/wesher", "/run/wesher"):
        state[directory] = sorted(os.listdir(directory)) if os.path.isdir(directory) else None
    return state


def namespaces_in_use() -> set[str]:
    """Every PID, mount and network namespace some process is in."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return {name for pid in pids for kind in ("pid", "mnt", "net") if (name := namespace_of(pid, kind)) is not None}


@root
def test_the_host_looks_the_same_during_and_after_a_lab() -> None:
    """Links, routes, mounts, names and files of the host are untouched while a lab runs and when it has gone."""
    before = host_state()
    with Lab(2) as lab:
        lab.nodes[0].start_program("wireguard-go", "--foreground", "wg0")
        until(lambda: "wg0" in lab.nodes[0].links(), 5, "wireguard-go made its link")
        assert host_state() == before
    assert host_state() == before


@root
def test_a_node_has_a_network_of_its_own(lab: Lab) -> None:
    """A node sees loopback and its one Ethernet port, in ip's words and in /sys's."""
    node = lab.nodes[0]
    assert node.links() == {"lo", "eth0"}
    assert set(node.run("ls", "/sys/class/net").stdout.split()) == {"lo", "eth0"}
    assert node.ping("127.0.0.1")


@root
def test_nodes_reach_each_other_over_the_underlay(lab: Lab) -> None:
    """Every node pings every other by IPv4 address, IPv6 address and underlay name."""
    for node in lab.nodes:
        for other in lab.nodes:
            for target in (other.address, other.address6, f"{other.name}-underlay"):
                until(lambda node=node, target=target: node.ping(target), 2, f"{node.name} pings {target}")  # type: ignore[misc]


@root
def test_a_node_has_a_host_name_and_processes_of_its_own(lab: Lab) -> None:
    """A node's name is its own, and it sees no process of the host or of another node."""
    first, second, _ = lab.nodes
    second.start_program("sleep", "1000")
    assert first.run("uname", "-n").stdout.strip() == "node1"
    assert [line.split()[-1] for line in first.run("ps", "-A", "-o", "comm=").stdout.splitlines()] == ["cat", "ps"]


@root
def test_a_node_has_a_hosts_file_of_its_own(lab: Lab) -> None:
    """What is written to one node's /etc/hosts is nowhere else, and the file is root's, mode 0644."""
    first, second, _ = lab.nodes
    host, untouched = Path("/etc/hosts").read_bytes(), second.hosts()
    first.write_hosts(b"127.0.0.1 localhost\n10.1.2.3 somewhere\n")
    assert first.resolve("somewhere") == "10.1.2.3"
    assert first.run("stat", "-c", "%u:%g %a", "/etc/hosts").stdout.strip() == "0:0 644"
    assert (second.hosts(), Path("/etc/hosts").read_bytes()) == (untouched, host)


@root
def test_an_operator_can_replace_a_nodes_hosts_file(lab: Lab) -> None:
    """Editors write a new file and rename it; that works in a node as on a real machine."""
    node = lab.nodes[0]
    node.run("sh", "-c", "echo '127.0.0.1 localhost replaced' > /etc/hosts.new && mv /etc/hosts.new /etc/hosts")
    assert node.hosts() == b"127.0.0.1 localhost replaced\n"


@root
def test_a_node_gets_the_hosts_file_it_is_given() -> None:
    """A test that is about an operator's odd hosts file says so when it adds the node."""
    with Lab(0) as lab:
        assert lab.add_node(hosts=b"127.0.0.1 localhost\r\nno newline at the end").hosts().endswith(b"at the end")


@root
def test_a_node_writes_to_memory_only(lab: Lab) -> None:
    """The private directories are tmpfs, and the host's file system is read-only in a node."""
    node = lab.nodes[0]
    for directory in ("/etc", "/run", "/var/lib", "/tmp", "/dev/shm"):
        assert node.run("stat", "-f", "-c", "%T", directory).stdout.strip() == "tmpfs"
    assert node.run("touch", "/usr/lab", check=False).returncode != 0


@root
def test_a_users_file_of_a_node_is_its_own(lab: Lab) -> None:
    """A test may add system users in a node, which the host never hears of."""
    lab.nodes[0].run("useradd", "--system", "lab-user")
    assert lab.nodes[0].run("id", "-un", "lab-user").stdout.strip() == "lab-user"
    assert "lab-user" not in Path("/etc/passwd").read_text()


@root
def test_a_daemon_reports_its_real_exit_status(lab: Lab) -> None:
    """An exit status comes through as it is, a signal as its negative number."""
    node = lab.nodes[0]
    assert node.start_program("sh", "-c", "exit 3").wait(5) == 3
    killed = node.start_program("sleep", "1000")
    until(killed.alive, 1, "sleep runs")
    killed.signal(signal.SIGTERM)
    assert killed.wait(5) == -signal.SIGTERM
    assert not killed.alive()


@root
def test_a_daemon_that_is_stopped_can_be_continued_and_killed(lab: Lab) -> None:
    """SIGSTOP, as a stand-in for a hung process, does not confuse whoever waits for the daemon."""
    daemon = lab.nodes[0].start_program("sleep", "1000")
    for _ in range(5):
        daemon.signal(signal.SIGSTOP)
        assert is_stopped(daemon.pid)
        daemon.signal(signal.SIGCONT)
        assert not is_stopped(daemon.pid)
    daemon.signal(signal.SIGSTOP)
    daemon.signal(signal.SIGKILL)
    assert daemon.wait(5) == -signal.SIGKILL


@root
def test_a_daemons_processes_are_found_by_their_host_pids(lab: Lab) -> None:
    """The main process keeps its pid over exec; children and grandchildren are listed with their command lines."""
    daemon = lab.nodes[0].start_program("sh", "-c", "sleep 1001 & sh -c 'sleep 1002; true' & exec sleep 1003")
    until(lambda: {"1001", "1002"} <= {argv[-1] for argv in daemon.children().values()}, 2, "both children run")
    until(lambda: command_line(daemon.pid) == ["sleep", "1003"], 2, "and what it has become")
    assert lab.nodes[0].inside.processes() == {daemon.pid: ["sleep", "1003"], **daemon.children()}
    with pytest.raises(LookupError):
        _ = daemon.agent_pid


@root
def test_a_daemons_output_is_kept_and_shown_after_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """Both streams can be read at any time, and a lab left by an exception prints the end of stderr."""
    with pytest.raises(ZeroDivisionError), Lab(1) as lab:  # noqa: PT012 - the block is what is tested
        daemon = lab.nodes[0].start_program("sh", "-c", "echo out; echo why >&2; exit 4")
        daemon.wait(5)
        assert (daemon.stdout_text(), daemon.stderr_text()) == ("out\n", "why\n")
        raise ZeroDivisionError
    assert "exit 4), end of its stderr:\nwhy" in capsys.readouterr().out


@root
def test_a_daemon_gets_only_the_environment_and_descriptors_it_is_given(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the test's environment and no open file of the lab reaches a program in a node."""
    monkeypatch.setenv("WESHER_CLUSTER_KEY", "leak")
    daemon = lab.nodes[0].start_program("sleep", "1000", env={"WESHER_LOG_LEVEL": "debug"})
    until(lambda: lab.nodes[0].inside.processes().get(daemon.pid) == ["sleep", "1000"], 1, "sleep runs")
    names = {entry.partition("=")[0] for entry in Path(f"/proc/{daemon.pid}/environ").read_text().split("\0")[:-1]}
    assert names == {"PATH", "HOME", "LANG", "WESHER_LOG_LEVEL"}
    # its loader has others open for a moment
    until(lambda: sorted(os.listdir(f"/proc/{daemon.pid}/fd")) == ["0", "1", "2"], 1, "it has no others")


@root
def test_an_orphan_in_a_node_is_reaped(lab: Lab) -> None:
    """A process whose parent has gone leaves no zombie when it ends, so "no such process" is a fair question."""
    node = lab.nodes[0]
    node.run("/usr/bin/python3", "-c", REAPED_PARENT)
    until(lambda: node.run("ps", "-A", "-o", "comm=").stdout.split() == ["cat", "ps"], 2, "no orphan left")


@root
def test_a_command_that_takes_too_long_is_ended(lab: Lab) -> None:
    """A timeout ends the command itself, not only the wait for it."""
    with pytest.raises(subprocess.TimeoutExpired):
        lab.nodes[0].run("sleep", "1000", timeout=0.2)
    until(lambda: not lab.nodes[0].inside.processes(), 1, "the command is gone")


@root
def test_a_pulled_cable_cuts_a_node_off_until_it_is_plugged_in(lab: Lab) -> None:
    """link_down and link_up are a cable: addresses and routes stay."""
    first, second, third = lab.nodes
    first.link_down()
    assert not second.ping(first.address)
    assert second.ping(third.address)
    first.link_up()
    until(lambda: second.ping(first.address) and second.ping(first.address6), 3, "the cable is plugged in")


@root
def test_a_partition_separates_groups_until_it_heals(lab: Lab) -> None:
    """Within a group, and among the nodes of no group, pings work; between them none does; healing restores all."""
    first, second, third = lab.nodes

    def reached() -> list[str]:
        pairs = [(node, other) for node in lab.nodes for other in lab.nodes if other is not node]
        return [f"{node.name}-{other.name}" for node, other in pairs if node.ping(other.address, timeout=0.5)]

    lab.partition([first, second], [third])
    until(lambda: reached() == ["node1-node2", "node2-node1"], 5, "two together, one alone")
    lab.partition([second])
    until(lambda: reached() == ["node1-node3", "node3-node1"], 5, "the other two together")
    lab.heal()
    until(lambda: len(reached()) == 6, 5, "all together")


@root
def test_loss_and_delay_work_or_say_what_is_missing(lab: Lab) -> None:
    """With sch_netem in the kernel a lossy node is unreachable until it recovers; without it the error names it."""
    first, second, _ = lab.nodes
    try:
        first.netem("loss", "100%")
    except RuntimeError as error:
        assert "sch_netem" in str(error)  # noqa: PT017 - both outcomes are claims
        return
    assert not second.ping(first.address)
    first.netem()
    assert second.ping(first.address)


@root
def test_a_node_added_later_is_on_the_same_network(lab: Lab) -> None:
    """add_node plugs a fourth machine into the running lab."""
    newcomer = lab.add_node()
    assert newcomer.name == "node4"
    until(lambda: newcomer.ping(lab.nodes[0].address), 2, "it pings another")


@root
def test_two_labs_at_once_do_not_meet(make_lab: Callable[[int], Lab]) -> None:
    """Two labs use the same names and addresses on two networks."""
    small, large = make_lab(1), make_lab(2)
    until(lambda: large.nodes[0].ping(large.nodes[1].address), 2, "those of one lab meet")
    assert not small.nodes[0].ping(large.nodes[1].address)


@root
def test_the_lab_carries_a_wireguard_tunnel(lab: Lab) -> None:
    """Two wireguard-go processes, set up by hand, reach each other through their tunnel over the underlay."""
    ends = [(lab.nodes[0], "10.9.0.1"), (lab.nodes[1], "10.9.0.2")]
    for node, _ in ends:
        node.start_program("wireguard-go", "--foreground", "wg0")
    for node, address in ends:
        until(lambda node=node: "wg0" in node.links(), 5, f"{node.name} has a tunnel link")  # type: ignore[misc]
        node.run(
            "sh", "-c", "umask 077; wg genkey > /run/private; wg set wg0 private-key /run/private listen-port 51820"
        )
        node.run("ip", "address", "add", f"{address}/24", "dev", "wg0")
        node.run("ip", "link", "set", "dev", "wg0", "up")
    for (node, _), (other, address) in (ends, ends[::-1]):
        key = other.run("wg", "show", "wg0", "public-key").stdout.strip()
        node.run("wg", "set", "wg0", "peer", key, "endpoint", f"{other.address}:51820", "allowed-ips", f"{address}/32")
    until(lambda: ends[0][0].ping("10.9.0.2"), 5, "a ping through the tunnel")


@root
def test_a_lab_left_by_an_exception_leaves_nothing() -> None:
    """Stubborn programs, tunnels, namespaces and mounts are gone when the block is left, on whatever path."""
    held: list[str | None] = []
    with pytest.raises(ZeroDivisionError), Lab(2) as lab:  # noqa: PT012 - the block is what is tested
        for node in lab.nodes:
            node.start_program("sh", "-c", "trap '' TERM HUP INT; sleep 1000; sleep 1000")
            held += [namespace_of(node.inside.pid, kind) for kind in ("pid", "mnt", "net")]
        raise ZeroDivisionError
    assert not namespaces_in_use() & set(held)
    assert all(node.inside.pid not in direct_children(os.getpid()) for node in lab.nodes)


@root
def test_a_lab_that_cannot_be_built_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure half way takes down what is already there."""
    before = direct_children(os.getpid())
    monkeypatch.setattr("tests.lab.lab.NODE", "echo no such luck >&2; false")
    with pytest.raises(RuntimeError, match="no such luck"), Lab(1):
        pass
    assert direct_children(os.getpid()) == before


@root
def test_a_lab_whose_process_is_killed_leaves_nothing() -> None:
    """SIGKILL of the lab's process ends every program, namespace, mount and tunnel of it within a second."""
    before = host_state()
    env = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    child = subprocess.Popen([sys.executable, "-c", DOOMED], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert child.stdout is not None
        held = set(child.stdout.readline().split())
        assert len(held) == 9
        until(lambda: sum(len(processes_in(name)) for name in held) >= 3 + 2 * 5, 10, "all of its programs run")
    finally:
        child.kill()
        child.communicate()
    until(lambda: not namespaces_in_use() & held, 1, "everything of a killed lab is gone")
    assert host_state() == before


def test_until_returns_the_measured_time_and_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    """A condition that comes true is measured; errors on the way count as not yet."""
    start, answers = time.monotonic(), iter([OSError("not there"), False, "yes"])

    def condition() -> object:
        if isinstance(answer := next(answers), OSError):
            raise answer
        return answer

    assert 0 < until(condition, 5, "the third answer") <= time.monotonic() - start
    assert "the third answer: 0.0" in capsys.readouterr().out


def test_until_gives_up_with_what_and_the_last_value() -> None:
    """A broken claim names itself and shows what was seen last."""
    with pytest.raises(AssertionError, match=r"not within .* s: the impossible; last value: \[\]"):
        until(list, 0.05, "the impossible")


def test_until_lets_mistakes_of_the_test_through() -> None:
    """A TypeError in a condition is not waited for."""
    with pytest.raises(TypeError):
        until(lambda: len(5), 60, "never")  # type: ignore[arg-type]


def test_a_bound_is_three_times_as_long_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """CI=true, and nothing else, stretches a bound."""
    stretched = []
    for value in ("true", "1"):
        monkeypatch.setenv("CI", value)
        stretched.append(bound(2))
    with contextlib.suppress(KeyError):
        monkeypatch.delenv("CI")
    assert [*stretched, bound(2)] == [6, 2, 2]


def test_what_a_machine_lacks_is_skipped_and_in_ci_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody reads what was skipped."""
    monkeypatch.delenv("CI", raising=False)
    needs(True, "wings")
    with pytest.raises(pytest.skip.Exception, match="this machine has no wings"):
        needs(False, "wings")
    monkeypatch.setenv("CI", "true")
    needs(True, "wings")
    with pytest.raises(pytest.fail.Exception, match="CI must be able to run this: this machine has no wings"):
        needs(False, "wings")


def test_a_mark_says_what_a_whole_test_needs(tmp_path: Path) -> None:
    """In any directory whose conftest.py has the hooks; in CI what is missing fails before the test begins."""
    (tmp_path / "conftest.py").write_text("from tests.lab.requirements import pytest_runtest_setup\n")
    (tmp_path / "test_flight.py").write_text(
        "import pytest\n"
        'pytestmark = pytest.mark.needs(True, "legs")\n'
        '@pytest.mark.needs(False, "wings")\ndef test_flying(): raise SystemExit\n'
        "def test_walking(): pass\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]

    def run(**more: str) -> str:
        done = subprocess.run([*command, tmp_path], env=environment | more, capture_output=True, text=True, check=False)
        return done.stdout

    assert "1 passed, 1 skipped" in run()
    assert "1 passed, 1 error" in (said := run(CI="true"))
    assert "CI must be able to run this: this machine has no wings" in said
