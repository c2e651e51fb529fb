"""The pinned options: what each takes and refuses, and a command line that says the same again."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from privhelper.arguments import parse_arguments
from privhelper.options import NODE_NAME, PINNED, Option, Pinned, parse_port, pin
from privhelper.protocol import (
    Backend,
    PinnedPolicy,
    decode_reply,
    encode_reply,
)
from tests.unit.privhelper.strategies import pinned

OPTIONS: Mapping[str, Option] = {option.name: option for option in (NODE_NAME, *PINNED)}
DEFAULTS = Pinned("node-a", ip_network("10.0.0.0/8"), "wgoverlay", 51820, 1420, 1000, 0, True, "/etc/hosts", "")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("node-name", "node-a", "node-a"),
        ("node-name", "Node.Example.org", "Node.Example.org"),
        ("node-name", "x" * 64, "x" * 64),
        ("node-name", "-_!~", "-_!~"),
        ("overlay-net", "10.0.0.0/8", ip_network("10.0.0.0/8")),
        ("overlay-net", "10.1.2.3/8", ip_network("10.0.0.0/8")),
        ("overlay-net", "192.168.1.4/30", ip_network("192.168.1.4/30")),
        ("overlay-net", "100.64.0.0/10", ip_network("100.64.0.0/10")),
        ("overlay-net", "10.0.0.0/9", ip_network("10.0.0.0/9")),
        ("overlay-net", "FD00::1/8", ip_network("fd00::/8")),
        ("overlay-net", "2001:db8::/126", ip_network("2001:db8::/126")),
        ("interface", "wgoverlay", "wgoverlay"),
        ("interface", "x" * 15, "x" * 15),
        ("interface", "wg-0_1.2@", "wg-0_1.2@"),
        ("interface", "...", "..."),
        ("wireguard-port", "1", 1),
        ("wireguard-port", "65535", 65535),
        ("wireguard-port", "051820", 51820),
        ("mtu", "576", 576),
        ("mtu", "65535", 65535),
        ("max-peers", "1", 1),
        ("max-peers", "4000", 4000),
        ("keepalive", "0", 0),
        ("keepalive", "25", 25),
        ("keepalive", "65535", 65535),
        ("hosts-suffix", "mesh", "mesh"),
        ("hosts-suffix", "mesh.example", "mesh.example"),
        ("hosts-suffix", ".Mesh.Example.", "Mesh.Example"),
        ("hosts-suffix", "x" * 63, "x" * 63),
        ("address", "10.0.0.5", ip_address("10.0.0.5")),
        ("address", "fd00::5", ip_address("fd00::5")),
        ("hosts-file", "/etc/hosts", "/etc/hosts"),
        ("hosts-file", "/run/a b/../hosts", "/run/a b/../hosts"),
    ],
)
def test_what_an_option_takes(name: str, text: str, value: Any) -> None:
    """And what it makes of it."""
    assert value == OPTIONS[name].parse(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("node-name", text) for text in ("", "x" * 65, "a b", "a\n", "a\0", "\x7f", "hôte", " ")),
        *(
            ("overlay-net", text)
            for text in (
                "", "x", "10.0.0.0", "10.0.0.1/32", "10.0.0.0/31", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8/8",
                "0.0.0.0/0", "127.0.0.0/8", "127.1.0.0/16", "224.0.0.0/4", "239.1.0.0/16", "169.254.0.0/16", "10/8",
                "::/0", "::1/128", "fd00::/127", "fd00::/128", "ff00::/8", "fe80::/10", "fd00::%eth0/64",
                "fe80::1%1/64", "10.0.0.0/8 ", "10.0.0.0/8\n",
            )
        ),
        *(
            ("interface", text)
            for text in ("", "x" * 16, "a/b", "a:b", "a b", "a%d", ".", "..", "a\n", "a\0", "\x1b", "wgö", "\u00a0")
        ),
        *(
            (number, text)
            for number in ("wireguard-port", "mtu", "max-peers")
            for text in ("", "0", "-1", "65536", "+80", "1e3", "0x50", " 80", "80\n", "8_0", "٨٠", "²", "9" * 5000)
        ),
        ("wireguard-port", "0000065535123"),
        ("wireguard-port", "00000000000000000080"),
        ("mtu", "575"),
        ("max-peers", "4001"),
        *(("keepalive", text) for text in ("", "-1", "65536", "25s", "2.5", "off")),
        *(
            ("hosts-suffix", text)
            for text in (
                "", ".", "..", "a..b", "-a", "a-.b", "a b", "a_b", "mésh", "x" * 64, "a." * 32 + "a", "a\n", "%",
            )
        ),
        *(("address", text) for text in ("", "x", "10.0.0.5/8", "10.0.0", "010.0.0.1", "fd00::1%eth0", "10.0.0.5 ")),
        *(("hosts-file", text) for text in ("", "hosts", "./hosts", "../etc/hosts", "~/hosts")),
    ],
)  # fmt: skip
def test_what_an_option_refuses(name: str, text: str) -> None:
    """With a sentence that quotes it and says what to give."""
    with pytest.raises(ValueError, match=r"; give .*\w") as raised:
        OPTIONS[name].parse(text)
    assert raised.value.__cause__ is None


@given(st.text(st.sampled_from("0123456789"), max_size=20) | st.text(max_size=8))
def test_a_port_is_in_its_range_or_refused(text: str) -> None:
    """Whatever is given."""
    try:
        port = parse_port(text)
    except ValueError:
        return
    assert 1 <= port == int(text) <= 65535


def test_the_defaults_are_the_originals() -> None:
    """10.0.0.0/8, wgoverlay, 51820, the hosts file on."""
    assert DEFAULTS == parse_arguments(["--node-name=node-a", "--agent-fd=3"], {}).pinned


def test_without_a_node_name_the_host_name_is_taken() -> None:
    """As the original does."""
    assert socket.gethostname() == parse_arguments(["--agent-fd=3"], {}).pinned.node_name


def test_a_host_name_that_cannot_name_a_node_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and exit 2."""
    monkeypatch.setattr(socket, "gethostname", lambda: "hôte")
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(["--agent-fd=3"], {})
    assert "cannot name a node" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "argv",
    [
        ["--overlay-net=10.0.0.0/33"],
        ["--interface=a/b"],
        ["--wireguard-port=0"],
        ["--mtu=1"],
        ["--max-peers=4001"],
        ["--hosts-file=hosts"],
        ["--overlay-net=fd00::/8", "--mtu=1279"],
        ["--node-nam=x"],
        ["--join=192.0.2.1"],
        ["--no-etc-hosts=yes"],
        ["extra"],
        ["--agent-fd=three"],
    ],
)
def test_a_wrong_command_line_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Also an abbreviation, and an option of the agent's."""
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(["--node-name=node-a", "--agent-fd=3", *argv], {})
    assert "error:" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("net", "mtu", "good"), [("fd00::/8", 1280, True), ("fd00::/8", 1279, False), ("10.0.0.0/8", 576, True)]
)
def test_ipv6_needs_an_mtu_it_can_live_with(net: str, mtu: int, good: bool) -> None:
    """Below 1280 Linux takes IPv6 off the link."""
    values = {
        "overlay-net": ip_network(net),
        "interface": "wg0",
        "wireguard-port": 1,
        "mtu": mtu,
        "max-peers": 1,
        "keepalive": 0,
        "no-etc-hosts": False,
        "hosts-file": "/h",
        "hosts-suffix": None,
        "static-addresses": False,
        "address": None,
    }
    if good:
        assert mtu == pin("node-a", values).mtu
    else:
        with pytest.raises(ValueError, match="at least 1280"):
            pin("node-a", values)


