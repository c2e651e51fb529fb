"""`wesher check` in this process: real files, sockets and ports, and no start. What takes a whole machine, its users,
links and networks, is in tests/e2e/test_check.py.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from privhelper.options import HELPER
from tests.unit.cli.answering import Answering
from tests.unit.cli.daemon import serving
from tests.unit.cli.saved import KEY, NOBODY, TEXT, save
from tests.unit.cli.test_cli import subprocess_run
from wesher import cli, plan
from wesher.runtime.bind_addr import InterfaceAddress


def look_around(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every file, with its time of change."""
    return {
        str(path): (info.st_mtime_ns, path.read_bytes() if stat.S_ISREG(info.st_mode) else b"")
        for path in directory.rglob("*")
        for info in [path.lstat()]
    }


# --- the command


def test_it_takes_the_options_of_both_halves() -> None:
    """All of them, and none else but --json and --unit: what a helper on its own takes can be checked too."""
    options = {name: {option.name for option in cli.cli.commands[name].params} for name in ("agent", "check")}
    helpers = {option.name.replace("-", "_") for option in HELPER}
    assert options["check"] == options["agent"] - {"version"} | helpers | {"as_json", "unit"}


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
        text = f"127.0.0.1 answers as 127.0.0.1:{port}, TCP; to try UDP takes the cluster key"
        assert found("join", "--join", f"127.0.0.1:{port}") == [("ok", text)]
    both = found("join", "--join", f"127.0.0.1:{port},a..b")
    assert [level for level, _ in both] == ["warning", "warning"]
    assert both[0][1].startswith(f"127.0.0.1 does not answer (127.0.0.1:{port}: Connection refused); ")
    assert both[1][1].startswith("a..b ")


@pytest.fixture
def own(directory: Path) -> Iterator[tuple[str, ...]]:
    """Options of a node at 127.0.0.1 with a saved key, whose gossip port is free and whose tunnels' port is silent."""
    save(directory, NOBODY)
    with socket.socket(type=socket.SOCK_DGRAM) as tunnels, socket.socket(type=socket.SOCK_DGRAM) as gossip:
        for opened in (tunnels, gossip):
            opened.bind(("127.0.0.1", 0))
        ports = [str(opened.getsockname()[1]) for opened in (gossip, tunnels)]
        gossip.close()
        yield ("--bind-addr", "127.0.0.1", "--cluster-port", ports[0], "--wireguard-port", ports[1])


@pytest.mark.parametrize(
    ("settings", "level", "text"),
    [
        ({}, "ok", "answers as 127.0.0.1:{port}, TCP and UDP and is heard here"),
        ({"heeds_source": False}, "ok", "answers as 127.0.0.1:{port}, TCP and UDP"),
        ({"udp": False}, "warning", "answers by TCP as 127.0.0.1:{port}, but not by UDP; open UDP port {port} "),
        (
            {"tcp": False},
            "warning",
            "by UDP as 127.0.0.1:{port}, but not by TCP (Connection refused); open TCP",
        ),
        (
            {"is_heard": False},
            "warning",
            "but what it sends of itself does not arrive; open UDP port {own}",
        ),
    ],
)
def test_what_is_dropped_between_two_nodes_is_named(found, own, settings, level, text):
    """With the key each way is tried by itself: a stream, a datagram, a datagram of theirs."""
    with Answering(KEY, **settings) as member:
        ((found_level, said),) = found("join", *own, "--join", f"127.0.0.1:{member.port}")
    assert (found_level, text.format(port=member.port, own=own[3]) in said) == (level, True), said
    assert said.startswith("127.0.0.1 ")


def test_a_key_that_is_not_the_clusters_is_named(found, own):
    """Before a firewall is suspected that lets all through."""
    with Answering(KEY[::-1]) as member:
        ((level, text),) = found("join", *own, "--join", f"127.0.0.1:{member.port}")
    assert level == "warning"
    assert text.startswith(f"127.0.0.1 takes a connection as 127.0.0.1:{member.port}, but does not answer to this")


def test_a_closed_port_for_tunnels_is_named(found, own):
    """Where the other side says so: WireGuard answers no stranger."""
    with Answering(KEY) as member:
        ((level, text),) = found("join", *own, "--join", f"127.0.0.1:{member.port}", "--wireguard-port", own[3])
    assert level == "warning"
    assert f"says that nobody is at its UDP port {own[3]}; open it there for WireGuard" in text


@pytest.mark.parametrize(
    ("largest", "mtu", "fitting"),
    [
        (65536, 1420, None),
        (1480 - 28, 1420, None),
        (1479 - 28, 1420, 1419),
        (1280 - 28, 1420, 1220),
        (1480 - 28, 1421, 1420),
    ],
)
def test_a_path_that_swallows_large_packets_is_named(found, own, largest, mtu, fitting):
    """Nobody says so: it is tried. The size is the largest of those tried that got there."""
    with Answering(KEY, largest=largest) as member:
        ((level, text),) = found("path mtu", *own, "--join", f"127.0.0.1:{member.port}", "--mtu", str(mtu))
    if fitting is None:
        assert (level, text) == ("ok", f"packets of {mtu + 60} bytes get there, the largest with --mtu {mtu}")
    else:
        assert level == "warning"
        assert f"takes packets of {fitting + 60} bytes, and with --mtu {mtu} tunnels make some of {mtu + 60}" in text
        assert text.endswith(f"; give --mtu {fitting}, here and there")


def test_this_node_is_no_one_to_join(found):
    """One list of members may serve all of them."""
    text = "192.0.2.7 is this node itself, and passed over"
    assert found("join", "--join", "192.0.2.7", "--advertise-addr", "192.0.2.7") == [("ok", text)]


# --- what keeps the processes in


def test_the_sandbox_is_looked_at_without_going_in(found, monkeypatch):
    """What this kernel lacks is named; without landlock, `strict` would not start."""
    ((level, text),) = found("sandbox", "--sandbox", "available")
    assert (level, text.startswith("available, ")) == ("ok", True)
    assert found("sandbox", "--sandbox", "off") == [
        ("warning", "off: neither seccomp nor landlock would keep the processes in")
    ]
    monkeypatch.setattr("privhelper.landlock.abi", lambda: 0)
    ((level, text),) = found("sandbox", "--sandbox", "strict")
    assert (level, text.startswith("this kernel has no landlock")) == ("error", True)
    ((level, text),) = found("sandbox", "--sandbox", "available")
    assert (level, text.endswith("landlock")) == ("ok", True)
    monkeypatch.setattr("privhelper.landlock.abi", lambda: 2)
    ((level, text),) = found("sandbox", "--sandbox", "strict")
    assert (level, text.endswith("landlock for truncate(2) (Linux 6.2), landlock for TCP (Linux 6.7)")) == ("ok", True)


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
