"""What clusters go through, each drawn from its seed: first faults, then calm, and a bound for the mesh to be whole.

Every bound is a sum of these, for the `mesh` profile (seconds):

    NEWS       30    what gossip misses, a full exchange tells: every node begins one every 15 s, its first within 30
    VERDICT    12    the slowest probe: two intervals of 0.7 s, eight times as long for who trusts itself least
    SUSPICION  14    the longest suspicion among up to 10 members: five intervals, four times as long without agreement
    WAIT       18    between two tries of who is not there; and shorter while the machine is young: see `young`
    STREAM     10    an exchange that nobody answers
    FORGET     74    the dead are told so for 60 s, and forgotten when the ring of up to 10 comes round, if not sooner
    SETS       11    the set under way and the next, two requests each of at most 1.5 s, and 5 s after a refusal
    GREETING    5    a helper that is slow to greet: three requests of at most 1.5 s
    MOVES      30    an address that is another's by right is given up; five moves of one life, each after a wait that
                     doubles, and each with a request to the helper and a write to the disk
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network
from typing import Final

from privhelper.addressing import Address, derive, is_edge
from tests.sim.cluster import Cluster, Fault
from tests.sim.helper import SLOWEST
from tests.sim.hostile import MOST_FAKES, Attacker
from tests.sim.machine import Machine
from tests.sim.underlay import TODAY
from wesher.mesh.addresses import FIRST_WAIT
from wesher.mesh.rejoin import LONGEST
from wesher.runtime.peers import RETRY_AFTER
from wesher.runtime.rotating import AT_MOST_EVERY
from wesher.swim.config import SwimConfig, suspicion_timeout
from wesher.swim.succession import PATIENCE

MESH: Final = SwimConfig.mesh()
NEWS: Final = 2 * MESH.push_pull_interval
VERDICT: Final = MESH.probe_interval * MESH.probe_overlap * MESH.awareness_max_multiplier
WAIT: Final = 1.5 * LONGEST
STREAM: Final = MESH.stream_timeout
FORGET: Final = MESH.gossip_to_the_dead + 2 * 10 * MESH.probe_interval
SETS: Final = 4 * SLOWEST + RETRY_AFTER
GREETING: Final = 3 * SLOWEST + 0.5
MOVES: Final = sum(1.5 * FIRST_WAIT * 2**move + SLOWEST + 0.5 for move in range(5))
STOP: Final = 20.0
"""A stop: leaving takes at most five seconds, and then a set may be under way, and BYE."""


def suspicion(members: int) -> float:
    """The longest suspicion among so many."""
    shortest = suspicion_timeout(MESH.suspicion_mult, members, MESH.probe_interval)
    return shortest * MESH.suspicion_max_timeout_mult


SUSPICION: Final = suspicion(10)


def young(age: float) -> float:
    """The longest wait of a machine that has tried to join for so long: each is at most about one and a half times as
    long as all before it together, as each step is half as long again as the last and jitter takes off at most half."""
    return min(WAIT, 1.0 + 1.5 * age)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`run` moves a cluster, and ends with it whole; its docstring has the bound."""

    name: str
    run: Callable[[Cluster], None]


SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(run: Callable[[Cluster], None]) -> Callable[[Cluster], None]:
    """Enter a scenario under its function's name."""
    SCENARIOS[run.__name__] = Scenario(run.__name__, run)
    return run


# --- what an operator does


def start_mesh(cluster: Cluster, size: int, *, split: bool | None = None) -> list[Machine]:
    """Machines n1 … that have all joined n1, and are a whole mesh."""
    machines = [cluster.add(f"n{number}", split=split) for number in range(1, size + 1)]
    machines[0].start()
    for machine in machines[1:]:
        machine.start(machines[0])
    cluster.tell(f"{size} machines start: {', '.join(f'{m.name} ({_layout(m)})' for m in machines)}")
    cluster.converge(machines, within=GREETING + young(GREETING) + NEWS + SETS)
    return machines


def _layout(machine: Machine) -> str:
    return "split" if machine.split else "launcher"


def restart(cluster: Cluster, machine: Machine, *contacts: Machine) -> None:
    """Restart a machine that runs: the agent alone where that can be, or all of it."""
    if machine.split and machine.helper is not None and machine.life is not None and cluster.rng.random() < 0.5:
        cluster.tell(f"{machine.name}: its agent is restarted")
        machine.stop_agent()
        cluster.until(lambda: machine.life is None, within=STOP, what=f"{machine.name} stops its agent")
    else:
        stop(cluster, machine)
    machine.start(*contacts)


