"""`wesher check` in this process: real files, sockets and ports, and no start. What takes a whole machine, its users,
links and networks, is in tests/e2e/test_check.py.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.unit.cli.daemon import serving
from tests.unit.cli.test_cli import subprocess_run
from wesher import cli, plan
from wesher.mesh.saved_state import OwnClaim, SavedNode, SavedState, render
from wesher.runtime.bind_addr import InterfaceAddress

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
TEXT = base64.b64encode(KEY).decode()
NOBODY = SavedState(KEY, (), None)

Run = Callable[..., tuple[int, str, str]]
Found = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that every user may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture
def run(directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `wesher check` on a host called node-a with one private address: exit status, stdout, stderr."""
    monkeypatch.setattr(plan.socket, "gethostname", lambda: "node-a")
    address = InterfaceAddress("eth0", IPv4Address("192.168.1.10"), 24)
    monkeypatch.setattr(plan, "interface_addresses", lambda leave_out: [address])
    (directory / "hosts").write_text("127.0.0.1 localhost\n192.0.2.9 printer\n")

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        for name in [name for name in os.environ if name.startswith("WESHER_")]:
            monkeypatch.delenv(name)
        ours = {"STATE_DIR": "state", "RUNTIME_DIR": "run", "HOSTS_FILE": "hosts"}
        ours = {f"WESHER_{name}": str(directory / file) for name, file in ours.items()}
        if os.geteuid() == 0:
            ours["WESHER_USER"] = "64001:64002"
        for name, value in (ours | dict(env or {})).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["wesher", "check", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        code = caught.value.code
        out, err = capsys.readouterr()
        return (code if isinstance(code, int) else 0), out, err

    return run


@pytest.fixture
def found(run: Run) -> Found:
    """What a check has to say of one thing: levels and texts."""

    def found(what: str, *arguments: str, env: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
        code, out, err = run("--json", *arguments, env=env)
        findings = json.loads(out)["findings"]
        assert err == ""
        assert code == (1 if any(finding["level"] == "error" for finding in findings) else 0)
        return [(finding["level"], finding["text"]) for finding in findings if finding["what"] == what]

    return found


@pytest.fixture
def helper(directory: Path) -> Iterator[socket.socket]:
    """A helper's socket, for everybody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as listener:
        listener.bind(str(directory / "helper.sock"))
        os.chmod(directory / "helper.sock", 0o666)
        listener.listen()
        yield listener


def save(directory: Path, state: SavedState | bytes) -> Path:
    """A state file."""
    path = directory / "state" / "wgoverlay.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(state if isinstance(state, bytes) else render(state))
    if os.geteuid() == 0:
        os.chown(path, 64001, 64001)
    return path


def look_around(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every file, with its time of change."""
    return {
        str(path): (info.st_mtime_ns, path.read_bytes() if stat.S_ISREG(info.st_mode) else b"")
        for path in directory.rglob("*")
        for info in [path.lstat()]
    }


# --- the command


def test_it_takes_the_daemons_options() -> None:
    """All of them, and none else but --json."""
    options = {name: {option.name for option in cli.cli.commands[name].params} for name in ("agent", "check")}
    assert options["check"] == options["agent"] - {"version"} | {"as_json"}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--bind-addr", "192.0.2.1", "--bind-iface", "eth0"], "setting both bind address and bind interface"),
        (["--overlay-net", "fd00::/8", "--mtu", "1279"], "--mtu 1279 is too small for the IPv6 overlay fd00::/8"),
        (["--overlay-net", "banana"], "'banana' is no network"),
        (["--helper-socket", "/run/h.sock", "--wireguard", "kernel"], "--wireguard is the helper's affair"),
        (["--cluster-key-file", "/nonexistent", "positional"], "Got unexpected extra argument (positional)"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(run, arguments, error):
    """As the daemon's."""
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("wesher: error: ")
    assert error in err


def test_a_line_is_a_level_a_thing_and_a_text(run, directory, helper):
    """Whatever is in a name, a terminal sees plain text."""
    code, out, _ = run("--helper-socket", f"{directory}/helper.sock", "--join", "no such\x1b[2J\n\u202e")
    assert all(" " <= character <= "~" or character == "\n" for character in out)
    assert {line.split()[0] for line in out.splitlines()} <= {"ok", "warning", "error"}
    assert [line for line in out.splitlines() if line.startswith("warning  join")] != []
    assert code == ("\nerror" in out)


def test_a_key_that_is_typed_is_not_shown(directory):
    """It is hidden as the daemon's is, and only said to have been given."""
    private = ("--state-dir", f"{directory}/state", "--runtime-dir", f"{directory}/run")
    for arguments, env in ((("--cluster-key", TEXT), {}), ((), {"WESHER_CLUSTER_KEY": TEXT})):
        _, out, err = subprocess_run("check", *arguments, *private, **env)
        assert "given as an option or variable" in out
        assert TEXT not in out + err
    code, out, err = subprocess_run("check", "--cluster-key", TEXT[:8])
    assert (code, out) == (2, "")
    assert TEXT[:8] not in err


def test_nothing_is_made_or_changed(run, directory, helper):
    """Not the directories either, where there are none."""
    before = look_around(directory)
    run("--init")
    run("--helper-socket", f"{directory}/helper.sock")
    assert look_around(directory) == before
    save(directory, b"rubbish")
    before = look_around(directory)
    run()
    run("--init")
    assert look_around(directory) == before


def test_an_odd_environment_is_a_warning(found):
    """On stdout, with the others."""
    assert found("environment", env={"WESHER_JION": "a", "WESHER_INIT": "1"}) == [
        ("warning", "unknown in the environment, ignored: WESHER_JION"),
        ("warning", "WESHER_INIT is set: every start begins a new cluster; unset it after the first"),
    ]
    assert found("environment") == []


# --- gossip


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "0.0.0.0 is bound, 192.168.1.10 announced: a private address of this host, which has no public one"),
        (["--bind-addr", "127.0.0.1"], "127.0.0.1 is bound, 127.0.0.1 announced: as --bind-addr says"),
        (["--bind-iface", "eth0"], "192.168.1.10 is bound, 192.168.1.10 announced: the first of eth0"),
        (["--advertise-addr", "192.0.2.7"], "0.0.0.0 is bound, 192.0.2.7 announced: as --advertise-addr says"),
    ],
)
def test_the_address_is_told_with_its_reason(found, arguments, text):
    """Bound is one thing, announced may be another."""
    assert found("address", *arguments) == [("ok", text)]


