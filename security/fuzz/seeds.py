"""The first inputs of each target: everything that Go produced for the golden tests, and one of each form of ours.

Written again they are the same files, named by what is in them. Fuzzing adds to them what reaches new code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path
from random import Random
from typing import Any

from privhelper import protocol
from security.fuzz.targets import TARGETS, hosts, packet, state_file, stream
from wesher.mesh import node_meta
from wesher.mesh.node_meta import Claim, MetaForm, NodeMeta
from wesher.mesh.saved_state import OwnClaim, SavedNode, SavedState, render
from wesher.wire import lzw
from wesher.wire.codec import encode
from wesher.wire.compression import decompress_message
from wesher.wire.keyring import Keyring
from wesher.wire.limits import MAX_WORDS
from wesher.wire.messages import MessageType, PushPull
from wesher.wire.words import AskHandshakes, Forget, Handshake, Handshakes, encode_words

CORPUS = Path(__file__).parent / "corpus"
GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
_CAPTURED = Keyring([base64.b64decode("ILICZ3yBMCGAWNIq5Pn0bewBVimW3Q2yRVJ/Be+b1Uc=")])
_EACH_CAPTURE = 12


def main() -> None:
    """`[targets]`: write theirs, or all."""
    for target, seeds in (
        ("packet", _packets()),
        ("stream", _streams()),
        ("codec", _messages()),
        ("words", _words()),
        ("lzw", _code_streams()),
        ("gob", _values()),
        ("node_meta", _metadata()),
        ("state_file", _state_files()),
        ("node", _lives()),
        ("helper", _helper_messages()),
        ("session", _sessions()),
        ("hosts", _hosts_files()),
        ("uapi", _answers()),
    ):
        if target not in (sys.argv[1:] or TARGETS):
            continue
        directory = CORPUS / target
        directory.mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            (directory / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)


def _golden(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


def _captured(transport: str) -> Iterator[bytes]:
    """Plaintexts as they were under the seal, and most of them uncompressed, which is easier to change."""
    for number, plain in enumerate(_sealed(transport)):
        inside = plain[5:] if plain[:1] == bytes([MessageType.HAS_CRC]) else plain
        compressed = number % 4 and inside[:1] == bytes([MessageType.COMPRESS])
        yield decompress_message(inside[1:], 1 << 16) if compressed else inside if number % 4 else plain


def _sealed(transport: str) -> Iterator[bytes]:
    for name in ("master", "v026", "bindaddr"):
        lines = (GOLDEN / "captures" / f"{name}.jsonl").read_text().splitlines()
        found = [json.loads(line)["line"].split(" ") for line in lines]
        for data in [bytes.fromhex(text) for kind, text in found if kind == transport][:_EACH_CAPTURE]:
            if transport == "udp":
                yield _CAPTURED.open(data, b"")
            else:
                size = int.from_bytes(data[1:5], "big")
                yield _CAPTURED.open(data[5 : 5 + size], data[:5])


def _packets() -> Iterator[bytes]:
    yield from (b"\0" + plain for plain in _captured("udp"))
    for number, plain in enumerate(_captured("udp")):
        yield bytes([number % 16]) + plain
    yield bytes([packet.RAW]) + packet.RING.seal(b"\x0b\x80", b"", bytes(12))[:-1]


def _streams() -> Iterator[bytes]:
    for number, plain in enumerate(_captured("tcp")):
        yield bytes([0, number]) + plain
        yield bytes([stream.COMPRESS | stream.PRINT, number]) + plain
    yield bytes([stream.RAW, 17]) + b"\x0a\0\0\0\x1d" + bytes(29)


def _messages() -> Iterator[bytes]:
    vectors = _golden("vectors.json")
    for entry in vectors["messages"]:
        yield bytes.fromhex(entry["hex"])
    for number, entry in enumerate(vectors["decode_acceptance"]):
        yield bytes([number % 6]) + bytes.fromhex(entry["hex"])


def _words() -> Iterator[bytes]:
    yield encode_words([Forget("node-b", 200_000_000)])
    yield encode_words([Forget("\udc80", 0), Forget("n" * 255, 0xFFFF_FFFF)])
    yield encode_words(Forget(f"n{number}", number) for number in range(MAX_WORDS))
    yield encode_words([AskHandshakes()])
    yield encode_words([Handshakes((Handshake("node-b", 42), Handshake("\udc80", None))), Handshakes(())])


def _code_streams() -> Iterator[bytes]:
    for entry in _golden("vectors.json")["lzw"]:
        if "output_hex" in entry:
            yield b"\xff\xff" + bytes.fromhex(entry["output_hex"])
    for size in (3838, 5000):  # fills the table, and goes on
        yield b"\xff\xff" + lzw.compress(Random(0).randbytes(size))


def _values() -> Iterator[bytes]:
    yield from map(bytes.fromhex, _golden("mesh/gob_vectors.json").values())
    yield from (bytes.fromhex(fact["hex"]) for fact in _golden("mesh/gob_go_verdicts.json")["facts"])


def _metadata() -> Iterator[bytes]:
    yield from _values()
    for form in MetaForm:
        for address in (IPv4Address("10.1.2.3"), IPv6Address("fd00::1")):
            for claim in (None, Claim(3, 200_000_000)):
                yield node_meta.encode(NodeMeta(address, bytes(range(32)), form, claim))


def _state_files() -> Iterator[bytes]:
    for name in ("0.2.6", "master"):
        yield (GOLDEN / "mesh" / f"state_go_{name}.json").read_bytes()
    nodes = (SavedNode("node-b", "192.0.2.1", b"meta"), SavedNode("\udc80", "2001:db8::1", None))
    whole = render(SavedState(bytes(range(32)), nodes, OwnClaim("node-a", 1, 255, 2), MetaForm.V03))
    yield whole
    yield whole[: len(whole) // 2]
    yield b'{"ClusterKey": "' + state_file.SECRET + b'"}'


def _lives() -> Iterator[bytes]:
    """A tape that hears news, waits, and is exchanged with; see targets/node.py for its choices."""

    def text(data: bytes) -> bytes:
        return len(data).to_bytes(2, "big") + data

    news = list(_captured("udp"))
    exchanges = list(_captured("tcp"))
    for seed in range(8):
        tape = bytes([seed])
        for number in range(seed, seed + 4):
            tape += b"\1" + text(news[number * 5 % len(news)]) + bytes([number])
            tape += b"\6" + bytes([number * 9])
        tape += b"\x07\1" + b"\x09\1" + text(exchanges[seed % len(exchanges)])
        tape += b"\x0d\3\1" + b"\x0c\2" + b"\x09\2" + text(exchanges[-seed]) + b"\6\xff" * 4
        yield tape + b"\x0d\0" + text(b"other") + b"\x0d\1" + b"\6\x80" * 3
    alive, suspect, dead = b"\3\0\1\5\1\1\1", b"\3\2\1\5\2\1", b"\3\3\1\5\1\1"
    asked = [b"\6\x20" + b"\3" + bytes([kind, 1, 1, number, 1]) for number in range(6) for kind in (6, 7)]
    yield b"\0" + alive + b"".join(asked) + suspect + suspect + b"\6\xff" * 5
    yield b"\1" + alive + dead + b"\3\0\1\6\1\2\2" + b"\6\x40" * 20
    asking = text(encode(PushPull(False, (), encode_words([AskHandshakes()]))))
    telling = text(encode(PushPull(False, (), encode_words([Handshakes((Handshake("b", 7),))]))))
    yield b"\0" + alive + b"\x07\1\x09\1" + asking + b"\x0d\4\0\1\7" + b"\x07\3\x09\3" + asking + b"\6\xff"
    yield b"\0" + alive + b"\x0d\4\1\1" + b"\x0c\2" + b"\x09\2" + telling + b"\x0d\4\1\1" + b"\6\xff" * 3
    yield b"\2" + alive + b"\3\5\1\0\2\1\1" + b"\3\6\1\0\1\1" + b"\6\xff" * 3


def _helper_messages() -> Iterator[bytes]:
    address = IPv4Address("10.1.2.3")
    peer = protocol.Peer(bytes(range(32)), IPv6Address("2001:db8::1"), address, "node-b")
    status = protocol.PeerStatus(bytes(32), None, 0, 1, 2)
    policy = protocol.PinnedPolicy(
        node_name="node-a",
        interface="wgoverlay",
        overlay_net=IPv4Network("10.0.0.0/8"),
        wireguard_port=51820,
        mtu=1420,
        max_peers=1000,
        keepalive=0,
        etc_hosts=True,
        backend=protocol.Backend.KERNEL,
        public_key=bytes(32),
        in_force=1,
        hosts_suffix="mesh",
        static_addresses=True,
        address_is_pinned=True,
    )
    for request in (
        protocol.Hello("1"),
        protocol.InForce(0),
        protocol.SetAddr(3),
        protocol.SetPeers((peer,), more=True),
        protocol.SetPeers((peer, peer)),
        protocol.WriteHosts(),
        protocol.Status(1),
        protocol.Bye(),
    ):
        yield protocol.encode_request(1, request)
    for reply in (
        policy,
        protocol.PeersInForce((peer,), more=True),
        protocol.OwnAddress(address),
        protocol.Staged(),
        protocol.Verdicts(((0, 1), (2, 3))),
        protocol.HostsWritten(protocol.HostsResult.WRITTEN),
        protocol.StatusPart((status,), more=False),
        protocol.Farewell(),
        protocol.Failed(protocol.Op.SET_PEERS, 1),
    ):
        yield protocol.encode_reply(2, reply)
    yield protocol.encode_event(protocol.Event.TERMINATE)


def _sessions() -> Iterator[bytes]:
    """An agent that does as it should, and what can befall it; see targets/session.py for its choices."""

    def wanted(choice: int, *peers: tuple[int, int, int, int]) -> bytes:
        return bytes([choice, len(peers)]) + b"".join(map(bytes, peers))

    peers = [(number, number, number % 3, 0) for number in range(4)]
    greeted, write, repair, eof, bye = b"\2\3\0", b"\x08\0\0\0", b"\x0e", b"\x0a", b"\x0f"
    for flags in range(4):
        yield bytes([flags]) + greeted + wanted(4, *peers[:3]) + write + b"\x08\0\0\1\x08\0\0\2" + bye + eof + greeted
    whole = b"\0" + greeted + wanted(4, *peers[:3]) + write
    for network in range(7):
        yield whole + bytes([12, network, 0]) + repair + wanted(5, *peers) + write + b"\x0c\0\0" + repair
    for change in range(6):
        yield whole + bytes([13, change]) + repair + eof + greeted + wanted(4, *peers[1:]) + write
    for steps in range(8):
        yield whole + bytes([11, steps]) + wanted(6, *peers[1:]) + repair + b"\x0b\xff" + repair + wanted(4, *peers[:2])
    yield whole + wanted(7, peers[3]) + wanted(7, peers[2]) + wanted(4, *peers[:2]) + wanted(7, *peers, *peers[:3])
    yield whole + wanted(7, peers[3]) + eof + greeted + b"\3\1" + repair
    for key in range(8, 12):
        yield whole + wanted(4, (0, key, 0, 0), (1, 1, key, 1))
    for place in range(0, 20, 3):
        yield whole + wanted(4, *((number, number, place, place) for number in range(6)))
    for name in range(4, 16):
        yield b"\1" + greeted + wanted(4, (name, 1, 0, 0), (0, 2, 0, 1)) + write
    for at in (3, 5, 9, 42, 43, 60, 77, 141):
        yield whole + wanted(9, *peers[:2]) + bytes([0, at, 1])
    yield b"\0\0\0\x0a\1\1\0\0\0\1\0\0\0\1" + b"\1\0\2\0\0\7\0\0"


def _hosts_files() -> Iterator[bytes]:
    ours, other, old = (
        hosts.OURS[0],
        hosts.OURS[1].replace(b"wgoverlay", b"wgother"),
        b"10.9.9.9 a # ! MANAGED AUTOMATICALLY !",
    )
    operator = b"127.0.0.1\tlocalhost\n# a comment\n192.0.2.1 Git git.corp # why\n"
    for alone in (b"\0", b"\1"):
        yield alone
        yield alone + operator
        yield alone + operator[:-1]
        yield alone + operator + ours + other + old + b"\n"
        yield alone + ours + operator + old + b"\n" + operator[:-1]
        yield alone + operator.replace(b"\n", b"\r\n") + other[:-1] + b" \r\n" + old
        yield alone + other[:-1] + b" x\n" + ours[:-1] + b"\x0b\n\n\n" + b"\0" + operator


def _answers() -> Iterator[bytes]:
    """Tapes of answers to `get` and `set`, in pieces; see targets/uapi.py."""

    def pieces(text: bytes) -> bytes:
        cut = [text[at : at + 400] for at in range(0, len(text), 400)]
        return b"".join(bytes([-(-len(part) // 4)]) + part + b" " * (-len(part) % 4) for part in cut)

    def answer(text: bytes) -> bytes:
        padded = text + b"x=" + b"0" * ((-len(text) - 13) % 4)  # so that it ends where a piece does
        return pieces(padded + b"\nerrno=0\n\n")

    peer = (
        b"public_key="
        + b"ab" * 32
        + b"\nendpoint=%s\nlast_handshake_time_sec=%s\nrx_bytes=1\ntx_bytes=2\nallowed_ip=%s\n"
    )
    own = b"private_key=" + b"5e" * 32 + b"\nlisten_port=51820\n"
    one = own + peer % (b"192.0.2.1:51820", b"3", b"10.1.2.3/32")
    two = one + peer.replace(b"ab", b"cd") % (b"[fe80::1%eth0]:1", b"18446744073709551616", b"fd00::1/64")
    for text in (
        b"",
        own,
        one,
        two,
        own.replace(b"5e" * 32, b"KEY"),
        one.replace(b"ab" * 32, b"KEY"),
        b"listen_port=-1\n",
    ):
        for choice in (b"\0", b"\1"):
            yield choice + answer(text)
    yield b"\2" + pieces(b"errno=-22\n\n  ") + b"\3"
    yield b"\2" + answer(b"") + b"\3" + answer(b"") + b"\4" + answer(b"") + b"\5" + answer(b"") + b"\0" + answer(one)
    yield b"\0" + pieces(one) + b"\0\1" + answer(one) + answer(one) + b"\6" + answer(b"")
    yield b"\0" + pieces(b"errno=4096\n\n") + b"\1" + pieces(b"errno=KEY\n\n ")


if __name__ == "__main__":
    main()
