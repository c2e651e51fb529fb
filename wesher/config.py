"""The agent's options, declared once, and its configuration as the launcher hands it over.

A parser raises ValueError with a sentence that says what is wrong and what to give instead. Nothing is looked up here:
no name, no interface, no file.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, NamedTuple

from privhelper.options import LOG, PINNED, SANDBOX, USERS, WIREGUARD, Option, parse_interface, parse_path, parse_port
from wesher.mesh.meta_form import parse_meta_format
from wesher.swim.config import PROFILES

CLUSTER_KEY_SIZE: Final = 32
"""Bytes: AES-256. memberlist would take 16 or 24, the original does not."""


class Contact(NamedTuple):
    """Somebody to join: a host name or an address, and a port or 0 for our own cluster port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What the agent is told at start, over an inherited descriptor. `cluster_key` only if one was given."""

    cluster_key: bytes | None = field(repr=False)
    join: tuple[Contact, ...]
    init: bool
    bind_addr: str
    announced: bytes
    follow: bool
    """Whether `announced` was found on this host rather than given, and is another when this host has another."""
    bind_iface: str
    """The interface whose address that is; empty: whichever."""
    cluster_port: int
    profile: str
    meta_format: str
    retain_failed: float
    forget_after: float
    interface: str
    state_file: str
    runtime_dir: str
    log_level: str
    log_format: str
    sandbox: str
    show_key: bool
    """Whether a key that is generated may be printed: the operator's terminal is not the agent's to look at."""
    split: bool
    """Whether the helper is a service of its own, which outlives this agent."""
    expected: tuple[tuple[str, str], ...]
    """Pinned options that were given to the agent too, as text: the helper's must be the same."""

    def to_json(self) -> bytes:
        """For the inherited descriptor; `from_json` is its inverse."""
        values = asdict(self)
        values["cluster_key"] = None if self.cluster_key is None else self.cluster_key.hex()
        values["announced"] = self.announced.hex()
        return json.dumps(values).encode("ascii")

    @classmethod
    def from_json(cls, data: bytes) -> AgentConfig:
        """What `to_json` wrote."""
        values = json.loads(data)
        key = values["cluster_key"]
        values["cluster_key"] = None if key is None else bytes.fromhex(key)
        values["announced"] = bytes.fromhex(values["announced"])
        values["join"] = tuple(Contact(host, port) for host, port in values["join"])
        values["expected"] = tuple((name, value) for name, value in values["expected"])
        return cls(**values)


def parse_cluster_key(text: str) -> bytes:
    """A key in base64."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the cluster key is no base64; give 32 bytes encoded as base64") from None
    if len(key) != CLUSTER_KEY_SIZE:
        # The original's words, which scripts may look for.
        raise ValueError(f"unsupported cluster key length; expected {CLUSTER_KEY_SIZE}, got {len(key)}")
    return key


def parse_join(text: str) -> tuple[Contact, ...]:
    """Hosts or addresses, comma separated, each with a port or without: `a,192.0.2.1:7946,[fd00::1]:7946,fd00::2`."""
    return tuple(_contact(entry.strip()) for entry in text.split(",") if entry.strip())


def _contact(text: str) -> Contact:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not host or not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"'{text}' is no address to join; give [ADDRESS]:PORT")
        return Contact(host, parse_port(rest[1:]) if rest else 0)
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        if not host:
            raise ValueError(f"'{text}' names no host to join; give HOST:PORT")
        return Contact(host, parse_port(port))
    return Contact(text, 0)


def parse_bind_addr(text: str) -> IPv4Address | IPv6Address:
    """An address of this host."""
    try:
        return ip_address(text)
    except ValueError:
        raise ValueError(f"'{text}' is no IP address; give one of this host's") from None


def parse_advertise_addr(text: str) -> IPv4Address | IPv6Address:
    """An address at which the others reach this node."""
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f"'{text}' is no IP address; give the one at which others reach this node") from None
    if address.is_unspecified or address.is_multicast or address.is_loopback or "%" in text:
        raise ValueError(f"{address} is no address at which others reach this node")
    return address


def parse_profile(text: str) -> str:
    """A set of timings."""
    if text not in PROFILES:
        raise ValueError(f"'{text}' is no profile; give one of {', '.join(PROFILES)}")
    return text


def parse_seconds(text: str) -> float:
    """A time: seconds, or with s, m, h or d behind it."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    if not number.isascii() or not number.isdigit() or len(number) > 9:
        raise ValueError(f"'{text}' is no time; give seconds, or a number and one of s, m, h, d")
    return float(int(number) * unit)