def test_a_public_address_is_told_as_such(found, monkeypatch):
    """It is bound, too."""
    address = InterfaceAddress("eth0", IPv4Address("8.8.8.7"), 24)
    monkeypatch.setattr(plan, "interface_addresses", lambda leave_out: [address])
    text = "8.8.8.7 is bound, 8.8.8.7 announced: a public address of this host"
    assert found("address") == [("ok", text)]


def test_no_address_is_one_error(found):
    """What rests on it is passed over."""
    text = "interface none0 is not there or has no address; give another --bind-iface"
    assert found("address", "--bind-iface", "none0") == [("error", text)]
    assert found("gossip port", "--bind-iface", "none0") == []


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_taken_port_is_an_error_unless_wesher_runs(found, directory, kind):
    """Then it may be its own; its control socket is what tells."""
    with socket.socket(type=kind) as somebody:
        somebody.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            somebody.listen()
        port = somebody.getsockname()[1]
        options = ("--bind-addr", "127.0.0.1", "--cluster-port", str(port))
        reason = "Address already in use; give another --bind-addr or --cluster-port"
        assert found("gossip port", *options) == [("error", f"cannot bind 127.0.0.1 port {port}: {reason}")]
        (directory / "run").mkdir()
        with serving(directory / "run", {}):
            assert found("gossip port", *options) == [("ok", "in use, and not looked at: wesher runs")]
            ((level, text),) = found("daemon", *options)
            assert (level, text.partition(" (")[0]) == ("ok", "wesher runs on interface wgoverlay")
    assert found("gossip port", *options) == [("ok", f"{port} is free, UDP and TCP")]
    assert found("daemon", *options) == [("ok", "none runs on interface wgoverlay")]


def test_whom_to_join_is_resolved_and_tried(found):
    """A closed port or a name that is none is a warning: they may come later."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert found("join", "--join", f"127.0.0.1:{port}") == [("ok", f"127.0.0.1 answers as 127.0.0.1:{port}")]
    both = found("join", "--join", f"127.0.0.1:{port},a..b")
    assert [level for level, _ in both] == ["warning", "warning"]
    assert both[0][1].startswith(f"127.0.0.1 does not answer (127.0.0.1:{port}: Connection refused); ")
    assert both[1][1].startswith("a..b ")


def test_this_node_is_no_one_to_join(found):
    """One list of members may serve all of them."""
    text = "192.0.2.7 is this node itself, and passed over"
    assert found("join", "--join", "192.0.2.7", "--advertise-addr", "192.0.2.7") == [("ok", text)]


# --- the helper's socket


def test_a_helpers_socket_is_looked_at_and_not_used(found, directory, helper):
    """A connection would be an agent's, and end the linger of a helper that waits for one."""
    path = f"{directory}/helper.sock"
    ((level, text),) = found("helper socket", "--helper-socket", path)
    assert (level, f"may connect to {path}; whether a helper answers" in text) == ("ok", True)
    with pytest.raises(BlockingIOError):
        helper.accept()


