"""Libraries by the names they are linked under, without a search.

ctypes.util.find_library, which the bindings of libseccomp and landlock call, starts ldconfig and, where that does not
know, gcc: as root, before anything is given up, and not at all where a unit forbids to execute. The dynamic linker
finds a library by its soname by itself.
"""

from __future__ import annotations

import ctypes.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SONAMES: Final = {"c": "libc.so.6", "seccomp": "libseccomp.so.2"}


@contextmanager
def without_a_search() -> Iterator[None]:
    """In here find_library knows two names and starts nothing. While no other thread runs."""
    search = ctypes.util.find_library
    ctypes.util.find_library = _SONAMES.get  # type: ignore[assignment]
    try:
        yield
    finally:
        ctypes.util.find_library = search
