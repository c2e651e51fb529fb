"""Whatever keeps wesher from starting is one line on stderr and an exit status, and leaves the host as it was: the
launcher's start, and in the split layout the agent's and the helper's.

Exit status 2 is for what is typed wrongly, 1 for what is wrong with the machine.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from privhelper.addressing import derive
from tests.e2e.layouts import Layout
from tests.e2e.mesh import (
    AGENT_UID,
    CLUSTER_KEY_TEXT,
    HELPER_UID,
    INTERFACE,
    KEY_FILE,
    USERS,
    public_key,
    start,
    status,
)
from tests.e2e.split import PREPARE, as_user, helper_socket, start_helper, start_split, start_wireguard
from tests.lab import Lab, Node, until
from tests.lab.lab import wesher_command

pytestmark = pytest.mark.root

LAUNCHED = ("wesher", "--user", USERS)
AGENT = (*as_user(AGENT_UID), "wesher", "--helper-socket", helper_socket())
HELPER = ("wesher-privhelper", "--listen", helper_socket(), "--user", USERS)
PROGRAMS = {"launched": LAUNCHED, "agent": AGENT, "helper": HELPER}
STATE_FILE = "/var/lib/wesher/wgoverlay.json"

# Links, addresses, routes, the hosts file, and every file below the directories in which anything is ever made; the
# link-local address that the kernel gives eth0 comes when it comes.
LOOK = """
{ ip -o link; ip -o address; ip route show table all; ip -6 route show table all; } | grep -v fe80:
cat /etc/hosts
find /run /var/lib /tmp /dev/shm -printf '%p %U:%G %m\\n' | sort
find /run /var/lib /tmp /dev/shm -type f -printf '%p %s %T+\\n' -exec md5sum {} + | sort
"""


@pytest.fixture
def node(make_lab: Callable[[int], Lab]) -> Node:
    """One machine."""
    return make_lab(1).nodes[0]


@pytest.fixture
def prepared(node: Node) -> Node:
    """One machine with the directories and the TUN device that an administrator makes for the split layout."""
    node.run("sh", "-c", PREPARE)
    return node


@pytest.fixture(scope="module")
def machine() -> Iterator[Node]:
    """One machine for many starts, prepared for both layouts: each leaves it as it was."""
    with Lab(1) as lab:
        lab.nodes[0].run("sh", "-c", PREPARE)
        yield lab.nodes[0]


def everything(node: Node) -> str:
    """What a refused start must not have changed."""
    return node.run("sh", "-c", LOOK).stdout


def outcome(node: Node, *command: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit status and the one line of a start that fails. No PATH of a node leads to our programs."""
    home = os.path.dirname(wesher_command())
    found = [os.path.join(home, word) if word in ("wesher", "wesher-privhelper") else word for word in command]
    daemon = node.start_program(*found, env=env)
    code = daemon.wait(15)
    (line,) = daemon.stderr_text().splitlines()
    assert line.startswith("wesher: error: ")
    return code, line.removeprefix("wesher: error: ")


