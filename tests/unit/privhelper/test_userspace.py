"""wireguard-go behind its UAPI socket: what is said to it byte for byte, and what becomes of every kind of answer.

No thread: an answer is put into the socket before it is asked for, which the protocol cannot tell apart.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
import traceback
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.public import PrivateKey

from privhelper import userspace
from privhelper.protocol import Failed, Op, Peer, PeerStatus, StatusPart, decode_reply, encode_reply
from privhelper.userspace import UserspaceDevice

KEY, KEY2 = b"\x11" * 32, b"\x22" * 32
PEER = Peer(KEY, ip_address("192.0.2.7"), ip_address("10.1.2.3"), "node-a")
PEER6 = Peer(KEY2, ip_address("2001:db8::7"), ip_address("fd00::3"), "node-b")
OK = "errno=0\n\n"
SECRET = "5ec2e7" * 10 + "5ec2"


class WireGuardGo:
    """The other end of the connection: says what it is told to, and hears."""

    def __init__(self) -> None:
        self._socket, ours = socket.socketpair()
        self._socket.settimeout(5)
        self.device = UserspaceDevice(ours)

    def says(self, answer: str | bytes) -> None:
        """Leave the next answer in the socket."""
        self._socket.sendall(answer.encode() if isinstance(answer, str) else answer)

    def heard(self) -> list[str]:
        """Lines said to it since last asked."""
        return self._socket.recv(1 << 20).decode("ascii").split("\n")

    def is_hung_up(self) -> bool:
        """Whether the helper has shut the connection; what it had said before is read first."""
        self._socket.setblocking(False)
        try:
            while self._socket.recv(1 << 20):
                pass
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """End of wireguard-go."""
        self._socket.close()


@pytest.fixture
def wg() -> Iterator[WireGuardGo]:
    """A wireguard-go and the device connected to it."""
    go = WireGuardGo()
    yield go
    go.close()
    go.device._connection.close()


def test_create_gives_a_new_key_the_port_and_no_peer(wg: WireGuardGo) -> None:
    """The public key answered belongs to the private key said."""
    wg.says(OK)
    public = wg.device.create(51820)
    first, private, *rest = wg.heard()
    assert "set=1" == first
    assert ["listen_port=51820", "replace_peers=true", "", ""] == rest
    assert public == bytes(PrivateKey(bytes.fromhex(private.removeprefix("private_key="))).public_key)


def test_each_key_is_new(wg: WireGuardGo) -> None:
    """Also on the same device."""
    wg.says(OK)
    first = wg.device.create(1)
    wg.says(OK)
    assert first != wg.device.create(1)


def test_apply_removes_before_it_adds_in_one_exchange(wg: WireGuardGo) -> None:
    """So an address moves from an old key to a new one. Allowed IPs are exactly the overlay address."""
    wg.says(OK)
    wg.device.create(51820)
    wg.heard()
    wg.says(OK)
    wg.device.apply([b"\x33" * 32], [PEER, PEER6])
    assert [
        "set=1",
        f"public_key={'33' * 32}",
        "remove=true",
        f"public_key={'11' * 32}",
        "endpoint=192.0.2.7:51820",
        "persistent_keepalive_interval=0",
        "replace_allowed_ips=true",
        "allowed_ip=10.1.2.3/32",
        f"public_key={'22' * 32}",
        "endpoint=[2001:db8::7]:51820",
        "persistent_keepalive_interval=0",
        "replace_allowed_ips=true",
        "allowed_ip=fd00::3/128",
        "",
        "",
    ] == wg.heard()


def test_no_change_is_not_said(wg: WireGuardGo) -> None:
    """Without an answer in the socket an exchange would fail."""
    wg.device.apply([], [])
    wg.says(OK)
    wg.device.destroy()
    assert ["set=1", "replace_peers=true", f"private_key={'00' * 32}", "", ""] == wg.heard()


ANSWER = f"""private_key={SECRET}
listen_port=51820
fwmark=1
public_key={"11" * 32}
preshared_key={"00" * 32}
protocol_version=1
endpoint=192.0.2.7:51820
last_handshake_time_sec=1700000000
last_handshake_time_nsec=5
tx_bytes=18446744073709551615
rx_bytes=7
persistent_keepalive_interval=0
allowed_ip=10.1.2.3/32
public_key={"22" * 32}
endpoint=[2001:db8::7]:51820
last_handshake_time_sec=0
last_handshake_time_nsec=0
tx_bytes=0
rx_bytes=0
allowed_ip=fd00::3/128
allowed_ip=fd00::4/128
public_key={"33" * 32}
endpoint=[fe80::1%eth0]:51820
public_key={"44" * 32}
errno=0

