"""Rows as filters, each tried in a process of its own. Every number of the real profiles is tests/hostile's."""

import platform

import pytest

from privhelper import profiles, seccomp
from tests.unit.privhelper.confined import run_alone

OURS = ("HELPER", "AGENT", "LOGPIPE")

pytestmark = pytest.mark.needs(seccomp.is_available(), "seccomp")


def filtered(rows: str, then: str) -> str:
    """What `then` prints where the logpipe's profile and `rows` are loaded."""
    return run_alone(
        f"""
        from privhelper.profiles import Row
        Lockdown("off").privileges()
        seccomp.load((*profiles.LOGPIPE, {rows}))
        {then}
        """
    )


@pytest.mark.parametrize(
    ("condition", "number", "expected"),
    [
        ('(0, "==", 5)', 5, "EBADF"),
        ('(0, "==", 5)', 6, "SIGSYS"),
        ('(0, "==", 5)', 5 + 2**32, "SIGSYS"),
        ('(0, "<", 5)', 4, "EBADF"),
        ('(0, "<", 5)', 5, "SIGSYS"),
        ('(0, ">", 50)', 51, "EBADF"),
        ('(0, ">", 50)', 50, "SIGSYS"),
        ('(0, "has", 6)', 70, "EBADF"),
        ('(0, "has", 6)', 66, "SIGSYS"),
        ('(0, "lacks", 6)', 72, "EBADF"),
        ('(0, "lacks", 6)', 74, "SIGSYS"),
    ],
)
def test_a_condition_asks_what_it_says(condition: str, number: int, expected: str) -> None:
    """Of all 64 bits."""
    code = f'print(call(seccomp.number_of("fchdir"), ctypes.c_ulong({number})))'
    assert expected == filtered(f'Row("fchdir", ({condition},))', code).strip()


def test_all_conditions_of_a_row_must_hold_and_one_row_is_enough() -> None:
    """As for sockets: domain and type and protocol, in several combinations."""
    rows = 'Row("dup2", ((0, "==", 90), (1, "==", 91))), Row("dup2", ((0, "==", 92),))'
    if seccomp.number_of("dup2") is None:
        pytest.skip("this architecture has no dup2")
    for arguments, expected in (("90, 91", "EBADF"), ("92, 1", "EBADF"), ("90, 92", "SIGSYS")):
        assert expected == filtered(rows, f'print(call(seccomp.number_of("dup2"), {arguments}))').strip()


def test_an_answer_is_given_in_place_of_the_call() -> None:
    """It is not carried out."""
    assert "ENOTTY" == filtered('Row("getppid", (), errno.ENOTTY)', 'print(call(seccomp.number_of("getppid")))')


def test_a_call_that_this_architecture_lacks_is_passed_over() -> None:
    """`open` on arm64, say; here one that no 64-bit architecture has."""
    assert seccomp.number_of("socketcall") is None
    assert "done" == filtered('Row("socketcall")', 'print("done")')


@pytest.mark.parametrize("name", OURS)
def test_every_row_names_a_call_of_linux(name: str) -> None:
    """A slip of the pen would be taken for a call that this architecture lacks."""
    import pyseccomp

    unknown = -1  # __NR_SCMP_ERROR
    found = {row.call: pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, row.call) for row in getattr(profiles, name)}
    assert [] == [call for call, number in found.items() if number == unknown]


@pytest.mark.parametrize("name", OURS)
def test_no_profile_has_what_starts_a_program_or_takes_another_identity(name: str) -> None:
    """Read off the table, so that a new row does not slip in."""
    never = (
        "execve execveat fork vfork clone clone3 ptrace process_vm_readv process_vm_writev kill tgkill tkill "
        "pidfd_open pidfd_getfd pidfd_send_signal setuid setgid setresuid setresgid setgroups capset "
        "prctl mount umount2 unshare "
        "setns chroot pivot_root bpf io_uring_setup userfaultfd perf_event_open keyctl add_key init_module kexec_load "
        "memfd_create seccomp landlock_create_ruleset personality bind"
    ).split()
    assert [] == [row.call for row in getattr(profiles, name) if row.call in never]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of another architecture to try are x86's")
@pytest.mark.parametrize("number", [0x40000000, 0x40000000 + 39, -1, 2**31 - 1])
def test_numbers_of_another_architecture_kill(number: int) -> None:
    """x32's `getpid` is not ours, nor is what is no number at all."""
    assert "SIGSYS" == filtered('Row("getpid")', f"print(call({number}))").strip()


def test_every_thread_is_held() -> None:
    """Also one that was there before."""
    said = run_alone(
        """
        import threading
        go = threading.Event()
        thread = threading.Thread(target=lambda: (go.wait(), call(seccomp.number_of("getppid"))))
        thread.start()
        Lockdown("off").privileges()
        seccomp.load(profiles.LOGPIPE)
        go.set()
        thread.join()
        print("alive")
        """
    )
    assert said.strip() == "SIGSYS"


@pytest.mark.parametrize(
    ("call", "arguments"), [("sendto", "fd, b'x', 1, {}, 0, 0"), ("sendmsg", "fd, 0, {}"), ("sendmmsg", "fd, 0, 0, {}")]
)
def test_no_connection_is_opened_by_sending(call: str, arguments: str) -> None:
    """TCP Fast Open: landlock, which decides where TCP goes, would not be asked."""
    code = f"""
        Lockdown("off").privileges()
        fd = socket.socket().fileno()
        seccomp.load(profiles.AGENT)
        print(call(seccomp.number_of("{call}"), {arguments}))
        """
    assert "SIGSYS" not in run_alone(code.replace("{}", "0"))
    assert "SIGSYS" == run_alone(code.replace("{}", "socket.MSG_FASTOPEN | socket.MSG_DONTWAIT")).strip()


def test_no_socket_of_the_agents_comes_to_listen() -> None:
    """One without a bind gets a port of the kernel's, and landlock is not asked. asyncio, which tells those that listen
    already to do so, hears that it is done."""
    code = """
        Lockdown("off").privileges()
        made = socket.socket()
        seccomp.load(profiles.AGENT)
        print(call(seccomp.number_of("listen"), made.fileno(), 100), made.getsockname()[1])
        """
    assert "0 0" == run_alone(code).strip()


def test_a_queue_of_the_agents_cannot_be_made_shorter() -> None:
    """Whoever asks the control socket, root perhaps, would wait in it."""
    code = """
        Lockdown("off").privileges()
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        seccomp.load(profiles.AGENT)
        said = call(seccomp.number_of("listen"), listener.fileno(), 0)
        clients = [socket.socket() for _ in range(8)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(address)
        print(said, sum(1 for _ in clients if listener.accept()))
        """
    assert "0 8" == run_alone(code).strip()
