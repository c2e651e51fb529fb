"""What a process gives up, where no root is needed to see it."""

import os
import resource
import subprocess
import sys

import pytest

from privhelper.sandbox import MAX_ID, Identity

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