def refusal(node: Node, *command: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """The outcome of a command that changes nothing."""
    before = everything(node)
    found = outcome(node, *command, env=env)
    assert everything(node) == before
    return found


# --- typed wrongly ----------------------------------------------------------------------------------------------------

ALL = ("launched", "agent", "helper")
DAEMON = ("launched", "agent")
NUMBER = "is out of range; give a number from"
NO_NET = "is no network; give one in CIDR form such as 10.0.0.0/8"


@pytest.mark.parametrize(
    ("option", "value", "reason", "programs"),
    [
        ("bind-addr", "300.1.1.1", "'300.1.1.1' is no IP address; give one of this host's", DAEMON),
        ("advertise-addr", "me", "'me' is no IP address; give the one at which others reach this node", DAEMON),
        ("advertise-addr", "127.0.0.1", "127.0.0.1 is no address at which others reach this node", DAEMON),
        ("join", "[fd00::1", "'[fd00::1' is no address to join; give [ADDRESS]:PORT", DAEMON),
        ("cluster-port", "x", f"'x' {NUMBER} 1 to 65535", DAEMON),
        ("cluster-port", "65536", f"'65536' {NUMBER} 1 to 65535", DAEMON),
        ("profile", "fast", "'fast' is no profile; give one of mesh, lan, wan", DAEMON),
        ("meta-format", "0.1", "'0.1' is no metadata format; give one of auto, 0.2, 0.3", DAEMON),
        ("retain-failed", "soon", "'soon' is no time; give seconds, or a number and one of s, m, h, d", DAEMON),
        ("state-dir", "state", "'state' is not absolute; give the whole path", DAEMON),
        ("runtime-dir", "run", "'run' is not absolute; give the whole path", DAEMON),
        ("overlay-net", "nonsense", f"'nonsense' {NO_NET}", ALL),
        ("overlay-net", "10.0.0.0/33", f"'10.0.0.0/33' {NO_NET}", ALL),
        ("overlay-net", "127.0.0.0/8", "127.0.0.0/8 cannot carry an overlay; give a private network", ALL),
        ("overlay-net", "10.0.0.0/31", "10.0.0.0/31 has no room for two nodes; give a prefix of at most /30", ALL),
        ("interface", "a/b", "'a/b' is no interface name; give 1 to 15 characters without / : % or space", ALL),
        ("wireguard-port", "0", f"'0' {NUMBER} 1 to 65535", ALL),
        ("mtu", "575", f"'575' {NUMBER} 576 to 65535", ALL),
        ("max-peers", "4001", f"'4001' {NUMBER} 1 to 4000", ALL),
        ("keepalive", "65536", f"'65536' {NUMBER} 0 to 65535", ALL),
        ("hosts-file", "hosts", "'hosts' is not absolute; give the whole path", ALL),
        ("hosts-suffix", "a..b", "'a..b' is no domain; give letters, digits, dashes and dots", ALL),
        ("log-level", "loud", "'loud' is no log level; give one of debug, info, warn, error", ALL),
        ("log-format", "xml", "'xml' is no log format; give one of text, json", ALL),
        ("wireguard", "both", "'both' is none of auto, kernel, userspace", ALL),
        ("linger", "long", f"'long' {NUMBER} 0 to 86400", ("helper",)),
        ("agent-uid", "nobody", f"'nobody' {NUMBER} 0 to 4294967294", ("helper",)),
        ("listen", "socket", "'socket' is not absolute; give the whole path", ("helper",)),
        ("node-name", "a b", "'a b' cannot name a node; give the host 1 to 64 printable ASCII characters", ("helper",)),
    ],
)
def test_a_bad_value_is_wrong_usage_as_an_option_and_as_a_variable(
    machine: Node, option: str, value: str, reason: str, programs: tuple[str, ...]
) -> None:
    """The line names the option and says what to give; status 2, for every program that has it."""
    variable = "WESHER_" + option.upper().replace("-", "_")
    before = everything(machine)
    for program in programs:
        typed = outcome(machine, *PROGRAMS[program], f"--{option}", value)
        assert (typed[0], f"--{option}" in typed[1], reason in typed[1]) == (2, True, True)
        if option != "listen":  # it is typed for every helper here, and that wins
            assert outcome(machine, *PROGRAMS[program], env={variable: value}) == typed
    assert everything(machine) == before


@pytest.mark.parametrize("program", DAEMON)
@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("c2VjcmV0", "unsupported cluster key length; expected 32, got 6"),
        ("", "unsupported cluster key length; expected 32, got 0"),
        ("!!", "the cluster key is no base64; give 32 bytes encoded as base64"),
    ],
)
def test_a_bad_key_is_refused_and_not_repeated(machine: Node, program: str, key: str, reason: str) -> None:
    """As an option and as a variable it is wrong usage; in a file or a credential, a wrong file."""
    command = PROGRAMS[program]
    machine.run("install", "-d", "-m", "755", "/run/credentials")
    for path in (KEY_FILE, "/run/credentials/cluster-key"):
        machine.write(path, key.encode() + b"\n", mode=0o640)
        machine.run("chgrp", str(AGENT_UID), path)
    before = everything(machine)

    assert outcome(machine, *command, f"--cluster-key={key}") == (2, f"--cluster-key: {reason}")
    if key:  # an empty variable is none
        variable = outcome(machine, *command, env={"WESHER_CLUSTER_KEY": key})
        assert variable == (2, f"--cluster-key: {reason}")
    in_file = outcome(machine, *command, "--cluster-key-file", KEY_FILE)
    assert in_file == (1, f"cluster key file {KEY_FILE}: {reason}")
    credential = outcome(machine, *command, env={"CREDENTIALS_DIRECTORY": "/run/credentials"})
    assert credential == (1, f"cluster key file /run/credentials/cluster-key: {reason}")
    assert everything(machine) == before


