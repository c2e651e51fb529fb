"""State files that are bombs: what reading costs is a multiple of the file's size, and that is bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.wire.cost import memory_of, report, work_of
from wesher.mesh.saved_state import MAX_SIZE, SavedState, StateError, parse
from wesher.runtime.state_file import StateFile

SIZE = 1 << 18
BOMBS = {
    "lists": b'{"Nodes":[' + b"[]," * (SIZE // 3) + b"[]]}",
    "objects": b'{"Nodes":[' + b"{}," * (SIZE // 3) + b"{}]}",
    "objects with a member": b'{"Nodes":[' + b'{"a":1},' * (SIZE // 8) + b"{}]}",
    "floats": b'{"Nodes":[' + b"0.1," * (SIZE // 4) + b"0]}",
    "nodes": b'{"Nodes":[' + b'{"Name":"x","Addr":"::1"},' * (SIZE // 26) + b"0]}",
    "a name of astral characters": b'{"Nodes":[{"Addr":"::1","Name":"' + b"x" * SIZE + b'\\ud83d\\ude00"}]}',
    "blanks": b" " * SIZE,
    "lists in lists": b"[" * SIZE,
    "objects in objects": b'{"a":' * (SIZE // 5),
    "a number without end": b'{"a":' + b"1" * SIZE + b"}",
    "keys": (b'"ClusterKey": "' + b"A" * 43 + b'="\n') * (SIZE // 60),
    "blanks where a key may stand": b"{\n" + b" " * SIZE + b'\n"ClusterKey":' + b" " * SIZE,
}


def parsed(data: bytes) -> SavedState | str:
    """What is in the file, or why nothing."""
    try:
        return parse(data)
    except StateError as error:
        return error.reason


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_state_file_costs_fifty_times_its_size_at_most(bomb):
    """In memory; in work, a few lines a byte. Python's smallest JSON objects take so much room."""
    data = BOMBS[bomb]
    memory, work = memory_of(lambda: parsed(data)), work_of(lambda: parsed(data))
    report(bomb, len(data), lambda: parsed(data), memory, work)
    assert memory <= 50 * len(data)
    assert work <= 8 * len(data) + 1000


def test_of_a_file_of_a_hundred_megabytes_a_sixth_is_read(tmp_path: Path):
    """And refused, though its end might be a state; but its key still counts where it stands on its line."""
    path = tmp_path / "state.json"
    path.write_bytes(b'{\n  "ClusterKey": "' + b"A" * 43 + b'=",\n')
    with path.open("r+b") as file:
        file.truncate(100 << 20)
    states = []
    memory = memory_of(lambda: states.append(StateFile(str(path)).load()))
    print(f"{memory / 2**20:.1f} MiB")
    assert memory <= 3 * MAX_SIZE
    assert states == [SavedState(bytes(32), (), None)]
    assert states[0].remark == "larger than 16 MiB; only its cluster key can be used"
