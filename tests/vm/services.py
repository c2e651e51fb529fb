"""This machine as an operator's who has installed the shipped units: they and their users are put where a package puts
them, with nothing changed but where the programs lie. The machine's port is on the lab's Ethernet."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.e2e.mesh import CLUSTER_KEY_TEXT
from tests.lab import Daemon, Lab, until

SHIPPED: Final = Path(__file__).parent.parent.parent / "dist" / "systemd"
UNITS: Final = Path("/run/systemd/system")
BIN: Final = "/usr/local/bin"
ADDRESS: Final = "192.168.77.100"
AGENT, HELPER, SOCKET = "wesher.service", "wesher-privhelper.service", "wesher-privhelper.socket"
LAUNCHER: Final = "wesher-launcher.service"


def run(*command: str, check: bool = True) -> str:
    """What it says, once it has ended well; else what the journal says too."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    if check and done.returncode != 0:
        raise AssertionError(f"{command}: {done.returncode}: {done.stdout}{done.stderr}{journal()[-6000:]}")
    return done.stdout


def journal(*units: str) -> str:
    """What these units' services have logged, and what their manager says of them; without any, everybody's."""
    chosen = [f"--unit={unit}" for unit in units]
    return subprocess.run(
        ["journalctl", "--no-pager", "--boot", *chosen], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def install() -> None:
    """Units and users."""
    for unit in sorted([*SHIPPED.glob("*.service"), *SHIPPED.glob("*.socket")]):
        (UNITS / unit.name).write_text(unit.read_text().replace("/usr/bin/wesher", f"{BIN}/wesher"))
    run("systemd-sysusers", str(SHIPPED / "sysusers.conf"))
    run("systemd-tmpfiles", "--create", str(SHIPPED / "tmpfiles.conf"))
    run("systemctl", "daemon-reload")


def configure(name: str = "wesher", **variables: object) -> None:
    """`/etc/default/wesher`, and the lab's cluster key where the agent's unit takes it from."""
    lines = [f"WESHER_{variable.upper()}={value}\n" for variable, value in variables.items()]
    Path("/etc/default").mkdir(exist_ok=True)
    Path(f"/etc/default/{name}").write_text("".join(lines))
    store = Path("/etc/credstore")
    store.mkdir(mode=0o700, exist_ok=True)
    (store / f"{name}.cluster-key").write_text(CLUSTER_KEY_TEXT)
    (store / f"{name}.cluster-key").chmod(0o600)


def drop_in(unit: str, name: str) -> None:
    """Take one of the shipped drop-ins for `unit`, as its head says."""
    directory = UNITS / f"{unit}.d"
    directory.mkdir(exist_ok=True)
    (directory / name).write_text((SHIPPED / "drop-ins" / name).read_text())
    run("systemctl", "daemon-reload")


def plug_in(lab: Lab) -> None:
    """A port of this machine's on the lab's Ethernet, until the lab ends."""
    run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "machine", "netns", str(lab.lan.pid))
    lab.lan.ip("link set dev machine master lan up")
    run("ip", "address", "add", f"{ADDRESS}/24", "dev", "lan0")
    run("ip", "link", "set", "lan0", "up")


def main_pid(unit: str) -> int:
    """Of the service; 0 while it has none."""
    return int(shown(unit, "MainPID"))


def shown(unit: str, what: str) -> str:
    """A property of the unit."""
    return run("systemctl", "show", "--property", what, "--value", unit).strip()


def is_active(unit: str) -> bool:
    """Whether it runs and has said so."""
    return shown(unit, "ActiveState") == "active"


def wesher(*arguments: str, check: bool = True) -> str:
    """A command of wesher's on this machine."""
    return run(f"{BIN}/wesher", *arguments, check=check)


def status(*arguments: str) -> dict[str, Any]:
    """`wesher status --json` on this machine."""
    answer = json.loads(wesher("status", "--json", *arguments))
    assert isinstance(answer, dict)
    return answer


def public_key(interface: str = "wgoverlay") -> str:
    """The device's."""
    return run("wg", "show", interface, "public-key").strip()


def pings(name: str) -> bool:
    """Whether it answers one echo, by its name."""
    return subprocess.run(["ping", "-n", "-c1", "-W1", name], capture_output=True, check=False).returncode == 0


def start_program(*argv: str) -> Daemon:
    """Start any program here, as it is started in a node."""
    return Daemon(["nsenter", f"--target={os.getpid()}", "--pid", "--net", "--"], argv, {})


def stop(*units: str) -> None:
    """All of them, and the interfaces of none are left."""
    run("systemctl", "stop", *units)
    until(lambda: "wgoverlay" not in os.listdir("/sys/class/net"), 5, "the link is gone")
