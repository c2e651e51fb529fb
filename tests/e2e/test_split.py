"""Helper and agent as services of their own: the helper keeps tunnels up while its agent comes and goes, and when the
helper goes, all goes."""

import importlib.metadata
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.layouts import LAUNCHED, SPLIT
from tests.e2e.mesh import (
    AGENT_UID,
    HELPER_UID,
    INTERFACE,
    await_mesh,
    has_only_a_bare_link,
    join_up,
    managed_names,
    overlay_routes,
    peer_keys,
    public_key,
    start,
    states,
    status,
)
from tests.e2e.split import (
    Split,
    as_user,
    helper_socket,
    start_agent,
    start_helper,
    start_split,
    start_wireguard,
)
from tests.lab import Daemon, Lab, Node, Pinging, bound, command_line, until
from tests.lab.lab import wesher_command

pytestmark = pytest.mark.root

BY_HAND = (Path(__file__).parent / "by_hand.py").read_text()
NOT_ACCEPTED = "02"  # SS_CONNECTING, in the column St of /proc/net/unix
ELSEWHERE = ("--runtime-dir", "/run/wesher/second", "--state-dir", "/var/lib/wesher/second", "--cluster-port", "7947")


@pytest.fixture
def node(make_lab: Callable[[int], Lab]) -> Node:
    """One machine."""
    return make_lab(1).nodes[0]


@pytest.fixture
def pair(make_lab: Callable[[int], Lab]) -> tuple[Split, Node]:
    """A split node that is in a mesh with a launched one: which layout a node has is its own affair."""
    first, second = make_lab(2).nodes
    running = start_split(first)
    start(second, "--join", first.address)
    await_mesh([first, second])
    return running, second


def data_plane(node: Node) -> tuple[object, ...]:
    """What a restart of the agent must not change."""
    return public_key(node), peer_keys(node), overlay_routes(node), node.hosts()


def one_line(daemon: Daemon, within: float = 10) -> tuple[int, str]:
    """Exit status and the one line of an agent that cannot run."""
    code = daemon.wait(within)
    (line,) = daemon.stderr_text().splitlines()
    return code, line


def test_no_packet_is_lost_while_the_agent_is_killed_stopped_upgraded_and_restarted(pair: tuple[Split, Node]) -> None:
    """A hundred packets a second through the tunnel; key, peers, routes and hosts file stay as they are."""
    split, second = pair
    first = split.node
    before = data_plane(first)
    pings = [
        Pinging(second.start_program, status(first)["node"]["overlay_addr"]),
        Pinging(first.start_program, managed_names(first)[second.name]),
    ]

    split.agent.signal(signal.SIGKILL)
    assert split.agent.wait(5) == -signal.SIGKILL
    pings[0].go_on()
    assert before == data_plane(first)
    agent = start_agent(first)
    until(lambda: status(first)["cluster"]["alive"] == 2, 10, "the new agent is in the mesh")
    pings[0].go_on()
    assert before == data_plane(first)

    agent.signal(signal.SIGTERM)
    assert agent.wait(10) == 0
    pings[0].go_on()
    assert before == data_plane(first)
    be_another_build(first)
    agent = start_agent(first)
    until(lambda: status(first)["cluster"]["alive"] == 2, 10, "the upgraded agent is in the mesh")
    assert status(first)["version"] == "99.0"
    pings[0].go_on()
    assert before == data_plane(first)
    assert states(second) == {first.name: "alive"}

    assert [set(), set()] == [pinging.losses() for pinging in pings]
    assert agent.stderr_text() == ""


def be_another_build(node: Node) -> None:
    """In this node, the installed package says that it is version 99.0."""
    found = importlib.metadata.distribution("wesher").locate_file(
        f"wesher-{importlib.metadata.version('wesher')}.dist-info/METADATA"
    )
    text = Path(str(found)).read_text().replace(f"\nVersion: {importlib.metadata.version('wesher')}", "\nVersion: 99.0")
    node.write("/run/METADATA", text.encode(), mode=0o644)
    node.run("mount", "--bind", "/run/METADATA", str(found))


