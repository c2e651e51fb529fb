"""wesher in containers, as README.md and dist/container start it: what each may and may not, read off live processes,
and that a mesh of them is one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.deploy.containers import CHECKOUT, READ_ONLY, RECIPES, Machine, images
from tests.e2e.mesh import (
    AGENT_UID,
    CLUSTER_KEY_TEXT,
    HELPER_UID,
    INTERFACE,
    has_only_a_bare_link,
    managed_names,
    overlay_routes,
    peer_keys,
    pings_by_name,
    public_key,
)
from tests.lab import Lab, Node, Pinging, until

pytestmark = pytest.mark.timeout(900)  # the first of all may have to build the images

NET_ADMIN = 1 << 12
PYTHON = "/usr/local/lib/wesher/bin/python"
KEY = "/etc/wesher/cluster-key"
WIREGUARD = "--volume=/run/wireguard:/run/wireguard"
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")

TMPFS = [
    (path.stem.removeprefix("wesher-"), options[0])
    for path in sorted((RECIPES / "quadlet").glob("*.volume"))
    if (options := re.findall("(?m)^Options=(.*)", path.read_text()))
]
"""Volumes of the quadlets that are in memory, and their options."""

# Each is the netlink message or the call that `ip` and `wg` would make; "yes" where the kernel lets it.
TOUCH = """
import os, sys
from pyroute2 import IPRoute
def tried(act):
    try:
        act()
    except Exception as error:
        return os.strerror(getattr(error, "code", None) or error.errno)
    return "yes"
with IPRoute() as netlink:
    index = netlink.link_lookup(ifname="wgoverlay")[0]
    print(tried(lambda: netlink.link("set", index=index, mtu=1400)))
    print(tried(lambda: netlink.link("del", index=index)) if sys.argv[1:] else "-")
    print(tried(lambda: netlink.addr("add", index=index, address="10.9.9.9", prefixlen=32)))
    print(tried(lambda: netlink.route("add", dst="10.9.9.8/32", oif=index)))
    print(tried(lambda: open("/etc/hosts", "r+")))
"""


@pytest.fixture(scope="module")
def built() -> Iterator[None]:
    """The images of this checkout."""
    with images():
        yield


@pytest.fixture
def machines(built: None) -> Iterator[Callable[[int], list[Machine]]]:
    """Makes so many machines with an engine, which are gone after the test."""
    labs: list[Lab] = []

    def make(size: int) -> list[Machine]:
        labs.append(Lab(size).__enter__())
        return [Machine(node) for node in labs[-1].nodes]

    yield make
    for lab in labs:
        lab.close()


@dataclass(frozen=True)
class Form:
    """How a helper is run: by an engine that gives a capability to uid 0 only, or by podman."""

    user: str
    capabilities: dict[str, int]


DOCKERS = Form("0:0", {"CapInh": 0, "CapPrm": NET_ADMIN, "CapEff": NET_ADMIN, "CapBnd": NET_ADMIN, "CapAmb": 0})
PODMANS = Form(f"{HELPER_UID}:{HELPER_UID}", DOCKERS.capabilities)


def start_wireguard(machine: Machine, user: str) -> None:
    """This host's kernel may have no WireGuard; a helper takes a link that is there already."""
    options = ("--cap-add=NET_ADMIN", f"--user={user}", "--device=/dev/net/tun", WIREGUARD)
    machine.start("wireguard-go", "localhost/wesher-wireguard-go", *options)
    until(lambda: INTERFACE in machine.node.links(), 20, "wireguard-go has made its link")


def start_helper(machine: Machine, form: Form, *options: str) -> None:
    """With the machine's own hosts file, by a bind mount."""
    machine.node.run("chown", form.user, "/etc/hosts")
    volumes = (
        "--volume=line:/run/wesher-priv",
        "--volume=/etc/hosts:/etc/hosts",
        WIREGUARD,
    )
    named = (f"--user={form.user}", "--cap-add=NET_ADMIN", *volumes, *options)
    machine.start("helper", "localhost/wesher-helper", *named)
    until(
        lambda: machine.inside("helper", "test", "-S", "/run/wesher-priv/wgoverlay.sock").returncode == 0,
        20,
        "the helper listens",
    )


