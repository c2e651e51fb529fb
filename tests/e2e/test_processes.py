"""The running processes of both layouts have what ARCHITECTURE.md lists and nothing more, read from /proc; none
outlives those it belongs to."""

import base64
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.e2e.layouts import LAYOUTS, Layout, Running
from tests.e2e.mesh import (
    AGENT_UID,
    CLUSTER_KEY,
    CLUSTER_KEY_TEXT,
    HELPER_UID,
    INTERFACE,
    KEY_FILE,
    has_nothing_left,
    join_up,
    peer_keys,
    public_key,
    start,
    start_mesh,
    status,
)
from tests.e2e.split import as_user, helper_socket, start_helper, start_wireguard
from tests.lab import Lab, Node, children, until
from tests.lab.lab import wesher_command

pytestmark = pytest.mark.root

NET_ADMIN = 1 << 12
CLEAN_ENVIRONMENT = {"PATH", "LANG"}

# What each process holds when idle, by kind; ARCHITECTURE.md says what each is for. In the lab an operator's output is
# a file in memory. wireguard-go of the split layout is the administrator's, who gives it what he likes.
DESCRIPTORS = {
    "launched": {
        "logpipe": Counter({"/dev/null": 1, "output": 2, "pipe": 4, "epoll": 1}),
        "helper": Counter(
            {"/dev/null": 2, "pipe": 2, "seqpacket": 1, "/etc/hosts": 1, "unix": 5, "netlink": 2, "epoll": 1}
        ),
        "agent": Counter({"/dev/null": 1, "pipe": 2, "seqpacket": 1, "unix": 3, "udp": 1, "tcp": 1, "epoll": 1}),
    },
    "split": {
        "helper": Counter(
            {"/dev/null": 1, "output": 2, "seqpacket": 2, "/etc/hosts": 1, "unix": 5, "netlink": 2, "epoll": 1}
        ),
        "agent": Counter({"/dev/null": 1, "output": 2, "seqpacket": 1, "unix": 3, "udp": 1, "tcp": 1, "epoll": 1}),
    },
}


def proc_status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def capabilities(pid: int) -> dict[str, int]:
    """The five sets, as numbers."""
    found = proc_status(pid)
    return {name: int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}


def sockets(pid: int) -> dict[str, str]:
    """Inode to kind, of every socket in the process's network namespace."""
    kinds = {}
    for kind, inode_column in (("udp", 9), ("udp6", 9), ("tcp", 9), ("tcp6", 9), ("netlink", 9)):
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
            kinds[line.split()[inode_column]] = kind.rstrip("6")
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        kinds[fields[6]] = "seqpacket" if fields[4] == "0005" else "unix"
    return kinds


def descriptors(pid: int) -> Counter[str]:
    """What the process has open, by kind. Two views must agree, or a socket came or went between them."""
    kinds = sockets(pid)
    found: Counter[str] = Counter()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        if match := re.fullmatch(r"socket:\[(\d+)\]", target):
            found[kinds.get(match[1], "socket of no known kind")] += 1
        elif target.startswith(("/memfd:std", "pipe:")):
            found["output" if target.startswith("/memfd") else "pipe"] += 1
        else:
            found["epoll" if target == "anon_inode:[eventpoll]" else target] += 1
    return found


def holds_a_terminal(pid: int) -> bool:
    """Whether one of the process's descriptors is a terminal."""
    return any(os.readlink(f"/proc/{pid}/fd/{fd}").startswith("/dev/pts/") for fd in os.listdir(f"/proc/{pid}/fd"))


def fill(pipe: str) -> int:
    """Write into a pipe until nothing more goes in; how many bytes that took."""
    written, fd = 0, os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            written += os.write(fd, b"x")
    os.close(fd)
    return written


def all_of(running: Running) -> dict[str, int]:
    """The processes of one node's wesher: host pid by what it is."""
    found = {"helper": running.pid, "agent": running.agent_pid, "wireguard-go": running.wireguard_pid}
    logpipes = [pid for pid, argv in children(running.pid).items() if "privhelper.logpipe" in argv]
    return found | dict(zip(("logpipe",), logpipes, strict=False))