def test_a_helpers_socket_that_cannot_be_used_is_an_error(found, directory, helper):
    """Missing, no socket, or closed to the agent."""
    missing = f"no helper answers on {directory}/none: No such file or directory; start wesher-privhelper"
    ((level, text),) = found("helper socket", "--helper-socket", f"{directory}/none")
    assert (level, text.partition(", or name")[0]) == ("error", missing)
    ((level, text),) = found("helper socket", "--helper-socket", f"{directory}/hosts")
    assert (level, text.partition(";")[0]) == ("error", f"{directory}/hosts is no socket")
    os.chmod(directory / "helper.sock", 0o400)
    ((level, text),) = found("helper socket", "--helper-socket", f"{directory}/helper.sock")
    assert (level, f"may not connect to {directory}/helper.sock" in text) == ("error", True)
    os.chmod(directory / "helper.sock", 0o666)
    (directory / "closed").mkdir(0o600)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        os.chmod(directory / "closed", 0o700)
        listener.bind(f"{directory}/closed/helper.sock")
        if os.geteuid() == 0:
            ((level, text),) = found("helper socket", "--helper-socket", f"{directory}/closed/helper.sock")
            assert (level, f"{directory}/closed is closed to it" in text) == ("error", True)


def test_what_the_helper_decides_is_not_looked_at(run, directory, helper):
    """Its options are its own."""
    _, out, _ = run("--json", "--helper-socket", f"{directory}/helper.sock")
    seen = {finding["what"] for finding in json.loads(out)["findings"]}
    assert seen & {"wireguard", "wireguard port", "interface", "overlay", "hosts file", "privilege"} == set()
    _, out, _ = run("--json")
    seen = {finding["what"] for finding in json.loads(out)["findings"]}
    assert seen >= {"wireguard", "wireguard port", "interface", "overlay", "hosts file", "privilege"}
    assert "helper socket" not in seen


# --- state and key

NODES = (SavedNode("node-b", "192.0.2.2", None), SavedNode("a.b", "192.0.2.3", None))
MINE = SavedState(KEY, NODES, OwnClaim("node-a", 1, 0, 1))


def test_a_saved_state_is_told_without_its_key(run, found, directory):
    """Whose it is, how many members, which; and that the key is there."""
    path = save(directory, MINE)
    text = f"{path}: the state of node-a: the cluster key, 2 members (node-b, a.b)"
    assert found("state file") == [("ok", text)]
    assert found("cluster key") == [("ok", "the saved one")]
    assert found("join") == [("ok", "nobody named: 2 saved members will be tried")]
    assert TEXT not in run()[1]


def test_a_state_of_another_name_is_warned_of(found, directory):
    """The address is derived from the name."""
    path = save(directory, SavedState(KEY, (), OwnClaim("node-z", 1, 0, 1)))
    assert found("state file")[0][0] == "ok"
    ((level, text),) = found("state file")[1:]
    assert (level, text.startswith(f"{path} is that of node-z, and this node is node-a")) == ("warning", True)


def test_a_damaged_state_is_an_error_without_a_key_and_a_warning_with_one(found, directory):
    """As a start takes it; of a newer version's file the rest is used."""
    path = save(directory, b"rubbish")
    ((level, text),) = found("state file")
    assert level == "error"
    assert text.startswith(f"state file {path}: not JSON: ")
    assert text.endswith("; give --cluster-key, or --init for a new cluster")
    key_file = directory / "key"
    key_file.write_text(TEXT)
    key_file.chmod(0o600)
    ((level, text),) = found("state file", "--cluster-key-file", str(key_file))
    assert (level, text.startswith(f"{path}: not JSON: "), text.endswith("kept aside")) == ("warning", True, True)
    save(directory, render(MINE).replace(b'"Wesher": {', b'"Wesher": {"Later": 1,'))
    assert [level for level, _ in found("state file")] == ["warning", "ok"]
    save(directory, render(MINE)[:150])
    assert [level for level, _ in found("state file")] == ["warning", "ok"]


