"""Python code in a process of its own, which may lock itself in or be killed for what it tries."""

import os
import signal
import subprocess
import sys
import textwrap

LOCKED = """
import ctypes, errno, os, socket, sys
from privhelper import landlock, lockdown, profiles, seccomp
from privhelper.landlock import Grants
from privhelper.lockdown import Lockdown
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    "What the system call answers: a number, or the name of an error."
    result = libc.syscall(ctypes.c_long(number), *arguments)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else result
"""
"""What a piece of code below may use."""


def run_alone(code: str, *arguments: str) -> str:
    """Run `code`; its standard output, and the signal that ended it if one did."""
    argv = [sys.executable, "-c", LOCKED + textwrap.dedent(code), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=os.getcwd(), timeout=60)
    assert done.returncode <= 0, done.stderr
    return done.stdout.strip() + (f" {signal.Signals(-done.returncode).name}" if done.returncode else "")
