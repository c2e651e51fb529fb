"""Each mutant meets the tests that run what it changes, in a process of its own, until one of them fails.

One pytest session collects the tests and never runs them itself: it is what each of these processes is forked from, so
that a trial costs what its tests cost and no more. Nothing is written anywhere: the function's code is exchanged in the
memory of the fork; a table is made anew there, with what is made of it. One such process runs all tests first, on the
code as it is, and notes which line is run by whom.
Tests go in order of how much of the rules they run, which is about how long they take: the pointed ones first.

A test that goes on for too long, or wants too much memory, has noticed something too; it is processor time that counts,
since the machine may be busy with other things. Hypothesis draws the same examples each time, and shrinks nothing.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import EnumMeta
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, BinaryIO, Final

import pytest
from _pytest.runner import runtestprotocol

from tests.mutants import tables
from tests.mutants.mutation import Mutant, codes, functions, mutants
from tests.mutants.rules import Rules

ROOT: Final = Path(__file__).parents[2]

PATIENCE: Final = 2.0
"""Seconds of processor time that a test may always take; beyond that ten times what it takes on the code as it is."""
MEMORY: Final = 4 << 30
"""Bytes of address space: a mutant that grows for ever ends here."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`noticed_by` is the test that failed, with `how`; None if none did. `tests` is how many there were to try."""

    mutant: Mutant
    tests: int
    noticed_by: str | None
    how: str = ""


@dataclass(slots=True)
class Run:
    """What one test runs of the rules: lines by file, in how many calls, and in how many seconds."""

    lines: dict[str, set[int]]
    calls: int
    seconds: float

    def touches(self, filename: str, first: int, last: int) -> bool:
        """Whether it runs any of these lines."""
        return not self.lines.get(filename, set()).isdisjoint(range(first, last + 1))


class TestsFail(Exception):
    """On the code as it is; then nothing can be said about mutants."""


def words(rules: Rules) -> dict[str, EnumMeta]:
    """The enumerations that they are written in, by name."""
    return {word.__name__: word for word in rules.words}


def all_mutants(rules: Rules) -> list[Mutant]:
    """Of all of `rules`, in order."""
    found: list[Mutant] = []
    for module, only in rules.modules.items():
        source = source_file(module).read_text()
        missing = set(only or ()) - set(functions(source))
        if missing:
            raise LookupError(
                f"{module} has no {', '.join(sorted(missing))}; correct the table in tests/mutants/rules.py"
            )
        found += mutants(module, source, only, words(rules), tables=rules.tables)
    return found


def source_file(module: str) -> Path:
    """Where a module's source is."""
    return Path(str(importlib.import_module(module).__file__))


def try_all(rules: Rules, chosen: list[Mutant], jobs: int, report: Callable[[Verdict], None]) -> None:
    """Report the verdict on each of `chosen`, in order. Raises TestsFail."""
    session = _Session(rules, chosen, jobs, report)
    arguments = ["--capture=no", "-qq", "--no-header", "--no-summary", "-p", "no:cacheprovider"]
    ignored = [f"--ignore={ROOT / path}" for path in rules.left_out]
    given = [str(ROOT / path) for path in rules.tests]
    pytest.main([f"--rootdir={ROOT}", *arguments, *ignored, *given], plugins=[session])
    if session.failure is not None:
        raise TestsFail(session.failure)


class _Session:
    """The pytest plugin that tries mutants where pytest would run the tests."""

    def __init__(self, rules: Rules, chosen: list[Mutant], jobs: int, report: Callable[[Verdict], None]) -> None:
        self._rules = rules
        self._chosen = chosen
        self._jobs = jobs
        self._report = report
        self.failure: str | None = "pytest could not collect the tests"

    def pytest_configure(self) -> None:
        from hypothesis import HealthCheck, Phase, settings  # not earlier: pytest rewrites its plugin's assertions

        settings.register_profile(
            "mutants",
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            return True
        _check_that_sources_are_what_is_loaded(self._rules)
        gc.freeze()
        runs = _observe(self._rules, session.items)
        failing = f"the tests fail on the code as it is; run pytest {' '.join(self._rules.tests)}"
        self.failure = None if runs is not None else failing
        if runs is not None:
            order = sorted(range(len(runs)), key=lambda number: (runs[number].calls, number))
            for verdict in _in_order(_trials(self._rules, self._chosen, session.items, runs, order), self._jobs):
                self._report(verdict)
        return True


def _check_that_sources_are_what_is_loaded(rules: Rules) -> None:
    for module in rules.modules:
        path = source_file(module)
        compiled = codes(compile(path.read_text(), str(path), "exec", dont_inherit=True))
        for name in functions(path.read_text()):
            if live(module, name).__code__ != compiled[name]:
                raise RuntimeError(f"{module} has changed since it was imported: start again")


def live(module: str, function: str) -> FunctionType:
    """The function object that is in use; a method's or property's too."""
    found: object = sys.modules[module]
    for part in function.split("."):
        found = vars(found)[part]
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, (classmethod, staticmethod)):
        found = found.__func__
    assert isinstance(found, FunctionType)
    return found


# --- on the code as it is


def _observe(rules: Rules, items: list[pytest.Item]) -> list[Run] | None:
    """What each test runs; None if one fails."""
    child = _Child.fork(lambda tell: _run_observed(rules, items, tell))
    answer = child.read_all()
    if child.wait() != 0:
        return None
    return [
        Run({name: set(lines) for name, lines in by_file.items()}, calls, seconds)
        for by_file, calls, seconds in json.loads(answer)
    ]


