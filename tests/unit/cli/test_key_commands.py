"""`wesher key`: what is printed of the daemon's answers, what it is told, and when a command ends."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.cli.daemon import serving
from wesher import key_commands

KEY_TEXT = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
NEW, OLD, OTHER = "a1b2c3d4", "00112233", "ffff0000"


def entry(fingerprint: str, part: str, **changes: Any) -> dict[str, Any]:
    """A key in an answer to /keys: everybody has it."""
    values = {
        "fingerprint": fingerprint,
        "part": part,
        "epoch": None,
        "seconds_left": None,
        "without": [],
        "not_sealing": [],
    }
    return values | changes


def answer(*keys: dict[str, Any], go: tuple[str, ...] = (), size: int = 3) -> dict[str, Any]:
    """A whole answer to /keys."""
    return {"size": size, "go": list(go), "absent": [], "keys": list(keys)}


@pytest.fixture
def run(ask_daemon: Run) -> Run:
    """Here `run` asks a daemon."""
    return ask_daemon


class Daemon:
    """A prepared daemon: `keys` is its answer to /keys; `said` what it was told."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"/keys": answer(entry(OLD, "seals"))}
        self.said: list[tuple[str, Mapping[str, Any]]] = []
        self.declines: dict[str, list[str]] = {}

    def told(self, path: str, words: Mapping[str, Any]) -> str:
        """Note it; why it is declined, if it is."""
        self.said.append((path, words))
        reasons = self.declines.get(path, [])
        return reasons.pop(0) if reasons else ""


@pytest.fixture
def daemon(tmp_path: Path):
    """It runs, and takes the three commands."""
    made = Daemon()
    begun = {"new": True, "fingerprint": NEW, "grace": 259_200, "absent": []}
    results: dict[str, Any] = {
        "/key/rotate": begun,
        "/key/use": {"fingerprint": NEW},
        "/key/replace": {"fingerprint": NEW},
    }
    made.answers["begun"] = begun
    commands = {path: (lambda words, path=path: made.told(path, words)) for path in results}
    with serving(tmp_path, made.answers, commands, results):
        yield made


def test_the_list_is_a_table_and_names_who_lacks_a_key(run: Run, daemon: Daemon) -> None:
    """Go nodes have none of the new ones."""
    daemon.answers["/keys"] = answer(
        entry(
            NEW, "coming", epoch=216_000_000, seconds_left=86_000, without=["n2", "n\x1b3"], not_sealing=["n1", "n2"]
        ),
        entry(OLD, "seals", not_sealing=[]),
        entry("99999999", "going", seconds_left=59, without=["n1"], not_sealing=["n1", "n2", "n\x1b3"]),
        go=("g1",),
        size=4,
    )
    code, out, err = run("key", "list")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "KEY       IS                     SINCE                 HAVE IT  USE IT  DROPPED IN",
        f"{NEW}  given out, not in use  2026-11-05 00:00 UTC  [1/4]    [1/4]   23h",
        f"{OLD}  in use                 the beginning         [3/4]    [3/4]   -",
        "99999999  replaced               the beginning         [2/4]    [0/4]   59s",
        f"without {NEW}: n2, 'n\\x1b3'",
        "Go nodes, alive or remembered, which cannot follow a rotation: g1",
    ]


def test_of_a_key_that_nobody_has_room_to_tell_of_nothing_is_said(run: Run, daemon: Daemon) -> None:
    """It is held here, and so by at least one."""
    daemon.answers["/keys"] = answer(entry(OLD, "going", untold=["n1", "n2", "n3"], not_sealing=["n1", "n2", "n3"]))
    assert run("key", "list")[1].splitlines()[1].split()[-3:] == ["[?/3]", "[0/3]", "-"]


def test_json_is_the_daemons_own_answer(run: Run, daemon: Daemon) -> None:
    """Its fields are stable."""
    code, out, _ = run("key", "list", "--json")
    assert (code, json.loads(out)) == (0, daemon.answers["/keys"])