def test_the_others_see_no_leave_when_the_agent_detaches(pair: tuple[Split, Node]) -> None:
    """It says nothing to anybody: the peer stays what it was, until it answers no more."""
    split, second = pair
    key = public_key(split.node)

    split.agent.signal(signal.SIGTERM)
    assert split.agent.wait(10) == 0

    until(lambda: states(second) == {split.node.name: "failed"}, 30, "the detached agent counts as failed")
    assert {key} == peer_keys(second)
    assert second.ping(split.node.name)
    start_agent(split.node)
    until(lambda: states(second) == {split.node.name: "alive"}, 20, "it is alive again")
    assert {key} == peer_keys(second)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_of_the_helper_is_a_leave(pair: tuple[Split, Node], number: int) -> None:
    """It tells the agent, which leaves the mesh; then nothing is left but wireguard-go's own link."""
    split, second = pair
    before = split.node.hosts()
    assert before != (clean := before[: before.index(managed_names(split.node)[second.name].encode())])

    split.signal(number)

    until(lambda: states(second) == {split.node.name: "left"}, 2, "the other node knows that it has left")
    until(lambda: not peer_keys(second) and not managed_names(second), 2, "and has dropped it")
    assert (split.agent.wait(10), split.helper.wait(10)) == (0, 0)
    assert has_only_a_bare_link(split.node)
    assert clean == split.node.hosts()
    assert split.wireguard.alive()
    assert split.stderr_text() == ""


def test_a_shutdown_that_signals_both_at_once_is_a_leave(pair: tuple[Split, Node]) -> None:
    """An agent that is signalled itself waits a second for the helper to say that it ends too."""
    split, second = pair

    split.agent.signal(signal.SIGTERM)
    split.helper.signal(signal.SIGTERM)

    assert (split.agent.wait(10), split.helper.wait(10)) == (0, 0)
    until(lambda: states(second) == {split.node.name: "left"}, 2, "the other node knows that it has left")
    assert has_only_a_bare_link(split.node)


def test_a_killed_helper_ends_the_agent_and_its_successor_adopts_nothing(pair: tuple[Split, Node]) -> None:
    """Nobody knows what happened to the key: a new one, and an empty set until an agent comes."""
    split, second = pair
    old = public_key(split.node)

    split.helper.signal(signal.SIGKILL)

    until(lambda: not split.agent.alive(), 1, "the agent ends")
    assert split.agent.wait(1) == 1
    assert "the helper has ended" in split.agent.stderr_text()
    start_helper(split.node)
    until(lambda: public_key(split.node) not in (old, "(none)"), 5, "the new key is set")
    assert set() == peer_keys(split.node) == overlay_routes(split.node)
    start_agent(split.node)
    until(lambda: {public_key(split.node)} == peer_keys(second), 10, "the other node has the new key")
    await_mesh([split.node, second])


def test_without_an_agent_everything_goes_after_the_linger_time(make_lab: Callable[[int], Lab]) -> None:
    """A helper whose agent is gone for good forwards for nobody; the next agent gets a new key."""
    first, second = make_lab(2).nodes
    before = first.hosts()
    linger = int(bound(3))
    split = start_split(first, "--linger", str(linger))
    start(second, "--join", first.address)
    await_mesh([first, second])
    old = public_key(first)

    split.agent.kill()

    assert old == public_key(first)
    until(lambda: has_only_a_bare_link(first), 5, f"everything is down after --linger {linger}")
    assert before == first.hosts()
    assert split.helper.alive()
    assert f"no agent came back within {linger} s" in split.helper.stderr_text()
    start_agent(first)
    until(lambda: status(first), 10, "a new agent is up")
    assert old != public_key(first) != "(none)"
    await_mesh([first, second])


def test_an_agent_that_comes_back_in_time_stops_the_linger_time(make_lab: Callable[[int], Lab]) -> None:
    """And the next one has all of it again."""
    node = make_lab(1).nodes[0]
    linger = int(bound(3))
    split = start_split(node, "--linger", str(linger))
    until(lambda: status(node), 10, "up")
    key = public_key(node)
    split.agent.kill()
    agent = start_agent(node)
    until(lambda: status(node), 10, "up again")
    until(lambda: status(node)["node"]["uptime_s"] > linger + 1, 10, "longer than the linger time")
    assert agent.alive()
    assert key == public_key(node)
    assert "taking everything down" not in split.helper.stderr_text()