@pytest.mark.parametrize("program", DAEMON)
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("--bind-addr", "127.0.0.1", "--bind-iface", "lo"),
            "setting both bind address and bind interface is not supported; give one of them",
        ),
        (
            ("--cluster-key", CLUSTER_KEY_TEXT, "--cluster-key-file", KEY_FILE),
            "--cluster-key and --cluster-key-file exclude each other; give one of them",
        ),
        (
            ("--overlay-net", "fd00:77::/32", "--mtu", "1279"),
            "--mtu 1279 is too small for the IPv6 overlay fd00:77::/32; give at least 1280",
        ),
        (("positional",), "Got unexpected extra argument (positional); see wesher agent --help"),
        (("--nonsense", "1"), "No such option '--nonsense'; see wesher agent --help"),
        (("--bind-iface",), "Option '--bind-iface' requires an argument."),
    ],
)
def test_a_bad_command_line_is_wrong_usage(machine: Node, program: str, arguments: tuple[str, ...], line: str) -> None:
    """Options that exclude each other, words nobody asked for, options that nobody knows."""
    assert refusal(machine, *PROGRAMS[program], *arguments) == (2, line)


@pytest.mark.parametrize("arguments", [("positional",), ("--nonsense", "1"), ("--cluster-port", "7946")])
def test_the_helper_refuses_what_it_does_not_know(machine: Node, arguments: tuple[str, ...]) -> None:
    """The agent's options too: on its command line they would do nothing."""
    assert refusal(machine, *HELPER, *arguments) == (2, f"unrecognized arguments: {' '.join(arguments)}")


# --- users and privilege ----------------------------------------------------------------------------------------------

ADD = "useradd --system --no-create-home --shell /usr/sbin/nologin"


@pytest.mark.parametrize("command", [LAUNCHED[:1], ("wesher", "--helper-socket", helper_socket()), HELPER[:3]])
def test_missing_users_are_named_with_the_command_that_makes_them(machine: Node, command: tuple[str, ...]) -> None:
    """The default users, on a machine that has neither."""
    assert refusal(machine, *command) == (
        1,
        f"no such user: wesher, wesher-priv; create it with: {ADD} wesher; {ADD} wesher-priv",
    )


def test_those_commands_suffice(node: Node) -> None:
    """Copied from the message, they make the default users with which it starts."""
    _, line = refusal(node, "wesher")
    for command in line.partition("create it with: ")[2].split("; "):
        node.run(*command.split())

    node.start()

    until(lambda: status(node), 10, "up under the default users")


@pytest.mark.parametrize("number", ["4294967295", "4294967296", "99999999999999999999"])
def test_a_number_that_is_no_user_id_is_refused(machine: Node, number: str) -> None:
    """4294967295 would mean "stay who you are", and that is root."""
    found = refusal(machine, "wesher", "--user", f"{number}:61002")

    assert found == (1, f"--user: {number} is no user id; the highest is 4294967294")


