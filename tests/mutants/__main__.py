"""python -m tests.mutants [SET]: makes each rule of a set wrong in every small way, and shows which test notices.

SET is `gossip`, the protocol core's (default), or `line`, what the helper holds against a hostile agent.

Exit 0 if every mutant is noticed but those known to be equivalent; 1 if not, or if one of those is noticed or is no
more; 2 if the tests fail on the code as it is.
"""

from __future__ import annotations

import argparse
import linecache
import os
import sys
from collections import Counter
from collections.abc import Mapping
from random import Random

from tests.mutants.equivalent import EQUIVALENT
from tests.mutants.mutation import Mutant
from tests.mutants.rules import SETS
from tests.mutants.trial import TestsFail, Verdict, all_mutants, source_file, try_all


def main() -> int:
    """Try what the command line asks for."""
    options = _options()
    rules, excuses = SETS[options.set], EQUIVALENT[options.set]
    every = all_mutants(rules)
    stale = sorted(excuses.keys() - {mutant.name for mutant in every})
    for name in stale:
        print(f"STALE      {name}\n    is listed as equivalent and is no mutant of anything; correct the table")
    chosen = [mutant for mutant in every if any(pattern in mutant.name for pattern in options.only or [""])]
    if options.sample is not None:
        candidates = [number for number, mutant in enumerate(chosen) if mutant.name not in excuses]
        drawn = Random(options.seed).sample(candidates, min(options.sample, len(candidates)))
        chosen = [chosen[number] for number in sorted(drawn)]
        print(f"sample of {len(chosen)} from {len(candidates)}, seed {options.seed}")
    if options.list:
        print(*(f"{place(mutant)}  {mutant.name}" for mutant in chosen), sep="\n")
        return 1 if stale else 0
    counts: Counter[str] = Counter()

    def report(verdict: Verdict) -> None:
        word = judgement(verdict, excuses)
        counts[word] += 1
        print(told(word, verdict, excuses), flush=True)

    try:
        try_all(rules, chosen, options.jobs, report)
    except TestsFail as failure:
        print(f"tests.mutants: error: {failure}", file=sys.stderr)
        return 2
    print(f"{len(chosen)} mutants:", ", ".join(f"{count} {word}" for word, count in sorted(counts.items())))
    return 1 if stale or counts["SURVIVED"] or counts["DIFFERENT"] else 0


def judgement(verdict: Verdict, excuses: Mapping[str, str]) -> str:
    """One word for it; capitals where something is to be done."""
    if verdict.mutant.name in excuses:
        return "DIFFERENT" if verdict.noticed_by else "equivalent"
    return "noticed" if verdict.noticed_by else "SURVIVED"


def told(word: str, verdict: Verdict, excuses: Mapping[str, str]) -> str:
    """The line, or a few, that an operator reads."""
    mutant = verdict.mutant
    head = f"{word:10} {mutant.name}"
    match word:
        case "noticed" | "DIFFERENT":
            how = f" ({verdict.how})" if verdict.how else ""
            after = "" if word == "noticed" else "\n    is listed as equivalent: take it out of the table"
            return f"{head}\n    by {str(verdict.noticed_by).rpartition('/')[2]}{how}{after}"
        case "equivalent":
            return f"{head}\n    {excuses[mutant.name]}"
        case _:
            path = str(source_file(mutant.module))
            lines = [linecache.getline(path, number).rstrip() for number in range(mutant.lines[0], mutant.lines[1] + 1)]
            context = "\n".join(f"    | {line}" for line in lines)
            return f"{head}\n    {place(mutant)}, of {verdict.tests} tests that run it\n{context}"


def place(mutant: Mutant) -> str:
    """File and line, as editors take it."""
    return f"{os.path.relpath(source_file(mutant.module))}:{mutant.lines[0]}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("set", nargs="?", choices=SETS, default="gossip", metavar="SET", help="gossip, keys or line")
    parser.add_argument("--only", action="append", metavar="TEXT", help="mutants whose name contains this; repeatable")
    parser.add_argument("--sample", type=int, metavar="N", help="so many of them, drawn by --seed")
    parser.add_argument("--seed", default="0", help="of the sample (default 0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="mutants tried at once (default 1)")
    parser.add_argument("--list", action="store_true", help="name them, and try none")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
