"""What `--log-level` and `--log-format` take. Pure, so that options can be declared with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warn": 30, "error": 40}
"""The original's levels that differ for us, and the logging module's numbers."""

FORMS: Final = ("text", "json")

_OTHER_NAMES: Final[Mapping[str, str]] = {"warning": "warn", "trace": "debug", "fatal": "error", "panic": "error"}
"""The original's logging library takes these besides: an old unit file may hold one."""


def parse_level(text: str) -> str:
    """One of LEVELS, in any case or by another of its names. Raises ValueError."""
    level = text.lower()
    level = _OTHER_NAMES.get(level, level)
    if level not in LEVELS:
        raise ValueError(f"'{text}' is no log level; give one of {', '.join(LEVELS)}")
    return level


def parse_form(text: str) -> str:
    """One of FORMS. Raises ValueError."""
    if text not in FORMS:
        raise ValueError(f"'{text}' is no log format; give one of {', '.join(FORMS)}")
    return text