@pytest.mark.parametrize("users", ["root:61002", "61001:0", "61001:61001"])
def test_the_two_users_differ_and_neither_is_root(machine: Node, users: str) -> None:
    """Otherwise the line between the processes would be drawn on water."""
    found = refusal(machine, "wesher", "--user", users)

    assert found == (1, f"--user {users}: agent and helper need two different users, neither of them root")


def test_an_ordinary_user_is_told_what_it_needs(machine: Node) -> None:
    """One line instead of a traceback about a socket."""
    assert refusal(machine, *as_user(61003), "wesher") == (
        1,
        "wesher must be started as root, or with CAP_NET_ADMIN: it makes a network interface; use sudo, or "
        "--helper-socket where wesher-privhelper runs",
    )
    assert refusal(machine, *AGENT, "--user", USERS) == (
        2,
        "--user needs root, who alone can become another user; leave it away",
    )


def test_a_helper_without_its_capability_says_so(machine: Node) -> None:
    """It could open its socket and serve nobody."""
    assert refusal(machine, *as_user(HELPER_UID), *HELPER) == (
        1,
        "wesher-privhelper needs CAP_NET_ADMIN: it makes a network interface; start it as root, or with "
        "setpriv --inh-caps +net_admin --ambient-caps +net_admin",
    )


# --- addresses and ports ----------------------------------------------------------------------------------------------


def occupy(node: Node, kind: str, port: int) -> None:
    """Somebody else has the port."""
    listen = "s.listen()" if kind == "SOCK_STREAM" else "pass"
    script = f"s = socket.socket(type=socket.{kind}); s.bind(('', {port})); {listen}; print('ok', flush=True)"
    blocker = node.start_program("python3", "-c", f"import socket, signal; {script}; signal.pause()")
    until(lambda: "ok" in blocker.stdout_text(), 5, "the port is taken")


@pytest.mark.parametrize("kind", ["SOCK_DGRAM", "SOCK_STREAM"])
def test_a_taken_gossip_port_is_refused(prepared: Node, kind: str) -> None:
    """UDP or TCP: gossip needs both."""
    occupy(prepared, kind, 7946)

    for command in (LAUNCHED, AGENT):
        assert refusal(prepared, *command) == (
            1,
            "cannot bind 0.0.0.0 port 7946: Address already in use; give another --bind-addr or --cluster-port",
        )


def test_a_taken_wireguard_port_is_refused(prepared: Node) -> None:
    """wireguard-go itself would only log it and run on deaf."""
    occupy(prepared, "SOCK_DGRAM", 51820)
    line = "WireGuard's UDP port 51820 cannot be used: Address already in use; give another --wireguard-port"

    assert refusal(prepared, *LAUNCHED) == (1, line)
    start_wireguard(prepared)
    assert refusal(prepared, *HELPER) == (1, line)


def test_a_port_of_roots_is_refused_to_an_agent_that_is_not_root(machine: Node) -> None:
    """The original runs as root and may."""
    line = "cannot bind port 80: only root may, and the agent is not; give one from 1024 up"
    assert refusal(machine, *LAUNCHED, "--cluster-port", "80") == (1, line)
    denied = "cannot bind 0.0.0.0 port 80: Permission denied; give another --bind-addr or --cluster-port"
    assert refusal(machine, *AGENT, "--cluster-port", "80") == (1, denied)


@pytest.mark.parametrize("command", [LAUNCHED, AGENT])
def test_an_address_or_interface_that_is_not_there_is_refused(machine: Node, command: tuple[str, ...]) -> None:
    """Before there is a link or a directory."""
    assert refusal(machine, *command, "--bind-addr", "192.0.2.77") == (
        1,
        "cannot bind 192.0.2.77 port 7946: Cannot assign requested address; give another --bind-addr or --cluster-port",
    )
    assert refusal(machine, *command, "--bind-iface", "nosuch0") == (
        1,
        "interface nosuch0 is not there or has no address; give another --bind-iface",
    )


