"""What users type: one line and an exit status for each mistake, a plan for each good command line, and no key shown.

Nothing is ever launched here: the launcher is replaced, and notes its plan.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from privhelper.launch import Plan
from privhelper.sandbox import NET_ADMIN
from privhelper.spawn import LaunchError
from wesher import cli, plan
from wesher.cli import hide_cluster_key
from wesher.config import AgentConfig, Contact
from wesher.runtime.bind_addr import InterfaceAddress

KEY = bytes(range(32))
TEXT = base64.b64encode(KEY).decode()
SECRET = "c2VjcmV0LXRoYXQtaXMtdG9vLXNob3J0"
USERS = ("--user", "64001:64002")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that would have been launched, on a host called node-a with one private address, as root."""
    noted: list[Plan] = []
    monkeypatch.setattr(cli, "launch", noted.append)

    def attach(found: Plan, _: str) -> None:
        noted.append(found)
        sys.exit(0)  # as all that does not return

    monkeypatch.setattr(cli, "attach", attach)
    monkeypatch.setattr(cli.os, "geteuid", lambda: 0)
    monkeypatch.setattr(plan.socket, "gethostname", lambda: "node-a")
    address = InterfaceAddress("eth0", IPv4Address("192.168.1.10"), 24)
    monkeypatch.setattr(plan, "interface_addresses", lambda leave_out: [address])
    return noted


