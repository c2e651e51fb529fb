"""What a process gives up, where no root is needed to see it."""

import os
import resource
import subprocess
import sys

import pytest

from privhelper.sandbox import MAX_ID, Identity
from tests.unit.privhelper.confined import run_alone

UNDER_A_UNIT = """
import pyseccomp
from privhelper import sandbox
for _ in range(2):  # root gives up what it has; who has nothing does nothing
    sandbox.confine()
filter = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
filter.add_rule(pyseccomp.ERRNO(errno.EPERM), "capset")
filter.add_rule(pyseccomp.ERRNO(errno.EAFNOSUPPORT), "socket", pyseccomp.Arg(0, pyseccomp.EQ, socket.AF_INET))
filter.load()
"""
"""A process as a service manager starts it: without capabilities, and without calls that it is thought not to need."""

LEAK = """
import os, resource
from privhelper.sandbox import close_all_but
high = os.dup2(os.open("/dev/null", os.O_RDONLY), 300)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
close_all_but(3)
print(sorted(int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) >= 200))
"""


def test_descriptors_above_a_limit_that_was_lowered_later_are_closed_too() -> None:
    """The limit says what may be opened from now on, not what is open."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 300
    done = subprocess.run([sys.executable, "-c", LEAK], capture_output=True, text=True, check=True, cwd=os.getcwd())
    assert "[]\n" == done.stdout


@pytest.mark.parametrize("number", [0, -1, MAX_ID + 1])
def test_no_identity_is_root_or_nobody_in_particular(number: int) -> None:
    """The number after the highest means "stay who you are"."""
    with pytest.raises(OSError, match="Invalid argument"):
        Identity(number, 61001).assume()
    with pytest.raises(OSError, match="Invalid argument"):
        Identity(61001, number).assume()


def test_who_has_no_capability_confines_itself_where_none_may_be_set() -> None:
    """The agent's unit gives it none and forbids capset."""
    assert "done" == run_alone(f"{UNDER_A_UNIT}\nsandbox.confine()\nprint('done')")


def test_who_lacks_a_capability_is_not_made_to_seem_to_have_it() -> None:
    """What is not so is set, and the kernel says no."""
    code = "try:\n    sandbox.confine([sandbox.NET_ADMIN])\nexcept OSError as error:\n    print(error.strerror)"
    assert "Operation not permitted" == run_alone(f"{UNDER_A_UNIT}\n{code}")


def test_a_port_that_may_not_be_tried_is_left_to_the_kernel() -> None:
    """The helper's unit lets it make no internet socket; who takes the port then, WireGuard is told."""
    code = "from privhelper import link\nprint(link.check_port(51820))"
    assert "None" == run_alone(f"{UNDER_A_UNIT}\n{code}")
