"""`python -m tests.soak [--nodes 20] [--minutes 30] [--seed N]`, as root: real daemons under a random event every 2 s.

Restarts, kills, cuts, heals, key rotations, names that collide and addresses that change (events.py) hit a mesh of both
layouts in a lab of network namespaces. After the time the machines are left alone, and then every node's WireGuard
peers, routes and hosts lines have to be exactly right (whole.py) within a derived bound (bounds.py), nothing may have
been logged that should not (said.py), and what was never stopped may not have grown (growth.py). Exit status 0, or 1
with everything that explains it in a directory.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from random import SystemRandom

from tests.lab import Lab
from tests.soak.soak import Soak


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**6))
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two events")
    parser.add_argument("--without", action="append", default=[], help="an ability whose events are left out")
    parser.add_argument("--directory", type=Path, help="logs and story, kept; else only after a failure")
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="soak-", dir="/var/tmp"))
    directory.mkdir(parents=True, exist_ok=True)
    stdout = sys.stdout

    def say(text: str) -> None:
        print(f"soak: {text}", file=stdout, flush=True)

    say(f"{options.nodes} machines, {options.minutes:g} minutes, seed {options.seed}, logs in {directory}")
    with (directory / "polls.txt").open("w") as polls, redirect_stdout(polls), Lab(options.nodes) as lab:
        soak = Soak(
            lab,
            seed=options.seed,
            every=options.every,
            minutes=options.minutes,
            directory=directory,
            without=options.without,
            say=say,
        )
        for ability in sorted(soak.lacks):
            say(f"NOT DRAWN: what needs {ability}, which this program has not")
        begin = time.monotonic()
        try:
            problems = soak.run()
        finally:
            soak.close()
        say("events: " + ", ".join(f"{name} {number}" for name, number in sorted(soak.happened.items())))
        for text in soak.never_drawn():
            say(f"NOT DRAWN: {text}")
        for text, number in soak.warnings().most_common(12):
            say(f"{number} times in the logs: {text}")
    for problem in problems:
        say(f"WRONG: {problem}")
    word = f"{len(problems)} things are wrong, see {directory}" if problems else "everything is exactly right"
    say(f"seed {options.seed}, {options.nodes} machines, {time.monotonic() - begin:.0f} s: {word}")
    if not problems and options.directory is None:
        shutil.rmtree(directory)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
