"""Whatever keeps wesher from starting is one line on stderr and an exit status, and leaves the host as it was."""

import json
from collections.abc import Callable

import pytest

from tests.e2e.mesh import CLUSTER_KEY_TEXT, INTERFACE, KEY_FILE, USERS, start, status
from tests.lab import Lab, Node, until

pytestmark = pytest.mark.root


@pytest.fixture
def node(make_lab: Callable[[int], Lab]) -> Node:
    """One machine."""
    return make_lab(1).nodes[0]


def everything(node: Node) -> tuple[str, str, bytes, str]:
    """What a refused start must not have changed."""
    return (
        node.run("ip", "-o", "link").stdout,
        node.run("ip", "route").stdout,
        node.hosts(),
        node.run("ls", "-R", "/run", "/var/lib").stdout,
    )


def refusal(node: Node, *arguments: str, touches: bool = False) -> tuple[int, str]:
    """Exit status and the one line of a start that fails."""
    before = everything(node)
    daemon = node.start(*arguments)
    code = daemon.wait(15)
    if not touches:
        assert before == everything(node)
    assert before[:3] == everything(node)[:3]
    (line,) = daemon.stderr_text().splitlines()
    return code, line.removeprefix("wesher: error: ")


def test_missing_users_are_named_with_the_command_that_makes_them(node: Node) -> None:
    """The default users, on a machine that has neither."""
    add = "useradd --system --no-create-home --shell /usr/sbin/nologin"

    assert refusal(node) == (
        1,
        f"no such user: wesher, wesher-priv; create it with: {add} wesher; {add} wesher-priv",
    )


def test_those_commands_suffice(node: Node) -> None:
    """Copied from the message, they make the default users with which it starts."""
    _, line = refusal(node)
    for command in line.partition("create it with: ")[2].split("; "):
        node.run(*command.split())

    node.start()

    until(lambda: status(node), 10, "up under the default users")


@pytest.mark.parametrize("number", ["4294967295", "4294967296", "99999999999999999999"])
def test_a_number_that_is_no_user_id_is_refused(node: Node, number: str) -> None:
    """4294967295 would mean "stay who you are", and that is root."""
    code, line = refusal(node, "--user", f"{number}:61002")

    assert (code, line) == (1, f"--user: {number} is no user id; the highest is 4294967294")


@pytest.mark.parametrize("users", ["root:61002", "61001:0", "61001:61001"])
def test_the_two_users_differ_and_neither_is_root(node: Node, users: str) -> None:
    """Otherwise the line between the processes would be drawn on water."""
    code, line = refusal(node, "--user", users)

    assert (code, line) == (1, f"--user {users}: agent and helper need two different users, neither of them root")


def test_an_existing_interface_of_the_name_is_never_taken_over(node: Node) -> None:
    """Somebody else's link stays, and the line says how to remove it."""
    node.run("ip", "link", "add", INTERFACE, "type", "bridge")

    code, line = refusal(node, "--user", USERS, touches=True)

    assert (code, line) == (
        1,
        f"interface {INTERFACE} exists already; if nothing needs it: ip link del dev {INTERFACE}",
    )
    assert INTERFACE in node.links()


def test_a_second_instance_on_the_same_interface_is_refused(node: Node) -> None:
    """The first goes on undisturbed."""
    start(node)
    until(lambda: status(node), 5, "up")
    running = status(node)["node"]["public_key"]

    second = node.start("--user", USERS, "--wireguard-port", "51821", "--cluster-port", "7947")

    assert second.wait(15) == 1
    assert "exists already" in second.stderr_text()
    assert running == status(node)["node"]["public_key"]
    assert node.run("wg", "show", INTERFACE, "public-key").stdout.strip() == running


def test_a_taken_wireguard_port_is_refused(node: Node) -> None:
    """wireguard-go itself would only log it and run on deaf."""
    bind = "s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 51820))"
    script = f"import socket; {bind}; print('ok', flush=True); s.recv(1)"
    blocker = node.start_program("python3", "-c", script)
    until(lambda: "ok" in blocker.stdout_text(), 5, "the port is taken")

    code, line = refusal(node, "--user", USERS)

    assert (code, line) == (
        1,
        "WireGuard's UDP port 51820 cannot be used: Address already in use; give another --wireguard-port",
    )


