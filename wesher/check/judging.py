"""How bad a refusal is: what would end a start is an error, unless only this look is refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from wesher.check.finding import Level, Said, error, ok, warning
from wesher.check.start import REFUSALS, Start


def said(look_at: Callable[[Start], Said], start: Start) -> Said:
    """What one row has to say; a refusal is the last of it."""
    try:
        yield from look_at(start)
    except (*REFUSALS, OSError) as refusal:
        text = f"{refusal.filename}: {refusal.strerror}" if isinstance(refusal, OSError) else str(refusal)
        yield judge(text, refusal, start)


def judge(text: str, refusal: BaseException, start: Start) -> tuple[Level, str]:
    """How bad a refusal is, by the kernel's numbers for it: root may do what we may not, and what our own daemon holds
    is no obstacle to its next start."""
    numbers = _numbers(refusal)
    if start.assumed and not {errno.EACCES, errno.EPERM}.isdisjoint(numbers):
        return warning(f"{text}; that is how uid {os.geteuid()} sees it: use sudo to know")
    if start.running is False or {errno.EADDRINUSE, errno.EEXIST}.isdisjoint(numbers):
        return error(text)
    if start.running:
        return ok("in use, and not looked at: wesher runs")
    return warning(f"{text}; perhaps it is wesher itself that runs: use sudo to know")


def _numbers(refusal: BaseException | None) -> set[int | None]:
    """The kernel's reasons for it. Our words stand in front of them, but were made while they were handled."""
    found = set()
    while refusal is not None:
        if isinstance(refusal, OSError):
            found.add(refusal.errno)
        refusal = refusal.__context__
    return found
