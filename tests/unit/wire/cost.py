"""What a call costs, counted: the most memory it held at once, and the lines of wesher's Python that it ran.

Lines rather than seconds, because they are the same on every machine and in every run. What C code does is not counted;
it is bounded by the memory, and by the seconds, which are printed.
"""

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import wesher

_OURS = str(Path(wesher.__file__).parent)


def memory_of(call: Callable[[], object]) -> int:
    """The peak, in bytes, above what was there before; what is returned is part of it."""
    gc.collect()
    tracemalloc.start()
    try:
        result = call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        del result


def work_of(call: Callable[[], object]) -> int:
    """Lines run."""
    lines = 0

    def in_frame(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return in_frame

    def entering(frame: FrameType, event: str, arg: Any) -> Any:
        return in_frame if frame.f_code.co_filename.startswith(_OURS) else None

    before = sys.gettrace()
    sys.settrace(entering)
    try:
        call()
    finally:
        sys.settrace(before)
    return lines


def report(what: str, size: int, call: Callable[[], object], memory: int, work: int) -> None:
    """Print the figures of a bomb; the seconds are this machine's."""
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    print(f"{what}: {size} bytes cost {memory / 2**20:.2f} MiB, {work} lines, {seconds * 1000:.1f} ms")
