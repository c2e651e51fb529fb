"""A start and the state file that it finds: what cannot be kept is not lost, and ends no start that has a key."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.runtime.test_config import config as agent_config
from wesher.mesh.rotation import HeldKey, Keys
from wesher.mesh.saved_state import MAX_SIZE, SavedState, render
from wesher.runtime.state_at_start import NOTHING, StartError, keep_state, read_state
from wesher.runtime.state_file import StateFile

KEY = b"\x01" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A state file of a TiB, which takes a block of the disk."""
    path = tmp_path / "wgoverlay.json"
    path.write_bytes(b"x")
    try:
        os.truncate(path, 1 << 40)
    except OSError:
        os.truncate(path, MAX_SIZE + 1)
    return path


def is_untouched(path: Path) -> bool:
    """Nothing is beside it, and nothing over it."""
    return os.listdir(path.parent) == [path.name] and path.stat().st_size > MAX_SIZE


def test_a_node_with_a_key_starts_beside_a_file_too_large_to_keep(path, caplog):
    """It says what is in the way."""
    caplog.set_level(logging.WARNING)
    config = agent_config(cluster_key=KEY, init=False, state_file=str(path))
    file = StateFile(str(path))
    assert keep_state(config, file, read_state(config, file)) == replace(NOTHING, cluster_key=KEY, keys=Keys.of(KEY))
    assert caplog.messages == [
        f"state file {path}: larger than 16 MiB; cannot be written: too large to keep beside a new one; move it away; "
        "trying again with every change"
    ]
    assert is_untouched(path)


def test_the_key_in_such_a_file_still_counts(path):
    """As in any other that is damaged."""
    with path.open("r+b") as file:
        file.write(render(SavedState(KEY, (), None)))
    config = agent_config(cluster_key=None, init=False, state_file=str(path))
    file = StateFile(str(path))
    assert keep_state(config, file, read_state(config, file)).cluster_key == KEY
    assert is_untouched(path)


def test_without_a_key_such_a_file_ends_the_start(path):
    """It may be the cluster's."""
    config = agent_config(cluster_key=None, init=False, state_file=str(path))
    with pytest.raises(StartError, match=r"larger than 16 MiB; give --cluster-key, or --init for a new cluster$"):
        read_state(config, StateFile(str(path)))
    assert is_untouched(path)


def test_a_new_cluster_is_not_made_over_such_a_file(path):
    """--init keeps what there was, or refuses."""
    config = agent_config(cluster_key=KEY, init=True, state_file=str(path))
    file = StateFile(str(path))
    reason = f"^--init: state file {path} cannot be kept aside: too large to keep beside a new one; move it away$"
    with pytest.raises(StartError, match=reason):
        keep_state(config, file, read_state(config, file))
    assert is_untouched(path)


SECOND = b"\x02" * 32


def rotated(tmp_path: Path) -> StateFile:
    """A state file of a node whose cluster has changed KEY for SECOND."""
    file = StateFile(str(tmp_path / "wgoverlay.json"))
    keys = Keys((HeldKey(SECOND, 216_000_000), HeldKey(KEY, left=60)))
    file.save(replace(NOTHING, cluster_key=SECOND, keys=keys))
    return file


def test_a_given_key_that_was_replaced_does_not_win(tmp_path, caplog):
    """The options are older than the state; a warning names them."""
    file = rotated(tmp_path)
    config = agent_config(cluster_key=KEY, init=False, state_file=file.path)
    state = keep_state(config, file, read_state(config, file))
    assert state.cluster_key == SECOND
    assert state.keys is not None
    assert state.keys.ring == (SECOND, KEY)
    (line,) = caplog.messages
    assert "--cluster-key-file" in line
    assert "wesher key show" in line
    assert not list(tmp_path.glob("*.*.*"))  # nothing was set aside


def test_a_given_key_of_another_cluster_wins_and_the_ring_is_kept_aside(tmp_path, caplog):
    """As with the original."""
    file = rotated(tmp_path)
    other = b"\x09" * 32
    config = agent_config(cluster_key=other, init=False, state_file=file.path)
    state = keep_state(config, file, read_state(config, file))
    assert (state.cluster_key, state.keys) == (other, Keys.of(other))
    assert any("its cluster key is not the one given" in line for line in caplog.messages)
