"""A process on a leash ends with whoever holds the hand, whatever it does and whoever may not signal it."""

import os
import signal
import subprocess

from privhelper import leash
from tests.lab.until import until


def test_who_is_tied_is_killed_when_the_only_hand_is_gone() -> None:
    """Not before, and though it ignores what can be ignored."""
    collar, hand = os.pipe()
    with subprocess.Popen(["sh", "-c", "trap '' TERM INT HUP IO; while :; do sleep 1000; done"]) as tied:
        leash.tie(collar, tied.pid)
        other = os.dup(hand)
        os.close(hand)
        assert tied.poll() is None
        os.close(other)
        until(lambda: tied.poll() == -signal.SIGKILL, 10, "it is killed")
    os.close(collar)


def test_a_leash_that_is_tied_to_nobody_kills_nobody() -> None:
    """Beside a terminal in the split layout, where the helper is a service of its own."""
    collar, hand = os.pipe()
    with subprocess.Popen(["sleep", "1000"]) as free:
        os.close(hand)
        assert free.poll() is None
        free.kill()
    os.close(collar)
