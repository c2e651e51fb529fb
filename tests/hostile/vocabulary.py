"""All that a helper may say. Nothing in it is the agent's: whoever reads this log, a person, a terminal or a program,
reads only the helper's own words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from privhelper.protocol import ViolationCode

REPAIRS: Final = (
    *("link gone", "alias", "MTU", "link down", "address", "routes", "key or port", "peers", "a set half applied"),
    *("peers refused by now", "names refused by now", "names gone", "peers possible again"),
)
_REPAIR: Final = "|".join(REPAIRS)

WORDS: Final = (
    *(f"ERROR helper: violation: {code.value}" for code in ViolationCode),
    r"(INFO|WARNING) helper: the agent is gone",
    r"ERROR helper: the agent does not read its replies",
    r"ERROR helper: the agent did not say goodbye within 10 s",
    r"ERROR helper: an agent of another protocol version came; restart the helper after an upgrade that says so",
    r"WARNING helper: uid \d+ is not the agent's: refused",
    r"WARNING helper: no agent came back within \d+ s: taking everything down",
    r"INFO helper: telling the agent: (terminate|reload)",
    rf"WARNING helper: repaired: ({_REPAIR})(, ({_REPAIR}))*",
    r"ERROR helper: (repair|taking down): [A-Za-z /-]+",
    r"WARNING helper: sandbox without [A-Za-z0-9 ,.()]+",
)
_LINE: Final = re.compile(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d,\d\d\d ({'|'.join(WORDS)})")
_AT_START: Final = re.compile(
    r"[0-9-]+ [0-9:,]+ WARNING helper: networks of this host lie inside the overlay net [0-9a-f./: ,]*( \\u2026)?; "
    r"members whose address falls there will be refused"
)


def foreign_words(lines: Iterable[str]) -> list[str]:
    """The lines that a helper does not say."""
    return [line for line in lines if not _LINE.fullmatch(line) and not _AT_START.fullmatch(line)]