def start_agent(machine: Machine, *options: str, command: tuple[str, ...] = ()) -> None:
    """With the key in a secret, and nothing that it can write to but its state and its control socket."""
    machine.node.run("mkdir", "-p", "/etc/wesher")
    machine.node.write(KEY, CLUSTER_KEY_TEXT.encode() + b"\n")
    machine.node.run("chown", str(AGENT_UID), KEY)
    mounts = (f"--volume={KEY}:/run/secrets/cluster-key:ro", "--volume=line:/run/wesher-priv:ro")
    volumes = ("--volume=run:/run/wesher", "--volume=state:/var/lib/wesher", "--volume=/etc/hosts:/etc/hosts")
    environment = "--env=WESHER_CLUSTER_KEY_FILE=/run/secrets/cluster-key"
    machine.start("agent", "localhost/wesher-agent", *mounts, *volumes, environment, *options, command=command)


def start(machine: Machine, form: Form, *join: str) -> None:
    """All three, as sidecars of one network."""
    start_wireguard(machine, form.user)
    start_helper(machine, form)
    start_agent(machine, command=join)


def status(machine: Machine) -> dict[str, Any]:
    """`wesher status --json`, in the agent's container."""
    answer = json.loads(machine.inside("agent", "wesher", "status", "--json").stdout)
    assert isinstance(answer, dict)
    return answer


def states(machine: Machine) -> dict[str, str]:
    """Name to gossip state of the others."""
    return {peer["name"]: peer["state"] for peer in status(machine)["peers"]}


def await_mesh(*machines: Machine) -> None:
    """Until each pings each other by name."""
    for machine in machines:
        others = [other for other in machines if other is not machine]
        until(partial(knows, machine, others), 30, f"{machine.node.name} knows the others")
        for other in others:
            until(partial(pings_by_name, machine.node, other.node), 10, f"it pings {other.node.name}")


def knows(machine: Machine, others: list[Machine]) -> bool:
    """Whether its hosts file names exactly these."""
    return set(managed_names(machine.node)) == {other.node.name for other in others}


@pytest.fixture
def pair(machines: Callable[[int], list[Machine]]) -> tuple[Machine, Machine]:
    """A mesh of two, the helpers in one form each."""
    first, second = machines(2)
    start(first, DOCKERS)
    start(second, PODMANS, "--join", first.node.address)
    await_mesh(first, second)
    return first, second


def mounts(machine: Machine, name: str) -> dict[str, str]:
    """Where a container's first process could write, as far as mounts decide: mount point to file system."""
    found = {}
    for line in machine.read(f"/proc/{machine.pid(name)}/mountinfo").splitlines():
        fields, _, kind = line.partition(" - ")
        if "rw" in fields.split()[5].split(","):
            found[fields.split()[4]] = kind.split()[0]
    return found


def data_plane(machine: Machine) -> tuple[object, ...]:
    """What a restart of the agent must not change."""
    node: Node = machine.node
    return public_key(node), peer_keys(node), overlay_routes(node), managed_names(node)


