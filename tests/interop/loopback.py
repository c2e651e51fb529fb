"""Addresses for programs on one machine: memberlist knows a node by its address, and wants the same port everywhere, so
each node gets a loopback address to itself. Linux takes all of 127.0.0.0/8 without anybody configuring it."""

from __future__ import annotations

import random
import socket
from types import TracebackType
from typing import Self

NETWORKS = range(2, 255)
PORTS = range(20000, 30000)  # below those that the system hands out by itself


class Loopback:
    """127.X.0.0/16 for this process alone, and a port that is free there. Runs beside it get another X."""

    def __enter__(self) -> Self:
        self._next = 0
        # an abstract socket is a lock that leaves nothing behind, however its owner ends
        self._claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        for network in random.sample(NETWORKS, len(NETWORKS)):
            try:
                self._claim.bind(f"\0wesher-interop-127.{network}")
            except OSError:
                continue
            self._network = network
            self.port = next(port for port in random.sample(PORTS, len(PORTS)) if self._is_free(port))
            return self
        self._claim.close()
        raise RuntimeError("every loopback network is taken by another run")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._claim.close()

    def address(self) -> str:
        """One that nobody was given before."""
        self._next += 1
        high, low = divmod(self._next, 254)
        return f"127.{self._network}.{high}.{low + 1}"

    def _is_free(self, port: int) -> bool:
        """Whether nobody listens on all addresses with it."""
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as tried:
                try:
                    tried.bind((f"127.{self._network}.255.1", port))
                except OSError:
                    return False
        return True
