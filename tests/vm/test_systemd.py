"""Helper and agent as services of a real systemd: its socket, its descriptor of the hosts file, its notifications."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import until

pytestmark = pytest.mark.vm

UNITS = Path("/run/systemd/system")
BIN = "/usr/local/bin"

SOCKET = """
[Socket]
ListenSequentialPacket=/run/wesher-priv/wgoverlay.sock
SocketUser=wesher
SocketMode=0600
RemoveOnStop=yes
"""

HELPER = f"""
[Service]
Type=notify
WatchdogSec=120
ExecStart={BIN}/wesher-privhelper
User=wesher-priv
AmbientCapabilities=CAP_NET_ADMIN
CapabilityBoundingSet=CAP_NET_ADMIN
NoNewPrivileges=yes
ProtectSystem=strict
StandardInput=file:/etc/hosts
StandardOutput=file:/etc/hosts
StandardError=journal
TimeoutStopSec=120
"""

AGENT = f"""
[Unit]
PartOf=wesher-privhelper.service
[Service]
Type=notify
WatchdogSec=120
ExecStart={BIN}/wesher --helper-socket /run/wesher-priv/wgoverlay.sock --bind-addr 127.0.0.1
User=wesher
NoNewPrivileges=yes
StateDirectory=wesher
StateDirectoryMode=0700
RuntimeDirectory=wesher
TimeoutStartSec=300
TimeoutStopSec=120
"""


def run(*command: str) -> str:
    """What it says, once it has ended well."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    journal = (
        ""
        if done.returncode == 0
        else subprocess.run(
            ["journalctl", "--no-pager", "-n", "40"], capture_output=True, text=True, check=False
        ).stdout
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{journal}"
    return done.stdout


@pytest.fixture
def services() -> Iterator[None]:
    """The three units, started. systemd wants its users to have names."""
    for file, line in (("passwd", "{0}:x:{1}:{1}::/:/usr/sbin/nologin"), ("group", "{0}:x:{1}:")):
        with open(f"/etc/{file}", "a", encoding="ascii") as opened:
            opened.writelines(
                line.format(name, uid) + "\n" for name, uid in (("wesher", 61001), ("wesher-priv", 61002))
            )
    for name, text in (
        ("wesher-privhelper.socket", SOCKET),
        ("wesher-privhelper.service", HELPER),
        ("wesher.service", AGENT),
    ):
        (UNITS / name).write_text(text)
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "wesher-privhelper.socket")
    run("systemctl", "start", "wesher.service")
    yield
    run("systemctl", "stop", "wesher.service", "wesher-privhelper.service", "wesher-privhelper.socket")


def key() -> str:
    """The device's public key."""
    return run("wg", "show", "wgoverlay", "public-key").strip()


def main_pid(unit: str) -> int:
    """Of the service."""
    return int(run("systemctl", "show", "-P", "MainPID", unit))


def test_two_services_with_a_socket_and_the_hosts_file_from_systemd(services: None) -> None:
    """Started when it is ready, restarted without a new key, and gone without a trace."""
    before = Path("/etc/hosts").read_bytes()
    status = json.loads(run(f"{BIN}/wesher", "status", "--json"))
    assert status["node"]["backend"] == "kernel"
    assert not any("hosts" in problem for problem in status["problems"])
    helper, first = main_pid("wesher-privhelper.service"), key()
    descriptors = {link.readlink().as_posix() for link in Path(f"/proc/{helper}/fd").iterdir()}
    assert "/etc/hosts" in descriptors
    for number in (0, 1):
        assert Path(f"/proc/{helper}/fd/{number}").readlink().as_posix() == "/dev/null"

    run("systemctl", "restart", "wesher.service")

    assert (helper, first) == (main_pid("wesher-privhelper.service"), key())
    run("systemctl", "stop", "wesher-privhelper.service")
    until(lambda: run("systemctl", "show", "-P", "ActiveState", "wesher.service").strip() == "inactive", 10, "both end")
    assert "wgoverlay" not in run("ip", "-brief", "link")
    assert before == Path("/etc/hosts").read_bytes()
    for unit in ("wesher.service", "wesher-privhelper.service"):
        assert run("systemctl", "show", "-P", "Result", unit).strip() == "success"