def test_in_a_mesh_of_sidecars_the_agent_has_nothing_and_the_helper_one_capability(
    pair: tuple[Machine, Machine],
) -> None:
    """Read off the live processes; and what the agent tries with the kernel is refused, which lets the helper."""
    for machine, form in zip(pair, (DOCKERS, PODMANS), strict=True):
        agent, helper = machine.proc_status("agent"), machine.proc_status("helper")
        assert [str(AGENT_UID)] * 4 == agent["Uid"].split() == agent["Gid"].split()
        assert form.user.split(":")[:1] * 4 == helper["Uid"].split() == helper["Gid"].split()
        assert dict.fromkeys(SETS, 0) == {name: int(agent[name], 16) for name in SETS}
        assert form.capabilities == {name: int(helper[name], 16) for name in SETS}
        for process in (agent, helper):
            assert ("1", "2", "2") == (process["NoNewPrivs"], process["Seccomp"], process["Seccomp_filters"])

        assert {"/var/lib/wesher", "/run/wesher", "/etc/hosts"} == written_to(mounts(machine, "agent"))
        assert {"/run/wesher-priv", "/run/wireguard", "/etc/hosts"} == written_to(mounts(machine, "helper"))
        assert CLUSTER_KEY_TEXT not in machine.podman("inspect", "agent", "helper", "localhost/wesher-agent").stdout

        refused = machine.inside("agent", PYTHON, "-I", "-c", TOUCH, "also delete").stdout.split("\n")[:5]
        assert ["Operation not permitted"] * 4 + ["Permission denied"] == refused
        allowed = machine.inside("helper", PYTHON, "-I", "-c", TOUCH, user=form.user).stdout.split("\n")[:5]
        assert ["yes", "-", "yes", "yes", "yes"] == allowed
        until(partial(is_put_right, machine), 10, "it is put right")
    await_mesh(*pair)


def is_put_right(machine: Machine) -> bool:
    """Whether the link is as the helper made it."""
    return "mtu 1420 " in machine.node.run("ip", "link", "show", INTERFACE).stdout


def written_to(found: dict[str, str]) -> set[str]:
    """Mounts but those of the kernel's and the engine's own."""
    own = re.compile(r"/(proc|sys|dev)(/.*)?|/run/\.containerenv|/etc/(hostname|resolv\.conf)|/run/notify")
    return {place for place in found if not own.fullmatch(place)}


def test_a_new_agent_container_loses_no_packet(pair: tuple[Machine, Machine]) -> None:
    """Stopped, removed and started from the image again, and killed: key, peers, routes and names stay."""
    first, second = pair
    before = data_plane(first)
    pings = [
        Pinging(second.node.start_program, own_address(first)),
        Pinging(first.node.start_program, own_address(second)),
    ]

    first.podman("stop", "--time=30", "agent")
    first.podman("rm", "agent")
    start_agent(first)
    until(lambda: status(first)["cluster"]["alive"] == 2, 30, "the new agent is in the mesh")
    first.podman("kill", "--signal=KILL", "agent")
    first.podman("start", "agent")
    until(lambda: status(first)["cluster"]["alive"] == 2, 30, "and so is the next")
    pings[0].go_on()

    assert [set(), set()] == [pinging.losses() for pinging in pings]
    assert before == data_plane(first)


def own_address(machine: Machine) -> str:
    """Its overlay address."""
    return str(status(machine)["node"]["overlay_addr"])


def test_a_stop_of_both_halves_is_a_leave(pair: tuple[Machine, Machine]) -> None:
    """As an engine stops a pod: both at once. The hosts file is the operator's again."""
    first, second = pair
    before = first.node.hosts()
    operators = before[: before.index(managed_names(first.node)[second.node.name].encode())]

    first.podman("stop", "--time=30", "agent", "helper")

    until(lambda: states(second) == {first.node.name: "left"}, 5, "the other knows that it has left")
    assert (("exited 0",) * 2) == (first.state("agent"), first.state("helper"))
    assert has_only_a_bare_link(first.node)
    assert operators == first.node.hosts()


def test_names_come_back_when_the_engine_writes_its_hosts_file_anew(pair: tuple[Machine, Machine]) -> None:
    """As the kubelet does, in place, with each container of the pod that it starts."""
    first, second = pair
    operators = first.node.hosts().partition(b"# the operator's")[0]
    first.node.write_hosts(operators)
    assert {} == managed_names(first.node)
    until(lambda: set(managed_names(first.node)) == {second.node.name}, 35, "the helper has noticed")
    assert first.node.hosts().startswith(operators)
    assert "repaired: names gone" in first.said("helper")