def _run_observed(rules: Rules, items: list[pytest.Item], tell: BinaryIO) -> int:
    watched = {str(source_file(module)) for module in rules.modules}
    found = []
    for number, item in enumerate(items):
        observer = _Observer(watched)
        began = _processor_seconds()
        sys.settrace(observer.on_call)
        try:
            failed = _fails(item, items[number + 1 :])
        finally:
            sys.settrace(None)
        if failed:
            return 1
        found.append((observer.lines(), observer.calls, _processor_seconds() - began))
    tell.write(json.dumps(found).encode())
    return 0


class _Observer:
    """Which lines of these files are run, and how many calls that takes. What is known of a function costs no more."""

    def __init__(self, watched: set[str]) -> None:
        self.calls = 0
        self._watched = watched
        self._seen: dict[CodeType, set[int]] = {}
        self._unseen: dict[CodeType, set[int]] = {}

    def on_call(self, frame: FrameType, _event: str, _arg: object) -> Any:
        code = frame.f_code
        if code.co_filename not in self._watched:
            return None
        self.calls += 1
        if code not in self._seen:
            self._seen[code] = set()
            self._unseen[code] = {line for _, _, line in code.co_lines() if line is not None}
        self._note(code, frame.f_lineno)
        return self.on_line if self._unseen[code] else None

    def on_line(self, frame: FrameType, _event: str, _arg: object) -> Any:
        self._note(frame.f_code, frame.f_lineno)
        return self.on_line

    def _note(self, code: CodeType, line: int) -> None:
        if line in self._unseen[code]:
            self._unseen[code].remove(line)
            self._seen[code].add(line)

    def lines(self) -> dict[str, list[int]]:
        """By file."""
        found: dict[str, set[int]] = {}
        for code, lines in self._seen.items():
            found.setdefault(code.co_filename, set()).update(lines)
        return {name: sorted(lines) for name, lines in found.items()}


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# --- on mutants


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    mutant: Mutant
    items: list[pytest.Item]
    limits: list[float]
    """Seconds of processor time, for each item."""

    def run(self, tell: BinaryIO) -> int:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        if self.mutant.is_of_a_table:
            try:
                tables.make_anew(self.mutant)
            except Exception:  # the module would not load
                return 1
        else:
            function = live(self.mutant.module, self.mutant.function)
            function.__code__ = self.mutant.code(function.__code__.co_filename)
        for number, item in enumerate(self.items):
            tell.write(b".")
            tell.flush()
            signal.setitimer(signal.ITIMER_PROF, self.limits[number])  # whose signal ends us
            if _fails(item, self.items[number + 1 :]):
                return 1
        return 0

    def verdict(self, dots: int, status: int) -> Verdict:
        if status == 0:
            return Verdict(self.mutant, len(self.items), None)
        if dots == 0 and self.mutant.is_of_a_table and os.WIFEXITED(status):
            return Verdict(self.mutant, len(self.items), self.mutant.module, "does not load")
        if dots == 0:
            raise RuntimeError(f"no test was begun on {self.mutant.name}")
        how = "" if os.WIFEXITED(status) else f"stopped by {signal.Signals(os.WTERMSIG(status)).name}"
        return Verdict(self.mutant, len(self.items), self.items[dots - 1].nodeid, how)


def _trials(
    rules: Rules, chosen: list[Mutant], items: list[pytest.Item], runs: list[Run], order: list[int]
) -> Iterator[_Trial]:
    for mutant in chosen:
        filename = str(source_file(mutant.module))
        places = tables.readers(mutant, rules) if mutant.is_of_a_table else ((filename, *mutant.lines),)
        concerned = [n for n in order if any(runs[n].touches(*place) for place in places)]
        if mutant.is_of_a_table:  # a test may look at what is in it, and run nothing
            using = set(concerned)
            concerned = [n for n in order if not places or runs[n].calls == 0 or n in using]
        limits = [PATIENCE + 10 * runs[number].seconds for number in concerned]
        yield _Trial(mutant, [items[number] for number in concerned], limits)


def _in_order(trials: Iterable[_Trial], jobs: int) -> Iterator[Verdict]:
    """Verdicts in the order of their trials, of which so many run at once."""
    waiting = deque(trials)
    running: dict[int, tuple[_Trial, _Child]] = {}
    expected: deque[_Trial] = deque()
    done: dict[_Trial, Verdict] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            trial = waiting.popleft()
            child = _Child.fork(trial.run)
            running[child.pid] = trial, child
            expected.append(trial)
        pid, status = os.wait()  # there are no other children; what they tell fits into a pipe
        trial, child = running.pop(pid)
        done[trial] = trial.verdict(len(child.read_all()), status)
        while expected and expected[0] in done:
            yield done.pop(expected.popleft())


def _fails(item: pytest.Item, after: list[pytest.Item]) -> bool:
    reports = runtestprotocol(item, log=False, nextitem=after[0] if after else None)
    return any(report.failed for report in reports)


@dataclass(frozen=True, slots=True, eq=False)
class _Child:
    """A forked process, and what it has to tell."""

    pid: int
    pipe: BinaryIO

    @classmethod
    def fork(cls, work: Callable[[BinaryIO], int]) -> _Child:
        """Have `work` done elsewhere; its result is the exit status."""
        sys.stdout.flush()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writer)
            return cls(pid, os.fdopen(reader, "rb"))
        status = 1
        try:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nowhere, descriptor)
            with os.fdopen(writer, "wb") as tell:
                status = work(tell)
        finally:
            os._exit(status)

    def read_all(self) -> bytes:
        """What it told, once it is over."""
        with self.pipe:
            return self.pipe.read()

    def wait(self) -> int:
        """Its status, as wait(2) has it."""
        return os.waitpid(self.pid, 0)[1]
