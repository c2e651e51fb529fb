"""Waiting is polling against a bound. A bound is a claim about behaviour ("within 2 s"), so it is measured and printed;
a loaded CI machine gets three times as long before the claim counts as broken."""

import os
import subprocess
import time
from collections.abc import Callable

INTERVAL = 0.02
CI_SLACK = 3  # CI machines are shared and slow; the claim is about the program, not about them
GUEST_SLACK = 15  # without hardware acceleration everything takes 12 to 16 times as long

NOT_YET = (OSError, ValueError, LookupError, AssertionError, subprocess.SubprocessError)
"""What a condition may raise while what it looks at is still coming up; anything else is a mistake, passed on."""


def bound(within: float) -> float:
    """The seconds that `within` allows on this machine."""
    if "WESHER_INSIDE_GUEST" in os.environ:
        return within * GUEST_SLACK
    return within * CI_SLACK if os.environ.get("CI") == "true" else within


def until(condition: Callable[[], object], within: float, what: str) -> float:
    """Poll until `condition()` is true; returns the seconds it took, raises AssertionError after `within` seconds."""
    start = time.monotonic()
    limit = bound(within)
    while True:
        try:
            value = condition()
        except NOT_YET as error:
            value, done = error, False
        else:
            done = bool(value)
        seconds = time.monotonic() - start
        if done:
            print(f"{what}: {seconds:.2f} s (bound {limit:g} s)", flush=True)
            return seconds
        if seconds > limit:
            raise AssertionError(f"not within {limit:g} s: {what}; last value: {value!r}")
        time.sleep(INTERVAL)
