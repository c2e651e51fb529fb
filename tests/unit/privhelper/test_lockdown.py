"""The steps of lockdown on this kernel, each in a process of its own: what is left, and what is said where a kernel has
less. The live processes are tests/hostile's."""

from pathlib import Path

import pytest

from privhelper.lockdown import Lockdown
from tests.unit.privhelper.confined import run_alone

WITHOUT = """
import pyseccomp
def kernel_without(*calls):
    "As in a container whose own filter knows less than we."
    filters = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for call in calls:
        filters.add_rule(pyseccomp.ERRNO(errno.ENOSYS), call)
    filters.load()
"""


def test_nothing_that_is_open_is_lost_and_nothing_more_is_opened(tmp_path: Path) -> None:
    """The helper's way: its hosts file stays writable by descriptor."""
    file = tmp_path / "hosts"
    file.write_bytes(b"")
    said = run_alone(
        """
        fd = os.open(sys.argv[1], os.O_RDWR)
        it = Lockdown("strict")
        it.privileges(); it.files(Grants()); it.calls(profiles.HELPER, descriptors=64)
        os.pwrite(fd, b"written", 0)
        try:
            open(sys.argv[1])
        except OSError as error:
            print(error.strerror)
        """,
        str(file),
    )
    assert said == "Operation not permitted"
    assert file.read_bytes() == b"written"


def test_an_error_is_still_told_whole() -> None:
    """A filter that kills for a look at the source would leave the operator with nothing."""
    said = run_alone(
        """
        sys.stderr = sys.stdout
        it = Lockdown("strict")
        it.privileges(); it.files(Grants()); it.calls(profiles.LOGPIPE, descriptors=16)
        import traceback
        try:
            raise ValueError("what is wrong")
        except ValueError:
            traceback.print_exc()
        """
    )
    assert said.endswith("ValueError: what is wrong")


def test_limits_are_for_good() -> None:
    """No thread or process more, no core, and so many descriptors."""
    said = run_alone(
        """
        import resource
        from privhelper.sandbox import limit
        limit(32)
        names = ("NOFILE", "NPROC", "CORE", "MEMLOCK", "MSGQUEUE")
        print([resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names])
        """
    )
    assert said == "[(32, 32), (0, 0), (0, 0), (0, 0), (0, 0)]"


def test_a_limit_that_is_lower_already_stays() -> None:
    """Raising a hard limit would need a capability."""
    said = run_alone(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        from privhelper.sandbox import limit
        limit(32)
        print(resource.getrlimit(resource.RLIMIT_NOFILE))
        """
    )
    assert said == "(20, 20)"


@pytest.mark.parametrize(
    ("calls", "layer"), [(("landlock_create_ruleset",), "landlock"), (("landlock_restrict_self",), "landlock")]
)
def test_strict_refuses_a_kernel_with_less(calls: tuple[str, ...], layer: str) -> None:
    """In one line, which says what to do."""
    said = run_alone(
        WITHOUT
        + f"""
try:
    kernel_without(*{calls})
    it = Lockdown("strict")
    it.privileges()
    it.files(Grants())
except lockdown.NoSandbox as error:
    print(error)
"""
    )
    assert layer in said
    assert said.endswith("give --sandbox available to run without it")
    assert "\n" not in said


def test_available_does_without_and_says_so() -> None:
    """What is there is still used."""
    said = run_alone(
        WITHOUT
        + """
kernel_without("landlock_create_ruleset", "landlock_restrict_self")
it = Lockdown("available")
it.privileges()
it.files(Grants())
print(it.remark)
open("/etc/hostname").close()
number = seccomp.number_of("openat")
it.calls(profiles.HELPER, descriptors=16)
print(call(number, -100, b"/etc/hostname", 0))
"""
    )
    assert said.split("\n") == ["sandbox without landlock (Function not implemented)", "EPERM"]


def test_off_leaves_the_privileges_given_up_and_nothing_else() -> None:
    """They are not to be had back in any case."""
    said = run_alone(
        """
        it = Lockdown("off")
        it.privileges(); it.files(Grants()); it.calls(profiles.LOGPIPE, descriptors=16)
        open("/etc/hostname").close()
        status = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
        print(status["Seccomp"], status["NoNewPrivs"], status["CapPrm"], it.remark)
        """
    )
    assert said == "0 1 0000000000000000 sandbox off: neither seccomp nor landlock keeps this process in"


def test_a_mode_is_one_of_three() -> None:
    """Anything else never gets here: the options refuse it. It is not taken for `off`."""
    assert Lockdown("available").remark is None


def test_no_program_is_started_to_find_a_library() -> None:
    """ctypes.util.find_library would run ldconfig or gcc, as root."""
    said = run_alone(
        """
        import subprocess, importlib
        for name in [name for name in sys.modules if name.startswith(("pyseccomp", "landlockpy", "privhelper"))]:
            del sys.modules[name]
        started = []
        starts = ("subprocess", "os.posix_spawn", "os.fork")
        sys.addaudithook(lambda event, values: started.append(event) if event.startswith(starts) else None)
        from privhelper import lockdown
        lockdown.check("strict")
        print(started)
        """
    )
    assert said == "[]"
