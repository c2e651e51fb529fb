"""Peers' names in the hosts file, through one descriptor opened before any agent existed.

A managed line ends with a banner that names the interface, as the Go original writes it, so either program
recognises the other's lines:

    <overlay address> TAB <name> TAB # ! managed automatically by wesher interface <iface> LF

Layout: the operator's bytes first, unchanged and at unchanged offsets; then every instance's managed lines, as the
file's tail. A reader that comes in the middle of a write can thus miss managed names and nothing else: lines are
written as comments, and only when they are whole does one byte each make them count (`_write_lines`), so a write that
ends half way leaves no half line that says something. Writing in place is the only way that works for a bind-mounted
file and for a process that may not touch the directory; rename would need a directory in which this uid could then
replace anything.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from privhelper.addressing import Address
from privhelper.protocol import HostsResult

_BANNER: Final = b"# ! managed automatically by wesher interface "
_OLD_BANNER: Final = b"# ! MANAGED AUTOMATICALLY !"
"""Go wesher 0.2.x: it names no interface, so such a line is anybody's."""

MAX_FILE: Final = 8 * 1024 * 1024
"""Bytes of a hosts file we are willing to handle; resolvers read it whole for every name, so nobody's is near it."""

LOCK_WITHIN: Final = 1.0
"""Seconds to wait for the file's lock. Any local user may hold one on a readable file, so waiting for ever would
hand every user the helper's liveness."""

# struct flock of 64-bit Linux: type, whence, start, length, pid (0 for a lock of the open file description)
_FLOCK: Final = struct.Struct("@hhqqi4x")


@dataclass(frozen=True, slots=True)
class HostsText:
    """A hosts file taken apart: the operator's bytes, and the managed lines of other instances."""

    operator: bytes
    others: tuple[bytes, ...]


def banner(interface: str) -> bytes:
    """What ends every line that the instance with `interface` manages."""
    return _BANNER + interface.encode("ascii")


def parse(content: bytes, interface: str, *, alone: bool) -> HostsText:
    """Take `content` apart. `alone`: no other instance runs, so lines under the old banner are leftovers and go."""
    operator, others = [], []
    for line in _lines(content):
        owner = _owner(line)
        if owner is None:
            operator.append(line)
        elif owner != interface.encode("ascii") and not (owner == b"" and alone):
            others.append(line if line.endswith(b"\n") else line + b"\n")
    return HostsText(b"".join(operator), tuple(others))


def _lines(content: bytes) -> list[bytes]:
    """Lines with their ends, as resolvers see them: only LF ends one, while a lone CR is white space."""
    return [line for line in re.split(rb"(?<=\n)", content) if line]


def _owner(line: bytes) -> bytes | None:
    """The interface whose instance manages `line`, b"" under the old banner, None for an operator's line."""
    stripped = line.strip()
    if stripped.endswith(_OLD_BANNER):
        return b""
    at = stripped.rfind(_BANNER)
    if at < 0:
        return None
    owner = stripped[at + len(_BANNER) :]
    return owner if owner and not any(byte <= 0x20 for byte in owner) else None


def render(text: HostsText, interface: str, lines: Sequence[tuple[Address, str]]) -> tuple[bytes, int]:
    """The file's new content, and the offset from which it is managed lines only."""
    ours = [_line(address, name, interface) for address, name in sorted(lines, key=lambda line: line[1])]
    operator = text.operator
    tail = b"".join((*text.others, *ours))
    if tail and operator and not operator.endswith(b"\n"):
        tail = b"\n" + tail  # the operator's last line stays as it is; ours begins a new one
    return operator + tail, len(operator)


def _line(address: Address, name: str, interface: str) -> bytes:
    return b"%s\t%s\t%s\n" % (str(address).encode("ascii"), name.encode("ascii"), banner(interface))


def names_in(operator: bytes) -> frozenset[str]:
    """The names in unmanaged lines, folded; comments left out."""
    names: set[str] = set()
    for line in operator.split(b"\n"):
        fields = line.replace(b"\0", b" ").split(b"#", 1)[0].split()  # C programs stop at a NUL, others do not
        names.update(field.decode("ascii", "replace").lower() for field in fields[1:])
    return frozenset(names)


class HostsUnavailable(Exception):
    """Why there is no hosts file to manage, in one line."""