def parse_directory(text: str) -> str:
    """An absolute path."""
    if not text.startswith("/"):
        raise ValueError(f"'{text}' is not absolute; give the whole path")
    return text.rstrip("/") or "/"


def parse_meta_format_text(text: str) -> str:
    """A form's name, or auto."""
    parse_meta_format(text)
    return text


def _as_it_is(text: str) -> Any:
    return text


AGENT: Final = (
    Option(
        "cluster-key",
        "KEY",
        "",
        parse_cluster_key,
        "shared key for cluster membership; must be 32 bytes base64 encoded; will be generated if not provided",
    ),
    Option("cluster-key-file", "FILE", "", _as_it_is, "read the cluster key from FILE, as base64"),
    Option(
        "join",
        "HOST,...",
        "",
        parse_join,
        "comma separated hostnames or IP addresses of existing cluster members; if not provided, will attempt "
        "resuming any known state or otherwise wait for further members",
    ),
    Option(
        "init",
        None,
        "",
        _as_it_is,
        "explicitly (re)initialize the cluster; any known state from previous runs will be forgotten",
    ),
    Option(
        "bind-addr",
        "ADDR",
        "",
        parse_bind_addr,
        "IP address to bind to for cluster membership traffic (cannot be used with --bind-iface)",
    ),
    Option(
        "bind-iface",
        "DEV",
        "",
        parse_interface,
        "interface to bind to for cluster membership traffic (cannot be used with --bind-addr)",
    ),
    Option(
        "cluster-port",
        "PORT",
        "7946",
        parse_port,
        "port for membership gossip (both TCP and UDP); must be the same across the cluster",
    ),
    Option("ip-as-name", None, "", _as_it_is, "use the bind address as this node's name", hidden=True),
    Option(
        "advertise-addr",
        "ADDR",
        "",
        parse_advertise_addr,
        "address at which the others reach this node, where it differs from the one that is bound (NAT)",
    ),
    Option(
        "profile",
        "NAME",
        "mesh",
        parse_profile,
        "timings of the gossip: mesh sees failures soonest; lan and wan are memberlist's, wan is the original's",
    ),
    Option(
        "meta-format",
        "FORM",
        "auto",
        parse_meta_format_text,
        "form of the announced metadata: 0.2 or 0.3 as the Go wesher of that version, or what this mesh's use (auto)",
    ),
    Option(
        "retain-failed",
        "TIME",
        "300",
        parse_seconds,
        "how long the tunnel of a member stays that fails without leaving; 0: not at all",
    ),
    Option(
        "forget-after",
        "TIME",
        "72h",
        parse_seconds,
        "how long a member that is not there is looked for; a node that is alone looks for ever",
    ),
    Option(
        "helper-socket",
        "PATH",
        "",
        parse_path,
        "use the helper that listens there (wesher-privhelper --listen) and need no privilege",
    ),
    *LOG,
    Option("state-dir", "DIR", "/var/lib/wesher", parse_directory, "where the state file is kept"),
    Option("runtime-dir", "DIR", "/run/wesher", parse_directory, "where the control socket is"),
    USERS,
    WIREGUARD,
    SANDBOX,
)

OPTIONS: Final = (*AGENT, *PINNED)
"""Every option of the daemon."""
