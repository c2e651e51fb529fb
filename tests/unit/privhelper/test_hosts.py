"""The hosts file: whatever stood in it stays, whoever reads in between sees whole lines, and whenever a write ends half
way nothing of the operator's is lost. `Disk` records every step of a write, so that each of them can be the last."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from privhelper import hosts
from privhelper.addressing import Address
from privhelper.hosts import (
    MAX_FILE,
    HostsFile,
    HostsText,
    HostsUnavailable,
    banner,
    names_in,
    open_hosts,
    parse,
    render,
)
from privhelper.protocol import HostsResult

Line = tuple[Address, str]

WG = "wgoverlay"
BANNER = banner(WG)
OLD_BANNER = b"# ! MANAGED AUTOMATICALLY !"


def entry(name: str, address: str = "10.0.0.9") -> Line:
    """What a line says."""
    return ip_address(address), name


def line(name: str, address: str = "10.0.0.9", interface: str = WG) -> bytes:
    """A managed line, as the Go original writes it."""
    return f"{address}\t{name}\t# ! managed automatically by wesher interface {interface}\n".encode()


A, B, C = entry("node-a", "10.0.0.1"), entry("node-b", "10.0.0.2"), entry("node-c", "fd00::3")
LINES = [line("node-a", "10.0.0.1"), line("node-b", "10.0.0.2"), line("node-c", "fd00::3")]


@contextmanager
def hosts_file(content: bytes, *, alone: bool = True, interface: str = WG) -> Iterator[tuple[Path, HostsFile]]:
    """A real file with `content`, opened as the launcher opens it."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "hosts"
        path.write_bytes(content)
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            yield path, HostsFile(fd, str(path), interface, alone=alone)
        finally:
            os.close(fd)


# --- files of any kind -------------------------------------------------------------------------------------------

words = st.sampled_from([b"192.168.1.1", b"git", b"::1", b"localhost", b"#", b"# x", b"\0", b"\xff\xfe", b"\t", b"\r"])
operator_lines = st.lists(words, max_size=5).map(b" ".join) | st.binary(max_size=12).map(
    lambda raw: raw.replace(b"\n", b"")
)
interfaces = st.sampled_from(["wg0", "wgoverlay0", "wg"])
foreign_lines = st.builds(
    lambda name, interface: line(name, "10.9.9.9", interface)[:-1], st.sampled_from(["x", "y"]), interfaces
)
own_lines = st.sampled_from([text[:-1] for text in LINES] + [BANNER, b"x " + BANNER + b"  ", b"1 2 " + BANNER * 2])
old_lines = st.sampled_from([b"10.0.0.4\told\t" + OLD_BANNER, OLD_BANNER])
ends = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n"])


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Operator's lines, ours, other instances' and old ones, in any order; the last may lack its end."""
    kinds = st.one_of(operator_lines, operator_lines, own_lines, foreign_lines, old_lines)
    content = b"".join(draw(kinds) + draw(ends) for _ in range(draw(st.integers(0, 8))))
    return content[:-1] if content.endswith(b"\n") and draw(st.booleans()) else content


names = st.sampled_from(["node-a", "node-b", "node-c", "d"])
line_sets = st.lists(
    st.builds(entry, names, st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::3"])),
    unique_by=lambda said: said[1],
    max_size=4,
)


def is_managed(text: bytes) -> bool:
    """Whether a line is any instance's, told apart without the module's help."""
    fields = text.strip().rpartition(b"# ! managed automatically by wesher interface ")
    return text.strip().endswith(OLD_BANNER) or (bool(fields[1] and fields[2]) and not fields[2].split()[1:])


def lines_of(content: bytes) -> list[bytes]:
    """Lines without their LF."""
    return [text for text in content.split(b"\n") if text]


def operators(content: bytes) -> bytes:
    """The operator's bytes of a file, in order."""
    pieces = content.split(b"\n")
    whole = [piece + b"\n" for piece in pieces[:-1]] + [pieces[-1]]
    return b"".join(piece for piece in whole if not is_managed(piece))


def meaning(content: bytes) -> set[tuple[bytes, ...]]:
    """What a resolver gets from a file: the fields of each line that has an address and a name."""
    found = (text.split(b"\0")[0].split(b"#")[0].split() for text in content.split(b"\n"))
    return {tuple(fields) for fields in found if len(fields) > 1}


