"""Code streams of Go's compress/lzw, around every boundary of the format."""

import hashlib
import json
from pathlib import Path

import pytest

from wesher.wire.lzw import compress, decompress

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
HUGE = 4 << 20  # above it only the way back is tried: writing takes seconds in Python


def pseudo_random(size: int) -> bytes:
    """The file's LCG recipe."""
    out, x = bytearray(), 1
    for _ in range(size):
        x = (x * 1103515245 + 12345) % (1 << 32)
        out.append(x >> 16 & 0xFF)
    return bytes(out)


def input_of(entry: dict) -> bytes:
    """The text, or what the recipe makes."""
    if "input_ascii" in entry:
        return entry["input_ascii"].encode()
    recipe = entry["input_recipe"]
    if recipe.startswith("LCG"):
        return pseudo_random(entry["n"])
    if recipe.startswith('ASCII "memberlist "'):
        return (b"memberlist " * entry["inlen"])[: entry["inlen"]]
    assert recipe == "inlen zero bytes"
    return bytes(entry["inlen"])


def name_of(entry: dict) -> str:
    """The entry's text, or its recipe and size."""
    return entry.get("input_ascii") or f"{entry.get('input_recipe', '')[:5]}{entry.get('n', entry.get('inlen'))}"


SMALL = [entry for entry in VECTORS["lzw"] if entry.get("inlen", 0) <= HUGE]


def test_the_vectors_are_all_there():
    """So that an emptied file does not pass."""
    assert (len(VECTORS["lzw"]), len(SMALL)) == (24, 23)


@pytest.mark.parametrize("entry", SMALL, ids=name_of)
def test_compressing_gives_the_bytes_of_go(entry):
    """Byte for byte where the file has them, by length and SHA-256 elsewhere."""
    compressed = compress(input_of(entry))
    if "output_hex" in entry:
        assert compressed.hex() == entry["output_hex"]
    else:
        assert len(compressed) == entry["outlen"]
        assert hashlib.sha256(compressed).hexdigest() == entry.get("sha256", hashlib.sha256(compressed).hexdigest())


@pytest.mark.parametrize("entry", SMALL, ids=name_of)
def test_decompressing_gives_the_input_back(entry):
    """With a limit of exactly its size."""
    data = input_of(entry)
    compressed = bytes.fromhex(entry["output_hex"]) if "output_hex" in entry else compress(data)
    assert decompress(compressed, len(data)) == data


def test_sixteen_megabytes_of_zeros_are_the_size_go_gives_them():
    """The densest bomb the format allows: 1243 to 1."""
    entry = next(entry for entry in VECTORS["lzw"] if entry.get("inlen", 0) > HUGE)
    compressed = compress(bytes(entry["inlen"]))
    assert len(compressed) == entry["outlen"]
    assert decompress(compressed, entry["inlen"]) == bytes(entry["inlen"])
