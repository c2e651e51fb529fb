"""`wesher check` of the two halves as services: by the helper's options, by the agent's, or by an installed unit that
has both, it says what each would end with."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.e2e.mesh import AGENT_UID, CLUSTER_KEY_TEXT, HELPER_UID, INTERFACE, USERS, status
from tests.e2e.split import as_user, helper_socket, start_agent, start_split
from tests.e2e.test_check import Checked, check, last_words
from tests.e2e.test_refusals import occupy, plug_in
from tests.lab import Lab, Node, until
from tests.lab.lab import wesher_command

pytestmark = pytest.mark.root

HELPER = os.path.join(os.path.dirname(wesher_command()), "wesher-privhelper")
LISTEN = ("--listen", helper_socket())
SOMEBODY = 61003

AGENTS_UNIT = f"""
[Service]
ExecStart=/usr/bin/wesher --helper-socket {helper_socket()}
EnvironmentFile=-/etc/default/wesher
LoadCredential=cluster-key:/etc/wesher/cluster-key
User={AGENT_UID}
"""
HELPERS_UNIT = f"""
[Service]
ExecStart=/usr/bin/wesher-privhelper
EnvironmentFile=-/etc/default/wesher
User={HELPER_UID}
"""


@pytest.fixture
def node(make_lab: Callable[[int], Lab]) -> Node:
    """One machine, with a directory for the helper's socket."""
    (node,) = make_lab(1).nodes
    node.run("install", "-d", "-o", str(HELPER_UID), "/run/wesher-priv")
    return node


def install(node: Node, options: str = "") -> None:
    """The pair as units, with a cluster key and options."""
    node.run("mkdir", "-p", "/etc/systemd/system", "/etc/wesher", "/etc/default")
    node.write("/etc/systemd/system/wesher.service", AGENTS_UNIT.encode(), 0o644)
    node.write("/etc/systemd/system/wesher-privhelper.service", HELPERS_UNIT.encode(), 0o644)
    node.write("/etc/wesher/cluster-key", CLUSTER_KEY_TEXT.encode())
    node.write("/etc/default/wesher", options.encode(), 0o644)


def serve_a_tun(node: Node) -> None:
    """What the administrator starts where the kernel has no WireGuard."""
    node.run("wireguard-go", INTERFACE)


@pytest.mark.parametrize(
    ("spoil", "arguments", "what"),
    [
        (lambda node: None, (), "wireguard"),
        (lambda node: None, ("--wireguard", "kernel"), "wireguard"),
        (lambda node: None, ("--wireguard", "userspace"), "wireguard"),
        (lambda node: node.run("ip", "link", "add", INTERFACE, "type", "bridge"), (), "interface"),
        (lambda node: (serve_a_tun(node), occupy(node, "SOCK_DGRAM", 51820)), (), "wireguard port"),
        (
            lambda node: (serve_a_tun(node), plug_in(node, "10.4.4.1/16")),
            ("--overlay-net", "10.4.0.0/16"),
            "overlay",
        ),
    ],
)
def test_a_helpers_error_is_the_line_that_its_start_would_end_with(
    node: Node, spoil: Callable[[Node], object], arguments: tuple[str, ...], what: str
) -> None:
    """By its own options, and by the unit's, where the agent has nothing against it."""
    spoil(node)

    checked = check(node, "--user", USERS, *LISTEN, *arguments)

    errors = checked.of("error")
    assert (checked.code, what in errors) == (1, True)
    assert last_words(node.start_program(HELPER, "--user", USERS, *LISTEN, *arguments)) == (1, errors[what])
    options = "".join(f"WESHER_{name[2:].upper().replace('-', '_')}={value}\n" for name, value in pairs(arguments))
    install(node, options)
    assert check(node, "--unit", "wesher").of("error") == errors


def pairs(arguments: tuple[str, ...]) -> list[tuple[str, str]]:
    """Option and value."""
    return list(zip(arguments[::2], arguments[1::2], strict=True))


def test_a_helper_without_its_capability_is_told_so(node: Node) -> None:
    """Root in a container has what it was given."""
    bare = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    checked = check(node, "--user", USERS, *LISTEN, by=bare)
    helper = node.start_program(*bare, HELPER, "--user", USERS, *LISTEN)
    assert last_words(helper) == (1, checked.of("error")["privilege"])


