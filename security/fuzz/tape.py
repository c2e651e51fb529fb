"""An input as a tape of choices: a target that builds something cuts the pieces off its front.

At the end of the tape everything is zero or empty, so every input is a whole sequence of choices, and what is left of
an input that was cut is a shorter sequence of the same ones.
"""

from __future__ import annotations


class Tape:
    """Bytes, and how far they are used."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """The next bytes, at most `size`."""
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int = 1) -> int:
        """An unsigned integer of `size` bytes, big-endian."""
        return int.from_bytes(self.take(size), "big")

    def text(self) -> bytes:
        """Bytes with a two-byte length in front."""
        return self.take(self.number(2))

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(max(0, len(self._data) - self._at))
