"""One file a parser; in each `check(data)`, which raises AssertionError for a promise broken."""

from typing import Final

TARGETS: Final = {
    name: f"{__name__}.{name}"
    for name in (
        *("packet", "stream", "codec", "words", "lzw", "gob", "node_meta", "state_file", "node"),
        *("helper", "session", "hosts", "uapi"),
    )
}
"""The modules by name, unimported: they are instrumented as they are imported."""
