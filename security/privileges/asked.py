"""What only a process itself can be asked: its answers to system calls, made in its place by ptrace(2).

Securebits and MDWE are nowhere in /proc, and what landlock answers nowhere at all; a filter would kill a process that
asks. So root stops the live one, suspends its filter (PTRACE_O_SUSPEND_SECCOMP, as CRIU does), puts a call's number and
arguments into its registers, lets it make one step, and puts everything back. That is for x86-64, a kernel that has
CONFIG_CHECKPOINT_RESTORE, and a root whom no filter holds himself, as a container's would.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Final

from privhelper.seccomp import number_of

_SINGLESTEP: Final = 9
_GETREGS: Final = 12
_SETREGS: Final = 13
_DETACH: Final = 17
_SETOPTIONS: Final = 0x4200
_SEIZE: Final = 0x4206
_INTERRUPT: Final = 0x4207
_O_SUSPEND_SECCOMP: Final = 1 << 21
_WALL: Final = 0x40000000

_SYSCALL: Final = b"\x0f\x05"
_PAGE: Final = mmap.PAGESIZE
_NO_CALL: Final = 0xFFFFFFFFFFFFFFFF
"""In orig_rax: what was interrupted is not begun again now."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


_NAMES: Final = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax"
    " rip cs eflags rsp ss fs_base gs_base ds es fs gs"
)


class _Registers(ctypes.Structure):
    """user_regs_struct of <sys/user.h>."""

    _fields_ = tuple((name, ctypes.c_ulong) for name in _NAMES.split())


_ARGUMENTS: Final = ("rdi", "rsi", "rdx", "r10", "r8", "r9")


@cache
def cannot_ask() -> str | None:
    """What keeps a process from being asked here, in a few words."""
    if platform.machine() != "x86_64":
        return f"the registers of {platform.machine()} are not known here"
    with subprocess.Popen(["/bin/sleep", "infinity"]) as child:
        try:
            with stopped(child.pid):
                return None
        except OSError as error:
            return f"ptrace: {error.strerror}"
        finally:
            child.kill()


class Stopped:
    """The main thread of a live process, stopped. Calls are made as if it had no filter, until it is said otherwise."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._step_at = _find_syscall(pid)
        self._before = _Registers()
        _ptrace(_GETREGS, pid, ctypes.addressof(self._before))
        self._later: list[int] = []
        self.suspend_filter(True)
        anywhere = (0, _PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        self._page = self.call("mmap", *anywhere)

    def suspend_filter(self, suspended: bool) -> None:
        """Whether calls are made as if there were no seccomp filter."""
        _ptrace(_SETOPTIONS, self._pid, _O_SUSPEND_SECCOMP if suspended else 0)

    def call(self, name: str, *arguments: int | bytes) -> int:
        """Make one system call that does not block; what it returns, minus the error's number where it fails.

        Bytes go by reference; they are at most one page together.
        """
        number = number_of(name)
        assert number is not None, name
        registers = _Registers.from_buffer_copy(self._before)
        registers.rax, registers.orig_rax, registers.rip = number, _NO_CALL, self._step_at
        free = 0
        for register, argument in zip(_ARGUMENTS, arguments, strict=False):
            if isinstance(argument, bytes):
                self._write(free, argument)
                value, free = self._page + free, free + len(argument)
            else:
                value = argument & 0xFFFFFFFFFFFFFFFF
            setattr(registers, register, value)
        _ptrace(_SETREGS, self._pid, ctypes.addressof(registers))
        self._step()
        _ptrace(_GETREGS, self._pid, ctypes.addressof(registers))
        return int(ctypes.c_long(registers.rax).value)

    def _write(self, at: int, data: bytes) -> None:
        with open(f"/proc/{self._pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(self._page + at)
            memory.write(data)

    def _step(self) -> None:
        while True:
            _ptrace(_SINGLESTEP, self._pid, 0)
            _, status = os.waitpid(self._pid, _WALL)
            if not os.WIFSTOPPED(status):
                raise ProcessLookupError(errno.ESRCH, f"the process ended when it was asked (status {status:#x})")
            if os.WSTOPSIG(status) == signal.SIGTRAP:
                return
            self._later.append(os.WSTOPSIG(status))  # a signal of its own came in between, and still waits

    def go_on(self) -> None:
        """As if nothing had been."""
        self.suspend_filter(True)
        self.call("munmap", self._page, _PAGE)
        _ptrace(_SETREGS, self._pid, ctypes.addressof(self._before))
        _ptrace(_DETACH, self._pid, 0)
        for number in self._later:
            os.kill(self._pid, number)


@contextmanager
def stopped(pid: int) -> Iterator[Stopped]:
    """The process's main thread, stopped as long as the block lasts. OSError where the kernel does not let us."""
    _ptrace(_SEIZE, pid, 0)
    _ptrace(_INTERRUPT, pid, 0)
    os.waitpid(pid, _WALL)
    try:
        process = Stopped(pid)
    except BaseException:
        with suppress(OSError):
            _ptrace(_DETACH, pid, 0)
        raise
    try:
        yield process
    finally:
        process.go_on()


def _find_syscall(pid: int) -> int:
    """The address of any two bytes that enter the kernel; the C library is full of them, and so is a Go program."""
    with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as maps:
        spans = [line.split()[0] for line in maps if line.split()[1] == "r-xp"]
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for span in spans:
            low, high = (int(part, 16) for part in span.split("-"))
            memory.seek(low)
            if (offset := memory.read(high - low).find(_SYSCALL)) >= 0:
                return low + offset
    raise OSError(errno.ENOEXEC, "no instruction that enters the kernel")


def _ptrace(request: int, pid: int, argument: int) -> None:
    if _libc.ptrace(request, pid, None, argument) == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
