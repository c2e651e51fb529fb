"""Read, and write the file. See the package."""

from __future__ import annotations

import sys

from security.privileges import FILE, facts
from security.privileges.document import render
from tests.lab.requirements import missing


def main() -> None:
    """Nothing is written where something cannot be seen."""
    if (reason := missing()) is not None:
        sys.exit(f"processes cannot be started to be looked at: {reason}")
    try:
        FILE.write_text(render(facts.read()), encoding="utf-8")
    except ValueError as error:
        sys.exit(f"{error}; a kernel that has all of it is 6.12 or later, on x86-64")


if __name__ == "__main__":
    main()