def test_the_helper_serves_no_other_uid_of_another_container(machines: Callable[[int], list[Machine]]) -> None:
    """The kernel says who connects, across containers too."""
    (machine,) = machines(1)
    start_wireguard(machine, "0:0")
    start_helper(machine, DOCKERS)
    start_agent(
        machine,
        "--user=61003:61003",
        "--env=WESHER_STATE_DIR=/tmp/state",
        "--env=WESHER_RUNTIME_DIR=/tmp/run",
        "--tmpfs=/tmp:mode=1777",
        "--env=WESHER_CLUSTER_KEY_FILE=",
    )
    code, said = machine.ended("agent")
    assert code == 1
    assert "the helper hangs up: it is being stopped, or serves another uid than 61003" in said
    until(lambda: "uid 61003 is not the agent's: refused" in machine.said("helper"), 5, "it says whom it refused")


# --- as it is written -------------------------------------------------------------------------------------------------


def commands(number: int) -> list[str]:
    """Of the README's blocks about containers the one of that number, a command each, for root; images are built."""
    section = (CHECKOUT / "README.md").read_text().partition("\n## In containers\n")[2].partition("\n## ")[0]
    block = section.split("```\n")[2 * number + 1].replace("\\\n", "")
    found = [line.removeprefix("sudo ") for line in block.splitlines()]
    return [line for line in found if not line.startswith("podman build ")]


def test_the_commands_of_the_readme_make_a_mesh_and_take_it_down(machines: Callable[[int], list[Machine]]) -> None:
    """Word for word, but for an address and WireGuard in this kernel. Both halves at once are told to stop."""
    first, second = machines(2)
    for machine in (first, second):
        wireguard, (key, helper, agent) = commands(1)[0], commands(0)
        helper = helper.replace(" --volume ", " --volume wesher-wireguard:/run/wireguard --volume ", 1)
        typed = f"echo {CLUSTER_KEY_TEXT} | {key}"
        for command in (wireguard, typed, helper, agent.replace("192.0.2.11", first.node.address)):
            machine.node.run("sh", "-c", f"TMPDIR=/tmp; export TMPDIR; {command}", timeout=60)
    await_mesh(first, second)

    first.podman("stop", "wesher-helper", "wesher-agent")
    until(lambda: not managed_names(second.node), 5, "the other has dropped it at once")
    assert {} == managed_names(first.node)
    assert first.said("wesher-helper") == ""


def quadlet(name: str) -> list[str]:
    """A `.container` unit as podman's generator has it: options, image. It is not on every machine, so written anew."""
    options, image = [], ""
    for line in (
        (RECIPES / "quadlet" / name).read_text().partition("[Container]\n")[2].partition("[Service]")[0].split("\n")
    ):
        key, _, value = line.partition("=")
        match key:
            case "Image":
                image = value
            case "User":
                user = value
            case "Group":
                options.append(f"--user={user}:{value}")
            case "NoNewPrivileges":
                options.append("--security-opt=no-new-privileges")
            case "Volume":
                options.append(f"--volume={value.replace('.volume:', ':')}")
            case "Pod":
                options.append(f"--pod={value.removesuffix('.pod')}")
            case "ReadOnly" | "ReadOnlyTmpfs" | "StopTimeout" | "Secret" | "EnvironmentFile":
                dashed = re.sub("(?<=[a-z])(?=[A-Z])", "-", key).lower().replace("environment", "env")
                options.append(f"--{dashed}={value}")
            case "ContainerName" | "Environment" | "AddCapability" | "DropCapability":
                named = {"ContainerName": "name", "Environment": "env"}
                option = named.get(key, key.lower().replace("capability", ""))
                options.append(f"--{option if key in named else 'cap-' + option}={value}")
            case "Notify":
                pass  # there is no service manager on these machines
            case _:
                assert not key or key.startswith("#"), f"{key} is not known here"
    return [*options, image]