CRLF = b"127.0.0.1 localhost\r\n192.168.1.1 git\r\n"
MEGABYTE = b"".join(b"192.168.%d.%d host-%d # a comment\n" % (i >> 8 & 255, i & 255, i) for i in range(27000))
INTERLEAVED = b"127.0.0.1 localhost\n" + LINES[0] + b"192.168.1.1 git\n" + LINES[1] + b"192.168.1.2 wiki"


@settings(deadline=None)  # disks take their time
@given(files(), line_sets)
def test_rendering_what_was_parsed_keeps_the_operators_bytes(content: bytes, lines: list[Line]) -> None:
    """They are the file's beginning, and what follows is managed lines only, or the line end they need."""
    text = parse(content, WG, alone=True)
    new, managed_from = render(text, WG, lines)
    assert operators(content) == text.operator == new[:managed_from]
    assert {True} >= {is_managed(piece) for piece in lines_of(new[managed_from:])}
    assert len(lines) == len([piece for piece in lines_of(new[managed_from:]) if piece.endswith(BANNER)])


@settings(deadline=None)  # disks take their time
@given(files(), line_sets)
def test_rendering_twice_changes_nothing(content: bytes, lines: list[Line]) -> None:
    """What was written reads back as what was meant, apart from a line end that the operator's last line lacked."""
    once, _ = render(parse(content, WG, alone=True), WG, lines)
    assert once == render(parse(once, WG, alone=True), WG, lines)[0]


@settings(deadline=None)  # disks take their time
@given(files(), line_sets)
@example(CRLF, [A])
@example(b"127.0.0.1 localhost", [A])
@example(b"", [A])
@example(b"\n\n\n", [A])
@example(b"a\0b\nc\n", [A])
@example(INTERLEAVED, [A])
@example(b"1.2.3.4 x " + BANNER + b"\rmore\n", [A])
def test_after_all_peers_have_left_the_file_is_the_operators_again(content: bytes, lines: list[Line]) -> None:
    """Every byte, a missing last line end included; other instances' lines follow."""
    with hosts_file(content) as (path, file):
        file.write(lines)
        assert operators(content) == path.read_bytes()[: len(operators(content))]
        file.write([])
        left = path.read_bytes()
    others = [piece for piece in lines_of(content) if is_managed(piece) and b"interface wg" in piece]
    others = [piece for piece in others if not piece.strip().endswith(BANNER)]
    if others:
        assert left.startswith(operators(content))
        assert others == lines_of(left[len(operators(content)) :])
    else:
        assert operators(content) == left


@settings(deadline=None)  # disks take their time
@given(files(), st.lists(line_sets, max_size=4))
def test_operator_bytes_keep_their_offsets_while_managed_lines_change(content: bytes, sets: list[list[Line]]) -> None:
    """However often; the first write may have moved them, none after."""
    expected = operators(content)
    with hosts_file(content) as (path, file):
        for lines in sets:
            file.write(lines)
            now = path.read_bytes()
            assert expected == now[: len(expected)]
            assert {piece for piece in lines_of(now) if piece.endswith(BANNER)} == {
                line(name, str(address))[:-1] for address, name in lines
            }


@settings(deadline=None)  # disks take their time
@given(files(), line_sets)
def test_other_instances_lines_survive_in_their_order(content: bytes, lines: list[Line]) -> None:
    """And lines under the old banner, while another instance runs whose they may be."""
    others = [piece for piece in lines_of(content) if is_managed(piece) and not piece.strip().endswith(BANNER)]
    with hosts_file(content, alone=False) as (path, file):
        file.write(lines)
        now = lines_of(path.read_bytes())
    assert others == [piece for piece in now if is_managed(piece) and not piece.strip().endswith(BANNER)]


def test_old_banner_lines_go_when_no_other_instance_runs() -> None:
    """Go wesher 0.2.x left them; nobody else will take them away."""
    content = b"127.0.0.1 localhost\n10.0.0.4\told\t" + OLD_BANNER + b"\n"
    assert HostsText(b"127.0.0.1 localhost\n", ()) == parse(content, WG, alone=True)
    assert HostsText(b"127.0.0.1 localhost\n", (lines_of(content)[1] + b"\n",)) == parse(content, WG, alone=False)


