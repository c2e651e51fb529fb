"""What a network-facing process writes reaches the operator's terminal as text, whatever it was."""

from hypothesis import given
from hypothesis import strategies as st

from privhelper.logpipe import printable


@given(st.binary())
def test_nothing_but_printable_ascii_tab_and_line_feed_comes_out(data: bytes) -> None:
    """No escape, no carriage return that overwrites, no eighth bit that an old terminal takes for a control."""
    assert all(byte in b"\n\t" or 0x20 <= byte <= 0x7E for byte in printable(data))


def test_text_stays_as_it_is_and_the_rest_is_spelled_out() -> None:
    """The operator still sees what was tried."""
    assert printable(b"a line\n\tand \x1b]0;one\x07 \xff\r") == b"a line\n\tand \\x1b]0;one\\x07 \\xff\\x0d"