def test_a_rotation_gives_out_waits_uses_waits(run: Run, daemon: Daemon, monkeypatch) -> None:
    """One line for each step where the output is no terminal."""
    looks = iter(
        (
            answer(entry(NEW, "coming", without=["n2", "n3"], not_sealing=["n1", "n2", "n3"])),
            answer(entry(NEW, "coming", not_sealing=["n1", "n2", "n3"])),
            answer(entry(NEW, "seals", not_sealing=["n3"])),
            answer(entry(NEW, "seals")),
        )
    )
    monkeypatch.setattr(key_commands, "ask", lambda *_: next(looks))
    code, out, err = run("key", "rotate", "--grace", "2h")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"new key {NEW}",
        "[1/3] have it, not yet: n2, n3",
        "[3/3] have it",
        "[2/3] use it, not yet: n3",
        "[3/3] use it",
        "done: the former key still opens for 3d, and is dropped then",
    ]
    assert daemon.said == [
        ("/key/rotate", {"grace": 7200, "dry_run": False}),
        ("/key/use", {"fingerprint": NEW, "without": []}),
    ]


def test_who_is_not_waited_for_is_named_to_the_daemon_too(run: Run, daemon: Daemon) -> None:
    """It is cut off when the grace is over."""
    daemon.answers["/keys"] = answer(entry(NEW, "coming", without=["n2"], not_sealing=["n2"]))
    code, out, _ = run("key", "rotate", "--without", "n2")
    assert code == 0
    assert "[2/3] have it, not yet" not in out
    assert daemon.said[-1] == ("/key/use", {"fingerprint": NEW, "without": ["n2"]})


def test_a_member_that_comes_in_between_is_waited_for(run: Run, daemon: Daemon) -> None:
    """The daemon declines to use the key for its sake, and is asked again."""
    daemon.answers["/keys"] = answer(entry(NEW, "coming"))
    daemon.declines["/key/use"] = ["not everybody has the new key: n4"]
    assert run("key", "rotate")[0] == 0
    assert [path for path, _ in daemon.said] == ["/key/rotate", "/key/use", "/key/use"]


def test_a_key_that_gives_way_while_it_is_to_be_used_is_not_waited_for(run: Run, daemon: Daemon, monkeypatch) -> None:
    """Two rotate at once, and the other was quicker in the last moment: however long, nothing would come of it."""
    looks = iter((answer(entry(NEW, "coming")), answer(entry(OTHER, "seals"), entry(NEW, "going"))))
    monkeypatch.setattr(key_commands, "ask", lambda *_: next(looks))
    daemon.declines["/key/use"] = ["a newer key is used already; see wesher key list"] * 100
    code, _, err = run("key", "rotate", "--wait", "2")
    assert code == 1
    assert err == (
        f"wesher: error: key {NEW} gave way to another, which was given out at the same time; see wesher key list\n"
    )


