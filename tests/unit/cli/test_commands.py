"""The commands that ask a daemon, against its real control socket: what is printed, and the exit status."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.lab.until import until
from tests.unit.cli import answers
from tests.unit.cli.conftest import Run
from tests.unit.cli.daemon import serving
from tests.unit.cli.graphs import EVIL, MIXED

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
ROOT = Path(__file__).parents[3]
CAPTURES = ROOT / "tests" / "golden" / "captures"
CAPTURES_KEY = "ILICZ3yBMCGAWNIq5Pn0bewBVimW3Q2yRVJ/Be+b1Uc="

GOOD = answers.status(answers.peer())
DEGRADED = answers.status(
    answers.peer(state="failed", since_s=10.0), problems=("the hosts file has been replaced\nby \x1b[2J",)
)
FINDINGS = [
    "the hosts file has been replaced?by ?[2J",
    "node-b has failed 10s ago; start it, or if it is gone for good: wesher forget node-b",
]


@pytest.fixture
def run(ask_daemon: Run) -> Run:
    """Here `run` asks a daemon."""
    return ask_daemon


@pytest.fixture
def said(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a running daemon answers; may be changed."""
    prepared: dict[str, Any] = {
        "/status": GOOD,
        "/members": {"members": [answers.member()]},
        "/graph": MIXED,
        "/key": {"cluster_key": KEY},
    }
    with serving(tmp_path, prepared):
        yield prepared


ASKING = [
    ["status"],
    ["status", "--json"],
    ["status", "--check"],
    ["status", "--check", "--json"],
    ["members"],
    ["members", "--json"],
    ["graph"],
    ["graph", "--json"],
    ["graph", "--format", "dot"],
    ["key", "show"],
    ["key", "show", "--json"],
    ["leave"],
    ["forget", "node-b"],
]


@pytest.mark.parametrize("command", ASKING)
def test_without_a_daemon_commands_end_with_3(run, tmp_path, command):
    """And say how to start one."""
    code, out, err = run(*command)
    assert (code, out) == (3, "")
    assert err == f"wesher: error: no daemon serves {tmp_path}/wgoverlay.sock; start one with: wesher\n"


def test_the_socket_follows_interface_and_directory(run, tmp_path):
    """As options or as variables, as for the daemon."""
    _, _, err = run("status", "--interface", "wg9")
    assert f"{tmp_path}/wg9.sock" in err
    _, _, err = run("status", "--runtime-dir", "/nonexistent")
    assert "/nonexistent/wgoverlay.sock" in err


@pytest.mark.parametrize("path", ["/status", "/members", "/graph", "/key"])
def test_json_is_the_daemons_own_answer(run, said, path):
    """Every member of it, also those of a newer daemon."""
    said[path] = said[path] | {"new": {"x": [1]}}
    command = {"/status": ["status"], "/members": ["members"], "/graph": ["graph"], "/key": ["key", "show"]}[path]
    code, out, err = run(*command, "--json")
    assert (code, json.loads(out), err) == (0, said[path], "")


def test_text_is_for_people(run, said):
    """Tables; the key as one line, for a pipe."""
    code, out, err = run("status")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("node-a  10.9.9.9 on wgoverlay")
    code, out, err = run("members")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["NAME", "node-b"]
    assert run("key", "show") == (0, KEY + "\n", "")


def test_a_graph_has_three_forms(run, said):
    """And JSON, which is a fourth: one of them at a time."""
    code, out, err = run("graph")
    assert (code, err) == (0, "")
    assert out.startswith("6 members, of whom 5 have told whom they see; ")
    assert run("graph", "--format", "dot")[1].startswith("digraph wesher {")
    assert run("graph", "--format", "svg")[1].startswith("<svg ")
    assert run("graph", "--format", "svg", "--json")[0] == 2
    assert run("graph", "--format", "png")[0] == 2


