"""Which system calls each process may make once it is locked down, as data.

A call without a row kills the process (SIGSYS), and so does one whose rows all ask for other arguments. Calls that
libraries try before they go another way are answered with an error number instead. The kernel compares arguments as
64-bit numbers and sees no memory: what a pointer points to cannot be asked for. `seccomp.py` makes a filter of this;
`tests/hostile` tries every number there is.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import termios
from dataclasses import dataclass
from typing import Final, Literal

from privhelper.door import SO_PASSRIGHTS

Test = Literal["==", "<", ">", "has", "lacks"]
"""How an argument is compared with a number; `has` and `lacks` ask for all and none of its bits."""


@dataclass(frozen=True, slots=True)
class Row:
    """One call, under conditions that must all hold: (argument's position, test, number).

    `answer` is the error number it is answered with, 0 where it is said to be done and is not, or None where it is
    carried out.
    """

    call: str
    when: tuple[tuple[int, Test, int], ...] = ()
    answer: int | None = None


Profile = tuple[Row, ...]


def _rows(calls: str, *when: tuple[int, Test, int], answer: int | None = None) -> Profile:
    return tuple(Row(call, when, answer) for call in calls.split())


def _values(call: str, argument: int, numbers: tuple[int, ...]) -> Profile:
    return tuple(Row(call, ((argument, "==", number),)) for number in numbers)


_PROT_EXEC: Final = 4
_MAX_SOCKET_TYPE: Final = 0xF  # SOCK_TYPE_MASK: above it are SOCK_NONBLOCK and SOCK_CLOEXEC
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25

SIOCGIFADDR: Final = 0x8915
"""netdevice(7): the first IPv4 address of an interface."""

_SELF: Final = _rows(
    "brk munmap mremap madvise futex sched_yield rseq set_robust_list restart_syscall"  # malloc and locks
    " exit exit_group getpid gettid getuid geteuid getgid getegid"
    " clock_gettime clock_getres gettimeofday time clock_nanosleep nanosleep getrandom"  # where no vDSO does it
    " rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack"
)
"""What changes nothing but the process itself."""

_MEMORY: Final = (
    *_rows("mmap mprotect", (2, "lacks", _PROT_EXEC)),
    *_rows("mmap mprotect", (2, "has", _PROT_EXEC), answer=errno.EACCES),  # as MDWE: no code but what is there
)

_STREAMS: Final = _rows("read readv write writev close lseek fstat")
"""What a descriptor is for, whoever opened it."""

_NO_TERMINAL: Final = _rows("ioctl", (1, "==", termios.TCGETS), answer=errno.ENOTTY)  # Python's open() asks
_BLOCKING: Final = _values("ioctl", 1, (termios.FIONBIO, termios.FIONREAD, termios.FIOCLEX))
_FLAGS: Final = _values("fcntl", 1, (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL))

_NO_SOCKET: Final = _rows("socket socketpair", answer=errno.EAFNOSUPPORT)
_NO_PATH: Final = _rows("open openat openat2 creat access faccessat faccessat2 readlink readlinkat", answer=errno.EPERM)

HELPER: Final[Profile] = (
    *_SELF,
    *_MEMORY,
    *_STREAMS,
    *_NO_TERMINAL,
    *_BLOCKING,
    *_FLAGS,
    *_NO_SOCKET,
    *_NO_PATH,  # not fatal: Python looks for source lines when it tells of an error
    *_rows("recvfrom sendto recvmsg sendmsg accept accept4 shutdown getsockname getpeername"),  # agent, netlink, UAPI
    *_rows("poll ppoll epoll_wait epoll_pwait epoll_ctl"),
    *_rows("getsockopt", (1, "==", socket.SOL_SOCKET), (2, "==", socket.SO_PEERCRED)),
    *_rows("setsockopt", (1, "==", socket.SOL_SOCKET), (2, "==", SO_PASSRIGHTS)),
    *_rows("stat lstat newfstatat statx"),  # is the hosts file still the one at its path?
    *_rows("pread64 pwrite64 ftruncate fsync fdatasync"),  # the hosts file
    *_values("fcntl", 1, (fcntl.F_OFD_SETLK,)),
    *_rows("wait4"),  # the others, at the end
)
"""The helper: netlink, UAPI and the agent over open sockets, the hosts file over an open descriptor."""

AGENT: Final[Profile] = (
    *_SELF,
    *_MEMORY,
    *_STREAMS,
    *_NO_TERMINAL,
    *_BLOCKING,
    *_FLAGS,
    *_rows("poll ppoll epoll_wait epoll_pwait epoll_ctl"),
    *_rows("recvfrom recvmsg connect shutdown accept accept4 getsockname getpeername"),
    # Not with a connection that TCP opens on the way: landlock knows nothing of that.
    *_rows("sendto", (3, "lacks", socket.MSG_FASTOPEN)),
    *_rows("sendmsg", (2, "lacks", socket.MSG_FASTOPEN)),
    *_rows("sendmmsg", (3, "lacks", socket.MSG_FASTOPEN)),
    # asyncio says it again of sockets that listen. For another, never bound, the kernel would choose a port and not ask
    # landlock; a shorter queue would hold up whoever asks the control socket.
    *_rows("listen", answer=0),
    *(
        row
        for domain in (socket.AF_INET, socket.AF_INET6)
        for kind, protocols in (
            (socket.SOCK_STREAM, (0, socket.IPPROTO_TCP)),
            (socket.SOCK_DGRAM, (0, socket.IPPROTO_UDP)),
        )
        for flags in (0, socket.SOCK_NONBLOCK, socket.SOCK_CLOEXEC, socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        for protocol in protocols
        for row in _rows("socket", (0, "==", domain), (1, "==", kind | flags), (2, "==", protocol))
    ),
    # Every other domain: the resolver asks for netlink's, and for a unix socket to a cache, and does without.
    *_rows("socket", (0, "<", socket.AF_INET), answer=errno.EAFNOSUPPORT),
    *(
        row
        for domain in range(socket.AF_INET + 1, socket.AF_INET6)
        for row in _rows("socket", (0, "==", domain), answer=errno.EAFNOSUPPORT)
    ),
    *_rows("socket", (0, ">", socket.AF_INET6), answer=errno.EAFNOSUPPORT),
    *_rows("socketpair", answer=errno.EAFNOSUPPORT),
    *_rows("getsockopt", (1, "==", socket.SOL_SOCKET), (2, "==", socket.SO_ERROR)),
    *_rows("setsockopt", (1, "==", socket.IPPROTO_TCP), (2, "==", socket.TCP_NODELAY)),
    *_rows("setsockopt", (1, "==", socket.IPPROTO_IP), (2, "==", _IP_RECVERR)),  # the resolver's
    *_rows("setsockopt", (1, "==", socket.IPPROTO_IPV6), (2, "==", _IPV6_RECVERR)),
    *_rows("open openat stat lstat newfstatat statx"),  # which files, landlock decides
    *_rows("rename renameat renameat2 unlink unlinkat fsync fdatasync"),  # the state file
    *_rows("access faccessat faccessat2 readlink readlinkat", answer=errno.EPERM),
    *_values("ioctl", 1, (SIOCGIFADDR,)),  # has the interface that was named another address?
    *_rows("uname sysinfo sched_getaffinity"),  # the resolver's search list; malloc's arenas
)
"""The agent: gossip over UDP and TCP, names, its state file, and whoever connects to its control socket."""

LOGPIPE: Final[Profile] = (
    *_SELF,
    *_MEMORY,
    *_rows("read write close fstat lseek"),
    *_rows("epoll_wait epoll_pwait epoll_ctl"),
    *_NO_TERMINAL,
    *_NO_SOCKET,
    *_NO_PATH,
    *_rows("stat lstat newfstatat statx", answer=errno.EPERM),
)
"""logpipe: from its pipes to the operator's output."""
