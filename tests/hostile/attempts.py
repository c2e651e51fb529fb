"""What somebody who has taken the agent over tries on this host, besides lying to the helper, and what he is answered.

Imported by the tests and, before lockdown, by the turned agent that makes them; so nothing is imported here later, and
nothing but what an interpreter has and the sandbox's own table of numbers.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import mmap
import os
import signal
import socket
import stat
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from privhelper.seccomp import number_of

DONE = "done"
KILLED = "killed"

STATE = "/var/lib/wesher"
RUNTIME = "/run/wesher"
HELPER = os.getppid()
"""Its pid, for the agent."""

TCP_NOT_GRANTED = 5
"""A port on which somebody listens in these tests."""
ELSEWHERE = "192.0.2.99"
LAN, LAN_BROADCAST = "192.168.77.77", "192.168.77.255"

MSG_FASTOPEN = 0x20000000
PR_SET_DUMPABLE = 4
TIOCSTI = 0x5412
IPPROTO_MPTCP = 262
F_SETOWN = 8
PTRACE_SEIZE = 0x4206
AT_EMPTY_PATH = 0x1000
CLONE_NEWUSER = 0x10000000
X32 = 0x40000000
ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
READ, WRITE, EXECUTE = mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_EXEC

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

_CALLS = (
    "bind bpf chmod clone3 connect execve execveat fcntl getdents64 getpid io_uring_setup ioctl keyctl kill "
    "landlock_restrict_self link linkat memfd_create mkdir mknod mmap mount mprotect open_by_handle_at openat "
    "perf_event_open pidfd_open pidfd_getfd prctl process_vm_readv ptrace setns setresuid setuid symlink truncate "
    "unshare userfaultfd"
)
_NUMBERS = {name: number_of(name) for name in _CALLS.split()}


@dataclass(frozen=True)
class Attempt:
    """`make` raises OSError, or says what came of it. `expected` is that, or an error's name, or KILLED."""

    name: str
    make: Callable[[], str]
    expected: str


def call(name: str, *arguments: int | bytes) -> int:
    """A system call as it is, past every library. Raises OSError."""
    return call_number(_NUMBERS[name] or -1, *arguments)


def call_number(number: int, *arguments: int | bytes) -> int:
    """The same, of any number."""
    given = [ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *given))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def called(name: str, *arguments: int | bytes) -> Callable[[], str]:
    """An attempt that is one call."""

    def make() -> str:
        call(name, *arguments)
        return DONE

    return make


# --- files


def opened(path: str, flags: int = os.O_RDONLY) -> Callable[[], str]:
    """Opened so, and closed again."""

    def make() -> str:
        os.close(os.open(path, flags | os.O_NONBLOCK, 0o600))
        return DONE

    return make


def below(directory: str, flags: int, path: str) -> Callable[[], str]:
    """From a directory that could be opened, by a relative way."""

    def make() -> str:
        fd = os.open(directory, os.O_DIRECTORY | flags)
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK, dir_fd=fd))
        finally:
            os.close(fd)
        return DONE

    return make


def renamed(source: str, target: str) -> Callable[[], str]:
    """Moved."""

    def make() -> str:
        os.rename(source, target)
        return DONE

    return make


def removed(path: str) -> Callable[[], str]:
    """Unlinked."""

    def make() -> str:
        os.unlink(path)
        return DONE

    return make


def looked_at(path: str) -> Callable[[], str]:
    """stat(2), which landlock does not know."""

    def make() -> str:
        os.stat(path)
        return DONE

    return make


def a_state_file_of_ones_own() -> str:
    """Made, written, read, renamed over another, removed."""
    for name in ("one", "two"):
        fd = os.open(f"{STATE}/{name}", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, bytes(1 << 20))
        os.close(fd)
    os.rename(f"{STATE}/one", f"{STATE}/two")
    os.unlink(f"{STATE}/two")
    return DONE


