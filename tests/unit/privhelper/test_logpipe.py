"""What a network-facing process writes reaches the operator's terminal as text, whatever it was."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privhelper import leash
from privhelper.logpipe import ROUTES, printable
from privhelper.spawn import ENVIRONMENT, spawn
from tests.lab.until import until


@given(st.binary())
def test_nothing_but_printable_ascii_tab_and_line_feed_comes_out(data: bytes) -> None:
    """No escape, no carriage return that overwrites, no eighth bit that an old terminal takes for a control."""
    assert all(byte in b"\n\t" or 0x20 <= byte <= 0x7E for byte in printable(data))


def test_text_stays_as_it_is_and_the_rest_is_spelled_out() -> None:
    """The operator still sees what was tried."""
    assert printable(b"a line\n\tand \x1b]0;one\x07 \xff\r") == b"a line\n\tand \\x1b]0;one\\x07 \\xff\\x0d"


# --- as a process -------------------------------------------------------------------------------------------------


class Piped:
    """logpipe as its own process, the writing ends of what it reads, and a process on its leash."""

    def __init__(self, *, tied: bool = True) -> None:
        pipes = {fd: os.pipe() for fd in ROUTES}
        self.ends = {fd: writer for fd, (_, writer) in pipes.items()}
        self.out = {fd: os.memfd_create(f"output {fd}") for fd in (1, 2)}
        collar, hand = os.pipe()
        self.tied = subprocess.Popen(["sleep", "1000"])
        if tied:
            leash.tie(collar, self.tied.pid)
        null = os.open(os.devnull, os.O_RDWR)
        fds = [null, self.out[1], self.out[2], *(reader for reader, _ in pipes.values()), collar, hand]
        argv = [sys.executable, "-I", "-m", "privhelper.logpipe", "off"]
        self.pid = spawn(argv, ENVIRONMENT, fds, lambda: None)
        for fd in (null, *(reader for reader, _ in pipes.values()), collar, hand):
            os.close(fd)

    def said(self, fd: int) -> bytes:
        """What has come out."""
        return os.pread(self.out[fd], 65536, 0)

    def hang_up(self, *sources: int) -> None:
        """No more writer."""
        for source in sources:
            os.close(self.ends.pop(source))

    def close(self) -> None:
        self.tied.kill()
        self.tied.wait()
        self.hang_up(*list(self.ends))
        os.waitpid(self.pid, 0)


@pytest.fixture
def piped() -> Iterator[Piped]:
    """Its end is awaited."""
    with closing(Piped()) as found:
        yield found


def test_what_comes_in_goes_where_it_belongs(piped: Piped) -> None:
    """The agent's standard output to standard output, all errors to standard error."""
    for source in ROUTES:
        os.write(piped.ends[source], b"from %d\n" % source)
    until(lambda: piped.said(1) == b"from 3\n", 10, "standard output")
    until(lambda: sorted(piped.said(2).split()) == sorted(b"from 4 from 5".split()), 10, "standard error")


def test_nobody_goes_on_with_anothers_line(piped: Piped) -> None:
    """Half a line of an agent's would make the helper's one that no collector can read."""
    os.write(piped.ends[4], b'"half')
    until(lambda: piped.said(2) == b'"half', 10, "half a line")
    os.write(piped.ends[4], b" and more")
    until(lambda: piped.said(2) == b'"half and more', 10, "the same writer goes on")
    os.write(piped.ends[5], b"whole\n")
    until(lambda: piped.said(2) == b'"half and more\nwhole\n', 10, "another begins anew")


def test_an_agent_may_outlive_its_helper_by_seconds_and_no_more(piped: Piped) -> None:
    """It has time to say what it has to."""
    piped.hang_up(5)
    os.write(piped.ends[4], b"last words\n")
    until(lambda: piped.said(2) == b"last words\n", 10, "they are heard")
    until(lambda: piped.tied.poll() == -signal.SIGKILL, 10, "it is killed")
    os.write(piped.ends[4], b"of others\n")
    until(lambda: piped.said(2).endswith(b"of others\n"), 10, "who else writes is still heard")


def test_an_agent_that_has_closed_its_outputs_does_not_outlive_the_last_of_the_others(piped: Piped) -> None:
    """logpipe would be gone, and with it who could end it."""
    piped.hang_up(3, 4)
    assert piped.tied.poll() is None
    piped.hang_up(5)
    until(lambda: piped.tied.poll() == -signal.SIGKILL, 10, "it is killed")


def test_a_leash_that_is_tied_to_nobody_kills_nobody() -> None:
    """Beside a terminal in the split layout, where the helper is a service of its own."""
    with closing(Piped(tied=False)) as piped:
        piped.hang_up(*ROUTES)
        os.waitid(os.P_PID, piped.pid, os.WEXITED | os.WNOWAIT)
        assert piped.tied.poll() is None
