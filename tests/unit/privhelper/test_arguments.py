"""The helper's command line and environment: which wins, what is passed over, and one line for what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from privhelper.arguments import Arguments, parse_arguments
from privhelper.options import AGENTS, HELPER, LOG, unknown_variables
from wesher.config import OPTIONS

NAMED = ["--node-name=node-a"]


def error(argv: list[str], environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which it exits 2."""
    with pytest.raises(SystemExit) as raised:
        parse_arguments([*NAMED, *argv], environment)
    assert 2 == raised.value.code
    out, err = capsys.readouterr()
    assert "" == out
    assert 1 == err.count("\n")
    assert err.startswith("wesher: error: ")
    return err


@pytest.mark.parametrize(
    ("variable", "text", "argument", "get", "outside", "typed"),
    [
        ("WESHER_INTERFACE", "wg1", "--interface=wg2", lambda a: a.pinned.interface, "wg1", "wg2"),
        ("WESHER_WIREGUARD_PORT", "1", "--wireguard-port=2", lambda a: a.pinned.wireguard_port, 1, 2),
        ("WESHER_KEEPALIVE", "25", "--keepalive=0", lambda a: a.pinned.keepalive, 25, 0),
        ("WESHER_HOSTS_SUFFIX", ".mesh", "--hosts-suffix=m.n", lambda a: a.pinned.hosts_suffix, "mesh", "m.n"),
        ("WESHER_NODE_NAME", "b", "--node-name=c", lambda a: a.pinned.node_name, "node-a", "c"),
        ("WESHER_LISTEN", "/run/a", "--listen=/run/b", lambda a: a.listen, "/run/a", "/run/b"),
        ("WESHER_AGENT_UID", "7", "--agent-uid=0", lambda a: a.agent_uid, 7, 0),
        ("WESHER_LINGER", "1", "--linger=0", lambda a: a.linger, 1, 0),
        ("WESHER_USER", "a:b", "--user=c:d", lambda a: a.users, "a:b", "c:d"),
        ("WESHER_WIREGUARD", "kernel", "--wireguard=auto", lambda a: a.wireguard, "kernel", "auto"),
        ("WESHER_LOG_LEVEL", "INFO", "--log-level=debug", lambda a: a.log_level, "info", "debug"),
        ("WESHER_LOG_FORMAT", "json", "--log-format=text", lambda a: a.log_format, "json", "text"),
    ],
)
def test_the_command_line_wins_over_the_environment(
    variable: str, text: str, argument: str, get: Any, outside: Any, typed: Any
) -> None:
    """And the environment over the default."""
    assert outside == get(parse_arguments(NAMED, {variable: text}))
    assert typed == get(parse_arguments([*NAMED, argument], {variable: text}))
    assert outside != get(parse_arguments(NAMED, {})) or variable == "WESHER_NODE_NAME"


def test_what_the_command_line_replaces_need_not_be_good() -> None:
    """Nobody will use it."""
    assert 1400 == parse_arguments([*NAMED, "--mtu=1400"], {"WESHER_MTU": "much"}).pinned.mtu


def test_an_empty_variable_is_none() -> None:
    """As unit files leave them."""
    empty = {option.variable: "" for option in (*HELPER, *LOG)}
    assert parse_arguments(NAMED, {}) == parse_arguments(NAMED, empty)


def test_the_defaults() -> None:
    """300 s of linger; nothing is listened on and no uid is fixed unless it is said."""
    expected: dict[str, Any] = {
        "wireguard": "auto",
        "users": "wesher:wesher-priv",
        "sandbox": "strict",
        "listen": None,
        "agent_uid": None,
        "linger": 300,
        "log_level": "warn",
        "log_format": "text",
        "agent_fd": None,
        "hosts_fd": None,
        "uapi_fd": None,
        "children": (),
    }
    found = parse_arguments(NAMED, {})
    assert Arguments(pinned=found.pinned, **expected) == found


def test_what_the_launcher_says_is_understood() -> None:
    """Descriptors and children."""
    found = parse_arguments([*NAMED, "--agent-fd=3", "--hosts-fd=4", "--uapi-fd=5", "--children=10,11"], {})
    assert (3, 4, 5, (10, 11)) == (found.agent_fd, found.hosts_fd, found.uapi_fd, found.children)


