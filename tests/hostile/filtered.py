"""System calls under a profile, each in a process of its own, since most of them end it.

Run by its source text: `python -c SOURCE PROFILE < calls`, where PROFILE may be "none" and calls are JSON, a list of
[number, argument, ...] or of ["int80", number]. Answers with a list of what became of each: "done", the name of an
error, or of a signal. The process takes the steps of a real one's lockdown, but for the last: that is its children's.
"""

import ctypes
import errno
import json
import mmap
import os
import signal
import sys

from privhelper import profiles
from privhelper.landlock import Grants
from privhelper.lockdown import Lockdown
from privhelper.sandbox import Identity

NOBODY = Identity(61003, 61003)
DONE = 255
SECONDS = 30  # after which a call that waits is ended, by another signal than a filter's

# push rbx, rbp; mov eax, edi; the six argument registers to zero; int 0x80; pop rbp, rbx; ret
INT80 = bytes.fromhex("5355 89f8 31db 31c9 31d2 31f6 31ff 31ed cd80 5d5b c3")

libc = ctypes.CDLL(None, use_errno=True)
page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)  # before that is forbidden
page.write(INT80)
int80 = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))


def outcome(call: list) -> str:
    """What becomes of it."""
    if (pid := os.fork()) == 0:
        signal.alarm(SECONDS)
        if profile is not None:
            lockdown.calls(profile, descriptors=64)
        if call[0] == "int80":
            code = -int80(call[1])
            os._exit(DONE if code <= 0 else code)
        result = libc.syscall(*(ctypes.c_ulong(value % 2**64) for value in call))
        os._exit(DONE if result != -1 else ctypes.get_errno())
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    code = os.WEXITSTATUS(status)
    return "done" if code == DONE else errno.errorcode[code]


profile = getattr(profiles, sys.argv[1], None)
calls = json.load(sys.stdin)
lockdown = Lockdown("available")
if os.geteuid() == 0:
    NOBODY.assume()
lockdown.privileges()
lockdown.files(Grants())
print(json.dumps([outcome(call) for call in calls]))