@pytest.fixture
def waiting(node: Node) -> tuple[Split, Daemon]:
    """A split node, and a second agent that is connected and has to wait for the first one's end."""
    split = start_split(node)
    until(lambda: status(node), 10, "up")
    node.run("install", "-d", "-o", str(AGENT_UID), "/run/wesher/second", "/var/lib/wesher/second")
    second = start_agent(node, *ELSEWHERE)
    until(lambda: somebody_waits(split) and "wesher.runtime.agent" in command_line(second.pid), 10, "it is connected")
    return split, second


def somebody_waits(split: Split) -> bool:
    """Whether there is a connection to the helper's socket that it has not accepted."""
    lines = [line.split() for line in Path(f"/proc/{split.pid}/net/unix").read_text().splitlines()[1:]]
    return any(fields[-1] == helper_socket() and fields[5] == NOT_ACCEPTED for fields in lines)


def test_a_second_agent_waits_for_the_first_to_end(waiting: tuple[Split, Daemon]) -> None:
    """One at a time: it is served when the first is gone, and finds the tunnels."""
    split, second = waiting
    key = public_key(split.node)
    assert not (split.node.inside.root / "var/lib/wesher/second/wgoverlay.json").exists()

    split.agent.kill()

    until(lambda: is_up_elsewhere(split.node), 10, "the second agent is served")
    assert second.alive()
    assert key == public_key(split.node)


def is_up_elsewhere(node: Node) -> bool:
    """Whether the second agent answers."""
    return node.wesher("status", *ELSEWHERE[:2], check=False).returncode == 0


def test_an_agent_that_waits_for_its_turn_says_so(waiting: tuple[Split, Daemon]) -> None:
    """As one does whose helper cannot start, whose socket a service manager holds: where to look is in its log."""
    _, agent = waiting
    until(lambda: "the helper does not answer" in agent.stderr_text(), 10, "it says what it waits for")
    assert agent.alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_agent_that_waits_for_its_turn_can_be_stopped(waiting: tuple[Split, Daemon], number: int) -> None:
    """It has nothing to leave; the first one notices nothing."""
    split, second = waiting

    second.signal(number)

    assert second.wait(5) == 0
    assert split.alive()
    assert [line for line in second.stderr_text().splitlines() if "the helper does not answer" not in line] == []


def test_an_agent_of_another_uid_is_refused(node: Node) -> None:
    """Even one that can reach the socket: the kernel tells who it is. The agent's own uid is served after it."""
    start_wireguard(node)
    helper = start_helper(node)
    node.run("install", "-d", "-o", "61003", "/run/stranger", "/var/lib/stranger")
    node.run("chmod", "666", helper_socket())

    stranger = start_agent(node, "--runtime-dir", "/run/stranger", "--state-dir", "/var/lib/stranger", uid=61003)

    assert one_line(stranger) == (
        1,
        "wesher: error: the helper hangs up: it is being stopped, or serves another uid than 61003; its log says "
        "which, and its --agent-uid decides",
    )
    until(lambda: "uid 61003 is not the agent's: refused" in helper.stderr_text(), 5, "the helper says whom")
    start_agent(node)
    until(lambda: status(node), 10, "the agent is served")


def test_an_agent_without_a_helper_says_so_in_one_line(node: Node) -> None:
    """Exit 1, for the service manager to try again."""
    start_wireguard(node)

    code, line = one_line(start_agent(node))

    assert code == 1
    assert line == (
        f"wesher: error: no helper answers on {helper_socket()}: No such file or directory; "
        "start wesher-privhelper, or name its socket"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--overlay-net", "10.9.0.0/16"), "--overlay-net is 10.9.0.0/16 here and 10.0.0.0/8 at the helper"),
        (("--wireguard-port", "51821"), "--wireguard-port is 51821 here and 51820 at the helper"),
        (("--mtu", "1400"), "--mtu is 1400 here and 1420 at the helper"),
        (("--no-etc-hosts",), "--no-etc-hosts is True here and False at the helper"),
        (("--hosts-file", "/etc/hosts"), "--hosts-file is the helper's affair"),
        (("--wireguard", "userspace"), "--wireguard is the helper's affair"),
        (("--ip-as-name",), "--ip-as-name does nothing under --helper-socket"),
    ],
)
def test_options_that_contradict_the_helpers_are_wrong_usage(
    split_node: Split, arguments: tuple[str, ...], words: str
) -> None:
    """Exit 2 and one line, instead of a mesh that is another than the one asked for."""
    code, line = one_line(start_agent(split_node.node, *arguments))

    assert code == 2
    assert words in line


