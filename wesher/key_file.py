"""A cluster key in a file: what `--cluster-key-file` names. Its content is never quoted: it may be another secret."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable

from wesher.config import parse_cluster_key


class BadKeyFile(Exception):
    """Why the file gives no key, in one line."""


def _say(warning: str) -> None:
    print(f"wesher: warning: {warning}", file=sys.stderr)


def key_in_file(path: str, warn: Callable[[str], None] = _say) -> bytes:
    """The key; `warn` hears of it where everybody may read it. Raises BadKeyFile."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4096)
    except OSError as error:
        raise BadKeyFile(f"cluster key file {path} cannot be read: {error.strerror}") from None
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        warn(f"every user can read the cluster key in {path}; chmod 600 it")
    try:
        return parse_cluster_key(text)
    except ValueError as error:
        raise BadKeyFile(f"cluster key file {path}: {error}") from None
