"""A state file.

Promises: only StateError, which quotes nothing of the file; what is taken from it is written so that we read it again,
without a remark; and where the file has no remark, all there was in it is written.
"""

import json

from wesher.mesh.rotation import KEY_SIZE
from wesher.mesh.saved_state import StateError, parse, render

SECRET = b"U0VDUkVU"
"""Stands in a seed where a key may: no reason may ever quote it."""


def check(data: bytes) -> None:
    """One file."""
    try:
        state = parse(data)
    except StateError as error:
        assert error.reason.isascii()
        assert len(error.reason) < 100
        assert SECRET.decode() not in error.reason
        return
    assert state.cluster_key is None or len(state.cluster_key) == KEY_SIZE
    written = render(state)
    again = parse(written)
    assert again == state
    assert again.remark is None
    assert render(again) == written
    assert isinstance(json.loads(written), dict)