def is_gone(pid: int) -> bool:
    """Whether the process has ended; a zombie has."""
    try:
        return proc_status(pid)["State"].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def forms_of(key: bytes) -> list[bytes]:
    """How a key could be written down."""
    return [key, key.hex().encode(), base64.b64encode(key)]


def writable_memory(pid: int) -> Iterator[bytes]:
    """The process's private memory, region by region, as root reads it."""
    with open(f"/proc/{pid}/mem", "rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, mode = line.split()[:2]
            if not mode.startswith("rw"):
                continue
            low, high = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(low)
                yield memory.read(high - low)
            except (OSError, ValueError):
                continue  # [vvar] and its like cannot be read by anybody


def files_of(node: Node) -> Iterator[tuple[str, bytes]]:
    """Every file of the node's own directories."""
    for top in ("/run", "/var/lib", "/etc", "/tmp"):
        for path in (node.inside.root / top.lstrip("/")).rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield str(path), path.read_bytes()


Pair = tuple[Node, Running]


@pytest.fixture(scope="module")
def pairs() -> Iterator[dict[str, Pair]]:
    """The first node of a running mesh of two in each layout, to be looked at and left as it is."""
    with ExitStack() as stack:
        labs = {name: stack.enter_context(Lab(2)) for name in LAYOUTS}
        yield {name: (lab.nodes[0], join_up(LAYOUTS[name].start, lab.nodes)[0]) for name, lab in labs.items()}


@pytest.fixture
def either(layout: Layout, pairs: dict[str, Pair]) -> Pair:
    """Each layout's in turn."""
    return pairs[layout.name]


@pytest.fixture
def pair(pairs: dict[str, Pair]) -> Pair:
    """The one that the launcher started."""
    return pairs["launched"]


def test_each_process_has_its_own_uid_and_only_its_capabilities(either: Pair) -> None:
    """Agent: none at all. Helper: CAP_NET_ADMIN. Nobody can gain more, nobody has a group of root's."""
    _, running = either
    found = all_of(running)

    owners = {"agent": AGENT_UID, "helper": HELPER_UID, "wireguard-go": HELPER_UID, "logpipe": HELPER_UID}
    ours = {name: pid for name, pid in found.items() if name != "wireguard-go" or "logpipe" in found}
    for name, pid in found.items():
        fields = proc_status(pid)
        assert [str(owners[name])] * 4 == fields["Uid"].split()
        assert [str(owners[name])] * 4 == fields["Gid"].split()
        assert fields["Groups"] == ""
        assert name not in ours or fields["NoNewPrivs"] == "1"
    nothing = {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": 0, "CapAmb": 0}
    helper, agent = capabilities(found["helper"]), capabilities(found["agent"])
    assert nothing | {"CapPrm": NET_ADMIN, "CapEff": NET_ADMIN} == helper
    if "logpipe" in found:
        assert nothing == agent == capabilities(found["logpipe"])
        # Not ours to confine further after its exec: what it was given stays inheritable and ambient in it.
        assert dict.fromkeys(nothing, NET_ADMIN) | {"CapBnd": 0} == capabilities(found["wireguard-go"])
    else:  # started without a capability it cannot empty its bounding set, and no_new_privs makes that worthless
        assert nothing == agent | {"CapBnd": 0}


def test_no_process_has_a_descriptor_beyond_the_listed_ones(either: Pair, layout: Layout) -> None:
    """Also none that leaked from the shell, the launcher or each other."""
    _, running = either
    found = all_of(running)

    for name, expected in DESCRIPTORS[layout.name].items():
        until(lambda n=name, e=expected: e == descriptors(found[n]), 5, f"{name}'s descriptors when nothing is asked")


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_a_closed_standard_descriptor_does_not_make_the_hosts_file_an_output(
    make_lab: Callable[[int], Lab], closed: str
) -> None:
    """The first file opened would take its number, and every log line would land in it."""
    node = make_lab(1).nodes[0]
    before = node.hosts()
    closing = " ".join(f"{fd}>&-" for fd in closed.split())
    command = f"exec {wesher_command()} --user {AGENT_UID}:{HELPER_UID} --log-level debug {closing}"
    daemon = node.start_program("sh", "-c", command)
    until(lambda: status(node), 10, "up")

    daemon.signal(signal.SIGTERM)

    assert daemon.wait(10) == 0
    assert before == node.hosts()


def test_environments_are_clean(either: Pair) -> None:
    """Nothing of the operator's environment reaches a process of ours; a helper on its own has what it was given."""
    _, running = either
    found = all_of(running)

    for name in ("helper", "agent", "logpipe") if "logpipe" in found else ("agent",):
        entries = Path(f"/proc/{found[name]}/environ").read_bytes().split(b"\0")
        assert {entry.partition(b"=")[0].decode() for entry in entries if entry} == CLEAN_ENVIRONMENT


def test_nobody_but_root_can_look_into_agent_or_helper(either: Pair) -> None:
    """Non-dumpable: /proc hands their memory and descriptors to root alone, not even to their own uid."""
    node, running = either

    for name, pid in all_of(running).items():
        if name == "wireguard-go":
            continue
        assert os.stat(f"/proc/{pid}/mem").st_uid == 0
        inner = proc_status(pid)["NSpid"].split()[-1]
        for uid in (AGENT_UID, HELPER_UID):
            peek = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "head", "-c1"]
            assert node.run(*peek, f"/proc/{inner}/environ", check=False).returncode != 0


def test_the_agent_has_no_terminal_to_type_into(pair: Pair) -> None:
    """Its own session: TIOCSTI would otherwise let it type into the operator's shell."""
    _, daemon = pair

    found = all_of(daemon)
    assert os.getsid(found["agent"]) == found["agent"]
    assert os.getsid(found["wireguard-go"]) == found["wireguard-go"]


def test_the_private_key_is_nowhere_but_in_the_helper_and_wireguard(either: Pair) -> None:
    """Not in any file, environment or argument list, and never in the agent's memory."""
    node, running = either
    key = base64.b64decode(node.run("wg", "show", INTERFACE, "private-key").stdout)
    assert len(key) == 32

    for pid in all_of(running).values():
        for what in ("environ", "cmdline"):
            content = Path(f"/proc/{pid}/{what}").read_bytes()
            assert not any(form in content for form in forms_of(key))
    for path, content in files_of(node):
        assert not any(form in content for form in forms_of(key)), path
    assert not any(form in region for region in writable_memory(running.agent_pid) for form in forms_of(key))
    # The same search finds what is there: the test can fail.
    assert any(CLUSTER_KEY in region for region in writable_memory(running.agent_pid))


@pytest.mark.parametrize("way", ["option", "option with =", "environment", "file"])
def test_the_cluster_key_is_in_no_argument_list_environment_or_other_process(
    make_lab: Callable[[int], Lab], way: str
) -> None:
    """However it was given. The helper never has it; the only file with it is the state file, for the agent alone."""
    node = make_lab(1).nodes[0]
    users = ("--user", f"{AGENT_UID}:{HELPER_UID}")
    match way:
        case "option":
            daemon = node.start(*users, "--cluster-key", CLUSTER_KEY_TEXT)
        case "option with =":
            daemon = node.start(*users, f"--cluster-key={CLUSTER_KEY_TEXT}")
        case "environment":
            daemon = node.start(*users, env={"WESHER_CLUSTER_KEY": CLUSTER_KEY_TEXT})
        case _:
            daemon = start(node)
    until(lambda: status(node), 10, "up")
    assert node.wesher("key", "show").stdout.strip() == CLUSTER_KEY_TEXT

    for pid in all_of(daemon).values():
        for what in ("environ", "cmdline"):
            content = Path(f"/proc/{pid}/{what}").read_bytes()
            assert not any(form in content for form in forms_of(CLUSTER_KEY))
    for name in ("helper", "wireguard-go", "logpipe"):
        pid = all_of(daemon)[name]
        assert not any(form in region for region in writable_memory(pid) for form in forms_of(CLUSTER_KEY)), name
    given = {str(node.inside.root / "run/cluster.key")} if way == "file" else set()
    holders = {path for path, content in files_of(node) if any(form in content for form in forms_of(CLUSTER_KEY))}
    state = node.inside.root / "var/lib/wesher/wgoverlay.json"
    assert holders - given == {str(state)}
    assert (state.stat().st_uid, state.stat().st_mode & 0o777) == (AGENT_UID, 0o600)
    assert (state.parent.stat().st_uid, state.parent.stat().st_mode & 0o777) == (AGENT_UID, 0o700)


@pytest.mark.parametrize("victim", ["helper", "agent", "wireguard-go"])
def test_killing_one_process_ends_the_others_within_a_second(make_lab: Callable[[int], Lab], victim: str) -> None:
    """SIGKILL, so that nobody can say goodbye: the link is gone too, and where a helper lives, the hosts lines."""
    lab = make_lab(2)
    node = lab.nodes[0]
    before = node.hosts()
    daemon = start_mesh(lab.nodes)[0]
    found = all_of(daemon)

    os.kill(found[victim], signal.SIGKILL)

    until(lambda: all(map(is_gone, found.values())), 1, f"all end when the {victim} is killed")
    until(lambda: INTERFACE not in node.links(), 1, "the link is gone")
    if victim == "helper":
        assert daemon.wait(5) == -signal.SIGKILL
    else:
        assert daemon.wait(5) == 1
        assert has_nothing_left(node)
        assert before == node.hosts()


def test_a_start_after_a_kill_clears_what_was_left(make_lab: Callable[[int], Lab]) -> None:
    """A killed helper leaves its hosts lines; the next one takes them over, and takes them away when it goes."""
    lab = make_lab(2)
    node = lab.nodes[0]
    before = node.hosts()
    daemon = start_mesh(lab.nodes)[0]
    daemon.signal(signal.SIGKILL)
    daemon.wait(5)
    assert b"managed automatically" in node.hosts()
    until(lambda: INTERFACE not in node.links(), 1, "the link is gone")

    again = start(node)
    until(lambda: status(node), 5, "up again")
    again.signal(signal.SIGTERM)

    assert again.wait(10) == 0
    assert before == node.hosts()


def test_the_agents_death_while_it_starts_ends_the_helper(make_lab: Callable[[int], Lab]) -> None:
    """The agent finds its port taken; everything ends with one line about it, and nothing stays."""
    node = make_lab(1).nodes[0]
    script = (
        "import socket; s = socket.socket(); s.bind(('0.0.0.0', 7946)); s.listen(); print('ok', flush=True); s.accept()"
    )
    blocker = node.start_program("python3", "-c", script)
    until(lambda: "ok" in blocker.stdout_text(), 5, "the port is taken")

    daemon = start(node)

    assert daemon.wait(15) == 1
    errors = [line for line in daemon.stderr_text().splitlines() if "error" in line]
    assert errors == [
        "wesher: error: cannot bind 0.0.0.0 port 7946: Address already in use; "
        "give another --bind-addr or --cluster-port"
    ]
    assert has_nothing_left(node)


def test_status_is_for_root_and_the_agents_group(pair: Pair) -> None:
    """The control socket hands out the cluster key, so it is 0660 and the agent's."""
    node, _ = pair
    control = node.inside.root / "run/wesher/wgoverlay.sock"
    assert (control.stat().st_uid, control.stat().st_gid, control.stat().st_mode & 0o777) == (
        AGENT_UID,
        AGENT_UID,
        0o660,
    )

    def may_write(*groups: str) -> bool:
        who = ["setpriv", "--reuid=61003", "--regid=61003", *groups]
        return node.run(*who, "test", "-w", "/run/wesher/wgoverlay.sock", check=False).returncode == 0

    assert not may_write("--clear-groups")
    assert may_write(f"--groups={AGENT_UID}")


def test_on_a_terminal_neither_agent_nor_wireguard_holds_it(make_lab: Callable[[int], Lab]) -> None:
    """Whoever holds a terminal can switch its echo off and read what the operator types; the new key is shown there."""
    node = make_lab(1).nodes[0]
    command = f"{wesher_command()} --user {AGENT_UID}:{HELPER_UID}"
    terminal = node.start_program("script", "--quiet", "--return", "--command", command, "/dev/null")

    until(lambda: "new cluster key generated: " in terminal.stdout_text(), 10, "the key is on the terminal")

    until(lambda: status(node), 10, "up")
    key = node.wesher("key", "show").stdout.strip()
    assert f"new cluster key generated: {key}" in terminal.stdout_text()
    (helper,) = (pid for pid, argv in terminal.children().items() if "privhelper" in argv)
    holders = {" ".join(argv[:4]) for pid, argv in terminal.children().items() if holds_a_terminal(pid)}
    assert not any("wesher.runtime.agent" in argv or "wireguard-go" in argv for argv in holders)
    assert any("privhelper.logpipe" in argv for argv in holders)  # what is looked for can be found
    os.kill(helper, signal.SIGINT)
    assert terminal.wait(10) == 0


def test_escape_sequences_of_a_hostile_agent_do_not_reach_the_output(make_lab: Callable[[int], Lab]) -> None:
    """Whatever the agent writes is spelled out by the process between."""
    node = make_lab(1).nodes[0]
    daemon = start(node)
    until(lambda: status(node), 10, "up")

    with open(f"/proc/{daemon.agent_pid}/fd/2", "wb", buffering=0) as agents_stderr:
        agents_stderr.write(b"\x1b]0;owned\x07 and \xc3\xa9\n")

    until(lambda: "\\x1b]0;owned\\x07 and \\xc3\\xa9\n" in daemon.stderr_text(), 5, "it is spelled out")


def test_into_a_pipe_too_only_logpipe_writes(make_lab: Callable[[int], Lab]) -> None:
    """`wesher 2>&1 | tee log`: what the agent holds is a pipe of ours, and what it writes comes out spelled out."""
    node = make_lab(1).nodes[0]
    piped = node.start_program("sh", "-c", f"{wesher_command()} --user {AGENT_UID}:{HELPER_UID} 2>&1 | cat")
    until(lambda: status(node), 10, "up")
    children = piped.children()
    (cat,) = (pid for pid, argv in children.items() if argv == ["cat"])
    holders = {
        "".join(argv[:4])
        for pid, argv in children.items()
        if pid != cat and os.readlink(f"/proc/{cat}/fd/0") in {os.readlink(f"/proc/{pid}/fd/{n}") for n in (1, 2)}
    }
    assert [name for name in holders if not name.endswith("privhelper.logpipe")] == []
    assert len(holders) == 1
    (agent,) = (pid for pid, argv in children.items() if "wesher.runtime.agent" in argv)
    with open(f"/proc/{agent}/fd/2", "wb", buffering=0) as agents_stderr:
        agents_stderr.write(b"\x1b[2J\n")
    until(lambda: "\\x1b[2J" in piped.stdout_text(), 5, "it is spelled out")


def test_a_reader_of_the_log_that_sleeps_costs_log_lines_and_nothing_else(make_lab: Callable[[int], Lab]) -> None:
    """As when the operator presses Ctrl-S: the agent goes on answering, the helper goes on serving, and both end."""
    lab = make_lab(2)
    node, other = lab.nodes
    daemon = start(node, "--log-level", "debug")
    start(other, "--join", node.address)
    until(lambda: status(node)["cluster"]["alive"] == 2, 10, "both are up")
    logpipe = all_of(daemon)["logpipe"]
    os.kill(logpipe, signal.SIGSTOP)
    for kind in (1, 2):
        assert fill(f"/proc/{daemon.agent_pid}/fd/{kind}") > 0

    key = public_key(other)
    lab.nodes[1].daemons[0].signal(signal.SIGTERM)

    until(lambda: key not in peer_keys(node), 5, "it still hears of a leave, which it logs")
    until(lambda: status(node)["cluster"]["left"] == 1, 5, "and answers")
    daemon.signal(signal.SIGTERM)
    until(lambda: INTERFACE not in node.links(), 5, "and goes when it is told to")
    os.kill(logpipe, signal.SIGCONT)
    assert daemon.wait(10) == 0


def test_an_agent_that_will_not_go_does_not_outlive_its_helper_for_long(make_lab: Callable[[int], Lab]) -> None:
    """Stopped, it neither hears nor leaves; the helper's uid may not kill it, and what may is logpipe's leash."""
    node = make_lab(1).nodes[0]
    daemon = start(node)
    until(lambda: status(node), 10, "up")
    agent = daemon.agent_pid
    os.kill(agent, signal.SIGSTOP)

    daemon.signal(signal.SIGTERM)

    assert daemon.wait(40) == 1
    until(lambda: is_gone(agent), 5, "the agent is gone too")
    assert has_nothing_left(node)
    again = start(node)
    until(lambda: status(node), 10, "and the next start finds its port free")
    assert again.alive()


def test_a_signal_to_all_of_us_leaves_the_leash_tied_and_the_log_open(make_lab: Callable[[int], Lab]) -> None:
    """As systemd's KillMode=control-group sends it. Only who needs no time to end may end at once."""
    node = make_lab(1).nodes[0]
    daemon = start(node)
    until(lambda: status(node), 10, "up")
    agent = daemon.agent_pid
    os.kill(agent, signal.SIGSTOP)

    found = all_of(daemon)
    for name in ("logpipe", "wireguard-go", "helper"):
        os.kill(found[name], signal.SIGTERM)

    assert daemon.wait(40) == 1
    until(lambda: is_gone(agent), 5, "the agent is gone too")
    until(lambda: "ERROR helper: " in daemon.stderr_text(), 5, "the helper's last words")


def test_the_main_process_ends_last(make_lab: Callable[[int], Lab]) -> None:
    """A service manager kills who is left at once, and with logpipe what was said last."""
    (node,) = make_lab(1).nodes
    daemon = start(node)
    until(lambda: status(node), 10, "up")
    others = daemon.children()
    assert len(others) == 3
    daemon.signal(signal.SIGTERM)
    assert daemon.wait(15) == 0
    assert [others[pid] for pid in others if not is_gone(pid)] == []


def test_in_the_split_layout_too_no_agent_holds_a_terminal(make_lab: Callable[[int], Lab]) -> None:
    """With it, it could ask for a password and hear it."""
    node = make_lab(1).nodes[0]
    start_wireguard(node)
    start_helper(node)
    node.write(KEY_FILE, CLUSTER_KEY_TEXT.encode() + b"\n")
    node.run("chown", str(AGENT_UID), KEY_FILE)
    command = f"{wesher_command()} --helper-socket {helper_socket()} --cluster-key-file {KEY_FILE} --log-level info"
    as_agent = " ".join((*as_user(AGENT_UID), command))
    terminal = node.start_program("script", "--quiet", "--return", "--command", as_agent, "/dev/null")
    until(lambda: status(node), 10, "up")
    holders = {" ".join(argv[:4]) for pid, argv in terminal.children().items() if holds_a_terminal(pid)}
    assert not any("wesher.runtime.agent" in argv for argv in holders)
    assert any("privhelper.logpipe" in argv for argv in holders)  # what is looked for can be found
    until(lambda: "INFO agent: 'node1' is " in terminal.stdout_text(), 5, "what it says is on the terminal")
    (agent,) = (pid for pid, argv in terminal.children().items() if "wesher.runtime.agent" in argv)
    for fd in (1, 2):  # Ctrl-S costs it log lines, not acks
        flags = re.search(r"(?m)^flags:\s*([0-7]+)$", Path(f"/proc/{agent}/fdinfo/{fd}").read_text())
        assert flags is not None
        assert int(flags[1], 8) & os.O_NONBLOCK
    os.kill(agent, signal.SIGINT)
    assert terminal.wait(10) == 0