def test_no_usable_address_is_refused(prepared: Node) -> None:
    """A machine with nothing but loopback."""
    prepared.run("ip", "address", "flush", "dev", "eth0")

    for command in (LAUNCHED, AGENT):
        assert refusal(prepared, *command) == (
            1,
            "no private or public address on any interface; give one with --bind-addr or --bind-iface",
        )


# --- this host's networks ---------------------------------------------------------------------------------------------


def plug_in(node: Node, address: str) -> None:
    """One more local network, on a bridge without ports."""
    node.run("ip", "link", "add", "other0", "type", "bridge")
    node.run("ip", "address", "add", address, "dev", "other0")
    node.run("ip", "link", "set", "dev", "other0", "up")


@pytest.mark.parametrize(
    ("network", "overlay_net", "line"),
    [
        (
            "10.4.4.1/16",
            "10.4.0.0/16",
            "a local network is as wide as the overlay net 10.4.0.0/16; give another --overlay-net",
        ),
    ],
)
def test_an_overlay_that_a_local_network_would_swallow_is_refused(
    prepared: Node, network: str, overlay_net: str, line: str
) -> None:
    """All traffic of one would go to the other, or this node's own address be ambiguous."""
    plug_in(prepared, network)

    assert refusal(prepared, *LAUNCHED, "--overlay-net", overlay_net) == (1, line)
    start_wireguard(prepared)
    assert refusal(prepared, *HELPER, "--overlay-net", overlay_net) == (1, line)


def test_a_network_over_the_first_address_is_a_warning_and_the_next_is_taken(node: Node, layout: Layout) -> None:
    """Also where the agent has taken a later one long ago, and the helper cannot know."""
    plug_in(node, "10.59.73.1/24")

    running = layout.start(node)

    until(lambda: status(node)["node"]["overlay_addr"] == str(derive(ip_network("10.0.0.0/8"), b"node1", 1)), 10, "up")
    assert "and this node cannot have its first, 10.59.73.60" in running.stderr_text()


def test_a_narrower_network_elsewhere_is_a_warning(node: Node, layout: Layout) -> None:
    """The original runs there; the members whose address falls into it are refused, and it says so."""
    plug_in(node, "10.1.2.1/24")

    running = layout.start(node)

    until(lambda: status(node), 10, "up")
    warnings = [line for line in running.stderr_text().splitlines() if "inside the overlay net" in line]
    assert len(warnings) == 1
    assert "networks of this host lie inside the overlay net 10.0.0.0/8: 10.1.2.0/24; members whose" in warnings[0]


def test_an_ipv6_overlay_without_ipv6_is_refused(prepared: Node) -> None:
    """With the word that enables it."""
    for which in ("all", "default"):
        prepared.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{which}/disable_ipv6")
    line = (
        "the overlay fd00:77::/32 needs IPv6, which is disabled on this host; "
        "enable it (sysctl net.ipv6.conf.all.disable_ipv6=0), or give an IPv4 --overlay-net"
    )

    assert refusal(prepared, *LAUNCHED, "--overlay-net", "fd00:77::/32") == (1, line)
    start_wireguard(prepared)
    assert refusal(prepared, *HELPER, "--overlay-net", "fd00:77::/32") == (1, line)


# --- WireGuard and its link -------------------------------------------------------------------------------------------


def test_without_wireguard_of_any_kind_it_does_not_start(prepared: Node) -> None:
    """No kernel's, no wireguard-go, or no TUN device for it: each with the word that helps."""
    assert refusal(prepared, *LAUNCHED, "--wireguard", "kernel") == (
        1,
        "this kernel has no WireGuard; load it (modprobe wireguard), or give --wireguard userspace",
    )
    prepared.run("mount", "--bind", "/dev/null", "/usr/bin/wireguard-go")
    assert refusal(prepared, *LAUNCHED) == (
        1,
        "no WireGuard of any kind: the kernel has none (modprobe wireguard), and wireguard-go is not installed "
        "(apt install wireguard-go)",
    )
    prepared.run("umount", "/usr/bin/wireguard-go")
    prepared.run("mount", "-t", "tmpfs", "tmpfs", "/dev/net")
    assert refusal(prepared, *LAUNCHED) == (
        1,
        "/dev/net/tun cannot be opened (No such file or directory): userspace WireGuard needs it; "
        "load it with: modprobe tun",
    )


