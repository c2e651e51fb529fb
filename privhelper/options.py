"""The pinned options, declared once: what only the administrator decides, at start, for both halves.

The launcher, the helper and the agent's command line all read this table. A parser raises ValueError with a
sentence that says what is wrong and what to give instead; the name of the option is put before it by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

from privhelper.addressing import Address, Network, derive, is_edge
from privhelper.log_levels import FORMS, parse_form, parse_level
from privhelper.protocol import MAX_INTERFACE, MAX_NAME, MAX_PEERS_LIMIT

MIN_MTU_IPV6: Final = 1280
"""RFC 8200's minimum link MTU: below it Linux takes IPv6 off the link."""


@dataclass(frozen=True, slots=True)
class Option:
    """One row. `metavar` None makes it a switch; `name` without dashes is also `WESHER_<NAME>`."""

    name: str
    metavar: str | None
    default: str
    parse: Callable[[str], Any]
    text: str
    hidden: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that stands for the option."""
        return "WESHER_" + self.name.upper().replace("-", "_")


@dataclass(frozen=True, slots=True)
class Pinned:
    """The administrator's word, parsed. Nothing in it can be changed by any message."""

    node_name: str
    overlay_net: Network
    interface: str
    wireguard_port: int
    mtu: int
    max_peers: int
    keepalive: int
    etc_hosts: bool
    hosts_file: str
    hosts_suffix: str
    static_addresses: bool = False
    """Whether members may have addresses that do not follow from their names."""
    address: Address | None = None
    """This node's own, where it is given; only with `static_addresses`, inside the net and not its first or last."""

    def to_argv(self) -> list[str]:
        """The command line that parses to this again."""
        values: dict[str, object] = {
            "node-name": self.node_name,
            "overlay-net": self.overlay_net,
            "interface": self.interface,
            "wireguard-port": self.wireguard_port,
            "mtu": self.mtu,
            "max-peers": self.max_peers,
            "keepalive": self.keepalive,
            "hosts-file": self.hosts_file,
        }
        if self.hosts_suffix:
            values["hosts-suffix"] = self.hosts_suffix
        if self.address is not None:
            values["address"] = self.address
        switches = {"no-etc-hosts": not self.etc_hosts, "static-addresses": self.static_addresses}
        argv = [f"--{name}={value}" for name, value in values.items()]  # one word each: a value may begin with a dash
        return [*argv, *(f"--{name}" for name, is_on in switches.items() if is_on)]


def own_address(pinned: Pinned, attempt: int) -> Address:
    """This node's overlay address: the pinned one, else the `attempt`-th that follows from its name."""
    if pinned.address is not None:
        return pinned.address
    return derive(pinned.overlay_net, pinned.node_name.encode("ascii"), attempt)


def parse_port(text: str) -> int:
    """A UDP or TCP port number."""
    return _number(text, 1, 65535)


def parse_overlay_net(text: str) -> Network:
    """The overlay net; host bits are cleared, as the original does."""
    try:
        net = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"'{text}' is no network; give one in CIDR form such as 10.0.0.0/8") from None
    if "%" in text:
        raise ValueError(f"'{text}' names a link; give a network without % such as fd00::/8")
    if net.is_loopback or net.is_multicast or net.is_link_local or net.prefixlen == 0:
        raise ValueError(f"{net} cannot carry an overlay; give a private network such as 10.0.0.0/8 or fd00::/8")
    if net.max_prefixlen - net.prefixlen < 2:
        raise ValueError(f"{net} has no room for two nodes; give a prefix of at most /{net.max_prefixlen - 2}")
    return net


def parse_address(text: str) -> Address:
    """An overlay address; whether it is in the net is for `pin` to say."""
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f"'{text}' is no IP address; give one inside the overlay net") from None
    if "%" in text:
        raise ValueError(f"'{text}' names a link; give an address without %")
    return address


def parse_interface(text: str) -> str:
    """A name the kernel takes for a link."""
    legal = text.isascii() and text.isprintable() and not set(text) & set("/:% ") and text not in (".", "..")
    if not legal or not 1 <= len(text) <= MAX_INTERFACE:
        raise ValueError(f"'{text}' is no interface name; give 1 to {MAX_INTERFACE} characters without / : % or space")
    return text


def parse_node_name(text: str) -> str:
    """A host name as the kernel gives it."""
    if not text.isascii() or not text.isprintable() or " " in text or not 1 <= len(text) <= MAX_NAME:
        raise ValueError(f"'{text}' cannot name a node; give the host 1 to {MAX_NAME} printable ASCII characters")
    return text


def parse_path(text: str) -> str:
    """An absolute path."""
    if not text.startswith("/"):
        raise ValueError(f"'{text}' is not absolute; give the whole path")
    return text


def parse_hosts_suffix(text: str) -> str:
    """A domain, without the dot before it."""
    labels = text.removeprefix(".").removesuffix(".").split(".")
    if not all(re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)", label) for label in labels) or len(text) > MAX_NAME:
        raise ValueError(f"'{text}' is no domain; give letters, digits, dashes and dots such as mesh.example")
    return ".".join(labels)


def _one_of(text: str, choices: Sequence[str]) -> str:
    if text not in choices:
        raise ValueError(f"'{text}' is none of {', '.join(choices)}")
    return text


