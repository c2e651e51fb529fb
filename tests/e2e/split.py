"""The split layout in the lab: wireguard-go, helper and agent as three services, each under its own uid from the start,
as an administrator or systemd would start them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from privhelper.link import ALIAS
from privhelper.options import HELPER
from tests.e2e.mesh import AGENT_UID, CLUSTER_KEY_TEXT, HELPER_UID, INTERFACE, KEY_FILE
from tests.lab import Daemon, Node, until
from tests.lab.lab import wesher_command

LISTENING = 0x10000  # __SO_ACCEPTCON, in the flags of /proc/net/unix

HELPERS = frozenset(option.name for option in HELPER)
BOTH = frozenset(("interface", "log-level", "log-format", "sandbox"))

# Before the node's own first service: udev makes the TUN device everybody's, and directories belong to their users.
PREPARE = f"""
set -e
if [ ! -e /run/tun ]; then mknod -m 666 /run/tun c 10 200; mount --bind /run/tun /dev/net/tun; fi
install -d -o {HELPER_UID} -g {HELPER_UID} -m 755 /run/wireguard /run/wesher-priv
install -d -o {AGENT_UID} -g {AGENT_UID} -m 755 /run/wesher
install -d -o {AGENT_UID} -g {AGENT_UID} -m 700 /var/lib/wesher
"""


def as_user(uid: int, *capabilities: str) -> tuple[str, ...]:
    """The beginning of a command line that runs as `uid` with `capabilities` and nothing else."""
    kept = ",".join(("-all", *(f"+{name}" for name in capabilities)))
    return (
        "setpriv",
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        f"--inh-caps={kept}",
        f"--ambient-caps={kept}",
    )


@dataclass
class Split:
    """Three services of one node. What is done to it is done to the helper, as a stop of the whole would be."""

    node: Node
    wireguard: Daemon
    helper: Daemon
    agent: Daemon

    @property
    def pid(self) -> int:
        """Host pid of the helper."""
        return self.helper.pid

    @property
    def agent_pid(self) -> int:
        """Host pid of the unprivileged agent."""
        return self.agent.pid

    @property
    def wireguard_pid(self) -> int:
        """Host pid of wireguard-go."""
        return self.wireguard.pid

    def signal(self, number: int) -> None:
        """To the helper, which tells the agent."""
        self.helper.signal(number)

    def kill(self) -> None:
        """SIGKILL for all three: the machine is gone. The agent first, which would end by itself after the helper."""
        gone = (self.agent, self.helper, self.wireguard)
        for daemon in gone:
            if daemon.alive():
                daemon.signal(signal.SIGKILL)
        for daemon in gone:
            daemon.wait(5)

    def wait(self, timeout: float) -> int:
        """The first status that is not 0, of agent and helper."""
        return self.agent.wait(timeout) or self.helper.wait(timeout)

    def alive(self) -> bool:
        """Whether helper and agent both run."""
        return self.helper.alive() and self.agent.alive()

    def stderr_text(self) -> str:
        """What both have said."""
        return self.helper.stderr_text() + self.agent.stderr_text()


def start_split(node: Node, *arguments: str) -> Split:
    """All three, where wireguard-go does not run already; each gets its own of the launcher's `arguments`."""
    interface = option(arguments, "interface") or INTERFACE
    running = [d for d in node.daemons if d.argv[-2:] == ("--foreground", interface) and d.alive()]
    wireguard = running[0] if running else start_wireguard(node, interface)
    helper = start_helper(node, *only(arguments, HELPERS))
    return Split(node, wireguard, helper, start_agent(node, *without(arguments, HELPERS - BOTH)))


def start_wireguard(node: Node, interface: str = INTERFACE) -> Daemon:
    """wireguard-go under the helper's uid."""
    node.run("sh", "-c", PREPARE)
    daemon = node.start_program(*as_user(HELPER_UID, "net_admin"), "wireguard-go", "--foreground", interface)
    path = f"/run/wireguard/{interface}.sock"
    until(lambda: not daemon.alive() or is_listening(daemon, path), 5, "wireguard-go listens")
    return daemon


def start_helper(node: Node, *arguments: str, env: Mapping[str, str] | None = None) -> Daemon:
    """The helper, as root: it makes the agent's socket, then becomes its own user."""
    program = os.path.join(os.path.dirname(wesher_command()), "wesher-privhelper")
    users = f"--user={AGENT_UID}:{HELPER_UID}"
    path = helper_socket(arguments)
    daemon = node.start_program(program, "--listen", path, users, *arguments, env=env)
    until(lambda: not daemon.alive() or is_listening(daemon, path), 5, "the helper listens")
    # It opens everything before it locks itself down, and makes link and key only after that.
    interface = option(arguments, "interface") or INTERFACE
    until(lambda: not daemon.alive() or is_set_up(node, interface), 5, "the helper has set its link up")
    return daemon


def start_agent(node: Node, *arguments: str, uid: int = AGENT_UID, env: Mapping[str, str] | None = None) -> Daemon:
    """The agent, as its own user from the start."""
    node.write(KEY_FILE, CLUSTER_KEY_TEXT.encode() + b"\n")
    node.run("chown", str(uid), KEY_FILE)
    command = (wesher_command(), "--helper-socket", helper_socket(arguments), "--cluster-key-file", KEY_FILE)
    return node.start_program(*as_user(uid), *command, *arguments, env=env)


def helper_socket(arguments: Sequence[str] = ()) -> str:
    """Where the helper with these arguments listens."""
    return f"/run/wesher-priv/{option(arguments, 'interface') or INTERFACE}.sock"


def is_listening(daemon: Daemon, path: str) -> bool:
    """Whether somebody in the daemon's node listens on the unix socket `path`; a dead one's file means nothing.

    wireguard-go names its own below /var/run.
    """
    lines = [line.split() for line in Path(f"/proc/{daemon.pid}/net/unix").read_text().splitlines()[1:]]
    return any(fields[-1].endswith(path) and int(fields[3], 16) & LISTENING for fields in lines)


def is_set_up(node: Node, interface: str) -> bool:
    """Whether the link is up under a helper's alias, which is the last that it does before it serves."""
    shown = node.run("ip", "-json", "link", "show", "dev", interface, check=False).stdout
    return any("UP" in link["flags"] and link.get("ifalias") == ALIAS for link in json.loads(shown or "[]"))


def option(arguments: Sequence[str], name: str) -> str | None:
    """The value of an option in `arguments`, each option and value a word of its own."""
    return dict(pairs(arguments)).get(name)


def only(arguments: Sequence[str], names: frozenset[str]) -> list[str]:
    """The options of `arguments` with these names, and their values."""
    return [word for name, value in pairs(arguments) if name in names for word in (f"--{name}", value) if word]


def without(arguments: Sequence[str], names: frozenset[str]) -> list[str]:
    """The options of `arguments` with other names, and their values."""
    return only(arguments, frozenset(name for name, _ in pairs(arguments)) - names)


def pairs(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Each option's name and value, "" for a switch."""
    words = [*arguments, "--"]
    return [
        (word[2:], "" if following.startswith("--") else following)
        for word, following in pairwise(words)
        if word.startswith("--")
    ]
