"""JSON from somebody who is not to be trusted, weighed before it is parsed.

A byte of JSON can become 25 bytes of memory (`[],[],…`), and a nested one hundreds of its size again as indented text.
So its pieces are counted, and its depth, which takes no memory. `parse` reads only ASCII: json.dumps writes nothing
else.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

MOST_PIECES: Final = 1 << 20
"""Strings, commas and brackets. A status of 8000 members, all of them refused as well, has 400,000, a state file of as
many 180,000."""

DEEPEST: Final = 16
"""An answer, its lists, their entries: three. The rest is room for newer daemons."""

# A string without an end is one up to the end: to try each of its quotes as the beginning of one would take for ever.
_PIECE: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[][{},]', re.DOTALL)


def parse(text: bytes | bytearray) -> Any:
    """The value. Raises ValueError where it is no JSON, no ASCII, or more than anybody needs to say."""
    weigh(text)
    return json.loads(text.decode("ascii"))


def weigh(text: bytes | bytearray) -> None:
    """Raise ValueError where it is more than anybody needs to say, whatever its parser makes of it."""
    depth = 0
    for count, piece in enumerate(_PIECE.finditer(text), start=1):
        if count > MOST_PIECES:
            raise ValueError(f"more than {MOST_PIECES} values and brackets")
        first = text[piece.start()]
        depth += (first in b"[{") - (first in b"]}")
        if depth > DEEPEST:
            raise ValueError("nested too deeply")