@pytest.mark.parametrize("form", ["text", "dot", "svg"])
def test_nothing_in_a_graph_reaches_the_terminal_as_it_is(run, said, form):
    """Names are any bytes; ages are any number that an agent that is no longer itself can write."""
    said["/graph"] = EVIL
    code, out, err = run("graph", "--format", form)
    assert (code, err) == (0, "")
    assert all(line.isascii() and line.isprintable() for line in out.splitlines())
    for age in (float("inf"), float("nan"), 10**400, -1):
        row = EVIL["observers"][0] | {"handshakes": [age] * 6}
        said["/graph"] = EVIL | {"observers": [row]}
        code, out, err = run("graph", "--format", form)
        assert code in (0, 1)
        assert "Traceback" not in err


MISSHAPEN = [
    {},
    {"peers": 1, "node": [], "members": 7, "cluster_key": 7},
    {"members": [{"name": 3}], "cluster_key": None},
    {"members": "a member", "cluster_key": ["a key"]},
    MIXED | {"names": "ab"},
    MIXED | {"observers": {"ouch": 1}},
]


@pytest.mark.parametrize("command", [["status"], ["status", "--check"], ["members"], ["graph"], ["key", "show"]])
@pytest.mark.parametrize("answer", MISSHAPEN)
def test_an_answer_of_another_shape_is_one_line(run, said, command, answer):
    """Status 1, and no traceback."""
    said["/status"] = said["/members"] = said["/graph"] = said["/key"] = answer
    code, out, err = run(*command)
    assert (code, out) == (1, "")
    assert err.startswith("wesher: error: the daemon's answer is not of this version; ")
    assert err.count("\n") == 1


BEYOND = {
    "seconds without end": answers.status(answers.peer(last_handshake_s=float("inf"))),
    "seconds that are none": answers.status(answers.peer(last_handshake_s=float("nan"))),
    "more than a float is": answers.status(answers.peer(rtt_ms=10**400)),
    "a name that is a number": answers.status(answers.peer(name=7)),
    "a text in a list's place": GOOD | {"problems": "ouch"},
    "an object in a list's place": GOOD | {"problems": {"ouch": 1}},
}


@pytest.mark.parametrize("answer", BEYOND.values(), ids=BEYOND)
def test_nothing_in_a_status_is_a_traceback(run, said, answer):
    """An agent that is no longer itself can write any number, and a text where a list is due."""
    said["/status"] = answer
    code, out, err = run("status")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("wesher: error: the daemon's answer is not of this version; ")


def test_a_text_is_not_a_finding_for_each_of_its_characters(run, said):
    """--check reads the list of problems as well."""
    said["/status"] = GOOD | {"problems": "ouch"}
    code, out, err = run("status", "--check")
    assert (code, out) == (1, "")
    assert err.startswith("wesher: error: the daemon's answer is not of this version; ")


# --- an output that takes nothing


ANSWERED = [
    ["status"],
    ["status", "--json"],
    ["status", "--check"],
    ["members"],
    ["graph", "--format", "svg"],
    ["key", "show"],
    ["status", "--help"],
    ["--version"],
]