@pytest.mark.parametrize("step", ["tell", "ask"])
def test_an_interrupted_rotation_says_how_to_go_on(run: Run, daemon: Daemon, monkeypatch, step: str) -> None:
    """Wherever it was; status 1, for it was no wrong usage."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(key_commands, step, interrupted)
    code, _, err = run("key", "rotate")
    assert (code, err) == (1, "wesher: error: interrupted; give the command again, on any node, to go on\n")


@pytest.mark.parametrize("lacking", ["without", "not_sealing"])
def test_waiting_has_an_end(run: Run, daemon: Daemon, lacking: str) -> None:
    """And says for whom it was, and what to do."""
    daemon.answers["/keys"] = answer(entry(NEW, "coming", **{lacking: ["n2"]}))
    code, _, err = run("key", "rotate", "--wait", "0")
    what = "have it" if lacking == "without" else "use it"
    assert code == 1
    assert err == (
        f"wesher: error: not all {what} within 0s: n2; give the command again to go on, and --without NAME not to wait "
        "for one\n"
    )


def test_on_a_terminal_one_line_is_written_over(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    """And what follows begins its own; what has not changed is not drawn again."""
    monkeypatch.setattr(key_commands.os, "get_terminal_size", lambda: os.terminal_size((80, 24)))
    progress = key_commands._Progress(is_terminal=True)
    progress.say("[1/3] have it", ["n2", "n\x1b3"])
    progress.say("[1/3] have it", ["n2", "n\x1b3"])
    progress.say("[3/3] have it", [])
    progress.end()
    assert capsys.readouterr().out == "\r\x1b[K[1/3] have it, not yet: n2, 'n\\x1b3'\r\x1b[K[3/3] have it\n"


def test_on_a_narrow_terminal_the_line_is_cut(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    """One that goes round the edge would leave its beginning behind each time."""
    monkeypatch.setattr(key_commands.os, "get_terminal_size", lambda: os.terminal_size((20, 24)))
    progress = key_commands._Progress(is_terminal=True)
    progress.say("[1/3] have it", ["n2", "n3"])
    assert capsys.readouterr().out == "\r\x1b[K[1/3] have it, not "


def test_a_dry_run_gives_out_nothing(run: Run, daemon: Daemon) -> None:
    """It says what is there already, who is missing, and what would be done."""
    daemon.answers["begun"] |= {"absent": ["n7"]}
    code, out, _ = run("key", "rotate", "--dry-run")
    assert (code, out.splitlines()) == (
        0,
        ["would give out a new key; the former opens for 3d", "not there now: n7; who is back within 3d follows"],
    )
    daemon.answers["begun"] |= {"new": False, "absent": []}
    _, out, _ = run("key", "rotate", "--dry-run")
    assert out == f"would go on with key {NEW}, which was given out before; the former opens for 3d\n"
    assert [words["dry_run"] for _, words in daemon.said] == [True, True]


def test_what_the_daemon_declines_is_said(run: Run, daemon: Daemon) -> None:
    """In its words."""
    daemon.declines["/key/rotate"] = ["Go nodes cannot follow"]
    assert run("key", "rotate") == (1, "", "wesher: error: Go nodes cannot follow\n")


@pytest.mark.parametrize(
    "keys",
    [[entry(OLD, "seals")], [entry(OTHER, "seals"), entry(NEW, "going", not_sealing=["n1"])]],
    ids=["dropped", "replaced"],
)
def test_a_key_that_another_took_the_place_of_ends_the_command(run: Run, daemon: Daemon, keys: list[Any]) -> None:
    """Two rotate at once: nobody will ever have this one, or seal with it."""
    daemon.answers["/keys"] = answer(*keys)
    code, out, err = run("key", "rotate")
    assert (code, out) == (1, f"new key {NEW}\n")
    assert err == (
        f"wesher: error: key {NEW} gave way to another, which was given out at the same time; see wesher key list\n"
    )


def test_a_key_by_hand_goes_to_this_daemon_alone(run: Run, daemon: Daemon, tmp_path: Path) -> None:
    """It never stands on a command line."""
    file = tmp_path / "new.key"
    file.write_text(KEY_TEXT + "\n")
    file.chmod(0o600)
    code, out, err = run("key", "rotate", "--key-file", str(file))
    assert (code, err) == (0, "")
    assert out == f"this node has cluster key {NEW} and no other: it hears nobody who does not have it too\n"
    assert daemon.said == [("/key/replace", {"cluster_key": KEY_TEXT})]


@pytest.mark.parametrize("arguments", [["--dry-run"], ["--without", "n2"]])
def test_a_key_by_hand_has_no_other_options(run: Run, daemon: Daemon, arguments: list[str]) -> None:
    """They would do nothing."""
    code, _, err = run("key", "rotate", "--key-file", "/nonexistent", *arguments)
    assert code == 2
    assert "--key-file changes this node alone" in err
    assert not daemon.said


@pytest.mark.parametrize(
    "misshapen",
    [
        {},
        {"size": 3, "go": [], "keys": 7},
        {"size": "many", "go": [], "keys": []},
        {"size": 3, "go": [], "keys": [{"fingerprint": NEW}]},
        answer(entry(NEW, "dancing")),
        answer(entry(NEW, "seals", epoch=10**30)),
    ],
)
def test_an_answer_of_another_shape_is_one_line(run: Run, daemon: Daemon, misshapen: dict[str, Any]) -> None:
    """The daemon may be of another version."""
    daemon.answers["/keys"] = misshapen
    code, out, err = run("key", "list")
    assert (code, out) == (1, "")
    assert err.startswith("wesher: error: the daemon's answer is not of this version")
    if misshapen.get("keys") not in ([],) and "part" not in str(misshapen):
        assert run("key", "rotate")[0] == 1