def test_a_helper_without_wireguard_of_any_kind_does_not_start(machine: Node) -> None:
    """It makes no wireguard-go itself, and says how to."""
    assert refusal(machine, *HELPER, "--wireguard", "kernel") == (
        1,
        "this kernel has no WireGuard; load it (modprobe wireguard), or give --wireguard userspace",
    )
    assert refusal(machine, *HELPER, "--wireguard", "userspace") == (
        1,
        "no wireguard-go serves wgoverlay; start it: wireguard-go wgoverlay",
    )
    assert refusal(machine, *HELPER) == (
        1,
        "no WireGuard of any kind: this kernel has none, and no wireguard-go serves wgoverlay; "
        "load the kernel's (modprobe wireguard), or start wireguard-go wgoverlay",
    )


@pytest.mark.parametrize("command", [LAUNCHED, HELPER])
def test_an_existing_interface_of_the_name_is_never_taken_over(prepared: Node, command: tuple[str, ...]) -> None:
    """Somebody else's link stays, and the line says how to remove it."""
    prepared.run("ip", "link", "add", INTERFACE, "type", "bridge")

    assert refusal(prepared, *command) == (
        1,
        f"interface {INTERFACE} exists already; if nothing needs it: ip link del dev {INTERFACE}",
    )


def test_a_second_daemon_on_the_same_interface_is_refused(node: Node, layout: Layout) -> None:
    """The first goes on undisturbed, whatever else the second is told."""
    layout.start(node)
    until(lambda: status(node), 10, "up")
    running = public_key(node)
    another = ("--wireguard-port", "51821", "--cluster-port", "7947")

    assert refusal(node, *LAUNCHED, *another) == (
        1,
        f"wesher runs already on interface {INTERFACE} (/run/wesher/{INTERFACE}.sock answers); "
        "stop it, or give --interface",
    )
    assert refusal(node, *LAUNCHED, *another, "--runtime-dir", "/run/other") == (
        1,
        f"interface {INTERFACE} exists already; if nothing needs it: ip link del dev {INTERFACE}",
    )
    assert running == public_key(node) == status(node)["node"]["public_key"]


def test_a_second_agent_or_helper_is_refused(node: Node) -> None:
    """In the split layout each finds the other of its kind."""
    start_split(node)
    until(lambda: status(node), 10, "up")
    running = public_key(node)

    assert refusal(node, *AGENT, "--cluster-port", "7947") == (
        1,
        f"wesher runs already on interface {INTERFACE} (/run/wesher/{INTERFACE}.sock answers); "
        "stop it, or give --interface",
    )
    assert refusal(node, *HELPER) == (
        1,
        f"another helper listens on {helper_socket()}; stop it, or give another --listen and --interface",
    )
    assert running == public_key(node) == status(node)["node"]["public_key"]


# --- files and directories --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [LAUNCHED, AGENT])
def test_a_key_file_that_cannot_be_read_is_refused(machine: Node, command: tuple[str, ...]) -> None:
    """With the kernel's reason."""
    for path, reason in (("/run/nokey", "No such file or directory"), ("/run", "Is a directory")):
        found = refusal(machine, *command, "--cluster-key-file", path)
        assert found == (1, f"cluster key file {path} cannot be read: {reason}")


def stopped_once(node: Node, layout: Layout) -> None:
    """The node as a run of the daemon leaves it."""
    running = layout.start(node)
    until(lambda: status(node), 10, "up")
    running.signal(signal.SIGTERM)
    assert running.wait(15) == 0


