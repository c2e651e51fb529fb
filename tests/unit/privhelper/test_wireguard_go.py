"""What a wireguard-go expects of the TUN it is given, as far as its program tells; and its socket, before it has it."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from privhelper import wireguard_go
from privhelper.identity import Identity

PACKET_INFORMATION = 0x0001  # IFF_TUN alone
BARE_PACKETS = 0x0001 | 0x1000 | 0x4000  # IFF_NO_PI and IFF_VNET_HDR besides
NAMES_BEFORE = "golang.zx2c4.com/wireguard/tun.(*NativeTun).initNameCache"
NAMES_SINCE = f"{NAMES_BEFORE} golang.zx2c4.com/wireguard/tun.(*NativeTun).initFromFlags"


@pytest.mark.parametrize(
    ("says", "names", "flags"),
    [
        pytest.param("wireguard-go v0.0.20220316", NAMES_BEFORE, PACKET_INFORMATION, id="Debian 12's"),
        pytest.param("wireguard-go v0.0.20230223", NAMES_BEFORE, PACKET_INFORMATION, id="the last of the old"),
        pytest.param("wireguard-go v0.0.20230223", NAMES_SINCE, BARE_PACKETS, id="Debian 13's, which is 0.0.20231211"),
        pytest.param("wireguard-go v0.0.20250522", NAMES_SINCE, BARE_PACKETS, id="a new one"),
        pytest.param("wireguard-go v0.0.20250522", "", BARE_PACKETS, id="a new one whose functions have other names"),
        pytest.param("wireguard-go (devel)", "", BARE_PACKETS, id="one that tells no release"),
    ],
)
def test_the_tuns_flags_are_those_that_the_program_reads_packets_by(
    says: str, names: str, flags: int, tmp_path: Path
) -> None:
    """With the other flags not one packet would pass: four bytes more or fewer stand before each."""
    program = tmp_path / "wireguard-go"
    program.write_text(f"#!/bin/sh\necho '{says}'\nexit\n{names}\n")
    program.chmod(0o755)
    assert flags == wireguard_go._tun_flags(str(program))


def look_as_wg_does(directory: Path) -> None:
    """wg(8) asks each socket there, and removes who refuses it."""
    for path in directory.glob("*.sock"):
        with socket.socket(socket.AF_UNIX) as asking:
            try:
                asking.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()


def test_an_operator_who_looks_while_it_starts_does_not_take_its_socket_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`wg show` in the moment in which the socket is there and nobody listens yet, and over one that nothing serves."""
    monkeypatch.setattr(wireguard_go, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(wireguard_go, "socket_path", lambda interface: str(tmp_path / f"{interface}.sock"))
    chown = os.chown

    def chown_while_somebody_looks(path: str, uid: int, gid: int, *, follow_symlinks: bool) -> None:
        look_as_wg_does(tmp_path)
        chown(path, uid, gid, follow_symlinks=follow_symlinks)
        look_as_wg_does(tmp_path)

    monkeypatch.setattr(os, "chown", chown_while_somebody_looks)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "wg7.sock"))
    listener, connection = wireguard_go._uapi("wg7", Identity(os.getuid(), os.getgid()))
    assert [path.name for path in tmp_path.iterdir()] == ["wg7.sock"]
    assert stat.S_IMODE((tmp_path / "wg7.sock").stat().st_mode) == 0o600
    with socket.socket(fileno=listener) as listening, socket.socket(fileno=connection) as ours:
        ours.send(b"here")
        with listening.accept()[0] as accepted:
            assert accepted.recv(9) == b"here"
