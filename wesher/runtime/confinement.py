"""The agent's own way into its sandbox (`privhelper/lockdown.py` has the order): what it keeps, and what it must have
done before.

    files      its state directory; its control socket, to take it away at the end; the resolver's files, to read
    TCP        to the cluster port, which all members have, to the ports of `--join`, and to 53: a long answer of the
               resolver's comes over TCP
    threads    the main one and one worker, for the resolver and the disk

All of /etc may be read as far as this uid may: the files of the resolver are replaced by rename when the network
changes, and landlock knows files, not names. The directory in which resolv.conf really lies, often under /run, may be
read as well.
"""

from __future__ import annotations

import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from privhelper.landlock import Grants
from privhelper.lockdown import Lockdown
from privhelper.profiles import AGENT
from wesher.config import AgentConfig
from wesher.wire.keyring import Keyring

DESCRIPTORS: Final = 1024
"""What the agent may have open: 128 accepted streams, as many dialled, and 32 requests are well below it."""

_RESOLVER: Final = "/etc/resolv.conf"
_DNS: Final = 53


def grants(config: AgentConfig) -> Grants:
    """What stays possible, for this configuration."""
    return Grants(
        read=(os.path.dirname(_RESOLVER), os.path.dirname(os.path.realpath(_RESOLVER))),
        replace=(os.path.dirname(config.state_file),),
        remove=(config.runtime_dir,),
        connect=sorted({config.cluster_port, _DNS, *(contact.port for contact in config.join if contact.port)}),
    )


def lock_down(lockdown: Lockdown, config: AgentConfig) -> None:
    """Keep nothing but that. The running loop's executor is the one worker from now on. Raises NoSandbox, OSError."""
    _warm_up()
    lockdown.privileges()
    lockdown.files(grants(config))
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="worker")
    worker.submit(int).result()  # starts it: after landlock, which it inherits, and before there can be no thread more
    asyncio.get_running_loop().set_default_executor(worker)
    lockdown.calls(AGENT, descriptors=DESCRIPTORS)


def _warm_up() -> None:
    """What loads code or files at its first use."""
    with suppress(OSError):  # a host without a hosts file need not know the name
        socket.getaddrinfo("localhost", None)  # NSS and Python's codec for names
    "é".encode("idna")
    Keyring([bytes(16)]).seal(b"", b"", bytes(12))  # OpenSSL