@pytest.mark.parametrize("alone", [True, False])
def test_a_banner_belongs_to_one_interface_only(alone: bool) -> None:
    """`wg` is neither `wgoverlay` nor `wg overlay`."""
    theirs = line("x", interface="wgoverlay0") + line("y", interface="wg")
    quoted = b"10.0.0.1 z " + BANNER + b" and more\n# about " + OLD_BANNER + b" lines\n"
    assert HostsText(quoted, (line("x", interface="wgoverlay0"), line("y", interface="wg"))) == parse(
        theirs + quoted, WG, alone=alone
    )


@pytest.mark.parametrize("interface", ["wg!", "!"])
def test_an_interface_may_be_called_almost_anything(interface: str) -> None:
    """By whoever starts the other instance; its lines are its own."""
    theirs = line("x", interface=interface)
    assert HostsText(b"", (theirs,)) == parse(theirs, WG, alone=True)


@pytest.mark.parametrize("length", range(len(BANNER) + 2))
def test_an_operators_line_stays_however_long(length: int) -> None:
    """And however much of it would fit behind a banner."""
    content = b"x" * length + WG.encode() + b"\n"
    assert HostsText(content, ()) == parse(content, WG, alone=True)


def test_an_operators_last_line_gets_an_end_only_before_lines_of_ours() -> None:
    """Else the file would change for nothing."""
    assert (b"127.0.0.1 localhost", 19) == render(HostsText(b"127.0.0.1 localhost", ()), WG, [])


def test_the_line_is_the_originals() -> None:
    """Either program recognises the other's; sorted, so that equal sets give equal files."""
    expected = b"127.0.0.1 localhost\n" + b"".join(LINES)
    assert (expected, 20) == render(HostsText(b"127.0.0.1 localhost\n", ()), WG, [C, A, B])


def test_gos_interleaved_lines_are_compacted() -> None:
    """The operator's lines first, in their order, ours after them."""
    with hosts_file(INTERLEAVED + b"\n") as (path, file):
        assert HostsResult.WRITTEN is file.write([A, B])
        operator = b"127.0.0.1 localhost\n192.168.1.1 git\n192.168.1.2 wiki\n"
        assert operator + LINES[0] + LINES[1] == path.read_bytes()


@pytest.mark.parametrize("content", [MEGABYTE, LINES[0] + MEGABYTE, MEGABYTE[:-1]], ids=["end", "front", "unended"])
def test_a_megabyte_is_no_obstacle(content: bytes) -> None:
    """Such as block lists are, with a managed line before or behind."""
    with hosts_file(content) as (path, file):
        file.write([A])
        assert operators(content).rstrip(b"\n") + b"\n" + LINES[0] == path.read_bytes()
        file.write([])
        assert operators(content) == path.read_bytes()


def test_a_file_too_large_is_an_error_and_left_alone() -> None:
    """Nobody's hosts file is that long."""
    with hosts_file(b"#" * (MAX_FILE + 1)) as (path, file):
        for call in (file.taken_names, lambda: file.write([A])):
            with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
                call()
        assert MAX_FILE + 1 == path.stat().st_size
        os.truncate(path, MAX_FILE)
        assert frozenset() == file.taken_names()


def test_an_unchanged_set_writes_nothing() -> None:
    """Not a byte, not a sync."""
    with hosts_file(b"127.0.0.1 localhost\n") as (_, file), Disk() as disk:
        file.write([A, B])
        disk.steps.clear()
        assert HostsResult.WRITTEN is file.write([B, A])
        assert [] == disk.steps


@pytest.mark.parametrize(
    ("content", "lacking"),
    [
        (b"".join(LINES[:2]), False),
        (b"127.0.0.1 localhost\n" + b"".join(reversed(LINES)), False),
        (b"127.0.0.1 localhost\n", True),
        (LINES[0], True),
        (LINES[0] + b"#" + LINES[1][1:], True),
        (LINES[0] + LINES[1].rstrip(b"\n"), True),
        (LINES[0] + line("node-b", "10.0.0.2", "wg-other"), True),
    ],
)
def test_a_line_that_somebody_has_taken_away_is_missed(content: bytes, lacking: bool) -> None:
    """Also where only its end is gone, or it says nothing any more."""
    with hosts_file(b"") as (path, file):
        file.write([A, B])
        path.write_bytes(content)  # in place, as a container engine does
        assert lacking is file.lacks([A, B])


def test_no_line_is_missed_in_another_file() -> None:
    """It has to be noticed as that, and is not ours to write."""
    with hosts_file(b"") as (path, file):
        file.write([A])
        path.with_name("new").write_bytes(b"")
        path.with_name("new").rename(path)
        assert not file.lacks([A])


