"""The smallest inputs that together reach all that many reach: what of a fuzzing run is worth keeping.

Shortest first, an input is kept if it takes a step from one line to another that none before it took, or takes one
several times as often. (libFuzzer's own -merge starts the fuzzer anew as a program, which a module of Python is not.)

    python -m security.fuzz.minimise TARGET DIRECTORY…     the corpus becomes the best of itself and these
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from security.fuzz.seeds import CORPUS
from security.fuzz.targets import TARGETS

_TESTED = tuple(str(CORPUS.parents[2] / package) for package in ("wesher", "privhelper"))

Step = tuple[str, int, int]
"""A file, a line of it, and the next."""
MOST = 200
"""Inputs kept of a target: so many are replayed in seconds."""


def main() -> None:
    """`TARGET [directories]`."""
    name, *others = sys.argv[1:]
    check = importlib.import_module(TARGETS[name]).check
    corpus = CORPUS / name
    inputs = {path.read_bytes() for directory in (corpus, *map(Path, others)) for path in directory.iterdir()}
    reached = {data: steps(check, data) for data in inputs}
    kept = next(kept for often in (4, 3, 2, 1) if len(kept := smallest(reached, often)) <= MOST or often == 1)
    for path in corpus.iterdir():
        path.unlink()
    for data in kept:
        (corpus / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    print(f"{name}: {len(kept)} of {len(inputs)} inputs, {sum(map(len, kept))} bytes")


def smallest(reached: Mapping[bytes, Counter[Step]], often: int) -> list[bytes]:
    """Those to keep, shortest first; from 2 ** (`often` - 1) times on it is all the same how often a step is taken."""
    kept: list[bytes] = []
    known: set[tuple[Step, int]] = set()
    for data in sorted(reached, key=lambda data: (len(data), data)):
        taken = {(step, min(times.bit_length(), often)) for step, times in reached[data].items()}
        if not taken <= known:
            known |= taken
            kept.append(data)
    return kept


def steps(check: Callable[[bytes], None], data: bytes) -> Counter[Step]:
    """Steps from line to line in the code under test, and how often each was taken."""
    taken: Counter[Step] = Counter()

    def entering(frame: FrameType, _event: str, _arg: Any) -> Any:
        filename = frame.f_code.co_filename
        if not filename.startswith(_TESTED):
            return None
        before = frame.f_lineno

        def stepping(frame: FrameType, _event: str, _arg: Any) -> Any:
            nonlocal before
            taken[filename, before, frame.f_lineno] += 1
            before = frame.f_lineno
            return stepping

        return stepping

    sys.settrace(entering)
    try:
        check(data)
    finally:
        sys.settrace(None)
    return taken


if __name__ == "__main__":
    main()
