"""An agent that lies, where WireGuard is the kernel's: rows of the tables of tests/hostile, of which CI has time for
one of each kind. The guest's kernel knows less of sandboxes than a newer one (no MDWE, of landlock neither truncate nor
TCP) and takes descriptors that are sent along."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.hostile import (
    test_descriptors,
    test_ends,
    test_header,
    test_later,
    test_names,
    test_order,
    test_peers,
    test_records,
    test_sets,
)
from tests.hostile.case import Case, put
from tests.hostile.policy import Row, judge
from tests.hostile.stage import Stage

pytestmark = pytest.mark.vm


def rows(test: Callable[..., None], *names: str, marks: Any = ()) -> list[Any]:
    """Of a test's table."""
    (table,) = (mark.args[1] for mark in test.pytestmark if mark.name == "parametrize")  # type: ignore[attr-defined]
    found = {row.name: row for row in table}
    return [pytest.param(found[name], id=name, marks=marks) for name in names]


def nightly(test: Callable[..., None], *names: str) -> list[Any]:
    """Of a test's table, for the whole batch."""
    return rows(test, *names, marks=pytest.mark.nightly)


CASES = (
    *rows(test_header.test_length, "one byte"),
    *rows(test_descriptors.test_what_comes_along, "253 of /dev/null"),
    *nightly(test_header.test_length, "the longest that a socket takes"),
    *nightly(test_header.test_length, "the empty packet is a goodbye without a word"),
    *nightly(test_header.test_version, "version 2", "version 2 as the first word is told so and let go"),
    *nightly(test_header.test_operation, "operation 8"),
    *nightly(test_header.test_flags, "flag 1 of SET_PEERS"),
    *nightly(test_header.test_count, "SET_PEERS of 513"),
    *nightly(test_header.test_number, "the same twice"),
    *nightly(test_order.test_out_of_order, "SET_PEERS when new", "WRITE_HOSTS when staging", "BYE when ended"),
    *nightly(test_records.test_peer, "a line of its own for the hosts file", "endpoint of family 2"),
    *nightly(test_sets.test_what_an_honest_agent_has_removed, "a key twice", "more records than membership has"),
    *nightly(test_ends.test_going, "hanging up when configured", "EOF when staging", "answers cannot be delivered"),
    *nightly(test_descriptors.test_what_comes_along, "a directory", "25,300 of them"),
)
POLICY = (
    *rows(test_peers.test_overlay_addresses, "this node's own"),
    *nightly(test_peers.test_outside_the_overlay, "127.0.0.1 as overlay address", "fd77::1 as overlay address"),
    *nightly(test_peers.test_overlay_addresses, "another name's", "the operator's gateway"),
    *nightly(test_peers.test_overlay_addresses, "behind the operator's gateway", "another instance's peer"),
    *nightly(test_peers.test_endpoints, "endpoint 127.0.0.1", "endpoint 192.168.77.1", "endpoint 192.168.77.255"),
    *nightly(test_peers.test_endpoints, "two that are each other's endpoint"),
    *nightly(test_peers.test_keys, "of low order, 0000"),
    *nightly(test_names.test_somebody_elses, "'db.internal'"),
)
CHANGES = (
    *rows(test_later.test_what_comes_later_counts_as_if_it_had_been_there, "an address with its network"),
    *nightly(test_later.test_what_comes_later_counts_as_if_it_had_been_there, "a gateway"),
)


@pytest.fixture(scope="module")
def machine() -> Iterator[Stage]:
    """One for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WESHER_BIN", "/usr/local/bin/wesher")
        with Stage(kernel=True) as made:
            yield made


@pytest.fixture
def stage(machine: Stage) -> Iterator[Stage]:
    """With nobody connected to its helper."""
    yield machine
    machine.hang_up()


def test_what_this_kernel_lacks_is_one_line_of_the_log(stage: Stage) -> None:
    """It is the newest layers of each; the older ones hold."""
    stage.serve()
    (line,) = [line for line in stage.said() if "sandbox" in line]
    assert line == (
        "WARNING helper: sandbox without MDWE (Linux 6.3), landlock for truncate(2) (Linux 6.2), "
        "landlock for TCP (Linux 6.7)"
    )


@pytest.mark.parametrize("case", CASES)
def test_a_lie(stage: Stage, case: Case) -> None:
    """As on userspace WireGuard."""
    put(stage, case)


@pytest.mark.parametrize("row", POLICY)
def test_a_member(stage: Stage, row: Row) -> None:
    """As on userspace WireGuard."""
    judge(stage, row)


@pytest.mark.parametrize("change", CHANGES)
def test_what_comes_later(stage: Stage, change: test_later.Change) -> None:
    """As on userspace WireGuard."""
    test_later.test_what_comes_later_counts_as_if_it_had_been_there(stage, change)


def test_records_in_force_keep_their_place(stage: Stage) -> None:
    """As on userspace WireGuard."""
    test_sets.test_records_in_force_keep_their_place_when_fakes_flood_in(stage)


@pytest.mark.nightly
def test_a_helper_that_is_killed_takes_nothing_of_the_operators_along(stage: Stage) -> None:
    """Its link stays here, with key and peers: the next one makes it anew."""
    test_ends.test_a_helper_that_is_killed_takes_nothing_of_the_operators_along(stage)