def as_many_descriptors_as_there_are() -> str:
    """Until the kernel says no; then they are closed."""
    found: list[int] = []
    try:
        while len(found) < 4096:
            found.append(os.open("/etc/hostname", os.O_RDONLY))
    finally:
        for fd in found:
            os.close(fd)
    return DONE


# --- network


def tcp(host: str, port: int) -> Callable[[], str]:
    """A connection."""

    def make() -> str:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as made:
            made.settimeout(20)
            made.connect((host, port))
        return DONE

    return make


def tcp_of_another_family() -> str:
    """An IPv4 address for an IPv6 socket."""
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as made:
        call("connect", made.fileno(), _ipv4("127.0.0.1", TCP_NOT_GRANTED), 16)
    return DONE


def tcp_again() -> str:
    """By a socket that was connected to where it may, and let go."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.connect(("127.0.0.1", 7946))
        call("connect", made.fileno(), struct.pack("=H14x", socket.AF_UNSPEC), 16)
        made.connect(("127.0.0.1", TCP_NOT_GRANTED))
    return DONE


def tcp_fast_open() -> str:
    """Data and connection in one: no connect(2) for landlock to see."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.sendto(b"data", MSG_FASTOPEN, ("127.0.0.1", TCP_NOT_GRANTED))
    return DONE


def tcp_fast_open_by_message() -> str:
    """The same by sendmsg(2)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.sendmsg([b"data"], (), MSG_FASTOPEN, ("127.0.0.1", TCP_NOT_GRANTED))
    return DONE


def listening_unbound() -> str:
    """A socket that listens without a bind(2) would get a port of the kernel's, and landlock not be asked."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.listen()
        return "done" if made.getsockname()[1] > 1023 else "no port"


def udp(host: str, port: int) -> Callable[[], str]:
    """A datagram."""

    def make() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            made.sendto(b"data", (host, port))
        return DONE

    return make


def udp_with(level: int, kind: int, data: bytes) -> Callable[[], str]:
    """A datagram with a control message."""

    def make() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            made.sendmsg([b"data"], [(level, kind, data)], 0, (LAN, 9))
        return DONE

    return make


def of_every_other_family() -> str:
    """Sockets of every domain but IPv4 and IPv6, of every type: all that they were answered."""
    said = set()
    for domain, kind in itertools.product(range(64), range(1, 11)):
        if domain not in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.socket(domain, kind, 0).close()
                said.add(f"domain {domain}")
            except OSError as error:
                said.add(errno.errorcode[error.errno or 0])
    return " ".join(sorted(said))


def of(domain: int, kind: int, protocol: int) -> Callable[[], str]:
    """A socket."""

    def make() -> str:
        socket.socket(domain, kind, protocol).close()
        return DONE

    return make


def a_pair() -> str:
    """Of sockets."""
    for end in socket.socketpair():
        end.close()
    return DONE


def _ipv4(host: str, port: int) -> bytes:
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(host))


# --- memory


def mapped(protection: int) -> Callable[[], str]:
    """Memory of one's own."""
    return called("mmap", 0, mmap.PAGESIZE, protection, ANONYMOUS, -1, 0)


def written_and_executed() -> str:
    """Memory that was writable, made executable."""
    address = call("mmap", 0, mmap.PAGESIZE, READ | WRITE, ANONYMOUS, -1, 0)
    return called("mprotect", address, mmap.PAGESIZE, READ | EXECUTE)()


def mapped_from_a_file() -> str:
    """A file of one's own as code."""
    fd = os.open(f"{STATE}/code", os.O_RDWR | os.O_CREAT, 0o700)
    try:
        os.write(fd, bytes(mmap.PAGESIZE))
        return called("mmap", 0, mmap.PAGESIZE, READ | EXECUTE, mmap.MAP_PRIVATE, fd, 0)()
    finally:
        os.close(fd)
        os.unlink(f"{STATE}/code")