def test_only_lines_from_the_first_changed_one_are_written() -> None:
    """The operator's bytes and the lines before it are not touched."""
    with hosts_file(b"127.0.0.1 localhost\n") as (_, file), Disk() as disk:
        file.write([A, B])
        disk.steps.clear()
        file.write([A, C])
        kept = len(b"127.0.0.1 localhost\n" + LINES[0])
        assert {True} == {offset >= kept for verb, offset, _ in disk.steps if verb != "sync"}


def test_a_line_end_the_operator_adds_is_kept() -> None:
    """It looks like the one our lines needed, but no line of ours was there."""
    with hosts_file(b"127.0.0.1 localhost") as (path, file):
        file.write([A])
        file.write([])
        with path.open("ab") as edited:
            edited.write(b"\n")
        file.write([A])
        file.write([])
        assert b"127.0.0.1 localhost\n" == path.read_bytes()


def test_an_empty_line_the_operator_adds_is_kept() -> None:
    """Where nothing of the operator's was."""
    with hosts_file(b"") as (path, file):
        file.write([A])
        path.write_bytes(b"\n" + path.read_bytes())
        file.write([])
        assert b"\n" == path.read_bytes()


# --- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", set()),
        (b"127.0.0.1 localhost\n", {"localhost"}),
        (b"127.0.0.1\tA  b\tC.d", {"a", "b", "c.d"}),
        (b"192.168.1.1 git # wiki\n", {"git"}),
        (b"192.168.1.1 git#wiki\n", {"git"}),
        (b"# 192.168.1.1 git\n", set()),
        (b"192.168.1.1\n", set()),
        (b"  192.168.1.1 git\r\n192.168.1.2 wiki\r\n", {"git", "wiki"}),
        (b"192.168.1.1 git\rwiki\n", {"git", "wiki"}),
        (b"192.168.1.1\vgit\fwiki\n", {"git", "wiki"}),
        (b"192.168.1.1 git\0\n", {"git"}),
        (b"192.168.1.1 g\xc3\xaft ok\n", {"g\ufffd\ufffdt", "ok"}),
    ],
)
def test_the_names_an_operators_line_takes(content: bytes, expected: set[str]) -> None:
    """As resolvers split lines: white space is white space, `#` begins a comment, NUL ends a string."""
    assert expected == names_in(content)


@settings(deadline=None)  # disks take their time
@given(files())
def test_no_name_a_resolver_sees_is_free_to_take(content: bytes) -> None:
    """Of the operator's lines."""
    seen = {name.decode("ascii", "replace").lower() for fields in meaning(operators(content)) for name in fields[1:]}
    assert seen <= names_in(parse(content, WG, alone=True).operator)


def test_managed_names_are_not_taken() -> None:
    """Neither ours nor another instance's."""
    content = b"192.168.1.1 git\n" + line("node-a") + line("node-x", interface="wg9") + b"1.2.3.4 o " + OLD_BANNER
    with hosts_file(content) as (_, file):
        assert {"git"} == file.taken_names()


# --- the file itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["renamed over", "unlinked", "moved away", "kept as a copy"])
def test_a_replaced_file_is_noticed_and_nothing_is_written(how: str) -> None:
    """An editor has put another file there; ours has no name, or another."""
    with hosts_file(b"127.0.0.1 localhost\n") as (path, file), Disk() as disk:
        other = path.with_name("other")
        if how == "renamed over":
            other.write_bytes(b"127.0.0.1 new\n")
            other.rename(path)
        elif how == "unlinked":
            path.unlink()
        else:
            path.rename(other)
            if how == "kept as a copy":
                path.write_bytes(b"127.0.0.1 new\n")
        assert HostsResult.REPLACED is file.write([A])
        assert [] == disk.steps
        assert how == "unlinked" or b"node-a" not in (path if path.exists() else other).read_bytes()


def test_a_file_without_a_name_is_replaced_though_it_is_the_one_at_the_path() -> None:
    """As a container has it whose host has put another file in the place of the one that is mounted."""
    with hosts_file(b"127.0.0.1 localhost\n") as (path, _), path.open("r+b") as opened, Disk() as disk:
        path.unlink()
        mounted = HostsFile(opened.fileno(), f"/proc/self/fd/{opened.fileno()}", WG)
        assert HostsResult.REPLACED is mounted.write([A])
        assert [] == disk.steps


