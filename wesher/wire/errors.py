"""Whose fault it is: a stranger's bytes (`WireError`), or what we were about to send (`Unsendable`)."""

from enum import StrEnum


class Reason(StrEnum):
    """Why received bytes were dropped: the fixed vocabulary of `WireError.code`, one counter each."""

    # the whole packet or stream
    EMPTY = "empty"  # nothing at all, or a layer with nothing in it
    TOO_LARGE = "too_large"  # a size beyond limits.py, claimed or reached
    TRUNCATED = "truncated"  # ends before what it announced
    LABEL = "label"  # a label header: another cluster's traffic, wesher sets none
    PLAINTEXT = "plaintext"  # not encrypted
    ENCRYPTION_VERSION = "encryption_version"  # not version 1
    UNDECRYPTABLE = "undecryptable"  # no key of ours: another cluster, an attacker, or damage
    CRC = "crc"
    # layers inside
    COMPRESSION = "compression"  # not LZW, or not a valid code stream
    NESTING = "nesting"  # more layers than anybody makes
    TOO_MANY = "too_many"  # more parts or entries than anybody sends
    # one message
    UNSUPPORTED_TYPE = "unsupported_type"  # unknown, or not to be sent this way
    MALFORMED = "malformed"  # not msgpack, or a field of the wrong type or range
    BAD_NAME = "bad_name"
    BAD_ADDRESS = "bad_address"  # neither 4 nor 16 bytes
    BAD_META = "bad_meta"
    BAD_VSN = "bad_vsn"  # would break every push/pull that repeats it
    BAD_STATE = "bad_state"


class WireError(Exception):
    """A stranger's bytes: count under `code` and drop. `detail` is for the log and holds no secret."""

    def __init__(self, code: Reason, detail: str) -> None:
        super().__init__(code, detail)
        self.code: str = code.value
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"

    def as_value(self) -> "WireError":
        """Itself, to be kept: without the frames it was raised through, which hold on to all that they worked on.

        Also without the error that it replaced, which `raise … from None` hides and keeps, frames and all.
        """
        self.__traceback__ = self.__context__ = None
        return self


class Unsendable(AssertionError):
    """We were about to send what old Go peers do not survive (protocol 8.2). A bug of ours; it also holds under -O."""