def _code() -> int:
    """A page that was executable before lockdown."""
    address = call("mmap", 0, mmap.PAGESIZE, READ | EXECUTE, ANONYMOUS, -1, 0)
    return address if address > 0 else 0


_PAGE = _code()


def changed_code() -> str:
    """Code that was there, made writable, written, made executable again."""
    call("mprotect", _PAGE, mmap.PAGESIZE, READ | WRITE)
    ctypes.memset(_PAGE, 0xC3, 1)
    return called("mprotect", _PAGE, mmap.PAGESIZE, READ | EXECUTE)()


# --- what kills


def forked() -> str:
    """A child."""
    if os.fork() == 0:
        os._exit(0)
    return DONE


def a_thread() -> str:
    """One more."""
    threading.Thread(target=print).start()
    return DONE


def executed(path: bytes) -> Callable[[], str]:
    """A program in one's own place."""
    return called("execve", path, 0, 0)


_BUFFER = ctypes.create_string_buffer(256)
_AT = ctypes.addressof(_BUFFER)
_VECTOR = struct.pack("PN", _AT, 8)

ATTEMPTS = {
    attempt.name: attempt
    for attempt in (
        # What SECURITY.md says remains possible.
        Attempt("read /etc/hostname", opened("/etc/hostname"), DONE),
        Attempt("read /etc/passwd", opened("/etc/passwd"), DONE),
        Attempt("see that a program is there", looked_at("/usr/bin/env"), DONE),
        Attempt("see that the helper is there", looked_at(f"/proc/{HELPER}"), DONE),
        Attempt("make, fill, rename and remove state files", a_state_file_of_ones_own, DONE),
        Attempt("read another instance's state file", opened(f"{STATE}/another.json"), DONE),
        Attempt("remove a socket in the runtime directory", removed(f"{RUNTIME}/another.sock"), DONE),
        Attempt("TCP to the cluster port", tcp("127.0.0.1", 7946), DONE),
        Attempt("TCP to port 53", tcp("127.0.0.1", 53), "ECONNREFUSED"),
        Attempt("UDP to anybody", udp("127.0.0.1", 9), DONE),
        Attempt("UDP to WireGuard's port", udp("127.0.0.1", 51820), DONE),
        Attempt("memory", mapped(READ | WRITE), DONE),
        Attempt("hold its own network's name, which setns(2) alone wants", opened("/proc/self/ns/net"), DONE),
        # Reading.
        *(
            Attempt(f"read {path}", opened(path), "EACCES")
            for path in (
                *("/etc/shadow", "/usr/bin/env", "/bin/sh", "/lib", "/", "/root", "/home", "/tmp", "/run", "/var/lib"),
                *("/run/cluster.key", "/run/secret", "/var/lib/other/secret", RUNTIME, f"{RUNTIME}/wgoverlay.sock"),
                *(
                    "/dev/null",
                    "/dev/zero",
                    "/dev/tty",
                    "/dev/ptmx",
                    "/dev/net/tun",
                    "/dev/kmsg",
                    "/dev/shm",
                ),
                *("/sys/class/net", "/sys/kernel/security", "/proc", "/proc/net/tcp", "/proc/sys/kernel/hostname"),
                *("/proc/self/status", "/proc/self/mem", "/proc/self/maps", "/proc/self/environ", "/proc/self/fd"),
                *("/proc/self/exe", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/1/environ"),
            )
        ),
        *(
            Attempt(f"the helper's {name}", opened(f"/proc/{HELPER}/{name}"), "EACCES")
            for name in ("mem", "maps", "environ", "cmdline", "status", "fd", "fd/3", "fd/4", "exe", "ns/net", "task")
        ),
        Attempt("read through a link that was there", opened(f"{STATE}/link"), "EACCES"),
        Attempt("read beside the state directory", below(STATE, 0, "../other/secret"), "EACCES"),
        Attempt("read a program from /, held by path", below("/", os.O_PATH, "usr/bin/env"), "EACCES"),
        Attempt("the list of /etc", opened("/etc", os.O_DIRECTORY), "EACCES"),
        Attempt("ask what may be read", lambda: str(os.access("/etc/shadow", os.R_OK)), "False"),
        Attempt("follow a link", lambda: os.readlink("/proc/self/exe"), "EPERM"),
        # Writing.
        *(
            Attempt(f"write {path}", opened(path, os.O_WRONLY), "EACCES")
            for path in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/everybodys", "/dev/null")
        ),
        *(
            Attempt(f"make a file in {path}", opened(f"{path}/made", os.O_WRONLY | os.O_CREAT | os.O_EXCL), "EACCES")
            for path in ("/etc", "/tmp", "/dev/shm", "/run", RUNTIME, "/var/lib")
        ),
        Attempt("make a file without a name", opened("/tmp", os.O_TMPFILE | os.O_RDWR), "EACCES"),
        Attempt("empty a file of everybody's", opened("/run/everybodys", os.O_WRONLY | os.O_TRUNC), "EACCES"),
        Attempt("move a file out", renamed(f"{STATE}/another.json", "/var/lib/moved"), "EACCES"),
        Attempt("move a file in", renamed("/var/lib/other/secret", f"{STATE}/moved"), "EACCES"),
        Attempt("move the state directory", renamed(STATE, "/var/lib/moved"), "EACCES"),
        Attempt("move the control socket", renamed(f"{RUNTIME}/wgoverlay.sock", f"{RUNTIME}/moved"), "EACCES"),
        Attempt("move the hosts file", renamed("/etc/hosts", "/etc/moved"), "EACCES"),
        *(
            Attempt(f"remove {path}", removed(path), "EACCES")
            for path in ("/etc/hosts", "/run/cluster.key", "/tmp/everybodys", "/run/wireguard/wgoverlay.sock")
        ),
        Attempt("open as many files as there are", as_many_descriptors_as_there_are, "EMFILE"),
        # The network.
        *(
            Attempt(f"TCP to {host} port {port}", tcp(host, port), "EACCES")
            for host, port in (
                *(("127.0.0.1", TCP_NOT_GRANTED), ("127.0.0.1", 1), ("127.0.0.1", 22), ("127.0.0.1", 51820)),
                *(("127.0.0.1", 7945), ("127.0.0.1", 65535), ("::1", 22), ("::ffff:127.0.0.1", TCP_NOT_GRANTED)),
                (LAN, 80),
            )
        ),
        Attempt("TCP by an IPv6 socket to IPv4", tcp_of_another_family, "EINVAL"),
        Attempt("TCP by a socket that was connected elsewhere", tcp_again, "EACCES"),
        Attempt("listen on a port of the kernel's choice", listening_unbound, "no port"),
        Attempt("UDP to everybody", udp(LAN_BROADCAST, 9), "EACCES"),
        Attempt("UDP with a mark", udp_with(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("I", 7)), "EPERM"),
        Attempt(
            "UDP from somebody else's address",
            udp_with(socket.IPPROTO_IP, 8, struct.pack("I4s4s", 0, socket.inet_aton(ELSEWHERE), bytes(4))),
            "ENETUNREACH",
        ),
        Attempt("sockets of every other family", of_every_other_family, "EAFNOSUPPORT"),
        Attempt("a unix socket", of(socket.AF_UNIX, socket.SOCK_STREAM, 0), "EAFNOSUPPORT"),
        Attempt("rtnetlink", of(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE), "EAFNOSUPPORT"),
        Attempt("generic netlink", of(socket.AF_NETLINK, socket.SOCK_RAW, 16), "EAFNOSUPPORT"),
        Attempt("a packet socket", of(socket.AF_PACKET, socket.SOCK_RAW, 0), "EAFNOSUPPORT"),
        Attempt("vsock", of(socket.AF_VSOCK, socket.SOCK_STREAM, 0), "EAFNOSUPPORT"),
        Attempt("the kernel's ciphers", of(socket.AF_ALG, socket.SOCK_SEQPACKET, 0), "EAFNOSUPPORT"),
        Attempt("a pair of sockets", a_pair, "EAFNOSUPPORT"),
        # Memory.
        Attempt("memory to write and execute", mapped(READ | WRITE | EXECUTE), "EACCES"),
        Attempt("memory to execute", mapped(READ | EXECUTE), "EACCES"),
        Attempt("memory made executable", written_and_executed, "EACCES"),
        Attempt("a file as code", mapped_from_a_file, "EACCES"),
        Attempt("code that is there, changed", changed_code, "EACCES"),
        # What kills.
        Attempt("run a shell", executed(b"/bin/sh"), KILLED),
        Attempt("run a descriptor", called("execveat", 4, b"", 0, 0, AT_EMPTY_PATH), KILLED),
        Attempt("fork", forked, KILLED),
        Attempt("start a thread", a_thread, KILLED),
        Attempt("trace the helper", called("ptrace", PTRACE_SEIZE, HELPER, 0, 0), KILLED),
        Attempt("read the helper's memory", called("process_vm_readv", HELPER, _VECTOR, 1, _VECTOR, 1, 0), KILLED),
        Attempt("signal the helper", called("kill", HELPER, signal.SIGTERM), KILLED),
        Attempt("a descriptor of the helper's process", called("pidfd_open", HELPER, 0), KILLED),
        Attempt("become root", called("setresuid", 0, 0, 0), KILLED),
        Attempt("mount", called("mount", b"none", b"/tmp", b"tmpfs", 0, 0), KILLED),
        Attempt("namespaces of one's own", called("unshare", CLONE_NEWUSER), KILLED),
        Attempt("somebody else's namespaces", called("setns", 3, 0), KILLED),
        Attempt("bpf", called("bpf", 0, _AT, 128), KILLED),
        Attempt("io_uring", called("io_uring_setup", 8, _AT), KILLED),
        Attempt("userfaultfd", called("userfaultfd", 1), KILLED),
        Attempt("a file in memory", called("memfd_create", b"program", 0), KILLED),
        Attempt("a file by its handle", called("open_by_handle_at", 3, _AT, 0), KILLED),
        Attempt("type into a terminal", called("ioctl", 1, TIOCSTI, _AT), KILLED),
        Attempt("be dumpable again", called("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0), KILLED),
        Attempt("another sandbox", called("landlock_restrict_self", 3, 0), KILLED),
        Attempt("have the kernel signal the helper", called("fcntl", 3, F_SETOWN, HELPER), KILLED),
        Attempt("a raw socket", of(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP), KILLED),
        Attempt("a ping socket", of(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP), KILLED),
        Attempt("multipath TCP, which landlock does not know", of(2, socket.SOCK_STREAM, IPPROTO_MPTCP), KILLED),
        Attempt("TCP's fast open, which landlock does not see", tcp_fast_open, KILLED),
        Attempt("TCP's fast open by message", tcp_fast_open_by_message, KILLED),
        Attempt("bind", called("bind", 3, _AT, 16), KILLED),
        Attempt("a name for somebody else's file", called("link", b"/etc/hosts", f"{STATE}/h".encode()), KILLED),
        Attempt("a link in the state directory", called("symlink", b"/", f"{STATE}/l".encode()), KILLED),
        Attempt("a device in the state directory", called("mknod", f"{STATE}/d".encode(), stat.S_IFCHR, 0x103), KILLED),
        Attempt("remove the state directory", lambda: str(os.rmdir(STATE)), KILLED),
        Attempt("x32's getpid", lambda: str(call_number(X32 + 39)), KILLED),
    )
}
