"""What a service manager hears, over the sockets that service managers have."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from privhelper.notify import Notify


@pytest.fixture(params=["path", "abstract"])
def ear(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket, and what NOTIFY_SOCKET says of it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        if request.param == "path":
            opened.bind(str(tmp_path / "notify"))
            name = str(tmp_path / "notify")
        else:
            opened.bind("")
            name = "@" + opened.getsockname()[1:].decode()
        opened.setblocking(False)
        yield opened, name


@pytest.fixture
def notified(ear: tuple[socket.socket, str]) -> Iterator[tuple[Notify, socket.socket]]:
    """A Notify with a watchdog of 3 s, and who hears it."""
    notify = Notify({"NOTIFY_SOCKET": ear[1], "WATCHDOG_USEC": "3000000"})
    yield notify, ear[0]
    assert notify._socket is not None
    notify._socket.close()


def test_each_word_is_one_datagram(notified: tuple[Notify, socket.socket]) -> None:
    """As sd_notify(3) has them."""
    notify, ear = notified
    notify.ready("in the mesh")
    notify.status("3 members")
    notify.alive()
    notify.stopping()
    heard = [ear.recv(4096) for _ in range(4)]
    assert [b"READY=1\nSTATUS=in the mesh", b"STATUS=3 members", b"WATCHDOG=1", b"STOPPING=1"] == heard


def test_a_reload_is_two_words_and_only_of_who_was_ready(notified: tuple[Notify, socket.socket]) -> None:
    """The first with the time at which it began, which is later than the signal; the second as at the start."""
    notify, ear = notified
    notify.reloaded()
    notify.ready("in the mesh")
    began = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify.reloaded()
    ready, reloading, again = (ear.recv(4096) for _ in range(3))
    word, _, usec = reloading.partition(b"\nMONOTONIC_USEC=")
    assert (word, again) == (b"RELOADING=1", ready)
    assert began <= int(usec) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_a_manager_that_does_not_listen_is_never_waited_for(notified: tuple[Notify, socket.socket]) -> None:
    """Its queue is full, then it is gone."""
    notify, ear = notified
    for _ in range(2000):
        notify.status("x" * 1000)
    heard = 0
    while True:
        try:
            ear.recv(4096)
        except BlockingIOError:
            break
        heard += 1
    assert 0 < heard < 2000
    ear.close()
    notify.status("nobody hears it")


def test_the_socket_is_connected_from_the_start(tmp_path: Path) -> None:
    """After lockdown no path can be looked up: what has been moved by then hears all the same."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        (tmp_path / "notify").unlink()
        notify.stopping()
        assert b"STOPPING=1" == ear.recv(100)
        assert notify._socket is not None
        notify._socket.close()


def test_without_a_watchdog_none_is_fed(ear: tuple[socket.socket, str]) -> None:
    """Nothing is sent that nobody asked for."""
    notify = Notify({"NOTIFY_SOCKET": ear[1]})
    notify.alive()
    assert notify._socket is not None
    notify._socket.close()
    with pytest.raises(BlockingIOError):
        ear[0].recv(100)


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "run/notify"},
                                         {"NOTIFY_SOCKET": "/nowhere/notify"}, {"NOTIFY_SOCKET": "@nobody is there"},
                                         {"NOTIFY_SOCKET": "/" + "x" * 200}])  # fmt: skip
def test_without_a_manager_nothing_is_said(environment: dict[str, str]) -> None:
    """Neither is there a watchdog to feed."""
    notify = Notify(environment | {"WATCHDOG_USEC": "3000000"})
    notify.ready("x")
    notify.stopping()
    notify.alive()
    assert notify.interval is None


@pytest.mark.parametrize(
    ("usec", "pid", "interval"),
    [
        ("3000000", str(os.getpid()), 3.0),
        ("3000000", None, 3.0),
        ("3000000", "1", None),  # another process of the service is watched
        ("0", None, None),
        ("", None, None),
        ("-1", None, None),
        ("soon", None, None),
    ],
)
def test_how_often_the_watchdog_is_to_be_fed(
    ear: tuple[socket.socket, str], usec: str, pid: str | None, interval: float | None
) -> None:
    """In seconds; None where it is not this process that is watched."""
    environment = {"NOTIFY_SOCKET": ear[1], "WATCHDOG_USEC": usec} | ({} if pid is None else {"WATCHDOG_PID": pid})
    notify = Notify(environment)
    assert interval == notify.interval
    assert notify._socket is not None
    notify._socket.close()
