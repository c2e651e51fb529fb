"""Log lines: one a record, in text or JSON, harmless whatever they quote, and lost rather than waited for."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privhelper.log_levels import FORMS, LEVELS, parse_form, parse_level
from privhelper.logs import JsonFormatter, StandardError, TextFormatter, printable

ROOT = Path(__file__).parents[3]
FORMATTERS = {"text": TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"), "json": JsonFormatter()}


def record(message: str = "member %s", *args: object, level: int = logging.INFO) -> logging.LogRecord:
    """What the logger `agent` hands to its handler."""
    return logging.LogRecord("agent", level, __file__, 1, message, args, None)


def logged(program: str, level: str = "info", form: str = "text") -> list[str]:
    """The lines a process of its own leaves on its standard error; it has `log`."""
    start = f"import logging; from privhelper.logs import configure; configure({level!r}, {form!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", start + "log = logging.getLogger('agent')\n" + program],
        capture_output=True,
        timeout=60,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout == b""
    return done.stderr.decode("ascii").splitlines()


# --- levels


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("debug", "debug"),
        ("info", "info"),
        ("warn", "warn"),
        ("error", "error"),
        ("WARN", "warn"),
        ("Warning", "warn"),
        ("trace", "debug"),
        ("fatal", "error"),
        ("PANIC", "error"),
    ],
)
def test_a_level_has_the_names_that_the_original_takes(text, level):
    """In any case: an old unit file goes on working."""
    assert parse_level(text) == level


@pytest.mark.parametrize("text", ["", "warn ", "verbose", "0", "warnings", "critical", "off"])
def test_any_other_level_is_a_mistake_that_names_the_levels(text):
    """In one line."""
    with pytest.raises(ValueError, match=rf"^'{text}' is no log level; give one of debug, info, warn, error$"):
        parse_level(text)


def test_a_form_is_text_or_json():
    """Nothing else."""
    assert [parse_form(form) for form in FORMS] == ["text", "json"]
    with pytest.raises(ValueError, match=r"^'logfmt' is no log format; give one of text, json$"):
        parse_form("logfmt")


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_below_the_level_is_not_logged(level):
    """The libraries' warnings never, their errors always."""
    program = """
for number in (10, 20, 30, 40):
    log.log(number, str(number))
for name in ("asyncio", "pyroute2"):
    logging.getLogger(name).warning("ours to handle")
    logging.getLogger(name).error("theirs")
"""
    lines = [json.loads(line) for line in logged(program, level, "json")]
    said = [(line["level"], line["message"]) for line in lines if line["logger"] == "agent"]
    assert said == [(name, str(number)) for name, number in LEVELS.items() if number >= LEVELS[level]]
    assert [(line["logger"], line["message"]) for line in lines[-2:]] == [("asyncio", "theirs"), ("pyroute2", "theirs")]


# --- forms


def test_a_line_of_text_is_time_level_logger_and_message():
    """As it has always been."""
    (line,) = logged("log.warning('member %s is %s', 'node-b', 'late')")
    date, time, rest = line.split(" ", 2)
    datetime.strptime(f"{date} {time}", "%Y-%m-%d %H:%M:%S,%f").astimezone()
    assert rest == "WARNING agent: member node-b is late"


def test_a_line_of_json_is_one_object_with_four_members():
    """The time is UTC, with milliseconds, whatever the zone of the host."""
    entry = record("member %s", "node-b", level=logging.WARNING)
    entry.created = datetime(2026, 1, 31, 12, 0, 0, 7000, tzinfo=UTC).timestamp()
    assert json.loads(FORMATTERS["json"].format(entry)) == {
        "time": "2026-01-31T12:00:00.007Z",
        "level": "warn",
        "logger": "agent",
        "message": "member node-b",
    }


@given(st.floats(min_value=0, max_value=4e9))
def test_a_time_in_json_is_never_off_by_more_than_its_precision(created):
    """It can be read back by anything that knows RFC 3339."""
    entry = record("x")
    entry.created = created
    read = datetime.fromisoformat(json.loads(FORMATTERS["json"].format(entry))["time"])
    assert abs(read.timestamp() - created) <= 0.0011


