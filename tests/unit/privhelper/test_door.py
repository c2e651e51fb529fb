"""What is told before anybody can connect holds for whoever connects."""

import os
import socket
from collections.abc import Iterator

import pytest

from privhelper.door import take_no_descriptors
from tests.lab.kernel import SO_PASSRIGHTS, can_refuse_descriptors

pytestmark = pytest.mark.needs(can_refuse_descriptors(), "socket that refuses descriptors (Linux 6.16)")


@pytest.fixture
def descriptor() -> Iterator[int]:
    """Something to send along."""
    fd = os.open(os.devnull, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_who_connects_before_he_is_accepted_gets_nothing_in(descriptor: int) -> None:
    """The time between listening and the first accept is as long as the helper's start."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        take_no_descriptors(listener)
        listener.bind("")
        listener.listen(4)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as early:
            early.connect(listener.getsockname())
            with pytest.raises(PermissionError):
                socket.send_fds(early, [b"x"], [descriptor])
            assert early.send(b"x") == 1


def test_one_end_of_a_pair_is_told_before_the_other_is_given_away(descriptor: int) -> None:
    """The launcher's."""
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, ours:
        take_no_descriptors(ours)
        with pytest.raises(PermissionError):
            socket.send_fds(theirs, [b"x"], [descriptor])


def test_a_helpers_own_listener_is_told_before_it_listens(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the helper makes of --listen."""
    from privhelper.__main__ import _listen

    path = str(tmp_path_factory.mktemp("door") / "socket")
    with _listen(path, os.getuid()) as listener:
        assert listener.getsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS) == 0