@pytest.fixture(scope="module")
def split_node() -> Iterator[Split]:
    """A wireguard-go and a helper, for several agents that end at once."""
    with Lab(1) as lab:
        node = lab.nodes[0]
        wireguard, helper = start_wireguard(node), start_helper(node)
        yield Split(node, wireguard, helper, helper)


def test_options_that_are_the_same_at_both_are_no_contradiction(node: Node) -> None:
    """One environment file may serve both programs."""
    same = ("--overlay-net", "10.9.0.0/16", "--wireguard-port", "51821", "--mtu", "1400")
    start_wireguard(node)
    start_helper(node, *same)

    start_agent(node, *same)

    until(lambda: status(node)["node"]["overlay_addr"].startswith("10.9."), 10, "up")
    assert status(node)["node"]["wireguard_port"] == 51821


def test_after_a_goodbye_the_next_agent_gets_a_new_link_and_key(node: Node) -> None:
    """BYE takes everything down, and the helper goes on listening."""
    start_wireguard(node)
    helper = start_helper(node)
    old = public_key(node)

    said = node.run(*as_user(AGENT_UID), sys.executable, "-c", BY_HAND, helper_socket(), "hello", "bye").stdout

    assert said.split() == ["PinnedPolicy", "Farewell"]
    assert has_only_a_bare_link(node)
    assert helper.alive()
    start_agent(node)
    until(lambda: status(node), 10, "an agent is up")
    assert old != public_key(node) != "(none)"


def test_a_violation_ends_the_helper_and_everything_with_it(pair: tuple[Split, Node]) -> None:
    """An agent that says hello twice is none of ours any more."""
    split, _ = pair
    split.agent.kill()

    split.node.run(*as_user(AGENT_UID), sys.executable, "-c", BY_HAND, helper_socket(), "hello", "hello", check=False)

    assert split.helper.wait(5) == 1
    assert "violation" in split.helper.stderr_text()
    assert has_only_a_bare_link(split.node)


def test_when_wireguard_go_is_gone_the_helper_ends_and_the_agent_with_it(pair: tuple[Split, Node]) -> None:
    """The service manager starts them again, wireguard-go first."""
    split, second = pair
    hosts = split.node.hosts()
    assert second.name.encode() in hosts

    split.wireguard.kill()

    assert split.helper.wait(5) == 1
    assert split.agent.wait(5) == 1
    assert "wireguard-go is gone" in split.helper.stderr_text()
    assert not managed_names(split.node)
    assert INTERFACE not in split.node.links()
    start_split(split.node)
    await_mesh([split.node, second])


def test_a_mesh_moves_from_one_layout_to_the_other_and_back(make_lab: Callable[[int], Lab]) -> None:
    """Node by node, with the state file it has."""
    nodes = make_lab(2).nodes
    running = join_up(LAUNCHED.start, nodes)[1]
    for layout in (SPLIT, LAUNCHED):
        running.signal(signal.SIGTERM)
        assert running.wait(10) == 0
        for daemon in nodes[1].daemons:
            if daemon.alive():
                daemon.kill()  # the administrator's wireguard-go
        running = layout.start(nodes[1])
        await_mesh(nodes)


def test_a_file_where_the_helper_was_to_listen_is_left_alone(make_lab: Callable[[int], Lab]) -> None:
    """Only a socket is replaced: a slip of the pen must cost nobody a file."""
    (node,) = make_lab(1).nodes
    start_wireguard(node)
    before = node.hosts()
    program = os.path.join(os.path.dirname(wesher_command()), "wesher-privhelper")
    helper = node.start_program(program, "--listen", "/etc/hosts", f"--user={AGENT_UID}:{HELPER_UID}")
    assert helper.wait(10) == 1
    assert "--listen /etc/hosts is something else than a socket" in helper.stderr_text()
    assert helper.stderr_text().count("\n") == 1
    assert before == node.hosts()
