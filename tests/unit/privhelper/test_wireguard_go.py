"""What a wireguard-go expects of the TUN it is given, as far as its program tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from privhelper import wireguard_go

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
