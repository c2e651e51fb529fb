"""Compounds: what we put together, and what we make of others'."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wesher.wire.compound import join_compound, split_compound
from wesher.wire.errors import Unsendable, WireError


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=127), st.binary(max_size=10))
def test_splitting_undoes_joining(parts, trailing):
    """Bytes after the last part are ignored."""
    compound = join_compound(parts)
    assert compound[0] == 7
    assert split_compound(compound[1:] + trailing) == (parts, 0)


@given(st.binary(max_size=600))
def test_any_bytes_split_or_raise_wire_error(body):
    """And never into more than was there."""
    with contextlib.suppress(WireError):
        parts, missing = split_compound(body)
        assert len(parts) + missing == body[0]
        assert sum(map(len, parts)) <= len(body)


@pytest.mark.parametrize(
    "parts", [[], [b""], [b"a", b""], [b"a"] * 128, [bytes(65536)]], ids=["none", "empty", "one-empty", "128", "64k"]
)
def test_what_older_peers_misread_is_never_joined(parts):
    """Empty compounds and parts, more than 127, and parts beyond their uint16."""
    with pytest.raises(Unsendable):
        join_compound(parts)


def test_127_parts_are_joined():
    """The most that every peer reads."""
    assert split_compound(join_compound([b"a"] * 127)[1:]) == ([b"a"] * 127, 0)


def test_a_part_may_be_as_long_as_its_length_field():
    """65535 bytes."""
    assert split_compound(join_compound([bytes(65535)])[1:]) == ([bytes(65535)], 0)


def test_up_to_255_parts_are_read():
    """memberlist since 0.3.2 sends as many."""
    body = bytes([255]) + b"\0\1" * 255 + bytes(range(255))
    parts, missing = split_compound(body)
    assert b"".join(parts) == bytes(range(255))
    assert missing == 0


@pytest.mark.parametrize("body", [b"", b"\x01", b"\x02\0\1\0"])
def test_a_compound_without_its_lengths_is_refused(body):
    """Nothing can be told apart."""
    with pytest.raises(WireError) as caught:
        split_compound(body)
    assert caught.value.code == "truncated"


def test_the_parts_before_a_cut_are_kept():
    """The one cut short is not, nor any after it, even one of no bytes."""
    assert split_compound(b"\x04" + b"\0\2\0\3\0\0\0\1" + b"aabb") == ([b"aa"], 3)


def test_a_compound_may_be_of_nothing():
    """Go reads it so."""
    assert split_compound(b"\0") == ([], 0)