def test_the_quadlets_make_a_pod_whose_end_is_a_leave(machines: Callable[[int], list[Machine]]) -> None:
    """As podman's generator would start them, with the machine's network for one of the pod's own."""
    first, second = machines(2)
    for line in (
        f"volume create --opt=type=tmpfs --opt=device=tmpfs --opt=o={options} wesher-{name}" for name, options in TMPFS
    ):
        first.podman(*line.split())
    first.podman("volume", "create", "wesher-state")
    first.node.run("mkdir", "-p", "/etc/wesher")
    first.node.write("/etc/wesher/environment", b"WESHER_LOG_LEVEL=info\n")
    first.node.write(KEY, CLUSTER_KEY_TEXT.encode())
    first.node.run("chown", str(HELPER_UID), "/etc/hosts")
    first.podman("secret", "create", "wesher-cluster-key", KEY)
    named = (f"--hostname={first.node.name}", "--exit-policy=continue", "--volume=/etc/hosts:/etc/hosts")
    first.podman("pod", "create", "--name=wesher", "--network=host", *named)
    start_wireguard(first, PODMANS.user)
    first.podman("run", "-d", WIREGUARD, *quadlet("wesher-helper.container"))
    until(
        lambda: first.inside("wesher-helper", "test", "-S", "/run/wesher-priv/wgoverlay.sock").returncode == 0, 20, "up"
    )
    first.podman("run", "-d", *quadlet("wesher-agent.container"))
    start(second, DOCKERS, "--join", first.node.address)
    await_mesh(first, second)
    assert "every user can read the cluster key" not in first.said("wesher-agent")

    first.podman("pod", "stop", "wesher")
    until(lambda: states(second) == {first.node.name: "left"}, 5, "the other knows that it has left")
    assert ["exited 0"] * 2 == [first.state("wesher-helper"), first.state("wesher-agent")]


# --- in one container -------------------------------------------------------------------------------------------------

ROOTS = "CHOWN,DAC_OVERRIDE,FOWNER,NET_ADMIN,SETGID,SETPCAP,SETUID"


def start_single(machine: Machine, *join: str, capabilities: str = ROOTS, tun: bool = True) -> None:
    """The launcher's layout, by what root needs to begin with."""
    machine.node.run("mkdir", "-p", "/etc/wesher")
    machine.node.write(KEY, CLUSTER_KEY_TEXT.encode() + b"\n")
    device = ("--device=/dev/net/tun",) if tun else ()
    mounts = (f"--volume={KEY}:/run/secrets/cluster-key:ro", "--volume=/etc/hosts:/etc/hosts")
    volumes = ("--volume=state:/var/lib/wesher", "--volume=run:/run/wesher", WIREGUARD)
    options = (f"--cap-add={capabilities}", *device, *mounts, *volumes)
    key = ("--cluster-key-file", "/run/secrets/cluster-key")
    machine.start("wesher", "localhost/wesher-single", *options, command=(*key, *join))


def test_one_container_holds_the_launchers_layout(machines: Callable[[int], list[Machine]]) -> None:
    """Its root is given away at the start: each process is what it is without a container. A stop is a leave, and what
    was said last is still heard."""
    first, second = machines(2)
    start_single(first)
    start_single(second, "--join", first.node.address)
    await_mesh(first, second)

    found = {}
    for line in first.podman("top", "wesher", "huser", "args").stdout.splitlines()[1:]:
        uid, _, argv = line.partition(" ")
        found[next(word for word in ("runtime.agent", "logpipe", "wireguard-go", "privhelper") if word in argv)] = uid
    expected = {"runtime.agent": AGENT_UID, "logpipe": HELPER_UID, "wireguard-go": HELPER_UID, "privhelper": HELPER_UID}
    assert {name: str(uid) for name, uid in expected.items()} == found
    assert NET_ADMIN == int(first.proc_status("wesher")["CapEff"], 16)
    assert 0 == int(first.proc_status("wesher")["CapBnd"], 16)

    first.podman("stop", "--time=30", "wesher")
    until(lambda: f'"{first.node.name}"' in second.inside("wesher", "wesher", "members", "--json").stdout, 5, "told")
    assert first.state("wesher") == "exited 0"
    assert INTERFACE not in first.node.links()
    first.podman("start", "wesher")
    await_mesh(first, second)

    (wireguard,) = first.node.run("pgrep", "-x", "wireguard-go").stdout.split()
    first.node.run("kill", wireguard)
    assert first.ended("wesher", 15)[0] == 1
    assert "ERROR helper: wireguard-go is gone" in first.said("wesher")