@pytest.fixture
def run(plans: list[Plan], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `wesher` in this process: exit status, stdout, stderr."""

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        for name in [name for name in os.environ if name.startswith("WESHER_")]:
            monkeypatch.delenv(name)
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["wesher", *arguments])

        def no_restart(*_: object) -> None:
            raise AssertionError("starts over, to hide a key")

        monkeypatch.setattr(cli.os, "execve", no_restart)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        code = caught.value.code
        out, err = capsys.readouterr()
        return (code if isinstance(code, int) else 0), out, err

    return run


def planned(plans: list[Plan]) -> tuple[Plan, AgentConfig]:
    """The one plan, and the agent's configuration in it."""
    (plan,) = plans
    return plan, AgentConfig.from_json(plan.agent_config)


def subprocess_run(*arguments: str, **env: str) -> tuple[int, str, str]:
    """Run `python -m wesher` as a user would; nothing given here gets as far as launching."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WESHER_")}
    done = subprocess.run(
        [sys.executable, "-m", "wesher", *arguments],
        env=clean | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    return done.returncode, done.stdout, done.stderr


# --- mistakes


@pytest.mark.parametrize("arguments", [["--version"], ["agent", "--help"], ["-h"], ["status", "--help"]])
def test_asking_for_help_is_no_mistake(run, plans, arguments):
    """Status 0, on stdout."""
    code, out, err = run(*arguments)
    assert (code, err, plans) == (0, "", [])
    assert out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--bogus"], "No such option '--bogus'"),
        (["positional"], "No such command 'positional'; see wesher --help"),
        (["--mtu", "1420", "x"], "Got unexpected extra argument (x); see wesher agent --help"),
        (["forget"], "Missing argument 'NAME'; see wesher forget --help"),
        (["agent", "a", "b"], "Got unexpected extra arguments (a b)"),
        (["--mtu", "1420", "status"], "Got unexpected extra argument (status)"),
        (["key", "bogus"], "No such command 'bogus'"),
        (["--overlay-net", "banana"], "'banana' is no network; give one in CIDR form such as 10.0.0.0/8"),
        (["--overlay-net", "127.0.0.0/8"], "127.0.0.0/8 cannot carry an overlay"),
        (["--overlay-net", "10.0.0.0/31"], "10.0.0.0/31 has no room for two nodes"),
        (["--overlay-net", "fd00::/8", "--mtu", "1279"], "--mtu 1279 is too small for the IPv6 overlay fd00::/8"),
        (["--address", "10.0.0.5"], "--address 10.0.0.5 follows from no name, so others refuse it; give every node"),
        (["--static-addresses", "--address", "11.0.0.5"], "--address 11.0.0.5 lies outside the overlay net 10.0.0.0/8"),
        (["--log-level", "loud"], "'loud' is no log level; give one of debug, info, warn, error"),
        (["--bind-addr", "eth0"], "'eth0' is no IP address; give one of this host's"),
        (["--bind-addr", "192.0.2.1", "--bind-iface", "eth0"], "setting both bind address and bind interface is not"),
        (["--cluster-port", "0"], "'0' is out of range; give a number from 1 to 65535"),
        (["--max-peers", "4001"], "'4001' is out of range; give a number from 1 to 4000"),
        (["--interface", "much-too-long-name"], "'much-too-long-name' is no interface name"),
        (["--join", "a:b"], "'b' is out of range; give a number from 1 to 65535"),
        (["--state-dir", "relative"], "'relative' is not absolute; give the whole path"),
        (["--cluster-key"], "Option '--cluster-key' requires an argument"),
        (["decode"], "Missing option '--cluster-key-file'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(run, plans, arguments, error):
    """What is wrong, by the name of the option, before anything is launched."""
    code, out, err = run(*arguments)
    assert (code, out, plans) == (2, "", [])
    assert err.startswith("wesher: error: ")
    assert err.count("\n") == 1
    assert error in err


def test_a_mistake_in_a_variable_is_named_after_its_option(run, plans):
    """One line as well."""
    code, _, err = run(env={"WESHER_LOG_LEVEL": "loud"})
    assert (code, plans) == (2, [])
    assert "--log-level" in err
    assert "'loud' is no log level" in err


def test_unknown_variables_are_one_warning(run, plans):
    """A typo shows, and keeps nobody from starting."""
    code, _, err = run(*USERS, env={"WESHER_JION": "a", "WESHER_BOGUS": "b", "WESHER_MTU": "1400"})
    assert (code, err) == (0, "wesher: warning: unknown in the environment, ignored: WESHER_BOGUS, WESHER_JION\n")
    assert planned(plans)[0].pinned.mtu == 1400


def test_whoever_is_not_root_is_told_so(run, plans, monkeypatch):
    """Status 1: the command line is fine."""
    monkeypatch.setattr(cli.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(plan, "has_capability", lambda _: False)
    code, out, err = run()
    assert (code, out, plans) == (1, "", [])
    assert err.startswith("wesher: error: wesher must be started as root, or with CAP_NET_ADMIN: ")
    assert err.count("\n") == 1


def test_a_host_without_an_address_is_told_what_to_give(run, plans, monkeypatch):
    """Status 1, in one line."""
    monkeypatch.setattr(plan, "interface_addresses", lambda leave_out: [])
    code, _, err = run(*USERS)
    assert (code, plans) == (1, [])
    assert "give one with --bind-addr or --bind-iface" in err


def test_a_failure_to_launch_is_one_line(run, monkeypatch):
    """Whatever it says: a line break in it would forge another message."""

    def fail(_: Plan) -> None:
        raise LaunchError("cannot do\nthis \x1b[31mnow")

    monkeypatch.setattr(cli, "launch", fail)
    assert run(*USERS) == (1, "", "wesher: error: cannot do this  [31mnow\n")


# --- a good command line


def test_nothing_given_means_the_originals_defaults(run, plans):
    """`wesher` alone."""
    assert run(*USERS) == (0, "", "")
    plan, agent = planned(plans)
    pinned = plan.pinned
    assert (pinned.node_name, str(pinned.overlay_net), pinned.interface) == ("node-a", "10.0.0.0/8", "wgoverlay")
    assert (pinned.wireguard_port, pinned.mtu, pinned.max_peers) == (51820, 1420, 1000)
    assert (pinned.etc_hosts, pinned.hosts_file) == (True, "/etc/hosts")
    assert (plan.agent.uid, plan.helper.uid) == (64001, 64002)
    assert (plan.state_dir, plan.runtime_dir, plan.log_level) == ("/var/lib/wesher", "/run/wesher", "warn")
    assert plan.state_file == "/var/lib/wesher/wgoverlay.json"
    assert agent == AgentConfig(
        cluster_key=None,
        join=(),
        init=False,
        bind_addr="0.0.0.0",
        announced=bytes(10) + b"\xff\xff\xc0\xa8\x01\x0a",
        follow=True,
        bind_iface="",
        cluster_port=7946,
        profile="mesh",
        meta_format="auto",
        retain_failed=300.0,
        forget_after=259200.0,
        interface="wgoverlay",
        state_file="/var/lib/wesher/wgoverlay.json",
        runtime_dir="/run/wesher",
        log_level="warn",
        log_format="text",
        sandbox="strict",
        show_key=False,
        split=False,
        expected=(),
    )


GIVEN = {
    "join": "node-b,[fd00::1]:7000",
    "init": "1",
    "bind-addr": "192.0.2.7",
    "cluster-port": "7000",
    "log-level": "debug",
    "state-dir": "/srv/state/",
    "runtime-dir": "/srv/run",
    "user": "64001:64002",
    "overlay-net": "fd12:3456::1/32",
    "interface": "wg7",
    "wireguard-port": "51871",
    "mtu": "1300",
    "max-peers": "50",
    "keepalive": "25",
    "hosts-suffix": ".mesh.example",
    "advertise-addr": "198.51.100.7",
    "profile": "wan",
    "meta-format": "0.2",
    "retain-failed": "2m",
    "log-format": "json",
    "wireguard": "userspace",
    "hosts-file": "/srv/hosts",
    "no-etc-hosts": "1",
}


def check_given(plan: Plan, agent: AgentConfig) -> None:
    """Everything of GIVEN has arrived."""
    pinned = plan.pinned
    assert (str(pinned.overlay_net), pinned.interface, pinned.wireguard_port) == ("fd12:3456::/32", "wg7", 51871)
    assert (pinned.mtu, pinned.max_peers, pinned.hosts_file, pinned.etc_hosts) == (1300, 50, "/srv/hosts", False)
    assert (plan.state_dir, plan.state_file) == ("/srv/state", "/srv/state/wg7.json")
    assert agent.join == (Contact("node-b", 0), Contact("fd00::1", 7000))
    assert (agent.init, agent.bind_addr, agent.announced) == (True, "192.0.2.7", b"\xc6\x33\x64\x07")
    assert (pinned.keepalive, pinned.hosts_suffix, plan.wireguard) == (25, "mesh.example", "userspace")
    assert (agent.profile, agent.meta_format, agent.retain_failed) == ("wan", "0.2", 120.0)
    assert (plan.log_format, agent.log_format, agent.split) == ("json", "json", False)
    assert (agent.cluster_port, agent.log_level, agent.runtime_dir) == (7000, "debug", "/srv/run")


@pytest.mark.parametrize("command", [[], ["agent"]])
def test_every_option_reaches_its_place(run, plans, command):
    """With `agent` in front or without, as in the original."""
    switches = ("init", "no-etc-hosts")
    arguments = [f"--{name}" if name in switches else f"--{name}={value}" for name, value in GIVEN.items()]
    assert run(*command, *arguments) == (0, "", "")
    check_given(*planned(plans))


def test_every_option_is_a_variable_too(run, plans):
    """WESHER_ and its name; the command line wins."""
    env = {"WESHER_" + name.upper().replace("-", "_"): value for name, value in GIVEN.items()}
    warning = "wesher: warning: WESHER_INIT is set: every start begins a new cluster; unset it after the first\n"
    assert run("--log-level", "debug", env=env | {"WESHER_LOG_LEVEL": "error"}) == (0, "", warning)
    check_given(*planned(plans))


def test_an_agent_of_a_running_helper_takes_no_options_that_are_the_helpers(run, plans, monkeypatch):
    """On the command line they would do nothing; a shared environment file may hold them."""
    monkeypatch.setattr(plan, "has_capability", lambda number: number != NET_ADMIN)
    for option in ("--hosts-file=/srv/hosts", "--wireguard=kernel", "--ip-as-name"):
        code, out, err = run("--helper-socket", "/run/wesher-priv/wgoverlay.sock", option)
        assert (code, out, err.count("\n"), plans) == (2, "", 1, [])
        assert option.partition("=")[0] in err
    assert run("--helper-socket", "/run/h.sock", *USERS, env={"WESHER_HOSTS_FILE": "/srv/hosts"}) == (0, "", "")


def test_what_an_agent_was_told_too_is_compared_with_its_helpers(run, plans):
    """Only what was given, and the interface, by which its files are named."""
    assert run("--helper-socket", "/run/h.sock", *USERS, "--mtu=1400", env={"WESHER_MAX_PEERS": "7"}) == (0, "", "")
    agent = planned(plans)[1]
    assert agent.split
    assert dict(agent.expected) == {"interface": "wgoverlay", "mtu": "1400", "max-peers": "7"}


def test_an_address_can_be_the_name(run, plans):
    """As the original's hidden option: the bind address, unless that is a wildcard."""
    assert run(*USERS, "--ip-as-name", "--bind-addr", "192.0.2.7") == (0, "", "")
    assert run(*USERS, "--ip-as-name") == (0, "", "")
    assert [found.pinned.node_name for found in plans] == ["192.0.2.7", "node-a"]


def test_an_ordinary_user_is_both_halves(run, plans, monkeypatch):
    """With CAP_NET_ADMIN; `--user` would do nothing."""
    monkeypatch.setattr(plan.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(plan, "has_capability", lambda _: True)
    assert run() == (0, "", "")
    assert planned(plans)[0].agent == planned(plans)[0].helper == plan.Identity(os.getuid(), os.getgid())
    code, _, err = run(*USERS)
    assert (code, err.count("\n")) == (2, 1)
    assert "--user needs root" in err


def test_a_service_managers_credential_is_a_cluster_key(run, plans, tmp_path):
    """Unless one is given otherwise."""
    (tmp_path / "cluster-key").write_text(TEXT)
    (tmp_path / "cluster-key").chmod(0o400)
    assert run(*USERS, env={"CREDENTIALS_DIRECTORY": str(tmp_path)}) == (0, "", "")
    assert run(*USERS, env={"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}) == (0, "", "")
    assert [AgentConfig.from_json(found.agent_config).cluster_key for found in plans] == [KEY, None]


# --- the cluster key


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A key in a file of its owner's alone."""
    path = tmp_path / "key"
    path.write_text(TEXT + "\n")
    path.chmod(0o600)
    return path


def test_a_key_is_read_from_a_file(run, plans, key_file):
    """As an option or a variable."""
    assert run(*USERS, "--cluster-key-file", str(key_file)) == (0, "", "")
    assert run(*USERS, env={"WESHER_CLUSTER_KEY_FILE": str(key_file)}) == (0, "", "")
    assert [AgentConfig.from_json(plan.agent_config).cluster_key for plan in plans] == [KEY, KEY]


def test_a_key_that_everybody_can_read_is_warned_of(run, plans, key_file):
    """It still is the key."""
    key_file.chmod(0o604)
    code, _, err = run(*USERS, "--cluster-key-file", str(key_file))
    assert (code, planned(plans)[1].cluster_key) == (0, KEY)
    assert err == f"wesher: warning: every user can read the cluster key in {key_file}; chmod 600 it\n"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (SECRET, "unsupported cluster key length; expected 32, got 24"),
        ("not base64: " + SECRET, "the cluster key is no base64"),
        ("", "unsupported cluster key length; expected 32, got 0"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_bad_key_file_is_named_and_not_quoted(run, plans, key_file, content, error):
    """Status 1; its content may be another secret."""
    key_file.unlink()
    if content is not None:
        key_file.write_text(content)
        key_file.chmod(0o600)
    code, out, err = run("--cluster-key-file", str(key_file))
    assert (code, out, plans) == (1, "", [])
    assert str(key_file) in err
    assert error in err
    assert SECRET not in err


def test_a_key_and_a_key_file_exclude_each_other(run, plans, key_file):
    """One of them would do nothing: that is an error, and shows neither."""
    code, out, err = run("--cluster-key", TEXT, "--cluster-key-file", str(key_file))
    assert (code, out, plans) == (2, "", [])
    assert err == "wesher: error: --cluster-key and --cluster-key-file exclude each other; give one of them\n"


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["--cluster-key", SECRET], {}),
        ([f"--cluster-key={SECRET}"], {}),
        (["agent", "--cluster-key", SECRET], {}),
        ([], {"WESHER_CLUSTER_KEY": SECRET}),
        (["--cluster-key", "!" + SECRET], {}),
        ([f"-cluster-key={SECRET}"], {}),  # one dash
        ([f"--cluster-kee={SECRET}"], {}),
        (["--cluster-key", SECRET, "--cluster-key-file", "/nonexistent"], {}),
    ],
)
def test_a_bad_key_is_refused_and_never_echoed(run, plans, arguments, env):
    """Not even in part: it may be a good key with one character too few."""
    code, out, err = run(*arguments, env=env)
    assert (code, out, plans) == (2, "", [])
    assert err.count("\n") == 1
    assert SECRET not in err
    assert SECRET[:8] not in err


OTHER = {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("argv", "environment", "hidden"),
    [
        ([], {}, None),
        (["--join", "a"], OTHER, None),
        (["--cluster-key", "K"], OTHER, ("K", [], OTHER)),
        (["--cluster-key=K"], OTHER, ("K", [], OTHER)),
        (["agent", "--join", "a", "--cluster-key", "K", "--init"], {}, ("K", ["agent", "--join", "a", "--init"], {})),
        (["--cluster-key", "K", "--cluster-key=L"], {}, ("L", [], {})),  # the last wins, as everywhere
        (["--join", "a"], {"WESHER_CLUSTER_KEY": "E", **OTHER}, ("E", ["--join", "a"], OTHER)),
        (["--cluster-key", "K"], {"WESHER_CLUSTER_KEY": "E"}, ("K", [], {})),
        (["--cluster-key-file", "f"], {"WESHER_CLUSTER_KEY": "E"}, (None, ["--cluster-key-file", "f"], {})),
        (["--cluster-key-file=f"], {"WESHER_CLUSTER_KEY": "E"}, (None, ["--cluster-key-file=f"], {})),
        ([], {"WESHER_CLUSTER_KEY": ""}, (None, [], {})),
        (["--cluster-key="], {"WESHER_CLUSTER_KEY": "E"}, ("", [], {})),  # empty is a mistake, not "none given"
        (["--cluster-key", "K"], {"WESHER_CLUSTER_KEY_FILE": "f"}, ("K", [], {"WESHER_CLUSTER_KEY_FILE": "f"})),
        (["--cluster-key"], {}, None),  # the command line's own error
        (["--cluster-key", "K", "--cluster-key-file", "f"], {}, None),  # and this
        (["--cluster-key-file=f", "--cluster-key=K"], {"WESHER_CLUSTER_KEY": "E"}, None),
        (["--cluster-keys", "K"], {}, None),  # another option
    ],
)
def test_a_key_is_taken_off_command_line_and_environment(argv, environment, hidden):
    """Any user may read the one, root the other."""
    assert hide_cluster_key(argv, environment) == hidden


def test_a_given_key_travels_in_a_file_of_nobodys(monkeypatch):
    """The process starts over; neither its new command line nor its new environment hold the key, a memfd does."""
    started = []

    def note(executable: str, argv: list[str], environment: dict[str, str]) -> None:
        (option,) = (word for word in argv if word.startswith("--cluster-key-file="))
        path = option.partition("=")[2]
        fd = int(path.rpartition("/")[2])
        started.append((executable, argv[:-1], environment, Path(path).read_text(), os.get_inheritable(fd)))
        os.close(fd)

    monkeypatch.setattr(cli.os, "execve", note)
    monkeypatch.setattr(sys, "argv", ["wesher", "--cluster-key", TEXT, "--join", "a"])
    monkeypatch.setenv("WESHER_CLUSTER_KEY", "another")
    cli._restart_without_key()
    ((executable, argv, environment, content, inherited),) = started
    assert (executable, argv) == (sys.executable, [sys.executable, "-I", "-m", "wesher", "--join", "a"])
    assert "WESHER_CLUSTER_KEY" not in environment
    assert (content, inherited) == (TEXT, True)


# --- as a process of its own


def test_the_module_runs():
    """Version, on stdout."""
    code, out, err = subprocess_run("--version")
    assert (code, err) == (0, "")
    assert out.startswith("v")


def test_a_key_gets_through_the_restart_and_is_not_shown():
    """The second start reads it from the memfd, and goes on to the next mistake."""
    both = ("--bind-addr", "192.0.2.1", "--bind-iface", "eth0")
    for arguments, env in ((("--cluster-key", TEXT), {}), ((), {"WESHER_CLUSTER_KEY": TEXT})):
        code, out, err = subprocess_run(*arguments, *both, **env)
        assert (code, out) == (2, "")
        assert "setting both bind address and bind interface is not supported" in err
        assert TEXT not in err


@pytest.mark.parametrize("terminal", [True, False])
def test_a_new_key_is_shown_on_a_terminal_only(run, plans, monkeypatch, terminal):
    """Whether there is one is decided here: the agent does not look at the operator's terminal."""
    monkeypatch.setattr(cli.sys.stdout, "isatty", lambda: terminal, raising=False)
    run(*USERS)
    assert planned(plans)[1].show_key is terminal