def stop(cluster: Cluster, machine: Machine) -> None:
    """Stop a machine, which leaves the mesh."""
    cluster.tell(f"{machine.name} is stopped")
    machine.stop()
    cluster.until(
        lambda: machine.life is None and machine.helper is None, within=STOP, what=f"{machine.name} stops and leaves"
    )


def cut_and_heal(
    cluster: Cluster, machines: Sequence[Machine], alone: Sequence[Machine], cut: Callable[[], None]
) -> None:
    """Cut, wait until they have doubted, buried or forgotten each other, heal, and leave them alone.

    Probes that were under way may yet accuse. Who was buried is tried again by whoever buried him: WAIT, or where a try
    is stuck in the cut until it fails, STREAM, which is less. Then what both sides believe is told and refuted.
    """
    rng = cluster.rng
    seconds = rng.choice((rng.uniform(0.2, 4.0), rng.uniform(2.0, 40.0), rng.uniform(2.0, 40.0), rng.uniform(60, 300)))
    cluster.tell(f"for {seconds:.1f} s {', '.join(machine.name for machine in alone)} cut off")
    cut()
    cluster.run(seconds)
    cluster.calm()
    cluster.converge(machines, within=VERDICT + WAIT + SUSPICION + NEWS + SETS)


# --- starting


@scenario
def start_together(cluster: Cluster) -> None:
    """All machines of a new mesh start within two seconds of each other, in any order.

    Either all join the first, or everybody joins all. Whom they join may not be there yet: two seconds and a greeting
    later everybody is, and has to wait for his next try at the longest as long as somebody so young waits. Then the
    news of all has to spread, and the sets have to go to the helpers: 2 + GREETING + young(2 + GREETING) + NEWS + SETS.
    """
    rng = cluster.rng
    machines = [cluster.add(f"n{number}") for number in range(1, rng.randint(4, 7) + 1)]
    first, everybody = machines[0], rng.random() < 0.5
    cluster.tell(f"{len(machines)} machines start, and join {'each other' if everybody else first.name}")
    for machine in rng.sample(machines, len(machines)):
        contacts = machines if everybody else [first] if machine is not first else []
        at = rng.uniform(0, 2)
        cluster.tell(f"{machine.name} ({_layout(machine)}) starts after {at:.1f} s")
        cluster.underlay.after(at, partial(machine.start, *contacts))
    cluster.run(2)
    cluster.converge(machines, within=GREETING + young(2 + GREETING) + NEWS + SETS)


@scenario
def join_in_bad_weather(cluster: Cluster) -> None:
    """Machines join one by one while datagrams are lost, doubled and late, and then the weather clears.

    Streams get through, so nobody waits long to join; but suspicions may be under way when it clears, and news has
    been lost. In force within young(age of the last) + SUSPICION + NEWS + SETS of that.
    """
    rng = cluster.rng
    cluster.weather.latency = (0.005, rng.uniform(0.02, 0.2))
    cluster.weather.loss = rng.uniform(0, 0.3)
    cluster.weather.duplicate = rng.uniform(0, 0.3)
    cluster.weather.stray = rng.uniform(0, 0.2)
    cluster.tell(f"{cluster.weather}")
    machines: list[Machine] = []
    for number in range(1, rng.randint(4, 7) + 1):
        machine = cluster.add(f"n{number}")
        cluster.tell(f"{machine.name} ({_layout(machine)}) starts")
        machine.start(*rng.sample(machines, min(len(machines), rng.randint(1, 2))))
        machines.append(machine)
        cluster.run(rng.uniform(0.1, 3))
    cluster.run(rng.uniform(0, 15))
    cluster.calm()
    cluster.converge(machines, within=GREETING + young(GREETING) + SUSPICION + NEWS + SETS)


# --- cuts