# --- what is missing is named -----------------------------------------------------------------------------------------


def test_what_a_container_has_not_been_given_is_named(machines: Callable[[int], list[Machine]]) -> None:
    """By the start, in one line that says what to add."""
    (machine,) = machines(1)

    def refusal(name: str) -> str:
        code, said = machine.ended(name)
        machine.podman("rm", name)
        assert code == 1
        (line,) = said.splitlines()
        return line.removeprefix("wesher: error: ")

    machine.start("helper", "localhost/wesher-helper")
    assert refusal("helper").startswith("wesher-privhelper needs CAP_NET_ADMIN: ")
    for capabilities, lacking in (
        ("NET_ADMIN", "CAP_SETUID, CAP_SETGID, CAP_SETPCAP"),
        (ROOTS.replace("NET_ADMIN,", ""), "CAP_NET_ADMIN"),
    ):
        start_single(machine, capabilities=capabilities)
        assert refusal("wesher").startswith(f"root lacks {lacking} here, ")
    start_agent(machine)
    assert refusal("agent").startswith("no helper answers on /run/wesher-priv/wgoverlay.sock: ")
    start_single(machine, "--wireguard", "userspace", tun=False)
    assert refusal("wesher").startswith("/dev/net/tun cannot be opened (No such file or directory): ")
    machine.start(
        "helper",
        "localhost/wesher-helper",
        "--cap-add=NET_ADMIN",
        "--volume=line:/run/wesher-priv",
        command=("--wireguard", "userspace"),
    )
    assert refusal("helper").startswith("no wireguard-go serves wgoverlay; start it: ")

    start_wireguard(machine, "0:0")
    machine.start(
        "helper", "localhost/wesher-helper", "--cap-add=NET_ADMIN", "--volume=line:/run/wesher-priv", WIREGUARD
    )
    words = "/etc/hosts cannot be opened (Read-only file system); peers' names will not be written"
    until(lambda: words in machine.said("helper"), 10, "it says what it does without")


def test_a_check_in_each_container_names_what_its_half_lacks(machines: Callable[[int], list[Machine]]) -> None:
    """`wesher check` with the container's own options and mounts."""
    (machine,) = machines(1)
    machine.node.run("mkdir", "-p", "/etc/wesher")

    def findings(image: str, *options: str) -> dict[str, str]:
        entrypoint = ("--entrypoint=/usr/local/bin/wesher", "--rm", "--network=host", "--cap-drop=all", *READ_ONLY)
        said = machine.podman("run", *entrypoint, *options, image, "check", "--json", check=False).stdout
        return {
            finding["what"]: finding["text"] for finding in json.loads(said)["findings"] if finding["level"] != "ok"
        }

    agent = findings("localhost/wesher-agent", "--env=WESHER_CLUSTER_KEY_FILE=/run/secrets/cluster-key")
    assert agent["helper socket"].startswith("no helper answers on /run/wesher-priv/wgoverlay.sock: ")
    assert agent["cluster key"].startswith("cluster key file /run/secrets/cluster-key cannot be read: ")
    assert agent["runtime directory"] == "control socket in /run/wesher cannot be made: Read-only file system"
    helper = findings("localhost/wesher-helper")
    assert "CAP_NET_ADMIN" in helper["privilege"]
    assert helper["hosts file"].startswith("/etc/hosts cannot be opened (Read-only file system); ")
    single = findings("localhost/wesher-single", "--cap-add=NET_ADMIN")
    assert single["users"].startswith("root lacks CAP_SETUID, ")
    given = ("--cap-add=NET_ADMIN", "--volume=/etc/hosts:/etc/hosts", "--volume=line:/run/wesher-priv", WIREGUARD)
    start_wireguard(machine, "0:0")
    assert not {"privilege", "hosts file", "wireguard"} & set(findings("localhost/wesher-helper", *given))
