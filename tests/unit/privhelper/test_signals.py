"""A signal that comes while a half starts is neither lost nor its end."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from privhelper.signals import SIGNALS

SECOND = """
import signal
from privhelper.signals import SIGNALS, release
came = []
for number in SIGNALS:
    signal.signal(number, lambda number, frame: came.append(number))
assert came == []
release()
print(sorted(came))
"""

FIRST = """
import os, sys
from privhelper.signals import hold
hold()
for number in map(int, sys.argv[2].split(",")):
    os.kill(os.getpid(), number)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""


@pytest.mark.parametrize("numbers", [[], [signal.SIGTERM], [signal.SIGINT], [signal.SIGHUP], list(SIGNALS)])
def test_a_signal_that_comes_before_an_exec_is_there_after_it(numbers: list[int]) -> None:
    """Held back by the program before, let come by the one after once it has handlers."""
    words = ",".join(str(int(number)) for number in numbers) or "0"  # 0 only asks whether the process is there
    command = [sys.executable, "-c", FIRST, SECOND, words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ("", f"{sorted(map(int, numbers))}\n", 0) == (done.stderr, done.stdout, done.returncode)


def test_ctrl_c_ends_who_has_nothing_to_take_down_at_once() -> None:
    """Without a traceback, and without running what an exception would have run."""
    script = """
import os, signal
from privhelper.signals import end_by_interrupt
end_by_interrupt()
try:
    os.kill(os.getpid(), signal.SIGINT)
finally:
    print("still here", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert ("", "", -signal.SIGINT) == (done.stderr, done.stdout, done.returncode)