def test_a_helper_that_cannot_become_another_stays_who_it_is(node: Node) -> None:
    """As a container's root, which has one capability; whom it serves it is told by number."""
    serve_a_tun(node)
    bare = ("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin")
    checked = check(node, *LISTEN, "--agent-uid", str(SOMEBODY), by=bare)
    assert (checked.code, checked.of("error")) == (0, {})
    assert checked.of("ok")["users"] == f"the agent is uid {SOMEBODY}, the helper 0"
    nobody = check(node, *LISTEN, "--user", "nobody-such", by=bare)
    assert nobody.of("error")["users"].startswith("no such user: nobody-such")


def test_a_root_that_cannot_become_others_is_told_so(node: Node) -> None:
    """A container's root, too."""
    bare = ("setpriv", "--bounding-set=-net_admin,-setuid", "--inh-caps=-net_admin,-setuid")
    checked = check(node, "--user", USERS, by=bare)
    assert checked.of("error")["users"].startswith("root lacks CAP_NET_ADMIN, CAP_SETUID here, and ")
    assert last_words(node.start_program(*bare, wesher_command(), "--user", USERS)) == (1, checked.of("error")["users"])


def test_an_installed_unit_is_checked_with_its_helper(node: Node) -> None:
    """Its options, its users and its credential; what is typed wins, and the shell's own variables do not count."""
    install(node, "WESHER_JOIN=nobody.invalid\nWESHER_OVERLAY_NET=10.9.0.0/16\n# a comment\n")
    serve_a_tun(node)

    checked = check(node, "--unit", "wesher", env={"WESHER_JOIN": "127.0.0.1", "WESHER_JION": "x"})

    assert (checked.code, set(checked.of("warning")), checked.of("error")) == (0, {"join"}, {})
    good = checked.of("ok")
    assert good["users"] == f"the agent is uid {AGENT_UID}, the helper {HELPER_UID}"
    assert good["cluster key"] == "given in /etc/wesher/cluster-key"
    assert good["helper socket"] == f"{helper_socket()} will be made by the helper"
    assert good["wireguard"] == f"wireguard-go's, which serves {INTERFACE}"
    assert good["hosts file"] == "/etc/hosts can be written"
    assert " in 10.9.0.0/16" in good["overlay"]
    assert checked.of("warning")["join"].startswith("nobody.invalid cannot be resolved: ")
    typed = check(node, "--unit", "wesher.service", "--join", "127.0.0.1:9", "--hosts-file", "/none")
    assert set(typed.of("warning")) == {"join", "hosts file"}
    assert typed.of("warning")["join"].startswith("127.0.0.1 does not answer ")
    missing = node.wesher("check", "--unit", "wesher@wg7", check=False)
    assert (missing.returncode, missing.stdout, missing.stderr.count("\n")) == (2, "", 1)
    assert missing.stderr.startswith("wesher: error: no unit wesher@wg7.service is installed ")


@pytest.mark.parametrize("spoiled", ["/var/lib/wesher", "/var/lib/wesher/wgoverlay.json"])
def test_a_state_of_the_wrong_owner_is_named_with_its_command(node: Node, spoiled: str) -> None:
    """To the agent's own user and to root alike; the command puts it right."""
    split = start_split(node)
    until(lambda: status(node) and node.read("/var/lib/wesher/wgoverlay.json"), 10, "up")
    split.kill()
    node.run("chown", str(SOMEBODY), spoiled)

    checked = check(node, "--helper-socket", helper_socket(), by=as_user(AGENT_UID))
    by_root = check(node, "--helper-socket", helper_socket(), "--user", USERS)

    what = "state directory"
    assert what in checked.of("error")
    assert f"belongs to uid {SOMEBODY}" in by_root.of("error")[what]
    agent = start_agent(node)
    assert last_words(agent)[0] == 1
    command = by_root.of("error")[what].rpartition("chown ")[2]
    node.run("sh", "-c", f"chown {command}")
    assert what not in check(node, "--helper-socket", helper_socket(), "--user", USERS).of("error")


def test_a_running_pair_is_not_disturbed(node: Node) -> None:
    """Its ports and its link are its own, by whichever half they are looked at."""
    split = start_split(node)
    until(lambda: status(node), 10, "up")
    install(node)
    said = split.stderr_text()

    def found(*arguments: str) -> tuple[dict[str, str], dict[str, str]]:
        checked: Checked = check(node, *arguments)
        return checked.of("error"), checked.of("warning")

    assert found("--unit", "wesher") == ({}, {})
    assert found("--user", USERS, *LISTEN) == ({}, {})
    assert (split.alive(), split.stderr_text()) == (True, said)