@scenario
def half_is_cut_off(cluster: Cluster) -> None:
    """The mesh falls into two halves for up to 300 s: VERDICT + WAIT + SUSPICION + NEWS + SETS, as all cuts."""
    rng = cluster.rng
    machines = start_mesh(cluster, rng.randint(4, 7))
    alone = rng.sample(machines, len(machines) // 2)
    cut_and_heal(cluster, machines, alone, lambda: cluster.cut(*alone))


@scenario
def one_is_cut_off(cluster: Cluster) -> None:
    """One machine loses all others for up to 300 s."""
    machines = start_mesh(cluster, cluster.rng.randint(4, 7))
    alone = cluster.rng.choice(machines)
    cut_and_heal(cluster, machines, [alone], lambda: cluster.cut(alone))


@scenario
def one_way_is_cut(cluster: Cluster) -> None:
    """Some machines hear nothing, or are not heard, over UDP, TCP or both, for up to 300 s.

    Who hears nothing buries everybody, who is not heard is buried.
    """
    rng = cluster.rng
    machines = start_mesh(cluster, rng.randint(4, 7))
    alone = rng.sample(machines, rng.randint(1, 2))
    inward = rng.random() < 0.5
    kinds = rng.choice((("udp",), ("tcp",), ("udp", "tcp")))
    cluster.tell(f"cut: {kinds}, {'what comes in' if inward else 'what goes out'}")
    cut = partial(cluster.cut, *alone, inward=inward, outward=not inward, kinds=kinds)
    cut_and_heal(cluster, machines, alone, cut)


# --- machines that stand still


@scenario
def some_are_paused(cluster: Cluster) -> None:
    """Machines stand still, once or several times, from half a second to half a minute.

    The others may bury them; they themselves come back with every right to be there. Their first full exchange tells
    them that they are held for dead, they refute it, and that news spreads: the exchange within 30 s, the suspicion
    that it brings, and the news: 2 * NEWS + SUSPICION + SETS.
    """
    rng = cluster.rng
    machines = start_mesh(cluster, rng.randint(4, 7))
    for _ in range(rng.randint(1, 3)):
        machine = rng.choice(machines)
        seconds = rng.choice((rng.uniform(0.3, 4), rng.uniform(2, 30)))
        cluster.tell(f"{machine.name} stands still for {seconds:.1f} s")
        machine.pause(seconds)
        cluster.run(rng.uniform(0, 1.2) * seconds)
    last = max(machine.still_for for machine in machines)
    cluster.run(last)
    cluster.calm()
    cluster.converge(machines, within=2 * NEWS + SUSPICION + SETS)


@scenario
def some_are_slow(cluster: Cluster) -> None:
    """Machines take up to 80 ms for each input, more than they have time for, for up to half a minute.

    Buried or not, they know everybody, as after a pause: 2 * NEWS + SUSPICION + SETS.
    """
    rng = cluster.rng
    machines = start_mesh(cluster, rng.randint(4, 7))
    for machine in rng.sample(machines, rng.randint(1, 2)):
        effort = rng.uniform(0.001, 0.08)
        cluster.tell(f"{machine.name} takes {effort * 1000:.0f} ms for each input")
        machine.slow(effort)
    cluster.run(rng.uniform(5, 30))
    cluster.calm()
    cluster.converge(machines, within=2 * NEWS + SUSPICION + SETS)


@scenario
def clocks_are_set(cluster: Cluster) -> None:
    """Clocks jump by up to eleven hours, so that no two lie a day apart, or have never been set; machines restart.

    Whoever restarts begins above what it saved, and outbids what is remembered of it; whoever does not, notices
    nothing. A restart: GREETING + young(GREETING) + SUSPICION + NEWS + SETS.
    """
    rng = cluster.rng
    machines = start_mesh(cluster, rng.randint(4, 6))
    for _ in range(rng.randint(2, 4)):
        machine = rng.choice(machines)
        unset = rng.random() < 0.2
        target = -TODAY - int(cluster.now) if unset else rng.randint(-11 * 3600, 11 * 3600)
        cluster.tell(f"{machine.name}: its clock is {target} s ahead")
        machine.step_clock(target - machine.clock_ahead)
        if rng.random() < 0.7:
            restart(cluster, machine, *rng.sample(cluster.others(machine), 1))
        cluster.run(rng.uniform(0, 5))
        if unset:
            cluster.tell(f"{machine.name}: its clock is set")
            machine.step_clock(-machine.clock_ahead)
        cluster.run(rng.uniform(0, 5))
    cluster.calm()
    cluster.converge(machines, within=GREETING + young(GREETING) + SUSPICION + NEWS + SETS)


# --- machines that go and come


@scenario
def some_crash(cluster: Cluster) -> None:
    """Machines lose power and come back later with a new key, some with an empty disk; these are told whom to join.

    GREETING + young(GREETING) + STREAM, since a contact that was a moment ago may be gone, + SUSPICION + NEWS + SETS.
    """
    rng = cluster.rng
    machines = start_mesh(cluster, rng.randint(4, 7))
    crashed = rng.sample(machines, rng.randint(1, 2))
    for machine in crashed:
        cluster.tell(f"{machine.name} crashes")
        machine.crash()
        cluster.run(rng.uniform(0, 3))
    cluster.run(rng.choice((0, rng.uniform(0, 10), rng.uniform(10, 70))))
    there = [machine for machine in machines if machine not in crashed]
    for machine in crashed:
        empty = rng.random() < 0.5
        if empty:
            machine.disk.content = None
        cluster.tell(f"{machine.name} starts again{' with an empty disk' if empty else ''}")
        machine.start(*([rng.choice(there)] if empty or rng.random() < 0.5 else []))
        cluster.run(rng.uniform(0, 2))
    cluster.calm()
    cluster.converge(machines, within=GREETING + young(GREETING) + STREAM + SUSPICION + NEWS + SETS)


@scenario
def agents_are_restarted(cluster: Cluster) -> None:
    """Agents of the split layout are killed or stopped, and come back within 20 s: no tunnel may go meanwhile.

    Others may have buried them. GREETING + young(GREETING) + SUSPICION + NEWS + SETS.
    """
    rng = cluster.rng
    machines = start_mesh(cluster, rng.randint(4, 6), split=True)
    for machine in machines:
        cluster.promise(partial(_keeps_its_peers, machine, {peer.name for peer in _in_force(machine)}))
    for machine in rng.sample(machines, rng.randint(1, 3)):
        if rng.random() < 0.5:
            cluster.tell(f"{machine.name}: its agent is killed")
            machine.kill_agent()
        else:
            cluster.tell(f"{machine.name}: its agent is told to stop")
            machine.stop_agent()
            cluster.until(
                lambda machine=machine: machine.life is None, within=STOP, what=f"{machine.name}'s agent stops"
            )
        cluster.run(rng.uniform(0, 20))
        cluster.tell(f"{machine.name}: its agent is back")
        machine.start(*rng.sample(cluster.others(machine), rng.randint(0, 1)))
        cluster.run(rng.uniform(0, 3))
    cluster.converge(machines, within=GREETING + young(GREETING) + SUSPICION + NEWS + SETS)


def _in_force(machine: Machine) -> list:
    assert machine.helper is not None
    return machine.helper.tunnels.in_force


def _keeps_its_peers(machine: Machine, names: set[str]) -> Iterator[str]:
    if machine.helper is not None and not names <= (there := {peer.name for peer in _in_force(machine)}):
        yield f"{machine.name} has lost the tunnels to {sorted(names - there)}"


@scenario
def all_crash_at_once(cluster: Cluster) -> None:
    """The power fails everywhere; twelve machines come back within five seconds, and remember each other.

    Who is there last finds all others. 5 + GREETING + young(5 + GREETING), and with twelve the longest suspicion is a
    little longer: + suspicion(12) + NEWS + SETS.
    """
    rng = cluster.rng
    machines = start_mesh(cluster, 12)
    cluster.run(rng.uniform(2, 5))
    cluster.tell("the power fails")
    for machine in machines:
        machine.crash()
    cluster.run(rng.uniform(1, 5))
    for machine in machines:
        at = rng.uniform(0, 5)
        cluster.tell(f"{machine.name} comes back after {at:.1f} s")
        cluster.underlay.after(at, machine.start)
    cluster.run(5)
    cluster.converge(machines, within=GREETING + young(5 + GREETING) + suspicion(12) + NEWS + SETS)


@scenario
def one_moves(cluster: Cluster) -> None:
    """A machine leaves or crashes, and comes back under its name at another address, with its disk or an empty one.

    Its name is given to the new address after a failed probe of the old one; where that is not known to have left, only
    once it is dead: the probe that finds it silent and the suspicion. GREETING + young(GREETING) + STREAM, since it may
    look at its own old address first, + 2 * VERDICT + SUSPICION + NEWS + SETS.
    """
    rng = cluster.rng
    machines = start_mesh(cluster, rng.randint(4, 7))
    machine = rng.choice(machines)
    crashes = rng.random() < 0.5
    if crashes:
        cluster.tell(f"{machine.name} crashes")
        machine.crash()
    else:
        stop(cluster, machine)
    cluster.run(rng.choice((0, rng.uniform(0, 2), rng.uniform(0, 30), rng.uniform(60, 120))))
    if not crashes and rng.random() < 0.3:
        cluster.converge(cluster.others(machine), within=NEWS + SETS, gone=[machine.name])
    if rng.random() < 0.3:
        cluster.tell(f"{machine.name} has an empty disk")
        machine.disk.content = None
    machine.move(cluster.place())
    cluster.tell(f"{machine.name} comes back at {machine.at}")
    machine.start(rng.choice(cluster.others(machine)))
    cluster.converge(machines, within=GREETING + young(GREETING) + STREAM + 2 * VERDICT + SUSPICION + NEWS + SETS)


@scenario
def some_are_forgotten(cluster: Cluster) -> None:
    """Machines crash, leave or are cut off; one or two operators have them forgotten while another machine is away, and
    some come back, at any moment before or after it. Who is there in the end is a member like others, who lived behind
    the cut too, by what it remembers; of who is not there nothing is left with anybody, by news and by full exchanges.

    As after a crash or a cut: GREETING + young(GREETING) + VERDICT + WAIT + STREAM + SUSPICION + NEWS + SETS.
    """
    rng = cluster.rng
    machines = start_mesh(cluster, rng.randint(5, 7))
    *lost, away, first, second = rng.sample(machines, rng.randint(4, 5))
    cut_off = rng.random() < 0.3
    if cut_off:
        cluster.tell(f"{', '.join(machine.name for machine in lost)} cut off")
        cluster.cut(*lost)
    else:
        for machine in lost:
            if rng.random() < 0.5:
                cluster.tell(f"{machine.name} crashes")
                machine.crash()
            else:
                stop(cluster, machine)
    if rng.random() < 0.7:
        cluster.tell(f"{away.name} crashes")
        away.crash()
    cluster.run(rng.choice((rng.uniform(0, 20), VERDICT + SUSPICION, rng.uniform(60, 200))))
    back: list[Machine] = []
    for operator in rng.sample((first, second), rng.randint(1, 2)):
        for machine in lost:
            cluster.tell(f"{operator.name}: forget {machine.name}")
            operator.forget(machine.name)
            if not cut_off and machine not in back and rng.random() < 0.4:
                cluster.run(rng.choice((0.0, rng.uniform(0, 1), rng.uniform(0, 10))))
                cluster.tell(f"{machine.name} starts again")
                machine.start()
                back.append(machine)
        cluster.run(rng.choice((0.0, rng.uniform(0, 3))))
    if away.life is None:
        away.start()
    gone = [] if cut_off else [machine for machine in lost if machine not in back]
    there = [machine for machine in machines if machine not in gone]
    bound = GREETING + young(GREETING) + VERDICT + WAIT + STREAM + SUSPICION + NEWS + SETS
    cluster.calm()
    cluster.converge(there, within=bound)
    for machine in gone:  # an operator who was too early was told that it is alive
        first.forget(machine.name)
    names = {machine.name for machine in gone}
    cluster.converge(there, within=NEWS + SETS, gone=names)
    for machine in there:
        if strays := machine.remembers & names:
            raise Fault(f"{machine.name} still remembers {sorted(strays)}")


# --- addresses


@scenario
def names_collide(cluster: Cluster) -> None:
    """In a net of fourteen addresses two or three names meet on one, and the others on theirs soon enough; machines
    start, restart with their disk or an empty one, and are cut off from each other. In the end everybody has an address
    of its own, and all agree whose is whose.

    That needs the mesh to be whole first, as after the worst of it, a crash or a cut: GREETING + young(GREETING) +
    VERDICT + WAIT + STREAM + SUSPICION + NEWS. Then whoever has lost its address moves: MOVES, and the last one's news
    has to spread: NEWS + SETS.
    """
    rng = cluster.rng
    cluster.overlay_net = IPv4Network("10.77.0.0/28")
    names = _meeting_names(cluster, rng.randint(2, 3), rng.randint(1, 4))
    machines = [cluster.add(name) for name in names]
    rivals = machines[: len(machines) // 2 + 1]
    cluster.tell(f"of {', '.join(names)} the first meet on one address")
    if rng.random() < 0.5:
        alone = rng.sample(machines, len(machines) // 2)
        cluster.tell(f"{', '.join(machine.name for machine in alone)} cut off")
        cluster.cut(*alone)
    for machine in rng.sample(machines, len(machines)):
        machine.start(*cluster.others(machine))
        cluster.run(rng.choice((0, rng.uniform(0, 2), rng.uniform(0, 10))))
    bound = GREETING + young(GREETING) + VERDICT + WAIT + STREAM + SUSPICION + 2 * NEWS + MOVES + SETS
    cluster.run(rng.uniform(0, 20))
    cluster.calm()
    cluster.converge(machines, within=bound)
    for _ in range(rng.randint(1, 3)):
        machine = rng.choice(rivals)
        match rng.choice(("crash", "empty", "restart", "cut")):
            case "restart":
                restart(cluster, machine, *cluster.others(machine))
            case "cut":
                cluster.tell(f"{machine.name} is cut off")
                cluster.cut(machine)
                cluster.run(rng.choice((rng.uniform(1, 20), rng.uniform(60, 200))))
                cluster.calm()
            case how:
                cluster.tell(f"{machine.name} crashes{' and forgets' if how == 'empty' else ''}")
                machine.crash()
                cluster.run(rng.choice((0, rng.uniform(0, 20), rng.uniform(60, 200))))
                if how == "empty":
                    machine.disk.content = None
                machine.start(*cluster.others(machine))
        cluster.run(rng.choice((0, rng.uniform(0, 5))))
    cluster.calm()
    cluster.converge(machines, within=bound)


def _meeting_names(cluster: Cluster, meeting: int, others: int) -> list[str]:
    """So many names that meet on one address of the net which they can have, and others."""
    net = cluster.overlay_net
    by_address: dict[Address, list[str]] = {}
    for number in range(1000):
        name = f"m{cluster.rng.randrange(10_000)}-{number}"
        address = derive(net, name.encode(), 0)
        found = by_address.setdefault(address, [])
        found.append(name)
        if len(found) == meeting and not is_edge(net, address):
            return [*found, *(f"n{number}" for number in range(others))]
    raise AssertionError("a thousand names never met in a net of sixteen addresses")


# --- keys


@scenario
def keys_change(cluster: Cluster) -> None:
    """One or two operators change the cluster key, while machines crash, restart with their disk or an empty one, are
    cut off in two halves, have a full disk. Then all is calm, somebody gives the command once more, and everybody seals
    with one key; the one before is dropped when its short grace is over, and nobody is lost by that.

    Whole as after a crash or a cut, but for what is tried under a key that the other does not have: it is tried under
    the next at once. GREETING + young(GREETING) + VERDICT + WAIT + STREAM + SUSPICION + NEWS + SETS. Then the new key
    has to reach everybody, and that it has, and that it is used: 3 * NEWS.
    """
    rng = cluster.rng
    machines = start_mesh(cluster, rng.randint(3, 7))
    bound = GREETING + young(GREETING) + VERDICT + WAIT + STREAM + SUSPICION + NEWS + SETS
    commands = rng.randint(0, 2)
    for _ in range(rng.randint(1, 4)):
        machine = rng.choice(machines)
        if commands and rng.random() < 0.6:
            commands -= 1
            cluster.tell(f"{machine.name}: key rotate")
            machine.rotate(3600)
            cluster.run(rng.choice((0.0, rng.uniform(0, 1), rng.uniform(0, 10))))
        match rng.choice(("crash", "empty", "restart", "cut", "full", "nothing")):
            case "restart":
                restart(cluster, machine, *cluster.others(machine))
            case "cut":
                alone = rng.sample(machines, len(machines) // 2)
                cluster.tell(f"{', '.join(other.name for other in alone)} cut off")
                cluster.cut(*alone)
            case "full":
                cluster.tell(f"{machine.name}: its disk is full")
                machine.disk.is_full = True
            case "crash" | "empty" as how:
                cluster.tell(f"{machine.name} crashes{' and forgets' if how == 'empty' else ''}")
                machine.crash()
                cluster.run(rng.choice((0, rng.uniform(0, 20))))
                if how == "empty":
                    machine.disk.content = None
                machine.start(*cluster.others(machine))
        cluster.run(rng.choice((rng.uniform(0, 1), rng.uniform(0, 20), rng.uniform(60, 200))))
    cluster.calm()
    cluster.converge(machines, within=bound, lasts=0)  # a command may yet go on
    last = rng.choice(machines)
    before = _primaries(machines)
    cluster.tell(f"{last.name}: key rotate, the last time")
    last.rotate(60)
    cluster.until(
        lambda: _primaries(machines).isdisjoint(before), within=3 * NEWS, what="everybody seals with a new key"
    )
    cluster.run(2 * AT_MOST_EVERY)  # what is held is announced once it is on the disk, at most so much later
    cluster.converge(machines, within=NEWS + SETS)
    assert last.keys is not None
    if last.keys.primary.grace > 60:  # it was given out before, with a grace that was long
        return
    cluster.run(62)
    for machine in machines:
        if machine.keys is None or not before.isdisjoint(machine.keys.ring):
            raise Fault(f"{machine.name} still has the key of before")
    cluster.converge(machines, within=NEWS)


def _primaries(machines: Sequence[Machine]) -> set[bytes]:
    return {machine.keys.primary.key for machine in machines if machine.keys is not None}


# --- below and beside the mesh


@scenario
def kernels_refuse(cluster: Cluster) -> None:
    """Members come and go, kernels refuse in the middle of a change, disks are full, and others meddle with links.

    The helper looks for itself at the latest after LONGEST_PAUSE, 60 s, where it has found something several times;
    the rest is a crash's: 60 + GREETING + young(GREETING) + SUSPICION + NEWS + SETS.
    """
    rng = cluster.rng
    machines = start_mesh(cluster, rng.randint(4, 6))
    away: Machine | None = None
    for _ in range(rng.randint(4, 8)):
        machine = rng.choice(machines)
        match rng.choice(("refuse", "disk", "meddle", "go")):
            case "refuse" if machine.helper is not None and machine.helper.is_configured:
                steps, seconds = rng.randint(0, 4), rng.uniform(0.5, 8)
                cluster.tell(f"{machine.name}: after {steps} steps its kernel refuses for {seconds:.1f} s")
                machine.helper.refuse(steps, seconds)
            case "disk":
                machine.disk.is_full = not machine.disk.is_full
                cluster.tell(f"{machine.name}: its disk is {'full' if machine.disk.is_full else 'free again'}")
            case "meddle" if machine.helper is not None:
                cluster.tell(f"{machine.name}: somebody {machine.helper.meddle()}")
            case "go" if away is None:
                away = machine
                cluster.tell(f"{away.name} crashes")
                away.crash()
            case "go" if away is not None:
                cluster.tell(f"{away.name} starts")
                away.start(rng.choice(cluster.others(away)))
                away = None
            case _:
                pass
        cluster.run(rng.uniform(0.1, 6))
    if away is not None:
        away.start(rng.choice(cluster.others(away)))
    cluster.calm()
    cluster.run(8)
    cluster.converge(machines, within=60 + GREETING + young(GREETING) + SUSPICION + NEWS + SETS)


@scenario
def one_is_hostile(cluster: Cluster) -> None:
    """A member with the key forges, floods and fuzzes for up to 20 s, bears made-up members, and is then thrown out.

    Safety among the honest holds throughout. Afterwards the made-up members have to die at everybody: each is probed
    by somebody within two rounds of the ring, that probe may be a slow one, and its suspicion is that of a mesh of all
    of them. Honest members that were driven to the edge of what clocks explain, or are held for dead somewhere, are
    heard again with the next full exchanges: two rounds of the ring + VERDICT + suspicion(all) + 2 * NEWS + SETS. This
    counts from when no made-up member can come back under a name it left: PATIENCE for its claim, VERDICT to grant it,
    and SUSPICION for what was forged last. A moment later the form of the metadata may change, since the last made-up
    Go member has died a minute ago: nothing has to last.

    Leaves of everybody, forged at everybody at once, are no worse: who is said to have left is told so for a while, and
    refutes.
    """
    rng = cluster.rng
    machines = start_mesh(cluster, rng.randint(4, 6))
    attacker = Attacker(cluster, machines)
    attacker.begin(pace=(0.02, rng.choice((0.1, 0.5, 1.0))))
    cluster.run(rng.uniform(3, 20))
    attacker.expel()
    cluster.tell("the attacker is thrown out")
    everybody = len(machines) + 2 * MOST_FAKES
    rings = 2 * everybody * MESH.probe_interval
    cluster.calm()
    cluster.run(PATIENCE + VERDICT + SUSPICION)
    cluster.converge(machines, within=rings + VERDICT + suspicion(everybody) + 2 * NEWS + SETS, lasts=0)


@scenario
def chaos(cluster: Cluster) -> None:
    """Everything at once for a while, then calm; who does not run is started, and that is all that is done.

    GREETING for who is started, and VERDICT for probes under way; WAIT and STREAM until those are found who are held
    for dead; what is told is refuted in SUSPICION + NEWS; SETS, and 60 for a helper whose kernel has refused several
    times.
    """
    rng = cluster.rng
    machines = start_mesh(cluster, rng.randint(4, 7))
    until = cluster.now + rng.uniform(15, 40)
    while cluster.now < until:
        _trouble(cluster, machines)
        cluster.run(rng.uniform(0.2, 4))
    _calm_and_start(cluster, machines)
    cluster.converge(machines, within=GREETING + VERDICT + WAIT + STREAM + SUSPICION + NEWS + SETS + 60)


@scenario
def everything(cluster: Cluster) -> None:
    """Trouble of every kind, in a net of fourteen addresses where names meet, with machines that come back elsewhere
    and operators who change the cluster key, all of it mixed; then calm, and who does not run is started.

    As after `chaos`, but a name may be held by one that has to die first, which was told so in the cut's last moment:
    GREETING + 2 * VERDICT + WAIT + STREAM + 2 * SUSPICION + NEWS. Then whoever has lost its address moves, MOVES, and
    that has to spread: NEWS + SETS, and 60 for a helper whose kernel has refused several times. A last change of the
    key reaches everybody as in `keys_change`, and nobody is lost by it.
    """
    rng = cluster.rng
    cluster.overlay_net = IPv4Network("10.77.0.0/28")
    machines = [cluster.add(name) for name in _meeting_names(cluster, rng.randint(2, 3), rng.randint(2, 4))]
    for machine in machines:
        machine.start(*cluster.others(machine))
    cluster.converge(machines, within=GREETING + young(GREETING) + STREAM + SUSPICION + 2 * NEWS + MOVES + SETS)
    commands = rng.randint(0, 2)
    until = cluster.now + rng.uniform(20, 60)
    while cluster.now < until:
        machine = rng.choice(machines)
        match rng.choice(("move", "key", "trouble", "trouble", "trouble")):
            case "move":
                cluster.tell(f"{machine.name} crashes, and comes back elsewhere")
                machine.crash()
                cluster.run(rng.uniform(1, 4))  # no machine starts twice in one second, by which incarnations count
                machine.move(cluster.place())
                machine.start(*rng.sample(cluster.others(machine), rng.randint(0, 2)))
            case "key" if commands:
                commands -= 1
                cluster.tell(f"{machine.name}: key rotate")
                machine.rotate(3600)
            case _:
                _trouble(cluster, machines)
        cluster.run(rng.uniform(0.2, 4))
    _calm_and_start(cluster, machines)
    found = GREETING + 2 * VERDICT + WAIT + STREAM + 2 * SUSPICION + NEWS
    cluster.converge(machines, within=found + MOVES + NEWS + SETS + 60, lasts=0)  # a command may yet go on
    before = _primaries(machines)
    last = rng.choice(machines)
    cluster.tell(f"{last.name}: key rotate, the last time")
    last.rotate(3600)
    cluster.until(
        lambda: _primaries(machines).isdisjoint(before), within=3 * NEWS, what="everybody seals with a new key"
    )
    cluster.run(2 * AT_MOST_EVERY)  # what is held is announced once it is on the disk, at most so much later
    cluster.converge(machines, within=NEWS + SETS)


def _calm_and_start(cluster: Cluster, machines: Sequence[Machine]) -> None:
    """All is over: who does not run is started, and that is all that is done."""
    cluster.calm()
    cluster.run(max(8.0, *(machine.still_for for machine in machines)))
    for machine in machines:
        if machine.life is None:
            cluster.tell(f"{machine.name} is started")
            machine.start(*cluster.others(machine))


def _trouble(cluster: Cluster, machines: Sequence[Machine]) -> None:
    rng = cluster.rng
    machine = rng.choice(machines)
    match rng.choice(
        ("crash", "kill", "signal", "stop", "start", "start", "pause", "slow", "cut", "weather", "refuse", "clock")
    ):
        case "crash" if machine.life is not None:
            cluster.tell(f"{machine.name} crashes")
            machine.crash()
        case "kill" if machine.life is not None:
            whom = rng.choice(("agent", "helper"))
            cluster.tell(f"{machine.name}: its {whom} is killed")
            machine.kill_agent() if whom == "agent" else machine.kill_helper()
        case "signal" if machine.life is not None:
            cluster.tell(f"{machine.name}: its agent is told to stop")
            machine.stop_agent()
        case "stop" if machine.helper is not None:
            cluster.tell(f"{machine.name} is told to stop")
            machine.stop()
        case "start" if machine.life is None:
            cluster.tell(f"{machine.name} is started")
            machine.start(*rng.sample(cluster.others(machine), rng.randint(0, 2)))
        case "pause":
            seconds = rng.uniform(0.2, 8)
            cluster.tell(f"{machine.name} stands still for {seconds:.1f} s")
            machine.pause(seconds)
        case "slow":
            effort = rng.choice((0.0, rng.uniform(0.001, 0.05)))
            cluster.tell(f"{machine.name} takes {effort * 1000:.0f} ms for each input")
            machine.slow(effort)
        case "cut":
            alone = rng.sample(machines, rng.randint(0, len(machines) // 2))
            cluster.tell(f"cut off: {[machine.name for machine in alone]}")
            cluster.cut(*alone, inward=rng.random() < 0.8)
        case "weather":
            cluster.weather.loss, cluster.weather.duplicate = rng.uniform(0, 0.3), rng.uniform(0, 0.3)
            cluster.weather.stray = rng.uniform(0, 0.2)
            cluster.tell(f"{cluster.weather.loss:.2f} of datagrams are lost")
        case "refuse" if machine.helper is not None and machine.helper.is_configured:
            cluster.tell(f"{machine.name}: its kernel refuses")
            machine.helper.refuse(rng.randint(0, 3), rng.uniform(0.5, 5))
        case "clock":
            ahead = rng.randint(-3600, 3600)
            cluster.tell(f"{machine.name}: its clock is {ahead} s ahead")
            machine.step_clock(ahead - machine.clock_ahead)
        case _:
            pass