@pytest.mark.parametrize(
    ("net", "address", "error"),
    [
        ("10.0.0.0/24", "10.0.0.1", None),
        ("10.0.0.0/24", "10.0.0.254", None),
        ("fd00::/64", "fd00::1", None),
        ("10.0.0.0/24", "10.0.0.0", "--address 10.0.0.0 is the first or last of 10.0.0.0/24, which much software"),
        ("10.0.0.0/24", "10.0.0.255", "is the first or last of 10.0.0.0/24"),
        ("fd00::/64", "fd00::", "is the first or last of fd00::/64"),
        ("fd00::/64", "fd00::ffff:ffff:ffff:ffff", "is the first or last of fd00::/64"),
        ("10.0.0.0/24", "10.0.1.0", "--address 10.0.1.0 lies outside the overlay net 10.0.0.0/24; give one inside it"),
        ("10.0.0.0/24", "::10.0.0.1", "lies outside the overlay net"),
        ("fd00::/64", "10.0.0.1", "lies outside the overlay net"),
    ],
)
def test_a_given_address_is_inside_the_net(
    net: str, address: str, error: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """And neither its first nor its last."""
    argv = ["--node-name=a", "--agent-fd=3", "--static-addresses", f"--overlay-net={net}", f"--address={address}"]
    if error is None:
        assert ip_address(address) == parse_arguments(argv, {}).pinned.address
        return
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(argv, {})
    assert error in capsys.readouterr().err.splitlines()[-1]


def test_a_given_address_needs_static_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    """Or every other node would refuse it; they alone are good, for a node whose own follows from its name."""
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(["--agent-fd=3", "--address=10.0.0.5"], {})
    assert "give every node --static-addresses, or no --address" in capsys.readouterr().err.splitlines()[-1]
    found = parse_arguments(["--agent-fd=3", "--static-addresses"], {}).pinned
    assert (found.static_addresses, found.address) == (True, None)


@given(pinned, st.integers(0, 100), st.none() | st.integers(0, 100))
@example(replace(DEFAULTS, node_name="-x", interface="--help"), 3, 4)
@example(replace(DEFAULTS, node_name="=", interface="-", hosts_file="/-- ="), 3, None)
def test_a_command_line_says_the_same_again(value: Pinned, agent_fd: int, hosts_fd: int | None) -> None:
    """The launcher starts the helper with it."""
    argv = [*value.to_argv(), "--log-level", "debug", "--agent-fd", str(agent_fd)]
    arguments = parse_arguments(argv if hosts_fd is None else [*argv, "--hosts-fd", str(hosts_fd)], {})
    assert value == arguments.pinned
    assert (agent_fd, hosts_fd, "debug") == (arguments.agent_fd, arguments.hosts_fd, arguments.log_level)


@given(pinned)
def test_whatever_is_pinned_can_be_told_in_hello(value: Pinned) -> None:
    """No option takes what the protocol cannot carry."""
    policy = PinnedPolicy(
        node_name=value.node_name,
        interface=value.interface,
        overlay_net=value.overlay_net,
        wireguard_port=value.wireguard_port,
        mtu=value.mtu,
        max_peers=value.max_peers,
        keepalive=value.keepalive,
        etc_hosts=value.etc_hosts,
        backend=Backend.KERNEL,
        public_key=bytes(32),
        in_force=2 * value.max_peers,
        hosts_suffix=value.hosts_suffix,
        static_addresses=value.static_addresses,
        address_is_pinned=value.address is not None,
    )
    assert (1, policy) == decode_reply(encode_reply(1, policy))


def test_every_option_has_its_variable() -> None:
    """The original's names."""
    variables = {option.variable for option in PINNED}
    assert {"WESHER_OVERLAY_NET", "WESHER_INTERFACE", "WESHER_WIREGUARD_PORT", "WESHER_NO_ETC_HOSTS"} <= variables
    assert len(PINNED) == len(variables)