def test_a_hosts_file_is_opened_for_us_alone(tmp_path: Path) -> None:
    """To be read and written; no program that is started later has it."""
    path = tmp_path / "hosts"
    path.write_bytes(b"127.0.0.1 localhost\n")
    fd = open_hosts(str(path))
    try:
        assert not os.get_inheritable(fd)
        assert HostsResult.WRITTEN is HostsFile(fd, str(path), WG).write([A])
    finally:
        os.close(fd)
    assert b"127.0.0.1 localhost\n" + LINES[0] == path.read_bytes()


def _make_symlink(path: Path) -> None:
    path.with_name("real").write_bytes(b"127.0.0.1 localhost\n")
    path.symlink_to("real")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "cannot be opened"),
        (_make_symlink, "cannot be opened"),
        (Path.mkdir, "cannot be opened"),
        (os.mkfifo, "is not a regular file"),
    ],
    ids=["nothing", "symlink", "directory", "FIFO"],
)
def test_what_is_no_plain_file_is_no_hosts_file(tmp_path: Path, make: Callable[[Path], None], why: str) -> None:
    """It is refused in one line, and nothing stays open."""
    path = tmp_path / "hosts"
    make(path)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(HostsUnavailable, match=f"^{path} {why}"):
        open_hosts(str(path))
    assert before == len(os.listdir("/proc/self/fd"))


@pytest.mark.root
def test_a_hosts_file_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    """Who owns it could put anything there, and take our lines for his own."""
    path = tmp_path / "hosts"
    path.write_bytes(b"127.0.0.1 localhost\n")
    os.chown(path, 61003, 61003)
    with pytest.raises(HostsUnavailable, match="root's"):
        open_hosts(str(path))