def open_hosts(path: str) -> int:
    """A descriptor of the hosts file. Open it before any agent exists. Raises HostsUnavailable."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise HostsUnavailable(f"{path} cannot be opened ({error.strerror})") from None
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_uid not in (0, os.geteuid()):
        os.close(fd)
        raise HostsUnavailable(f"{path} is not a regular file of root's")
    return fd


class HostsFile:
    """The open file. `path` serves only to notice that somebody put another file in its place."""

    def __init__(self, fd: int, path: str, interface: str, *, alone: bool = True, host_name: str = "") -> None:
        self._fd = fd
        self._path = path
        self._interface = interface
        self._alone = alone
        # This host's own, whatever it is called in the mesh: taken also where no line of the operator's says so.
        self._own = frozenset({host_name.lower(), host_name.lower().partition(".")[0]} - {""})
        # The operator's bytes as they were without a final line end, which our lines needed before them.
        self._unended: bytes | None = None

    def taken_names(self) -> frozenset[str]:
        """Folded names that stand in lines of the operator's."""
        return names_in(self._parse(self._read()).operator) | self._own

    def lacks(self, lines: Sequence[tuple[Address, str]]) -> bool:
        """Whether one of `lines` stands there no longer. A container engine writes the file that it manages anew, in
        place, whenever it starts a container of the pod, and knows nothing of our lines. Raises OSError."""
        if self._replaced():  # what another file lacks is not ours to write
            return False
        there = frozenset(_lines(self._read()))
        return any(_line(*line, self._interface) not in there for line in lines)

    def write(self, lines: Sequence[tuple[Address, str]]) -> HostsResult:
        """Make `lines` our only ones. Raises OSError; the operator's bytes survive a full disk and a kill, and lines of
        ours that were to go count no longer all the same."""
        if self._replaced():
            return HostsResult.REPLACED
        try:
            self._lock()
            self._change(lines)
        except OSError:
            with suppress(OSError):
                self._silence(lines)
            raise
        return HostsResult.WRITTEN

    def clear(self) -> None:
        """Take our lines away, also while somebody else holds the lock: a name that outlives its tunnel would send
        traffic for it in clear, which is worse than a collision with another instance's write."""
        if self._replaced():  # what was put in its place may hold a copy of our lines, and is not ours to write
            raise OSError(errno.ESTALE, "the hosts file has been replaced; look for our lines in the new one")
        with suppress(OSError):
            self._lock()
        try:
            self._change(())
        except OSError:
            self._silence(())
            raise

    def _change(self, lines: Sequence[tuple[Address, str]]) -> None:
        try:
            self._rewrite(lines)
        finally:
            self._unlock()

    def _silence(self, kept: Sequence[tuple[Address, str]]) -> None:
        """Make comments of our lines but `kept`, in place: that takes neither room on the disk nor, since it is one
        byte each, the lock that somebody else may hold for ever."""
        said, offset = {_line(*line, self._interface) for line in kept}, 0
        for line in _lines(self._read()):
            if _owner(line) == self._interface.encode("ascii") and line not in said and not line.startswith(b"#"):
                self._pwrite(b"#", offset)
            offset += len(line)
        os.fsync(self._fd)

    def _rewrite(self, lines: Sequence[tuple[Address, str]]) -> None:
        old = self._read()
        new, managed_from = render(self._parse(old), self._interface, lines)
        if self._unended is not None and new == self._unended + b"\n":
            new, managed_from = self._unended, len(self._unended)
        if old == new:
            return
        if old[:managed_from] != new[:managed_from]:
            self._compact(old, new[:managed_from])
        self._replace_tail(old, new, managed_from)
        os.fsync(self._fd)

    def _parse(self, content: bytes) -> HostsText:
        text = parse(content, self._interface, alone=self._alone)
        if text.operator and not text.operator.endswith(b"\n"):
            self._unended = text.operator
        elif text.operator == content:
            self._unended = None  # no managed line is there, so the line end is the operator's own
        return text

    def _compact(self, old: bytes, operator: bytes) -> None:
        """Move operator bytes up over managed lines that stand before them (an editor, or Go, left them so).

        The bytes to move are first appended once more and synced: whenever a kill comes, each of the operator's
        lines is in the file at least once. A hosts file bears lines twice. What stands between is then made one
        comment, of which every part is a comment too, and the lines are written over it.
        """
        start = _common_lines(old, operator)
        moving, gap = operator[start:], b"" if old.endswith(b"\n") else b"\n"
        self._append(gap + moving, len(old))
        os.fsync(self._fd)
        end = len(old) + len(gap) - 1  # of the comment, short of its line end
        self._pwrite(b"#" * (end - start), start)
        self._write_lines(moving, start)
        os.fsync(self._fd)

    def _replace_tail(self, old: bytes, new: bytes, managed_from: int) -> None:
        """Cut at the first managed line that changes, then append: a reader sees fewer names, never mixed ones."""
        moved = old[:managed_from] != new[:managed_from]
        same = managed_from if moved else max(_common_lines(old, new), managed_from)
        os.ftruncate(self._fd, same)
        self._append(new[same:], same)

    def _append(self, lines: bytes, end: int) -> None:
        """Write `lines` at the file's `end`, all or nothing if the disk is full."""
        try:
            self._write_lines(lines, end)
        except OSError:
            os.ftruncate(self._fd, end)
            raise

    def _write_lines(self, lines: bytes, offset: int) -> None:
        """Write `lines` as comments, then put each one's first byte in place: the only write that cannot be torn."""
        self._pwrite(re.sub(rb"(?m)^[^\n]", b"#", lines), offset)
        for first in re.finditer(rb"(?m)^[^\n#]", lines):
            self._pwrite(first.group(), offset + first.start())

    def _replaced(self) -> bool:
        ours = os.fstat(self._fd)
        try:
            theirs = os.stat(self._path)
        except OSError:
            return True
        return ours.st_nlink == 0 or (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino)

    def _read(self) -> bytes:
        content = os.pread(self._fd, MAX_FILE + 1, 0)
        if len(content) > MAX_FILE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return content

    def _pwrite(self, data: bytes, offset: int) -> None:
        while data:
            written = os.pwrite(self._fd, data, offset)
            data, offset = data[written:], offset + written

    def _unlock(self) -> None:
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))

    def _lock(self) -> None:
        """Lock the open file description for writing; raises EAGAIN after LOCK_WITHIN."""
        request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        deadline = time.monotonic() + LOCK_WITHIN
        while True:
            try:
                fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, request)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)  # there is no waiting for a lock with a time limit but by asking again
            else:
                return


def _common_prefix(a: bytes, b: bytes) -> int:
    return len(os.path.commonprefix([a, b]))  # noqa: RUF071 - byte by byte is what is wanted


def _common_lines(a: bytes, b: bytes) -> int:
    """Length of the longest common prefix that ends with a line."""
    return a.rfind(b"\n", 0, _common_prefix(a, b)) + 1
