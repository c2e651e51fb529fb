"""The log of both processes: one line a record on standard error, as text or as JSON.

    text    2026-01-31 12:00:00,123 WARNING agent: message              (local time)
    json    {"time": "2026-01-31T12:00:00.123Z", "level": "warn", "logger": "agent", "message": "..."}

A record with a traceback has it on the lines that follow, in JSON in the member "exception". The levels of JSON are
those of `--log-level`. Nothing that is not printable ASCII gets out as it is, whoever reads the other end: where there
is no logpipe it may be a terminal.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from typing import Final

from privhelper.log_levels import LEVELS

_STANDARD_ERROR: Final = 2
_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_UNPRINTABLE: Final = re.compile(r"[^ -~]")
_WORDS: Final = {number: name for name, number in LEVELS.items()}
_LIBRARIES: Final = ("asyncio", "pyroute2")
"""They warn of what is ours to handle."""


def configure(level: str, form: str) -> None:
    """Log from now on what is at least `level`, one of LEVELS, in `form`, one of FORMS."""
    handler = StandardError()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(_TEXT))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(LEVELS[level])
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.raiseExceptions = False  # a record that cannot be formatted is lost; it must not cost more than itself


class StandardError(logging.Handler):
    """A line is written whole or lost, and never waited for where the descriptor does not block.

    Not logging's StreamHandler: what a full pipe does not take stays in that one's buffer, and half a line of it may
    come out much later. A pipe takes up to 4096 bytes whole or not at all; of a longer line the rest can be lost, and
    then the next one begins by ending it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._torn = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line."""
        try:
            self._write(f"{self.format(record)}\n".encode("ascii", "backslashreplace"))
        except Exception:  # such as a record whose arguments do not fit its format
            self.handleError(record)

    def _write(self, line: bytes) -> None:
        rest = b"\n" * self._torn + line
        try:
            while rest:
                rest = rest[os.write(_STANDARD_ERROR, rest) :]
                self._torn = bool(rest)
        except OSError:  # full, or nobody reads it any more
            pass


class TextFormatter(logging.Formatter):
    """As logging does it, but a line stays one line and commands no terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: logging._SysExcInfoType) -> str:
        """The lines of a traceback."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


class JsonFormatter(logging.Formatter):
    """One object a line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        entry = {
            "time": _rfc3339(record.created),
            "level": _WORDS.get(record.levelno, record.levelname.lower()),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        # JSON leaves DEL as it is; logpipe would spell it out as \x7f, which is not JSON.
        return json.dumps(entry).replace("\x7f", "\\u007f")


def printable(text: str) -> str:
    """`text` with everything but printable ASCII spelled out, line breaks too."""
    return _UNPRINTABLE.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)


def _rfc3339(unix_time: float) -> str:
    milliseconds = int(unix_time * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000)) + f".{milliseconds % 1000:03d}Z"