FLOCK = struct.pack("@hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
UNLOCK = struct.pack("@hhqqi4x", fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)


@pytest.mark.parametrize("where", [(0, 0), (0, 1), (1 << 40, 1)], ids=["whole", "first byte", "far out"])
def test_a_lock_held_by_someone_else_is_an_error_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch, where: tuple[int, int]
) -> None:
    """Any local user can hold one; nothing is written, and the next write works."""
    monkeypatch.setattr(hosts, "LOCK_WITHIN", 0.05)
    with hosts_file(b"127.0.0.1 localhost\n") as (path, file), path.open("r+b") as other:
        lock = struct.pack("@hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, *where, 0)
        fcntl.fcntl(other, fcntl.F_OFD_SETLK, lock)
        with pytest.raises(BlockingIOError):
            file.write([A])
        assert b"127.0.0.1 localhost\n" == path.read_bytes()
        other.close()
        assert HostsResult.WRITTEN is file.write([A])


def test_a_lock_that_is_given_back_soon_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another instance's is."""
    with hosts_file(b"127.0.0.1 localhost\n") as (path, file), path.open("r+b") as other:
        fcntl.fcntl(other, fcntl.F_OFD_SETLK, FLOCK)
        monkeypatch.setattr(hosts.time, "sleep", lambda _: fcntl.fcntl(other, fcntl.F_OFD_SETLK, UNLOCK))
        assert HostsResult.WRITTEN is file.write([A])


def test_our_lines_are_cleared_whoever_holds_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name must not outlive its tunnel; an unlocked file is as good, and of a replaced one it is said."""
    monkeypatch.setattr(hosts, "LOCK_WITHIN", 0.05)
    with hosts_file(b"127.0.0.1 localhost") as (path, file), path.open("r+b") as other:
        for held in (True, False):
            file.write([A, B])
            if held:
                fcntl.fcntl(other, fcntl.F_OFD_SETLK, FLOCK)
            file.clear()
            assert b"127.0.0.1 localhost" == path.read_bytes()
            fcntl.fcntl(other, fcntl.F_OFD_SETLK, UNLOCK)
        file.write([A])
        moved = path.rename(path.with_name("moved"))
        with pytest.raises(OSError, match="replaced"):
            file.clear()
        assert b"node-a" in moved.read_bytes()


def test_names_that_go_count_no_longer_whoever_holds_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer's tunnel goes all the same. The lines go with the next write that works."""
    monkeypatch.setattr(hosts, "LOCK_WITHIN", 0.05)
    with hosts_file(INTERLEAVED) as (path, file), path.open("r+b") as other:
        file.write([A, B, C])
        everything = meaning(path.read_bytes())
        fcntl.fcntl(other, fcntl.F_OFD_SETLK, FLOCK)
        with pytest.raises(BlockingIOError):
            file.write([B, entry("node-d")])
        assert everything - meaning(path.read_bytes()) == meaning(LINES[0] + LINES[2])
        fcntl.fcntl(other, fcntl.F_OFD_SETLK, UNLOCK)
        file.write([B])
        assert lines_of(path.read_bytes()) == [*lines_of(operators(INTERLEAVED)), LINES[1][:-1]]


@pytest.mark.parametrize("how", ["another set", "clear"])
def test_names_that_go_count_no_longer_on_a_full_disk_either(how: str) -> None:
    """An agent may fill it. Where an editor has put lines behind ours, taking ours away needs room."""
    with hosts_file(INTERLEAVED) as (path, file):

        def in_place(fd: int, data: bytes, offset: int, write: Callable[..., int] = os.pwrite) -> int:
            if offset + len(data) > os.fstat(fd).st_size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(fd, data, offset)

        with mock.patch.object(os, "pwrite", in_place), pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            file.clear() if how == "clear" else file.write([B])
        kept = meaning(LINES[1]) if how == "another set" else set()
        assert meaning(path.read_bytes()) == meaning(operators(INTERLEAVED)) | kept
        file.clear()
        assert path.read_bytes() == operators(INTERLEAVED)


def test_the_lock_is_held_while_writing_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the write fails."""
    with hosts_file(b"127.0.0.1 localhost\n") as (path, file), path.open("r+b") as other:

        def look(*_: object) -> int:
            with pytest.raises(BlockingIOError):
                fcntl.fcntl(other, fcntl.F_OFD_SETLK, FLOCK)
            raise OSError(errno.ENOSPC, "full")

        with mock.patch.object(os, "pwrite", look), pytest.raises(OSError, match="full"):
            file.write([A])
        fcntl.fcntl(other, fcntl.F_OFD_SETLK, FLOCK)


# --- every step can be the last ----------------------------------------------------------------------------------

Step = tuple[str, int, bytes]


class Disk:
    """Records writes and truncations; `full_in(n)` makes the n-th step from now fail, a write after half its bytes."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._left: int | None = None
        self._patches = [
            mock.patch.object(os, "pwrite", self._pwrite),
            mock.patch.object(os, "ftruncate", self._ftruncate),
            mock.patch.object(os, "fsync", self._fsync),
        ]
        self._real: tuple[Callable[..., int], Callable[..., None]] = os.pwrite, os.ftruncate

    def __enter__(self) -> Disk:
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()

    def full_in(self, steps: int) -> None:
        """Let so many steps work and all writes after them fail; cutting a file short still works."""
        self._left = steps

    def _is_full(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0

    def _pwrite(self, fd: int, data: bytes, offset: int) -> int:
        if self._is_full():
            if self._left == -1 and len(data) > 1:
                data = data[: len(data) // 2]  # a short write first, as the kernel does it
                self._left = 0
            else:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.steps.append(("write", offset, bytes(data)))
        return self._real[0](fd, data, offset)

    def _ftruncate(self, fd: int, length: int) -> None:
        self.steps.append(("cut", length, b""))
        self._real[1](fd, length)

    def _fsync(self, fd: int) -> None:
        if self._is_full():
            self._left = 0
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.steps.append(("sync", 0, b""))


def states(content: bytes, steps: Sequence[Step]) -> Iterator[bytes]:
    """Every content the file has had: after each step, and after each byte of each write."""
    now = bytearray(content)
    yield bytes(now)
    for verb, offset, data in steps:
        if verb == "cut":
            del now[offset:]
            assert len(now) == offset, "a file is never made longer by truncation"
        for i, byte in enumerate(data):
            now[offset + i : offset + i + 1] = bytes((byte,))
            yield bytes(now)
        yield bytes(now)


def check_states(content: bytes, new: bytes, steps: Sequence[Step]) -> None:
    """Each of the operator's lines is always there, and every line that says something is an old or a new one."""
    operator = set(lines_of(operators(content)))
    allowed = meaning(content) | meaning(new)
    for state in states(content, steps):
        assert operator <= set(lines_of(state))
        assert meaning(state) <= allowed
        assert meaning(operators(content)) <= meaning(state)


def check_every_end(content: bytes, first: Sequence[Line], second: Sequence[Line]) -> None:
    """Two writes; each state on the way, and what a helper started after a kill there makes of it."""
    with hosts_file(content) as (path, file):
        for lines in (first, second):
            before = path.read_bytes()
            with Disk() as disk:
                file.write(lines)
            check_states(before, path.read_bytes(), disk.steps)
            for killed in set(states(before, disk.steps)):
                with hosts_file(killed) as (again, fresh):
                    fresh.write(second)
                    assert meaning(operators(before)) == meaning(operators(again.read_bytes()))
                    assert {piece for piece in lines_of(again.read_bytes()) if piece.endswith(BANNER)} == {
                        line(name, str(address))[:-1] for address, name in second
                    }


KILLED = [
    (b"127.0.0.1 localhost\n", [A, B], [B, C]),
    (b"127.0.0.1 localhost", [A, B], [C]),
    (INTERLEAVED, [A, B], []),
    (INTERLEAVED + b"\n", [C], [A]),
    (LINES[0] + b"10.0.0.1 very-similar\n", [A], [B]),
    (LINES[0] + b"\n\n \n#\n1.1.1.1 one\0two\r\n" + LINES[1] + b"2.2.2.2 two", [A], [B]),
    (b"", [A, B, C], []),
]


@pytest.mark.parametrize(("content", "first", "second"), KILLED)
def test_a_write_can_be_killed_after_any_byte(content: bytes, first: list[Line], second: list[Line]) -> None:
    """No operator's line is lost, no half line says anything, and the next helper puts everything right."""
    check_every_end(content, first, second)


@settings(max_examples=25, deadline=None)
@given(files(), line_sets)
def test_any_file_can_be_read_after_any_byte(content: bytes, lines: list[Line]) -> None:
    """Readers take no lock."""
    with hosts_file(content) as (path, file), Disk() as disk:
        file.write(lines)
        check_states(content, path.read_bytes(), disk.steps)


@pytest.mark.parametrize("works", range(14))
@pytest.mark.parametrize(("content", "first", "second"), KILLED)
def test_a_full_disk_loses_nothing(works: int, content: bytes, first: list[Line], second: list[Line]) -> None:
    """The error is reported, readers see whole lines all the while, and with room again the names come back."""
    with hosts_file(content) as (path, file):
        with Disk() as disk:
            disk.full_in(works)
            try:
                file.write(first)
                reported = False
            except OSError:
                reported = True
            check_states(content, render(parse(content, WG, alone=True), WG, first)[0], disk.steps)
        if not reported:
            assert meaning(operators(content)) | meaning(
                b"".join(line(name, str(address)) for address, name in first)
            ) == (meaning(path.read_bytes()))
        file.write(second)
        assert meaning(operators(content)) == meaning(operators(path.read_bytes()))
        assert len(second) == path.read_bytes().count(BANNER)


def test_moved_lines_are_on_disk_before_their_old_place_is_overwritten() -> None:
    """A sync after the copy's last byte and before the first write in front of it, and one before the copy is cut off:
    the power may go as well."""
    with hosts_file(INTERLEAVED) as (_, file), Disk() as disk:
        file.write([A])
        verbs = [verb if offset >= len(INTERLEAVED) or verb == "sync" else "over" for verb, offset, _ in disk.steps]
    overwriting = verbs.index("over")
    assert {"write"} == set(verbs[: overwriting - 1])
    assert "sync" == verbs[overwriting - 1]
    assert "sync" == disk.steps[[verb for verb, _, _ in disk.steps].index("cut") - 1][0]
    assert "sync" == verbs[-1]


def test_a_full_disk_leaves_the_operators_file_as_it_was() -> None:
    """A half line of ours is cut off again."""
    with hosts_file(b"127.0.0.1 localhost") as (path, file), Disk() as disk:
        disk.full_in(0)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            file.write([A, B])
        assert b"127.0.0.1 localhost" == path.read_bytes()


def test_this_hosts_own_name_is_taken_whatever_the_node_is_called(tmp_path):
    """Under another --node-name, and where no line of the operator's has it: a member could take its place."""
    path = tmp_path / "hosts"
    path.write_bytes(b"192.0.2.1 printer\n")
    with path.open("r+b") as file:
        hosts = HostsFile(file.fileno(), str(path), "wgoverlay", host_name="Web.Example.org")
        assert hosts.taken_names() == {"printer", "web.example.org", "web"}
