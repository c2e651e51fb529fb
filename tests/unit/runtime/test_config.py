"""The options' parsers as tables, and the configuration's way to the agent."""

from __future__ import annotations

import base64
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wesher.config import (
    OPTIONS,
    AgentConfig,
    Contact,
    parse_advertise_addr,
    parse_bind_addr,
    parse_cluster_key,
    parse_directory,
    parse_join,
    parse_profile,
    parse_seconds,
)

KEY = bytes(range(32))
TEXT = base64.b64encode(KEY).decode()


@pytest.mark.parametrize("text", [TEXT, f" {TEXT}\n", f"{TEXT}\r\n"])
def test_a_cluster_key_is_32_bytes_in_base64(text):
    """A file's last newline does not matter."""
    assert parse_cluster_key(text) == KEY


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "unsupported cluster key length; expected 32, got 0"),
        (base64.b64encode(KEY[:16]).decode(), "unsupported cluster key length; expected 32, got 16"),
        (base64.b64encode(KEY + b"x").decode(), "unsupported cluster key length; expected 32, got 33"),
        ("secret!", "the cluster key is no base64; give 32 bytes encoded as base64"),
        (TEXT[:-1], "the cluster key is no base64; give 32 bytes encoded as base64"),
        (TEXT.replace("A", "_", 1), "the cluster key is no base64; give 32 bytes encoded as base64"),
        ("schlüssel", "the cluster key is no base64; give 32 bytes encoded as base64"),
        ("\udcff", "the cluster key is no base64; give 32 bytes encoded as base64"),
    ],
)
def test_any_other_key_is_refused_without_being_quoted(text, error):
    """The length's message is the original's, which scripts may look for."""
    with pytest.raises(ValueError, match="^" + error.replace(".", r"\.") + "$"):
        parse_cluster_key(text)


@pytest.mark.parametrize(
    ("text", "contacts"),
    [
        ("", []),
        (",, ,", []),
        ("node-a", [("node-a", 0)]),
        ("node-a,node-b", [("node-a", 0), ("node-b", 0)]),
        (" node-a , node-b ,", [("node-a", 0), ("node-b", 0)]),
        ("node-a:7947", [("node-a", 7947)]),
        ("192.0.2.1", [("192.0.2.1", 0)]),
        ("192.0.2.1:1", [("192.0.2.1", 1)]),
        ("fd00::2", [("fd00::2", 0)]),
        ("::1", [("::1", 0)]),
        ("[fd00::1]", [("fd00::1", 0)]),
        ("[fd00::1]:65535", [("fd00::1", 65535)]),
        ("a,192.0.2.1:7946,[fd00::1]:7946", [("a", 0), ("192.0.2.1", 7946), ("fd00::1", 7946)]),
    ],
)
def test_contacts_are_names_or_addresses_with_a_port_or_without(text, contacts):
    """Port 0 stands for our own cluster port."""
    assert parse_join(text) == tuple(Contact(*contact) for contact in contacts)


@pytest.mark.parametrize(
    "text",
    ["a:", "a:x", "a:0", "a:65536", "a:-1", "[fd00::1", "[fd00::1]7946", "[fd00::1]:", "[]:7946", ":7946", "b,a:x"],
)
def test_a_contact_that_makes_no_sense_is_refused(text):
    """At start, not by retrying for ever."""
    with pytest.raises(ValueError, match="give "):
        parse_join(text)


@pytest.mark.parametrize("text", ["192.0.2.1", "0.0.0.0", "::", "fd00::1", "fe80::1%eth0"])
def test_a_bind_address_is_an_ip_address(text):
    """Wildcards too."""
    assert str(parse_bind_addr(text)) == text


@pytest.mark.parametrize("text", ["", "eth0", "192.0.2.256", "192.0.2.1:7946", "[::1]", " ::1"])
def test_any_other_bind_address_is_refused(text):
    """Interfaces have an option of their own."""
    with pytest.raises(ValueError, match="is no IP address; give one of this host's"):
        parse_bind_addr(text)


