"""`--sandbox` on real nodes: what each mode leaves on the processes, what a kernel that has less is answered, and that
a locked-down agent still does all it has to."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from privhelper import landlock
from tests.e2e.layouts import Layout, Running
from tests.e2e.mesh import KEY_FILE, USERS, managed_names, start, states, status
from tests.lab import Lab, Node, until
from tests.lab.lab import wesher_command

pytestmark = pytest.mark.root

WITHOUT_LANDLOCK = """
import errno, os, sys, pyseccomp
filters = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
filters.set_attr(pyseccomp.Attr.CTL_NNP, 0)
filters.add_rule(pyseccomp.ERRNO(errno.EPERM), "landlock_create_ruleset")
filters.load()
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Starts a program in the way of a container engine whose own filter does not know landlock."""


@pytest.fixture
def node(make_lab: Callable[[int], Lab]) -> Node:
    """One machine."""
    return make_lab(1).nodes[0]


def filters(pid: int) -> int:
    """How many seccomp filters hold the main thread of a process."""
    (line,) = [text for text in Path(f"/proc/{pid}/status").read_text().splitlines() if text.startswith("Seccomp_f")]
    return int(line.split()[1])


def in_a_container(*arguments: str) -> tuple[str, ...]:
    """The launcher's start, with landlock out of its reach."""
    python = os.path.join(os.path.dirname(wesher_command()), os.path.basename(sys.executable))
    options = ("--user", USERS, "--cluster-key-file", KEY_FILE)
    return (python, "-c", WITHOUT_LANDLOCK, wesher_command(), *options, *arguments)


@pytest.mark.parametrize("layout", ["launched", "split"], indirect=True)
@pytest.mark.parametrize(("mode", "expected"), [("strict", 1), ("available", 1), ("off", 0)])
def test_a_mode_is_what_both_halves_run_under(layout: Layout, node: Node, mode: str, expected: int) -> None:
    """One filter each; without a sandbox the log says so."""
    running: Running = layout.start(node, "--sandbox", mode)
    until(lambda: status(node), 10, "the node is up")
    assert [expected, expected] == [filters(running.pid), filters(running.agent_pid)]
    assert (expected == 0) == ("sandbox off" in running.stderr_text())


@pytest.mark.needs(landlock.abi() > 0, "landlock to be kept from")
def test_where_landlock_is_out_of_reach_the_start_is_refused_in_one_line(node: Node) -> None:
    """Before any process is split off."""
    node.write(KEY_FILE, b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
    refused = node.start_program(*in_a_container())
    assert refused.wait(15) == 1
    (line,) = refused.stderr_text().splitlines()
    assert line.startswith("wesher: error: this kernel has no landlock, or it is switched off here")
    assert line.endswith("give --sandbox available to run without it")


@pytest.mark.needs(landlock.abi() > 0, "landlock to be kept from")
def test_available_runs_without_landlock_and_names_it(node: Node) -> None:
    """seccomp is still there."""
    node.write(KEY_FILE, b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
    running = node.start_program(*in_a_container("--sandbox=available"))
    until(lambda: status(node), 10, "the node is up")
    assert filters(running.agent_pid) == 2  # the container's and ours
    until(lambda: "WARNING helper: sandbox without landlock" in running.stderr_text(), 5, "it is said")


def test_a_name_is_found_in_a_hosts_file_that_was_replaced_after_lockdown(make_lab: Callable[[int], Lab]) -> None:
    """An editor's rename makes another file; landlock knows files, so what is granted is the directory."""
    first, second = make_lab(2).nodes
    start(first)
    start(second, "--no-etc-hosts", "--join=later.example")
    until(lambda: status(second), 10, "the second is up")
    second.write("/etc/h", second.hosts() + f"{first.address} later.example\n".encode(), mode=0o644)
    second.run("mv", "/etc/h", "/etc/hosts")
    until(lambda: states(second) == {first.name: "alive"}, 30, "it has joined by a name that came later")
    until(lambda: second.name in managed_names(first), 10, "the first knows it")
