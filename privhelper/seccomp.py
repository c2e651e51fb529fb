"""A profile as a filter of the kernel's, for every thread of this process and for good; libseccomp knows the numbers.

Calls that this architecture does not have (`open` on arm64) are passed over. Those of another one (i386, x32) kill.
"""

from __future__ import annotations

from typing import Final

from privhelper.profiles import Profile, Test
from privhelper.sonames import without_a_search

with without_a_search():
    import pyseccomp

_BEST_LAYOUT: Final = 2  # a binary tree of the numbers in place of a list
_COMPARISONS: Final[dict[Test, int]] = {"==": pyseccomp.EQ, "<": pyseccomp.LT, ">": pyseccomp.GT}


def is_available() -> bool:
    """Whether this kernel has seccomp filters."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return any(line.startswith("Seccomp:") for line in status)


def load(profile: Profile) -> None:
    """From now on this process makes the calls of `profile` and no other. no_new_privs is set. Raises OSError."""
    filters = pyseccomp.SyscallFilter(pyseccomp.KILL_PROCESS)
    filters.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)
    filters.set_attr(pyseccomp.Attr.CTL_TSYNC, 1)
    filters.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, _BEST_LAYOUT)
    filters.set_attr(pyseccomp.Attr.API_SYSRAWRC, 1)  # the kernel's own error number
    for row in profile:
        number = number_of(row.call)
        if number is not None:
            action = pyseccomp.ALLOW if row.answer is None else pyseccomp.ERRNO(row.answer)
            filters.add_rule(action, number, *(_condition(*condition) for condition in row.when))
    filters.load()


def number_of(call: str) -> int | None:
    """The number of a system call; None where this architecture does not have it (libseccomp's is then negative)."""
    number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, call)
    return number if number >= 0 else None


def _condition(argument: int, test: Test, number: int) -> pyseccomp.Arg:
    if test in _COMPARISONS:
        return pyseccomp.Arg(argument, _COMPARISONS[test], number)
    return pyseccomp.Arg(argument, pyseccomp.MASKED_EQ, number, number if test == "has" else 0)