def _number(text: str, low: int, high: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or not low <= int(text) <= high:
        raise ValueError(f"'{text}' is out of range; give a number from {low} to {high}")
    return int(text)


NODE_NAME: Final = Option(
    "node-name", "NAME", "", parse_node_name, "this node's name in the mesh (default: the host name)"
)

PINNED: Final = (
    Option(
        "overlay-net",
        "ADDR/MASK",
        "10.0.0.0/8",
        parse_overlay_net,
        "network in which overlay addresses are allocated (CIDR); smaller networks collide sooner",
    ),
    Option(
        "static-addresses",
        None,
        "",
        lambda text: text,
        "let members have any address of the overlay net (--address), not only those that follow from their names; "
        "the same across the mesh",
    ),
    Option("address", "ADDR", "", parse_address, "this node's overlay address; needs --static-addresses"),
    Option("interface", "DEV", "wgoverlay", parse_interface, "name of the WireGuard interface to create and manage"),
    Option("wireguard-port", "PORT", "51820", parse_port, "port for WireGuard traffic (UDP); the same across the mesh"),
    Option("mtu", "BYTES", "1420", lambda text: _number(text, 576, 65535), "MTU of the interface"),
    Option(
        "max-peers",
        "N",
        "1000",
        lambda text: _number(text, 1, MAX_PEERS_LIMIT),
        f"most peers this node will have (at most {MAX_PEERS_LIMIT})",
    ),
    Option(
        "keepalive",
        "SECONDS",
        "0",
        lambda text: _number(text, 0, 65535),
        "send every peer something this often, to keep a NAT's mapping open; 0: only when there is traffic",
    ),
    Option("hosts-file", "PATH", "/etc/hosts", parse_path, "the file that gets the peers' names"),
    Option(
        "hosts-suffix",
        "DOMAIN",
        "",
        parse_hosts_suffix,
        "write peers' names only within DOMAIN: `node1` as `node1.DOMAIN`, dotted names only if they end so",
    ),
    Option("no-etc-hosts", None, "", lambda text: text, "do not write peers' names to the hosts file"),
)


DEFAULT_USERS: Final = "wesher:wesher-priv"

WIREGUARD: Final = Option(
    "wireguard",
    "KIND",
    "auto",
    lambda text: _one_of(text, ("auto", "kernel", "userspace")),
    "which WireGuard carries the mesh: the kernel's, wireguard-go (userspace), or the kernel's if it has one (auto)",
)
USERS: Final = Option(
    "user", "AGENT[:HELPER]", DEFAULT_USERS, lambda text: text, "users of the two processes, names or numbers"
)

STRICT: Final = "strict"
AVAILABLE: Final = "available"
OFF: Final = "off"
SANDBOX: Final = Option(
    "sandbox",
    "MODE",
    STRICT,
    lambda text: _one_of(text, (STRICT, AVAILABLE, OFF)),
    "seccomp and landlock around each process: refuse to run without (strict), do without what this kernel has not "
    "(available), or use none (off)",
)

LOG: Final = (
    Option("log-level", "LEVEL", "warn", parse_level, "set the verbosity (debug/info/warn/error)"),
    Option("log-format", "FORM", "text", parse_form, f"how a log line looks ({'/'.join(FORMS)})"),
)

HELPER: Final = (
    NODE_NAME,
    *PINNED,
    WIREGUARD,
    USERS,
    SANDBOX,
    Option("listen", "PATH", "", parse_path, "serve agents that connect to the socket PATH, one at a time"),
    Option(
        "agent-uid",
        "UID",
        "",
        lambda text: _number(text, 0, 0xFFFFFFFE),
        "uid that an agent must have (default: that of --user's AGENT)",
    ),
    Option(
        "linger",
        "SECONDS",
        "300",
        lambda text: _number(text, 0, 86400),
        "how long tunnels stay when the agent is gone without a goodbye",
    ),
)
"""The helper's own command line."""

AGENTS: Final = frozenset(
    (
        *("cluster-key", "cluster-key-file", "join", "init", "bind-addr", "bind-iface", "cluster-port", "ip-as-name"),
        *("advertise-addr", "profile", "meta-format", "retain-failed", "forget-after"),
        *("helper-socket", "state-dir", "runtime-dir"),
    )
)
"""Options that only the agent has: one environment file may serve both programs."""


def unknown_variables(environment: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Variables that look like options of ours and are none. `known` are option names."""
    variables = {"WESHER_" + name.upper().replace("-", "_") for name in known}
    return sorted(name for name in environment if name.startswith("WESHER_") and name not in variables)


def pin(node_name: str, values: Mapping[str, Any]) -> Pinned:
    """Pinned from parsed values by option name. Raises ValueError where two of them contradict each other."""
    net, mtu = values["overlay-net"], values["mtu"]
    if net.version == 6 and mtu < MIN_MTU_IPV6:
        raise ValueError(f"--mtu {mtu} is too small for the IPv6 overlay {net}; give at least {MIN_MTU_IPV6}")
    _check_address(values["address"], net, is_static=values["static-addresses"])
    return Pinned(
        node_name=node_name,
        overlay_net=net,
        interface=values["interface"],
        wireguard_port=values["wireguard-port"],
        mtu=mtu,
        max_peers=values["max-peers"],
        keepalive=values["keepalive"],
        etc_hosts=not values["no-etc-hosts"],
        hosts_file=values["hosts-file"],
        hosts_suffix=values["hosts-suffix"] or "",
        static_addresses=values["static-addresses"],
        address=values["address"],
    )


def _check_address(address: Address | None, net: Network, *, is_static: bool) -> None:
    if address is None:
        return
    if not is_static:
        raise ValueError(
            f"--address {address} follows from no name, so others refuse it; give every node --static-addresses, or no "
            "--address"
        )
    if address not in net:
        raise ValueError(f"--address {address} lies outside the overlay net {net}; give one inside it")
    if is_edge(net, address):
        raise ValueError(
            f"--address {address} is the first or last of {net}, which much software refuses; give another"
        )