RAISING = """
try:
    1 / 0
except ZeroDivisionError as error:
    log.exception("cannot")
"""


def test_a_traceback_is_one_member_in_json():
    """So that the line stays one."""
    (line,) = logged(RAISING, form="json")
    entry = json.loads(line)
    assert (entry["level"], entry["message"]) == ("error", "cannot")
    assert entry["exception"].startswith("Traceback (most recent call last):\n")
    assert entry["exception"].endswith("ZeroDivisionError: division by zero")


def test_a_traceback_follows_its_line_in_text():
    """Line by line."""
    first, *rest = logged(RAISING)
    assert first.endswith(" ERROR agent: cannot")
    assert (rest[0], rest[-1]) == (
        "Traceback (most recent call last):",
        "ZeroDivisionError: division by zero",
    )


@given(st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")), st.sampled_from(FORMS))
def test_whatever_is_quoted_a_line_is_one_line_of_printable_ascii(text, form):
    """A line break would forge a line, an escape sequence command a terminal."""
    line = FORMATTERS[form].format(record("member %s", text))
    assert line.isascii()
    assert line.isprintable()
    if form == "json":
        assert json.loads(line)["message"] == f"member {text}"


@pytest.mark.parametrize("form", FORMS)
def test_an_exceptions_own_words_are_harmless_too(form):
    """They may quote a stranger."""
    lines = logged(
        "try:\n    raise OSError('a\\x1b[2J\\x7f\\udcff')\nexcept OSError:\n    log.exception('no')", form=form
    )
    assert all(line.isprintable() for line in lines)
    assert "x1b" in lines[-1] or "\\u001b" in lines[-1]


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_what_is_printable_stays_as_it_is(text):
    """The log can be searched for what was said."""
    assert printable(text) == text


# --- loss


@pytest.fixture
def full_pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A pipe of one page for standard error, never blocking: (reading end, writing end)."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    monkeypatch.setattr("privhelper.logs._STANDARD_ERROR", writing)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def handler() -> StandardError:
    """The handler under test."""
    made = StandardError()
    made.setFormatter(logging.Formatter("%(message)s"))
    return made


def test_a_line_for_which_there_is_no_room_is_lost_whole(full_pipe):
    """Not kept to come out later, not cut."""
    reading, _ = full_pipe
    log = handler()
    for letter in "abc":
        log.emit(record(letter * 1999))
    assert os.read(reading, 8192) == b"a" * 1999 + b"\n" + b"b" * 1999 + b"\n"
    log.emit(record("after"))
    assert os.read(reading, 8192) == b"after\n"


def test_after_a_line_that_was_cut_the_next_begins_anew(full_pipe):
    """Only one longer than what a pipe takes whole is."""
    reading, _ = full_pipe
    log = handler()
    log.emit(record("x" * 9000))
    log.emit(record("lost"))
    assert os.read(reading, 8192) == b"x" * 4096
    log.emit(record("after"))
    log.emit(record("that"))
    assert os.read(reading, 8192) == b"\nafter\nthat\n"


def test_a_log_that_nobody_reads_any_more_costs_nothing():
    """Closed, or broken; the program goes on."""
    program = """
import os
reading, writing = os.pipe()
os.dup2(writing, 2)
os.close(writing)
os.close(reading)
log.warning("to nobody")
os.close(2)
log.warning("to nothing")
print(end="", flush=True)
"""
    assert logged(program) == []


def test_a_record_that_cannot_be_formatted_costs_only_itself():
    """The one after it is there."""
    lines = logged("log.warning('%d', 'x')\nlog.warning('good')", form="json")
    assert [json.loads(line)["message"] for line in lines] == ["good"]


def test_configuring_again_replaces_what_was():
    """No line comes out twice."""
    assert len(logged("configure('debug', 'text')\nlog.debug('once')", "error", "json")) == 1