@pytest.mark.parametrize(
    ("text", "is_on"),
    [(text, True) for text in ("1", "true", "True", "t", "yes", "y", "on", "ON")]
    + [(text, False) for text in ("", "0", "false", "FALSE", "f", "no", "n", "off")],
)
def test_a_switch_in_the_environment(text: str, is_on: bool) -> None:
    """As the agent's command line, and the original, read it."""
    assert is_on is not parse_arguments(NAMED, {"WESHER_NO_ETC_HOSTS": text}).pinned.etc_hosts


def test_a_switch_in_the_environment_cannot_be_taken_back_on_the_command_line() -> None:
    """It can only be set there as well."""
    assert not parse_arguments([*NAMED, "--no-etc-hosts"], {"WESHER_NO_ETC_HOSTS": "0"}).pinned.etc_hosts


@pytest.mark.parametrize(
    ("argv", "environment", "words"),
    [
        ([], {"WESHER_NO_ETC_HOSTS": "maybe"}, "WESHER_NO_ETC_HOSTS: 'maybe' is neither yes nor no; give 1 or 0"),
        ([], {"WESHER_MTU": "1"}, "--mtu: '1' is out of range; give a number from 576 to 65535"),
        (["--linger=-1"], {}, "--linger: '-1' is out of range; give a number from 0 to 86400"),
        (["--linger=86401"], {}, "--linger"),
        (["--agent-uid=4294967295"], {}, "--agent-uid"),
        (["--agent-uid=wesher"], {}, "--agent-uid"),
        (["--listen=run/sock"], {}, "--listen: 'run/sock' is not absolute; give the whole path"),
        (["--wireguard=boringtun"], {}, "'boringtun' is none of auto, kernel, userspace"),
        (["--log-level=loud"], {}, "--log-level: 'loud' is no log level"),
        (["--log-format=xml"], {}, "--log-format"),
        (["--hosts-suffix=a_b"], {}, "--hosts-suffix: 'a_b' is no domain"),
        (["--keepalive=x"], {}, "--keepalive"),
        (["--lin=3"], {}, "unrecognized arguments: --lin=3"),
        (["--cluster-key=x"], {}, "unrecognized arguments"),
        (["--children=1,x"], {}, "--children"),
        (["extra"], {}, "unrecognized arguments: extra"),
        (["two\nlines"], {}, r"two\nlines"),
        (["--interface=a\nb"], {}, r"'a\nb' is no interface name"),
        (["--overlay-net=fd00::/8"], {"WESHER_MTU": "1279"}, "--mtu 1279 is too small for the IPv6 overlay"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(
    argv: list[str], environment: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which option, why, and what to give."""
    assert words in error(argv, environment, capsys)


def test_unknown_variables_are_one_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error must not be silent; other programs' variables are none of ours."""
    environment = {"WESHER_MTUU": "1", "WESHER_A\n": "", "WESHER": "x", "PATH": "/bin", "wesher_mtu": "1"}
    parse_arguments(NAMED, environment)
    expected = "wesher: warning: unknown in the environment, ignored: WESHER_A\\n, WESHER_MTUU\n"
    assert ("", expected) == capsys.readouterr()


def test_the_agents_variables_are_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    """One environment file may serve both programs, and hold what would be wrong here."""
    environment = {f"WESHER_{name.upper().replace('-', '_')}": "nonsense" for name in AGENTS}
    assert parse_arguments(NAMED, {}) == parse_arguments(NAMED, environment)
    assert ("", "") == capsys.readouterr()


def test_every_option_of_the_agents_is_known_to_the_helper() -> None:
    """As its own, or as one to pass over."""
    known = {*AGENTS, *(option.name for option in (*HELPER, *LOG))}
    assert {option.name for option in OPTIONS} <= known
    assert not AGENTS & {option.name for option in (*HELPER, *LOG)}
    assert [] == unknown_variables({option.variable: "" for option in OPTIONS}, known)


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    """And none of those between the launcher and us."""
    with pytest.raises(SystemExit, match="0"):
        parse_arguments(["--help"], {})
    text = capsys.readouterr().out
    assert [] == [option.name for option in (*HELPER, *LOG) if f"--{option.name}" not in text]
    assert "--agent-fd" not in text
