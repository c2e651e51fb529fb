"""JSON is weighed before it is parsed: what is refused is refused for its size, what a daemon says is let through."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cli import answers
from wesher.bounded_json import DEEPEST, MOST_PIECES, parse
from wesher.control_client import _LARGEST

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.text('"\\[]{},:'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('a"\\{['), inner, max_size=4),
    max_leaves=20,
)


@given(values.filter(lambda value: json.dumps(value).count("[") + json.dumps(value).count("{") <= DEEPEST))
def test_whatever_json_dumps_writes_is_read_as_by_json_loads(value):
    """Brackets, quotes and backslashes in its strings are none of its own."""
    assert value == parse(json.dumps(value).encode())


def test_the_status_of_the_largest_mesh_is_read_whatever_its_members_call_themselves():
    """4000 peers, as many that are refused or gone, each with a name of 255 bytes that no character is."""
    name = "\udcff" * 255
    refused = (answers.refusal(name, "public key belongs to " + 64 * "n"),) * 8000
    status = answers.status(*[answers.peer(name=name)] * 8000, refused=refused)
    text = json.dumps(status).encode()
    assert len(text) <= _LARGEST
    assert status == parse(text)


@pytest.mark.parametrize("piece", [b"[],", b"1,", b'"",', b'""', b'{"":1},', b"[", b"[[[[]]]],"])
def test_more_pieces_than_anybody_has_to_say_are_not_parsed(piece):
    """Each would become many times its size."""
    with pytest.raises(ValueError, match=r"^more than \d+ values and brackets$|^nested too deeply$"):
        parse(b"[" + piece * MOST_PIECES)


def test_the_most_pieces_are_parsed():
    """One more is not."""
    assert len(parse(b"[" + b"1," * (MOST_PIECES - 2) + b"1]")) == MOST_PIECES - 1
    with pytest.raises(ValueError, match=r"^more than"):
        parse(b"[" + b"1," * (MOST_PIECES - 1) + b"1]")


@pytest.mark.parametrize(("left", "right"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_bounded(left, right):
    """Indented, each level would be put before each line."""
    assert parse(left * DEEPEST + b"1" + right * DEEPEST)
    with pytest.raises(ValueError, match=r"^nested too deeply$"):
        parse(left * (DEEPEST + 1) + b"1" + right * (DEEPEST + 1))


@pytest.mark.parametrize("text", [b"", b"nope", b'"', b'"\\', b'"' + b'\\"' * 1_000_000, b"]]]", b"{", b"1 2"])
def test_what_is_no_json_is_an_error(text):
    """Also a string without an end, which takes no longer than any other."""
    with pytest.raises(json.JSONDecodeError):
        parse(text)


def test_only_ascii_is_read():
    """json.dumps writes nothing else."""
    with pytest.raises(UnicodeDecodeError):
        parse('"ü"'.encode())