def test_a_state_file_that_cannot_be_read_never_means_a_new_cluster(node: Node) -> None:
    """Without a key given it refuses; the file stays as it is."""
    node.run("mkdir", "-m", "700", "/var/lib/wesher")
    node.write("/var/lib/wesher/wgoverlay.json", b'{"ClusterKey": "AAAA"')

    code, line = refusal(node, "--user", USERS, touches=True)

    assert code == 1
    assert line.startswith("state file /var/lib/wesher/wgoverlay.json: ")
    assert line.endswith("give --cluster-key, or --init for a new cluster")
    assert node.read("/var/lib/wesher/wgoverlay.json") == b'{"ClusterKey": "AAAA"'


def test_with_a_key_given_a_broken_state_file_is_kept_aside(node: Node) -> None:
    """Nothing is lost, and the mesh comes up."""
    node.run("mkdir", "-m", "700", "/var/lib/wesher")
    node.write("/var/lib/wesher/wgoverlay.json", b"rubbish")

    start(node)
    until(lambda: status(node), 10, "up")

    assert node.read("/var/lib/wesher/wgoverlay.json.old-1") == b"rubbish"
    assert json.loads(node.read("/var/lib/wesher/wgoverlay.json"))["ClusterKey"] == CLUSTER_KEY_TEXT


def test_a_directory_with_other_things_in_it_is_not_given_away(node: Node) -> None:
    """A mistyped --state-dir must not hand /etc to the agent."""
    owner = (node.inside.root / "etc").stat().st_uid

    code, line = refusal(node, "--user", USERS, "--state-dir", "/etc")

    assert code == 1
    assert line.startswith("directory /etc belongs to uid 0 and holds other things")
    assert (node.inside.root / "etc").stat().st_uid == owner


def test_a_file_of_roots_in_the_agents_directory_stays_roots(node: Node) -> None:
    """An earlier run of the agent, no longer itself, may have linked it there."""
    node.run("mkdir", "-m", "700", "/var/lib/wesher")
    node.run("chown", "61001:61001", "/var/lib/wesher")
    node.write("/var/lib/wesher/wgoverlay.json", b"{}")

    code, line = refusal(node, "--user", USERS)

    assert code == 1
    assert line.startswith("state file /var/lib/wesher/wgoverlay.json belongs to uid 0; move it aside")
    assert (node.inside.root / "var/lib/wesher/wgoverlay.json").stat().st_uid == 0


def test_the_state_of_a_wesher_that_ran_as_root_is_taken_over(node: Node) -> None:
    """Directory and file change hands, and the key is kept."""
    node.run("mkdir", "-m", "700", "/var/lib/wesher")
    node.write("/var/lib/wesher/wgoverlay.json", f'{{"ClusterKey": "{CLUSTER_KEY_TEXT}", "Nodes": null}}'.encode())

    node.start("--user", USERS)
    until(lambda: status(node), 10, "up")

    assert node.wesher("key", "show").stdout.strip() == CLUSTER_KEY_TEXT
    assert (node.inside.root / "var/lib/wesher/wgoverlay.json").stat().st_uid == 61001


def test_an_overlay_net_that_a_local_network_covers_is_refused(node: Node) -> None:
    """This node's own address would shadow a host of its own network."""
    code, line = refusal(node, "--user", USERS, "--overlay-net", "192.168.77.0/24", touches=True)

    assert code == 1
    assert line == (
        "overlay address of node1 in 192.168.77.0/24 cannot be used here: a local network covers it, "
        "or it is the net's first or last; give another --overlay-net"
    )


def test_no_usable_address_is_refused(node: Node) -> None:
    """A machine with nothing but loopback."""
    node.run("ip", "address", "flush", "dev", "eth0")

    code, line = refusal(node, "--user", USERS)

    assert (code, line) == (
        1,
        "no private or public address on any interface; give one with --bind-addr or --bind-iface",
    )


def test_an_ordinary_user_is_told_to_use_sudo(node: Node) -> None:
    """One line instead of a traceback about a socket."""
    done = node.run("setpriv", "--reuid=61003", "--regid=61003", "--clear-groups", *node_command(), check=False)

    assert done.returncode == 1
    assert done.stderr.startswith("wesher: error: wesher must be started as root")
    assert len(done.stderr.splitlines()) == 1


def node_command() -> list[str]:
    """The program under test."""
    from tests.lab.lab import wesher_command

    return [wesher_command()]


def test_a_key_file_that_is_no_key_is_refused(node: Node) -> None:
    """Its content is not repeated on the terminal."""
    node.write(KEY_FILE, b"c2VjcmV0\n")

    code, line = refusal(node, "--user", USERS, "--cluster-key-file", KEY_FILE)

    assert (code, line) == (1, f"cluster key file {KEY_FILE}: unsupported cluster key length; expected 32, got 6")
