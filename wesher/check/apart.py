"""The part of a check that faces the network, as a process without privilege: `python -I -m wesher.check.apart`.

Who checks is often root, and what members answer is a stranger's until its tag is checked, and a member's then. So root
asks them through a process of the agent's user, which is told on its standard input whom and how, cluster keys
included, and answers on its output; both are JSON, and what comes out is believed no more than its types.

It has a session of its own: with root's terminal it could type there. A user of no cluster is told no key: others may
run as that one, and trace what does.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Final

from privhelper.sandbox import Identity, confine
from wesher.bounded_json import parse
from wesher.check.meeting import Met, meet
from wesher.check.reaching import Probe, Reached
from wesher.config import Contact
from wesher.swim.io import Endpoint

WITHIN: Final = 120.0
"""Seconds for all of them: sixteen at a time, of which each may take ten."""

_NOBODY: Final = Identity(65534, 65534)
"""Who asks where there is no user for the agent yet."""

_LARGEST: Final = 1 << 20
"""Bytes of an answer."""


def meet_as(
    agent: Identity | None, contacts: Sequence[Contact], cluster_port: int, own: Endpoint | None, probe: Probe
) -> list[Met]:
    """How it goes with each of `contacts`; asked by another process, as the agent's user, where this one is root."""
    if os.geteuid() != 0 or not contacts:
        return meet(contacts, cluster_port, own, probe)
    user = agent or _NOBODY
    told = probe if agent else replace(probe, keys=())
    request = json.dumps(_packed(contacts, cluster_port, own, told)).encode("ascii")
    try:
        return _met(contacts, cluster_port, parse(_answer(user, request)))
    except (OSError, ValueError, TypeError) as error:
        reason = f"could not be tried as uid {user.uid} ({type(error).__name__}); see the rows above"
        return [Met(contact, contact.port or cluster_port, reason) for contact in contacts]


def _answer(user: Identity, request: bytes) -> bytes:
    """What a process of that user answers. Raises OSError, ValueError where it is late, or says too much."""
    with subprocess.Popen(
        [sys.executable, "-I", "-m", "wesher.check.apart"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        env={},
        cwd="/",
        start_new_session=True,
    ) as process:
        try:
            assert process.stdin is not None  # noqa: S101 - asked for
            assert process.stdout is not None  # noqa: S101 - asked for
            process.stdin.write(request)
            process.stdin.close()
            return _all_of(process.stdout.fileno(), time.monotonic() + WITHIN)
        finally:
            process.kill()


def _all_of(fd: int, deadline: float) -> bytes:
    answer = b""
    while len(answer) <= _LARGEST:
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        piece = os.read(fd, 1 << 16)
        if not piece:
            return answer
        answer += piece
    raise ValueError("too much")


def _packed(contacts: Sequence[Contact], cluster_port: int, own: Endpoint | None, probe: Probe) -> dict[str, Any]:
    return {
        "contacts": [[contact.host, contact.port] for contact in contacts],
        "cluster_port": cluster_port,
        "own": None if own is None else [str(own.ip), own.port],
        "keys": [base64.b64encode(key).decode("ascii") for key in probe.keys],
        "bind": str(probe.bind),
        "announced": None if probe.announced is None else str(probe.announced),
        "wireguard_port": probe.wireguard_port,
        "overlay_mtu": probe.overlay_mtu,
    }


def _met(contacts: Sequence[Contact], cluster_port: int, answer: Any) -> list[Met]:
    if not isinstance(answer, list) or len(answer) != len(contacts):
        raise ValueError("not one for each")
    found = []
    for contact, (unresolved, reached) in zip(contacts, answer, strict=True):
        ways = tuple(_reached(*way) for way in reached)
        found.append(Met(contact, contact.port or cluster_port, _typed(unresolved, str), ways))
    return found


def _reached(ip: Any, port: Any, tcp: Any, knows_key: Any, udp: Any, back: Any, takes: Any, refused: Any) -> Reached:
    return Reached(
        Endpoint(ip_address(_typed(ip, str)), _typed(port, int)),
        _typed(tcp, str),
        _typed(knows_key, bool | None),
        _typed(udp, bool | None),
        _typed(back, bool | None),
        _typed(takes, int | None),
        _typed(refused, bool),
    )


def _typed(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(kind)
    return value


def main() -> None:
    """Ask as told, and tell."""
    confine()
    told = json.load(sys.stdin)
    announced, own = told["announced"], told["own"]
    probe = Probe(
        keys=tuple(map(base64.b64decode, told["keys"])),
        bind=ip_address(told["bind"]),
        announced=None if announced is None else ip_address(announced),
        port=told["cluster_port"],
        wireguard_port=told["wireguard_port"],
        overlay_mtu=told["overlay_mtu"],
    )
    contacts = [Contact(host, port) for host, port in told["contacts"]]
    here = None if own is None else Endpoint(ip_address(own[0]), own[1])
    answer = [
        [met.unresolved, [[str(way.endpoint.ip), way.endpoint.port, *_rest(way)] for way in met.reached]]
        for met in meet(contacts, told["cluster_port"], here, probe)
    ]
    json.dump(answer, sys.stdout)


def _rest(way: Reached) -> tuple[str, bool | None, bool | None, bool | None, int | None, bool]:
    return way.tcp, way.knows_key, way.udp, way.back, way.takes, way.tunnel_refused


if __name__ == "__main__":
    main()