def written_to(output: int, directory: Path, *arguments: str) -> tuple[int, str]:
    """Status and standard error of a command that writes there."""
    done = subprocess.run(
        [sys.executable, "-m", "wesher", *arguments],
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env=os.environ | {"WESHER_RUNTIME_DIR": str(directory)},
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", ANSWERED, ids=" ".join)
def test_a_full_disk_is_one_line(said, tmp_path, command):
    """Status 1: also of a check that has found nothing degraded, or has."""
    said["/status"] = DEGRADED
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        told = "wesher: error: the output cannot be written: No space left on device; see where it goes\n"
        assert written_to(full, tmp_path, *command) == (1, told)
    finally:
        os.close(full)


def test_nobody_who_reads_is_no_line(said, tmp_path):
    """`wesher status | head -0`: status 1, and nothing to say of it."""
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        assert written_to(theirs, tmp_path, "status") == (1, "")
    finally:
        os.close(theirs)


@pytest.mark.parametrize(
    ("command", "status", "said_to_stderr"),
    [
        ("status --check", 4, ""),
        ("status --watch", 2, "wesher: error: --watch redraws a terminal, and the output is none; leave it away\n"),
        ("key rotate", 1, "wesher: error: the daemon at {socket} does not know this command; restart it\n"),
    ],
)
def test_an_output_that_is_closed_is_none(said, tmp_path, command, status, said_to_stderr):
    """As a service manager or a shell's >&- leaves it: what a command does, and its status, stay the same."""
    said["/status"] = DEGRADED
    program = ["sh", "-c", f'"$0" -m wesher {command} >&-', sys.executable]
    env = os.environ | {"WESHER_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT, env=env)
    socket = f"{tmp_path}/wgoverlay.sock"
    assert (done.returncode, done.stderr) == (status, said_to_stderr.format(socket=socket))


def test_an_error_that_has_nowhere_to_go_does_not_become_an_answer(tmp_path):
    """KEY=$(wesher key show 2>&-) is not to hold our words."""
    program = ["sh", "-c", '"$0" -m wesher key show 2>&-', sys.executable]
    env = os.environ | {"WESHER_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(program, capture_output=True, timeout=60, check=False, cwd=ROOT, env=env)
    assert (done.returncode, done.stdout) == (3, b"")


# --- status --check


def test_a_good_mesh_is_checked_in_silence(run, said):
    """Status 0."""
    assert run("status", "--check") == (0, "", "")
    code, out, err = run("status", "--check", "--json")
    assert (code, json.loads(out), err) == (0, {"degraded": []}, "")


def test_a_degraded_mesh_is_status_4_and_a_line_for_each_finding(run, said):
    """On stdout, and nothing a terminal could obey."""
    said["/status"] = DEGRADED
    assert run("status", "--check") == (4, "".join(f"{line}\n" for line in FINDINGS), "")
    code, out, err = run("status", "--check", "--json")
    assert (code, json.loads(out), err) == (4, {"degraded": FINDINGS}, "")


# --- status --watch


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ([], "--watch redraws a terminal, and the output is none; leave it away"),
        (["--json"], "--watch is for reading along; leave away --check and --json"),
        (["--check"], "--watch is for reading along; leave away --check and --json"),
    ],
)
def test_watching_without_a_terminal_or_reader_is_a_mistake(run, said, options, error):
    """A file full of redrawn screens helps nobody."""
    assert run("status", "--watch", *options) == (2, "", f"wesher: error: {error}\n")


class Watcher:
    """`wesher status --watch` on a terminal of its own; `seen` is all that it has drawn."""

    def __init__(self, directory: Path) -> None:
        self._ours, theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        self.seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wesher", "status", "--watch", "--runtime-dir", str(directory)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("WESHER_")}
            | {"TERM": "vt100"},
        )
        os.close(theirs)

    def has_drawn(self, *texts: bytes) -> bool:
        """Whether `texts` have been drawn, in this order."""
        with suppress(BlockingIOError):
            self.seen += os.read(self._ours, 65536)
        rest = self.seen
        for text in texts:
            _, found, rest = rest.partition(text)
            if not found:
                return False
        return True

    def close(self) -> None:
        """End it if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


@pytest.fixture
def watcher(tmp_path: Path, said: dict[str, Any]) -> Iterator[Watcher]:
    """One that watches the daemon."""
    watcher = Watcher(tmp_path)
    yield watcher
    watcher.close()


def test_watching_redraws_what_has_changed_until_interrupted(watcher, said):
    """Each time on an empty screen; Ctrl-C is how it ends, and no error."""
    cleared = b"\x1b[2J"
    until(lambda: watcher.has_drawn(cleared, b"node-b  alive"), 20, "the first screen")
    said["/status"] = DEGRADED
    until(lambda: watcher.has_drawn(cleared, b"node-b  alive", cleared, b"node-b  failed"), 20, "the next")
    watcher.process.send_signal(signal.SIGINT)
    assert watcher.process.wait(20) == 0


def test_watching_outlives_a_daemon_that_is_restarted(tmp_path, request):
    """What is wrong meanwhile is shown; only at the start it is an error."""
    prepared = {"/status": GOOD}
    with serving(tmp_path, prepared):
        watcher = Watcher(tmp_path)
        request.addfinalizer(watcher.close)
        until(lambda: watcher.has_drawn(b"node-b  alive"), 20, "the first screen")
    until(lambda: watcher.has_drawn(b"node-b  alive", b"no daemon serves"), 20, "its absence")
    with serving(tmp_path, prepared):
        until(lambda: watcher.has_drawn(b"no daemon serves", b"node-b  alive"), 20, "its return")


# --- leave and forget


def test_leaving_is_told_when_it_is_done(run, tmp_path):
    """Status 0 and a line; a leave that failed is status 1 and the daemon's reason."""
    told: list[Any] = []
    reasons = iter(["", "the helper is\ngone"])

    def leave(words: Any) -> str:
        told.append(words)
        return next(reasons)

    with serving(tmp_path, {"/status": GOOD}, {"/leave": leave}):
        code, out, err = run("leave")
        assert (code, out.startswith("left the mesh"), err) == (0, True, "")
        assert run("leave") == (1, "", "wesher: error: the helper is gone\n")
    assert told == [{}, {}]


