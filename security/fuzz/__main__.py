"""Runs one target under atheris, with libFuzzer's options. See the package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

from security.fuzz.targets import TARGETS

DEFAULTS = ("-max_len=8192", "-timeout=25", "-print_final_stats=1")
"""Options unless others are given. No input needs a second; a few milliseconds are usual."""


def main() -> None:
    """`TARGET [libFuzzer options] [corpus directories | files]`."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit("give a target: " + " ".join(TARGETS))
    try:
        import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        sys.exit("atheris is not installed here: pip install atheris (it has wheels for some versions of Python only)")
    name = sys.argv.pop(1)
    if name != "lzw":
        importlib.import_module("wesher.wire.lzw")  # its loops, instrumented, would take most of everybody's time
    # Only what is under test, or coverage of the standard library would count as progress.
    with atheris.instrument_imports(include=["wesher.wire", "wesher.mesh", "wesher.swim", "privhelper"]):
        check = importlib.import_module(TARGETS[name]).check
    given = {option.partition("=")[0] for option in sys.argv}
    sys.argv += [option for option in DEFAULTS if option.partition("=")[0] not in given]
    atheris.Setup(sys.argv, _saying_how_to_replay(name, check))
    atheris.Fuzz()


def _saying_how_to_replay(name: str, check: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def checked(data: bytes) -> None:
        try:
            check(data)
        except Exception:
            print(f"replay: python -m security.fuzz {name} FILE, with the file written below", file=sys.stderr)
            raise

    return checked


if __name__ == "__main__":
    main()
