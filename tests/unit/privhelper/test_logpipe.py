"""What a network-facing process writes reaches the operator's terminal as text, whatever it was."""

import fcntl
import os
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    """logpipe as its own process, and the writing ends of what it reads."""

    def __init__(self, errors: int | None = None) -> None:
        pipes = {fd: os.pipe() for fd in ROUTES}
        self.ends = {fd: writer for fd, (_, writer) in pipes.items()}
        self.out = {fd: os.memfd_create(f"output {fd}", 0) for fd in (1, 2)}
        if errors is not None:
            self.out[2] = errors
        null = os.open(os.devnull, os.O_RDWR)
        fds = [null, self.out[1], self.out[2], *(reader for reader, _ in pipes.values())]
        self.pid = spawn([sys.executable, "-I", "-m", "privhelper.logpipe", "off"], ENVIRONMENT, fds, lambda: None)
        for fd in (null, *(reader for reader, _ in pipes.values())):
            os.close(fd)

    def said(self, fd: int) -> bytes:
        """What has come out."""
        return os.pread(self.out[fd], 65536, 0)

    def close(self) -> None:
        """No more writer: it ends."""
        for end in self.ends.values():
            os.close(end)
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


def test_half_a_line_on_the_other_output_is_ended_too(piped: Piped) -> None:
    """Both may be one file, as for a journal."""
    os.write(piped.ends[3], b"half")
    until(lambda: piped.said(1) == b"half", 10, "half a line")
    os.write(piped.ends[5], b"whole\n")
    until(lambda: piped.said(2) == b"whole\n", 10, "the other's")
    assert piped.said(1) == b"half\n"


def test_a_line_that_could_not_be_ended_is_ended_before_the_next() -> None:
    """Where an output takes nothing for a while: a disk that is full, say, which an agent can see to."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    with closing(Piped(errors=writer)) as piped:
        os.write(piped.ends[4], b'"half')
        until(lambda: waiting(reader) == len(b'"half'), 10, "half a line")
        while True:
            try:
                os.write(writer, b"x" * 4096)
            except BlockingIOError:
                break
        os.write(piped.ends[5], b"lost\n")
        until(lambda: not waiting(piped.ends[5]), 10, "the helper's line is read")
        os.write(piped.ends[3], b"what comes next\n")
        until(lambda: piped.said(1), 10, "and is lost")
        while waiting(reader):
            os.read(reader, 1 << 20)

        os.write(piped.ends[5], b"whole\n")

        until(lambda: waiting(reader) >= len(b"whole\n"), 10, "the next")
        until(lambda: not waiting(piped.ends[5]), 10, "all of it")
        os.write(piped.ends[3], b"the last\n")
        until(lambda: piped.said(1).endswith(b"the last\n"), 10, "the end")
        assert os.read(reader, 1 << 20) == b"\nwhole\n"


def waiting(fd: int) -> int:
    """Bytes in a pipe, by either end."""
    (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))
    return int(count)