"""
READING = [
    PeerStatus(KEY, ip_address("192.0.2.7"), 1_700_000_000, 7, 2**64 - 1),
    PeerStatus(KEY2, ip_address("2001:db8::7"), 0, 0, 0),
    PeerStatus(b"\x33" * 32, ip_address("fe80::1"), 0, 0, 0),
    PeerStatus(b"\x44" * 32, None, 0, 0, 0),
]


def test_a_reading_has_every_peer(wg: WireGuardGo) -> None:
    """With an IPv6 endpoint, one on a link, none at all; with and without a handshake."""
    wg.says(ANSWER)
    assert READING == wg.device.status()
    assert ["get=1", "", ""] == wg.heard()


def test_a_reading_without_peers_is_empty(wg: WireGuardGo) -> None:
    """Only the device's own fields."""
    wg.says(f"private_key={SECRET}\nlisten_port=51820\nerrno=0\n\n")
    assert [] == wg.device.status()


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_an_answer_may_come_in_pieces(size: int) -> None:
    """Cut anywhere."""

    class Piecemeal:
        def __init__(self) -> None:
            self._rest = ANSWER.encode()

        def settimeout(self, _: float) -> None: ...
        def sendall(self, _: bytes) -> None: ...
        def recv(self, _: int) -> bytes:
            piece, self._rest = self._rest[:size], self._rest[size:]
            return piece

    assert READING == UserspaceDevice(Piecemeal()).status()  # type: ignore[arg-type]