def test_no_state_is_a_new_cluster(found, directory):
    """And so is --init, whatever there is."""
    assert found("state file") == [("ok", f"{directory}/state/wgoverlay.json is not there yet")]
    assert found("cluster key") == [("ok", "none is given or saved: a new one will be generated")]
    path = save(directory, MINE)
    assert found("state file", "--init") == [("ok", f"a new cluster, as --init says; {path} will be kept aside")]
    assert found("cluster key", "--init")[0][1].startswith("none is given or saved")


def test_joining_without_a_key_is_warned_of(found):
    """A generated one is nobody else's."""
    ((level, text),) = found("cluster key", "--join", "127.0.0.1:1")
    assert (level, "who is joined will not know a new one" in text) == ("warning", True)


def test_it_is_told_where_the_key_comes_from(found, directory):
    """A file that everybody reads, and a key that the state does not have, are warned of as well."""
    key_file = directory / "cluster-key"
    key_file.write_text(TEXT)
    key_file.chmod(0o600)
    option = ("--cluster-key-file", str(key_file))
    assert found("cluster key", *option) == [("ok", f"given in {key_file}")]
    credential = found("cluster key", env={"CREDENTIALS_DIRECTORY": str(directory)})
    assert credential == [("ok", f"given as a credential, {key_file}")]
    key_file.chmod(0o604)
    save(directory, SavedState(OTHER_KEY, (), None))
    (readable, given, another) = found("cluster key", *option)
    assert readable == ("warning", f"every user can read the cluster key in {key_file}; chmod 600 it")
    assert given == ("ok", f"given in {key_file}")
    assert another[1].startswith("the state file has another")
    key_file.write_text("c2VjcmV0")
    key_file.chmod(0o600)
    reason = "unsupported cluster key length; expected 32, got 6"
    assert found("cluster key", *option) == [("error", f"cluster key file {key_file}: {reason}")]


def test_a_directory_is_there_or_will_be_made_or_is_an_error(found, directory):
    """With the words of the start."""
    split = ("--helper-socket", "/nonexistent")  # any user may be an agent
    assert found("state directory", *split) == [("ok", f"{directory}/state will be made")]
    assert found("runtime directory", *split) == [("ok", f"{directory}/run will be made")]
    save(directory, NOBODY)
    assert found("state directory", *split) == [("ok", f"{directory}/state can be used")]
    ((level, text),) = found("state directory", *split, "--state-dir", f"{directory}/hosts")
    assert (level, text.startswith(f"directory {directory}/hosts cannot be used: Not a directory")) == ("error", True)
    ((level, text),) = found("runtime directory", *split, "--runtime-dir", f"{directory}/hosts/run")
    assert (level, "/hosts/run cannot be made: Not a directory" in text) == ("error", True)


# --- the hosts file


def test_members_without_a_line_are_named(found, directory):
    """By what the file has already, and by --hosts-suffix."""
    save(directory, SavedState(KEY, (*NODES, SavedNode("printer", "192.0.2.4", None)), None))
    can = ("ok", f"{directory}/hosts can be written")
    taken = "printer: name stands in the hosts file already"
    outside = "a.b: name lies outside --hosts-suffix"
    assert found("hosts file") == [can, ("warning", f"saved members that will have no line: {taken}")]
    suffixed = found("hosts file", "--hosts-suffix", "mesh.example")
    assert suffixed == [can, ("warning", f"saved members that will have no line: {outside}")]
    assert found("hosts file", "--no-etc-hosts") == [("ok", "not managed, as --no-etc-hosts says")]


def test_a_name_that_others_cannot_write_is_warned_of(found, directory, monkeypatch):
    """This host's own, which its own file shows nowhere."""
    for name, reason in (("a.b", "name lies outside --hosts-suffix"), ("wpad", None), ("node_a", "not a host name")):
        monkeypatch.setattr(plan.socket, "gethostname", lambda name=name: name)
        warnings = [text for level, text in found("hosts file", "--hosts-suffix", "mesh.example") if level == "warning"]
        assert [reason in text for text in warnings] == ([] if reason is None else [True])


def test_a_hosts_file_that_cannot_be_used_is_a_warning(found, directory):
    """A start would do without."""
    ((level, text),) = found("hosts file", "--hosts-file", f"{directory}/none")
    assert (level, text.startswith(f"{directory}/none cannot be opened (No such file or directory)")) == (
        "warning",
        True,
    )
    ((level, text),) = found("hosts file", "--hosts-file", str(directory))
    assert (level, "peers' names will not be written" in text) == ("warning", True)
