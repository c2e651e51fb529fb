"""One machine of the lab with an operator's furniture and a live helper in it, for one attack after the other.

A helper that has undone everything and ended after a violation is followed by a new one; one that only refused goes on
serving. Whatever happens, the machine has to be, but for what is the mesh's, as it was before the first helper came.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from privhelper.protocol import Peer
from tests.e2e.mesh import AGENT_UID, USERS, peer_keys, public_key
from tests.e2e.split import PREPARE, as_user, helper_socket, is_listening, start_wireguard
from tests.e2e.test_processes import DESCRIPTORS, descriptors, proc_status
from tests.hostile.cast import NAME
from tests.hostile.furniture import HOSTS, OVERLAY, furnish
from tests.hostile.host import Host, Ours, look
from tests.hostile.liar import At, Liar
from tests.hostile.vocabulary import foreign_words
from tests.lab import Daemon, Lab, until
from tests.lab.lab import wesher_command
from tests.lab.namespaces import ENV

CALLER: Final = (Path(__file__).parent / "caller.py").read_text()
MAX_PEERS: Final = 8
OPTIONS: Final = ("--node-name", NAME, "--overlay-net", OVERLAY, "--max-peers", str(MAX_PEERS), "--log-level", "debug")
"""Of every helper, before what a table wants otherwise: the later one counts."""

MAX_GROWTH: Final = 8_000
"""kB by which a helper's memory may grow between its first rest and any later one: what a full set once needed stays
with the allocator, and no more ever comes to that."""


class Stage:
    """`with Stage() as stage:`. In the guest, `kernel`: the helper makes a link of the kernel's."""

    def __init__(self, *, kernel: bool = False) -> None:
        self._lab = Lab(1)
        self._kernel = kernel
        self._helper: Daemon | None = None
        self._options: tuple[str, ...] = ()
        self._heard = 0
        # Without an agent's; for the kernel's WireGuard pyroute2 once more in place of the UAPI's.
        self._resting = DESCRIPTORS["split"]["helper"] - Counter(("seqpacket",))
        if kernel:
            self._resting += Counter(("netlink", "epoll", "unix"))
        self._rss = 0
        self._is_ready = False
        self._liars: list[Liar] = []
        self._callers: dict[int, tuple[socket.socket, subprocess.Popen[bytes]]] = {}

    def __enter__(self) -> Self:
        self._lab.__enter__()
        try:
            self.node = self._lab.nodes[0]
            furnish(self.node)
            if self._kernel:  # which itself switches this off, for good, when a link of its WireGuard comes up
                self.node.run("sh", "-c", f"{PREPARE}\necho 0 >/proc/sys/net/ipv4/conf/all/send_redirects")
            else:
                start_wireguard(self.node)
            until(lambda: "tentative" not in self.node.run("ip", "address").stdout, 10, "addresses have settled")
            self._before = look(self.node)
            assert self._before.ours.is_nothing
        except BaseException:
            self._lab.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lab.close()
        for ours, process in self._callers.values():
            ours.close()
            process.wait(30)

    def _caller(self, uid: int) -> socket.socket:
        """The test's end of a socket to a process of that uid that connects when told to."""
        if uid not in self._callers:
            ours, theirs = socket.socketpair()
            ours.settimeout(30)
            command = self.node.inside.enter(*as_user(uid), "python3", "-I", "-c", CALLER, helper_socket())
            process = subprocess.Popen(command, stdin=theirs, env=ENV, cwd="/", start_new_session=True)
            theirs.close()
            self._callers[uid] = ours, process
        return self._callers[uid][0]

    # --- the helper

    @property
    def helper(self) -> Daemon:
        """The one that lives, or has just ended."""
        assert self._helper is not None
        return self._helper

    def serve(self, *options: str) -> Daemon:
        """A live helper with these options and nobody connected to it: the one that is there, if it will do."""
        if self._helper is not None and self._helper.alive() and self._options != options:
            self.stop()
        if self._helper is None or not self._helper.alive():
            self.begin(*options)
        if not self._is_ready:
            helper = self.helper
            until(lambda: not helper.alive() or is_listening(helper, helper_socket()), 20, "the helper listens")
            assert helper.alive(), helper.stderr_text()
            with closing(self.connect(At.GREETED)):  # it listens before its link is there
                self._is_ready = True
        return self.helper

    def begin(self, *options: str) -> None:
        """Start a helper, and do not wait until it serves: whoever asks for one does."""
        program = os.path.join(os.path.dirname(wesher_command()), "wesher-privhelper")
        command = (program, "--listen", helper_socket(), f"--user={USERS}", *OPTIONS, *options)
        self._helper, self._options = self.node.start_program(*command), options
        self._heard = self._rss = 0
        self._is_ready = False

    def stop(self) -> None:
        """End the helper as a service manager does, with nobody connected."""
        if self._helper is not None and self._helper.alive():
            self.serve(*self._options)
            self._await_rest()  # or who has just hung up counts as one who did so when told to leave
            self.said()
            self._helper.signal(15)
            assert self._helper.wait(15) == 0, self._helper.stderr_text()
            assert [] == self.errors()

    def connect(self, at: At = At.NEW, *, uid: int = AGENT_UID) -> Liar:
        """An agent that has been honest until `at`. OSError where the kernel lets nobody of that uid connect."""
        caller = self._caller(uid)
        caller.send(b"!")
        data, fds, _, _ = socket.recv_fds(caller, 32, 1)
        if data != b"+":
            code = getattr(errno, data.decode())
            raise OSError(code, os.strerror(code))
        liar = Liar(socket.socket(fileno=fds[0]))
        self._liars.append(liar)
        liar.go_to(at)
        return liar

    def hang_up(self) -> None:
        """Whoever is connected is so no longer."""
        while self._liars:
            self._liars.pop().close()

    def start_afresh(self) -> None:
        """After a failure nothing is expected of the helper, nor of what it left."""
        self.hang_up()
        if self._helper is not None and self._helper.alive():
            self._helper.kill()
        self.node.write_hosts(HOSTS)

    def report(self) -> str:
        """The last words of the helper."""
        return "" if self._helper is None else self._helper.last_words(10)

    def said(self) -> list[str]:
        """What the helper's log has since the last time, without times; every line one of its own few."""
        lines = self.helper.stderr_text().splitlines()[self._heard :]
        self._heard += len(lines)
        assert [] == foreign_words(lines)
        return [line.split(" ", 2)[2] for line in lines if "lie inside the overlay net" not in line]

    def errors(self) -> list[str]:
        """What of it is an error."""
        return [line for line in self.said() if line.startswith("ERROR")]

    # --- what must be true

    def ours(self) -> Ours:
        """What is in force now. Nothing of the operator's has changed since before the first helper."""
        found = look(self.node)
        assert_unharmed(self._before, found)
        assert_sound(found.ours)
        return found.ours

    def look(self) -> None:
        """Whatever the mesh's is like now, nothing of the operator's has changed."""
        assert_unharmed(self._before, look(self.node))

    def key(self) -> str:
        """The device's public key."""
        return public_key(self.node)

    def has_peer(self, peer: Peer) -> bool:
        """Whether WireGuard has it."""
        return b64encode(peer.public_key).decode() in peer_keys(self.node)

    def assert_at_rest(self) -> None:
        """The helper has no descriptor more than when it began, and hardly more memory."""
        self._await_rest()
        rss = int(proc_status(self.helper.pid)["VmRSS"].split()[0])
        self._rss = self._rss or rss
        assert rss <= self._rss + MAX_GROWTH, f"{rss} kB, {self._rss} kB at first"

    def _await_rest(self) -> None:
        pid = self.helper.pid
        resting = self._resting - Counter(("/etc/hosts",) if "--no-etc-hosts" in self._options else ())
        until(lambda: descriptors(pid) == resting, 10, "the helper's descriptors are those it began with")


def assert_unharmed(before: Host, after: Host) -> None:
    """Nothing of a host's has changed but what is the mesh's; says what."""
    for name, rows in before.foreign.items():
        found = after.foreign[name]
        gone, new = ([row for row in one if row not in other] for one, other in ((rows, found), (found, rows)))
        assert rows == found, f"{name}: gone {gone}, new {new}"


def assert_sound(ours: Ours) -> None:
    """What is in force hangs together: each peer has one address, which has a route, and every name means a peer."""
    allowed = [ips for _, ips in ours.peers.values()]
    assert all("," not in ips and ips.endswith(("/32", "/128")) for ips in allowed), ours
    addresses = {ips.partition("/")[0] for ips in allowed}
    assert len(addresses) == len(allowed), ours
    assert ours.routes == addresses, ours
    assert set(ours.lines.values()) <= addresses, ours
    assert len(ours.addresses) <= 1, ours


def peers_in_force(ours: Ours) -> Sequence[str]:
    """Their addresses."""
    return sorted(ips.partition("/")[0] for _, ips in ours.peers.values())