CALLS: list[Callable[[UserspaceDevice], object]] = [
    lambda device: device.create(51820),
    lambda device: device.apply([KEY], [PEER]),
    lambda device: device.status(),
    lambda device: device.destroy(),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("code", [errno.EINVAL, errno.EPERM, errno.EADDRINUSE, 4095])
def test_an_error_answer_is_an_os_error_and_the_connection_stays(
    call: Callable[[UserspaceDevice], object], code: int, wg: WireGuardGo
) -> None:
    """wireguard-go says its errors with a minus."""
    wg.says(f"errno=-{code}\n\n")
    with pytest.raises(OSError, match=re.escape(os.strerror(code))) as raised:
        call(wg.device)
    assert code == raised.value.errno
    wg.heard()
    wg.says(ANSWER)
    assert READING == wg.device.status()


GARBAGE = {
    "no errno": f"private_key={SECRET}\n\n",
    "nothing but the end": "\n\n",
    "errno is no number": f"private_key={SECRET}\nerrno={SECRET}\n\n",
    "errno is empty": "errno=\n\n",
    "errno too large for a reply": "errno=-4096\n\n",
    "errno too large for C": f"errno={10**30}\n\n",
    "errno too long for int": "errno=" + "9" * 5000 + "\n\n",
    "not ASCII": b"private_key=\xff\xfe\nerrno=0\n\n",
    "text after errno": f"errno=0\nprivate_key={SECRET}\n\n",
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", GARBAGE)
def test_a_garbled_answer_is_an_os_error_and_hangs_up(
    call: Callable[[UserspaceDevice], object], name: str, wg: WireGuardGo
) -> None:
    """Half an exchange would answer the next one."""
    wg.says(GARBAGE[name])
    with pytest.raises(OSError, match="does not answer") as raised:
        call(wg.device)
    assert errno.EPROTO == raised.value.errno
    assert wg.is_hung_up()


@pytest.mark.parametrize("call", CALLS)
def test_the_end_of_wireguard_go_is_an_os_error(call: Callable[[UserspaceDevice], object], wg: WireGuardGo) -> None:
    """Before it has answered, and in the middle."""
    wg.says("errno=0\n")
    wg.close()
    with pytest.raises(OSError, match="does not answer"):
        call(wg.device)


def test_silence_is_an_os_error_in_bounded_time(monkeypatch: pytest.MonkeyPatch, wg: WireGuardGo) -> None:
    """wireguard-go is busy with handshakes, say; nothing is asked of it until it has answered."""
    monkeypatch.setattr(userspace, "ANSWER_WITHIN", 0.05)
    for _ in range(3):
        with pytest.raises(OSError, match="has not answered yet") as raised:
            wg.device.status()
        assert errno.ETIMEDOUT == raised.value.errno
    assert not wg.is_hung_up()


def test_a_late_answer_is_not_taken_for_the_next_one(monkeypatch: pytest.MonkeyPatch, wg: WireGuardGo) -> None:
    """Each answer belongs to its own request, in order, whenever it comes."""
    monkeypatch.setattr(userspace, "ANSWER_WITHIN", 0.05)
    with pytest.raises(OSError, match="has not answered yet"):
        wg.device.apply([bytes(32)], [])
    wg.says("errno=-22\n\n" + f"public_key={'11' * 32}\nerrno=0\n\n")
    monkeypatch.setattr(userspace, "ANSWER_WITHIN", 5.0)
    assert [peer.public_key for peer in wg.device.status()] == [b"\x11" * 32]


def test_a_late_answer_is_no_end_and_its_end_is(monkeypatch: pytest.MonkeyPatch, wg: WireGuardGo) -> None:
    """Whoever waits for something to read asks which of them it is."""
    monkeypatch.setattr(userspace, "ANSWER_WITHIN", 0.05)
    assert not wg.device.has_ended()
    with pytest.raises(OSError, match="has not answered yet"):
        wg.device.status()
    for part in ("errno=0", "\n", "\n"):
        wg.says(part)
        assert not wg.device.has_ended()
    wg.says("errno=0\n\n")
    assert wg.device.has_ended()  # nobody asked: it is no longer itself


def test_an_end_shows_as_one(wg: WireGuardGo) -> None:
    """Its connection ends with it."""
    wg.close()
    assert wg.device.has_ended()


def test_an_endless_answer_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is not the limit."""
    monkeypatch.setattr(userspace, "MAX_ANSWER", 1000)

    class Endless:
        def __init__(self) -> None:
            self.said = 0
            self.is_shut = False

        def settimeout(self, _: float) -> None: ...
        def sendall(self, _: bytes) -> None: ...
        def shutdown(self, _: int) -> None:
            self.is_shut = True

        def recv(self, _: int) -> bytes:
            self.said += 100
            assert self.said < 2000, "more was read than may be"
            return b"rx_bytes=0" * 10

    connection = Endless()
    with pytest.raises(OSError, match="does not answer"):
        UserspaceDevice(connection).status()  # type: ignore[arg-type]
    assert connection.is_shut


@pytest.mark.parametrize(
    "field",
    [
        "public_key=11",
        f"public_key={'11' * 33}",
        f"public_key={'xy' * 32}",
        "public_key=",
        f"public_key={'11' * 32}\nendpoint=nowhere:1",
        f"public_key={'11' * 32}\nendpoint=192.0.2.256:1",
        f"public_key={'11' * 32}\nrx_bytes=-1",
        f"public_key={'11' * 32}\ntx_bytes={2**64}",
        f"public_key={'11' * 32}\nlast_handshake_time_sec=-62135596800",
        f"public_key={'11' * 32}\nlast_handshake_time_sec=soon",
    ],
)
def test_a_peer_that_cannot_be_reported_is_an_os_error(field: str, wg: WireGuardGo) -> None:
    """Not an answer that cannot be put into a reply's fields, which would end the helper."""
    wg.says(f"{field}\nerrno=0\n\n")
    with pytest.raises(OSError, match="do not parse") as raised:
        wg.device.status()
    assert errno.EPROTO == raised.value.errno


uapi_lines = st.one_of(
    st.sampled_from(["public_key=" + "11" * 32, "errno=0", "errno=-22", "endpoint=[::1]:5", "rx_bytes=12", "="]),
    st.builds(
        "{}={}".format,
        st.sampled_from(["public_key", "endpoint", "rx_bytes", "tx_bytes", "last_handshake_time_sec", "errno"]),
        st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=10)
        | st.integers().map(str)
        | st.just("ff" * 32),
    ),
)


@settings(deadline=None)
@given(answer=st.lists(uapi_lines, max_size=6).map("\n".join))
def test_any_answer_is_a_reading_that_fits_a_reply_or_an_os_error(answer: str) -> None:
    """Nothing else is raised, and what is read can be told."""
    go = WireGuardGo()
    go.says(answer + "\n\n")
    try:
        reading = StatusPart(tuple(go.device.status()), False)
    except OSError as error:
        told = Failed(Op.STATUS, error.errno or 0)
        assert (1, told) == decode_reply(encode_reply(1, told))
    else:
        assert (1, reading) == decode_reply(encode_reply(1, reading))
    finally:
        go.close()
        go.device._connection.close()


@pytest.mark.parametrize("name", [*GARBAGE, "good", "refused"])
def test_the_private_key_is_in_no_exception_text_or_repr(
    name: str, wg: WireGuardGo, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in what is raised nor in any exception it came from, the device's repr, or a log."""
    caplog.set_level(logging.DEBUG)
    answers = {"good": OK, "refused": "errno=-22\n\n"} | GARBAGE
    wg.says(answers[name])
    errors: list[BaseException] = []
    try:
        wg.device.create(51820)
    except OSError as error:
        errors.append(error)
    private = wg.heard()[1].removeprefix("private_key=")
    if name in GARBAGE:
        other = WireGuardGo()
        other.says(answers[name])
        with pytest.raises(OSError, match="does not answer") as raised:
            other.device.status()
        errors.append(raised.value)
        other.close()
        other.device._connection.close()
    texts = [repr(wg.device), str(vars(wg.device)), caplog.text]
    while errors:
        error = errors.pop()
        texts += [repr(error), str(error), *traceback.format_exception(error, chain=True)]
        errors += [cause for cause in (error.__cause__, error.__context__) if cause is not None]
    assert [] == [text for text in texts if private in text or SECRET in text]


def test_the_socket_is_where_wg_looks_for_it() -> None:
    """wg(8) and wireguard-go agree on it."""
    assert "/run/wireguard/wgoverlay.sock" == userspace.socket_path("wgoverlay")


def test_connecting_to_nothing_is_an_os_error(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No such socket; and nobody behind one."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("run")
        patch.setattr(userspace, "DIRECTORY", str(directory))
        with pytest.raises(FileNotFoundError):
            userspace.connect("wg0")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(f"{directory}/wg0.sock")
        with pytest.raises(ConnectionRefusedError):
            userspace.connect("wg0")
