"""The kernel's own rules, made by nft(8), as `wesher check` reads them: what becomes of a new packet from elsewhere."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.contract.conftest import Machine
from wesher.check.ruleset import TCP, UDP, Outcome, Packet, read_ruleset

pytestmark = pytest.mark.root

ACCEPTED, DROPPED, UNTOLD = Outcome.ACCEPTED, Outcome.DROPPED, Outcome.UNTOLD
GOSSIP = (Packet(4, TCP, 7946), Packet(4, UDP, 7946), Packet(4, UDP, 51820))

USUAL = """
        iifname "lo" accept
        ct state established,related accept
        ct state vmap { invalid : drop, established : accept }
        meta l4proto icmp accept
        tcp dport 22 accept
"""


def outcomes(rules: str, policy: str, family: str = "inet", beside: str = "", version: int = 4) -> list[Outcome]:
    """Of gossip by TCP and UDP, and of WireGuard, by one chain of what comes in, in the network of this thread."""
    chain = f"chain input {{\n type filter hook input priority 0; policy {policy};\n{rules}\n}}\n"
    text = f"flush ruleset\ntable {family} t {{\n{beside}\n{chain}}}\n"
    subprocess.run(("nft", "-f", "-"), input=text.encode(), check=True, timeout=30)
    ruleset = read_ruleset()
    return [ruleset.outcome(packet._replace(version=version))[0] for packet in GOSSIP]


@pytest.mark.parametrize(
    ("rules", "policy", "expected"),
    [
        ("", "accept", [ACCEPTED, ACCEPTED, ACCEPTED]),
        ("", "drop", [DROPPED, DROPPED, DROPPED]),
        (USUAL, "drop", [DROPPED, DROPPED, DROPPED]),
        (f"{USUAL} reject with icmp port-unreachable", "accept", [DROPPED, DROPPED, DROPPED]),
        ("tcp dport 7946 accept\nudp dport { 7946, 51820 } accept", "drop", [ACCEPTED, ACCEPTED, ACCEPTED]),
        ("meta l4proto { tcp, udp } th dport 7946 accept", "drop", [ACCEPTED, ACCEPTED, DROPPED]),
        ("meta l4proto . th dport { tcp . 7946 } accept", "drop", [UNTOLD, UNTOLD, UNTOLD]),
        ("udp dport 7900-7999 accept", "drop", [DROPPED, ACCEPTED, DROPPED]),
        ("udp dport { 1-3, 51000-52000 } accept", "drop", [DROPPED, DROPPED, ACCEPTED]),
        ("udp dport != 51820 accept", "drop", [DROPPED, ACCEPTED, DROPPED]),
        ("udp dport >= 51820 accept", "drop", [DROPPED, DROPPED, ACCEPTED]),
        ("ip protocol udp udp dport 51820 accept", "drop", [DROPPED, DROPPED, ACCEPTED]),
        ("udp dport vmap { 7946 : drop, 51820 : accept }\ntcp dport 7946 drop", "accept", [DROPPED, DROPPED, ACCEPTED]),
        ("ip saddr 192.0.2.0/24 udp dport 51820 accept", "drop", [DROPPED, DROPPED, UNTOLD]),
        ("ip saddr 192.0.2.0/24 udp dport 51820 drop", "accept", [ACCEPTED, ACCEPTED, ACCEPTED]),
        ("iifname eth0 accept", "drop", [UNTOLD, UNTOLD, UNTOLD]),
        ("iif lo accept", "drop", [DROPPED, DROPPED, DROPPED]),
        ('iifname != "lo" udp dport 51820 accept', "drop", [DROPPED, DROPPED, ACCEPTED]),
        ("limit rate 5/second accept", "drop", [UNTOLD, UNTOLD, UNTOLD]),
        ("counter log ct state new udp dport 7946 counter accept", "drop", [DROPPED, ACCEPTED, DROPPED]),
        ("meta nfproto ipv6 accept", "drop", [DROPPED, DROPPED, DROPPED]),
    ],
)
def test_what_becomes_of_a_packet_is_what_the_rules_say(
    machine: Machine, rules: str, policy: str, expected: list[Outcome]
) -> None:
    """DROPPED only where no sender could get through."""
    assert outcomes(rules, policy) == expected


def test_chains_that_are_called_decide_or_come_back(machine: Machine) -> None:
    """A return goes on behind the call, the end of a chain too; what is only perhaps called decides nothing."""
    called = "chain members {\n udp dport != 7946 return\n accept\n}\n"
    assert outcomes("meta l4proto udp jump members", "drop", beside=called) == [DROPPED, ACCEPTED, DROPPED]
    assert outcomes("udp dport 1-65535 goto members\naccept", "drop", beside=called) == [ACCEPTED, ACCEPTED, DROPPED]
    assert outcomes("ip saddr 192.0.2.1 jump members", "drop", beside=called) == [UNTOLD, UNTOLD, DROPPED]


def test_who_perhaps_returns_perhaps_meets_an_accept(machine: Machine) -> None:
    """What is dropped for all others is not dropped for whom a rule sends back."""
    called = "chain strangers {\n ip saddr 192.0.2.1 return\n drop\n}\n"
    assert outcomes("jump strangers\naccept", "drop", beside=called) == [UNTOLD] * 3
    assert outcomes("ip saddr 192.0.2.1 return\ndrop", "accept") == [UNTOLD] * 3
    assert outcomes("ip saddr 192.0.2.1 return\ndrop", "drop") == [DROPPED] * 3


def test_chains_that_call_each_other_many_times_are_given_up(machine: Machine) -> None:
    """The kernel takes them, and a look must end."""
    calls = [f"chain c{i} {{\n" + f"jump c{i + 1}\n" * 8 + "}" for i in range(6)]
    beside = "\n".join(["chain c6 {\n udp dport 1 accept\n}", *reversed(calls)])
    assert outcomes("jump c0", "drop", beside=beside) == [UNTOLD] * 3


def test_only_rules_for_the_packets_own_family_count(machine: Machine) -> None:
    """IPv4 passes what only drops IPv6."""
    assert outcomes("", "drop", "ip6") == [ACCEPTED] * 3
    assert outcomes("", "drop", "ip6", version=6) == [DROPPED] * 3
    assert outcomes("", "drop", "ip", version=6) == [ACCEPTED] * 3
    assert outcomes("meta nfproto ipv6 accept", "drop", version=6) == [ACCEPTED] * 3


def test_a_drop_is_told_with_its_chain(machine: Machine) -> None:
    """One that accepts does not make good what another drops."""
    assert outcomes("accept", "accept") == [ACCEPTED] * 3
    subprocess.run(
        ("nft", "-f", "-"),
        input=b"table ip late {\n chain in {\n type filter hook input priority 10; policy drop;\n}\n}\n",
        check=True,
        timeout=30,
    )
    outcome, chain = read_ruleset().outcome(GOSSIP[0])
    assert (outcome, str(chain)) == (DROPPED, "ip late in")


@pytest.mark.needs(shutil.which("iptables-nft") is not None, "iptables")
@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], [DROPPED, DROPPED, DROPPED]),
        (["-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-i lo -j ACCEPT"], [DROPPED, DROPPED, DROPPED]),
        (["-m conntrack ! --ctstate INVALID -p udp --dport 7946 -j ACCEPT"], [DROPPED, ACCEPTED, DROPPED]),
        (["-m state --state NEW -p tcp --dport 7000:8000 -j ACCEPT"], [ACCEPTED, DROPPED, DROPPED]),
        (["-p udp -m comment --comment tunnels --dport 51820 -j ACCEPT"], [DROPPED, DROPPED, ACCEPTED]),
        (["-p udp -m multiport --dports 7000:7100,7946,51820 -j ACCEPT"], [DROPPED, ACCEPTED, ACCEPTED]),
        (["-p udp -m multiport ! --dports 7946,22 -j ACCEPT"], [DROPPED, DROPPED, ACCEPTED]),
        (["-p udp -m multiport --sports 53,123 -j ACCEPT"], [DROPPED, UNTOLD, UNTOLD]),
        (["-p udp ! --dport 7946 -j ACCEPT"], [DROPPED, DROPPED, ACCEPTED]),
        (["-p udp --sport 53 -j ACCEPT"], [DROPPED, UNTOLD, UNTOLD]),
        (["-p tcp --syn -j ACCEPT"], [UNTOLD, DROPPED, DROPPED]),
        (["-p udp -j LOG", "-p udp -j ACCEPT"], [DROPPED, ACCEPTED, ACCEPTED]),
        (["-p udp -j REJECT", "-j ACCEPT"], [ACCEPTED, DROPPED, DROPPED]),
        (["-s 192.0.2.1 -j ACCEPT"], [UNTOLD, UNTOLD, UNTOLD]),
        (["-m mark --mark 1 -j ACCEPT"], [UNTOLD, UNTOLD, UNTOLD]),
    ],
)
def test_rules_of_iptables_are_read_as_they_are_meant(
    machine: Machine, rules: list[str], expected: list[Outcome]
) -> None:
    """Of the kind that makes rules of nftables', with structures of its own inside. The policy drops."""
    for arguments in ("-P INPUT DROP", *(f"-A INPUT {rule}" for rule in rules)):
        subprocess.run(("iptables-nft", *arguments.split()), check=True, timeout=30)
    ruleset = read_ruleset()
    assert [ruleset.outcome(packet)[0] for packet in GOSSIP] == expected
    assert [ruleset.outcome(packet._replace(version=6))[0] for packet in GOSSIP] == [ACCEPTED] * 3