@pytest.mark.parametrize("text", ["192.0.2.1", "fd00::1", "10.1.2.3"])
def test_an_advertised_address_is_one_that_others_can_reach(text):
    """Private ones too: the mesh may be."""
    assert str(parse_advertise_addr(text)) == text


@pytest.mark.parametrize("text", ["", "node-a", "0.0.0.0", "::", "127.0.0.1", "224.0.0.1", "fe80::1%eth0"])
def test_any_other_advertised_address_is_refused(text):
    """Nobody would ever reach this node."""
    with pytest.raises(ValueError, match="address"):
        parse_advertise_addr(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("300", 300), ("300s", 300), ("5m", 300), ("72h", 259200), ("1d", 86400)]
)
def test_a_time_is_seconds_or_has_a_unit(text, seconds):
    """As systemd and Go write it, one unit at a time."""
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1.5", "1w", "5m30s", "1e3", "inf", "9999999999"])
def test_any_other_time_is_refused(text):
    """With the choice of units."""
    with pytest.raises(ValueError, match="is no time; give seconds, or a number and one of s, m, h, d"):
        parse_seconds(text)


def test_a_profile_is_one_of_three():
    """The choice is named."""
    assert [parse_profile(name) for name in ("mesh", "lan", "wan")] == ["mesh", "lan", "wan"]
    with pytest.raises(ValueError, match="'local' is no profile; give one of mesh, lan, wan"):
        parse_profile("local")


@pytest.mark.parametrize(("text", "path"), [("/var/lib/wesher", "/var/lib/wesher"), ("/a/", "/a"), ("/", "/")])
def test_a_directory_is_absolute(text, path):
    """A trailing slash is taken off."""
    assert parse_directory(text) == path


@pytest.mark.parametrize("text", ["", "state", "./state", "~/state"])
def test_a_relative_directory_is_refused(text):
    """The daemon's working directory is /, whatever the shell's was."""
    with pytest.raises(ValueError, match="is not absolute; give the whole path"):
        parse_directory(text)


def config(**changes: object) -> AgentConfig:
    """Some configuration."""
    values = {
        "cluster_key": KEY,
        "join": (Contact("node-b", 0), Contact("fd00::1", 7946)),
        "init": False,
        "bind_addr": "0.0.0.0",
        "announced": bytes(10) + b"\xff\xff\xc0\x00\x02\x01",
        "follow": True,
        "bind_iface": "",
        "cluster_port": 7946,
        "profile": "mesh",
        "meta_format": "auto",
        "retain_failed": 300.0,
        "forget_after": 259200.0,
        "interface": "wgoverlay",
        "state_file": "/var/lib/wesher/wgoverlay.json",
        "runtime_dir": "/run/wesher",
        "log_level": "warn",
        "log_format": "text",
        "sandbox": "strict",
        "show_key": False,
        "split": False,
        "expected": (("interface", "wgoverlay"),),
    }
    return AgentConfig(**(values | changes))


@given(
    st.none() | st.binary(min_size=32, max_size=32),
    st.lists(st.builds(Contact, st.text(), st.integers(0, 65535))).map(tuple),
    st.binary(min_size=4, max_size=16),
    st.text(),
)
def test_a_configuration_survives_the_way_to_the_agent(key, join, announced, path):
    """Through JSON, to the same types."""
    sent = config(cluster_key=key, join=join, announced=announced, state_file=path)
    received = AgentConfig.from_json(sent.to_json())
    assert received == sent
    assert all(isinstance(contact, Contact) for contact in received.join)
    assert {field.name for field in fields(received)} == set(AgentConfig.__slots__)


def test_a_configurations_repr_hides_the_key():
    """It ends up in logs and tracebacks."""
    shown = repr(config())
    assert "node-b" in shown
    for form in (repr(KEY), KEY.hex(), TEXT, "cluster_key"):
        assert form not in shown


def test_every_option_is_there_once():
    """And each variable belongs to one option."""
    names = [option.name for option in OPTIONS]
    assert len(set(names)) == len(names)
    assert len({option.variable for option in OPTIONS}) == len(OPTIONS)


def test_every_default_passes_its_own_parser():
    """A default that its option would refuse could not be written down by an operator."""
    for option in OPTIONS:
        if option.default:
            option.parse(option.default)