def test_a_state_file_that_cannot_be_read_never_means_a_new_cluster(node: Node, layout: Layout) -> None:
    """Without a key given it refuses, and the file stays as it is."""
    stopped_once(node, layout)
    node.write(STATE_FILE, b'{"ClusterKey": "AAAA"')

    if layout.name == "launched":
        found = refusal(node, *LAUNCHED)
    else:
        start_helper(node)
        found = refusal(node, *AGENT)

    assert found[0] == 1
    assert found[1].startswith(f"state file {STATE_FILE}: not JSON: ")
    assert found[1].endswith("; give --cluster-key, or --init for a new cluster")


def test_with_a_key_given_a_broken_state_file_is_kept_aside(node: Node) -> None:
    """Nothing is lost, and the mesh comes up."""
    node.run("mkdir", "-m", "700", "/var/lib/wesher")
    node.write(STATE_FILE, b"rubbish")

    start(node)
    until(lambda: status(node), 10, "up")

    assert node.read(f"{STATE_FILE}.old-1") == b"rubbish"
    assert json.loads(node.read(STATE_FILE))["ClusterKey"] == CLUSTER_KEY_TEXT


def test_a_directory_with_other_things_in_it_is_not_given_away(node: Node) -> None:
    """A mistyped --state-dir must not hand /etc to the agent."""
    owner = (node.inside.root / "etc").stat().st_uid

    code, line = refusal(node, *LAUNCHED, "--state-dir", "/etc")

    assert code == 1
    assert line.startswith("directory /etc belongs to uid 0 and holds other things")
    assert (node.inside.root / "etc").stat().st_uid == owner


def test_a_file_of_roots_in_the_agents_directory_stays_roots(node: Node) -> None:
    """An earlier run of the agent, no longer itself, may have linked it there."""
    node.run("mkdir", "-m", "700", "/var/lib/wesher")
    node.run("chown", f"{AGENT_UID}:{AGENT_UID}", "/var/lib/wesher")
    node.write(STATE_FILE, b"{}")

    code, line = refusal(node, *LAUNCHED)

    assert code == 1
    assert line.startswith(f"state file {STATE_FILE} belongs to uid 0; move it aside")


def test_the_state_of_a_wesher_that_ran_as_root_is_taken_over(node: Node) -> None:
    """Directory and file change hands, and the key is kept."""
    node.run("mkdir", "-m", "700", "/var/lib/wesher")
    node.write(STATE_FILE, f'{{"ClusterKey": "{CLUSTER_KEY_TEXT}", "Nodes": null}}'.encode())

    node.start("--user", USERS)
    until(lambda: status(node), 10, "up")

    assert node.wesher("key", "show").stdout.strip() == CLUSTER_KEY_TEXT
    assert (node.inside.root / STATE_FILE.lstrip("/")).stat().st_uid == AGENT_UID


# --- the split layout's socket ----------------------------------------------------------------------------------------


def test_without_a_helpers_socket_nothing_is_made(node: Node) -> None:
    """Also by root, who could make directories before he finds out."""
    found = refusal(node, *LAUNCHED, "--helper-socket", helper_socket())

    assert found == (
        1,
        f"no helper answers on {helper_socket()}: No such file or directory; "
        "start wesher-privhelper, or name its socket",
    )


def test_a_dead_helpers_socket_is_told_from_a_missing_one(prepared: Node) -> None:
    """Nobody listens there any more."""
    make = f"import os, socket; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind('{helper_socket()}')"
    prepared.run("python3", "-c", f"{make}; os.chown('{helper_socket()}', {AGENT_UID}, 0)")

    assert refusal(prepared, *AGENT) == (
        1,
        f"no helper answers on {helper_socket()}: Connection refused; start wesher-privhelper, or name its socket",
    )


def test_a_helpers_socket_needs_a_directory(prepared: Node) -> None:
    """It is the administrator's, or the service manager's, to make."""
    start_wireguard(prepared)

    assert refusal(prepared, HELPER[0], "--user", USERS, "--listen", "/run/none/helper.sock") == (
        1,
        "cannot listen on /run/none/helper.sock: No such file or directory; its directory must be there and ours",
    )