def test_a_leave_that_is_interrupted_says_that_it_goes_on(run, monkeypatch):
    """The daemon has been told: Ctrl-C ends the waiting for it."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wesher.commands.tell", interrupted)
    told = "wesher: error: interrupted; the daemon has been told, and leaves: see its log\n"
    assert run("leave") == (1, "", told)


def test_a_name_of_any_bytes_can_be_forgotten(run, tmp_path):
    """As the shell hands it over; what is printed, no terminal obeys. A refusal is status 1 and the daemon's reason."""
    told: list[Any] = []

    def forget(words: Any) -> str:
        told.append(words["name"])
        return "it is alive" if words["name"] == "node-b" else ""

    with serving(tmp_path, {"/status": GOOD}, {"/forget": forget}):
        code, out, err = run("forget", "x\x1b\udcff")
        assert (code, out, err) == (0, "forgotten here, and the others are told: 'x\\x1b\\udcff'\n", "")
        assert run("forget", "node-b") == (1, "", "wesher: error: it is alive\n")
    assert told == ["x\x1b\udcff", "node-b"]
    assert run("forget")[0] == 2


def test_a_daemon_that_does_not_know_a_command_is_named(run, said):
    """Started before an upgrade."""
    code, out, err = run("leave")
    assert (code, out) == (1, "")
    assert err.endswith(" does not know this command; restart it\n")


# --- decode


def test_a_captured_line_is_decoded(run, tmp_path):
    """Each line of a capture, in order, to one JSON object; what cannot be read is an object too."""
    captured = [json.loads(line) for line in (CAPTURES / "master.jsonl").read_text().splitlines()[:20]]
    key, capture = tmp_path / "key", tmp_path / "capture"
    key.write_text(CAPTURES_KEY)
    key.chmod(0o600)
    capture.write_text("\n".join([*(entry["line"] for entry in captured), "", "udp zz", "udp 00"]) + "\n")
    code, out, err = run("decode", "--cluster-key-file", str(key), str(capture))
    assert (code, err) == (0, "")
    decoded = [json.loads(line) for line in out.splitlines()]
    assert len(decoded) == len(captured) + 2
    for line, entry in zip(decoded, captured, strict=False):
        assert line["layers"] == entry["layers"]
        assert [message["type"] for message in line["messages"]] == [m["type"] for m in entry["messages"]]
    assert all(set(line) >= {"error"} for line in decoded[-2:])


def test_a_key_file_that_gives_no_key_is_one_line(run, tmp_path):
    """Status 1, as for the daemon."""
    code, out, err = run("decode", "--cluster-key-file", str(tmp_path / "none"))
    assert (code, out) == (1, "")
    assert err == f"wesher: error: cluster key file {tmp_path}/none cannot be read: No such file or directory\n"


def test_a_daemon_of_the_template_units_is_found_in_its_own_directory(ask_daemon: Run, tmp_path: Path) -> None:
    """And asked there, whatever socket of that name the agent of another cluster puts into its own: `key rotate` would
    tell that one this cluster's next key."""
    directory = tmp_path / "wesher"
    beside = tmp_path / "wesher-wgoverlay"
    beside.mkdir()
    directory.mkdir()
    with serving(directory, {"/key": {"cluster_key": "another agent's"}}):
        with serving(beside, {"/key": {"cluster_key": "its own"}}):
            assert (0, "its own\n", "") == ask_daemon("key", "show", "--runtime-dir", str(directory))
        status, _, err = ask_daemon("key", "show", "--runtime-dir", str(directory))
        assert status == 3
        assert f"no daemon serves {beside}/wgoverlay.sock" in err
