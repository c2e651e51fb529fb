"""Answers of the daemon's, as runtime/report.py shapes them (tests/unit/runtime/test_report.py compares)."""

from __future__ import annotations

from typing import Any


def peer(**changes: object) -> dict[str, Any]:
    """A peer in an answer to /status: alive for a minute, with a handshake."""
    values = {
        "name": "node-b",
        "state": "alive",
        "retained": False,
        "since_s": 60.0,
        "gossip_addr": "192.0.2.2:7946",
        "overlay_addr": "10.1.2.3",
        "public_key": "AAAA",
        "endpoint": "192.0.2.2",
        "last_handshake_s": 42,
        "rx_bytes": 0,
        "tx_bytes": 2048,
        "rtt_ms": 1.25,
        "missed_pings": 0,
        "failed_dials": 0,
        "meta_format": "0.3",
    }
    return values | changes


def refusal(name: str = "node-c", peer_reason: str = "", hosts_reason: str = "") -> dict[str, str]:
    """A refused member."""
    return {"name": name, "peer_reason": peer_reason, "hosts_reason": hosts_reason}


def status(
    *peers: dict[str, Any],
    refused: tuple[dict[str, str], ...] = (),
    problems: tuple[str, ...] = (),
    name: str = "node-a",
    health_score: int = 0,
    keepalive: int = 0,
) -> dict[str, Any]:
    """A whole answer to /status."""
    node = {
        "name": name,
        "overlay_addr": "10.9.9.9",
        "public_key": "AAAA",
        "gossip_addr": "192.0.2.1:7946",
        "interface": "wgoverlay",
        "wireguard_port": 51820,
        "backend": "kernel",
        "keepalive_s": keepalive,
        "uptime_s": 3 * 86400.0,
    }
    cluster = {"size": 2, "alive": 1, "suspect": 1, "failed": 3, "left": 4, "health_score": health_score}
    return {
        "version": "0",
        "node": node,
        "cluster": cluster,
        "problems": list(problems),
        "refused": list(refused),
        "peers": list(peers),
    }


def member(**changes: object) -> dict[str, Any]:
    """A member in an answer to /members."""
    values = {
        "name": "node-b",
        "state": "alive",
        "retained": False,
        "since_s": 60.0,
        "gossip_addr": "192.0.2.2:7946",
        "overlay_addr": "10.1.2.3",
        "public_key": "AAAABBBBCCCC",
        "meta_format": "0.3",
        "incarnation": 7,
        "last_seen_s": 0.0,
        "in_gossip": True,
    }
    return values | changes
